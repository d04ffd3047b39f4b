//! The agent's loop: leaves in, findings and alerts out.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use detect::{Matcher, RuleSet};
use event::{Event, Finding, Leaf, Level, codec};

use crate::Error;
use crate::alert::{Alert, Gate, Policy, Verdict};
use crate::observe::Observer;
use crate::reload::Reloads;
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
    /// Alerts that at least one sink took.
    pub alerts: u64,
    /// Alerts that no sink took; their findings are recorded all the same.
    pub undelivered: u64,
    /// Findings below the alert level.
    pub below_level: u64,
    /// Findings folded as repetitions.
    pub duplicates: u64,
    /// Findings folded by the rate limit.
    pub rate_limited: u64,
    /// Leaves that did not decode.
    pub undecodable: u64,
    /// Failed deliveries, counted for each sink.
    pub sink_errors: u64,
    /// Sinks given up because their reader is gone.
    pub closed_sinks: u64,
    /// Findings by [`Level::ALL`].
    pub levels: [u64; Level::ALL.len()],
}

/// Matches events and raises alerts.
pub struct Agent {
    matcher: Matcher,
    reloads: Reloads,
    gate: Gate,
    /// Positions of rules that say what their repetitions are, by id.
    telling: HashMap<String, usize>,
    outlets: Vec<Outlet>,
    stats: Stats,
    told: Observer,
    memory_told: Option<Instant>,
}

/// How often it is told what rules remember: their number is not bounded.
const MEMORY_INTERVAL: Duration = Duration::from_secs(1);

impl Agent {
    /// An agent with a rule set, those that replace it later, and its sinks.
    #[must_use]
    pub fn new(
        rules: Arc<RuleSet>,
        reloads: Reloads,
        policy: Policy,
        sinks: Vec<Box<dyn Sink>>,
    ) -> Self {
        let telling = telling(&rules);
        let matcher = Matcher::new(rules);
        Self {
            matcher,
            telling,
            reloads,
            gate: Gate::new(policy),
            outlets: sinks.into_iter().map(Outlet::new).collect(),
            stats: Stats::default(),
            told: Observer::default(),
            memory_told: None,
        }
    }

    /// Tells how the agent does while it runs, and after that how it did.
    #[must_use]
    pub fn observer(&self) -> Observer {
        self.told.clone()
    }

    /// Runs until the feed ends. New rules hold from the next batch of leaves on. Every finding is
    /// given to `record`, also those that raise no alert.
    pub fn run(mut self, feed: &mut dyn Feed, mut record: impl FnMut(Finding)) -> Stats {
        let mut findings = Vec::new();
        while let Some(leaves) = feed.next() {
            if let Some(rules) = self.reloads.latest() {
                self.told.keep_rules(&rules);
                self.gate.keep_rules(&rules);
                self.telling = telling(&rules);
                self.matcher.replace_rules(rules);
            }
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
            self.tell();
        }
        self.memory_told = None;
        self.tell();
        self.stats
    }

    /// Once for each batch.
    fn tell(&mut self) {
        let told = self.memory_told;
        let memory_due = told.is_none_or(|told| told.elapsed() >= MEMORY_INTERVAL);
        let memory = memory_due.then(|| self.matcher.memory());
        if memory_due {
            self.memory_told = Some(Instant::now());
        }
        self.told.tell(&self.stats, memory);
    }

    fn on_event(&mut self, index: u64, event: &Event, findings: &mut Vec<Finding>) {
        self.stats.events += 1;
        self.matcher.on_event(event, index, findings);
        for finding in findings.iter() {
            self.stats.findings += 1;
            self.stats.levels[finding.level as usize] += 1;
            let rule = self.telling.get(&*finding.rule_id);
            let rule = rule.map(|position| &self.matcher.rules().rules()[*position]);
            let verdict = self.gate.decide(finding, event, rule);
            self.told.decided(&finding.rule_id, verdict);
            match verdict {
                Verdict::Raise(folded) => self.deliver(&Alert {
                    finding,
                    evidence: event,
                    folded,
                }),
                Verdict::BelowLevel => self.stats.below_level += 1,
                Verdict::Duplicate => self.stats.duplicates += 1,
                Verdict::RateLimited => self.stats.rate_limited += 1,
            }
        }
    }

    /// Gives the alert to every sink; one whose reader is gone is given up.
    fn deliver(&mut self, alert: &Alert<'_>) {
        let stats = &mut self.stats;
        let mut taken = false;
        self.outlets.retain_mut(|outlet| match outlet.offer(alert) {
            Offer::Taken => {
                taken = true;
                true
            }
            Offer::Failed => {
                stats.sink_errors += 1;
                true
            }
            Offer::Closed => {
                stats.sink_errors += 1;
                stats.closed_sinks += 1;
                false
            }
        });
        if taken {
            stats.alerts += 1;
        } else {
            stats.undelivered += 1;
        }
    }
}

fn telling(rules: &RuleSet) -> HashMap<String, usize> {
    let rules = rules.rules().iter().enumerate();
    rules
        .filter(|(_, rule)| rule.tells_repetitions())
        .map(|(position, rule)| (rule.id.clone(), position))
        .collect()
}

/// A sink, and how it does.
struct Outlet {
    sink: Box<dyn Sink>,
    /// Alerts that it did not take since it last took one.
    missed: u64,
}

