//! Values made of values by operators and forms of their own.

use sqlparser::ast::{BinaryOperator, CaseWhen, Expr, TrimWhereField, Value};
use sqlparser::tokenizer::Location;

use crate::catalog::Type;
use crate::ir::{Comparison, Function, Predicate, Scalar};
use crate::sql::Fault;
use crate::sql::condition::{Conditions, operands};
use crate::sql::function;
use crate::sql::place::start;
use crate::sql::scalar::Scalars;

/// Parts of one `||`.
const MAX_PARTS: usize = 64;

/// The function that an operator is, if it gives a value.
pub(super) fn function(op: &BinaryOperator) -> Option<Function> {
    Some(match op {
        BinaryOperator::Plus => Function::Add,
        BinaryOperator::Minus => Function::Subtract,
        BinaryOperator::Multiply => Function::Multiply,
        BinaryOperator::Divide => Function::Divide,
        BinaryOperator::Modulo => Function::Remainder,
        BinaryOperator::BitwiseAnd => Function::BitAnd,
        BinaryOperator::BitwiseOr => Function::BitOr,
        BinaryOperator::PGBitwiseShiftLeft => Function::ShiftLeft,
        BinaryOperator::PGBitwiseShiftRight => Function::ShiftRight,
        BinaryOperator::StringConcat => Function::Concat,
        _ => return None,
    })
}

pub(super) fn binary(
    scalars: Scalars<'_>,
    function: Function,
    sides: [&Expr; 2],
    at: Location,
    depth: usize,
) -> Result<Scalar, Fault> {
    let values = sides
        .into_iter()
        .map(|side| integer(scalars, side, at, depth + 1))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Scalar::Call(function, values))
}

/// `-value`.
pub(super) fn minus(
    scalars: Scalars<'_>,
    expr: &Expr,
    at: Location,
    depth: usize,
) -> Result<Scalar, Fault> {
    let value = integer(scalars, expr, at, depth + 1)?;
    Ok(Scalar::Call(
        Function::Subtract,
        vec![Scalar::Int(0), value],
    ))
}

fn integer(
    scalars: Scalars<'_>,
    expr: &Expr,
    near: Location,
    depth: usize,
) -> Result<Scalar, Fault> {
    let at = start(expr, near);
    let value = scalars.at_depth(expr, at, depth)?;
    if value.ty() != Type::Int {
        let message = format!(
            "arithmetic needs integers and this is {}",
            value.ty().name()
        );
        return Err(Fault::ty(at, message));
    }
    Ok(value)
}

/// `a || b || c`.
pub(super) fn concat(
    scalars: Scalars<'_>,
    expr: &Expr,
    near: Location,
    depth: usize,
) -> Result<Scalar, Fault> {
    let parts = operands(expr, &BinaryOperator::StringConcat);
    if parts.len() > MAX_PARTS {
        return Err(Fault::limit(near, "number of texts joined", MAX_PARTS));
    }
    let part = |part| {
        let at = start(part, near);
        let value = scalars.at_depth(part, at, depth + 1)?;
        if value.ty() != Type::Text {
            let message = format!("|| joins texts and this is {}", value.ty().name());
            return Err(Fault::ty(at, message));
        }
        Ok(value)
    };
    let parts = parts.into_iter().map(part).collect::<Result<_, _>>()?;
    Ok(Scalar::Call(Function::Concat, parts))
}

pub(super) fn case(
    scalars: Scalars<'_>,
    operand: Option<&Expr>,
    arms: &[CaseWhen],
    otherwise: Option<&Expr>,
    at: Location,
    depth: usize,
) -> Result<Scalar, Fault> {
    let operand = operand
        .map(|operand| scalars.at_depth(operand, at, depth + 1))
        .transpose()?;
    let mut compiled = Vec::new();
    for CaseWhen { condition, result } in arms {
        let condition = when(scalars, operand.as_ref(), condition, at)?;
        compiled.push((condition, then(scalars, result, at, depth)?));
    }
    let otherwise = match otherwise {
        Some(otherwise) => then(scalars, otherwise, at, depth)?,
        None => None,
    };
    check_types(
        compiled.iter().map(|(_, value)| value).chain([&otherwise]),
        at,
    )?;
    Ok(Scalar::Case(compiled, otherwise.map(Box::new)))
}

fn when(
    scalars: Scalars<'_>,
    operand: Option<&Scalar>,
    condition: &Expr,
    at: Location,
) -> Result<Predicate, Fault> {
    let Some(operand) = operand else {
        return scalars.predicate(condition, at);
    };
    scalars.scope.count_term(at)?;
    let conditions = Conditions { scalars };
    scalars.scope.inner(at, || {
        conditions.compare(operand.clone(), Comparison::Equal, condition, at)
    })
}

/// `None` is `NULL`.
fn then(
    scalars: Scalars<'_>,
    result: &Expr,
    at: Location,
    depth: usize,
) -> Result<Option<Scalar>, Fault> {
    match result {
        Expr::Value(value) if value.value == Value::Null => Ok(None),
        _ => scalars.at_depth(result, at, depth + 1).map(Some),
    }
}

fn check_types<'s>(
    results: impl Iterator<Item = &'s Option<Scalar>>,
    at: Location,
) -> Result<(), Fault> {
    let mut types = results.flatten().map(Scalar::ty);
    let Some(first) = types.next() else {
        return Err(Fault::ty(at, "every result of this CASE is NULL"));
    };
    match types.find(|ty| *ty != first) {
        Some(other) => {
            let message = format!(
                "the results of a CASE are of one type and these are {} and {}",
                first.name(),
                other.name()
            );
            Err(Fault::ty(at, message))
        }
        None => Ok(()),
    }
}

/// `substring(… FROM … FOR …)`, `position(… IN …)`, `trim(… FROM …)`.
pub(super) fn spelled_out(
    scalars: Scalars<'_>,
    expr: &Expr,
    at: Location,
    depth: usize,
) -> Result<Scalar, Fault> {
    let (function, arguments): (_, Vec<&Expr>) = match expr {
        Expr::Substring {
            expr,
            substring_from,
            substring_for,
            special: _,
            shorthand: _,
        } => {
            let rest = substring_from.iter().chain(substring_for).map(|e| &**e);
            (
                Function::Substring,
                [&**expr].into_iter().chain(rest).collect(),
            )
        }
        Expr::Position { expr, r#in } => (Function::Position, vec![expr, r#in]),
        Expr::Trim {
            trim_where,
            trim_what,
            expr,
            trim_characters,
        } => {
            let listed = trim_characters.iter().flatten();
            let what = trim_what.iter().map(|what| &**what).chain(listed);
            (
                ends(trim_where.as_ref()),
                [&**expr].into_iter().chain(what).collect(),
            )
        }
        _ => return Err(Fault::unsupported(at, "this kind of expression")),
    };
    let starts_late = matches!(
        expr,
        Expr::Substring {
            substring_from: None,
            ..
        }
    );
    let arguments = arguments
        .into_iter()
        .map(|argument| scalars.at_depth(argument, at, depth + 1))
        .collect::<Result<Vec<_>, _>>()?;
    function::value(function, arguments)
        .filter(|_| !starts_late)
        .ok_or_else(|| function::wrong_arguments(function, at))
}

fn ends(of: Option<&TrimWhereField>) -> Function {
    let (start, end) = match of {
        None | Some(TrimWhereField::Both) => (true, true),
        Some(TrimWhereField::Leading) => (true, false),
        Some(TrimWhereField::Trailing) => (false, true),
    };
    Function::Trim { start, end }
}
