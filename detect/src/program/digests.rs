//! Finds the digests that rules name, as bytes: hexadecimal digits are written for no event.

use std::collections::BTreeMap;

use super::fact::Kind;
use super::lookup::{FactId, Texts, Wanted};
use crate::catalog::Field;
use crate::view::View;

/// The digests to look for, by column.
#[derive(Debug, Default)]
pub(crate) struct Digests(BTreeMap<Field, Texts>);

impl Digests {
    pub(super) fn add(&mut self, wanted: &[Wanted<'_>]) {
        let digests = wanted.iter().filter(|w| w.fact.kind == Kind::Digest);
        for Wanted { id, fact, .. } in digests {
            let of = self.0.entry(fact.field).or_default();
            of.insert(fact.text.clone(), *id);
        }
    }

    pub(super) fn find(&self, view: &View<'_>, mut found: impl FnMut(FactId)) {
        for (field, digests) in &self.0 {
            if let Some(id) = view.digest(*field).and_then(|bytes| digests.get(bytes)) {
                found(*id);
            }
        }
    }
}
