//! The worker's thread: opens at once, reads in turns within the budget.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, never, select};
use event::sensor::Waker;
use event::{Digest, FileIdentity, HashFailure};
use sha2::{Digest as _, Sha256};

use super::budget::Budget;
use super::cache::{Cache, Change, FileKey};
use super::hasher::Name;
use super::workers::Watch;
use super::{Executable, ExecutableFiles, HashPolicy, Wanted};
use crate::clock;

/// Bytes read at once; between two reads other files get their turn.
const CHUNK: usize = 256 << 10;

/// Files open at once.
const OPEN: usize = 64;

/// A file whose last change is younger could change again within the same tick of its clock (4 ms
/// on Linux, 2 s on FAT), and nobody could tell.
const SETTLED: Duration = Duration::from_secs(2);

/// A file to hash, under the name that the hasher gave it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) name: Name,
    pub(super) wanted: Wanted,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Done {
    pub(super) name: Name,
    pub(super) outcome: Result<Digest, HashFailure>,
    /// 0 where the digest was known.
    pub(super) bytes_read: u64,
}

pub(super) struct Worker {
    pub(super) files: Arc<dyn ExecutableFiles>,
    pub(super) policy: HashPolicy,
    pub(super) cache: Arc<Mutex<Cache>>,
    pub(super) jobs: Receiver<Job>,
    pub(super) done: Sender<Done>,
    /// Tells who waits that this one hangs.
    pub(super) watch: Arc<Watch>,
    /// Disconnected when nobody wants anything any more.
    pub(super) stop: Receiver<()>,
    /// What is open.
    pub(super) readings: Arc<Readings>,
    /// Called after each result.
    pub(super) notify: Option<Waker>,
}

/// Files that are open, but for the one at hand, each to have its turn. Whoever takes a hanging
/// worker's place takes them over.
#[derive(Default)]
pub(super) struct Readings(Mutex<VecDeque<Reading>>);

pub(super) struct Reading {
    name: Name,
    /// Nobody waits for it any more, so that it is only closed.
    unwanted: bool,
    file: Box<dyn Executable>,
    told: FileKey,
    before: FileIdentity,
    hash: Sha256,
    bytes: u64,
}

/// Nobody wants anything any more.
struct Stopped;

impl Worker {
    pub(super) fn run(self) {
        let mut budget = Budget::new(self.policy.rate, Instant::now());
        let mut buffer = vec![0; CHUNK];
        while let Ok(()) = self.open_some(&budget) {
            let next = self.readings.lock().pop_front();
            match next {
                Some(reading) if reading.unwanted => self.close(reading.name, reading.file),
                Some(reading) => {
                    let bytes = self.turn(reading, &mut buffer);
                    budget.spend(bytes, Instant::now());
                }
                None => {}
            }
        }
    }

    /// Reads on in a file; how much.
    fn turn(&self, mut reading: Reading, buffer: &mut [u8]) -> usize {
        let (name, most) = (reading.name, self.policy.max_bytes);
        let read = || reading.read(buffer, most);
        match self.watch.during(name, read) {
            Ok(Some(bytes)) => {
                self.readings.lock().push_back(reading);
                return bytes;
            }
            Ok(None) => self.finish(reading),
            Err(failure) => {
                self.tell(name, Err(failure), reading.bytes);
                self.close(name, reading.file);
            }
        }
        0
    }

    /// Opens what is asked for until it is time to read. At once, and not when it is read: by then
    /// the process can have ended, and a file without a name with it.
    fn open_some(&self, budget: &Budget) -> Result<(), Stopped> {
        loop {
            let wait = budget.wait(Instant::now());
            let open = self.readings.lock().len();
            let timeout = (open > 0).then_some(wait);
            let Some(job) = self.next_job(open < OPEN, timeout)? else {
                return Ok(());
            };
            if let Some(reading) = self.open(job) {
                self.readings.lock().push_back(reading);
            }
        }
    }

    /// `None` when the time is over; without a timeout, never.
    fn next_job(&self, room: bool, timeout: Option<Duration>) -> Result<Option<Job>, Stopped> {
        if self.stop.try_recv() == Err(TryRecvError::Disconnected) {
            return Err(Stopped);
        }
        let no_job = never();
        let jobs = if room { &self.jobs } else { &no_job };
        let timer = timeout.map_or_else(never, crossbeam_channel::after);
        if let Ok(job) = jobs.try_recv() {
            return Ok(Some(job));
        }
        if timeout == Some(Duration::ZERO) {
            return Ok(None);
        }
        select! {
            recv(jobs) -> job => job.map(Some).map_err(|_| Stopped),
            recv(self.stop) -> _ => Err(Stopped),
            recv(timer) -> _ => Ok(None),
        }
    }

