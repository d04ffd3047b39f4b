//! Whether one event satisfies one condition.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::apply::apply;
use crate::catalog::FieldSet;
use crate::civil::Civil;
use crate::ir::{Function, Predicate, Relation, Scalar};
use crate::text::{basename, contains, dirname, fold_text, lower, upper};
use crate::view::{Ancestors, Value, View};

/// Three-valued: `None` is unknown.
pub(crate) type Truth = Option<bool>;

/// Adds the columns that gave the predicate the truth that it has: of several parts, those of the
/// same truth.
pub(crate) fn deciding(predicate: &Predicate, view: &View<'_>, into: &mut FieldSet) {
    match predicate {
        Predicate::And(parts) | Predicate::Or(parts) => {
            let whole = self::predicate(predicate, view);
            let same = parts.iter().filter(|p| self::predicate(p, view) == whole);
            same.for_each(|part| deciding(part, view, into));
        }
        Predicate::Not(inner) | Predicate::Is(inner, _) => deciding(inner, view, into),
        leaf => leaf.collect_fields(into),
    }
}

pub(crate) fn predicate(predicate: &Predicate, view: &View<'_>) -> Truth {
    match predicate {
        Predicate::And(parts) => all(parts, view),
        Predicate::Or(parts) => any(parts, view),
        Predicate::Not(inner) => self::predicate(inner, view).map(|truth| !truth),
        Predicate::Truth(value) => match scalar(value, view)? {
            Value::Bool(truth) => Some(truth),
            _ => None,
        },
        Predicate::IsNull(value) => Some(scalar(value, view).is_none()),
        Predicate::Is(inner, truth) => Some(self::predicate(inner, view) == *truth),
        Predicate::Compare(left, comparison, right) => {
            let order = order(&scalar(left, view)?, &scalar(right, view)?)?;
            Some(comparison.holds(order))
        }
        Predicate::TextIn(value, set) => {
            let text = text(value, view)?;
            Some(
                set.binary_search_by(|member| (**member).cmp(&*text))
                    .is_ok(),
            )
        }
        Predicate::IntIn(value, set) => match scalar(value, view)? {
            Value::Int(number) => Some(set.binary_search(&number).is_ok()),
            _ => None,
        },
        Predicate::Matches(value, pattern) => Some(pattern.matches(&text(value, view)?)),
        Predicate::AnyMatches(array, pattern) => match scalar(array, view)? {
            Value::List(argv) => Some(argv.iter().any(|argument| pattern.matches(argument))),
            Value::Ancestors(ancestors) => any_element(ancestors, |element| match element {
                Value::Text(text) => pattern.matches(text),
                _ => false,
            }),
            _ => None,
        },
        Predicate::AnyEquals(array, value) => {
            let (array, wanted) = (scalar(array, view)?, scalar(value, view)?);
            match (array, wanted) {
                (Value::List(argv), Value::Text(wanted)) => {
                    Some(argv.iter().any(|argument| argument == &*wanted))
                }
                (Value::Ancestors(ancestors), wanted) => {
                    any_element(ancestors, |element| *element == wanted)
                }
                _ => None,
            }
        }
        Predicate::Relation(left, relation, right) => {
            let (whole, part) = (text(left, view)?, text(right, view)?);
            Some(match relation {
                Relation::Contains => contains(&whole, &part),
                Relation::StartsWith => whole.starts_with(&part),
                Relation::EndsWith => whole.ends_with(&part),
            })
        }
        Predicate::InNetwork(value, network) => {
            let text = text(value, view)?;
            let address = std::str::from_utf8(&text).ok()?.parse().ok()?;
            Some(network.contains(address))
        }
    }
}

/// Unknown where only an element that is `NULL` could be meant.
fn any_element(ancestors: Ancestors<'_>, is_meant: impl Fn(&Value<'_>) -> bool) -> Truth {
    let mut truth = Some(false);
    for element in ancestors.iter() {
        match element {
            Some(element) if is_meant(&element) => return Some(true),
            Some(_) => {}
            None => truth = None,
        }
    }
    truth
}

fn all(parts: &[Predicate], view: &View<'_>) -> Truth {
    let mut truth = Some(true);
    for part in parts {
        match predicate(part, view) {
            Some(false) => return Some(false),
            Some(true) => {}
            None => truth = None,
        }
    }
    truth
}

fn any(parts: &[Predicate], view: &View<'_>) -> Truth {
    let mut truth = Some(false);
    for part in parts {
        match predicate(part, view) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => truth = None,
        }
    }
    truth
}

