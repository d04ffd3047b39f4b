use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use event::sensor::Waker;
use event::{BootTime, Digest, Event, EventKind, HashFailure, Hashed, Header, Process, ProcessKey};

use super::cache::{Cache, Change, FileKey};
use super::worker::{Done, Job};
use super::workers::Workers;
use super::{ExecutableFiles, HashPolicy, HashStats, Wanted};
use crate::clock::Clock;
use crate::{Error, HoldPolicy};

/// What hashing works with.
#[derive(Debug, Clone)]
pub struct Hashing {
    /// Opens executables.
    pub files: Arc<dyn ExecutableFiles>,
    /// How much and how fast.
    pub policy: HashPolicy,
}

/// Gives execs their digests. See the [module](super).
pub struct Hasher {
    policy: HashPolicy,
    clock: Clock,
    cache: Arc<Mutex<Cache>>,
    workers: Workers,
    /// Files that were asked for, until nobody waits for them.
    asked: HashMap<Name, Asked>,
    /// Execs in all `waiting` lists.
    waiting: usize,
    ready: VecDeque<Ready>,
    stats: HashStats,
}

/// What one job is for: a file, or, where the source cannot tell its ctime, the exec itself. Two
/// such execs could be of different content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name {
    file: FileKey,
    exec: Option<(ProcessKey, BootTime)>,
}

impl Name {
    fn of(wanted: &Wanted, header: &Header) -> Self {
        let file = FileKey::of(&wanted.file);
        let exec = (!file.is_complete()).then_some((wanted.key, header.time));
        Self { file, exec }
    }
}

#[derive(Debug)]
struct Asked {
    /// As the first exec names it.
    wanted: Wanted,
    /// Execs that arrived and have not left yet.
    expected: u32,
    waiting: Vec<(Header, Wanted)>,
    outcome: Option<Result<Digest, HashFailure>>,
}

struct Ready {
    exec: Header,
    wanted: Wanted,
    named: bool,
    outcome: Result<Digest, HashFailure>,
}

