//! Rules that fire when events follow each other.
//!
//! A sequence that has begun waits for its next step under the values that step must equal. Of
//! those that wait for the same and need the same of later steps, one whose events are all older
//! than another's finds nothing that the other does not, bounds in time being upper bounds, and is
//! not kept. So every event that completes some sequence is found, and the rule fires once for it.
//! All sequences that waited where this one waited are then forgotten.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use event::Finding;

use super::store::{ALLOCATION_BYTES, Store, Weigh};
use super::{Match, hash_one};
use crate::catalog::FieldSet;
use crate::eval;
use crate::finding::{Circumstances, absent, finding, text};
use crate::rule::Output;
use crate::trigger::Sequence;

/// Sequences that wait for the same.
const MAX_WAITING: usize = 16;

/// Longest text that is kept of an event for a finding that a later one completes.
const MAX_TEXT_BYTES: usize = 1024;

/// What one rule remembers.
#[derive(Debug, Default)]
pub(super) struct SequenceState {
    waiting: Store<Waiting>,
}

/// Sequences that wait for the same step and values.
#[derive(Debug, Default)]
struct Waiting(Vec<Begun>);

/// A sequence that waits for its next step.
#[derive(Debug, Clone, Default)]
struct Begun {
    /// One for each step so far.
    taken: Vec<Arc<Taken>>,
    /// For each step so far, the key under which the sequence that ends with it waits.
    keys: Vec<u64>,
    /// What steps after the next one must equal, as in [`Taken`].
    later: Vec<(usize, u64)>,
}

/// An event that took part.
#[derive(Debug)]
struct Taken {
    time: u64,
    leaf_index: u64,
    /// What later steps must equal, by the order of all equalities.
    values: Vec<(usize, u64)>,
    /// What the rule selects of it, by position.
    selected: Vec<(usize, String)>,
    absent: FieldSet,
}

impl SequenceState {
    pub(super) fn on_match(
        &mut self,
        sequence: &Sequence,
        now: u64,
        hasher: &RandomState,
        found: &Match<'_>,
    ) -> Option<Finding> {
        self.waiting.expire(now.saturating_sub(sequence.longest()));
        let before = self.before(sequence, now, hasher, found)?;
        if found.clause + 1 < sequence.steps.len() {
            self.go_on(before, sequence, now, hasher, found);
            return None;
        }
        let newest = before.into_iter().max_by_key(Begun::newest_first)?;
        for key in &newest.keys {
            self.waiting.take(*key);
        }
        Some(self.finding(sequence, now, &newest, found))
    }

    /// The sequences that the event goes on with; an empty one for the first step.
    fn before(
        &self,
        sequence: &Sequence,
        now: u64,
        hasher: &RandomState,
        found: &Match<'_>,
    ) -> Option<Vec<Begun>> {
        let step = &sequence.steps[found.clause];
        if found.clause == 0 {
            return Some(vec![Begun::default()]);
        }
        let own = step.equalities.iter().map(|equality| {
            let value = eval::scalar(&equality.own, &found.view)?;
            Some(hash_one(&value, hasher))
        });
        let own: Vec<u64> = own.collect::<Option<_>>()?;
        let waiting = self.waiting.get(hasher.hash_one((found.clause, own)))?;
        let in_time = |begun: &&Begun| {
            let mut bounds = step.within.iter();
            bounds.all(|(earlier, bound)| now - begun.taken[*earlier].time <= *bound)
        };
        Some(waiting.0.iter().filter(in_time).cloned().collect())
    }

    fn go_on(
        &mut self,
        before: Vec<Begun>,
        sequence: &Sequence,
        now: u64,
        hasher: &RandomState,
        found: &Match<'_>,
    ) {
        let Some(taken) = take(sequence, now, hasher, found).map(Arc::new) else {
            return;
        };
        for mut begun in before {
            begun.taken.push(Arc::clone(&taken));
            let key = begun.wait(sequence, hasher);
            let mut waiting = self.waiting.take(key).unwrap_or_default();
            if waiting.add(begun, now.saturating_sub(sequence.longest())) {
                self.waiting.count_evicted(now);
            }
            self.waiting.put(key, now, waiting);
        }
    }

