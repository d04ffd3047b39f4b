use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event::{AnnouncedLosses, BootTime, DropReason, EventClass, Lost, Stats};

/// Counts of the sensor, shared by the callback that takes records in and the reader.
///
/// Every step moves the same number from one count to another under one lock, so that
/// `seen = delivered + dropped + held` holds at all times.
#[derive(Debug, Clone, Default)]
pub(crate) struct Balance(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    seen: u64,
    delivered: u64,
    held: u64,
    dropped: BTreeMap<(EventClass, DropReason), u64>,
    /// Of `dropped`, what `Lost` events have told.
    announced: AnnouncedLosses,
}

impl Balance {
    /// Events of these classes wait in the queue.
    pub(crate) fn hold(&self, classes: &[EventClass]) {
        let mut counts = self.lock();
        counts.seen += length(classes);
        counts.held += length(classes);
    }

    /// Held events had no room.
    pub(crate) fn let_go(&self, classes: &[EventClass]) {
        let mut counts = self.lock();
        counts.held -= length(classes);
        for class in classes {
            *counts
                .dropped
                .entry((*class, DropReason::QueueFull))
                .or_default() += 1;
        }
    }

    /// Events that never came as far as the queue.
    pub(crate) fn lose(&self, classes: &[EventClass], reason: DropReason, count: u64) {
        let mut counts = self.lock();
        counts.seen += count * length(classes);
        for class in classes.iter().filter(|_| count > 0) {
            *counts.dropped.entry((*class, reason)).or_default() += count;
        }
    }

    /// A held record became `given` events, which can be fewer than it was counted as.
    pub(crate) fn give_held(&self, classes: &[EventClass], given: usize) {
        let mut counts = self.lock();
        let given = given as u64;
        counts.held -= length(classes);
        counts.seen = counts.seen - length(classes) + given;
        counts.delivered += given;
    }

    /// Events given out that no queue held.
    pub(crate) fn give(&self, count: usize) {
        let mut counts = self.lock();
        counts.seen += count as u64;
        counts.delivered += count as u64;
    }

    /// What was dropped since the last call, to be told as `Lost` events.
    pub(crate) fn announce(&self, now: BootTime) -> Vec<Lost> {
        let Counts {
            dropped, announced, ..
        } = &mut *self.lock();
        let totals = dropped
            .iter()
            .map(|((class, reason), total)| (*class, *reason, *total));
        announced.tell(totals, now)
    }

    pub(crate) fn stats(&self) -> Stats {
        let counts = self.lock();
        Stats {
            seen: counts.seen,
            delivered: counts.delivered,
            held: counts.held,
            dropped: counts
                .dropped
                .iter()
                .map(|(&(class, reason), n)| (class, reason, *n))
                .collect(),
            ..Stats::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // No code that holds the lock can leave the counts half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn length(classes: &[EventClass]) -> u64 {
    classes.len() as u64
}
