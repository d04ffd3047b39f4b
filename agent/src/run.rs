//! The agent's loop: leaves in, findings and alerts out.

use std::sync::Arc;

use bytes::Bytes;
use detect::{Matcher, RuleSet};
use event::{Event, Finding, Leaf, codec};

use crate::Error;
use crate::alert::{Alert, Gate, Policy, Verdict};
use crate::sink::Sink;

/// Where leaves come from, in the order of their index.
pub trait Feed {
    /// Waits for leaves; `None` means that no more will come.
    fn next(&mut self) -> Option<Vec<(u64, Bytes)>>;
}

/// What the agent did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Events matched against the rules.
    pub events: u64,
    /// Rules that fired.
    pub findings: u64,
    /// Alerts given to the sinks.
    pub alerts: u64,
    /// Findings below the alert level.
    pub below_level: u64,
    /// Findings folded as repetitions.
    pub duplicates: u64,
    /// Findings folded by the rate limit.
    pub rate_limited: u64,
    /// Leaves that did not decode.
    pub undecodable: u64,
    /// Alerts that a sink did not take.
    pub sink_errors: u64,
}

/// Matches events and raises alerts.
pub struct Agent {
    matcher: Matcher,
    gate: Gate,
    sinks: Vec<Box<dyn Sink>>,
    stats: Stats,
}

impl Agent {
    /// An agent with one rule set and its sinks.
    #[must_use]
    pub fn new(rules: Arc<RuleSet>, policy: Policy, sinks: Vec<Box<dyn Sink>>) -> Self {
        let matcher = Matcher::new(rules);
        Self {
            matcher,
            gate: Gate::new(policy),
            sinks,
            stats: Stats::default(),
        }
    }

    /// Runs until the feed ends. Every finding is given to `record`, also those that raise no
    /// alert.
    pub fn run(mut self, feed: &mut dyn Feed, mut record: impl FnMut(Finding)) -> Stats {
        let mut findings = Vec::new();
        while let Some(leaves) = feed.next() {
            for (index, leaf) in leaves {
                match codec::decode(leaf) {
                    Ok(Leaf::Event(event)) => {
                        self.on_event(index, &event, &mut findings);
                        findings.drain(..).for_each(&mut record);
                    }
                    // Our own findings and kinds of leaf that a later version adds.
                    Ok(_) => {}
                    Err(source) => {
                        self.stats.undecodable += 1;
                        tracing::error!("{}", Error::Leaf { index, source });
                    }
                }
            }
        }
        self.stats
    }

    fn on_event(&mut self, index: u64, event: &Event, findings: &mut Vec<Finding>) {
        self.stats.events += 1;
        self.matcher.on_event(event, index, findings);
        for finding in findings.iter() {
            self.stats.findings += 1;
            match self.gate.decide(finding) {
                Verdict::Raise(folded) => {
                    self.stats.alerts += 1;
                    self.deliver(&Alert {
                        finding,
                        evidence: event,
                        folded,
                    });
                }
                Verdict::BelowLevel => self.stats.below_level += 1,
                Verdict::Duplicate => self.stats.duplicates += 1,
                Verdict::RateLimited => self.stats.rate_limited += 1,
            }
        }
    }

    /// Gives the alert to every sink; one that fails is given up.
    fn deliver(&mut self, alert: &Alert<'_>) {
        let failures = &mut self.stats.sink_errors;
        self.sinks.retain_mut(|sink| match sink.deliver(alert) {
            Ok(()) => true,
            Err(error) => {
                *failures += 1;
                tracing::error!("{error}; no more alerts go there");
                false
            }
        });
    }
}
