//! Runs a program on one event.

use super::atom::{Atom, AtomId, Test};
use super::build::Program;
use super::fact::GROUPS;
use super::lookup::FactId;
use super::node::{Children, Node, NodeId};
use super::row::Row;
use crate::catalog::FieldSet;
use crate::eval::{self, Truth};
use crate::view::View;

/// A clause that the present event satisfies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Satisfied {
    /// Its number outside.
    pub(crate) clause: u32,
    /// The columns that decided, see [`eval::deciding`].
    pub(crate) matched: FieldSet,
}

/// What is known of the present event. Kept between events, so that matching allocates nothing once
/// it has grown. Entries carry the number of the event for which they hold, so nothing has to be
/// erased between events.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    event: u32,
    row: Row,
    /// By fact: the event in which it was last seen.
    facts: Vec<u32>,
    /// By atom: the event for which it was last decided, shifted, and its truth.
    atoms: Vec<u32>,
    /// By the first of its children, for each list: the position of the one that settled it last.
    /// Programs share this; it is an order in which to ask and nothing more.
    settled_by: Vec<u16>,
    /// Group after group, a bit for each clause: one of its facts was seen.
    seen: Vec<u64>,
}

/// Bits of [`Memo::atoms`] that hold the truth.
const TRUTH_BITS: u32 = 2;
const FALSE: u32 = 0;
const TRUE: u32 = 1;
const UNKNOWN: u32 = 2;

impl Memo {
    fn begin(&mut self, program: &Program) {
        self.event += 1;
        if self.event >> (u32::BITS - TRUTH_BITS) != 0 {
            self.facts.fill(0);
            self.atoms.fill(0);
            self.event = 1;
        }
        self.facts
            .resize(program.fact_count.max(self.facts.len()), 0);
        self.atoms
            .resize(program.atoms.len().max(self.atoms.len()), 0);
        // One more, for an empty list behind all others.
        let lists = program.children.len() + 1;
        self.settled_by.resize(lists.max(self.settled_by.len()), 0);
    }

    /// True the first time.
    fn see(&mut self, fact: FactId) -> bool {
        let last = &mut self.facts[fact as usize];
        std::mem::replace(last, self.event) != self.event
    }

    fn has_seen(&self, fact: FactId) -> bool {
        self.facts[fact as usize] == self.event
    }

    fn decided(&self, atom: AtomId) -> Option<Truth> {
        let entry = self.atoms[atom as usize];
        (entry >> TRUTH_BITS == self.event).then_some(match entry & ((1 << TRUTH_BITS) - 1) {
            FALSE => Some(false),
            TRUE => Some(true),
            _ => None,
        })
    }

    fn decide(&mut self, atom: AtomId, truth: Truth) {
        let truth = match truth {
            Some(false) => FALSE,
            Some(true) => TRUE,
            None => UNKNOWN,
        };
        self.atoms[atom as usize] = self.event << TRUTH_BITS | truth;
    }
}

impl Program {
    /// Appends the clauses that `view` satisfies, in their order. All memos may be shared between
    /// programs as long as each call is followed through.
    pub(crate) fn run(&self, view: &View<'_>, memo: &mut Memo, satisfied: &mut Vec<Satisfied>) {
        if self.is_empty() {
            return;
        }
        memo.begin(self);
        memo.row.fill(view, &self.slots, self.read);
        self.look_up(view, memo);
        for word in 0..self.words {
            let bits = self.candidates(&memo.seen, &[], word);
            for position in positions(word, bits) {
                let clause = &self.clauses[position];
                if self.truth(clause.root, view, memo) == Some(true) {
                    let mut matched = FieldSet::default();
                    self.deciding(clause.root, Some(true), view, memo, &mut matched);
                    satisfied.push(Satisfied {
                        clause: clause.clause,
                        matched,
                    });
                }
            }
        }
    }

    fn look_up(&self, view: &View<'_>, memo: &mut Memo) {
        memo.seen.clear();
        memo.seen.extend_from_slice(&self.preset);
        self.digests.find(view, |fact| self.note(fact, memo));
        // Taken out so that facts can be noted while the texts are read.
        let row = std::mem::take(&mut memo.row);
        let mut unfinished = 0u128;
        for (number, lookup) in self.lookups.iter().enumerate() {
            if let Some(text) = row.text(lookup.slot)
                && !lookup.of.find(text, |fact| self.note(fact, memo))
            {
                unfinished |= 1 << number;
            }
        }
        if unfinished != 0 {
            self.look_up_rest(unfinished & self.needed(memo), &row, memo);
        }
        memo.row = row;
    }

    /// `needed` has a bit for each lookup.
    fn look_up_rest(&self, needed: u128, row: &Row, memo: &mut Memo) {
        for (number, lookup) in self.lookups.iter().enumerate() {
            if needed >> number & 1 == 1
                && let Some(text) = row.text(lookup.slot)
            {
                lookup.of.find_rest(text, |fact| self.note(fact, memo));
            }
        }
    }

