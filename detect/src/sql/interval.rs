//! Lengths of time.

use sqlparser::ast::{Expr, Interval, Value};
use sqlparser::tokenizer::Location;

use crate::sql::Fault;

const UNITS: &[(&str, u64)] = &[
    ("nanosecond", 1),
    ("microsecond", 1_000),
    ("millisecond", 1_000_000),
    ("second", 1_000_000_000),
    ("minute", 60_000_000_000),
    ("hour", 3_600_000_000_000),
    ("day", 86_400_000_000_000),
];

/// Nanoseconds of `INTERVAL '10' SECOND` or `INTERVAL '10 seconds'`.
pub(super) fn nanoseconds(interval: &Interval, at: Location) -> Result<u64, Fault> {
    let Interval {
        value,
        leading_field,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    } = interval
    else {
        return Err(misuse(at));
    };
    let text = match &**value {
        Expr::Value(value) => match &value.value {
            Value::Number(text, false)
            | Value::SingleQuotedString(text)
            | Value::EscapedStringLiteral(text) => text,
            _ => return Err(misuse(at)),
        },
        _ => return Err(misuse(at)),
    };
    let mut words = text.split_whitespace();
    let number: Option<u64> = words.next().and_then(|digits| digits.parse().ok());
    let unit = match leading_field {
        Some(field) => Some(field.to_string().to_lowercase()),
        None => words.next().map(str::to_lowercase),
    };
    match (number, unit, words.next()) {
        (Some(number), Some(unit), None) => scaled(number, &unit, at),
        _ => Err(misuse(at)),
    }
}

fn scaled(number: u64, unit: &str, at: Location) -> Result<u64, Fault> {
    let unit = unit.strip_suffix('s').unwrap_or(unit);
    let found = UNITS.iter().find(|(name, _)| *name == unit);
    let (_, length) = found.ok_or_else(|| misuse(at))?;
    number
        .checked_mul(*length)
        .filter(|total| i64::try_from(*total).is_ok())
        .ok_or_else(|| Fault::limit(at, "an interval", "292 years"))
}

fn misuse(at: Location) -> Fault {
    let units: Vec<_> = UNITS.iter().map(|(name, _)| name.to_uppercase()).collect();
    let units = units.join(", ");
    Fault::ty(
        at,
        format!("an interval is written INTERVAL '10' SECOND; units are {units}"),
    )
}
