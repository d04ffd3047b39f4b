//! The ledger's thread: appends what the stages number, makes it durable in groups, signs.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{RecvTimeoutError, Sender, TryRecvError};
use event::WallTime;
use ledger::{Checkpoint, Expired, Ledger, Retention};

use crate::Error;
use crate::deliver::{Batch, FromStages, Own};
use crate::handle::{LogStart, Shared};
use crate::stats::Signed;

/// When leaves become durable and signed.
#[derive(Debug, Clone, Copy)]
pub struct CommitPolicy {
    /// A leaf is durable at most so long after it was appended …
    pub interval: Duration,
    /// … or once so many wait.
    pub leaves: u64,
    /// A leaf is covered by a checkpoint at most so long after it was appended …
    pub checkpoint_interval: Duration,
    /// … or once so many leaves wait for one.
    pub checkpoint_leaves: u64,
    /// Without leaves, a checkpoint is signed again so long after the last: that nothing came.
    pub heartbeat: Duration,
    /// Leaves that could not be dropped are tried again so much later, and each time after twice that,
    /// up to an hour.
    pub drop_retry: Duration,
}

impl Default for CommitPolicy {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(200),
            leaves: 1_000,
            checkpoint_interval: Duration::from_secs(10),
            checkpoint_leaves: 1 << 17,
            heartbeat: Duration::from_secs(300),
            drop_retry: Duration::from_secs(10),
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
    fn heartbeat(&mut self) -> Result<Checkpoint, ledger::Error>;
    fn rotate(&mut self) -> Result<u64, ledger::Error>;
    fn set_cursor(&mut self, name: &str, index: u64);
    fn durable_size(&self) -> u64;
    fn expired(
        &mut self,
        retention: &Retention,
        needed: u64,
    ) -> Result<Option<Expired>, ledger::Error>;
    fn held_up(&self) -> u64;
    fn drop_expired(&mut self, expired: Expired) -> Result<u64, ledger::Error>;
    fn put_off(&mut self) -> Option<ledger::Error>;
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

    fn heartbeat(&mut self) -> Result<Checkpoint, ledger::Error> {
        Ledger::heartbeat(self)
    }

    fn rotate(&mut self) -> Result<u64, ledger::Error> {
        Ledger::rotate(self)
    }

    fn set_cursor(&mut self, name: &str, index: u64) {
        Ledger::set_cursor(self, name, index);
    }

    fn durable_size(&self) -> u64 {
        Ledger::durable_size(self)
    }

    fn expired(
        &mut self,
        retention: &Retention,
        needed: u64,
    ) -> Result<Option<Expired>, ledger::Error> {
        Ledger::expired(self, retention, needed)
    }

    fn held_up(&self) -> u64 {
        Ledger::held_up(self)
    }

    fn drop_expired(&mut self, expired: Expired) -> Result<u64, ledger::Error> {
        Ledger::drop_expired(self, expired)
    }

    fn put_off(&mut self) -> Option<ledger::Error> {
        Ledger::put_off(self)
    }
}

pub(crate) struct Committer<L> {
    log: L,
    stages: FromStages,
    policy: CommitPolicy,
    shared: Arc<Shared>,
    /// Index after the last leaf that came.
    end: u64,
    /// How far the agent is, as the last batch tells.
    acknowledged: u64,
    /// What the ledger has of that.
    cursor: Option<u64>,
    /// How often to look for a batch before sleeping.
    looks: usize,
    pending: Pending,
    /// When the oldest leaf came that no checkpoint covers.
    unsigned_since: Option<Instant>,
    /// Leaves that it does not cover.
    unsigned: u64,
    /// When a checkpoint was last signed, or this thread began.
    signed_at: Instant,
    /// Who else is to have each checkpoint.
    copies: Option<Sender<Checkpoint>>,
    keeping: Option<Keeping>,
    /// What of the ledger's upkeep was last told to have failed.
    put_off: Option<String>,
}

/// What is kept, and what is about to go.
struct Keeping {
    retention: Retention,
    /// Asks the stages for an index.
    ask: Sender<()>,
    /// Waits for the leaf that states it.
    expired: Option<Expired>,
    /// When to look at the age of leaves next.
    age_due: Instant,
    clock: Evenness,
    /// Bytes that would go and stay for the agent: as last seen, and as last seen with their age.
    held_up: (u64, u64),
    /// After a failure: when to look again, and how long to wait after the next one.
    retry: Option<(Instant, Duration)>,
}

