//! One column of the processes above one.

use std::borrow::Cow;

use event::{Ancestor, Process};

use super::{Value, int, known};
use crate::catalog::Field;
use crate::text::basename;

/// An array: the parent first, the first process of the system last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ancestors<'v> {
    parent: &'v Ancestor,
    above: &'v [Ancestor],
    field: Field,
}

impl<'v> Ancestors<'v> {
    /// `None` where not even the parent is known.
    pub(super) fn of(process: &'v Process, field: Field) -> Option<Self> {
        Some(Self {
            parent: process.parent_process.as_deref()?,
            above: &process.ancestors,
            field,
        })
    }

    /// Its elements; `None` is `NULL`.
    pub(crate) fn iter(self) -> impl Iterator<Item = Option<Value<'v>>> {
        let all = std::iter::once(self.parent).chain(self.above);
        all.map(move |ancestor| element(ancestor, self.field))
    }

    pub(crate) fn len(self) -> usize {
        1 + self.above.len()
    }

    /// The last one has a parent itself, of which nothing is known.
    pub(super) fn is_cut(self) -> bool {
        let last = self.above.last().unwrap_or(self.parent);
        last.parent.is_some()
    }
}

fn element(ancestor: &Ancestor, field: Field) -> Option<Value<'_>> {
    match field {
        Field::AncestorPid => int(ancestor.key.pid),
        Field::AncestorEntityId => {
            let id = ancestor.key.entity_id().into_bytes();
            Some(Value::Text(Cow::Owned(id)))
        }
        Field::AncestorName => known(basename(&ancestor.exe)),
        Field::AncestorExecutable => known(&ancestor.exe),
        Field::AncestorCommandLine if ancestor.argv.is_empty() => None,
        Field::AncestorCommandLine => Some(Value::Text(Cow::Owned(ancestor.argv.joined()))),
        Field::AncestorEuid => int(ancestor.euid?),
        _ => None,
    }
}
