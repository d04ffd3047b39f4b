//! `Field|modifier|modifier`: what a key of a detection asks for, and its modifiers in order.

use crate::error::{ErrorKind, Place};
use crate::ir::{Comparison, Function};
use crate::nearest::nearest;
use crate::sigma::node::Key;

/// A key of a detection.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// `None`: the whole event.
    pub(crate) field: Option<String>,
    pub(crate) modifiers: Vec<Modifier>,
    pub(crate) at: Place,
}

/// A modifier of the specification 2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Modifier {
    Contains,
    StartsWith,
    EndsWith,
    All,
    Cased,
    Exists,
    Negated,
    Windash,
    Base64,
    Base64Offset,
    Utf16Le,
    Utf16Be,
    Utf16,
    Regex,
    RegexFlag(char),
    Cidr,
    Expand,
    FieldReference,
    Compare(Comparison),
    TimePart(Function),
}

/// Every name, with what it stands for.
const NAMES: &[(&str, Modifier)] = &[
    ("all", Modifier::All),
    ("base64", Modifier::Base64),
    ("base64offset", Modifier::Base64Offset),
    ("cased", Modifier::Cased),
    ("cidr", Modifier::Cidr),
    ("contains", Modifier::Contains),
    ("day", Modifier::TimePart(Function::Day)),
    ("dotall", Modifier::RegexFlag('s')),
    ("endswith", Modifier::EndsWith),
    ("exists", Modifier::Exists),
    ("expand", Modifier::Expand),
    ("fieldref", Modifier::FieldReference),
    ("gt", Modifier::Compare(Comparison::Greater)),
    ("gte", Modifier::Compare(Comparison::GreaterOrEqual)),
    ("hour", Modifier::TimePart(Function::Hour)),
    ("i", Modifier::RegexFlag('i')),
    ("ignorecase", Modifier::RegexFlag('i')),
    ("lt", Modifier::Compare(Comparison::Less)),
    ("lte", Modifier::Compare(Comparison::LessOrEqual)),
    ("m", Modifier::RegexFlag('m')),
    ("minute", Modifier::TimePart(Function::Minute)),
    ("month", Modifier::TimePart(Function::Month)),
    ("multiline", Modifier::RegexFlag('m')),
    ("neq", Modifier::Negated),
    ("re", Modifier::Regex),
    ("s", Modifier::RegexFlag('s')),
    ("startswith", Modifier::StartsWith),
    ("utf16", Modifier::Utf16),
    ("utf16be", Modifier::Utf16Be),
    ("utf16le", Modifier::Utf16Le),
    ("week", Modifier::TimePart(Function::Week)),
    ("wide", Modifier::Utf16Le),
    ("windash", Modifier::Windash),
    ("year", Modifier::TimePart(Function::Year)),
];

impl Target {
    /// The whole event, without modifiers.
    pub(crate) fn event(at: Place) -> Self {
        Self {
            field: None,
            modifiers: Vec::new(),
            at,
        }
    }

    pub(crate) fn read(key: &Key) -> Result<Self, (Place, ErrorKind)> {
        let mut parts = key.text.split('|');
        let field = parts.next().unwrap_or_default();
        let modifiers = parts.map(modifier).collect::<Result<_, _>>();
        Ok(Self {
            field: (!field.is_empty()).then(|| field.to_owned()),
            modifiers: modifiers.map_err(|kind| (key.at, kind))?,
            at: key.at,
        })
    }

    pub(crate) fn has(&self, modifier: Modifier) -> bool {
        self.modifiers.contains(&modifier)
    }
}

fn modifier(name: &str) -> Result<Modifier, ErrorKind> {
    let found = NAMES.iter().find(|(known, _)| *known == name);
    found.map(|(_, modifier)| *modifier).ok_or_else(|| {
        let names = NAMES.iter().map(|(known, _)| *known);
        ErrorKind::Unknown {
            what: "modifier",
            name: name.to_owned(),
            nearest: nearest(name, names).map(str::to_owned),
        }
    })
}

impl Modifier {
    /// As rules write it.
    pub(crate) fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(_, modifier)| *modifier == self);
        found.map_or("", |(name, _)| name)
    }
}
