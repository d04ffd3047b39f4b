//! From the stages to the ledger and to the agent, by leaf index.
//!
//! The stages offer every batch to the agent and never wait for it. What does not fit, the
//! [`Subscription`] reads back from the ledger once it is durable, so the agent sees every leaf
//! once and in order, however slow it is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, never, select};
use event::Finding;

use crate::Error;
use crate::handle::Shared;
use crate::queue::{self, Charged, Closed, TrySendError};

/// One leaf of the ledger, on its way to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its index.
    pub index: u64,
    /// Its bytes, for [`event::codec::decode`].
    pub leaf: Bytes,
}

/// What [`Subscription::next`] has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The next leaves, at least one, without a gap; but see [`crate::AgentStats::skipped`].
    Leaves(Vec<Delivery>),
    /// The leaves from the first index up to the second were dropped before they were read: what
    /// comes next is the second. Only if the subscription began that far back, since what is not
    /// acknowledged is not dropped.
    NotKept(u64, u64),
    /// Nothing came in time.
    Idle,
    /// Nothing will come any more: the sensor is drained, the pipeline failed, or another
    /// subscription took over.
    End,
}

/// A leaf that the ledger makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// The keys hand over.
    Rotation,
    /// The oldest leaves are dropped.
    Gap,
}

/// Consecutive leaves on their way from the stages.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) first: u64,
    pub(crate) leaves: Vec<Bytes>,
    pub(crate) events: u64,
    /// Those of them that did not come from the sensor.
    pub(crate) hashed: u64,
    pub(crate) findings: u64,
    /// Its one leaf stands for one that the ledger is to make itself.
    pub(crate) own: Option<Own>,
    /// To be durable at once.
    pub(crate) urgent: bool,
    /// Leaves before this one the agent is done with, and what it found in them is in this batch or
    /// an earlier one.
    pub(crate) acknowledged: u64,
}

impl Batch {
    pub(crate) fn end(&self) -> u64 {
        self.first + self.leaves.len() as u64
    }

    /// Memory that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.leaves
            .iter()
            .map(|leaf| leaf.len() + 2 * size_of::<Bytes>())
            .sum()
    }

    fn from(&self, next: u64) -> Vec<Delivery> {
        let leaves = (self.first..)
            .zip(&self.leaves)
            .skip_while(|(index, _)| *index < next);
        leaves
            .map(|(index, leaf)| Delivery {
                index,
                leaf: leaf.clone(),
            })
            .collect()
    }
}

/// Where the stages, the ledger's thread and the agent meet.
pub(crate) struct Outlet {
    /// Room for batches, in bytes.
    room: usize,
    slot: Mutex<Slot>,
    /// Indices given so far.
    numbered: AtomicU64,
    /// Nothing more becomes durable.
    written: AtomicBool,
    /// … and yet the stages go on.
    suspended: AtomicBool,
    /// Leaves before this one the agent is done with.
    acknowledged: AtomicU64,
}

struct Slot {
    live: Option<queue::Sender<Arc<Batch>>>,
    committed: Sender<()>,
    /// For the first subscription, so that it finds live what came before it was made.
    unclaimed: Option<Inlet>,
    /// Index after the last leaf that a subscription gets, once that is certain.
    end: Option<u64>,
}

/// A subscription's end of its channels.
struct Inlet {
    live: queue::Receiver<Arc<Batch>>,
    committed: Receiver<()>,
}

impl Outlet {
    /// For a log of `size` leaves and an agent with room for so many bytes that got to
    /// `acknowledged` before.
    pub(crate) fn new(size: u64, acknowledged: u64, room: usize) -> Self {
        let (mut slot, inlet) = Slot::open(room);
        slot.unclaimed = Some(inlet);
        Self {
            room,
            slot: Mutex::new(slot),
            numbered: AtomicU64::new(size),
            written: AtomicBool::new(false),
            suspended: AtomicBool::new(false),
            acknowledged: AtomicU64::new(acknowledged),
        }
    }

