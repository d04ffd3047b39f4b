//! Rules that fire when events follow each other.
//!
//! A sequence that has begun waits for its next step under the values that step must equal. Of
//! those that wait for the same and need the same of later steps, one whose events are all older
//! than another's finds nothing that the other does not, bounds in time being upper bounds, and is
//! not kept. So every event that completes some sequence is found, and the rule fires once for it.
//! All sequences that waited where this one waited are then forgotten.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::store::{ALLOCATION_BYTES, Store, Weigh};
use super::threshold::add_new;
use super::{AllCompleted, Arrival, Completed, Computed, MAX_EVIDENCE, hash_one};
use crate::catalog::FieldSet;
use crate::eval;
use crate::finding::{Circumstances, absent, text};
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
    /// The event that completed a sequence last: it takes no other part in one.
    completed_by: Option<u64>,
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
pub(super) struct Taken {
    time: u64,
    leaf_index: u64,
    /// Where it is what another trigger found.
    before: Vec<u64>,
    incomplete: Vec<String>,
    /// What later steps must equal, by the order of all equalities.
    values: Vec<(usize, u64)>,
    /// What the rule selects of it, by position.
    selected: Vec<(usize, String)>,
    absent: FieldSet,
}

impl SequenceState {
    pub(super) fn on_arrivals(
        &mut self,
        sequence: &Sequence,
        arrivals: &[Arrival<'_, '_>],
    ) -> AllCompleted {
        let arrivals = arrivals.iter().enumerate();
        let completed = arrivals.filter_map(|(by, arrival)| {
            let completed = self.on_arrival(sequence, *arrival)?;
            Some((by, completed))
        });
        completed.collect()
    }

    fn on_arrival(&mut self, sequence: &Sequence, arrival: Arrival<'_, '_>) -> Option<Completed> {
        if self.completed_by == Some(arrival.event) {
            return None;
        }
        let longest = sequence.longest();
        self.waiting.expire(arrival.now.saturating_sub(longest));
        let before = self.before(sequence, arrival)?;
        if sequence.step(arrival.clause).0 + 1 < sequence.steps.len() {
            self.go_on(before, sequence, arrival);
            return None;
        }
        let newest = before.into_iter().max_by_key(Begun::newest_first)?;
        if !arrival.repeats {
            for key in &newest.keys {
                self.waiting.take(*key);
            }
        }
        self.completed_by = Some(arrival.event);
        Some(self.completed(sequence, newest, arrival))
    }

    /// The sequences that the event goes on with; an empty one for the first step.
    fn before(&self, sequence: &Sequence, arrival: Arrival<'_, '_>) -> Option<Vec<Begun>> {
        let (position, clause) = sequence.step(arrival.clause);
        if position == 0 {
            return Some(vec![Begun::default()]);
        }
        let (step, hasher) = (&sequence.steps[position], arrival.hasher);
        let own = step.equalities.iter().map(|equality| {
            let value = eval::scalar(&equality.own[clause], &arrival.found.view)?;
            Some(hash_one(&value, hasher))
        });
        let own: Vec<u64> = own.collect::<Option<_>>()?;
        let waiting = self.waiting.get(hasher.hash_one((position, own)))?;
        let in_time = |begun: &&Begun| {
            let mut bounds = step.within.iter();
            bounds.all(|(earlier, bound)| arrival.now - begun.taken[*earlier].time <= *bound)
        };
        Some(waiting.0.iter().filter(in_time).cloned().collect())
    }

    fn go_on(&mut self, before: Vec<Begun>, sequence: &Sequence, arrival: Arrival<'_, '_>) {
        let Some(taken) = take(sequence, arrival).map(Arc::new) else {
            return;
        };
        let (now, hasher) = (arrival.now, arrival.hasher);
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

    fn completed(&self, sequence: &Sequence, before: Begun, arrival: Arrival<'_, '_>) -> Completed {
        let span: u64 = sequence
            .steps
            .iter()
            .filter_map(|s| s.within.first())
            .map(|w| w.1)
            .sum();
        let since = arrival.now.saturating_sub(span);
        let evicted = self.waiting.evicted_since(since);
        let evicted = evicted.then(|| "sequences were forgotten for want of memory".to_owned());
        let taken = before.taken.iter();
        let mut incomplete = Vec::new();
        for reasons in taken.clone().map(|taken| &taken.incomplete) {
            add_new(&mut incomplete, reasons.iter().cloned());
        }
        let last = arrival.inner;
        let reasons = last.incomplete.iter().cloned();
        add_new(&mut incomplete, reasons.chain(evicted));
        let absent = absent(arrival.found).union(last.absent);
        Completed {
            circumstances: Circumstances {
                evidence: evidence(&before, arrival),
                incomplete,
                absent: taken.fold(absent, |all, taken| all.union(taken.absent)),
            },
            computed: Computed::Taken(before.taken),
        }
    }

    /// Sequences, bytes, and sequences evicted so far.
    pub(super) fn memory(&self) -> (usize, usize, u64) {
        self.waiting.memory()
    }
}

/// Of every step, the last event, and of what was found by others as much more as there is room.
fn evidence(before: &Begun, arrival: Arrival<'_, '_>) -> Vec<u64> {
    let taken = before.taken.iter();
    let mut last: Vec<u64> = taken.clone().map(|taken| taken.leaf_index).collect();
    last.push(arrival.found.leaf_index);
    let more = taken.flat_map(|taken| &taken.before);
    let mut evidence = Vec::new();
    for leaf in more.chain(&arrival.inner.evidence) {
        let full = evidence.len() + last.len() >= MAX_EVIDENCE;
        if !full && !last.contains(leaf) && !evidence.contains(leaf) {
            evidence.push(*leaf);
        }
    }
    if evidence.is_empty() {
        return last;
    }
    evidence.append(&mut last);
    evidence.sort_unstable();
    evidence.dedup();
    evidence
}

/// What is kept of the event; nothing if a later step must equal `NULL`, which nothing does.
fn take(sequence: &Sequence, arrival: Arrival<'_, '_>) -> Option<Taken> {
    let (step, clause) = sequence.step(arrival.clause);
    let view = &arrival.found.view;
    let needed = sequence.equalities().enumerate();
    let needed = needed.filter(|(_, (_, equality))| equality.earlier == step);
    let values = needed.map(|(index, (_, equality))| {
        let value = eval::scalar(&equality.other[clause], view)?;
        Some((index, hash_one(&value, arrival.hasher)))
    });
    let selected = arrival.select.iter().enumerate();
    let selected = selected.filter_map(|(index, selected)| match &selected.output {
        Output::Scalar(value) if selected.clause == step => Some((index, cut(text(value, view)?))),
        _ => None,
    });
    Some(Taken {
        time: arrival.now,
        leaf_index: arrival.found.leaf_index,
        before: arrival.inner.evidence.clone(),
        incomplete: arrival.inner.incomplete.clone(),
        values: values.collect::<Option<_>>()?,
        selected: selected.collect(),
        absent: absent(arrival.found).union(arrival.inner.absent),
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
    pub(super) fn selected(&self, index: usize) -> Option<String> {
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
        let reasons = self.incomplete.iter();
        let reasons = reasons.map(|r| r.capacity() + size_of::<String>() + ALLOCATION_BYTES);
        let lists = 16 * self.values.capacity()
            + 32 * self.selected.capacity()
            + 8 * self.before.capacity();
        let texts = texts.chain(reasons).sum::<usize>();
        size_of::<Self>() + lists + texts + 5 * ALLOCATION_BYTES
    }
}