enum Offer {
    Taken,
    /// Worth another try: a full disk gets room again.
    Failed,
    /// Nobody will ever read it.
    Closed,
}

impl Outlet {
    fn new(sink: Box<dyn Sink>) -> Self {
        Self { sink, missed: 0 }
    }

    /// Logs the first failure of a streak and its end: a sink that fails must not flood the log.
    fn offer(&mut self, alert: &Alert<'_>) -> Offer {
        match self.sink.deliver(alert) {
            Ok(()) => {
                self.recovered();
                Offer::Taken
            }
            Err(error) if is_closed(&error) => {
                tracing::error!("{error}; no more alerts go there");
                Offer::Closed
            }
            Err(error) => {
                if self.missed == 0 {
                    tracing::error!("{error}; tried again with the next alert");
                }
                self.missed += 1;
                Offer::Failed
            }
        }
    }

    fn recovered(&mut self) {
        if self.missed > 0 {
            tracing::warn!(
                "sink {}: takes alerts again; it missed {}",
                self.sink.name(),
                self.missed
            );
            self.missed = 0;
        }
    }
}

fn is_closed(error: &Error) -> bool {
    matches!(error, Error::Sink { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use detect::Source;
    use event::{EventKind, Exec, Header, Process, ProcessKey};

    use super::*;

    const RULE: &str = "id: r\ntitle: R\ndescription: D.\nlevel: high\n\
        sql: SELECT process.executable FROM exec WHERE process.executable = '/x'\n\
        tests:\n  fires:\n    - exe: /x\n  silent:\n    - exe: /y\n";

    /// Fails as scripted; an exhausted script takes everything.
    struct Scripted {
        failures: Vec<Option<io::ErrorKind>>,
        offered: Arc<Mutex<u64>>,
    }

    impl Sink for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        fn deliver(&mut self, _: &Alert<'_>) -> Result<(), Error> {
            *self.offered.lock().unwrap() += 1;
            if self.failures.is_empty() {
                return Ok(());
            }
            match self.failures.remove(0) {
                None => Ok(()),
                Some(kind) => Err(Error::Sink {
                    sink: "scripted",
                    source: kind.into(),
                }),
            }
        }
    }

    struct Leaves(Option<Vec<(u64, Bytes)>>);

    impl Feed for Leaves {
        fn next(&mut self) -> Option<Vec<(u64, Bytes)>> {
            self.0.take()
        }
    }

    fn exec(pid: u32) -> Bytes {
        let process = Process {
            key: ProcessKey {
                pid,
                ..ProcessKey::default()
            },
            exe: Bytes::from_static(b"/x"),
            ..Process::default()
        };
        let exec = Exec {
            process,
            old_tid: None,
        };
        codec::encode_event(&Event {
            header: Header::default(),
            kind: EventKind::Exec(Box::new(exec)),
        })
    }

    /// What the agent counts, and how often each sink was asked, after four alerts.
    fn four_alerts(sinks: Vec<Vec<Option<io::ErrorKind>>>) -> (Stats, Vec<u64>) {
        let source = Source {
            file: "r.yaml",
            text: RULE,
        };
        let rules = Arc::new(RuleSet::compile(&[source]).unwrap());
        let counts: Vec<_> = sinks.iter().map(|_| Arc::default()).collect();
        let sinks = sinks
            .into_iter()
            .zip(&counts)
            .map(|(failures, offered)| {
                let offered = Arc::clone(offered);
                Box::new(Scripted { failures, offered }) as Box<dyn Sink>
            })
            .collect();
        let agent = Agent::new(rules, Reloads::none(), Policy::default(), sinks);
        let observer = agent.observer();
        let leaves = (0..4).map(|index| (index, exec(index as u32))).collect();
        let mut recorded = 0;
        let stats = agent.run(&mut Leaves(Some(leaves)), |_| recorded += 1);
        assert_eq!(observer.read().stats, stats);
        assert_eq!(recorded, 4, "every finding is recorded");
        let counts = counts.iter().map(|count| *count.lock().unwrap()).collect();
        (stats, counts)
    }

    #[test]
    fn a_sink_that_fails_is_tried_again_with_the_next_alert() {
        // A full disk ended alerting for the life of the daemon.
        let full = Some(io::ErrorKind::StorageFull);
        let (stats, offered) = four_alerts(vec![vec![full, full]]);
        assert_eq!(offered, [4]);
        assert_eq!((stats.alerts, stats.undelivered), (2, 2));
        assert_eq!((stats.sink_errors, stats.closed_sinks), (2, 0));
    }

    #[test]
    fn a_sink_whose_reader_is_gone_is_given_up() {
        let gone = Some(io::ErrorKind::BrokenPipe);
        let (stats, offered) = four_alerts(vec![vec![None, gone]]);
        assert_eq!(offered, [2]);
        assert_eq!((stats.alerts, stats.undelivered), (1, 3));
        assert_eq!((stats.sink_errors, stats.closed_sinks), (1, 1));
    }

    #[test]
    fn an_alert_that_one_of_two_sinks_takes_is_delivered() {
        let gone = Some(io::ErrorKind::BrokenPipe);
        let (stats, offered) = four_alerts(vec![vec![gone], vec![]]);
        assert_eq!(offered, [1, 4]);
        assert_eq!((stats.alerts, stats.undelivered), (4, 0));
    }
}
