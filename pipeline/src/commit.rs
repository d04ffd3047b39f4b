//! The ledger's thread: appends what the stages number, makes it durable in groups, signs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::{Checkpoint, Ledger};

use crate::Error;
use crate::deliver::Batch;
use crate::handle::Shared;
use crate::queue::Receiver;

/// When leaves become durable and signed.
#[derive(Debug, Clone, Copy)]
pub struct CommitPolicy {
    /// A leaf is durable at most so long after it was appended …
    pub interval: Duration,
    /// … or once so many wait.
    pub leaves: u64,
    /// A leaf is covered by a checkpoint at most so long after it was appended.
    pub checkpoint_interval: Duration,
}

impl Default for CommitPolicy {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(200),
            leaves: 1_000,
            checkpoint_interval: Duration::from_secs(10),
        }
    }
}

/// Under this name the ledger remembers how far the agent has got.
pub(crate) const AGENT_CURSOR: &str = "agent";

/// What this thread needs of a ledger; tests put one in that fails.
pub(crate) trait Log: Send {
    fn append(&mut self, leaf: &[u8]) -> Result<u64, ledger::Error>;
    fn commit(&mut self) -> Result<u64, ledger::Error>;
    fn checkpoint(&mut self) -> Result<Checkpoint, ledger::Error>;
    fn set_cursor(&mut self, name: &str, index: u64);
}

impl Log for Ledger {
    fn append(&mut self, leaf: &[u8]) -> Result<u64, ledger::Error> {
        Ledger::append(self, leaf)
    }

    fn commit(&mut self) -> Result<u64, ledger::Error> {
        Ledger::commit(self)
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, ledger::Error> {
        Ledger::checkpoint(self)
    }

    fn set_cursor(&mut self, name: &str, index: u64) {
        Ledger::set_cursor(self, name, index);
    }
}

pub(crate) struct Committer<L> {
    log: L,
    batches: Receiver<Arc<Batch>>,
    policy: CommitPolicy,
    shared: Arc<Shared>,
    pending: Pending,
    /// When the oldest leaf came that no checkpoint covers.
    unsigned_since: Option<Instant>,
}

/// Leaves appended since the last commit.
#[derive(Debug, Default)]
struct Pending {
    events: u64,
    findings: u64,
    urgent: bool,
    since: Option<Instant>,
}

enum Received {
    Batch(Arc<Batch>),
    Timer,
    End,
}

impl<L: Log> Committer<L> {
    pub(crate) fn new(
        log: L,
        batches: Receiver<Arc<Batch>>,
        policy: CommitPolicy,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            log,
            batches,
            policy,
            shared,
            pending: Pending::default(),
            unsigned_since: None,
        }
    }

    /// Until the stages end; leaves a last checkpoint in `shared`.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        loop {
            match self.receive() {
                Received::Batch(batch) => self.append(&batch)?,
                Received::Timer => {}
                Received::End => break,
            }
            let now = Instant::now();
            if self.commit_is_due(now) {
                self.commit()?;
            }
            if self.checkpoint_due().is_some_and(|due| due <= now) {
                self.checkpoint()?;
            }
        }
        let checkpoint = self.checkpoint()?;
        self.shared.set_checkpoint(checkpoint);
        Ok(())
    }

    /// Waits without end when there is nothing to commit or sign.
    fn receive(&self) -> Received {
        let channel = self.batches.channel();
        let due = [self.commit_due(), self.checkpoint_due()]
            .into_iter()
            .flatten()
            .min();
        let received = match due {
            Some(due) => channel.recv_deadline(due),
            None => channel.recv().map_err(Into::into),
        };
        match received {
            Ok(charged) => Received::Batch(self.batches.accept(charged)),
            Err(error) if error.is_timeout() => Received::Timer,
            Err(_) => Received::End,
        }
    }

    fn append(&mut self, batch: &Batch) -> Result<(), Error> {
        for (expected, leaf) in (batch.first..).zip(&batch.leaves) {
            let given = self.log.append(leaf)?;
            if given != expected {
                return Err(Error::LeafIndex { expected, given });
            }
        }
        self.pending.add(batch);
        if !batch.leaves.is_empty() {
            self.unsigned_since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn commit_due(&self) -> Option<Instant> {
        Some(self.pending.since? + self.policy.interval)
    }

    fn checkpoint_due(&self) -> Option<Instant> {
        Some(self.unsigned_since? + self.policy.checkpoint_interval)
    }

    fn commit_is_due(&self, now: Instant) -> bool {
        self.pending.urgent
            || self.pending.count() >= self.policy.leaves
            || self.commit_due().is_some_and(|due| due <= now)
    }

    fn commit(&mut self) -> Result<(), Error> {
        let size = self.log.commit()?;
        self.is_durable(size);
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, Error> {
        let acknowledged = self.shared.outlet.acknowledged();
        if acknowledged > 0 {
            self.log.set_cursor(AGENT_CURSOR, acknowledged);
        }
        let checkpoint = self.log.checkpoint()?;
        self.unsigned_since = None;
        self.is_durable(checkpoint.size());
        self.shared.counters.update(|stats| stats.checkpoints += 1);
        Ok(checkpoint)
    }

    fn is_durable(&mut self, size: u64) {
        let pending = std::mem::take(&mut self.pending);
        self.shared.counters.update(|stats| {
            stats.ledger.hand_on(pending.events);
            stats.findings.hand_on(pending.findings);
            stats.durable_size = size;
            stats.commits += u64::from(pending.count() > 0);
        });
        self.shared.outlet.committed();
    }
}

/// Also when it panics: an agent that waits for a leaf to become durable must learn that none will.
impl<L> Drop for Committer<L> {
    fn drop(&mut self) {
        self.shared.outlet.close_ledger();
    }
}

impl Pending {
    fn add(&mut self, batch: &Batch) {
        self.events += batch.events;
        self.findings += batch.findings;
        self.urgent |= batch.urgent;
        if self.count() > 0 {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    fn count(&self) -> u64 {
        self.events + self.findings
    }
}
