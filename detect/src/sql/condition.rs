//! Conditions of `WHERE`.

use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value};
use sqlparser::tokenizer::Location;

use crate::catalog::Type;
use crate::error::ErrorKind;
use crate::expression::{Reading, Refusal, Regex};
use crate::ir::{Comparison, Pattern, Predicate, Scalar};
use crate::like::Like;
use crate::regex_literals::IGNORE_CASE;
use crate::sql::Fault;
use crate::sql::function::{self, call_name, plain_arguments, text_literal};
use crate::sql::glob::{GLOB, NOT_GLOB, glob_pattern};
use crate::sql::operator;
use crate::sql::place::{START, start};
use crate::sql::scalar::{Scalars, describe};

/// Parentheses, NOT and the like.
const MAX_DEPTH: usize = 64;
const MAX_LIKE_BYTES: usize = 1024;
const MAX_REGEX_BYTES: usize = 4096;
/// Memory of one compiled regular expression.
const MAX_REGEX_SIZE: usize = 1 << 20;

/// Compiles conditions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions<'q> {
    pub(super) scalars: Scalars<'q>,
}

/// The operands of the outermost `AND`s: each must hold.
pub(super) fn conjuncts(expr: &Expr) -> Vec<&Expr> {
    operands(expr, &BinaryOperator::And)
}

/// Operands of a chain of one operator, in order. The parser leans chains to the left, as deep as
/// they are long, so this walks down instead of recursing.
pub(super) fn operands<'q>(expr: &'q Expr, of: &BinaryOperator) -> Vec<&'q Expr> {
    let (mut operands, mut expr) = (Vec::new(), expr);
    loop {
        match expr {
            Expr::BinaryOp { left, op, right } if op == of => {
                operands.push(&**right);
                expr = left;
            }
            _ => break operands.push(expr),
        }
    }
    operands.reverse();
    operands
}

impl<'q> Conditions<'q> {
    pub(super) fn compile(self, expr: &Expr) -> Result<Predicate, Fault> {
        let at = start(expr, START);
        self.at_depth(expr, at, 0)
    }

    fn at_depth(self, expr: &Expr, near: Location, depth: usize) -> Result<Predicate, Fault> {
        let at = start(expr, near);
        if depth > MAX_DEPTH {
            return Err(Fault::limit(
                at,
                "nesting",
                format_args!("{MAX_DEPTH} levels"),
            ));
        }
        match expr {
            Expr::Nested(inner) => self.at_depth(inner, at, depth + 1),
            Expr::BinaryOp {
                op: op @ (BinaryOperator::And | BinaryOperator::Or),
                ..
            } => {
                let parts = operands(expr, op)
                    .into_iter()
                    .map(|part| self.at_depth(part, at, depth + 1))
                    .collect::<Result<Vec<_>, _>>()?;
                Ok(if *op == BinaryOperator::And {
                    Predicate::And(parts)
                } else {
                    Predicate::Or(parts)
                })
            }
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => Ok(not(self.at_depth(expr, at, depth + 1)?)),
            Expr::IsTrue(inner) => self.is(inner, Some(true), at, depth),
            Expr::IsNotTrue(inner) => self.is(inner, Some(true), at, depth).map(not),
            Expr::IsFalse(inner) => self.is(inner, Some(false), at, depth),
            Expr::IsNotFalse(inner) => self.is(inner, Some(false), at, depth).map(not),
            Expr::IsUnknown(inner) => self.is(inner, None, at, depth),
            Expr::IsNotUnknown(inner) => self.is(inner, None, at, depth).map(not),
            _ => {
                self.scalars.scope.count_term(at)?;
                self.term(expr, at)
            }
        }
    }

    fn is(
        self,
        inner: &Expr,
        truth: Option<bool>,
        at: Location,
        depth: usize,
    ) -> Result<Predicate, Fault> {
        Ok(Predicate::Is(
            Box::new(self.at_depth(inner, at, depth + 1)?),
            truth,
        ))
    }

