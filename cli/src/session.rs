//! A pipeline and an agent that work together until the source ends or the operator does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent::alert::Policy;
use agent::reload::Reloads;
use agent::sink::{Format, Lines, Sink};
use agent::{Agent, Feed, Observer};
use anyhow::{Context, anyhow};
use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use detect::RuleSet;
use event::{Event, Sensor, SensorError};
use ledger::{Ledger, RotationRecovery};
use pipeline::{Config, Finished, Handle, Next, Pipeline, RotationPolicy, Subscription};
use serde_json::Value;

use crate::args::Alerts;
use crate::exit::{Code, Failure, WithCode};
use crate::holder::Holder;
use crate::output::{counted, notice};
use crate::privileges;
use crate::requests::Requests;
use crate::state::State;
use crate::stats;
use crate::status::Publisher;

/// How long a feed waits at a time. It is woken for every leaf, so this only bounds a mistake.
const PATIENCE: Duration = Duration::from_secs(60);

/// After a stop the agent may stand still for so many ticks, then it is abandoned.
const TICK: Duration = Duration::from_secs(1);
const STILL_TICKS: u32 = 5;

/// A second signal that comes sooner is the same request: `timeout` sends one to us and one to our
/// process group, a closing terminal may send two as well.
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// What a session is made of.
pub(crate) struct Parts {
    pub(crate) sensor: Box<dyn Sensor>,
    pub(crate) initial: Vec<Event>,
    pub(crate) ledger: Ledger,
    pub(crate) rules: Arc<RuleSet>,
    pub(crate) reloads: Reloads,
    pub(crate) config: Config,
    pub(crate) policy: Policy,
    pub(crate) format: Format,
    pub(crate) wakes: Wakes,
    /// Of a daemon, which others ask.
    pub(crate) requests: Option<Requests>,
}

/// What reaches a session from other threads.
pub(crate) struct Wakes {
    sender: Sender<Wake>,
    receiver: Receiver<Wake>,
}

impl Wakes {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver }
    }

    /// Has the session publish how it does, when there is news.
    pub(crate) fn news(&self) -> impl Fn() + Send + 'static {
        let sender = self.sender.clone();
        move || {
            // Fails only after the session, which publishes its end itself.
            let _ = sender.send(Wake::News);
        }
    }
}

/// Everything at work.
pub(crate) struct Session {
    handle: Handle,
    agent: JoinHandle<(agent::Stats, Option<pipeline::Error>)>,
    observer: Observer,
    progress: Arc<Progress>,
    wakes: Wakes,
    requests: Option<Requests>,
    live: bool,
}

/// What a session waits for.
enum Wake {
    /// The operator wants it to end.
    Stop,
    /// The agent has had the last leaf, or cannot go on.
    AgentEnded,
    /// Something to be published.
    News,
}

/// Whether the operator wants an end.
#[derive(PartialEq, Eq)]
enum Asked {
    Yes,
    No,
}

/// Tells of the agent's end, also if it panics.
struct TellEnd(Sender<Wake>);

impl Drop for TellEnd {
    fn drop(&mut self) {
        // Nobody waits any more if the session was given up.
        let _ = self.0.send(Wake::AgentEnded);
    }
}

/// What a session did.
pub(crate) struct Outcome {
    finished: Finished,
    /// `None` where the agent did not come to its end, so that nobody knows.
    agent: Option<agent::Stats>,
    agent_error: Option<Failure>,
    observer: Observer,
    live: bool,
}

