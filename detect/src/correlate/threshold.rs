//! Rules that fire when enough was seen of a group.

use std::hash::RandomState;

use super::fixed::Panes;
use super::sliding::Samples;
use super::store::{Store, Weigh};
use super::{AllCompleted, Arrival, Completed, Computed, MAX_EVIDENCE, hash_of, hash_one};
use crate::catalog::FieldSet;
use crate::eval;
use crate::finding::{Circumstances, absent};
use crate::trigger::{AggregateFunction, Input, Number, Threshold, Window};
use crate::view::{Value, View};

/// What one rule remembers.
#[derive(Debug, Default)]
pub(super) struct ThresholdState {
    groups: Store<Group>,
}

#[derive(Debug)]
struct Group {
    seen: Seen,
    /// Columns that one of the events could not fill.
    absent: FieldSet,
    /// What other triggers said of what they found.
    incomplete: Vec<String>,
}

/// A group of an event.
struct Touched {
    key: u64,
    group: Group,
    /// The last of the event's arrivals that is in it.
    last: usize,
}

#[derive(Debug)]
enum Seen {
    Panes(Panes),
    Samples(Samples),
}

/// What an event gives to an aggregate.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reading {
    Event,
    Number(i128),
    /// Of a value of which only difference matters.
    Hash(u64),
}

/// A window of which the condition became true.
pub(super) struct Fired {
    /// Of the aggregates.
    pub(super) values: Vec<Option<Number>>,
    pub(super) evidence: Vec<u64>,
    /// Not all was counted.
    pub(super) capped: bool,
}

impl ThresholdState {
    pub(super) fn on_arrivals(
        &mut self,
        threshold: &Threshold,
        arrivals: &[Arrival<'_, '_>],
    ) -> AllCompleted {
        let mut completed = Vec::new();
        for touched in self.take_touched(threshold, arrivals) {
            let Touched {
                key,
                mut group,
                last,
            } = touched;
            let arrival = arrivals[last];
            let fired = group.fires(threshold, arrival);
            let told = fired.map(|fired| (fired, group.absent, group.incomplete.clone()));
            self.groups.put(key, arrival.now, group);
            completed.extend(told.map(|(fired, absent, mut incomplete)| {
                let since = arrival.now.saturating_sub(threshold.window.size());
                add_new(&mut incomplete, self.incomplete(fired.capped, since));
                let found = Completed {
                    circumstances: Circumstances {
                        evidence: fired.evidence,
                        incomplete,
                        absent,
                    },
                    computed: Computed::Aggregates(fired.values),
                };
                (last, found)
            }));
        }
        completed
    }

    /// Takes out the groups of the arrivals, which are in them then.
    fn take_touched(
        &mut self,
        threshold: &Threshold,
        arrivals: &[Arrival<'_, '_>],
    ) -> Vec<Touched> {
        let mut touched: Vec<Touched> = Vec::new();
        for (last, arrival) in arrivals.iter().enumerate() {
            let window = threshold.window;
            self.groups
                .expire(arrival.now.saturating_sub(window.memory()));
            let keys = &threshold.keys[arrival.clause];
            let key = hash_of(keys, &arrival.found.view, arrival.hasher);
            let before = touched.iter().position(|touched| touched.key == key);
            let mut group = match before {
                Some(at) => touched.remove(at).group,
                None => {
                    let kept = self.groups.take(key);
                    kept.unwrap_or_else(|| Group::new(window))
                }
            };
            group.add(threshold, *arrival);
            group.note(*arrival);
            touched.push(Touched { key, group, last });
        }
        touched
    }

    fn incomplete(&self, capped: bool, since: u64) -> impl Iterator<Item = String> {
        let evicted = self.groups.evicted_since(since);
        let reasons = [
            (capped, "more was seen than one group counts"),
            (evicted, "groups were forgotten for want of memory"),
        ];
        let met = reasons.into_iter().filter(|(met, _)| *met);
        met.map(|(_, reason)| reason.to_owned())
    }

    /// Groups, bytes, and groups evicted so far.
    pub(super) fn memory(&self) -> (usize, usize, u64) {
        self.groups.memory()
    }
}

impl Group {
    fn new(window: Window) -> Self {
        Self {
            seen: match window {
                Window::Fixed { .. } => Seen::Panes(Panes::default()),
                Window::Sliding { .. } => Seen::Samples(Samples::default()),
            },
            absent: FieldSet::default(),
            incomplete: Vec::new(),
        }
    }

