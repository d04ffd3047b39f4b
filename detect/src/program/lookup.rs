//! Finds all facts of an event in one pass over each of its texts.

use std::collections::HashMap;

use aho_corasick::automaton::Automaton;
use aho_corasick::{Anchored, MatchKind, StartKind, dfa, nfa};
use foldhash::fast::FixedState;

use super::fact::{Fact, Kind, base_of};

/// Bytes of text up to which the fastest automaton is worth its memory.
const MAX_DFA_BYTES: usize = 64 * 1024;

/// Number of a fact in its program.
pub(crate) type FactId = u32;

/// Filled once from rules; nobody can choose texts that collide to make it slow later.
type Texts = HashMap<Box<[u8]>, FactId, FixedState>;

/// The facts about one column.
#[derive(Debug)]
pub(crate) struct Lookup {
    equal: Texts,
    base: Texts,
    ascii: Option<Search>,
    /// Texts with other characters: looked for in texts with such characters only, which are rare,
    /// and kept apart so that the other automaton stays small.
    wide: Option<Search>,
}

impl Lookup {
    /// `facts` are those of one column, with their numbers. Returned beside it are those that no automaton could
    /// be built for: there are too many.
    pub(crate) fn build<'f>(
        facts: impl Iterator<Item = (FactId, &'f Fact)>,
    ) -> (Self, Vec<FactId>) {
        let (mut equal, mut base) = (Texts::default(), Texts::default());
        let (mut ascii, mut wide) = (Vec::new(), Vec::new());
        for (id, fact) in facts {
            match fact.kind {
                Kind::Equal => drop(equal.insert(fact.text.clone(), id)),
                Kind::Base => drop(base.insert(fact.text.clone(), id)),
                Kind::Contains if fact.text.is_ascii() => ascii.push((id, &*fact.text)),
                Kind::Contains => wide.push((id, &*fact.text)),
            }
        }
        let mut unsearchable = Vec::new();
        let mut search = |texts, speed| {
            Search::build(texts, speed).unwrap_or_else(|ids| {
                unsearchable.extend(ids);
                None
            })
        };
        let lookup = Self {
            equal,
            base,
            ascii: search(ascii, Speed::Fast),
            wide: search(wide, Speed::Small),
        };
        (lookup, unsearchable)
    }

    /// Tells each fact that the text, letter case folded, shows; some more than once.
    pub(crate) fn find(&self, text: &[u8], mut found: impl FnMut(FactId)) {
        if !self.equal.is_empty()
            && let Some(id) = self.equal.get(text)
        {
            found(*id);
        }
        if !self.base.is_empty()
            && let Some(id) = base_of(text).and_then(|base| self.base.get(base))
        {
            found(*id);
        }
        if let Some(search) = &self.ascii {
            search.find(text, &mut found);
        }
        if let Some(search) = &self.wide
            && !text.is_ascii()
        {
            search.find(text, &mut found);
        }
    }
}

/// What to spend memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speed {
    /// Each event is searched.
    Fast,
    /// Few are.
    Small,
}

/// Texts that are searched for together.
#[derive(Debug)]
pub(crate) struct Search {
    automaton: Machine,
    ids: Vec<FactId>,
}

#[derive(Debug)]
enum Machine {
    Fast(dfa::DFA),
    Small(nfa::contiguous::NFA),
}

impl Search {
    /// `None` for no texts; an error returns their ids.
    pub(crate) fn build(
        texts: Vec<(FactId, &[u8])>,
        speed: Speed,
    ) -> Result<Option<Self>, Vec<FactId>> {
        if texts.is_empty() {
            return Ok(None);
        }
        let (ids, texts): (Vec<FactId>, Vec<&[u8]>) = texts.into_iter().unzip();
        match Machine::build(&texts, speed) {
            Some(automaton) => Ok(Some(Self { automaton, ids })),
            None => Err(ids),
        }
    }

    fn find(&self, text: &[u8], found: &mut impl FnMut(FactId)) {
        let mut each = |pattern: usize| {
            found(self.ids[pattern]);
            false
        };
        match &self.automaton {
            Machine::Fast(dfa) => walk(dfa, text, &mut each),
            Machine::Small(nfa) => walk(nfa, text, &mut each),
        };
    }

    /// Whether any of the texts occurs.
    pub(crate) fn is_match(&self, text: &[u8]) -> bool {
        match &self.automaton {
            Machine::Fast(dfa) => walk(dfa, text, &mut |_| true),
            Machine::Small(nfa) => walk(nfa, text, &mut |_| true),
        }
    }
}

impl Machine {
    fn build(texts: &[&[u8]], speed: Speed) -> Option<Self> {
        let total: usize = texts.iter().map(|text| text.len()).sum();
        if speed == Speed::Fast && total <= MAX_DFA_BYTES {
            let dfa = dfa::DFA::builder()
                .match_kind(MatchKind::Standard)
                .start_kind(StartKind::Unanchored)
                .prefilter(false)
                .build(texts);
            if let Ok(dfa) = dfa {
                return Some(Self::Fast(dfa));
            }
        }
        let nfa = nfa::contiguous::NFA::builder()
            .match_kind(MatchKind::Standard)
            .prefilter(false)
            .build(texts);
        nfa.ok().map(Self::Small)
    }
}

/// Tells every occurrence of every pattern until `each` says that this is enough; true if it did.
fn walk<A: Automaton>(automaton: &A, text: &[u8], each: &mut impl FnMut(usize) -> bool) -> bool {
    // Built for unanchored searches, so that the start state is there.
    let Ok(mut state) = automaton.start_state(Anchored::No) else {
        return false;
    };
    for byte in text {
        state = automaton.next_state(Anchored::No, state, *byte);
        if automaton.is_special(state) && automaton.is_match(state) {
            for index in 0..automaton.match_len(state) {
                if each(automaton.match_pattern(state, index).as_usize()) {
                    return true;
                }
            }
        }
    }
    false
}
