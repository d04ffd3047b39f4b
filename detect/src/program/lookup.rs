//! Finds all facts of an event in one pass over each of its texts.

use std::collections::HashMap;

use aho_corasick::automaton::Automaton;
use aho_corasick::{Anchored, MatchKind, StartKind, dfa, nfa, packed};
use foldhash::fast::FixedState;
use memchr::memmem::Finder;

use super::fact::{Fact, Kind, base_of};
use super::grams::{GRAM, Grams};

/// So few texts are found faster one after the other than by an automaton.
const MAX_EACH: usize = 16;

/// Bytes of text up to which the fastest automaton is worth its memory.
const MAX_DFA_BYTES: usize = 64 * 1024;

/// Number of a fact in its program.
pub(crate) type FactId = u32;

/// Filled once from rules; nobody can choose texts that collide to make it slow later.
pub(super) type Texts = HashMap<Box<[u8]>, FactId, FixedState>;

/// The facts about one column.
#[derive(Debug)]
pub(crate) struct Lookup {
    equal: Texts,
    base: Texts,
    contained: Searches,
}

/// Texts with other characters than ASCII are looked for in texts with such characters only, which
/// are rare, and kept apart so that the other automaton stays small.
#[derive(Debug)]
struct Searches {
    ascii: Option<Search>,
    wide: Option<Search>,
}

/// A fact to look for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'f> {
    pub(crate) id: FactId,
    pub(crate) fact: &'f Fact,
    /// Look for it in every event: some clause can only be ruled out by it. The rest matters only
    /// where a clause is left that needs it.
    pub(crate) first: bool,
}

impl Lookup {
    /// Returned beside it are facts that it does not look for: those that no automaton could be
    /// built for, because there are too many, and short texts among the rest, which the few clauses
    /// that are left sooner look for themselves.
    pub(crate) fn build(facts: &[Wanted<'_>]) -> (Self, Vec<FactId>) {
        let (mut equal, mut base) = (Texts::default(), Texts::default());
        for Wanted { id, fact, .. } in facts {
            match fact.kind {
                Kind::Equal => drop(equal.insert(fact.text.clone(), *id)),
                Kind::Base => drop(base.insert(fact.text.clone(), *id)),
                Kind::Contains | Kind::Digest => {}
            }
        }
        let is_short =
            |w: &&Wanted<'_>| w.fact.kind == Kind::Contains && !w.first && w.fact.text.len() < GRAM;
        let short = facts.iter().filter(is_short);
        let mut unsearchable: Vec<FactId> = short.map(|wanted| wanted.id).collect();
        let contained = facts.iter().filter(|w| w.fact.kind == Kind::Contains);
        let contained = contained.filter(|wanted| !is_short(wanted));
        let contained = Searches::build(contained, &mut unsearchable);
        let lookup = Self {
            equal,
            base,
            contained,
        };
        (lookup, unsearchable)
    }

    /// Tells facts that the text, letter case folded, shows; some more than once. False if
    /// [`Self::find_rest`] would tell more.
    pub(crate) fn find(&self, text: &[u8], mut found: impl FnMut(FactId)) -> bool {
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
        self.contained.find(text, &mut found)
    }

    /// Tells the remaining facts.
    pub(crate) fn find_rest(&self, text: &[u8], mut found: impl FnMut(FactId)) {
        self.contained.find_rest(text, &mut found);
    }
}

impl Searches {
    fn build<'f>(
        facts: impl Iterator<Item = &'f Wanted<'f>>,
        unsearchable: &mut Vec<FactId>,
    ) -> Self {
        let (ascii, wide): (Vec<_>, Vec<_>) = facts.partition(|w| w.fact.text.is_ascii());
        let mut search = |wanted: Vec<&Wanted<'f>>| {
            let (first, rest): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|w| w.first);
            let texts = |wanted: Vec<&Wanted<'f>>| {
                let texts = wanted.into_iter().map(|w| (w.id, &*w.fact.text));
                texts.collect::<Vec<_>>()
            };
            Search::build(texts(first), texts(rest), Speed::Fast).unwrap_or_else(|ids| {
                unsearchable.extend(ids);
                None
            })
        };
        Self {
            ascii: search(ascii),
            wide: search(wide),
        }
    }

    fn for_text(&self, text: &[u8]) -> impl Iterator<Item = &Search> {
        let wide = self.wide.iter().filter(|_| !text.is_ascii());
        self.ascii.iter().chain(wide)
    }

    fn find(&self, text: &[u8], found: &mut impl FnMut(FactId)) -> bool {
        let searches = self.for_text(text);
        searches.fold(true, |all, search| all & search.find(text, found))
    }

    fn find_rest(&self, text: &[u8], found: &mut impl FnMut(FactId)) {
        self.for_text(text)
            .for_each(|search| search.find_rest(text, found));
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
    /// For those of `grams` that are to be looked for first.
    gate: Option<Gate>,
    grams: Option<Grams>,
    /// For the others, all of them first, of which `ids` are the numbers.
    automaton: Option<Machine>,
    ids: Vec<FactId>,
}

