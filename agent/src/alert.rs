//! What becomes an alert: not every repetition of a finding is worth a line, but every one that is
//! left out is counted.

use std::collections::{HashMap, VecDeque};

use event::{BootTime, Event, Finding, Level, ProcessKey};

/// An alert on its way to the sinks.
#[derive(Debug)]
pub struct Alert<'a> {
    /// What fired.
    pub finding: &'a Finding,
    /// The event that completed it.
    pub evidence: &'a Event,
    /// Findings of the same rule that were folded since its last alert.
    pub folded: u64,
}

/// What an operator can set.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Findings below this level are recorded but raise no alert.
    pub min_level: Level,
    /// A rule fires once for a process within this time.
    pub dedup_ns: u64,
    /// Alerts of one rule …
    pub rate_limit: usize,
    /// … within this time.
    pub rate_window_ns: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_level: Level::Low,
            dedup_ns: 60_000_000_000,
            rate_limit: 100,
            rate_window_ns: 10_000_000_000,
        }
    }
}

/// What is done with a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Give it to the sinks, with the number of findings folded before it.
    Raise(u64),
    /// Its level is below the policy's.
    BelowLevel,
    /// The same rule fired for the same process already.
    Duplicate,
    /// The rule fires too often.
    RateLimited,
}

/// Decides which findings become alerts. Time is the time of events, so that a replay decides as
/// the live run did.
#[derive(Debug)]
pub struct Gate {
    policy: Policy,
    recent: HashMap<(String, ProcessKey), BootTime>,
    /// The keys of `recent` by age.
    order: VecDeque<(BootTime, String, ProcessKey)>,
    rules: HashMap<String, RuleState>,
}

/// Entries of the dedup memory; the oldest go first.
const MAX_RECENT: usize = 16_384;

#[derive(Debug, Default)]
struct RuleState {
    raised: VecDeque<BootTime>,
    folded: u64,
}

impl Gate {
    /// A gate without memory yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            recent: HashMap::new(),
            order: VecDeque::new(),
            rules: HashMap::new(),
        }
    }

    /// Decides on one finding.
    pub fn decide(&mut self, finding: &Finding) -> Verdict {
        if finding.level < self.policy.min_level {
            return Verdict::BelowLevel;
        }
        let now = finding.header.time;
        self.forget(now);
        if let Some(key) = finding.key
            && !self.remember(finding, key, now)
        {
            self.rule(finding).folded += 1;
            return Verdict::Duplicate;
        }
        let (limit, window) = (self.policy.rate_limit, self.policy.rate_window_ns);
        self.rule(finding).raise(now, limit, window)
    }

    fn rule(&mut self, finding: &Finding) -> &mut RuleState {
        self.rules.entry(finding.rule_id.clone()).or_default()
    }

    /// False if the rule fired for the process within the dedup window.
    fn remember(&mut self, finding: &Finding, key: ProcessKey, now: BootTime) -> bool {
        let entry = (finding.rule_id.clone(), key);
        if self.recent.contains_key(&entry) {
            return false;
        }
        self.order.push_back((now, entry.0.clone(), key));
        self.recent.insert(entry, now);
        true
    }

    fn forget(&mut self, now: BootTime) {
        while let Some((time, ..)) = self.order.front() {
            let expired = now.0.saturating_sub(time.0) > self.policy.dedup_ns;
            if !expired && self.order.len() < MAX_RECENT {
                return;
            }
            if let Some((_, rule, key)) = self.order.pop_front() {
                self.recent.remove(&(rule, key));
            }
        }
    }
}

impl RuleState {
    fn raise(&mut self, now: BootTime, limit: usize, window_ns: u64) -> Verdict {
        while self
            .raised
            .front()
            .is_some_and(|t| now.0.saturating_sub(t.0) > window_ns)
        {
            self.raised.pop_front();
        }
        if self.raised.len() >= limit {
            self.folded += 1;
            return Verdict::RateLimited;
        }
        self.raised.push_back(now);
        Verdict::Raise(std::mem::take(&mut self.folded))
    }
}

#[cfg(test)]
mod tests {
    use event::Header;

    use super::*;

    fn finding(rule: &str, pid: u32, seconds: u64) -> Finding {
        Finding {
            header: Header {
                time: BootTime(seconds * 1_000_000_000),
                ..Header::default()
            },
            rule_id: rule.into(),
            level: Level::High,
            key: Some(ProcessKey {
                pid,
                ..ProcessKey::default()
            }),
            ..Finding::default()
        }
    }

    #[test]
    fn a_rule_fires_once_for_a_process_within_the_window() {
        let mut gate = Gate::new(Policy::default());
        assert_eq!(gate.decide(&finding("r", 1, 0)), Verdict::Raise(0));
        assert_eq!(gate.decide(&finding("r", 1, 30)), Verdict::Duplicate);
        assert_eq!(gate.decide(&finding("s", 1, 30)), Verdict::Raise(0));
        assert_eq!(gate.decide(&finding("r", 2, 30)), Verdict::Raise(1));
        assert_eq!(gate.decide(&finding("r", 1, 61)), Verdict::Raise(0));
    }

    #[test]
    fn what_the_rate_limit_folds_is_counted_on_the_next_alert() {
        let policy = Policy {
            rate_limit: 2,
            ..Policy::default()
        };
        let mut gate = Gate::new(policy);
        for pid in 0..2 {
            assert_eq!(gate.decide(&finding("r", pid, 0)), Verdict::Raise(0));
        }
        for pid in 2..5 {
            assert_eq!(gate.decide(&finding("r", pid, 1)), Verdict::RateLimited);
        }
        assert_eq!(gate.decide(&finding("r", 9, 12)), Verdict::Raise(3));
    }

    #[test]
    fn levels_below_the_policy_raise_nothing() {
        let mut gate = Gate::new(Policy {
            min_level: Level::Critical,
            ..Policy::default()
        });
        assert_eq!(gate.decide(&finding("r", 1, 0)), Verdict::BelowLevel);
    }

    #[test]
    fn memory_is_bounded() {
        let mut gate = Gate::new(Policy::default());
        for pid in 0..40_000 {
            gate.decide(&finding("r", pid, 0));
        }
        assert!(gate.recent.len() <= MAX_RECENT && gate.order.len() <= MAX_RECENT);
    }
}
