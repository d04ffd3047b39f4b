//! Expressions with a value: columns, literals, functions of them.

use sqlparser::ast::{AccessExpr, Expr, Ident, Subscript, UnaryOperator, Value, ValueWithSpan};
use sqlparser::tokenizer::Location;

use crate::ir::{Function, Predicate, Scalar};
use crate::sql::Fault;
use crate::sql::condition::Conditions;
use crate::sql::function;
use crate::sql::interval;
use crate::sql::operator;
use crate::sql::place::start;
use crate::sql::scope::Scope;

/// Functions inside functions.
const MAX_DEPTH: usize = 16;

/// Compiles values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scalars<'q> {
    pub(super) scope: &'q Scope<'q>,
}

impl Scalars<'_> {
    pub(super) fn compile(self, expr: &Expr, near: Location) -> Result<Scalar, Fault> {
        self.at_depth(expr, near, 0)
    }

    pub(super) fn at_depth(
        self,
        expr: &Expr,
        near: Location,
        depth: usize,
    ) -> Result<Scalar, Fault> {
        let at = start(expr, near);
        if depth > MAX_DEPTH {
            return Err(Fault::limit(
                at,
                "nesting of values",
                format_args!("{MAX_DEPTH} levels"),
            ));
        }
        match expr {
            Expr::Nested(inner) => self.at_depth(inner, at, depth + 1),
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                let name = column_name(expr).unwrap_or_default();
                self.scope
                    .column(&name, is_quoted(expr), at)
                    .map(|column| Scalar::Field(column.field))
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.element(root, access_chain, at)
            }
            Expr::Value(value) => literal(value, at),
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr,
            } => match literal_of(expr, at)? {
                Some(Scalar::Int(number)) => Ok(Scalar::Int(-number)),
                _ => operator::minus(self, expr, at, depth),
            },
            Expr::Interval(length) => {
                interval::nanoseconds(length, at).map(|ns| Scalar::Int(ns.into()))
            }
            Expr::Case {
                case_token: _,
                end_token: _,
                operand,
                conditions,
                else_result,
            } => operator::case(
                self,
                operand.as_deref(),
                conditions,
                else_result.as_deref(),
                at,
                depth,
            ),
            Expr::Substring { .. } | Expr::Position { .. } | Expr::Trim { .. } => {
                operator::spelled_out(self, expr, at, depth)
            }
            Expr::BinaryOp { left, op, right } => match operator::function(op) {
                Some(Function::Concat) => operator::concat(self, expr, at, depth),
                Some(function) => operator::binary(self, function, [left, right], at, depth),
                None => self.condition(expr, at),
            },
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                ..
            }
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::InList { .. }
            | Expr::Between { .. }
            | Expr::Like { any: false, .. }
            | Expr::ILike { any: false, .. }
            | Expr::AnyOp { .. }
            | Expr::AllOp { .. } => self.condition(expr, at),
            Expr::Function(call) => function::scalar(self, call, expr, at, depth),
            other => Err(Fault::unsupported(at, describe(other))),
        }
    }

    /// A condition as a value.
    pub(super) fn condition(self, expr: &Expr, at: Location) -> Result<Scalar, Fault> {
        let condition = self.predicate(expr, at)?;
        Ok(Scalar::Condition(Box::new(condition)))
    }

    /// A condition within a value.
    pub(super) fn predicate(self, expr: &Expr, at: Location) -> Result<Predicate, Fault> {
        let conditions = Conditions { scalars: self };
        self.scope.inner(at, || conditions.compile(expr))
    }

    /// `process.args[1]`, which the parser gives as `process` with the accesses `.args` and `[1]`.
    fn element(self, root: &Expr, chain: &[AccessExpr], at: Location) -> Result<Scalar, Fault> {
        let refuse = || Fault::ty(at, "an element of an array is read as column[1]");
        let [
            names @ ..,
            AccessExpr::Subscript(Subscript::Index { index }),
        ] = chain
        else {
            return Err(refuse());
        };
        let mut name = column_name(root).ok_or_else(refuse)?;
        for access in names {
            let AccessExpr::Dot(Expr::Identifier(ident)) = access else {
                return Err(refuse());
            };
            name = format!("{name}.{}", ident_name(ident));
        }
        let column = self.scope.column(&name, false, at)?;
        if column.ty.element().is_none() {
            let message = format!("`{name}` is {} and no array", column.ty.name());
            return Err(Fault::ty(at, message));
        }
        let position = match literal_of(index, at)? {
            Some(Scalar::Int(number)) => usize::try_from(number).ok().filter(|n| *n > 0),
            _ => None,
        };
        let position =
            position.ok_or_else(|| Fault::ty(at, "the position in an array is a number from 1"))?;
        Ok(Scalar::Element(
            Box::new(Scalar::Field(column.field)),
            position,
        ))
    }
}

