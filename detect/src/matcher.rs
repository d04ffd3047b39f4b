//! Events in, findings out.

use std::sync::Arc;

use event::{Event, Finding};

use crate::catalog::Stream;
use crate::correlate::{Match, Memory, State};
use crate::finding::finding_on_event;
use crate::program::{Cache, Memo, Satisfied};
use crate::rule::{Position, RuleSet};
use crate::trigger::Trigger;
use crate::view::{Scratch, View, stream_of};

/// Matches events against a rule set. Keeps buffers between events: an event that no rule matches
/// allocates nothing once they have grown.
#[derive(Debug)]
pub struct Matcher {
    rules: Arc<RuleSet>,
    buffers: Buffers,
}

/// What is kept between events.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    scratch: Scratch,
    memo: Memo,
    /// By stream; empty where nothing is to be remembered.
    caches: Vec<Cache>,
    /// Clauses that the event satisfies, by position.
    fired: Vec<Satisfied>,
    pub(crate) state: State,
}

impl Matcher {
    /// A matcher for these rules. It remembers results of events that look the same to all rules,
    /// in 8 MiB at most for each stream.
    #[must_use]
    pub fn new(rules: Arc<RuleSet>) -> Self {
        let mut matcher = Self::without_cache(rules);
        matcher.buffers.caches = Stream::ALL.map(|_| Cache::default()).into();
        matcher
    }

    /// A matcher that remembers nothing; for measurements.
    #[must_use]
    pub fn without_cache(rules: Arc<RuleSet>) -> Self {
        Self {
            rules,
            buffers: Buffers::default(),
        }
    }

    /// Events whose result was remembered, and events whose result was not.
    #[must_use]
    pub fn cache_hits_and_misses(&self) -> (u64, u64) {
        let caches = self.buffers.caches.iter();
        caches.fold((0, 0), |(hits, misses), c| {
            (hits + c.hits, misses + c.misses)
        })
    }

    /// Appends a finding for every rule that `event` satisfies, in the order of the rules.
    /// `leaf_index` is the event's own.
    pub fn on_event(&mut self, event: &Event, leaf_index: u64, out: &mut Vec<Finding>) {
        self.buffers.on_event(&self.rules, event, leaf_index, out);
    }

    /// From now on these rules hold, all at once. What counts or joins events and did not change
    /// goes on where it was.
    pub fn replace_rules(&mut self, rules: Arc<RuleSet>) {
        self.buffers.state.carry_over(&self.rules, &rules);
        self.rules = rules;
        self.buffers.caches.iter_mut().for_each(Cache::clear);
    }

    /// What each rule remembers that looks at several events and has seen some, in the order of the
    /// rules.
    #[must_use]
    pub fn memory(&self) -> Vec<Memory> {
        self.buffers.state.memory(&self.rules)
    }

    /// The rules that it matches.
    #[must_use]
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }
}

impl Buffers {
    pub(crate) fn on_event(
        &mut self,
        rules: &RuleSet,
        event: &Event,
        leaf_index: u64,
        out: &mut Vec<Finding>,
    ) {
        let Some(stream) = stream_of(event) else {
            return;
        };
        self.state.advance(event);
        let program = rules.program(stream);
        self.scratch.fill(event, program.computed);
        let Some(view) = View::new(event, &self.scratch) else {
            return;
        };
        self.fired.clear();
        let cache = self.caches.get_mut(stream as usize);
        program.run(&view, &mut self.memo, cache, &mut self.fired);
        let position = |satisfied: &Satisfied| rules.position(satisfied.clause as usize);
        let by_rule =
            |left: &Satisfied, right: &Satisfied| position(left).rule == position(right).rule;
        for clauses in self.fired.chunk_by(by_rule) {
            for satisfied in clauses {
                self.scratch.fill_more(event, position(satisfied).read);
            }
            // The last clause first, so that no event follows itself in a sequence.
            let matches = clauses.iter().rev().filter_map(|satisfied| {
                let Position {
                    rule,
                    clause,
                    deciding,
                    ..
                } = position(satisfied);
                Some(Match {
                    rule: &rules.rules()[rule],
                    text: rules.text(rule),
                    clause,
                    deciding,
                    matched: satisfied.matched,
                    event,
                    view: View::new(event, &self.scratch)?,
                    leaf_index,
                })
            });
            let rule = position(&clauses[0]).rule;
            match rules.rules()[rule].trigger {
                Trigger::Each => out.extend(matches.map(|found| finding_on_event(&found))),
                _ => self
                    .state
                    .on_matches(rule, &matches.collect::<Vec<_>>(), out),
            }
        }
    }
}