    /// `None` where there is nothing left to read.
    fn open(&self, job: Job) -> Option<Reading> {
        let told = FileKey::of(&job.wanted.file);
        let start = || self.start(&job.wanted);
        match self.watch.during(job.name, start) {
            Ok((file, before)) => {
                // Without the cache's lock, which whoever asks takes as well.
                let known = self.cache().get(&FileKey::of(&before));
                if let Some(sha256) = known {
                    let change = told.change(&FileKey::of(&before));
                    self.tell(job.name, Ok(change.digest(sha256)), 0);
                    self.close(job.name, file);
                    return None;
                }
                Some(Reading {
                    name: job.name,
                    unwanted: false,
                    file,
                    told,
                    before,
                    hash: Sha256::new(),
                    bytes: 0,
                })
            }
            Err(failure) => {
                self.tell(job.name, Err(failure), 0);
                None
            }
        }
    }

    fn start(&self, wanted: &Wanted) -> Result<(Box<dyn Executable>, FileIdentity), HashFailure> {
        let file = self.files.open(wanted)?;
        let before = file.identity().map_err(|_| HashFailure::Unreadable)?;
        if before.size > self.policy.max_bytes {
            return Err(HashFailure::TooLarge);
        }
        Ok((file, before))
    }

    fn finish(&self, mut reading: Reading) {
        let identity = || reading.file.identity();
        let outcome = match self.watch.during(reading.name, identity) {
            Ok(after) => Ok(self.digest(&mut reading, FileKey::of(&after))),
            Err(_) => Err(HashFailure::Unreadable),
        };
        self.tell(reading.name, outcome, reading.bytes);
        self.close(reading.name, reading.file);
    }

    /// Of a file that was read to its end, and is `after` now.
    fn digest(&self, reading: &mut Reading, after: FileKey) -> Digest {
        let before = FileKey::of(&reading.before);
        let sha256: [u8; 32] = std::mem::take(&mut reading.hash).finalize().into();
        let whole = reading.bytes == reading.before.size;
        if whole && before == after && after.is_complete() && is_settled(&reading.before) {
            self.cache().insert(after, sha256);
        }
        let change = match whole {
            true => reading.told.change(&after).max(before.change(&after)),
            false => Change::Written,
        };
        change.digest(sha256)
    }

    /// After its outcome was told: to close a file can hang as well as to read it.
    fn close(&self, name: Name, file: Box<dyn Executable>) {
        self.watch.during(name, || drop(file));
    }

    fn tell(&self, name: Name, outcome: Result<Digest, HashFailure>, bytes_read: u64) {
        // Fails only where nobody wants it any more.
        let _ = self.done.send(Done {
            name,
            outcome,
            bytes_read,
        });
        if let Some(notify) = &self.notify {
            notify();
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readings {
    /// What a worker that is given up has open but for the file that it hangs in.
    pub(super) fn take_over(&self) -> Arc<Self> {
        let readings = std::mem::take(&mut *self.lock());
        Arc::new(Self(Mutex::new(readings)))
    }

    /// Nobody waits for any of them any more.
    pub(super) fn unwant(&self) {
        for reading in self.lock().iter_mut() {
            reading.unwanted = true;
        }
    }

    /// What is wanted of them.
    pub(super) fn names(&self) -> HashSet<Name> {
        let readings = self.lock();
        let wanted = readings.iter().filter(|reading| !reading.unwanted);
        wanted.map(|reading| reading.name).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Reading>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    /// One turn; `None` at the end of the file.
    fn read(&mut self, buffer: &mut [u8], most: u64) -> Result<Option<usize>, HashFailure> {
        let bytes = match self.file.read(buffer) {
            Ok(0) => return Ok(None),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(_) => return Err(HashFailure::Unreadable),
        };
        self.hash.update(&buffer[..bytes]);
        self.bytes += bytes as u64;
        if self.bytes > most {
            return Err(HashFailure::TooLarge);
        }
        Ok(Some(bytes))
    }
}

fn is_settled(file: &FileIdentity) -> bool {
    let settled = u64::try_from(SETTLED.as_nanos()).unwrap_or(u64::MAX);
    file.ctime.saturating_add(settled) <= clock::wall_now().0
}