/// A literal, if the expression is one.
fn literal_of(expr: &Expr, at: Location) -> Result<Option<Scalar>, Fault> {
    match expr {
        Expr::Value(value) => literal(value, at).map(Some),
        _ => Ok(None),
    }
}

fn literal(value: &ValueWithSpan, at: Location) -> Result<Scalar, Fault> {
    match &value.value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
            Ok(Scalar::Text(text.as_bytes().into()))
        }
        // No column holds more than 64 bits, so nothing is lost.
        Value::Number(digits, false) => match digits.parse::<i64>() {
            Ok(number) => Ok(Scalar::Int(number.into())),
            Err(_) => digits
                .parse::<u64>()
                .map(|number| Scalar::Int(number.into()))
                .map_err(|_| Fault::ty(at, format!("`{digits}` is no 64-bit integer"))),
        },
        Value::Boolean(truth) => Ok(Scalar::Bool(*truth)),
        Value::Null => Err(Fault::ty(
            at,
            "nothing equals NULL; use IS NULL or IS NOT NULL",
        )),
        _ => Err(Fault::unsupported(
            at,
            "this form of a literal; write 'text'",
        )),
    }
}

/// The name of a column as the catalog writes it, if the expression is one.
pub(super) fn column_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(ident_name(ident)),
        Expr::CompoundIdentifier(parts) => {
            Some(parts.iter().map(ident_name).collect::<Vec<_>>().join("."))
        }
        Expr::CompoundFieldAccess { root, access_chain } => {
            let accesses: String = access_chain.iter().map(ToString::to_string).collect();
            Some(format!("{}{}", column_name(root)?, accesses.to_lowercase()))
        }
        _ => None,
    }
}

/// SQL names are case-insensitive unless quoted.
fn ident_name(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

fn is_quoted(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.quote_style.is_some())
}

/// What an expression that rules do not have is called.
pub(super) fn describe(expr: &Expr) -> String {
    match expr {
        Expr::BinaryOp { op, .. } => return format!("operator {op} here"),
        Expr::UnaryOp { op, .. } => return format!("operator {op} here"),
        Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => "a subquery",
        Expr::Cast { .. } | Expr::Convert { .. } => "a cast",
        Expr::Extract { .. } => "EXTRACT",
        Expr::SimilarTo { .. } => "SIMILAR TO (use regexp_like)",
        Expr::RLike { .. } => "RLIKE (use regexp_like)",
        Expr::Tuple(_) => "a tuple",
        Expr::Array(_) => "an array literal",
        Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => "IS DISTINCT FROM",
        Expr::AnyOp { .. } => "ANY other than `value = ANY(array)`",
        Expr::AllOp { .. } => "ALL other than `value <> ALL(array)`",
        Expr::Like { any: true, .. } | Expr::ILike { any: true, .. } => "LIKE ANY (use OR)",
        _ => "this kind of expression",
    }
    .to_owned()
}
