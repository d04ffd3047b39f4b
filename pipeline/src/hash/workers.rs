//! The worker that is at work, and those that were given up: a read of a file whose server hangs
//! never ends, and no thread can be stopped in it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, unbounded};
use event::sensor::Waker;

use super::Hashing;
use super::cache::Cache;
use super::hasher::Name;
use super::worker::{Done, Job, Readings, Worker};
use crate::Error;

/// Workers given up that still hang; with so many there is no other one.
const MOST_HANGING: usize = 4;

/// A call has taken too long after so many looks at it. Each stands for a part of the time at most:
/// while this process was stopped or frozen the worker was as well.
const LOOKS: u32 = 10;

/// What a worker waits for: a call to the file's system.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Option<(Name, Instant)>>);

impl Watch {
    /// Makes a call that may not return.
    pub(super) fn during<T>(&self, name: Name, call: impl FnOnce() -> T) -> T {
        *self.lock() = Some((name, Instant::now()));
        let result = call();
        *self.lock() = None;
        result
    }

    fn call(&self) -> Option<(Name, Instant)> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Name, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was seen of a call that has not returned.
#[derive(Debug, Clone, Copy)]
struct Silence {
    since: Instant,
    looked: Instant,
    lasted: Duration,
}

/// What a worker is reached by. One that is given up, and returns all the same, finds its channels
/// closed and ends.
struct Line {
    /// First, and so never dropped last: that would close files.
    readings: Arc<Readings>,
    jobs: Sender<Job>,
    results: Receiver<Done>,
    watch: Arc<Watch>,
    /// Dropped when nobody wants anything any more.
    _stop: Sender<()>,
}

pub(super) struct Workers {
    hashing: Hashing,
    cache: Arc<Mutex<Cache>>,
    notify: Option<Waker>,
    line: Option<Line>,
    silence: Option<Silence>,
    no_results: Receiver<Done>,
    /// Of workers given up; a thread that ended has dropped its watch.
    given_up: Vec<Weak<Watch>>,
    /// What the next worker takes over. It alone closes files, as that can hang.
    left: Arc<Readings>,
    /// There is no worker since too many hang.
    paused: bool,
    warned: bool,
}

impl Workers {
    /// Starts the first one, which calls `notify` after each result.
    pub(super) fn start(
        hashing: &Hashing,
        cache: Arc<Mutex<Cache>>,
        notify: Option<Waker>,
    ) -> Result<Self, Error> {
        let mut workers = Self {
            hashing: hashing.clone(),
            cache,
            notify,
            line: None,
            silence: None,
            no_results: never(),
            given_up: Vec::new(),
            left: Arc::default(),
            paused: false,
            warned: false,
        };
        workers.line = Some(workers.spawn(&Arc::default())?);
        Ok(workers)
    }

    /// False if no worker takes it.
    pub(super) fn send(&self, job: Job) -> bool {
        let room = |line: &&Line| line.jobs.len() < self.hashing.policy.queue;
        let line = self.line.as_ref().filter(room);
        line.is_some_and(|line| line.jobs.send(job).is_ok())
    }

    /// What another worker had taken already, so that it needs no room.
    pub(super) fn send_again(&self, job: Job) -> bool {
        let line = self.line.as_ref();
        line.is_some_and(|line| line.jobs.send(job).is_ok())
    }

    pub(super) fn results(&self) -> &Receiver<Done> {
        let line = self.line.as_ref();
        line.map_or(&self.no_results, |line| &line.results)
    }

    /// Nothing is asked for any more.
    pub(super) fn end(&mut self) {
        self.line = None;
        self.paused = false;
    }

    /// There is no worker, since too many hang.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Time between two looks at a call.
    pub(super) fn pause(&self) -> Duration {
        self.hashing.policy.stall / LOOKS
    }

    /// When to look at the present call again.
    pub(super) fn due(&self) -> Option<Instant> {
        let (_, since) = self.call()?;
        Some(self.silence(since).looked + self.pause())
    }

    /// The file that the worker has been silent about for too long.
    pub(super) fn stalled(&mut self, now: Instant) -> Option<Name> {
        let (name, since) = self.call()?;
        let mut silence = self.silence(since);
        silence.lasted += now
            .saturating_duration_since(silence.looked)
            .min(self.pause());
        silence.looked = now;
        self.silence = Some(silence);
        (silence.lasted >= self.pause() * LOOKS).then_some(name)
    }

    /// The file in which a worker ended, by a panic.
    pub(super) fn ended_in(&self) -> Option<Name> {
        self.call().map(|(name, _)| name)
    }

    fn call(&self) -> Option<(Name, Instant)> {
        self.line.as_ref()?.watch.call()
    }

    /// Of the call that began then.
    fn silence(&self, since: Instant) -> Silence {
        let known = self.silence.filter(|silence| silence.since == since);
        known.unwrap_or(Silence {
            since,
            looked: since,
            lasted: Duration::ZERO,
        })
    }

    /// Puts another worker in this one's place, and gives the files that it goes on with; `None` if
    /// there is none.
    pub(super) fn replace(&mut self) -> Option<HashSet<Name>> {
        if let Some(line) = self.line.take() {
            self.given_up.push(Arc::downgrade(&line.watch));
            self.left = line.readings.take_over();
        }
        let open = self.left.names();
        if self.start_another() {
            return Some(open);
        }
        self.left.unwant();
        self.paused = true;
        if !self.warned {
            self.warned = true;
            tracing::error!(
                "executables are not hashed while {MOST_HANGING} reads hang: find the filesystem \
                 that does not answer (a dead FUSE or network server); those execs are told as \
                 stalled"
            );
        }
        None
    }

    /// Starts a worker where one that hung has ended.
    pub(super) fn resume(&mut self) {
        self.paused = self.paused && !self.start_another();
    }

    /// False if too many hang.
    fn start_another(&mut self) -> bool {
        self.given_up.retain(|watch| watch.strong_count() > 0);
        if self.given_up.len() >= MOST_HANGING {
            return false;
        }
        let readings = std::mem::take(&mut self.left);
        match self.spawn(&readings) {
            Ok(line) => self.line = Some(line),
            Err(error) => {
                tracing::debug!("no other worker: {}", error.with_causes());
                self.left = readings;
            }
        }
        self.line.is_some()
    }

    /// Not joined ever: a thread that hangs ends with the process at the latest.
    fn spawn(&self, readings: &Arc<Readings>) -> Result<Line, Error> {
        let (jobs, received) = unbounded();
        let (done, results) = unbounded();
        let (stop, stopped) = bounded(0);
        let watch = Arc::new(Watch::default());
        let worker = Worker {
            files: Arc::clone(&self.hashing.files),
            policy: self.hashing.policy,
            cache: Arc::clone(&self.cache),
            jobs: received,
            done,
            watch: Arc::clone(&watch),
            stop: stopped,
            readings: Arc::clone(readings),
            notify: self.notify.clone(),
        };
        thread::Builder::new()
            .name("hash".to_owned())
            .spawn(move || worker.run())
            .map_err(|source| Error::Thread {
                stage: "hash",
                source,
            })?;
        Ok(Line {
            readings: Arc::clone(readings),
            jobs,
            results,
            watch,
            _stop: stop,
        })
    }
}
