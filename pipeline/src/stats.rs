use std::sync::{Mutex, PoisonError};

use event::{EventClass, WallTime};

use crate::TableStats;
use crate::hash::HashStats;

/// What came into a stage and what became of it. `seen = delivered + dropped + held` at all times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balance {
    /// Came in.
    pub seen: u64,
    /// Handed on to the next stage.
    pub delivered: u64,
    /// Given up: only when the pipeline failed or the ledger is suspended.
    pub dropped: u64,
    /// In the stage now.
    pub held: u64,
}

impl Balance {
    /// Whether nothing went astray.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.seen == self.delivered + self.dropped + self.held
    }

    pub(crate) fn take_in(&mut self, count: u64) {
        self.seen += count;
        self.held += count;
    }

    pub(crate) fn hand_on(&mut self, count: u64) {
        self.delivered += count;
        self.held -= count;
    }

    pub(crate) fn give_up(&mut self, count: u64) {
        self.dropped += count;
        self.held -= count;
    }
}

/// Counters since the start, consistent with each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// The sensor's own, as of the last poll (at most a second old; exact at the end).
    pub sensor: event::Stats,
    /// Events between sensor and stages.
    pub queue: Balance,
    /// Events being ordered, enriched and encoded.
    pub stages: Balance,
    /// Event leaves on their way into the ledger; delivered means durable.
    pub ledger: Balance,
    /// Finding leaves, from when the stages take them until they are durable.
    pub findings: Balance,
    /// Events seen, by [`EventClass::ALL`]: those that came from the sensor, and digests that
    /// followed their exec.
    pub classes: [u64; EventClass::ALL.len()],
    /// `Lost` events among those seen, which the sensor does not count as delivered.
    pub lost_events: u64,
    /// Events that these report as lost.
    pub lost: u64,
    /// Events that came too late for their place in the order and were passed on out of it.
    pub late: u64,
    /// Secrets taken out of arguments.
    pub redactions: u64,
    /// Events and findings cut because they would not fit a leaf.
    pub cut: u64,
    /// The process table.
    pub table: TableStats,
    /// Digests of executables.
    pub hashing: HashStats,
    /// What the agent got.
    pub agent: AgentStats,
    /// Leaves in the ledger at the start: the index of this run's first leaf.
    pub first_index: u64,
    /// Leaf indices given so far: the next leaf's index.
    pub size: u64,
    /// Leaves that survive a power loss.
    pub durable_size: u64,
    /// Leaves that are not in the ledger because the disk is full. Above zero, the ledger is
    /// suspended until the next start; the agent goes on getting leaves.
    pub unrecorded: u64,
    /// Commits done.
    pub commits: u64,
    /// Leaves by which the ledger's keys handed over to new ones.
    pub rotations: u64,
    /// Leaves by which the ledger stated that it dropped others.
    pub gaps: u64,
    /// The first leaf that the ledger keeps.
    pub kept_from: u64,
    /// Bytes that the ledger would drop and keeps, because the agent has not matched what is in them.
    pub held_up: u64,
    /// Times that leaves could not be dropped; each is tried again.
    pub drop_errors: u64,
    /// The last time was one of these.
    pub drops_fail: bool,
    /// Checkpoints signed.
    pub checkpoints: u64,
    /// The last of them; `None` before the first one of this run.
    pub last_checkpoint: Option<Signed>,
}

/// A checkpoint that was signed in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// Leaves that it covers.
    pub size: u64,
    /// When.
    pub at: WallTime,
}

/// How leaves reached the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AgentStats {
    /// Leaves straight from the stages.
    pub live: u64,
    /// Leaves read back from the ledger, because the agent was behind.
    pub from_ledger: u64,
    /// Leaves that it was too slow for while the ledger was suspended, and will never get.
    pub skipped: u64,
    /// Leaves that it asked for and that were dropped before.
    pub not_kept: u64,
}

impl Stats {
    pub(crate) fn count(&mut self, class: EventClass, count: u64) {
        let place = EventClass::ALL.iter().position(|known| *known == class);
        self.classes[place.expect("every class is in the list")] += count;
    }

    /// From sensor to durable leaf. `Lost` events are events here, and so are digests that follow
    /// their exec, from when that left without.
    #[must_use]
    pub fn overall(&self) -> Balance {
        let stages = [self.queue, self.hashing.later, self.stages, self.ledger];
        Balance {
            seen: self.queue.seen + self.hashing.later.seen,
            delivered: self.ledger.delivered,
            dropped: stages.iter().map(|stage| stage.dropped).sum(),
            held: stages.iter().map(|stage| stage.held).sum(),
        }
    }

    /// Whether every balance holds and each stage saw what the one before handed on.
    #[must_use]
    pub fn balanced(&self) -> bool {
        [
            self.queue,
            self.hashing.later,
            self.stages,
            self.ledger,
            self.findings,
            self.overall(),
        ]
        .iter()
        .all(Balance::holds)
            && self.queue.delivered + self.hashing.later.delivered == self.stages.seen
            && self.stages.delivered == self.ledger.seen
            && self.queue.seen + self.hashing.later.delivered == self.classes.iter().sum::<u64>()
    }

    /// Whether the sensor's own account agrees with what came from it. Only at the end, when the
    /// sensor was polled last, does it have to.
    #[must_use]
    pub fn sensor_agrees(&self) -> bool {
        let sensor = &self.sensor;
        sensor.seen == sensor.delivered + sensor.dropped_total() + sensor.held
            && sensor.delivered + self.lost_events == self.queue.seen
    }

    /// Whether the ledger grew by exactly the leaves counted as durable. Holds at all times.
    #[must_use]
    pub fn ledger_agrees(&self) -> bool {
        let leaves = self.ledger.delivered + self.findings.delivered + self.rotations + self.gaps;
        self.first_index + leaves == self.durable_size
    }
}

/// The counters of a running pipeline. One lock, taken once per batch: what moves from one stage
/// to the next moves at once, so that every reader sees balances that hold. Separate atomics could
/// not promise that.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<Stats>);

impl Counters {
    pub(crate) fn update(&self, change: impl FnOnce(&mut Stats)) {
        // Every change is a few additions: a panic of another holder left nothing half done.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn snapshot(&self) -> Stats {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
