use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use event::sensor::Waker;
use event::{Event, Sensor};
use ledger::{Checkpoint, Ledger, Retention};

use crate::commit::{AGENT_CURSOR, CommitPolicy, Committer, Log};
use crate::deliver::{self, Feed, Findings, Outlet, Request, Subscription};
use crate::hash::{Hasher, Hashing};
use crate::intake::Intake;
use crate::redact::{self, Redactor};
use crate::run::Stages;
use crate::stats::Counters;
use crate::{Error, HoldPolicy, Stats, TableLimits, queue};

/// How a pipeline works. The default is for a live sensor.
#[derive(Debug, Clone)]
pub struct Config {
    /// Events happen now. `false` for a recording, whose own times are the only clock.
    pub live: bool,
    /// Room between sensor and stages, in bytes. When it is full, the sensor waits.
    pub queue_bytes: usize,
    /// Ordering.
    pub hold: HoldPolicy,
    /// Process table.
    pub table: TableLimits,
    /// Digests of executables; `None` for none. Live only: what a recording ran is not there.
    pub hashing: Option<Hashing>,
    /// Secrets in arguments.
    pub redact: redact::Config,
    /// Durability and signatures.
    pub commit: CommitPolicy,
    /// New keys for the ledger; `None` to keep those it has.
    pub rotation: Option<RotationPolicy>,
    /// What the ledger keeps of its leaves; `None` for all.
    pub retention: Option<Retention>,
    /// Gets each checkpoint that is signed, unless it is full.
    pub copies: Option<Sender<Checkpoint>>,
    /// Room between stages and ledger, in bytes. When it is full, the stages wait.
    pub ledger_bytes: usize,
    /// Room between stages and agent, in bytes. What does not fit the agent reads from the ledger.
    pub agent_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            live: true,
            queue_bytes: 8 << 20,
            hold: HoldPolicy::default(),
            table: TableLimits::default(),
            hashing: None,
            redact: redact::Config::default(),
            commit: CommitPolicy::default(),
            rotation: None,
            retention: None,
            copies: None,
            ledger_bytes: 4 << 20,
            agent_bytes: 4 << 20,
        }
    }
}

/// When the ledger's keys hand over to new ones.
#[derive(Debug, Clone, Copy)]
pub struct RotationPolicy {
    /// So long after the start …
    pub first: Duration,
    /// … and then each time so much later.
    pub every: Duration,
}

/// Findings that wait for the stages.
const REQUESTS: usize = 256;

/// Most leaves that an agent gets again when nobody knows how far it was.
const REPEATED_LEAVES: u64 = 1 << 16;

/// Starts pipelines.
#[derive(Debug)]
pub struct Pipeline;

impl Pipeline {
    /// Starts the threads. `initial` are the rows of the sensor's snapshot, which the caller
    /// took before it gave up its privileges; they become the first leaves.
    ///
    /// # Errors
    /// The configuration cannot be used, or the system gives no thread.
    pub fn start(
        sensor: Box<dyn Sensor>,
        initial: Vec<Event>,
        ledger: Ledger,
        config: &Config,
    ) -> Result<Handle, Error> {
        let log = LogStart {
            size: ledger.size(),
            durable_size: ledger.durable_size(),
            cursor: ledger.cursor(AGENT_CURSOR),
            kept_from: ledger.kept_from(),
            reader: ledger.reader(),
        };
        start(sensor, initial, ledger, log, config)
    }
}

/// What is to be known of the ledger before its thread owns it.
pub(crate) struct LogStart {
    pub(crate) size: u64,
    pub(crate) durable_size: u64,
    /// As stored: can be beyond the log.
    pub(crate) cursor: Option<u64>,
    /// The first leaf that is kept.
    pub(crate) kept_from: u64,
    pub(crate) reader: ledger::Reader,
}

impl LogStart {
    /// Indices beyond the log were lost in a crash, and other leaves get them now.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        self.cursor.map(|cursor| cursor.min(self.size))
    }

    pub(crate) fn resume_from(&self) -> u64 {
        let unknown = || unknown_position(self.size).max(self.kept_from);
        self.acknowledged().unwrap_or_else(unknown)
    }
}

/// Where the agent of a ledger that no pipeline runs on will go on: leaves from there are needed.
#[must_use]
pub fn resume_from(ledger: &Ledger) -> u64 {
    let size = ledger.size();
    let acknowledged = ledger.cursor(AGENT_CURSOR).map(|cursor| cursor.min(size));
    acknowledged.unwrap_or_else(|| unknown_position(size))
}