    /// Hands a batch to the agent if there is room; otherwise it will find it in the ledger.
    pub(crate) fn offer(&self, batch: &Arc<Batch>) {
        // Before the attempt: an agent that empties its queue after a refusal must see that it is
        // behind, since nothing else may ever come to tell it.
        self.numbered.store(batch.end(), Ordering::Release);
        let mut slot = self.slot();
        if let Some(live) = &slot.live
            && live.try_send(Arc::clone(batch), batch.bytes()) == Err(TrySendError::Closed)
        {
            slot.live = None;
        }
    }

    /// No more leaves for the agent.
    pub(crate) fn close(&self) {
        let mut slot = self.slot();
        slot.live = None;
        slot.end.get_or_insert(self.numbered());
    }

    /// More leaves are durable.
    pub(crate) fn committed(&self) {
        // Full: it will wake anyway.
        let _ = self.slot().committed.try_send(());
    }

    /// Nothing more becomes durable.
    pub(crate) fn close_ledger(&self) {
        self.written.store(true, Ordering::Release);
        self.committed();
    }

    /// Nothing more becomes durable, but leaves keep coming.
    pub(crate) fn suspend_ledger(&self) {
        self.suspended.store(true, Ordering::Release);
        self.close_ledger();
    }

    /// Whether that was so said.
    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Acquire)
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    fn numbered(&self) -> u64 {
        self.numbered.load(Ordering::Acquire)
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscribe(&self) -> Inlet {
        let mut slot = self.slot();
        if let Some(inlet) = slot.unclaimed.take() {
            return inlet;
        }
        let (fresh, inlet) = Slot::open(self.room);
        let live = fresh.live.filter(|_| slot.end.is_none());
        *slot = Slot {
            live,
            end: slot.end,
            ..fresh
        };
        inlet
    }
}

impl Slot {
    fn open(room: usize) -> (Self, Inlet) {
        let (live, batches) = queue::bounded(room);
        let (committed, notices) = crossbeam_channel::bounded(1);
        let inlet = Inlet {
            live: batches,
            committed: notices,
        };
        (
            Self {
                live: Some(live),
                committed,
                unclaimed: None,
                end: None,
            },
            inlet,
        )
    }
}

/// Every leaf from some index on, in order, each once. One at a time: a new subscription ends the
/// one before.
///
/// Leaves come before they are durable. After a crash the ledger can end before what was
/// delivered, and other leaves get those indices: hold against [`crate::Stats::durable_size`] what
/// must not be taken back.
pub struct Subscription {
    next: u64,
    inlet: Inlet,
    /// Received, but begins after `next`.
    early: Option<Arc<Batch>>,
    /// Nothing more comes in `live`.
    closed: bool,
    /// Another subscription took over.
    replaced: bool,
    log: ledger::Reader,
    shared: Arc<Shared>,
}

/// Most leaves, and about how many bytes, read back from the ledger at once.
const READ_LEAVES: usize = 256;
const READ_BYTES: usize = 256 << 10;

impl Subscription {
    pub(crate) fn new(shared: Arc<Shared>, log: ledger::Reader, from: u64) -> Self {
        let inlet = shared.outlet.subscribe();
        // Indices beyond the log were lost in a crash before they were durable.
        let next = from.min(shared.outlet.numbered());
        Self {
            next,
            inlet,
            early: None,
            closed: false,
            replaced: false,
            log,
            shared,
        }
    }