    /// A condition without conditions in it.
    fn term(self, expr: &Expr, at: Location) -> Result<Predicate, Fault> {
        match expr {
            Expr::BinaryOp { op, .. } if operator::function(op).is_some() => self.truth(expr, at),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, at),
            Expr::IsNull(inner) => Ok(Predicate::IsNull(self.scalars.compile(inner, at)?)),
            Expr::IsNotNull(inner) => Ok(not(Predicate::IsNull(self.scalars.compile(inner, at)?))),
            Expr::InList {
                expr,
                list,
                negated,
            } => {
                let subject = self.scalars.compile(expr, at)?;
                self.in_list(subject, list, at)
                    .map(|predicate| negate(predicate, *negated))
            }
            Expr::Between {
                expr,
                negated,
                low,
                high,
            } => {
                let value = self.scalars.compile(expr, at)?;
                let low = self.compare(value.clone(), Comparison::GreaterOrEqual, low, at)?;
                let high = self.compare(value, Comparison::LessOrEqual, high, at)?;
                Ok(negate(Predicate::And(vec![low, high]), *negated))
            }
            Expr::Like {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self
                .like(expr, pattern, escape_char.as_deref(), false, at)
                .map(|predicate| negate(predicate, *negated)),
            Expr::ILike {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => self
                .like(expr, pattern, escape_char.as_deref(), true, at)
                .map(|predicate| negate(predicate, *negated)),
            Expr::AnyOp {
                left,
                compare_op: BinaryOperator::Eq,
                right,
                is_some: _,
            } => self.any_equals(left, right, at),
            Expr::AllOp {
                left,
                compare_op: BinaryOperator::NotEq,
                right,
            } => self.any_equals(left, right, at).map(not),
            Expr::Function(call) => match function::condition(self.scalars, call, at)? {
                Some(predicate) => Ok(predicate),
                None => self.truth(expr, at),
            },
            Expr::Case { .. }
            | Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::CompoundFieldAccess { .. }
            | Expr::Value(_) => self.truth(expr, at),
            other => Err(Fault::unsupported(at, describe(other))),
        }
    }

    fn truth(self, expr: &Expr, at: Location) -> Result<Predicate, Fault> {
        if matches!(expr, Expr::Value(value) if value.value == Value::Null) {
            return Err(Fault::ty(at, "NULL is no condition"));
        }
        let value = self.scalars.compile(expr, at)?;
        if value.ty() != Type::Bool {
            let message = format!("a condition is expected, but this is {}", value.ty().name());
            return Err(Fault::ty(at, message));
        }
        Ok(Predicate::Truth(value))
    }

    fn binary(
        self,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
        at: Location,
    ) -> Result<Predicate, Fault> {
        let comparison = match op {
            BinaryOperator::Eq => Comparison::Equal,
            BinaryOperator::NotEq => Comparison::NotEqual,
            BinaryOperator::Lt => Comparison::Less,
            BinaryOperator::LtEq => Comparison::LessOrEqual,
            BinaryOperator::Gt => Comparison::Greater,
            BinaryOperator::GtEq => Comparison::GreaterOrEqual,
            BinaryOperator::Custom(name) if name == GLOB => {
                return self.glob(left, right, at);
            }
            BinaryOperator::Custom(name) if name == NOT_GLOB => {
                return self.glob(left, right, at).map(not);
            }
            BinaryOperator::PGRegexMatch => return self.regex(left, right, false, at),
            BinaryOperator::PGRegexIMatch => return self.regex(left, right, true, at),
            BinaryOperator::PGRegexNotMatch => return self.regex(left, right, false, at).map(not),
            BinaryOperator::PGRegexNotIMatch => return self.regex(left, right, true, at).map(not),
            other => return Err(Fault::unsupported(at, format!("operator {other}"))),
        };
        let left = self.scalars.compile(left, at)?;
        self.compare(left, comparison, right, at)
    }

    /// A comparison of a value that is compiled with one that is not.
    pub(super) fn compare(
        self,
        left: Scalar,
        comparison: Comparison,
        right: &Expr,
        at: Location,
    ) -> Result<Predicate, Fault> {
        let right_at = start(right, at);
        let right = self.scalars.compile(right, right_at)?;
        same_type(&left, &right, right_at)?;
        let equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        if left.ty() == Type::Bool && !equality {
            return Err(Fault::ty(at, "booleans have no order; use = or <>"));
        }
        let (left, right) = match (left, right) {
            (text @ Scalar::Text(_), other) if equality => (other, text),
            sides => sides,
        };
        Ok(match right {
            Scalar::Text(text) if equality => {
                let predicate = Predicate::TextIn(left, Box::new([text]));
                negate(predicate, comparison == Comparison::NotEqual)
            }
            right => Predicate::Compare(left, comparison, right),
        })
    }

    fn in_list(self, subject: Scalar, list: &[Expr], at: Location) -> Result<Predicate, Fault> {
        let (mut texts, mut numbers, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for member in list {
            let member_at = start(member, at);
            if let Some(list) = self.list(member, member_at)? {
                match subject.ty() {
                    Type::Int => numbers.extend(integers(list, member_at)?),
                    Type::Text => texts.extend(list.iter().map(|v| v.as_bytes().into())),
                    other => {
                        let message =
                            format!("a list holds text or integers, not {}", other.name());
                        return Err(Fault::ty(member_at, message));
                    }
                }
                continue;
            }
            let member = self.scalars.compile(member, member_at)?;
            same_type(&subject, &member, member_at)?;
            match member {
                Scalar::Text(text) => texts.push(text),
                Scalar::Int(number) => numbers.push(number),
                other => {
                    others.push(Predicate::Compare(
                        subject.clone(),
                        Comparison::Equal,
                        other,
                    ));
                }
            }
        }
        texts.sort_unstable();
        texts.dedup();
        numbers.sort_unstable();
        numbers.dedup();
        if !texts.is_empty() {
            others.push(Predicate::TextIn(subject.clone(), texts.into()));
        }
        if !numbers.is_empty() {
            others.push(Predicate::IntIn(subject, numbers.into()));
        }
        Ok(match others.len() {
            // Only lists, and they are empty.
            0 => Predicate::TextIn(Scalar::Text([].into()), [].into()),
            1 => others.remove(0),
            _ => Predicate::Or(others),
        })
    }

    /// The values of `LIST('name')`, if the expression is that.
    fn list(self, expr: &Expr, at: Location) -> Result<Option<&'q [String]>, Fault> {
        let Expr::Function(call) = expr else {
            return Ok(None);
        };
        if call_name(call) != "list" {
            return Ok(None);
        }
        let misuse = || Fault::ty(at, "a list is written LIST('name')");
        let arguments = plain_arguments(call).ok_or_else(misuse)?;
        let [name] = arguments.as_slice() else {
            return Err(misuse());
        };
        let name = text_literal(name).ok_or_else(misuse)?;
        self.scalars.scope.list(name, at).map(Some)
    }

    fn like(
        self,
        subject: &Expr,
        pattern: &Expr,
        escape: Option<&Expr>,
        ignore_case: bool,
        at: Location,
    ) -> Result<Predicate, Fault> {
        let subject = self.text(subject, at)?;
        let pattern_at = start(pattern, at);
        let pattern = text_literal(pattern)
            .ok_or_else(|| Fault::ty(pattern_at, "the pattern of LIKE is a 'text'"))?;
        let escape = match escape.map(text_literal) {
            None => None,
            Some(text) => Some(one_char(text.unwrap_or_default()).ok_or_else(|| {
                Fault::ty(pattern_at, "ESCAPE is followed by one character in quotes")
            })?),
        };
        let pattern = like_pattern(pattern, escape, ignore_case, pattern_at)?;
        Ok(Predicate::Matches(subject, pattern))
    }

    fn glob(self, subject: &Expr, pattern: &Expr, at: Location) -> Result<Predicate, Fault> {
        let subject = self.text(subject, at)?;
        let pattern_at = start(pattern, at);
        let pattern = text_literal(pattern)
            .ok_or_else(|| Fault::ty(pattern_at, "the pattern of GLOB is a 'text'"))?;
        Ok(Predicate::Matches(
            subject,
            glob_pattern(pattern, pattern_at)?,
        ))
    }

    fn regex(
        self,
        subject: &Expr,
        pattern: &Expr,
        ignore_case: bool,
        at: Location,
    ) -> Result<Predicate, Fault> {
        let subject = self.text(subject, at)?;
        let pattern_at = start(pattern, at);
        let pattern = text_literal(pattern)
            .ok_or_else(|| Fault::ty(pattern_at, "a regular expression is a 'text'"))?;
        Ok(Predicate::Matches(
            subject,
            regex_pattern(pattern, ignore_case, pattern_at)?,
        ))
    }

    fn text(self, expr: &Expr, at: Location) -> Result<Scalar, Fault> {
        let value = self.scalars.compile(expr, at)?;
        match value.ty() {
            Type::Text => Ok(value),
            Type::List => Err(Fault::ty(
                at,
                "patterns match text and this is text[]; use any_like(…)",
            )),
            other => Err(Fault::ty(
                at,
                format!("patterns match text and this is {}", other.name()),
            )),
        }
    }

    /// `value = ANY(array)`.
    fn any_equals(self, value: &Expr, array: &Expr, at: Location) -> Result<Predicate, Fault> {
        let array_at = start(array, at);
        let (value, array) = (
            self.scalars.compile(value, at)?,
            self.scalars.compile(array, array_at)?,
        );
        let Some(element) = array.ty().element() else {
            let message = format!("ANY needs an array and this is {}", array.ty().name());
            return Err(Fault::ty(array_at, message));
        };
        if value.ty() != element {
            let (element, this) = (element.name(), value.ty().name());
            let message = format!("the array holds {element} and this is {this}");
            return Err(Fault::ty(at, message));
        }
        Ok(Predicate::AnyEquals(array, value))
    }
}

fn not(predicate: Predicate) -> Predicate {
    Predicate::Not(Box::new(predicate))
}

fn negate(predicate: Predicate, negated: bool) -> Predicate {
    if negated { not(predicate) } else { predicate }
}

fn integers(list: &[String], at: Location) -> Result<Vec<i128>, Fault> {
    let integer = |value: &String| {
        let number = value.parse::<i64>().ok().map(i128::from);
        number.ok_or_else(|| Fault::ty(at, format!("`{value}` in this list is no integer")))
    };
    list.iter().map(integer).collect()
}

fn one_char(text: &str) -> Option<char> {
    let mut chars = text.chars();
    chars.next().filter(|_| chars.next().is_none())
}

pub(super) fn same_type(left: &Scalar, right: &Scalar, at: Location) -> Result<(), Fault> {
    match (left.ty(), right.ty()) {
        (Type::List | Type::IntList, _) | (_, Type::List | Type::IntList) => Err(Fault::ty(
            at,
            "an array cannot be compared; use 'text' = ANY(array)",
        )),
        (left, right) if left == right => Ok(()),
        (left, right) => {
            let message = format!("{} cannot be compared with {}", left.name(), right.name());
            Err(Fault::ty(at, message))
        }
    }
}

pub(super) fn like_pattern(
    pattern: &str,
    escape: Option<char>,
    ignore_case: bool,
    at: Location,
) -> Result<Pattern, Fault> {
    if pattern.len() > MAX_LIKE_BYTES {
        return Err(Fault::limit(
            at,
            "LIKE pattern",
            format_args!("{MAX_LIKE_BYTES} bytes"),
        ));
    }
    Like::parse(pattern, escape, ignore_case)
        .map(Pattern::Like)
        .map_err(|_| {
            let message = "the escape character is followed by neither %, _ nor itself".to_owned();
            Fault::new(at, ErrorKind::Pattern(message))
        })
}

/// Byte semantics, so that a byte that is no UTF-8 cannot hide what follows it: `.` is any byte
/// (line breaks too, as in POSIX), classes such as `\w` are ASCII.
pub(super) fn regex_pattern(
    pattern: &str,
    ignore_case: bool,
    at: Location,
) -> Result<Pattern, Fault> {
    if pattern.len() > MAX_REGEX_BYTES {
        let limit = format_args!("{MAX_REGEX_BYTES} bytes");
        return Err(Fault::limit(at, "regular expression", limit));
    }
    // In the text, which alone tells patterns apart.
    let flags = if ignore_case { IGNORE_CASE } else { "" };
    let reading = Reading {
        unicode: false,
        dot_is_all: true,
        max_depth: 50,
        max_bytes: MAX_REGEX_SIZE,
    };
    Regex::new(&format!("{flags}{pattern}"), reading)
        .map(Pattern::Regex)
        .map_err(|refusal| match refusal {
            Refusal::Syntax(reason) => Fault::new(at, ErrorKind::Pattern(reason)),
            Refusal::TooLarge => Fault::limit(
                at,
                "compiled regular expression",
                format_args!("{MAX_REGEX_SIZE} bytes"),
            ),
        })
}
