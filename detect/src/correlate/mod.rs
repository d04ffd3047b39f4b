//! What rules that look at several events remember between them: bounded, and by event time only.
//!
//! Time is the kernel's time since boot (`Header::time`): setting the clock of the host neither
//! opens nor closes a window, and a recording gives the same findings as the live stream. It only
//! moves forward here: what arrives late counts as of the latest time seen. Nothing is remembered
//! beyond a boot.
//!
//! `store.rs` bounds the memory of one rule; `fixed.rs` and `sliding.rs` hold what was seen of one
//! group in windows of either kind, `sequence.rs` the sequences that have begun. `chain.rs` is for
//! rules on what others found.

mod chain;
mod fixed;
mod sequence;
mod sliding;
mod store;
mod threshold;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use event::{BootId, Event, Finding};

use crate::catalog::FieldSet;
use crate::eval;
use crate::finding::{Circumstances, RuleText, finding, text};
use crate::ir::Scalar;
use crate::rule::{Output, Rule, RuleSet, Selected};
use crate::trigger::Number;
use crate::view::{Value, View};
use chain::TriggerState;
use sequence::Taken;

pub(crate) use fixed::MAX_DISTINCT;
pub(crate) use sliding::MAX_SAMPLES;

/// Leaf indices in one finding.
const MAX_EVIDENCE: usize = 32;

/// What all rules of one matcher remember.
#[derive(Debug, Default)]
pub(crate) struct State {
    boot: BootId,
    /// Latest time seen, in ns since boot.
    now: u64,
    /// Number of events so far.
    events: u64,
    /// By position of the rule.
    triggers: HashMap<usize, TriggerState>,
    /// Seeded, so that nobody can choose values that look the same.
    hasher: RandomState,
}

/// What one rule that looks at several events remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// The rule.
    pub rule_id: String,
    /// Groups, or unfinished sequences.
    pub entries: usize,
    /// About how much memory they take, in bytes.
    pub bytes: usize,
    /// Groups or sequences that were given up for want of memory since the start.
    pub evicted: u64,
}

/// An event that satisfies a clause of a rule.
pub(crate) struct Match<'m> {
    pub(crate) rule: &'m Rule,
    pub(crate) text: &'m RuleText,
    pub(crate) clause: usize,
    /// What decides about the clause.
    pub(crate) deciding: FieldSet,
    /// Of these columns, those that decided about the event.
    pub(crate) matched: FieldSet,
    pub(crate) event: &'m Event,
    pub(crate) view: View<'m>,
    pub(crate) leaf_index: u64,
}

/// What a trigger is given: an event, or what another trigger found when the event completed it.
#[derive(Clone, Copy)]
struct Arrival<'a, 'm> {
    found: &'a Match<'m>,
    /// Among the trigger's own.
    clause: usize,
    /// What a finding will show; nothing where it will only be given to another trigger.
    select: &'a [Selected],
    /// Of what the other trigger found; empty for an event.
    inner: &'a Circumstances,
    /// No time is quiet, and nothing is forgotten for having fired.
    repeats: bool,
    now: u64,
    /// Number of the event.
    event: u64,
    hasher: &'a RandomState,
}

/// What triggers found of the arrivals of one event, each with the position of that which completed
/// it. A trigger is given all arrivals of an event at once, since conditions are asked of events:
/// `a and not b` does not hold where the same event satisfies both.
type AllCompleted = Vec<(usize, Completed)>;

/// What a trigger found.
struct Completed {
    circumstances: Circumstances,
    computed: Computed,
}

/// What a finding can show besides the event that completed it.
enum Computed {
    Aggregates(Vec<Option<Number>>),
    /// Events of earlier steps.
    Taken(Vec<Arc<Taken>>),
}