impl Session {
    /// Starts all threads. The agent goes on where the last run's agent stopped.
    pub(crate) fn start(parts: Parts) -> Result<Self, Failure> {
        let handle = Pipeline::start(parts.sensor, parts.initial, parts.ledger, &parts.config)?;
        let from = handle.resume_from();
        let progress = Arc::new(Progress::starting_at(from));
        let mut feed = LedgerFeed {
            subscription: handle.subscribe(from),
            progress: Arc::clone(&progress),
            error: None,
        };
        let findings = handle.findings();
        let sinks: Vec<Box<dyn Sink>> = vec![Box::new(Lines::new(
            "standard output",
            std::io::stdout(),
            parts.format,
        ))];
        let agent = Agent::new(parts.rules, parts.reloads, parts.policy, sinks);
        let observer = agent.observer();
        let end = TellEnd(parts.wakes.sender.clone());
        let work = move || {
            let _end = end;
            let stats = agent.run(&mut feed, |finding| {
                if let Err(error) = findings.submit(finding) {
                    tracing::error!("a finding did not reach the ledger: {error}");
                }
            });
            (stats, feed.error)
        };
        let agent = thread::Builder::new()
            .name("agent".into())
            .spawn(work)
            .context("starting the agent's thread")?;
        Ok(Self {
            handle,
            agent,
            observer,
            progress,
            wakes: parts.wakes,
            requests: parts.requests,
            live: parts.config.live,
        })
    }

    /// Waits for the operator or the end of the source, then lets everything come to its end. An
    /// agent that stands still after a stop (nobody reads its alerts) is left behind: the next run
    /// begins with the first leaf that it did not acknowledge. Publishes meanwhile how it does, but
    /// not how it ended.
    pub(crate) fn wait(self, mut publisher: Option<&mut Publisher>) -> Result<Outcome, Failure> {
        // Before the pipeline ends: the last findings are to be leaves as well.
        let agent = if self.agent_ends(&mut publisher) {
            Some(self.agent.join())
        } else {
            self.progress.abandoned.store(true, Ordering::Release);
            None
        };
        let finished = self.handle.finish();
        let (agent, agent_error) = match agent {
            Some(Ok((stats, error))) => (Some(stats), error.map(unreadable)),
            Some(Err(_)) => return Err(anyhow!("the agent's thread panicked").into()),
            None => (None, Some(left_behind())),
        };
        Ok(Outcome {
            finished,
            agent,
            agent_error,
            observer: self.observer,
            live: self.live,
        })
    }

    /// How the session does.
    pub(crate) fn counters(&self) -> Value {
        let position = self.progress.leaves.load(Ordering::Acquire);
        let stats = self.handle.stats();
        let mut counters = stats::all(&stats, Some(&self.observer.read()));
        counters["agent"]["position"] = position.into();
        counters["agent"]["lag"] = stats.size.saturating_sub(position).into();
        counters
    }

    /// False if the agent is not worth waiting for any longer.
    fn agent_ends(&self, publisher: &mut Option<&mut Publisher>) -> bool {
        if self.asked_to_stop(publisher) == Asked::No {
            return true;
        }
        self.handle.drain();
        let mut before = None;
        let mut stands_still = || {
            let now = self.progress.leaves.load(Ordering::Acquire);
            // Until then more leaves may come, and the agent is right to wait for them.
            let drained = self.handle.is_drained(Duration::ZERO);
            self.publish_if_due(publisher);
            before.replace(now) == Some(now) && drained
        };
        stands_still();
        ends_in_time(&self.wakes.receiver, TICK, SAME_REQUEST, stands_still)
    }

    /// Waits until it is, or until the agent has ended by itself.
    fn asked_to_stop(&self, publisher: &mut Option<&mut Publisher>) -> Asked {
        loop {
            let wake = match publisher {
                Some(publisher) => self.wakes.receiver.recv_deadline(publisher.due()),
                None => self.wakes.receiver.recv().map_err(Into::into),
            };
            match wake {
                Ok(Wake::Stop) => return Asked::Yes,
                Ok(Wake::AgentEnded) | Err(RecvTimeoutError::Disconnected) => return Asked::No,
                Ok(Wake::News) => self.publish(publisher),
                Err(RecvTimeoutError::Timeout) => {
                    self.look_for_requests();
                    self.publish_if_due(publisher);
                }
            }
        }
    }

    fn look_for_requests(&self) {
        if self.requests.as_ref().is_some_and(Requests::rotation) {
            match self.handle.rotate_keys() {
                Ok(()) => notice("the ledger's keys are to be rotated, as was asked"),
                Err(error) => tracing::error!("the ledger's keys are not rotated: {error}"),
            }
        }
    }

