//! `GROUP BY`: what events are counted together, and within which windows.

use sqlparser::ast::Expr;
use sqlparser::tokenizer::Location;

use crate::catalog::Field;
use crate::ir::Scalar;
use crate::sql::Fault;
use crate::sql::function::{call_name, plain_arguments};
use crate::sql::interval;
use crate::sql::place::start;
use crate::sql::scalar::{Scalars, column_name};
use crate::trigger::Window;

/// Longest window.
pub(super) const MAX_WINDOW_NS: u64 = 24 * 3_600_000_000_000;
/// Windows that one event may be in.
const MAX_OVERLAP: u64 = 60;
/// Expressions in `GROUP BY`.
const MAX_GROUPS: usize = 8;

/// An expression that events are grouped by.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) value: Scalar,
}

/// A window and what else is in `GROUP BY`.
pub(super) fn group_by(
    exprs: &[Expr],
    scalars: Scalars<'_>,
    at: Location,
) -> Result<(Window, Vec<Group>), Fault> {
    let (mut window, mut groups) = (None, Vec::new());
    for expr in exprs {
        let at = start(expr, at);
        match self::window(expr, scalars, at)? {
            Some(_) if window.is_some() => {
                return Err(Fault::ty(at, "a rule has one window only"));
            }
            Some(found) => window = Some(found),
            None => groups.push(group(expr, scalars, at)?),
        }
    }
    if groups.len() > MAX_GROUPS {
        return Err(Fault::limit(
            at,
            "number of expressions in GROUP BY",
            MAX_GROUPS,
        ));
    }
    let needed = "GROUP BY needs a window, such as TUMBLE(event.time, INTERVAL '1' MINUTE)";
    Ok((window.ok_or_else(|| Fault::ty(at, needed))?, groups))
}

fn group(expr: &Expr, scalars: Scalars<'_>, at: Location) -> Result<Group, Fault> {
    let value = scalars.compile(expr, at)?;
    if value.ty().element().is_some() {
        return Err(Fault::ty(at, "events cannot be grouped by an array"));
    }
    if matches!(value, Scalar::Text(_) | Scalar::Int(_) | Scalar::Bool(_)) {
        let message = "GROUP BY names a column or an expression, not a number or text";
        return Err(Fault::ty(at, message));
    }
    let name = column_name(expr).unwrap_or_else(|| expr.to_string());
    Ok(Group { name, value })
}

/// The window that a call names, if it is one.
fn window(expr: &Expr, scalars: Scalars<'_>, at: Location) -> Result<Option<Window>, Fault> {
    let Expr::Function(call) = expr else {
        return Ok(None);
    };
    let name = call_name(call);
    let usage = match name.as_str() {
        "tumble" => "TUMBLE(event.time, size)",
        "hop" => "HOP(event.time, slide, size)",
        "sliding" => "SLIDING(event.time, size)",
        _ => return Ok(None),
    };
    let misuse = || Fault::ty(at, format!("wrong arguments; usage: {usage}"));
    let arguments = plain_arguments(call).ok_or_else(misuse)?;
    let (time, lengths) = arguments.split_first().ok_or_else(misuse)?;
    if !matches!(scalars.compile(time, at)?, Scalar::Field(Field::EventTime)) {
        return Err(misuse());
    }
    let lengths = lengths
        .iter()
        .map(|length| self::length(length, start(length, at)))
        .collect::<Result<Vec<_>, _>>()?;
    match (name.as_str(), lengths.as_slice()) {
        ("tumble", [size]) => hop(*size, *size, at).map(Some),
        ("hop", [slide, size]) => hop(*slide, *size, at).map(Some),
        ("sliding", [size]) => Ok(Some(Window::Sliding { size: *size })),
        _ => Err(misuse()),
    }
}

fn hop(slide: u64, size: u64, at: Location) -> Result<Window, Fault> {
    if !size.is_multiple_of(slide) {
        let message = "the size of HOP(event.time, slide, size) is a multiple of its slide";
        return Err(Fault::ty(at, message));
    }
    if size / slide > MAX_OVERLAP {
        return Err(Fault::limit(
            at,
            "size of HOP",
            format_args!("{MAX_OVERLAP} slides"),
        ));
    }
    Ok(Window::Fixed { slide, size })
}

fn length(expr: &Expr, at: Location) -> Result<u64, Fault> {
    let Expr::Interval(interval) = expr else {
        return Err(Fault::ty(
            at,
            "a length of time is written INTERVAL '1' MINUTE",
        ));
    };
    match interval::nanoseconds(interval, at)? {
        0 => Err(Fault::ty(at, "a window cannot be empty")),
        size if size > MAX_WINDOW_NS => Err(Fault::limit(at, "window", "24 hours")),
        size => Ok(size),
    }
}
