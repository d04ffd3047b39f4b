//! Events in, findings out.

use std::sync::Arc;

use event::{Event, Finding};

use crate::correlate::{Match, Memory, State};
use crate::finding::finding_on_event;
use crate::program::Memo;
use crate::rule::RuleSet;
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
    /// Clauses that the event satisfies, by position.
    fired: Vec<u32>,
    pub(crate) state: State,
}

impl Matcher {
    /// A matcher for these rules.
    #[must_use]
    pub fn new(rules: Arc<RuleSet>) -> Self {
        Self {
            rules,
            buffers: Buffers::default(),
        }
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
        self.scratch.fill(event, program.fields);
        let Some(view) = View::new(event, &self.scratch) else {
            return;
        };
        self.fired.clear();
        program.run(&view, &mut self.memo, &mut self.fired);
        for position in &self.fired {
            let (rule, clause) = rules.position(*position as usize);
            let (position, rule) = (rule, &rules.rules()[rule]);
            self.scratch.fill(event, rule.match_fields(clause));
            let Some(view) = View::new(event, &self.scratch) else {
                continue;
            };
            let found = Match {
                rule,
                clause,
                event,
                view,
                leaf_index,
            };
            match rule.trigger {
                Trigger::Each => out.push(finding_on_event(&found)),
                _ => out.extend(self.state.on_match(position, &found)),
            }
        }
    }
}
