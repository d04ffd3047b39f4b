use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event::{AnnouncedLosses, BootTime, DropReason, EventClass, Lost, Stats};

/// Counts of the sensor, shared by the callback that takes messages in and the reader.
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
    /// Number of the last message of each kind.
    sequences: BTreeMap<EventClass, u64>,
    sequence_gaps: u64,
}

impl Balance {
    /// An event waits in the queue. `sequence` counts the messages of its class as macOS sends
    /// them: what is missing between it and the one before was lost by macOS.
    pub(crate) fn hold(&self, class: EventClass, sequence: Option<u64>) {
        let counts = &mut *self.lock();
        counts.seen += 1;
        counts.held += 1;
        let Some(sequence) = sequence else { return };
        let last = counts.sequences.insert(class, sequence);
        let missing = last.map_or(0, |last| sequence.saturating_sub(last.saturating_add(1)));
        if missing > 0 {
            counts.seen += missing;
            counts.sequence_gaps += missing;
            *counts
                .dropped
                .entry((class, DropReason::SourceLost))
                .or_default() += missing;
        }
    }

    /// A held event had no room.
    pub(crate) fn let_go(&self, class: EventClass) {
        let mut counts = self.lock();
        counts.held -= 1;
        *counts
            .dropped
            .entry((class, DropReason::QueueFull))
            .or_default() += 1;
    }

    /// A message that could not be copied.
    pub(crate) fn malformed(&self) {
        let mut counts = self.lock();
        counts.seen += 1;
        *counts
            .dropped
            .entry((EventClass::Unknown, DropReason::Malformed))
            .or_default() += 1;
    }

    /// A held message became an event, or none because the snapshot told it already.
    pub(crate) fn give_held(&self, given: usize) {
        let mut counts = self.lock();
        let given = given as u64;
        counts.held -= 1;
        counts.seen = counts.seen - 1 + given;
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
            sequence_gaps: counts.sequence_gaps,
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