/// For texts that no gram stands for.
#[derive(Debug)]
enum Machine {
    /// So few that each is looked for by itself.
    Each(Box<[Finder<'static>]>),
    Fast(dfa::DFA),
    Small(nfa::contiguous::NFA),
}

impl Search {
    /// `None` for no texts; an error returns their ids. None of the rest is shorter than a gram.
    pub(crate) fn build<'t>(
        first: Vec<(FactId, &'t [u8])>,
        mut rest: Vec<(FactId, &'t [u8])>,
        speed: Speed,
    ) -> Result<Option<Self>, Vec<FactId>> {
        if first.is_empty() && rest.is_empty() {
            return Ok(None);
        }
        let has_gram = |text: &(FactId, &[u8])| speed == Speed::Fast && text.1.len() >= GRAM;
        let (mut long, short): (Vec<_>, Vec<_>) = first.iter().copied().partition(has_gram);
        let gate = Gate::build(&long);
        long.append(&mut rest);
        let (ids, short): (Vec<FactId>, Vec<&[u8]>) = short.into_iter().unzip();
        let automaton = match Machine::build(&short, speed) {
            None if !short.is_empty() => {
                return Err(first.iter().chain(&long).map(|(id, _)| *id).collect());
            }
            automaton => automaton,
        };
        Ok(Some(Self {
            gate,
            grams: (!long.is_empty()).then(|| Grams::build(&long)),
            automaton,
            ids,
        }))
    }

    /// False if [`Self::find_rest`] would tell more. The rest is told, too, where one of the first
    /// texts makes it necessary to go through all of `text` anyway.
    fn find(&self, text: &[u8], found: &mut impl FnMut(FactId)) -> bool {
        self.walk(text, &mut |pattern| {
            found(self.ids[pattern]);
            false
        });
        if self.gate.as_ref().is_some_and(|gate| gate.is_shut(text)) {
            return false;
        }
        self.find_rest(text, found);
        true
    }

    fn find_rest(&self, text: &[u8], found: &mut impl FnMut(FactId)) {
        if let Some(grams) = &self.grams {
            grams.find(text, found);
        }
    }

    /// Whether any of the texts occurs.
    pub(crate) fn is_match(&self, text: &[u8]) -> bool {
        let grams = self.grams.as_ref();
        grams.is_some_and(|grams| grams.is_match(text)) || self.walk(text, &mut |_| true)
    }

    fn walk(&self, text: &[u8], each: &mut impl FnMut(usize) -> bool) -> bool {
        match &self.automaton {
            Some(Machine::Each(finders)) => {
                let mut texts = finders.iter().enumerate();
                texts.any(|(at, finder)| finder.find(text).is_some() && each(at))
            }
            Some(Machine::Fast(dfa)) => walk(dfa, text, each),
            Some(Machine::Small(nfa)) => walk(nfa, text, each),
            None => false,
        }
    }
}

/// Tells at many bytes a step that none of some texts occurs.
#[derive(Debug)]
struct Gate {
    /// The shortest, which would leave the others a small stride; `None` for no texts at all.
    short: Option<packed::Searcher>,
    long: Option<Grams>,
}

impl Gate {
    const MAX_TEXTS: usize = 192;
    /// The library finds so few without looking at much else.
    const MAX_SHORT: usize = 8;
    /// So many bytes are searched otherwise before such a search has begun.
    const LEAST_BYTES: usize = 64;

    /// `None` if there are too many texts.
    fn build(texts: &[(FactId, &[u8])]) -> Option<Self> {
        if texts.len() > Self::MAX_TEXTS {
            return None;
        }
        let mut texts = texts.to_vec();
        texts.sort_by_key(|(_, text)| text.len());
        let (short, long) = texts.split_at(texts.len().min(Self::MAX_SHORT));
        let short = match short {
            [] => None,
            short => Some(packed::Searcher::new(short.iter().map(|(_, text)| text))?),
        };
        Some(Self {
            short,
            long: (!long.is_empty()).then(|| Grams::build(long)),
        })
    }

    /// Never for a text so short that to go through it is cheaper than to ask.
    fn is_shut(&self, text: &[u8]) -> bool {
        let Some(short) = &self.short else {
            return true;
        };
        let occurs = |long: &Grams| long.is_match(text);
        text.len() >= Self::LEAST_BYTES
            && short.find(text).is_none()
            && !self.long.as_ref().is_some_and(occurs)
    }
}

impl Machine {
    /// `None` for no texts and for too many.
    fn build(texts: &[&[u8]], speed: Speed) -> Option<Self> {
        if texts.is_empty() {
            return None;
        }
        if speed == Speed::Fast && texts.len() <= MAX_EACH {
            let finders = texts.iter().map(|text| Finder::new(text).into_owned());
            return Some(Self::Each(finders.collect()));
        }
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