fn unknown_position(size: u64) -> u64 {
    size.saturating_sub(REPEATED_LEAVES)
}

pub(crate) fn start<L: Log + 'static>(
    sensor: Box<dyn Sensor>,
    initial: Vec<Event>,
    ledger: L,
    log: LogStart,
    config: &Config,
) -> Result<Handle, Error> {
    let redactor = Redactor::new(&config.redact)?;
    let hashing = config.hashing.as_ref().filter(|_| config.live);
    let hasher = hashing
        .map(|hashing| Hasher::start(hashing, None))
        .transpose()?;
    let shared = Arc::new(Shared::new(sensor.waker(), &log, config.agent_bytes));
    let (event_sender, events) = queue::bounded(config.queue_bytes);
    let (to_ledger, from_stages) = deliver::to_ledger(config.ledger_bytes, config.commit.leaves);
    let (request_sender, requests) = bounded(REQUESTS);
    let (ask_for_gap, expired) = bounded(1);
    let (open, drained) = bounded(0);

    let intake = Intake::new(sensor, event_sender, Arc::clone(&shared));
    let feed = Feed::new(to_ledger, Arc::clone(&shared), open);
    let stages = Stages::new(
        config,
        redactor,
        events,
        (requests, expired),
        feed,
        Arc::clone(&shared),
        log.size,
    )
    .with_hasher(hasher);
    let committer = Committer::new(
        ledger,
        from_stages,
        config.commit,
        Arc::clone(&shared),
        config.copies.clone(),
        &log,
    );
    let committer = match config.retention {
        Some(retention) => committer.keeping(retention, ask_for_gap),
        None => committer,
    };

    let threads = vec![
        spawn("sensor", &shared, move || intake.run())?,
        spawn("stages", &shared, move || {
            stages.run(initial);
            Ok(())
        })?,
        spawn("ledger", &shared, move || committer.run())?,
    ];
    Ok(Handle {
        shared,
        requests: request_sender,
        drained,
        threads,
        log,
    })
}

/// A running pipeline. To end it: [`Handle::drain`], let the agent come to
/// [`crate::Next::End`] and submit its last findings, then [`Handle::finish`].
pub struct Handle {
    shared: Arc<Shared>,
    requests: Sender<Request>,
    drained: Receiver<()>,
    threads: Vec<(&'static str, JoinHandle<()>)>,
    log: LogStart,
}

/// How a pipeline ended.
#[derive(Debug)]
pub struct Finished {
    /// The last counters. What a failure left in the stages is counted as dropped.
    pub stats: Stats,
    /// The checkpoint over all leaves, or what ended the pipeline.
    pub result: Result<Checkpoint, Error>,
}

impl Handle {
    /// Every leaf from this index on: [`Handle::resume_from`] for an agent that goes on,
    /// [`Handle::first_index`] for the leaves of this run. An index beyond the log becomes its end,
    /// which moves; one of a leaf that was dropped is answered with [`crate::Next::NotKept`].
    ///
    /// A slow subscriber holds nobody up and misses nothing: what does not fit its room it gets
    /// from the ledger, and what it has not acknowledged is not dropped. One that is gone is not
    /// missed; the next one takes over.
    #[must_use]
    pub fn subscribe(&self, from: u64) -> Subscription {
        let (shared, reader) = (Arc::clone(&self.shared), self.log.reader.clone());
        Subscription::new(shared, reader, from)
    }

    /// Where the agent puts what it found.
    #[must_use]
    pub fn findings(&self) -> Findings {
        Findings::new(self.requests.clone())
    }

    /// Has the ledger's keys hand over to new ones now. Returns at once; [`Stats::rotations`] tells when
    /// it is done.
    ///
    /// # Errors
    /// [`Error::Ended`]: the pipeline is finished or has failed, or more is asked of it than it can
    /// take. [`Error::Suspended`]: the ledger takes nothing more.
    pub fn rotate_keys(&self) -> Result<(), Error> {
        if self.shared.outlet.is_suspended() {
            return Err(Error::Suspended);
        }
        let asked = self.requests.try_send(Request::Rotate);
        asked.map_err(|_| Error::Ended)
    }

    /// Counters as of now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.counters.snapshot()
    }