impl Hasher {
    /// Starts the worker's thread, which calls `notify` after each result.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(hashing: &Hashing, notify: Option<Waker>) -> Result<Self, Error> {
        let policy = hashing.policy;
        let cache = Arc::new(Mutex::new(Cache::new(policy.cache)));
        let workers = Workers::start(hashing, Arc::clone(&cache), notify)?;
        Ok(Self {
            policy,
            clock: Clock::new(HoldPolicy::default().hold_max),
            cache,
            workers,
            asked: HashMap::new(),
            waiting: 0,
            ready: VecDeque::new(),
            stats: HashStats::default(),
        })
    }

    /// An exec came: it gets its digest if that is known, else its file is asked for.
    pub fn arrived(&mut self, event: &mut Event) {
        let header = event.header;
        let Some(process) = unhashed(event) else {
            return;
        };
        self.clock.observe(&header);
        if self.fill_from_cache(process) || self.known_failure(process).is_some() {
            return;
        }
        if let Some(wanted) = Wanted::of(process) {
            let name = Name::of(&wanted, &header);
            if let Some(asked) = self.ask(name, wanted) {
                asked.expected += 1;
            }
        }
    }

    /// An exec goes on: with its digest if there is one by now, else a [`Hashed`] event will
    /// follow.
    pub fn leaving(&mut self, event: &mut Event) {
        let header = event.header;
        let Some(process) = unhashed(event) else {
            return;
        };
        match self.answer(process, &header) {
            Some(Ok(digest)) => {
                process.sha256 = Some(digest.sha256);
                (process.exe_changed, process.exe_touched) = (digest.changed, digest.touched);
                self.stats.in_time += 1;
                self.stats.mark(&digest);
            }
            Some(Err(failure)) => {
                self.stats.later.take_in(1);
                self.ready.push_back(Ready::of(process, header, failure));
            }
            None => {}
        }
    }

    /// The next event that follows an exec, if there is one.
    pub fn next_event(&mut self) -> Option<Event> {
        let ready = self.ready.pop_front()?;
        self.stats.later.hand_on(1);
        match ready.outcome {
            Ok(digest) => self.stats.mark(&digest),
            Err(failure) => self.stats.fail(failure),
        }
        let mut header = self.clock.header(ready.exec.boot);
        header.time = header.time.max(ready.exec.time);
        Some(ready.into_event(header))
    }

    /// Takes in what the worker has done, and gives it up if it hangs in a file.
    pub fn collect(&mut self) {
        loop {
            match self.workers.results().try_recv() {
                Ok(done) => self.take(done),
                Err(TryRecvError::Empty) => return self.supervise(Instant::now()),
                Err(TryRecvError::Disconnected) => return self.worker_ended(),
            }
        }
    }

    /// How long until [`Hasher::collect`] is to be called even if no result comes; `None` while
    /// nothing is under way.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        if self.asked.is_empty() {
            return None;
        }
        let due = self.workers.due();
        Some(due.map_or(self.workers.pause(), |due| {
            due.saturating_duration_since(now)
        }))
    }

    /// The file in which a worker hangs has no digest; what else was asked of it another one reads.
    pub(super) fn supervise(&mut self, now: Instant) {
        self.workers.resume();
        let Some(name) = self.workers.stalled(now) else {
            return;
        };
        self.take(Done {
            name,
            outcome: Err(HashFailure::Stalled),
            bytes_read: 0,
        });
        self.replace_worker(HashFailure::Stalled);
    }

    /// Without another worker, what is under way fails.
    fn replace_worker(&mut self, failure: HashFailure) {
        match self.workers.replace() {
            Some(open) => self.ask_again(&open),
            None => self.give_up(failure),
        }
    }

    /// Asks for what is under way, but for the files that are open.
    fn ask_again(&mut self, open: &HashSet<Name>) {
        let open = self
            .asked
            .iter()
            .filter(|(name, asked)| asked.outcome.is_none() && !open.contains(name));
        let jobs: Vec<Job> = open
            .map(|(name, asked)| Job {
                name: *name,
                wanted: asked.wanted.clone(),
            })
            .collect();
        for job in jobs {
            let name = job.name;
            if !self.workers.send_again(job) {
                self.take(Done {
                    name,
                    outcome: Err(HashFailure::QueueFull),
                    bytes_read: 0,
                });
            }
        }
    }

    /// No more execs come: waits a while for the digests under way, and gives up the others.
    pub fn finish(&mut self) {
        let deadline = Instant::now() + self.policy.patience;
        while self.waiting > 0
            && let Ok(done) = self.workers.results().recv_deadline(deadline)
        {
            self.take(done);
        }
        self.workers.end();
        self.give_up(HashFailure::QueueFull);
    }

    /// Counters as of now.
    #[must_use]
    pub fn stats(&self) -> HashStats {
        HashStats {
            cache: self.cache().len() as u64,
            ..self.stats.clone()
        }
    }

    /// To wait on; what comes goes to [`Hasher::done`].
    pub(crate) fn results(&self) -> &Receiver<Done> {
        self.workers.results()
    }

    /// A result, or the end of the worker.
    pub(crate) fn done(&mut self, done: Option<Done>) {
        match done {
            Some(done) => self.take(done),
            None => self.worker_ended(),
        }
    }

    /// Only by a panic, which said why itself. The file in which it was is not tried again.
    fn worker_ended(&mut self) {
        tracing::error!("the thread that hashes executables ended; another one takes its place");
        match self.workers.ended_in() {
            Some(name) => self.take(Done {
                name,
                outcome: Err(HashFailure::Unreadable),
                bytes_read: 0,
            }),
            None => self.give_up(HashFailure::Unreadable),
        }
        self.replace_worker(HashFailure::Unreadable);
    }

    fn answer(
        &mut self,
        process: &mut Process,
        header: &Header,
    ) -> Option<Result<Digest, HashFailure>> {
        if let Some(failure) = self.known_failure(process) {
            return Some(Err(failure));
        }
        let Some(wanted) = Wanted::of(process) else {
            return Some(Err(HashFailure::Gone));
        };
        let name = Name::of(&wanted, header);
        if let Some(asked) = self.asked.get_mut(&name) {
            asked.expected = asked.expected.saturating_sub(1);
            if let Some(outcome) = asked.outcome {
                self.forget_if_unwanted(name);
                return Some(outcome);
            }
        } else if let Some(sha256) = self.cached(&name.file) {
            return Some(Ok(Change::None.digest(sha256)));
        }
        self.await_it(name, wanted, header)
    }

    /// Puts an exec on the list of those that wait.
    fn await_it(
        &mut self,
        name: Name,
        wanted: Wanted,
        header: &Header,
    ) -> Option<Result<Digest, HashFailure>> {
        if self.waiting >= self.policy.waiting {
            return Some(Err(HashFailure::QueueFull));
        }
        let Some(asked) = self.ask(name, wanted.clone()) else {
            return Some(Err(self.refusal()));
        };
        asked.waiting.push((*header, wanted));
        self.waiting += 1;
        self.stats.later.take_in(1);
        None
    }

    /// Asks for a file unless that is done already; `None` if the worker takes no more.
    fn ask(&mut self, name: Name, wanted: Wanted) -> Option<&mut Asked> {
        if !self.asked.contains_key(&name) {
            let job = Job {
                name,
                wanted: wanted.clone(),
            };
            self.workers.send(job).then_some(())?;
        }
        Some(self.asked.entry(name).or_insert_with(|| Asked {
            wanted,
            expected: 0,
            waiting: Vec::new(),
            outcome: None,
        }))
    }

    /// Why nobody takes a job.
    fn refusal(&self) -> HashFailure {
        if self.workers.is_paused() {
            HashFailure::Stalled
        } else {
            HashFailure::QueueFull
        }
    }

    fn take(&mut self, done: Done) {
        self.stats.bytes_read += done.bytes_read;
        self.stats.files_read += u64::from(done.bytes_read > 0 && done.outcome.is_ok());
        let Some(asked) = self.asked.get_mut(&done.name) else {
            return;
        };
        // The first one holds: a file can hang as it is closed.
        let outcome = *asked.outcome.get_or_insert(done.outcome);
        let waiting = std::mem::take(&mut asked.waiting);
        self.waiting -= waiting.len();
        self.make_ready(waiting, outcome);
        self.forget_if_unwanted(done.name);
    }

    fn make_ready(&mut self, waiting: Vec<(Header, Wanted)>, outcome: Result<Digest, HashFailure>) {
        let ready = waiting.into_iter().map(|(exec, wanted)| Ready {
            exec,
            wanted,
            named: true,
            outcome,
        });
        self.ready.extend(ready);
    }

    fn forget_if_unwanted(&mut self, name: Name) {
        if self
            .asked
            .get(&name)
            .is_some_and(|asked| asked.expected == 0)
        {
            self.asked.remove(&name);
        }
    }

    fn give_up(&mut self, failure: HashFailure) {
        for asked in std::mem::take(&mut self.asked).into_values() {
            self.make_ready(asked.waiting, Err(failure));
        }
        self.waiting = 0;
    }

    fn known_failure(&self, process: &Process) -> Option<HashFailure> {
        let file = process.exe_file?;
        (file.size > self.policy.max_bytes).then_some(HashFailure::TooLarge)
    }

    fn fill_from_cache(&mut self, process: &mut Process) -> bool {
        let file = process.exe_file.as_ref().map(FileKey::of);
        process.sha256 = file.and_then(|file| self.cached(&file));
        self.stats.cached += u64::from(process.sha256.is_some());
        process.sha256.is_some()
    }

    fn cached(&self, file: &FileKey) -> Option<[u8; 32]> {
        file.is_complete().then(|| self.cache().get(file))?
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ready {
    fn of(process: &Process, exec: Header, failure: HashFailure) -> Self {
        let wanted = Wanted {
            key: process.key,
            exe: process.exe.clone(),
            file: process.exe_file.unwrap_or_default(),
        };
        Self {
            exec,
            wanted,
            named: process.exe_file.is_some(),
            outcome: Err(failure),
        }
    }

    fn into_event(self, header: Header) -> Event {
        let hashed = Hashed {
            key: self.wanted.key,
            exe: self.wanted.exe,
            exe_file: self.named.then_some(self.wanted.file),
            outcome: self.outcome,
        };
        Event {
            header,
            kind: EventKind::Hashed(Box::new(hashed)),
        }
    }
}

/// The process of an exec that has no digest yet.
fn unhashed(event: &mut Event) -> Option<&mut Process> {
    match &mut event.kind {
        EventKind::Exec(exec) => Some(&mut exec.process).filter(|p| p.sha256.is_none()),
        _ => None,
    }
}
