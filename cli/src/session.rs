//! A pipeline and an agent that work together until the source ends or the operator does.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use agent::alert::Policy;
use agent::sink::{Format, Lines, Sink};
use agent::{Agent, Feed};
use anyhow::{Context, anyhow};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, unbounded};
use detect::RuleSet;
use event::{Event, Sensor};
use ledger::Ledger;
use pipeline::{Config, Finished, Handle, Next, Pipeline, Subscription};
use serde_json::{Value, json};

use crate::args::Alerts;
use crate::exit::{Code, Failure, WithCode};
use crate::output::notice;
use crate::stats;

/// How long a feed waits at a time. It is woken for every leaf, so this only bounds a mistake.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a session is made of.
pub(crate) struct Parts {
    pub(crate) sensor: Box<dyn Sensor>,
    pub(crate) initial: Vec<Event>,
    pub(crate) ledger: Ledger,
    pub(crate) rules: Arc<RuleSet>,
    pub(crate) config: Config,
    pub(crate) policy: Policy,
    pub(crate) format: Format,
}

/// Everything at work.
pub(crate) struct Session {
    handle: Handle,
    agent: JoinHandle<agent::Stats>,
    wake: Sender<Wake>,
    wakes: Receiver<Wake>,
}

/// What a session waits for.
enum Wake {
    /// The operator wants it to end.
    Stop,
    /// The agent has had the last leaf, or cannot go on.
    AgentEnded,
}

/// What a session did.
pub(crate) struct Outcome {
    finished: Finished,
    agent: agent::Stats,
}

impl Session {
    /// Starts all threads. The agent goes on where the last run's agent stopped.
    pub(crate) fn start(parts: Parts) -> Result<Self, Failure> {
        let handle = Pipeline::start(parts.sensor, parts.initial, parts.ledger, &parts.config)?;
        let from = handle.acknowledged().unwrap_or(handle.first_index());
        let mut feed = LedgerFeed {
            subscription: handle.subscribe(from),
        };
        let findings = handle.findings();
        let sinks: Vec<Box<dyn Sink>> = vec![Box::new(Lines::new(
            "standard output",
            std::io::stdout(),
            parts.format,
        ))];
        let agent = Agent::new(parts.rules, parts.policy, sinks);
        let (wake, wakes) = unbounded();
        let ended = wake.clone();
        let work = move || {
            let stats = agent.run(&mut feed, |finding| {
                if let Err(error) = findings.submit(finding) {
                    tracing::error!("a finding did not reach the ledger: {error}");
                }
            });
            // Nobody waits any more if the session was given up.
            let _ = ended.send(Wake::AgentEnded);
            stats
        };
        let agent = thread::Builder::new()
            .name("agent".into())
            .spawn(work)
            .context("starting the agent's thread")?;
        Ok(Self {
            handle,
            agent,
            wake,
            wakes,
        })
    }

    /// Waits for the operator or the end of the source, then lets everything come to its end.
    pub(crate) fn wait(self) -> Result<Outcome, Failure> {
        while let Ok(Wake::Stop) = self.wakes.recv() {
            self.handle.drain();
        }
        // Before the pipeline ends: the last findings are to be leaves as well.
        let agent = self
            .agent
            .join()
            .map_err(|_| anyhow!("the agent's thread panicked"))?;
        Ok(Outcome {
            finished: self.handle.finish(),
            agent,
        })
    }

    /// Ends the session from another thread.
    pub(crate) fn stopper(&self) -> event::sensor::Waker {
        let wake = self.wake.clone();
        Arc::new(move || {
            // Fails only after the session, when there is nothing to stop.
            let _ = wake.send(Wake::Stop);
        })
    }
}

