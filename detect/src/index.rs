//! Which clauses of rules can match an event at all: looked up once for all, so that the cost of an
//! event grows with the rules that nearly match and not with the rules that exist.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, MatchKind};

use crate::catalog::{Field, FieldSet, Stream};
use crate::rule::Clause;
use crate::view::View;
use crate::witness::{Witness, witnesses};

/// Bytes of text up to which the fastest automaton is worth its memory, some 200 bytes for each.
const MAX_DFA_BYTES: usize = 16 * 1024;

/// The clauses of all streams, by what they need to see.
#[derive(Debug, Default)]
pub(crate) struct Index {
    streams: [StreamIndex; Stream::ALL.len()],
}

#[derive(Debug, Default)]
pub(crate) struct StreamIndex {
    /// Clauses without a witness: always candidates.
    always: ClauseBits,
    exact: Vec<ExactIndex>,
    search: Vec<SearchIndex>,
    /// What conditions and this index read.
    pub(crate) fields: FieldSet,
}

/// Clauses that need a field to be one of some texts.
#[derive(Debug)]
struct ExactIndex {
    field: Field,
    clauses: HashMap<Box<[u8]>, Vec<u32>>,
}

/// Clauses that need a field to contain one of some texts.
#[derive(Debug)]
struct SearchIndex {
    field: Field,
    automaton: AhoCorasick,
    clauses: Vec<Vec<u32>>,
}

/// A set of clauses by position.
#[derive(Debug, Default, Clone)]
pub(crate) struct ClauseBits(Vec<u64>);

impl ClauseBits {
    fn insert(&mut self, clause: u32) {
        let word = clause as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (clause % 64);
    }

    fn copy_from(&mut self, other: &Self) {
        self.0.clear();
        self.0.extend_from_slice(&other.0);
    }

    /// Positions in the set, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros();
                word &= word.checked_sub(1)?;
                Some(index * 64 + bit as usize)
            })
        })
    }
}

impl Index {
    /// Of all clauses in their order.
    pub(crate) fn build<'r>(clauses: impl Iterator<Item = &'r Clause> + Clone) -> Self {
        let streams = Stream::ALL.map(|stream| {
            let mine = (0u32..)
                .zip(clauses.clone())
                .filter(|(_, clause)| clause.stream == stream);
            StreamIndex::build(mine)
        });
        Self { streams }
    }

    pub(crate) fn stream(&self, stream: Stream) -> &StreamIndex {
        &self.streams[stream as usize]
    }
}

impl StreamIndex {
    fn build<'r>(clauses: impl Iterator<Item = (u32, &'r Clause)>) -> Self {
        let mut index = Self::default();
        let mut exact: HashMap<Field, HashMap<Box<[u8]>, Vec<u32>>> = HashMap::new();
        let mut search: HashMap<Field, HashMap<Box<[u8]>, Vec<u32>>> = HashMap::new();
        for (position, clause) in clauses {
            index.fields = index.fields.union(clause.condition_fields());
            let Some(witnesses) = witnesses(clause) else {
                index.always.insert(position);
                continue;
            };
            for witness in witnesses {
                let (map, field, text) = match witness {
                    Witness::Exact(field, text) => (&mut exact, field, text),
                    Witness::Contains(field, text) => (&mut search, field, text),
                };
                let clauses = map.entry(field).or_default().entry(text).or_default();
                if clauses.last() != Some(&position) {
                    clauses.push(position);
                }
            }
        }
        index.fields = index.fields.with_lines();
        index.exact = exact
            .into_iter()
            .map(|(field, clauses)| ExactIndex { field, clauses })
            .collect();
        for (field, texts) in search {
            index.add_search(field, texts);
        }
        index.exact.sort_by_key(|part| part.field);
        index.search.sort_by_key(|part| part.field);
        index
    }

    /// Texts that no automaton can be built for (too many) make their clauses candidates always.
    fn add_search(&mut self, field: Field, texts: HashMap<Box<[u8]>, Vec<u32>>) {
        let (texts, clauses): (Vec<_>, Vec<_>) = texts.into_iter().unzip();
        let total: usize = texts.iter().map(|text| text.len()).sum();
        let kind = (total <= MAX_DFA_BYTES).then_some(AhoCorasickKind::DFA);
        let automaton = AhoCorasickBuilder::new()
            .kind(kind)
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .build(&texts);
        match automaton {
            Ok(automaton) => self.search.push(SearchIndex {
                field,
                automaton,
                clauses,
            }),
            Err(_) => clauses
                .into_iter()
                .flatten()
                .for_each(|clause| self.always.insert(clause)),
        }
    }

    /// Clauses that can match: every clause that does match is among them.
    pub(crate) fn candidates(&self, view: &View<'_>, out: &mut ClauseBits) {
        out.copy_from(&self.always);
        for part in &self.exact {
            let found = view
                .text(part.field)
                .and_then(|text| part.clauses.get(text));
            found
                .into_iter()
                .flatten()
                .for_each(|clause| out.insert(*clause));
        }
        for part in &self.search {
            let Some(text) = view.text(part.field) else {
                continue;
            };
            for hit in part.automaton.find_overlapping_iter(text) {
                part.clauses[hit.pattern().as_usize()]
                    .iter()
                    .for_each(|clause| out.insert(*clause));
            }
        }
    }
}