    fn add(&mut self, threshold: &Threshold, arrival: Arrival<'_, '_>) {
        let readings = readings(threshold, arrival);
        let (now, leaf_index) = (arrival.now, arrival.found.leaf_index);
        match (&mut self.seen, threshold.window) {
            (Seen::Panes(panes), Window::Fixed { slide, size }) => {
                panes.add((slide, size), now, leaf_index, &readings);
            }
            (Seen::Samples(samples), Window::Sliding { size }) => {
                let leaves = Leaves {
                    last: leaf_index,
                    before: &arrival.inner.evidence,
                };
                samples.add(size, now, leaves, &readings);
            }
            // A rule has one kind of window.
            _ => {}
        }
    }

    /// Whether a window fires with the event that was added last.
    fn fires(&mut self, threshold: &Threshold, arrival: Arrival<'_, '_>) -> Option<Fired> {
        let (now, leaf_index) = (arrival.now, arrival.found.leaf_index);
        match (&mut self.seen, threshold.window) {
            (Seen::Panes(panes), Window::Fixed { slide, size }) => {
                panes.fires(threshold, (slide, size), now, leaf_index)
            }
            (Seen::Samples(samples), Window::Sliding { size }) => {
                if arrival.repeats {
                    samples.end_quiet();
                }
                samples.fires(threshold, size, now, leaf_index)
            }
            _ => None,
        }
    }

    /// Takes what is to be said of the event.
    fn note(&mut self, arrival: Arrival<'_, '_>) {
        let absent = absent(arrival.found).union(arrival.inner.absent);
        self.absent = self.absent.union(absent);
        add_new(
            &mut self.incomplete,
            arrival.inner.incomplete.iter().cloned(),
        );
    }
}

/// Adds what is not there.
pub(super) fn add_new(reasons: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for reason in more {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
}

impl Weigh for Group {
    fn bytes(&self) -> usize {
        let reasons = self.incomplete.iter();
        size_of::<FieldSet>()
            + size_of::<Vec<String>>()
            + reasons
                .map(|r| size_of::<String>() + r.len())
                .sum::<usize>()
            + match &self.seen {
                Seen::Panes(panes) => panes.bytes(),
                Seen::Samples(samples) => samples.bytes(),
            }
    }
}

impl Reading {
    /// For sums and for telling values apart.
    pub(super) fn value(self) -> Option<i128> {
        match self {
            Self::Event => None,
            Self::Number(number) => Some(number),
            Self::Hash(hash) => Some(hash.into()),
        }
    }
}

fn readings(threshold: &Threshold, arrival: Arrival<'_, '_>) -> Vec<Option<Reading>> {
    let aggregates = threshold.aggregates.iter();
    aggregates
        .map(|aggregate| {
            let input = &aggregate.inputs[arrival.clause];
            let view = &arrival.found.view;
            reading(aggregate.function, input, view, arrival.hasher)
        })
        .collect()
}

/// `None` where the event gives nothing: its value is `NULL`, or the filter is not true.
fn reading(
    function: AggregateFunction,
    input: &Input,
    view: &View<'_>,
    hasher: &RandomState,
) -> Option<Reading> {
    if let Some(filter) = &input.filter
        && eval::predicate(filter, view) != Some(true)
    {
        return None;
    }
    let Some(value) = &input.value else {
        return Some(Reading::Event);
    };
    match (function, eval::scalar(value, view)?) {
        (AggregateFunction::Count, _) => Some(Reading::Event),
        (AggregateFunction::CountDistinct, value) => Some(Reading::Hash(hash_one(&value, hasher))),
        (_, Value::Int(number)) => Some(Reading::Number(number)),
        _ => None,
    }
}

/// The leaves of one event, or of what another trigger found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaves<'a> {
    pub(super) last: u64,
    pub(super) before: &'a [u64],
}

/// The first leaves and the last one.
pub(super) fn evidence(leaves: impl Iterator<Item = u64>, last: u64) -> Vec<u64> {
    let mut evidence = Vec::new();
    for leaf in leaves.filter(|leaf| *leaf != last) {
        if evidence.len() + 1 == MAX_EVIDENCE {
            break;
        }
        if !evidence.contains(&leaf) {
            evidence.push(leaf);
        }
    }
    evidence.push(last);
    evidence
}
