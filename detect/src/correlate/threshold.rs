//! Rules that fire when enough was seen of a group.

use std::hash::RandomState;

use event::Finding;

use super::fixed::Panes;
use super::sliding::Samples;
use super::store::{Store, Weigh};
use super::{MAX_EVIDENCE, Match, hash_of, hash_one};
use crate::catalog::FieldSet;
use crate::eval;
use crate::finding::{Circumstances, absent, finding, text};
use crate::rule::Output;
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
    pub(super) fn on_match(
        &mut self,
        threshold: &Threshold,
        now: u64,
        hasher: &RandomState,
        found: &Match<'_>,
    ) -> Option<Finding> {
        let since = now.saturating_sub(threshold.window.size());
        self.groups
            .expire(now.saturating_sub(threshold.window.memory()));
        let key = hash_of(&threshold.keys[found.clause], &found.view, hasher);
        let group = self.groups.take(key);
        let mut group = group.unwrap_or_else(|| Group::new(threshold.window));
        let readings = readings(threshold, found, hasher);
        let fired = group.add(threshold, now, found.leaf_index, &readings);
        group.absent = group.absent.union(absent(found));
        let absent = group.absent;
        self.groups.put(key, now, group);
        let circumstances = |fired: &Fired| Circumstances {
            evidence: fired.evidence.clone(),
            incomplete: self.incomplete(fired.capped, since),
            absent,
        };
        fired.map(|fired| {
            finding(found, circumstances(&fired), |_, output| match output {
                Output::Aggregate(index) => fired.values[*index].map(|number| number.to_string()),
                Output::Scalar(value) => text(value, &found.view),
            })
        })
    }

    fn incomplete(&self, capped: bool, since: u64) -> Vec<String> {
        let evicted = self.groups.evicted_since(since);
        let reasons = [
            (capped, "more was seen than one group counts"),
            (evicted, "groups were forgotten for want of memory"),
        ];
        let met = reasons.into_iter().filter(|(met, _)| *met);
        met.map(|(_, reason)| reason.to_owned()).collect()
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
        }
    }

    fn add(
        &mut self,
        threshold: &Threshold,
        now: u64,
        leaf_index: u64,
        readings: &[Option<Reading>],
    ) -> Option<Fired> {
        match (&mut self.seen, threshold.window) {
            (Seen::Panes(panes), Window::Fixed { slide, size }) => {
                panes.add(threshold, (slide, size), now, leaf_index, readings)
            }
            (Seen::Samples(samples), Window::Sliding { size }) => {
                samples.add(threshold, size, now, leaf_index, readings)
            }
            // A rule has one kind of window.
            _ => None,
        }
    }
}

impl Weigh for Group {
    fn bytes(&self) -> usize {
        size_of::<FieldSet>()
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

fn readings(
    threshold: &Threshold,
    found: &Match<'_>,
    hasher: &RandomState,
) -> Vec<Option<Reading>> {
    let aggregates = threshold.aggregates.iter();
    aggregates
        .map(|aggregate| {
            let input = &aggregate.inputs[found.clause];
            reading(aggregate.function, input, &found.view, hasher)
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

/// The first leaves and the last one.
pub(super) fn evidence(leaves: impl Iterator<Item = u64>, last: u64) -> Vec<u64> {
    let before = leaves.filter(|leaf| *leaf != last).take(MAX_EVIDENCE - 1);
    before.chain([last]).collect()
}