    /// A bit for each lookup: a clause that nothing looked for so far rules out needs the rest.
    fn needed(&self, memo: &Memo) -> u128 {
        let left = (0..self.words).flat_map(|word| {
            let bits = self.candidates(&memo.seen, &self.open, word);
            positions(word, bits)
        });
        left.fold(0, |needed, clause| needed | self.needs[clause])
    }

    fn note(&self, fact: FactId, memo: &mut Memo) {
        if memo.see(fact) {
            for (word, bits) in self.marks.of(fact) {
                memo.seen[*word as usize] |= bits;
            }
        }
    }

    /// Clauses of which every group was seen, or is in `open`.
    fn candidates(&self, seen: &[u64], open: &[u64], word: usize) -> u64 {
        let group = |group: usize| {
            let at = group * self.words + word;
            seen[at] | open.get(at).copied().unwrap_or(0)
        };
        (0..GROUPS).fold(u64::MAX, |bits, number| bits & group(number))
    }

    /// [`eval::deciding`] of a node that has this truth; mostly of atoms that are decided already.
    fn deciding(
        &self,
        node: NodeId,
        truth: Truth,
        view: &View<'_>,
        memo: &mut Memo,
        into: &mut FieldSet,
    ) {
        match self.nodes[node as usize] {
            Node::Atom(_) | Node::Seen(..) => *into = into.union(self.fields_below[node as usize]),
            Node::And(children) | Node::Or(children) => {
                for child in self.children_of(children) {
                    let adds = self.fields_below[*child as usize].without(*into);
                    if !adds.is_empty() && self.truth(*child, view, memo) == truth {
                        self.deciding(*child, truth, view, memo, into);
                    }
                }
            }
            Node::Not(inner) => {
                let truth = truth.map(|truth| !truth);
                self.deciding(inner, truth, view, memo, into);
            }
            Node::Is(inner, _) => {
                let truth = self.truth(inner, view, memo);
                self.deciding(inner, truth, view, memo, into);
            }
        }
    }

    fn truth(&self, node: NodeId, view: &View<'_>, memo: &mut Memo) -> Truth {
        match self.nodes[node as usize] {
            Node::Atom(atom) => self.atom(atom, view, memo),
            Node::Seen(slot, fact) => memo.row.is_known(slot).then(|| memo.has_seen(fact)),
            Node::And(children) => self.fold(children, view, memo, false),
            Node::Or(children) => self.fold(children, view, memo, true),
            Node::Not(inner) => self.truth(inner, view, memo).map(|truth| !truth),
            Node::Is(inner, truth) => Some(self.truth(inner, view, memo) == truth),
        }
    }

    /// `decisive` is the truth of one child that settles the whole. The one that settled it last
    /// time likely does again: of most rules, the same part rules out nearly all events.
    fn fold(&self, of: Children, view: &View<'_>, memo: &mut Memo, decisive: bool) -> Truth {
        let children = self.children_of(of);
        let last = usize::from(memo.settled_by[of.first as usize]);
        let last = if last < children.len() { last } else { 0 };
        let mut truth = Some(!decisive);
        for step in 0..children.len() {
            let position = match step {
                0 => last,
                step if step <= last => step - 1,
                step => step,
            };
            match self.truth(children[position], view, memo) {
                Some(found) if found == decisive => {
                    memo.settled_by[of.first as usize] = u16::try_from(position).unwrap_or(0);
                    return Some(decisive);
                }
                Some(_) => {}
                None => truth = None,
            }
        }
        truth
    }

    fn atom(&self, id: AtomId, view: &View<'_>, memo: &mut Memo) -> Truth {
        if let Some(truth) = memo.decided(id) {
            return truth;
        }
        let truth = decide(&self.atoms[id as usize], view, memo);
        memo.decide(id, truth);
        truth
    }
}

/// The clauses that bits of one word stand for.
fn positions(word: usize, mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let first = (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        first
    })
}

fn decide(atom: &Atom, view: &View<'_>, memo: &Memo) -> Truth {
    match atom {
        Atom::Test(test) => decide_test(test, view, memo),
        Atom::Guarded { slot, facts, test } => {
            if !memo.row.is_known(*slot) {
                return None;
            }
            if facts.iter().any(|fact| memo.has_seen(*fact)) {
                decide_test(test, view, memo)
            } else {
                Some(false)
            }
        }
    }
}

fn decide_test(test: &Test, view: &View<'_>, memo: &Memo) -> Truth {
    match test {
        Test::Folded { slot, shape } => memo.row.text(*slot).map(|text| shape.matches(text)),
        Test::AnyOf { slot, search } => memo.row.text(*slot).map(|text| search.is_match(text)),
        Test::Same(left, right) => {
            let (left, right) = (memo.row.text(*left)?, memo.row.text(*right)?);
            Some(left == right)
        }
        Test::Regex { field, needs, leaf } => match view.text(*field) {
            Some(text) if needs.rule_out(text) => Some(false),
            _ => eval::predicate(leaf, view),
        },
        Test::Leaf(leaf) => eval::predicate(leaf, view),
    }
}
