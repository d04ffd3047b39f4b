//! The leaves of conditions, each distinct one once.

use memchr::memmem::Finder;

use super::fact::{self, Literal};
use super::lookup::{FactId, Search};
use super::row::Slot;
use crate::catalog::Field;
use crate::ir::{Pattern, Predicate, Scalar};
use crate::like::Like;
use crate::text::fold_text;

/// Number of an atom in its program.
pub(crate) type AtomId = u32;

/// A leaf and the cheapest way to decide it.
#[derive(Debug)]
pub(crate) enum Atom {
    /// True if the fact was seen.
    Seen { slot: Slot, fact: FactId },
    /// Tested, …
    Test(Test),
    /// … but false without that where none of these facts was seen.
    Guarded {
        slot: Slot,
        facts: Box<[FactId]>,
        test: Test,
    },
}

/// How a leaf is decided by itself.
#[derive(Debug)]
pub(crate) enum Test {
    /// Case does not matter, so the folded text is compared.
    Folded { slot: Slot, shape: Shape },
    /// One of many texts occurs in the folded text.
    AnyOf { slot: Slot, search: Box<Search> },
    /// Evaluated as it stands.
    Leaf(Predicate),
}

/// How a folded text relates to the folded text of a pattern.
#[derive(Debug)]
pub(crate) enum Shape {
    Equal(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<Finder<'static>>),
}

impl Shape {
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Equal(part) => text == &**part,
            Self::Prefix(part) => text.starts_with(part),
            Self::Suffix(part) => text.ends_with(part),
            Self::Contains(finder) => finder.find(text).is_some(),
        }
    }

    /// `None` if the pattern needs more than one comparison, or minds case.
    fn of(like: &Like) -> Option<Self> {
        if !like.ignore_case() {
            return None;
        }
        let literal = fact::literal(like)?;
        let text = folded_text(&literal);
        Some(match (literal.open_start, literal.open_end) {
            (false, false) => Self::Equal(text),
            (false, true) => Self::Prefix(text),
            (true, false) => Self::Suffix(text),
            (true, true) => Self::Contains(Box::new(Finder::new(&text).into_owned())),
        })
    }
}

fn folded_text(literal: &Literal) -> Box<[u8]> {
    let mut folded = Vec::new();
    fold_text(literal.text.as_bytes(), &mut folded);
    folded.into()
}

/// The column and shape of a leaf that is a comparison with folded text.
pub(super) fn folded(leaf: &Predicate) -> Option<(Field, Shape)> {
    let (field, like) = simple_like(leaf)?;
    Some((field, Shape::of(like)?))
}

/// The text of a leaf that asks whether a column contains it, whatever its case.
pub(super) fn contained(leaf: &Predicate) -> Option<(Field, Box<[u8]>)> {
    let (field, like) = simple_like(leaf)?;
    let literal = fact::literal(like)?;
    let inside = literal.open_start && literal.open_end && !literal.text.is_empty();
    (inside && like.ignore_case()).then(|| (field, folded_text(&literal)))
}

/// The fact that a leaf is, if it is one.
pub(super) fn as_fact(leaf: &Predicate) -> Option<fact::Fact> {
    let (field, like) = simple_like(leaf)?;
    fact::exact(field, like)
}

fn simple_like(leaf: &Predicate) -> Option<(Field, &Like)> {
    match leaf {
        Predicate::Matches(Scalar::Field(field), Pattern::Like(like)) => Some((*field, like)),
        _ => None,
    }
}

impl Atom {
    /// Rough, for the order in which the parts of a condition are looked at.
    pub(super) fn cost(&self) -> u32 {
        match self {
            Self::Seen { .. } => 1,
            Self::Test(test) => test.cost(),
            Self::Guarded { facts, .. } => {
                let facts = u32::try_from(facts.len()).unwrap_or(u32::MAX);
                facts.saturating_add(4)
            }
        }
    }
}

impl Test {
    fn cost(&self) -> u32 {
        match self {
            Self::Folded { shape, .. } => match shape {
                Shape::Contains(_) => 30,
                Shape::Equal(_) | Shape::Prefix(_) | Shape::Suffix(_) => 3,
            },
            Self::Leaf(Predicate::Matches(_, Pattern::Regex(_) | Pattern::Chars(_))) => 400,
            Self::Leaf(_) => 60,
            Self::AnyOf { .. } => 200,
        }
    }
}