impl Outcome {
    /// Prints one line, and fails if the pipeline did. `on_sensor_error` is the code for a source
    /// that broke: for a recording that is bad input.
    pub(crate) fn report(self, on_sensor_error: Code) -> Result<(), Failure> {
        let stats = &self.finished.stats;
        let checkpoint = match self.finished.result {
            Ok(checkpoint) => checkpoint,
            Err(error @ pipeline::Error::Sensor(_)) => return Err(error).code(on_sensor_error),
            Err(error) => {
                return Err(error)
                    .context("the pipeline stopped")
                    .code(Code::Failure);
            }
        };
        notice(format_args!(
            "{}, {} lost; {}, {}; ledger of {} signed",
            counted(stats.overall().delivered, "event", "events"),
            stats.sensor.dropped_total(),
            counted(self.agent.findings, "finding", "findings"),
            counted(self.agent.alerts, "alert", "alerts"),
            counted(checkpoint.size(), "entry", "entries"),
        ));
        let folded = self.agent.duplicates + self.agent.rate_limited;
        if folded > 0 {
            notice(format_args!(
                "{folded} repeated findings raised no alert of their own"
            ));
        }
        Ok(())
    }

    /// All counters.
    pub(crate) fn json(&self) -> Value {
        let stats = &self.finished.stats;
        let balance = stats.overall();
        json!({
            "sensor": stats::sensor(&stats.sensor),
            "pipeline": {
                "seen": balance.seen,
                "delivered": balance.delivered,
                "dropped": balance.dropped,
                "held": balance.held,
                "balanced": stats.balanced(),
                "sensor_agrees": stats.sensor_agrees(),
                "lost_events": stats.lost_events,
                "late": stats.late,
                "redactions": stats.redactions,
                "cut": stats.cut,
                "table": format!("{:?}", stats.table),
            },
            "agent": {
                "events": self.agent.events,
                "findings": self.agent.findings,
                "alerts": self.agent.alerts,
                "below_level": self.agent.below_level,
                "duplicates": self.agent.duplicates,
                "rate_limited": self.agent.rate_limited,
                "undecodable": self.agent.undecodable,
                "sink_errors": self.agent.sink_errors,
                "from_ledger": stats.agent.from_ledger,
            },
            "ledger": {
                "size": stats.size,
                "durable_size": stats.durable_size,
                "commits": stats.commits,
                "checkpoints": stats.checkpoints,
            },
        })
    }
}

/// The pipeline's subscription as the agent's feed.
struct LedgerFeed {
    subscription: Subscription,
}

impl Feed for LedgerFeed {
    fn next(&mut self) -> Option<Vec<(u64, Bytes)>> {
        // The agent is done with what it got before it asks for more.
        self.subscription.acknowledge(self.subscription.position());
        loop {
            match self.subscription.next(PATIENCE) {
                Ok(Next::Leaves(leaves)) => {
                    return Some(leaves.into_iter().map(|d| (d.index, d.leaf)).collect());
                }
                Ok(Next::Idle) => {}
                Ok(Next::End) => return None,
                Err(error) => {
                    tracing::error!("the agent stops: {error}");
                    return None;
                }
            }
        }
    }
}

/// Opens the ledger and tells what its recovery did.
pub(crate) fn open_ledger(dir: &Path) -> Result<Ledger, Failure> {
    let options = ledger::Options::new(format!("daemoneye/{}", host_name()));
    let (ledger, recovery) = match Ledger::open(dir, &options) {
        Ok(opened) => opened,
        Err(error @ (ledger::Error::Io { .. } | ledger::Error::Locked { .. })) => {
            return Err(Failure::new(Code::StateUnusable, error));
        }
        Err(error) => return Err(Failure::new(Code::LedgerInvalid, error)),
    };
    if !recovery.is_clean() {
        notice(format_args!(
            "the ledger was not closed: {} entries kept, {} bytes of an unfinished write cut",
            recovery.entries, recovery.cut_bytes
        ));
    }
    Ok(ledger)
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// For the name of the log; any characters that such a name cannot have are replaced.
fn host_name() -> String {
    let name = system_name().unwrap_or_default();
    let clean: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-._".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    if clean.is_empty() {
        "host".into()
    } else {
        clean
    }
}

#[cfg(unix)]
fn system_name() -> Option<String> {
    rustix::system::uname()
        .nodename()
        .to_str()
        .ok()
        .map(str::to_owned)
}

#[cfg(windows)]
fn system_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

/// What the flags say about alerts.
pub(crate) fn policy(alerts: &Alerts) -> Policy {
    Policy {
        min_level: alerts.min_level,
        ..Policy::default()
    }
}

/// Lines for people, or documents.
pub(crate) fn format(json: bool) -> Format {
    if json { Format::Json } else { Format::Human }
}