    /// Leaves in the ledger when the pipeline started: the index of this run's first leaf.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        self.log.size
    }

    /// What [`Subscription::acknowledge`] said in an earlier run, as far as it is known; not beyond
    /// [`Handle::first_index`]. `None` for a new log and one whose index was rebuilt.
    #[must_use]
    pub fn acknowledged(&self) -> Option<u64> {
        self.log.acknowledged()
    }

    /// Where an agent goes on that is to miss nothing: what it acknowledged, or, if that is not
    /// known, 65,536 leaves before the end of the log at the start. Some leaves come again.
    #[must_use]
    pub fn resume_from(&self) -> u64 {
        self.log.resume_from()
    }

    /// Reads durable leaves.
    #[must_use]
    pub fn reader(&self) -> ledger::Reader {
        self.log.reader.clone()
    }

    /// Asks for no more events than have happened by now. Returns at once; the subscription ends
    /// when it has everything.
    pub fn drain(&self) {
        self.shared.stop();
    }

    /// Waits at most so long; `true` once no more events will come: drained, the recording is
    /// over, or the pipeline failed.
    #[must_use]
    pub fn is_drained(&self, timeout: Duration) -> bool {
        self.drained.recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected)
    }

    /// Drains, appends the findings submitted so far, commits, signs the last checkpoint and ends
    /// all threads. Does not wait for the agent.
    #[must_use]
    pub fn finish(mut self) -> Finished {
        self.drain();
        // Disconnected, which is what is waited for: nothing is ever sent.
        let _ = self.drained.recv();
        // The stages are gone if the pipeline failed.
        let _ = self.requests.send(Request::Finish);
        for (stage, thread) in self.threads.drain(..) {
            if let Err(panic) = thread.join() {
                self.shared.fail(Error::Panicked {
                    stage,
                    message: panic_message(&*panic),
                });
            }
        }
        self.shared.finished()
    }
}

/// A handle that is let go ends its pipeline, without waiting.
impl Drop for Handle {
    fn drop(&mut self) {
        self.drain();
    }
}

/// What all threads and handles share.
pub(crate) struct Shared {
    pub(crate) counters: Counters,
    pub(crate) outlet: Outlet,
    stopping: AtomicBool,
    waker: Waker,
    outcome: Mutex<Option<Result<Checkpoint, Error>>>,
}

impl Shared {
    fn new(waker: Waker, log: &LogStart, agent_bytes: usize) -> Self {
        let counters = Counters::default();
        counters.update(|stats| {
            (stats.first_index, stats.size) = (log.size, log.size);
            stats.durable_size = log.durable_size;
            stats.kept_from = log.kept_from;
        });
        Self {
            counters,
            outlet: Outlet::new(log.size, log.resume_from(), agent_bytes),
            stopping: AtomicBool::new(false),
            waker,
            outcome: Mutex::default(),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn set_checkpoint(&self, checkpoint: Checkpoint) {
        self.outcome().get_or_insert(Ok(checkpoint));
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        (self.waker)();
    }

    /// The first error is the one that is reported; every error ends the pipeline.
    fn fail(&self, error: Error) {
        tracing::debug!("pipeline stops: {}", error.with_causes());
        let mut outcome = self.outcome();
        if !matches!(*outcome, Some(Err(_))) {
            *outcome = Some(Err(error));
        }
        drop(outcome);
        self.stop();
    }

    fn finished(&self) -> Finished {
        self.counters.update(|stats| {
            [
                &mut stats.queue,
                &mut stats.hashing.later,
                &mut stats.stages,
                &mut stats.ledger,
                &mut stats.findings,
            ]
            .into_iter()
            .for_each(|balance| balance.give_up(balance.held));
        });
        let result = self.outcome().take().unwrap_or(Err(Error::Ended));
        Finished {
            stats: self.counters.snapshot(),
            result,
        }
    }

    fn outcome(&self) -> std::sync::MutexGuard<'_, Option<Result<Checkpoint, Error>>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn(
    stage: &'static str,
    shared: &Arc<Shared>,
    work: impl FnOnce() -> Result<(), Error> + Send + 'static,
) -> Result<(&'static str, JoinHandle<()>), Error> {
    let end = StopAtEnd(Arc::clone(shared));
    let work = move || {
        if let Err(error) = work() {
            end.0.fail(error);
        }
    };
    let thread = thread::Builder::new().name(stage.to_owned()).spawn(work);
    thread
        .map(|thread| (stage, thread))
        .map_err(|source| Error::Thread { stage, source })
}

/// Where one thread ends, even by a panic, the sensor's must not go on alone.
struct StopAtEnd(Arc<Shared>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