    /// Waits at most so long for the next leaves, findings included.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn next(&mut self, timeout: Duration) -> Result<Next, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            // Asked before reading: what is not there after that will never be.
            let written = self.shared.outlet.written.load(Ordering::Acquire);
            let leaves = match self.live_leaves() {
                Some(leaves) => leaves,
                None => match self.missed_leaves() {
                    Err(Error::Ledger(ledger::Error::NotKept { oldest, .. })) => {
                        return Ok(self.go_on_at(oldest));
                    }
                    leaves => leaves?,
                },
            };
            if let Some(last) = leaves.last() {
                self.next = last.index + 1;
                return Ok(Next::Leaves(leaves));
            }
            if written && self.skip() {
                continue;
            }
            if self.is_at_end(written) {
                return Ok(Next::End);
            }
            if !self.wait(deadline) {
                return Ok(Next::Idle);
            }
        }
    }

    fn go_on_at(&mut self, oldest: u64) -> Next {
        let from = std::mem::replace(&mut self.next, oldest);
        self.shared
            .counters
            .update(|stats| stats.agent.not_kept += oldest - from);
        Next::NotKept(from, oldest)
    }

    /// Index of the leaf that comes next.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Says that every leaf before `index` is dealt with and what was found in them submitted.
    /// Kept in the ledger with its next checkpoint, once the findings are; after a restart
    /// [`crate::Handle::resume_from`] goes by it.
    pub fn acknowledge(&self, index: u64) {
        self.shared
            .outlet
            .acknowledged
            .fetch_max(index, Ordering::AcqRel);
    }

    fn live_leaves(&mut self) -> Option<Vec<Delivery>> {
        loop {
            let batch = self.early.take().or_else(|| self.receive())?;
            if batch.first > self.next {
                self.early = Some(batch);
                return None;
            }
            // What was read from the ledger meanwhile is not given again.
            let leaves = batch.from(self.next);
            if !leaves.is_empty() {
                self.shared
                    .counters
                    .update(|stats| stats.agent.live += leaves.len() as u64);
                return Some(leaves);
            }
        }
    }

    fn receive(&mut self) -> Option<Arc<Batch>> {
        match self.inlet.live.channel().try_recv() {
            Ok(charged) => Some(self.inlet.live.accept(charged)),
            Err(crossbeam_channel::TryRecvError::Empty) => None,
            Err(crossbeam_channel::TryRecvError::Disconnected) => {
                self.closed = true;
                None
            }
        }
    }

    /// Leaves that the stages could not hand over, as far as they are durable.
    fn missed_leaves(&mut self) -> Result<Vec<Delivery>, Error> {
        let target = self.target();
        let mut leaves = Vec::new();
        let mut bytes = 0;
        for index in (self.next..target).take(READ_LEAVES) {
            let Some(leaf) = self.log.read(index)? else {
                break;
            };
            bytes += leaf.len();
            leaves.push(Delivery {
                index,
                leaf: leaf.into(),
            });
            if bytes >= READ_BYTES {
                break;
            }
        }
        if !leaves.is_empty() {
            self.shared
                .counters
                .update(|stats| stats.agent.from_ledger += leaves.len() as u64);
        }
        Ok(leaves)
    }

    /// Index of the next leaf that need not come from the ledger.
    fn target(&self) -> u64 {
        let end = || {
            self.shared
                .outlet
                .slot()
                .end
                .unwrap_or(self.shared.outlet.numbered())
        };
        self.early.as_ref().map_or_else(end, |batch| batch.first)
    }

    fn is_at_end(&self, written: bool) -> bool {
        let end = self.shared.outlet.slot().end;
        let torn = written && self.early.is_some() && !self.is_suspended();
        self.replaced || torn || self.closed && end.is_none_or(|end| self.next >= end || written)
    }

    fn is_suspended(&self) -> bool {
        self.shared.outlet.is_suspended()
    }

    /// With the ledger suspended, goes on after leaves that are neither here nor there.
    fn skip(&mut self) -> bool {
        let known = self.early.is_some() || self.closed;
        if self.replaced || !known || !self.is_suspended() {
            return false;
        }
        let target = self.target();
        let skipped = target.saturating_sub(self.next);
        self.next += skipped;
        self.shared
            .counters
            .update(|stats| stats.agent.skipped += skipped);
        skipped > 0
    }

    /// Waits for a batch, or (when behind) for a commit; `false` when the time is over.
    fn wait(&mut self, deadline: Instant) -> bool {
        let (no_batch, no_commit) = (never(), never());
        let wants_batch = self.early.is_none() && !self.closed;
        let live = if wants_batch {
            self.inlet.live.channel()
        } else {
            &no_batch
        };
        let behind = self.next < self.target();
        let committed = if behind {
            &self.inlet.committed
        } else {
            &no_commit
        };
        select! {
            recv(live) -> charged => self.received(charged.ok()),
            recv(committed) -> notice => self.replaced = notice.is_err(),
            default(deadline.saturating_duration_since(Instant::now())) => return false,
        }
        true
    }

    fn received(&mut self, charged: Option<Charged<Arc<Batch>>>) {
        match charged {
            Some(charged) => self.early = Some(self.inlet.live.accept(charged)),
            None => self.closed = true,
        }
    }
}

