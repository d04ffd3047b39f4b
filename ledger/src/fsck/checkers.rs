//! Threads that check stretches; what they find is taken in the order of the log.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, Scope};

use super::stretch::{Checked, Stretch, Unchecked};

/// Stretches that wait or are checked, for each thread: so many mebibytes.
const AHEAD: usize = 2;

/// More than this would wait for the disk and for the thread that puts all together.
const MOST_THREADS: usize = 8;

type Job = (Unchecked, SyncSender<Checked>);

/// Threads that check, which end when this is dropped.
pub(super) struct Checkers {
    jobs: Sender<Job>,
    /// In the order of the log.
    results: VecDeque<Receiver<Checked>>,
    most: usize,
    /// Memory to use again.
    used: Vec<Stretch>,
}

/// Where threads find what to check.
pub(super) struct Queue(Mutex<Receiver<Job>>);

pub(super) fn queue() -> (Sender<Job>, Queue) {
    let (jobs, queue) = channel();
    (jobs, Queue(Mutex::new(queue)))
}

impl Checkers {
    /// As many as there are processors.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        (jobs, queue): (Sender<Job>, &'scope Queue),
    ) -> Checkers {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(MOST_THREADS);
        for _ in 0..threads {
            scope.spawn(|| queue.work());
        }
        Checkers {
            jobs,
            results: VecDeque::new(),
            most: AHEAD * threads,
            used: Vec::new(),
        }
    }

    pub(super) fn check(&mut self, stretch: Unchecked) {
        let (result, receiver) = sync_channel(1);
        self.jobs
            .send((stretch, result))
            .expect("the queue outlives its threads");
        self.results.push_back(receiver);
    }

    /// What the oldest check came to; before that is awaited, as many as may be are under way, unless
    /// there are no more.
    pub(super) fn next(&mut self, no_more: bool) -> Option<Checked> {
        if !no_more && self.results.len() < self.most {
            return None;
        }
        let oldest = self.results.pop_front()?;
        Some(oldest.recv().expect("a check does not panic"))
    }

    /// An empty stretch.
    pub(super) fn empty(&mut self) -> Stretch {
        self.used.pop().unwrap_or_default()
    }

    pub(super) fn done(&mut self, stretch: Stretch) {
        self.used.push(stretch);
    }
}

impl Queue {
    fn work(&self) {
        while let Some((stretch, result)) = self.next() {
            // Nobody waits for it once something else was found wrong.
            let _ = result.send(stretch.check());
        }
    }

    fn next(&self) -> Option<Job> {
        self.0.lock().ok()?.recv().ok()
    }
}