    fn publish_if_due(&self, publisher: &mut Option<&mut Publisher>) {
        if publisher
            .as_ref()
            .is_some_and(|p| p.due() <= Instant::now())
        {
            self.publish(publisher);
        }
    }

    fn publish(&self, publisher: &mut Option<&mut Publisher>) {
        if let Some(publisher) = publisher {
            publisher.running(self.counters());
        }
    }

    /// Ends the session from another thread.
    pub(crate) fn stopper(&self) -> event::sensor::Waker {
        let wake = self.wakes.sender.clone();
        Arc::new(move || {
            // Fails only after the session, when there is nothing to stop.
            let _ = wake.send(Wake::Stop);
        })
    }
}

impl Outcome {
    /// Prints one line, and fails if the pipeline or the agent did, or if alerts reached nobody.
    /// `sensor_broke` makes the failure of a source that broke.
    pub(crate) fn report(
        self,
        sensor_broke: impl FnOnce(SensorError) -> Failure,
    ) -> Result<(), Failure> {
        let ended = match self.finished.result {
            Ok(checkpoint) => Ok(checkpoint.size()),
            Err(pipeline::Error::Sensor(error)) => Err(sensor_broke(error)),
            Err(error) => return Err(stopped(error, "the pipeline stopped")),
        };
        let stats = &self.finished.stats;
        let agent = self.agent.as_ref();
        let ledger = match ended {
            Ok(size) => format!("{} signed", counted(size, "entry", "entries")),
            Err(_) => counted(stats.durable_size, "entry", "entries"),
        };
        notice(format_args!(
            "{}, {} lost; {}; ledger of {ledger}",
            counted(stats.overall().delivered, "event", "events"),
            stats.sensor.dropped_total(),
            agent.map_or_else(|| "findings and alerts not counted".to_owned(), alerts_of),
        ));
        ended?;
        match (self.agent_error, self.agent) {
            (Some(error), _) => Err(error),
            (None, Some(agent)) => delivered(&agent, self.live),
            (None, None) => Ok(()),
        }
    }

    /// All counters.
    pub(crate) fn json(&self) -> Value {
        let observed = self.agent.map(|_| self.observer.read());
        stats::all(&self.finished.stats, observed.as_ref())
    }
}

/// What the closing line says of the agent; tells of findings that raised no alert in lines of their
/// own.
fn alerts_of(agent: &agent::Stats) -> String {
    let folded = agent.duplicates + agent.rate_limited;
    if folded > 0 {
        let findings = counted(folded, "repeated finding", "repeated findings");
        notice(format_args!("{findings} raised no alert of their own"));
    }
    if agent.below_level > 0 {
        let findings = counted(agent.below_level, "finding", "findings");
        notice(format_args!("{findings} below --min-level raised no alert"));
    }
    let undelivered = match agent.undelivered {
        0 => String::new(),
        count => format!(", {count} undelivered"),
    };
    format!(
        "{}, {}{undelivered}",
        counted(agent.findings, "finding", "findings"),
        counted(agent.alerts, "alert", "alerts"),
    )
}

fn delivered(agent: &agent::Stats, live: bool) -> Result<(), Failure> {
    // Who reads the alerts of a recording and closes the pipe has seen what it wanted.
    if agent.undelivered == 0 || (!live && agent.closed_sinks > 0) {
        return Ok(());
    }
    let why = if agent.closed_sinks > 0 {
        "was closed by its reader"
    } else {
        "did not take all alerts"
    };
    Err(anyhow!(
        "standard output {why}: {} undelivered, recorded in the ledger",
        counted(agent.undelivered, "alert", "alerts"),
    ))
    .code(Code::Failure)
}

fn unreadable(error: pipeline::Error) -> Failure {
    stopped(error, "the agent stopped")
}

/// A part of the session that could not go on.
fn stopped(error: pipeline::Error, what: &'static str) -> Failure {
    let code = match &error {
        pipeline::Error::Ledger(ledger::Error::Damaged(_)) => Code::LedgerInvalid,
        _ => Code::Failure,
    };
    Failure::new(code, anyhow::Error::new(error).context(what))
}

