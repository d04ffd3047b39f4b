use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{AnnouncedLosses, BootTime, DropReason, EventClass, Lost, Stats};

/// Counts of a sensor with a queue, shared by the callback that fills it and the reader.
///
/// A record in the queue is counted by the classes of the events that it will become. Every step moves the same number from one count to another under one lock, so that
/// `seen = delivered + dropped + held` holds at all times.
#[derive(Debug, Clone, Default)]
pub struct QueueCounts(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    seen: u64,
    delivered: u64,
    held: u64,
    dropped: BTreeMap<(EventClass, DropReason), u64>,
    /// Of `dropped`, what `Lost` events have told.
    announced: AnnouncedLosses,
}

impl QueueCounts {
    /// Events of these classes wait in the queue.
    pub fn hold(&self, classes: &[EventClass]) {
        let mut counts = self.lock();
        counts.seen += length(classes);
        counts.held += length(classes);
    }

    /// Held events had no room.
    pub fn let_go(&self, classes: &[EventClass]) {
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
    pub fn lose(&self, classes: &[EventClass], reason: DropReason, count: u64) {
        let mut counts = self.lock();
        counts.seen += count * length(classes);
        for class in classes.iter().filter(|_| count > 0) {
            *counts.dropped.entry((*class, reason)).or_default() += count;
        }
    }

    /// A held record became `given` events, which can be fewer than it was counted as.
    pub fn give_held(&self, classes: &[EventClass], given: usize) {
        let mut counts = self.lock();
        let given = given as u64;
        counts.held -= length(classes);
        counts.seen = counts.seen - length(classes) + given;
        counts.delivered += given;
    }

    /// Events given out that no queue held.
    pub fn give(&self, count: usize) {
        let mut counts = self.lock();
        counts.seen += count as u64;
        counts.delivered += count as u64;
    }

    /// What was dropped since the last call, to be told as `Lost` events.
    pub fn announce(&self, now: BootTime) -> Vec<Lost> {
        let Counts {
            dropped, announced, ..
        } = &mut *self.lock();
        let totals = dropped
            .iter()
            .map(|((class, reason), total)| (*class, *reason, *total));
        announced.tell(totals, now)
    }

    /// As of now.
    #[must_use]
    pub fn stats(&self) -> Stats {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_balance_after_every_step() {
        let counts = QueueCounts::default();
        let both = [EventClass::Fork, EventClass::Exec];
        let check = |delivered, dropped, held| {
            let stats = counts.stats();
            assert_eq!(
                (stats.delivered, stats.dropped_total(), stats.held),
                (delivered, dropped, held)
            );
            assert_eq!(stats.seen, delivered + dropped + held);
        };
        counts.hold(&both);
        counts.hold(&both);
        check(0, 0, 4);
        counts.let_go(&both);
        check(0, 2, 2);
        counts.give_held(&both, 1);
        check(1, 2, 0);
        counts.lose(&both, DropReason::SourceLost, 3);
        counts.give(5);
        check(6, 8, 0);
        let told = counts.announce(BootTime(1));
        assert_eq!(told.iter().map(|lost| lost.count).sum::<u64>(), 8);
        assert_eq!(counts.announce(BootTime(2)), []);
    }
}