fn order(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// The value of an expression; `None` is `NULL`.
pub(crate) fn scalar<'v>(scalar: &'v Scalar, view: &View<'v>) -> Option<Value<'v>> {
    match scalar {
        Scalar::Field(field) => view.get(*field),
        Scalar::Text(text) => Some(Value::Text(Cow::Borrowed(text))),
        Scalar::Int(number) => Some(Value::Int(*number)),
        Scalar::Bool(truth) => Some(Value::Bool(*truth)),
        Scalar::Element(array, position) => match self::scalar(array, view)? {
            Value::List(argv) => {
                let element = argv.iter().nth(position.checked_sub(1)?)?;
                Some(Value::Text(Cow::Borrowed(element)))
            }
            Value::Ancestors(ancestors) => ancestors.iter().nth(position.checked_sub(1)?)?,
            _ => None,
        },
        Scalar::Call(Function::Coalesce, arguments) => arguments
            .iter()
            .find_map(|argument| self::scalar(argument, view)),
        Scalar::Call(Function::Account, arguments) => {
            let [name, id] = arguments.as_slice() else {
                return None;
            };
            self::scalar(name, view).or_else(|| {
                let is_root = self::scalar(id, view)? == Value::Int(0);
                is_root.then_some(Value::Text(Cow::Borrowed(b"root")))
            })
        }
        Scalar::Case(arms, otherwise) => {
            let mut arms = arms.iter();
            let arm = arms.find(|(condition, _)| predicate(condition, view) == Some(true));
            let value = match arm {
                Some((_, value)) => value.as_ref(),
                None => otherwise.as_deref(),
            };
            self::scalar(value?, view)
        }
        Scalar::Condition(condition) => predicate(condition, view).map(Value::Bool),
        Scalar::Call(function, arguments) => match arguments.as_slice() {
            [argument] => call(*function, self::scalar(argument, view)?),
            arguments => {
                let values = arguments.iter().map(|value| self::scalar(value, view));
                apply(*function, values.collect::<Option<_>>()?)
            }
        },
    }
}

fn call(function: Function, value: Value<'_>) -> Option<Value<'_>> {
    let text = match value {
        Value::Text(text) => text,
        Value::Int(number) => return of_number(function, number),
        Value::List(argv) if function == Function::Cardinality => return count(argv.len()),
        Value::Ancestors(all) if function == Function::Cardinality => return count(all.len()),
        _ => return None,
    };
    match function {
        Function::Lower => Some(Value::Text(lower(text))),
        Function::Upper => Some(Value::Text(upper(text))),
        Function::Length => count(crate::like::length(&text)),
        Function::OctetLength => count(text.len()),
        Function::Basename => Some(Value::Text(part(text, basename))),
        Function::Dirname => Some(Value::Text(part(text, dirname))),
        Function::Fold => Some(Value::Text(fold(&text))),
        Function::Number => number(&text).map(Value::Int),
        // They take no text, or more than that.
        Function::Cardinality
        | Function::Coalesce
        | Function::Account
        | Function::Decimal
        | Function::Hexadecimal
        | Function::UtcTime
        | Function::Minute
        | Function::Hour
        | Function::Day
        | Function::Week
        | Function::Month
        | Function::Year
        | Function::Substring
        | Function::Position
        | Function::Replace
        | Function::Trim { .. }
        | Function::Concat
        | Function::SplitPart
        | Function::Add
        | Function::Subtract
        | Function::Multiply
        | Function::Divide
        | Function::Remainder
        | Function::BitAnd
        | Function::BitOr
        | Function::ShiftLeft
        | Function::ShiftRight => None,
    }
}

fn of_number(function: Function, number: i128) -> Option<Value<'static>> {
    let text = |text: String| Some(Value::Text(Cow::Owned(text.into_bytes())));
    let part = |of: fn(Civil) -> i64| Some(Value::Int(of(Civil::of(number)?).into()));
    match function {
        Function::Decimal => text(number.to_string()),
        Function::Hexadecimal => text(format!("{number:#x}")),
        Function::Number => Some(Value::Int(number)),
        Function::UtcTime => text(Civil::of(number)?.text()),
        Function::Minute => part(|moment| moment.minute),
        Function::Hour => part(|moment| moment.hour),
        Function::Day => part(|moment| moment.day),
        Function::Week => part(|moment| moment.week),
        Function::Month => part(|moment| moment.month),
        Function::Year => part(|moment| moment.year),
        _ => None,
    }
}

fn fold<'v>(text: &[u8]) -> Cow<'v, [u8]> {
    let mut folded = Vec::with_capacity(text.len());
    fold_text(text, &mut folded);
    Cow::Owned(folded)
}

/// A number in decimal digits or as `0x3e7`.
pub(crate) fn number(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(i128::from),
        None => text.parse().ok(),
    }
}

fn count(number: usize) -> Option<Value<'static>> {
    i128::try_from(number).ok().map(Value::Int)
}

fn part<'v>(text: Cow<'v, [u8]>, of: fn(&[u8]) -> &[u8]) -> Cow<'v, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(of(text)),
        Cow::Owned(text) => Cow::Owned(of(&text).to_vec()),
    }
}

fn text<'v>(value: &'v Scalar, view: &View<'v>) -> Option<Cow<'v, [u8]>> {
    match scalar(value, view)? {
        Value::Text(text) => Some(text),
        _ => None,
    }
}
