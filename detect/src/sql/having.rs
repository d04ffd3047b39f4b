//! `HAVING`: conditions on aggregates.

use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value};
use sqlparser::tokenizer::Location;

use crate::correlate::{MAX_DISTINCT, MAX_SAMPLES};
use crate::ir::Comparison;
use crate::sql::Fault;
use crate::sql::aggregate::{Aggregates, is_aggregate};
use crate::sql::condition::operands;
use crate::sql::function::call_name;
use crate::sql::interval;
use crate::sql::place::{START, start};
use crate::sql::scalar::column_name;
use crate::trigger::{AggregateFunction, Arithmetic, Having, Number, Operand, Window};

/// Parentheses, NOT and operators in each other.
const MAX_DEPTH: usize = 32;
/// Digits of a number, with those after the point.
const MAX_DIGITS: usize = 18;

pub(super) fn compile(
    expr: &Expr,
    window: Window,
    aggregates: &mut Aggregates<'_>,
) -> Result<Having, Fault> {
    let mut compiler = Compiler { window, aggregates };
    compiler.condition(expr, START, 0)
}

struct Compiler<'c, 'q> {
    window: Window,
    aggregates: &'c mut Aggregates<'q>,
}

impl Compiler<'_, '_> {
    fn condition(&mut self, expr: &Expr, near: Location, depth: usize) -> Result<Having, Fault> {
        let at = start(expr, near);
        check_depth(depth, at)?;
        match expr {
            Expr::Nested(inner) => self.condition(inner, at, depth + 1),
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => Ok(Having::Not(Box::new(self.condition(
                expr,
                at,
                depth + 1,
            )?))),
            Expr::BinaryOp {
                op: op @ (BinaryOperator::And | BinaryOperator::Or),
                ..
            } => {
                let parts = operands(expr, op)
                    .into_iter()
                    .map(|part| self.condition(part, at, depth + 1))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(match op {
                    BinaryOperator::And => Having::And(parts),
                    _ => Having::Or(parts),
                })
            }
            Expr::BinaryOp { left, op, right } => {
                let comparison = comparison(op)
                    .ok_or_else(|| Fault::unsupported(at, format!("operator {op} here")))?;
                self.compare(left, comparison, right, at, depth)
            }
            Expr::Between {
                expr,
                negated,
                low,
                high,
            } => {
                let low = self.compare(expr, Comparison::GreaterOrEqual, low, at, depth)?;
                let high = self.compare(expr, Comparison::LessOrEqual, high, at, depth)?;
                let both = Having::And(vec![low, high]);
                Ok(if *negated {
                    Having::Not(Box::new(both))
                } else {
                    both
                })
            }
            _ => Err(Fault::ty(
                at,
                "HAVING compares aggregates, as in count(*) >= 20",
            )),
        }
    }

    fn compare(
        &mut self,
        left: &Expr,
        comparison: Comparison,
        right: &Expr,
        at: Location,
        depth: usize,
    ) -> Result<Having, Fault> {
        self.aggregates.scalars.scope.count_term(at)?;
        let left = self.operand(left, at, depth + 1)?;
        let right = self.operand(right, at, depth + 1)?;
        self.check_reach(&left, &right, at)?;
        self.check_reach(&right, &left, at)?;
        Ok(Having::Compare(left, comparison, right))
    }

    /// A count that is never reached would be a rule that never fires.
    fn check_reach(&self, left: &Operand, right: &Operand, at: Location) -> Result<(), Fault> {
        let (Operand::Aggregate(index), Operand::Number(number)) = (left, right) else {
            return Ok(());
        };
        let (what, bound) = match (self.aggregates.function(*index), self.window) {
            (AggregateFunction::Count, Window::Sliding { .. }) => {
                ("number of events in a SLIDING window", MAX_SAMPLES)
            }
            (AggregateFunction::CountDistinct, _) => ("number of different values", MAX_DISTINCT),
            _ => return Ok(()),
        };
        if number.exceeds(bound) {
            return Err(Fault::limit(at, what, bound));
        }
        Ok(())
    }

    fn operand(&mut self, expr: &Expr, near: Location, depth: usize) -> Result<Operand, Fault> {
        let at = start(expr, near);
        check_depth(depth, at)?;
        match expr {
            Expr::Nested(inner) => self.operand(inner, at, depth + 1),
            Expr::Function(call) if is_aggregate(&call_name(call)) => {
                self.aggregates.call(call, at).map(Operand::Aggregate)
            }
            Expr::Identifier(_) => {
                let name = column_name(expr).unwrap_or_default();
                let named = self.aggregates.named(&name).map(Operand::Aggregate);
                named.ok_or_else(|| not_an_aggregate(at))
            }
            Expr::Value(value) => match &value.value {
                Value::Number(digits, false) => number(digits, at).map(Operand::Number),
                _ => Err(not_an_aggregate(at)),
            },
            Expr::Interval(length) => {
                let length = interval::nanoseconds(length, at)?;
                Ok(Operand::Number(Number::from(i128::from(length))))
            }
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr,
            } => {
                let zero = Box::new(Operand::Number(Number::from(0)));
                let value = Box::new(self.operand(expr, at, depth + 1)?);
                Ok(Operand::Arithmetic(zero, Arithmetic::Subtract, value))
            }
            Expr::BinaryOp { left, op, right } => {
                let operator = arithmetic(op)
                    .ok_or_else(|| Fault::unsupported(at, format!("operator {op} here")))?;
                let left = Box::new(self.operand(left, at, depth + 1)?);
                let right = Box::new(self.operand(right, at, depth + 1)?);
                Ok(Operand::Arithmetic(left, operator, right))
            }
            _ => Err(not_an_aggregate(at)),
        }
    }
}

fn check_depth(depth: usize, at: Location) -> Result<(), Fault> {
    if depth > MAX_DEPTH {
        let limit = format_args!("{MAX_DEPTH} levels");
        return Err(Fault::limit(at, "nesting in HAVING", limit));
    }
    Ok(())
}

fn not_an_aggregate(at: Location) -> Fault {
    Fault::ty(
        at,
        "HAVING is about aggregates and numbers; a condition on events belongs in WHERE",
    )
}

fn comparison(op: &BinaryOperator) -> Option<Comparison> {
    Some(match op {
        BinaryOperator::Eq => Comparison::Equal,
        BinaryOperator::NotEq => Comparison::NotEqual,
        BinaryOperator::Lt => Comparison::Less,
        BinaryOperator::LtEq => Comparison::LessOrEqual,
        BinaryOperator::Gt => Comparison::Greater,
        BinaryOperator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn arithmetic(op: &BinaryOperator) -> Option<Arithmetic> {
    Some(match op {
        BinaryOperator::Plus => Arithmetic::Add,
        BinaryOperator::Minus => Arithmetic::Subtract,
        BinaryOperator::Multiply => Arithmetic::Multiply,
        BinaryOperator::Divide => Arithmetic::Divide,
        _ => return None,
    })
}

/// `20` or `2.5`.
fn number(text: &str, at: Location) -> Result<Number, Fault> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{part}");
    let scale = u32::try_from(part.len())
        .ok()
        .and_then(|p| 10i128.checked_pow(p));
    let number = match (digits.parse(), scale) {
        (Ok(digits), Some(scale)) if text.len() <= MAX_DIGITS => Number::ratio(digits, scale),
        _ => None,
    };
    number.ok_or_else(|| {
        let message = format!("`{text}` is no number of at most {MAX_DIGITS} digits");
        Fault::ty(at, message)
    })
}
