//! The worker that is at work, and those that were given up: a read of a file whose server hangs
//! never ends, and no thread can be stopped in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, never, unbounded};
use event::sensor::Waker;

use super::Hashing;
use super::cache::Cache;
use super::hasher::Name;
use super::worker::{Done, Job, Worker};
use crate::Error;

/// Workers given up that still hang; with so many there is no other one.
const MOST_HANGING: usize = 4;

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

/// What a worker is reached by. One that is given up, and returns all the same, finds its channels
/// closed and ends.
struct Line {
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
    no_results: Receiver<Done>,
    /// Of workers given up; a thread that ended has dropped its watch.
    given_up: Vec<Weak<Watch>>,
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
            no_results: never(),
            given_up: Vec::new(),
            paused: false,
            warned: false,
        };
        workers.line = Some(workers.spawn()?);
        Ok(workers)
    }

    /// False if no worker takes it.
    pub(super) fn send(&self, job: Job) -> bool {
        let line = self.line.as_ref();
        line.is_some_and(|line| line.jobs.try_send(job).is_ok())
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

    /// When the present call will have taken too long.
    pub(super) fn due(&self) -> Option<Instant> {
        let (_, since) = self.line.as_ref()?.watch.call()?;
        Some(since + self.hashing.policy.stall)
    }

    /// The file that the worker has been silent about for too long.
    pub(super) fn stalled(&self, now: Instant) -> Option<Name> {
        let (name, since) = self.line.as_ref()?.watch.call()?;
        (now.saturating_duration_since(since) >= self.hashing.policy.stall).then_some(name)
    }

    /// Gives the worker up; false if there is no other one to take its place.
    pub(super) fn replace(&mut self) -> bool {
        if let Some(line) = self.line.take() {
            self.given_up.push(Arc::downgrade(&line.watch));
        }
        self.paused = true;
        self.resume();
        if self.paused && !self.warned {
            self.warned = true;
            tracing::error!(
                "executables are not hashed while {MOST_HANGING} reads hang: find the filesystem \
                 that does not answer (a dead FUSE or network server); those execs are told as \
                 stalled"
            );
        }
        !self.paused
    }

    /// Starts a worker where one that hung has ended.
    pub(super) fn resume(&mut self) {
        if !self.paused {
            return;
        }
        self.given_up.retain(|watch| watch.strong_count() > 0);
        if self.given_up.len() < MOST_HANGING {
            match self.spawn() {
                Ok(line) => (self.line, self.paused) = (Some(line), false),
                Err(error) => tracing::debug!("no other worker: {}", error.with_causes()),
            }
        }
    }

    /// Not joined ever: a thread that hangs ends with the process at the latest.
    fn spawn(&self) -> Result<Line, Error> {
        let (jobs, received) = bounded(self.hashing.policy.queue);
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
            jobs,
            results,
            watch,
            _stop: stop,
        })
    }
}
