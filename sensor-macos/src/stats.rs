use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event::{DropReason, EventClass, QueueCounts, Stats};

/// Counts of the sensor, shared by the callback that takes messages in and the reader.
#[derive(Debug, Clone, Default)]
pub(crate) struct Balance {
    pub(crate) counts: QueueCounts,
    sequences: Arc<Mutex<Sequences>>,
}

#[derive(Debug, Default)]
struct Sequences {
    /// Number of the last message of each kind.
    last: BTreeMap<EventClass, u64>,
    gaps: u64,
}

impl Balance {
    /// An event waits in the queue. `sequence` counts the messages of its class as macOS sends
    /// them: what is missing between it and the one before was lost by macOS.
    pub(crate) fn hold(&self, class: EventClass, sequence: Option<u64>) {
        self.counts.hold(&[class]);
        let missing = sequence.map_or(0, |sequence| self.sequences().follow(class, sequence));
        self.counts.lose(&[class], DropReason::SourceLost, missing);
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            sequence_gaps: self.sequences().gaps,
            ..self.counts.stats()
        }
    }

    fn sequences(&self) -> MutexGuard<'_, Sequences> {
        // No code that holds the lock can leave it half changed.
        self.sequences
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sequences {
    /// How many are missing before this one.
    fn follow(&mut self, class: EventClass, sequence: u64) -> u64 {
        let last = self.last.insert(class, sequence);
        let missing = last.map_or(0, |last| sequence.saturating_sub(last.saturating_add(1)));
        self.gaps += missing;
        missing
    }
}
