//! What a rule compiles to, whatever language it was written in.

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::catalog::{Field, FieldSet, Type};
use crate::expression::Regex;
use crate::like::Like;

/// An expression with a value.
#[derive(Debug, Clone)]
pub(crate) enum Scalar {
    Field(Field),
    Text(Box<[u8]>),
    Int(i128),
    Bool(bool),
    /// Element of an array, counted from 1.
    Element(Box<Scalar>, usize),
    Call(Function, Vec<Scalar>),
    /// The value beside the first condition that is true; else the last one. `None` is `NULL`.
    Case(Vec<(Predicate, Option<Scalar>)>, Option<Box<Scalar>>),
    /// Whether a condition holds; `NULL` is unknown.
    Condition(Box<Predicate>),
}

/// Functions that give a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Lower,
    Upper,
    Length,
    OctetLength,
    Basename,
    Dirname,
    Cardinality,
    Coalesce,
    /// A number in decimal digits.
    Decimal,
    /// A number as `0x3e7`.
    Hexadecimal,
    /// Letter case folded away.
    Fold,
    /// The number that a text is, in decimal digits or as `0x3e7`.
    Number,
    /// The account's name; `root` for user id 0 where there is none.
    Account,
    /// A moment as `2019-03-02 08:51:00.008`, in UTC; the parts of one, too.
    UtcTime,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
    /// What follows is `NULL` where one of the values is, see `apply.rs`.
    Substring,
    Position,
    Replace,
    Trim {
        start: bool,
        end: bool,
    },
    Concat,
    SplitPart,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    BitAnd,
    BitOr,
    ShiftLeft,
    ShiftRight,
}

/// A condition, in SQL's three-valued logic: true, false or unknown.
#[derive(Debug, Clone)]
pub(crate) enum Predicate {
    And(Vec<Predicate>),
    Or(Vec<Predicate>),
    Not(Box<Predicate>),
    /// A boolean value.
    Truth(Scalar),
    IsNull(Scalar),
    /// `IS TRUE`, `IS FALSE`, `IS UNKNOWN`: never unknown itself.
    Is(Box<Predicate>, Option<bool>),
    Compare(Scalar, Comparison, Scalar),
    /// Equal to one of these, which are sorted.
    TextIn(Scalar, Box<[Box<[u8]>]>),
    /// Equal to one of these, which are sorted.
    IntIn(Scalar, Box<[i128]>),
    Matches(Scalar, Pattern),
    /// One element of the array matches.
    AnyMatches(Scalar, Pattern),
    /// One element of the array equals the value.
    AnyEquals(Scalar, Scalar),
    /// How two texts that are both only known with the event relate.
    Relation(Scalar, Relation, Scalar),
    /// The text is an address of the network.
    InNetwork(Scalar, Network),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Of a left side that has this order to the right one.
    pub(crate) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    Contains,
    StartsWith,
    EndsWith,
}

#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    Like(Like),
    /// On bytes.
    Regex(Regex),
    /// On characters; a byte that belongs to none counts as one.
    Chars(Regex),
}

/// Addresses with the same first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) address: IpAddr,
    pub(crate) bits: u8,
}

impl Network {
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(of), IpAddr::V4(address)) => {
                let differ = of.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(of), IpAddr::V6(address)) => {
                let differ = of.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }
}

impl Scalar {
    pub(crate) fn ty(&self) -> Type {
        match self {
            Self::Field(field) => crate::catalog::Column::of(*field).ty,
            Self::Text(_) => Type::Text,
            Self::Element(array, _) => array.ty().element().unwrap_or(Type::Text),
            Self::Int(_) => Type::Int,
            Self::Bool(_) => Type::Bool,
            Self::Call(function, arguments) => match function {
                Function::Lower
                | Function::Upper
                | Function::Basename
                | Function::Dirname
                | Function::Decimal
                | Function::Hexadecimal
                | Function::Fold
                | Function::Account
                | Function::UtcTime
                | Function::Substring
                | Function::Replace
                | Function::Trim { .. }
                | Function::Concat
                | Function::SplitPart => Type::Text,
                Function::Length
                | Function::OctetLength
                | Function::Cardinality
                | Function::Number
                | Function::Minute
                | Function::Hour
                | Function::Day
                | Function::Week
                | Function::Month
                | Function::Year
                | Function::Position
                | Function::Add
                | Function::Subtract
                | Function::Multiply
                | Function::Divide
                | Function::Remainder
                | Function::BitAnd
                | Function::BitOr
                | Function::ShiftLeft
                | Function::ShiftRight => Type::Int,
                Function::Coalesce => arguments.first().map_or(Type::Text, Self::ty),
            },
            Self::Case(arms, otherwise) => {
                let first = arms.iter().find_map(|(_, value)| value.as_ref());
                first.or(otherwise.as_deref()).map_or(Type::Text, Self::ty)
            }
            Self::Condition(_) => Type::Bool,
        }
    }

    pub(crate) fn collect_fields(&self, into: &mut FieldSet) {
        match self {
            Self::Field(field) => into.insert(*field),
            Self::Element(list, _) => list.collect_fields(into),
            Self::Call(_, arguments) => arguments.iter().for_each(|a| a.collect_fields(into)),
            Self::Case(arms, otherwise) => {
                for (condition, value) in arms {
                    condition.collect_fields(into);
                    value.iter().for_each(|value| value.collect_fields(into));
                }
                otherwise
                    .iter()
                    .for_each(|value| value.collect_fields(into));
            }
            Self::Condition(condition) => condition.collect_fields(into),
            Self::Text(_) | Self::Int(_) | Self::Bool(_) => {}
        }
    }
}

impl Predicate {
    pub(crate) fn collect_fields(&self, into: &mut FieldSet) {
        match self {
            Self::And(parts) | Self::Or(parts) => {
                parts.iter().for_each(|part| part.collect_fields(into));
            }
            Self::Not(inner) | Self::Is(inner, _) => inner.collect_fields(into),
            Self::Truth(value)
            | Self::IsNull(value)
            | Self::TextIn(value, _)
            | Self::IntIn(value, _)
            | Self::Matches(value, _)
            | Self::AnyMatches(value, _)
            | Self::InNetwork(value, _) => value.collect_fields(into),
            Self::Compare(left, _, right)
            | Self::AnyEquals(left, right)
            | Self::Relation(left, _, right) => {
                left.collect_fields(into);
                right.collect_fields(into);
            }
        }
    }
}

impl Pattern {
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Like(like) => like.matches(text),
            Self::Regex(regex) => regex.is_match(text),
            // Nearly all are; seen many bytes a step.
            Self::Chars(regex) if text.is_ascii() => regex.is_match(text),
            Self::Chars(regex) => regex.is_match(String::from_utf8_lossy(text).as_bytes()),
        }
    }
}