/// Takes findings back into the pipeline, where they become leaves. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Findings {
    requests: Sender<Request>,
}

/// What the stages are asked to do besides the events.
#[derive(Debug)]
pub(crate) enum Request {
    Append(Box<Finding>),
    Rotate,
    Finish,
}

impl Findings {
    pub(crate) fn new(requests: Sender<Request>) -> Self {
        Self { requests }
    }

    /// Puts a finding into the ledger; waits while many are queued. One of level high or above is
    /// made durable at once. Subscriptions get it as any leaf.
    ///
    /// # Errors
    /// [`Error::Ended`]: the pipeline is finished or has failed.
    pub fn submit(&self, finding: Finding) -> Result<(), Error> {
        self.requests
            .send(Request::Append(Box::new(finding)))
            .map_err(|_| Error::Ended)
    }
}

/// The stages' way out: to the ledger, which makes them wait, and to the agent, which does not.
pub(crate) struct Feed {
    ledger: ToLedger,
    shared: Arc<Shared>,
    /// Dropped when nothing more comes.
    open: Option<Sender<()>>,
}

impl Feed {
    pub(crate) fn new(ledger: ToLedger, shared: Arc<Shared>, open: Sender<()>) -> Self {
        Self {
            ledger,
            shared,
            open: Some(open),
        }
    }

    pub(crate) fn send(&mut self, batch: Batch) -> Result<(), Closed> {
        let batch = Arc::new(batch);
        self.shared.outlet.offer(&batch);
        self.ledger.send(batch)
    }

    /// The agent has everything that it will get.
    pub(crate) fn close(&mut self) {
        self.shared.outlet.close();
        self.open = None;
    }
}

/// The way to the ledger's thread, which sleeps while it gathers leaves for a commit: a bell wakes
/// it when there is a reason to.
pub(crate) struct ToLedger {
    // Before the bell, so that it is closed when the bell is.
    batches: queue::Sender<Arc<Batch>>,
    bell: Sender<()>,
    /// From so many leaves or bytes on, rings.
    leaves: u64,
    bytes: usize,
    /// Sent since the bell rang.
    quiet_leaves: u64,
    quiet_bytes: usize,
}

/// The other end of [`ToLedger`].
pub(crate) struct FromStages {
    pub(crate) batches: queue::Receiver<Arc<Batch>>,
    pub(crate) bell: Receiver<()>,
}

/// A way to the ledger's thread with room for so many bytes, and a commit every so many leaves.
pub(crate) fn to_ledger(room: usize, leaves: u64) -> (ToLedger, FromStages) {
    let (sender, batches) = queue::bounded(room);
    let (bell, rung) = crossbeam_channel::bounded(1);
    let to = ToLedger {
        batches: sender,
        bell,
        leaves,
        bytes: room / 2,
        quiet_leaves: 0,
        quiet_bytes: 0,
    };
    (
        to,
        FromStages {
            batches,
            bell: rung,
        },
    )
}

impl ToLedger {
    /// Waits until there is room.
    fn send(&mut self, batch: Arc<Batch>) -> Result<(), Closed> {
        let (bytes, urgent) = (batch.bytes(), batch.urgent);
        self.quiet_leaves += batch.leaves.len() as u64;
        self.quiet_bytes += bytes;
        let much = self.quiet_bytes >= self.bytes;
        if much {
            // Before there can be no room: nobody else would make any.
            self.ring();
        }
        self.batches.send(batch, bytes)?;
        if urgent || much || self.quiet_leaves >= self.leaves {
            self.ring();
            (self.quiet_leaves, self.quiet_bytes) = (0, 0);
        }
        Ok(())
    }

    fn ring(&self) {
        // Full: it rings already.
        let _ = self.bell.try_send(());
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.close();
    }
}
