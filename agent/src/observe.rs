//! How a running agent does, for whoever asks from another thread.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use detect::{Memory, RuleSet};

use crate::Stats;
use crate::alert::Verdict;

/// Reads what an agent told last. Told once for each batch of leaves, so that no event waits for a
/// lock; of rules, when one fires.
#[derive(Debug, Clone, Default)]
pub struct Observer(Arc<Mutex<Observed>>);

/// How an agent does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// All of it.
    pub stats: Stats,
    /// Of each rule that fired and is still loaded, by id.
    pub rules: BTreeMap<String, RuleCounts>,
    /// What rules remember that look at several events; at most a second older than the rest.
    pub memory: Vec<Memory>,
}

/// What became of a rule's findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleCounts {
    /// How often it fired.
    pub findings: u64,
    /// Findings that were given to the sinks.
    pub raised: u64,
    /// Findings that raised no alert because of others of the same rule.
    pub folded: u64,
}

impl Observer {
    /// As of the last batch of leaves.
    #[must_use]
    pub fn read(&self) -> Observed {
        self.lock().clone()
    }

    /// `memory` where it is told anew.
    pub(crate) fn tell(&self, stats: &Stats, memory: Option<Vec<Memory>>) {
        let mut observed = self.lock();
        observed.stats = *stats;
        if let Some(memory) = memory {
            observed.memory = memory;
        }
    }

    pub(crate) fn decided(&self, rule: &str, verdict: Verdict) {
        let mut observed = self.lock();
        let counts = match observed.rules.get_mut(rule) {
            Some(counts) => counts,
            None => observed.rules.entry(rule.to_owned()).or_default(),
        };
        counts.findings += 1;
        match verdict {
            Verdict::Raise(_) => counts.raised += 1,
            Verdict::Duplicate | Verdict::RateLimited => counts.folded += 1,
            Verdict::BelowLevel => {}
        }
    }

    /// Those of other rules are given up, so that their number is bounded.
    pub(crate) fn keep_rules(&self, rules: &RuleSet) {
        let known: HashSet<&str> = rules.rules().iter().map(|rule| rule.id.as_str()).collect();
        let mut observed = self.lock();
        observed
            .rules
            .retain(|rule, _| known.contains(rule.as_str()));
    }

    fn lock(&self) -> MutexGuard<'_, Observed> {
        // Every change is a few additions: a panic of the agent left nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