impl Completed {
    fn finding(self, found: &Match<'_>) -> Finding {
        let computed = self.computed;
        finding(found, self.circumstances, |index, output| {
            match (&computed, output) {
                (Computed::Aggregates(values), Output::Aggregate(index)) => {
                    values[*index].map(|number| number.to_string())
                }
                (Computed::Aggregates(_), Output::Scalar(value)) => text(value, &found.view),
                (Computed::Taken(taken), output) => {
                    let step = found.rule.select[index].clause;
                    match (taken.get(step), output) {
                        (Some(taken), _) => taken.selected(index),
                        (None, Output::Scalar(value)) => text(value, &found.view),
                        (None, Output::Aggregate(_)) => None,
                    }
                }
            }
        })
    }
}

impl State {
    /// Takes the time of an event, before its matches.
    pub(crate) fn advance(&mut self, event: &Event) {
        if event.header.boot != self.boot {
            self.boot = event.header.boot;
            self.now = 0;
            self.triggers.clear();
        }
        self.events += 1;
        self.now = self.now.max(event.header.time.0);
    }

    /// Takes all matches of one event with the rule at `position`; appends what they complete.
    pub(crate) fn on_matches(
        &mut self,
        position: usize,
        matches: &[Match<'_>],
        out: &mut Vec<Finding>,
    ) {
        let Some(Match { rule, .. }) = matches.first() else {
            return;
        };
        let state = self.triggers.entry(position);
        let state = state.or_insert_with(|| TriggerState::new(&rule.trigger));
        let nothing = Circumstances::default();
        let arrivals = matches.iter().map(|found| Arrival {
            found,
            clause: found.clause,
            select: &rule.select,
            inner: &nothing,
            repeats: false,
            now: self.now,
            event: self.events,
            hasher: &self.hasher,
        });
        let completed = state.on_arrivals(&rule.trigger, &arrivals.collect::<Vec<_>>());
        let findings = completed.into_iter();
        out.extend(findings.map(|(by, completed)| completed.finding(&matches[by])));
    }

    /// Other rules take the place of these. What those of the same id and meaning remember stays.
    pub(crate) fn carry_over(&mut self, from: &RuleSet, to: &RuleSet) {
        let mut triggers = std::mem::take(&mut self.triggers);
        let before: HashMap<&str, (usize, &Rule)> = (0..)
            .zip(from.rules())
            .map(|(position, rule)| (rule.id.as_str(), (position, rule)))
            .collect();
        for (position, rule) in to.rules().iter().enumerate() {
            if let Some((old, before)) = before.get(rule.id.as_str())
                && before.means_the_same(rule)
            {
                let state = triggers.remove(old).map(|state| (position, state));
                self.triggers.extend(state);
            }
        }
    }

    /// What each rule remembers that has anything to remember, in the order of the rules.
    pub(crate) fn memory(&self, rules: &RuleSet) -> Vec<Memory> {
        let of = |(position, rule): (usize, &Rule)| {
            let (entries, bytes, evicted) = self.triggers.get(&position)?.memory();
            Some(Memory {
                rule_id: rule.id.clone(),
                entries,
                bytes,
                evicted,
            })
        };
        rules.rules().iter().enumerate().filter_map(of).collect()
    }
}

/// Stands for the values in memory; equal values have equal hashes, and `NULL`s are equal.
pub(crate) fn hash_of(values: &[Scalar], view: &View<'_>, hasher: &RandomState) -> u64 {
    let mut state = hasher.build_hasher();
    for value in values {
        match eval::scalar(value, view) {
            None => state.write_u8(0),
            Some(value) => hash_value(&value, &mut state),
        }
    }
    state.finish()
}

/// Stands for one value.
fn hash_one(value: &Value<'_>, hasher: &RandomState) -> u64 {
    let mut state = hasher.build_hasher();
    hash_value(value, &mut state);
    state.finish()
}

fn hash_value(value: &Value<'_>, state: &mut impl Hasher) {
    match value {
        Value::Text(text) => (1, text.as_ref()).hash(state),
        Value::Int(number) => (2, number).hash(state),
        Value::Bool(truth) => (3, truth).hash(state),
        Value::List(argv) => (4, argv.as_block().as_ref()).hash(state),
        Value::Ancestors(ancestors) => {
            for element in ancestors.iter() {
                5.hash(state);
                element
                    .iter()
                    .for_each(|element| hash_value(element, state));
            }
        }
    }
}