/// Longest wait between two attempts to drop leaves.
const MAX_DROP_RETRY: Duration = Duration::from_secs(3600);

impl Keeping {
    /// What is looked at now, if anything is.
    fn looks_at(&mut self, now: Instant, wall: SystemTime) -> Option<Retention> {
        let is_even = self.retention.seconds.is_none() || self.clock.holds(now, wall);
        if self.expired.is_some() || self.retry.is_some_and(|(at, _)| now < at) {
            return None;
        }
        let mut retention = self.retention;
        match is_even && self.age_due <= now {
            true => self.age_due = now + AGE_INTERVAL,
            false => retention.seconds = None,
        }
        Some(retention)
    }

    /// Bytes that stay for the agent, given what was just looked at.
    fn holds_up(&mut self, bytes: u64, looked_at: &Retention) -> u64 {
        self.held_up.0 = bytes;
        if looked_at.seconds.is_some() {
            self.held_up.1 = bytes;
        }
        self.held_up.0.max(self.held_up.1)
    }

    /// How long until it is tried again.
    fn failed(&mut self, now: Instant, first: Duration) -> Duration {
        let wait = self.retry.map_or(first, |(_, next)| next);
        self.retry = Some((now + wait, (wait * 2).min(MAX_DROP_RETRY)));
        // The age is to be looked at then, too.
        self.age_due = now;
        wait
    }
}

/// Between two looks at the age of leaves, which read the list of checkpoints.
const AGE_INTERVAL: Duration = Duration::from_secs(300);

/// How evenly the wall clock runs. One that stands far ahead, for a moment or since boot, would make
/// all leaves old, and what is dropped does not come back.
struct Evenness {
    /// Since when it runs as the monotonic clock does.
    since: Instant,
    last: (Instant, SystemTime),
}

impl Evenness {
    /// How long it has to run evenly before anything is dropped for its age: time to be set right.
    const NEEDED: Duration = Duration::from_secs(600);

    /// A leap ahead of so much is one.
    const LEAP: Duration = Duration::from_secs(60);

    fn new(now: Instant, wall: SystemTime) -> Self {
        Self {
            since: now,
            last: (now, wall),
        }
    }

    /// Takes in what both clocks say; whether it has run evenly for long enough.
    fn holds(&mut self, now: Instant, wall: SystemTime) -> bool {
        let (before, wall_before) = std::mem::replace(&mut self.last, (now, wall));
        // None if it was set back, which makes no leaf old.
        let ran = wall.duration_since(wall_before).unwrap_or_default();
        if ran > now.duration_since(before) + Self::LEAP {
            self.since = now;
            tracing::warn!(
                "the clock went ahead by {} s (it was set, or the machine slept): no entries are \
                 dropped for their age for {} s",
                (ran - now.duration_since(before)).as_secs(),
                Self::NEEDED.as_secs()
            );
        }
        now.duration_since(self.since) >= Self::NEEDED
    }
}