    fn finding(&self, sequence: &Sequence, now: u64, before: &Begun, found: &Match<'_>) -> Finding {
        let taken = before.taken.iter();
        let leaves = taken.clone().map(|taken| taken.leaf_index);
        let span: u64 = sequence
            .steps
            .iter()
            .filter_map(|s| s.within.first())
            .map(|w| w.1)
            .sum();
        let evicted = self.waiting.evicted_since(now.saturating_sub(span));
        let circumstances = Circumstances {
            evidence: leaves.chain([found.leaf_index]).collect(),
            incomplete: Vec::from_iter(
                evicted.then(|| "sequences were forgotten for want of memory".to_owned()),
            ),
            absent: taken.fold(absent(found), |all, taken| all.union(taken.absent)),
        };
        finding(found, circumstances, |index, output| {
            let clause = found.rule.select[index].clause;
            match (before.taken.get(clause), output) {
                (Some(taken), _) => taken.selected(index),
                (None, Output::Scalar(value)) => text(value, &found.view),
                (None, Output::Aggregate(_)) => None,
            }
        })
    }

    /// Sequences, bytes, and sequences evicted so far.
    pub(super) fn memory(&self) -> (usize, usize, u64) {
        self.waiting.memory()
    }
}

/// What is kept of the event; nothing if a later step must equal `NULL`, which nothing does.
fn take(sequence: &Sequence, now: u64, hasher: &RandomState, found: &Match<'_>) -> Option<Taken> {
    let needed = sequence.equalities().enumerate();
    let needed = needed.filter(|(_, (_, equality))| equality.earlier == found.clause);
    let values = needed.map(|(index, (_, equality))| {
        let value = eval::scalar(&equality.other, &found.view)?;
        Some((index, hash_one(&value, hasher)))
    });
    let selected = found.rule.select.iter().enumerate();
    let selected = selected.filter_map(|(index, selected)| match &selected.output {
        Output::Scalar(value) if selected.clause == found.clause => {
            Some((index, cut(text(value, &found.view)?)))
        }
        _ => None,
    });
    Some(Taken {
        time: now,
        leaf_index: found.leaf_index,
        values: values.collect::<Option<_>>()?,
        selected: selected.collect(),
        absent: absent(found),
    })
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = text.floor_char_boundary(MAX_TEXT_BYTES);
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Waiting {
    /// Adds a sequence and drops what it makes needless; true if another one had to go for it.
    fn add(&mut self, new: Begun, since: u64) -> bool {
        self.0.retain(|old| {
            let alive = old.taken.last().is_some_and(|taken| taken.time >= since);
            alive && !new.finds_all_of(old)
        });
        let full = self.0.len() >= MAX_WAITING;
        if full {
            self.0.remove(0);
        }
        self.0.push(new);
        full
    }
}

impl Begun {
    /// Notes where it waits now, and returns it: the next step and the values that must equal.
    fn wait(&mut self, sequence: &Sequence, hasher: &RandomState) -> u64 {
        let next = self.taken.len();
        let (mut wanted, mut later) = (Vec::new(), Vec::new());
        for (index, (step, _)) in sequence.equalities().enumerate() {
            let mut values = self.taken.iter().flat_map(|taken| &taken.values);
            let value = values.find(|(other, _)| *other == index);
            match value {
                Some((_, value)) if step == next => wanted.push(*value),
                Some(value) if step > next => later.push(*value),
                _ => {}
            }
        }
        let key = hasher.hash_one((next, wanted));
        self.later = later;
        self.keys.push(key);
        key
    }

    /// Whatever would complete the other one, which waits for the same, completes this one.
    fn finds_all_of(&self, other: &Self) -> bool {
        let mut times = self.taken.iter().zip(&other.taken);
        self.later == other.later && times.all(|(mine, theirs)| mine.time >= theirs.time)
    }

    fn newest_first(&self) -> Vec<u64> {
        let taken = self.taken.iter().rev();
        taken.map(|taken| taken.leaf_index).collect()
    }
}

impl Taken {
    fn selected(&self, index: usize) -> Option<String> {
        let found = self.selected.iter().find(|(other, _)| *other == index);
        found.map(|(_, text)| text.clone())
    }
}

impl Weigh for Waiting {
    fn bytes(&self) -> usize {
        let places = self.0.capacity() * size_of::<Begun>();
        places + self.0.iter().map(Begun::bytes).sum::<usize>() + ALLOCATION_BYTES
    }
}

impl Begun {
    /// What it refers to. Events that several sequences share count for each.
    fn bytes(&self) -> usize {
        let lists = 8 * (self.taken.capacity() + self.keys.capacity()) + 16 * self.later.capacity();
        let taken = self.taken.iter().map(|taken| taken.bytes());
        lists + 3 * ALLOCATION_BYTES + taken.sum::<usize>()
    }
}

impl Taken {
    fn bytes(&self) -> usize {
        let texts = self
            .selected
            .iter()
            .map(|(_, text)| text.capacity() + ALLOCATION_BYTES);
        let lists = 16 * self.values.capacity() + 32 * self.selected.capacity();
        size_of::<Self>() + lists + texts.sum::<usize>() + 3 * ALLOCATION_BYTES
    }
}