fn left_behind() -> Failure {
    let error = anyhow!(
        "standard output is not read: the agent did not end and was left behind; the next run \
         raises what is left"
    );
    Failure::new(Code::Failure, error)
}

/// Waits for the agent's end. False on another stop request, and after [`STILL_TICKS`] at which
/// `stands_still` was true.
fn ends_in_time(
    wakes: &Receiver<Wake>,
    tick: Duration,
    same_request: Duration,
    mut stands_still: impl FnMut() -> bool,
) -> bool {
    let asked = Instant::now();
    let mut still = 0;
    while still < STILL_TICKS {
        match wakes.recv_timeout(tick) {
            Ok(Wake::AgentEnded) | Err(RecvTimeoutError::Disconnected) => return true,
            Ok(Wake::News) => {}
            Ok(Wake::Stop) if asked.elapsed() < same_request => {}
            Ok(Wake::Stop) => return false,
            Err(RecvTimeoutError::Timeout) if stands_still() => still += 1,
            Err(RecvTimeoutError::Timeout) => still = 0,
        }
    }
    false
}

/// How far the agent is.
struct Progress {
    /// Index of the first leaf that it is not done with.
    leaves: AtomicU64,
    /// Nobody waits for it: what it does from now on may not reach the ledger.
    abandoned: AtomicBool,
}

impl Progress {
    fn starting_at(leaf: u64) -> Self {
        Self {
            leaves: AtomicU64::new(leaf),
            abandoned: AtomicBool::new(false),
        }
    }
}

/// The pipeline's subscription as the agent's feed.
struct LedgerFeed {
    subscription: Subscription,
    progress: Arc<Progress>,
    /// What ended it early.
    error: Option<pipeline::Error>,
}

impl Feed for LedgerFeed {
    fn next(&mut self) -> Option<Vec<(u64, Bytes)>> {
        if self.progress.abandoned.load(Ordering::Acquire) {
            return None;
        }
        // The agent is done with what it got before it asks for more.
        let done = self.subscription.position();
        self.subscription.acknowledge(done);
        self.progress.leaves.store(done, Ordering::Release);
        loop {
            match self.subscription.next(PATIENCE) {
                Ok(Next::Leaves(leaves)) => {
                    return Some(leaves.into_iter().map(|d| (d.index, d.leaf)).collect());
                }
                Ok(Next::Idle) => {}
                Ok(Next::NotKept(from, oldest)) => tracing::error!(
                    "entries {from} to {} were dropped before they were matched",
                    oldest - 1
                ),
                Ok(Next::End) => return None,
                Err(error) => {
                    self.error = Some(error);
                    return None;
                }
            }
        }
    }
}

/// Opens the ledger and tells what its recovery did.
pub(crate) fn open_ledger(state: &State, segment_bytes: Option<u64>) -> Result<Ledger, Failure> {
    let mut options = ledger::Options::new(format!("daemoneye/{}", host_name()));
    options.segment_bytes = segment_bytes.unwrap_or(options.segment_bytes);
    privileges::guard_memory()?;
    let opened = Ledger::open(&state.ledger(), &options);
    let (ledger, recovery) = opened.map_err(|error| not_opened(state, error))?;
    match recovery.rotation {
        RotationRecovery::Undone => notice("a rotation of the ledger's keys was undone"),
        RotationRecovery::Finished => notice("a rotation of the ledger's keys was finished"),
        _ => {}
    }
    if !recovery.is_clean() {
        notice(format_args!(
            "the ledger was not closed: {} entries kept, {} of them not signed for, {} bytes of \
             an unfinished write cut",
            recovery.entries, recovery.unsealed, recovery.cut_bytes
        ));
    }
    Ok(ledger)
}

/// Opens the ledger of a command that writes to one that exists.
pub(crate) fn open_existing(state: &State) -> Result<Result<Ledger, ledger::Error>, Failure> {
    privileges::guard_memory()?;
    // Never used: a ledger that exists keeps its own origin.
    let options = ledger::Options::new("daemoneye");
    Ok(Ledger::open(&state.ledger(), &options).map(|(ledger, _)| ledger))
}

