//! Remembers which clauses an event satisfied, by all that they look at: the same programs are run
//! with the same arguments over and over.
//!
//! The whole key is kept and compared, so a collision costs a run of the program and nothing else.

use foldhash::fast::RandomState;
use std::hash::BuildHasher as _;

use super::run::Satisfied;
use crate::catalog::{Field, FieldSet};
use crate::view::{DIGESTS, Value, View};

/// Entries; a power of two.
const ENTRIES: usize = 2048;

/// Longest key that is kept. Ten such keys are rare and would take the place of hundreds.
const MAX_KEY_BYTES: usize = 4096;

/// Remembered results of one program. An entry gives way to the next one of the same hash, so the
/// memory is bounded by [`ENTRIES`] times [`MAX_KEY_BYTES`] and in practice a tenth of that.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: Vec<Entry>,
    hasher: RandomState,
    /// The present event's.
    key: Vec<u8>,
    hash: u64,
    /// Events whose result was remembered.
    pub(crate) hits: u64,
    /// Events whose result was not.
    pub(crate) misses: u64,
}

#[derive(Debug, Default, Clone)]
struct Entry {
    hash: u64,
    key: Vec<u8>,
    clauses: Vec<Satisfied>,
}

/// Columns that are hardly ever the same for two events, so that clauses that read them are not
/// worth remembering.
pub(crate) fn is_volatile(fields: FieldSet) -> bool {
    const VOLATILE: [Field; 15] = [
        Field::EventTime,
        Field::Pid,
        Field::Ppid,
        Field::EntityId,
        Field::NamespacePid,
        Field::SessionLeader,
        Field::ParentPid,
        Field::ParentPpid,
        Field::ParentEntityId,
        Field::AncestorPid,
        Field::AncestorEntityId,
        Field::RunTime,
        Field::MntNs,
        Field::PidNs,
        Field::LostCount,
    ];
    VOLATILE.iter().any(|field| fields.contains(*field))
}

impl Cache {
    /// The clauses that the event satisfies, if they are remembered.
    pub(crate) fn find(&mut self, view: &View<'_>, fields: &[Field]) -> Option<&[Satisfied]> {
        write_key(view, fields, &mut self.key);
        self.hash = self.hasher.hash_one(&self.key);
        let found = self
            .entries
            .get(self.hash as usize % ENTRIES)
            .is_some_and(|entry| entry.hash == self.hash && entry.key == self.key);
        if !found {
            self.misses += 1;
            return None;
        }
        self.hits += 1;
        Some(&self.entries[self.hash as usize % ENTRIES].clauses)
    }

    /// Remembers the clauses of the event that was looked for last.
    pub(crate) fn keep(&mut self, clauses: &[Satisfied]) {
        if self.key.len() > MAX_KEY_BYTES {
            return;
        }
        self.entries.resize(ENTRIES, Entry::default());
        let entry = &mut self.entries[self.hash as usize % ENTRIES];
        entry.hash = self.hash;
        entry.key.clone_from(&self.key);
        entry.clauses.clear();
        entry.clauses.extend_from_slice(clauses);
    }

    /// Forgets everything: other rules hold.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

/// Every value with its kind and length, so that no two rows of values have the same key.
fn write_key(view: &View<'_>, fields: &[Field], key: &mut Vec<u8>) {
    key.clear();
    for field in fields {
        write_column(view, *field, key);
    }
}

/// Of digests the bytes: their text is computed for few events.
fn write_column(view: &View<'_>, field: Field, key: &mut Vec<u8>) {
    let mut digests = DIGESTS.iter().map(|digest| digest.field);
    if field == Field::Hashes {
        digests.for_each(|digest| write_digest(view, digest, key));
    } else if digests.any(|digest| digest == field) {
        write_digest(view, field, key);
    } else {
        write_value(view.get(field), key);
    }
}

fn write_digest(view: &View<'_>, field: Field, key: &mut Vec<u8>) {
    match view.digest(field) {
        Some(bytes) => write_bytes(1, bytes, key),
        None => key.push(0),
    }
}

fn write_value(value: Option<Value<'_>>, key: &mut Vec<u8>) {
    match value {
        None => key.push(0),
        Some(Value::Text(text)) => write_bytes(1, &text, key),
        Some(Value::Int(number)) => {
            key.push(2);
            key.extend_from_slice(&number.to_le_bytes());
        }
        Some(Value::Bool(truth)) => key.push(3 + u8::from(truth)),
        Some(Value::List(list)) => write_bytes(5, list.as_block(), key),
        Some(Value::Ancestors(ancestors)) => {
            key.push(6);
            key.extend_from_slice(&(ancestors.len() as u64).to_le_bytes());
            ancestors
                .iter()
                .for_each(|element| write_value(element, key));
        }
    }
}

fn write_bytes(kind: u8, bytes: &[u8], key: &mut Vec<u8>) {
    key.push(kind);
    key.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    key.extend_from_slice(bytes);
}
