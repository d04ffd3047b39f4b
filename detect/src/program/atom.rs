//! The leaves of conditions, each distinct one once.

use memchr::memmem::Finder;

use super::fact;
use super::lookup::{FactId, Search};
use super::row::Slot;
use crate::catalog::{Column, Field, Type};
use crate::ir::{Comparison, Function, Pattern, Predicate, Scalar};
use crate::like::{Like, Token};
use crate::regex_literals::{Run, least_bytes, required_run};
use crate::text::fold_text;

/// Number of an atom in its program.
pub(crate) type AtomId = u32;

/// A leaf and the cheapest way to decide it.
#[derive(Debug)]
pub(crate) enum Atom {
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
    /// Two columns are the same, but for case.
    Same(Slot, Slot),
    /// A regular expression that matches nothing without these.
    Regex {
        field: Field,
        needs: Box<Needs>,
        leaf: Box<Predicate>,
    },
    /// Evaluated as it stands.
    Leaf(Box<Predicate>),
}

/// What every text has that a regular expression matches.
#[derive(Debug)]
pub(crate) struct Needs {
    /// So many bytes, if it is ASCII: for an expression on characters, what is none of them becomes
    /// one of three bytes.
    least: usize,
    run: Option<Run>,
}

impl Needs {
    pub(super) fn rule_out(&self, text: &[u8]) -> bool {
        let is_short = text.len() < self.least && text.is_ascii();
        is_short || self.run.as_ref().is_some_and(|run| !run.is_in(text))
    }
}

/// How a folded text relates to the folded text of a pattern.
#[derive(Debug)]
pub(crate) enum Shape {
    Equal(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<Finder<'static>>),
    Parts(Box<Parts>),
}

/// Texts that follow each other with anything between them.
#[derive(Debug)]
pub(crate) struct Parts {
    open_start: bool,
    /// At least two.
    texts: Box<[Finder<'static>]>,
    open_end: bool,
}

impl Parts {
    /// `None` for wildcards that stand for one character.
    fn of(like: &Like) -> Option<Self> {
        let tokens = like.tokens();
        if tokens.contains(&Token::One) {
            return None;
        }
        let runs = tokens.split(|token| *token == Token::Many);
        let runs = runs.filter(|run| !run.is_empty());
        let finder = |run: &[Token]| {
            let chars = run.iter().filter_map(|token| match token {
                Token::Char(c) => Some(*c),
                Token::One | Token::Many => None,
            });
            Finder::new(&folded_text(&chars.collect::<String>())).into_owned()
        };
        let texts: Box<[_]> = runs.map(finder).collect();
        (texts.len() > 1).then_some(Self {
            open_start: tokens.first() == Some(&Token::Many),
            texts,
            open_end: tokens.last() == Some(&Token::Many),
        })
    }

    /// The first place of each text leaves most for those after it.
    fn matches(&self, mut text: &[u8]) -> bool {
        let mut inner = &*self.texts;
        if !self.open_start
            && let [first, others @ ..] = inner
        {
            let Some(rest) = text.strip_prefix(first.needle()) else {
                return false;
            };
            (text, inner) = (rest, others);
        }
        if !self.open_end
            && let [others @ .., last] = inner
        {
            let Some(rest) = text.strip_suffix(last.needle()) else {
                return false;
            };
            (text, inner) = (rest, others);
        }
        inner.iter().all(|part| {
            let at = part.find(text);
            text = at.map_or(&[][..], |at| &text[at + part.needle().len()..]);
            at.is_some()
        })
    }
}

impl Shape {
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Equal(part) => text == &**part,
            Self::Prefix(part) => text.starts_with(part),
            Self::Suffix(part) => text.ends_with(part),
            Self::Contains(finder) => finder.find(text).is_some(),
            Self::Parts(parts) => parts.matches(text),
        }
    }

    /// `None` if the pattern minds case, or has wildcards for one character.
    fn of(like: &Like) -> Option<Self> {
        if !like.ignore_case() {
            return None;
        }
        let Some(literal) = fact::literal(like) else {
            return Parts::of(like).map(|parts| Self::Parts(Box::new(parts)));
        };
        let text = folded_text(&literal.text);
        Some(match (literal.open_start, literal.open_end) {
            (false, false) => Self::Equal(text),
            (false, true) => Self::Prefix(text),
            (true, false) => Self::Suffix(text),
            (true, true) => Self::Contains(Box::new(Finder::new(&text).into_owned())),
        })
    }
}

fn folded_text(text: &str) -> Box<[u8]> {
    let mut folded = Vec::new();
    fold_text(text.as_bytes(), &mut folded);
    folded.into()
}

/// The column and shape of a leaf that is a comparison with folded text.
pub(super) fn folded(leaf: &Predicate) -> Option<(Field, Shape)> {
    let (field, like) = simple_like(leaf)?;
    Some((field, Shape::of(like)?))
}

/// The columns of a leaf that asks whether they are the same, whatever their case.
pub(super) fn same(leaf: &Predicate) -> Option<(Field, Field)> {
    match leaf {
        Predicate::Compare(left, Comparison::Equal, right) => {
            Some((folded_column(left)?, folded_column(right)?))
        }
        _ => None,
    }
}

/// The column of a leaf that is a regular expression, and what that needs, if anything.
pub(super) fn needs(leaf: &Predicate) -> Option<(Field, Needs)> {
    let Predicate::Matches(Scalar::Field(field), pattern) = leaf else {
        return None;
    };
    let (Pattern::Regex(regex) | Pattern::Chars(regex)) = pattern else {
        return None;
    };
    let needs = Needs {
        least: least_bytes(regex.as_str()),
        run: required_run(regex.as_str()),
    };
    let rules_out = needs.least > 0 || needs.run.is_some();
    (rules_out && Column::of(*field).ty == Type::Text).then_some((*field, needs))
}

fn folded_column(value: &Scalar) -> Option<Field> {
    match value {
        Scalar::Call(Function::Fold, arguments) => match arguments.as_slice() {
            [Scalar::Field(field)] if Column::of(*field).ty == Type::Text => Some(*field),
            _ => None,
        },
        _ => None,
    }
}

/// The text of a leaf that asks whether a column contains it, whatever its case.
pub(super) fn contained(leaf: &Predicate) -> Option<(Field, Box<[u8]>)> {
    let (field, like) = simple_like(leaf)?;
    let literal = fact::literal(like)?;
    let inside = literal.open_start && literal.open_end && !literal.text.is_empty();
    (inside && like.ignore_case()).then(|| (field, folded_text(&literal.text)))
}

/// The column of a leaf, and the fact that it is, if it is one.
pub(super) fn as_fact(leaf: &Predicate) -> Option<(Field, fact::Fact)> {
    let (field, like) = simple_like(leaf)?;
    Some((field, fact::exact(field, like)?))
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
                Shape::Parts(_) => 60,
                Shape::Equal(_) | Shape::Prefix(_) | Shape::Suffix(_) => 3,
            },
            Self::Same(..) => 3,
            Self::Regex { .. } => 400,
            Self::Leaf(leaf) => match **leaf {
                Predicate::Matches(_, Pattern::Regex(_) | Pattern::Chars(_)) => 400,
                _ => 60,
            },
            Self::AnyOf { .. } => 200,
        }
    }
}