/// When the ledger's keys are to be replaced, counted from the start of their epoch. One whose clock
/// was wrong then is replaced soon.
pub(crate) fn rotation(days: u32, ledger: &Ledger) -> Result<Option<RotationPolicy>, Failure> {
    if days == 0 {
        return Ok(None);
    }
    let began = ledger.epoch_began();
    let began = began.map_err(crate::cmd::ledger::invalid)?;
    let every = DAY * days;
    let since = UNIX_EPOCH + Duration::from_secs(began);
    let age = SystemTime::now().duration_since(since).unwrap_or(every);
    Ok(Some(RotationPolicy {
        first: every.saturating_sub(age),
        every,
    }))
}

const DAY: Duration = Duration::from_secs(86_400);

/// Why a ledger cannot be written to, and what to do.
pub(crate) fn not_opened(state: &State, error: ledger::Error) -> Failure {
    use ledger::Error;

    let place = format!("state directory {}", state.dir().display());
    let (code, error) = match error {
        Error::Locked { .. } => (Code::StateUnusable, in_use(state)),
        error @ Error::KeyOpenToOthers { .. } => (Code::StateUnusable, error.into()),
        // An index that is damaged is built anew: what is left is that it cannot be written.
        Error::Io { .. } | Error::Index { .. } | Error::Poisoned => {
            (Code::StateUnusable, error.into())
        }
        error => (
            Code::LedgerInvalid,
            anyhow::Error::new(error).context(REFUSED),
        ),
    };
    Failure::new(code, error).context(place)
}

const REFUSED: &str = "the ledger is damaged, nothing was appended or signed (keep it as evidence and \
                       go on with another --state-dir; `daemoneye ledger verify` checks all of it)";

fn in_use(state: &State) -> anyhow::Error {
    match Holder::of(&state.ledger()) {
        Some(holder) => anyhow!("its ledger is in use by {holder}"),
        None => anyhow!("its ledger was in use a moment ago"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// With ticks of no length; `still` says of each tick whether the agent stood still.
    fn check(wakes: &[Wake], same_request: Duration, still: &[bool], ends: bool) {
        let (wake, received) = unbounded();
        for request in wakes {
            wake.send(match request {
                Wake::Stop => Wake::Stop,
                Wake::AgentEnded => Wake::AgentEnded,
                Wake::News => Wake::News,
            })
            .unwrap();
        }
        let mut ticks = still.iter();
        let ended = ends_in_time(&received, Duration::ZERO, same_request, || {
            *ticks.next().expect("it was given up before")
        });
        assert_eq!(ended, ends);
        assert_eq!(ticks.len(), 0);
    }

    #[test]
    fn an_agent_that_nobody_reads_from_cannot_keep_the_session() {
        // Ctrl-C waited for ever where the reader of standard output stood still.
        const LATER: Duration = Duration::ZERO;
        const AT_ONCE: Duration = Duration::from_secs(3600);
        check(&[Wake::AgentEnded], LATER, &[], true);
        check(&[], LATER, &[true; 5], false);
        let moves = [true, true, true, true, false, true, true, true, true, true];
        check(&[], LATER, &moves, false);
        check(&[Wake::Stop], LATER, &[], false);
        check(&[Wake::Stop, Wake::AgentEnded], AT_ONCE, &[], true);
        check(&[Wake::News, Wake::AgentEnded], LATER, &[], true);
    }

    #[test]
    fn undelivered_alerts_are_a_failure() {
        let check = |undelivered, closed_sinks, live, ok| {
            let stats = agent::Stats {
                undelivered,
                closed_sinks,
                ..agent::Stats::default()
            };
            assert_eq!(delivered(&stats, live).is_ok(), ok);
        };
        check(0, 0, true, true);
        check(1, 0, true, false);
        check(1, 0, false, false);
        check(1, 1, true, false);
        check(1, 1, false, true);
    }
}