/// Leaves appended since the last commit.
#[derive(Debug, Default)]
struct Pending {
    events: u64,
    findings: u64,
    /// Leaves that the ledger makes.
    own: u64,
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
        stages: FromStages,
        policy: CommitPolicy,
        shared: Arc<Shared>,
        copies: Option<Sender<Checkpoint>>,
        start: &LogStart,
    ) -> Self {
        let acknowledged = start.resume_from();
        Self {
            log,
            stages,
            policy,
            shared,
            end: start.size,
            acknowledged,
            cursor: start.cursor.filter(|cursor| *cursor == acknowledged),
            looks: 0,
            pending: Pending::default(),
            unsigned_since: None,
            unsigned: 0,
            signed_at: Instant::now(),
            copies,
            keeping: None,
            put_off: None,
        }
    }

    /// Drops leaves by this; `ask` is how the stages are told to give the leaf that states it an
    /// index.
    pub(crate) fn keeping(mut self, retention: Retention, ask: Sender<()>) -> Self {
        self.keeping = Some(Keeping {
            retention,
            ask,
            expired: None,
            age_due: Instant::now(),
            clock: Evenness::new(Instant::now(), SystemTime::now()),
            held_up: (0, 0),
            retry: None,
        });
        self
    }

    /// Until the stages end; leaves a last checkpoint in `shared`. On a full disk, goes on without
    /// writing, so that the agent is not left blind.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let result = self.write();
        if let Err(error) = &result
            && error.is_storage_full()
        {
            self.suspend(error);
        }
        result
    }

    fn write(&mut self) -> Result<(), Error> {
        // A cursor beyond the log would hide new leaves once the log has grown past it.
        if self.cursor.is_none() && self.end > 0 {
            self.checkpoint()?;
        }
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
            if self.checkpoint_is_due(now) {
                self.checkpoint()?;
                self.look_for_expired(now);
            }
        }
        let checkpoint = self.checkpoint()?;
        self.shared.set_checkpoint(checkpoint);
        Ok(())
    }

    /// Waits until something is to be committed or signed.
    fn receive(&mut self) -> Received {
        let due = [self.commit_due(), Some(self.checkpoint_due())]
            .into_iter()
            .flatten()
            .min();
        if self.looks == 0 && self.pending.since.is_some() {
            self.linger(due);
        }
        let channel = self.stages.batches.channel();
        let received = match due {
            _ if self.looks > 0 => channel.try_recv().map_err(|error| match error {
                TryRecvError::Empty => RecvTimeoutError::Timeout,
                TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            }),
            Some(due) => channel.recv_deadline(due),
            None => channel.recv().map_err(Into::into),
        };
        self.looks = self.looks.saturating_sub(1);
        match received {
            Ok(charged) => Received::Batch(self.stages.batches.accept(charged)),
            Err(RecvTimeoutError::Timeout) => {
                self.looks = 0;
                Received::Timer
            }
            Err(RecvTimeoutError::Disconnected) => Received::End,
        }
    }

    /// A commit is to come anyway: sleeps until then, unless the bell rings, and takes what has
    /// come in one go. Waking for every batch costs more than its leaves.
    fn linger(&mut self, due: Option<Instant>) {
        let bell = &self.stages.bell;
        // Rung, late or closed: all are reasons to look.
        let _ = match due {
            Some(due) => bell.recv_deadline(due),
            None => bell.recv().map_err(Into::into),
        };
        // Once more than there are: to see whether the stages are gone.
        self.looks = self.stages.batches.channel().len() + 1;
    }

    fn append(&mut self, batch: &Batch) -> Result<(), Error> {
        match batch.own {
            Some(Own::Rotation) => return self.rotate(batch),
            Some(Own::Gap) => return self.drop_expired(batch),
            None => {}
        }
        self.pending.add(batch);
        self.end = batch.end();
        self.acknowledged = batch.acknowledged.min(self.end);
        for (expected, leaf) in (batch.first..).zip(&batch.leaves) {
            let given = self.log.append(leaf)?;
            if given != expected {
                return Err(Error::LeafIndex { expected, given });
            }
        }
        if !batch.leaves.is_empty() {
            self.unsigned_since.get_or_insert_with(Instant::now);
            self.unsigned += batch.leaves.len() as u64;
        }
        Ok(())
    }

    /// The keys hand over, in the leaf whose index this batch has.
    fn rotate(&mut self, batch: &Batch) -> Result<(), Error> {
        self.commit()?;
        self.pending.add(batch);
        self.end = batch.end();
        let (expected, given) = (batch.first, self.log.rotate()?);
        if given != expected {
            return Err(Error::LeafIndex { expected, given });
        }
        self.pending = Pending::default();
        self.shared.counters.update(|stats| {
            stats.rotations += 1;
            stats.durable_size = given + 1;
        });
        // It is signed already: this tells of it.
        self.checkpoint().map(drop)
    }

    /// Finds leaves to drop, and asks for an index for the leaf that states it.
    fn look_for_expired(&mut self, now: Instant) {
        let needed = self.acknowledged.min(self.end);
        let Some(keeping) = self.keeping.as_mut() else {
            return;
        };
        let Some(retention) = keeping.looks_at(now, SystemTime::now()) else {
            return;
        };
        let held_up = match self.log.expired(&retention, needed) {
            Ok(expired) => {
                keeping.expired = expired;
                if keeping.expired.is_some() {
                    // Never full: it is asked for one at a time.
                    let _ = keeping.ask.try_send(());
                }
                if keeping.retry.take().is_some() {
                    tracing::info!("the ledger's oldest leaves can be dropped again");
                }
                keeping.holds_up(self.log.held_up(), &retention)
            }
            Err(error) => {
                let error = Error::Ledger(error);
                let causes = error.with_causes();
                let wait = keeping.failed(now, self.policy.drop_retry).as_secs();
                tracing::error!(
                    "{causes}; the ledger's oldest leaves are not dropped, tried again in {wait} s"
                );
                self.shared.counters.update(|stats| {
                    stats.drop_errors += 1;
                    stats.drops_fail = true;
                });
                return;
            }
        };
        self.tell_held_up(held_up, needed);
    }

    /// The ledger takes more room than it may, since the agent stands still or is far behind: what it
    /// has not matched is not dropped.
    fn tell_held_up(&self, held_up: u64, agent: u64) {
        let mut before = 0;
        self.shared.counters.update(|stats| {
            before = std::mem::replace(&mut stats.held_up, held_up);
            stats.drops_fail = false;
        });
        match (before, held_up) {
            (0, 1..) => tracing::warn!(
                "the ledger is {held_up} bytes larger than it may be: the agent is at leaf {agent} \
                 of {}, and what it has not matched is not dropped",
                self.end
            ),
            (1.., 0) => tracing::info!("the ledger is no larger than it may be again"),
            _ => {}
        }
    }

    /// The oldest leaves go, as the leaf states whose index this batch has.
    fn drop_expired(&mut self, batch: &Batch) -> Result<(), Error> {
        self.commit()?;
        self.pending.add(batch);
        self.end = batch.end();
        let keeping = self.keeping.as_mut();
        let expired = keeping.and_then(|keeping| keeping.expired.take());
        let expired = expired.expect("the index was asked for");
        let kept_from = expired.end();
        let (expected, given) = (batch.first, self.log.drop_expired(expired)?);
        if given != expected {
            return Err(Error::LeafIndex { expected, given });
        }
        self.pending = Pending::default();
        self.shared.counters.update(|stats| {
            stats.gaps += 1;
            stats.kept_from = kept_from;
            stats.durable_size = given + 1;
        });
        // It is signed already: this tells of it.
        self.checkpoint()?;
        // There may be more.
        self.look_for_expired(Instant::now());
        Ok(())
    }

    fn commit_due(&self) -> Option<Instant> {
        Some(self.pending.since? + self.policy.interval)
    }

    fn checkpoint_due(&self) -> Instant {
        match self.unsigned_since {
            Some(since) => since + self.policy.checkpoint_interval,
            None => self.signed_at + self.policy.heartbeat,
        }
    }

    fn checkpoint_is_due(&self, now: Instant) -> bool {
        self.unsigned >= self.policy.checkpoint_leaves || self.checkpoint_due() <= now
    }

    fn commit_is_due(&self, now: Instant) -> bool {
        self.pending.urgent
            || self.pending.count() >= self.policy.leaves
            || self.looks == 0 && self.commit_due().is_some_and(|due| due <= now)
    }

    fn commit(&mut self) -> Result<(), Error> {
        // A crash before the first checkpoint is not to leave a log without a cursor.
        if self.cursor.is_none() {
            return self.checkpoint().map(drop);
        }
        self.set_cursor();
        let size = self.log.commit()?;
        self.is_durable(size);
        Ok(())
    }

    /// The leaves before it become durable before it does.
    fn set_cursor(&mut self) {
        if self.cursor != Some(self.acknowledged) {
            self.log.set_cursor(AGENT_CURSOR, self.acknowledged);
            self.cursor = Some(self.acknowledged);
        }
    }

    /// Once for each cause: it may be tried with every checkpoint.
    fn tell_put_off(&mut self) {
        let Some(error) = self.log.put_off() else {
            // The next one is news, whatever it is.
            self.put_off = None;
            return;
        };
        let causes = Error::Ledger(error).with_causes().to_string();
        if self.put_off.as_ref() != Some(&causes) {
            tracing::warn!("{causes}; the ledger goes on and takes more room, tried again later");
            self.put_off = Some(causes);
        }
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, Error> {
        self.set_cursor();
        let is_idle = self.unsigned == 0 && self.signed_at.elapsed() >= self.policy.heartbeat;
        let checkpoint = match is_idle {
            true => self.log.heartbeat()?,
            false => self.log.checkpoint()?,
        };
        self.tell_put_off();
        (self.unsigned_since, self.unsigned) = (None, 0);
        self.signed_at = Instant::now();
        if let Some(copies) = &self.copies {
            // Full: whoever takes them is behind, and gets a newer one.
            let _ = copies.try_send(checkpoint.clone());
        }
        self.is_durable(checkpoint.size());
        let at = Duration::from_secs(checkpoint.time()).as_nanos();
        let signed = Signed {
            size: checkpoint.size(),
            at: WallTime(u64::try_from(at).unwrap_or(u64::MAX)),
        };
        self.shared.counters.update(|stats| {
            // Without news, or while the clock stands before the last one, that one comes again.
            stats.checkpoints += u64::from(stats.last_checkpoint != Some(signed));
            stats.last_checkpoint = Some(signed);
        });
        Ok(checkpoint)
    }

    /// Lets the stages and the agent go on until the stages end, without a ledger. It is not tried
    /// again in this run: what a failed write left in the files is only known after a reopen.
    fn suspend(&mut self, error: &Error) {
        let causes = error.with_causes();
        tracing::error!("{causes}; events are matched, but no longer recorded");
        if self.log.durable_size() >= self.end {
            self.is_durable(self.end);
        }
        self.shared.outlet.suspend_ledger();
        self.give_up();
        while let Ok(charged) = self.stages.batches.channel().recv() {
            let batch = self.stages.batches.accept(charged);
            self.pending.add(&batch);
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.shared.counters.update(|stats| {
            stats.ledger.give_up(pending.events);
            stats.findings.give_up(pending.findings);
            stats.unrecorded += pending.count() + pending.own;
        });
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
        self.own += u64::from(batch.own.is_some());
        self.urgent |= batch.urgent;
        if self.count() > 0 {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    fn count(&self) -> u64 {
        self.events + self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn keeping(now: Instant) -> Keeping {
        Keeping {
            retention: Retention {
                bytes: Some(1),
                seconds: Some(1),
            },
            ask: crossbeam_channel::bounded(1).0,
            expired: None,
            age_due: now,
            clock: Evenness::new(now, SystemTime::UNIX_EPOCH),
            held_up: (0, 0),
            retry: None,
        }
    }

    #[test]
    fn failed_drops_are_tried_again_ever_later_up_to_an_hour() {
        let mut now = Instant::now();
        let mut keeping = keeping(now);
        let mut wall = SystemTime::UNIX_EPOCH;
        let mut looks_after = |keeping: &mut Keeping, wait| {
            (now, wall) = (now + wait, wall + wait);
            (now, keeping.looks_at(now, wall))
        };
        let (_, looked) = looks_after(&mut keeping, Evenness::NEEDED);
        assert_eq!(looked, Some(keeping.retention));
        let (mut now, looked) = looks_after(&mut keeping, SECOND);
        assert_eq!(looked.unwrap().seconds, None);
        let mut waits = Vec::new();
        for _ in 0..12 {
            let wait = keeping.failed(now, 10 * SECOND);
            assert_eq!(looks_after(&mut keeping, wait - SECOND).1, None);
            // The age, too, which was not looked at to its end.
            let looked;
            (now, looked) = looks_after(&mut keeping, SECOND);
            assert_eq!(looked, Some(keeping.retention));
            waits.push(wait.as_secs());
        }
        assert_eq!(waits[..4], [10, 20, 40, 80]);
        assert_eq!(waits[9..], [3_600; 3]);
    }

    /// A clock that stood years ahead for a moment made all leaves old, and they were dropped.
    #[test]
    fn nothing_is_old_by_a_clock_that_was_just_set() {
        let (start, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let mut keeping = keeping(start);
        let mut looks = |at: u32, wall_at: u32| {
            let (now, wall) = (start + at * SECOND, wall + wall_at * SECOND);
            keeping.looks_at(now, wall).unwrap().seconds.is_some()
        };
        // Not right after the start.
        assert!(!looks(1, 1));
        assert!(!looks(599, 599));
        assert!(looks(600, 630));
        // A year ahead.
        assert!(!looks(1_000, 31_000_000));
        assert!(!looks(1_599, 31_000_599));
        // Set right, it is believed once that much time has gone.
        assert!(looks(1_600, 1_600));
        assert!(looks(2_000, 2_000));
    }

    /// Between two looks at their age it is not known how many aged leaves the agent holds up.
    #[test]
    fn what_the_agent_holds_up_by_age_is_remembered_until_the_next_look() {
        let mut keeping = keeping(Instant::now());
        let retention = keeping.retention;
        let by_size = Retention {
            seconds: None,
            ..retention
        };
        assert_eq!(keeping.holds_up(7, &retention), 7);
        assert_eq!(keeping.holds_up(0, &by_size), 7);
        assert_eq!(keeping.holds_up(9, &by_size), 9);
        assert_eq!(keeping.holds_up(0, &retention), 0);
    }
}
