//! The stages' thread: the one loop through which every event goes.
//!
//! queue → order → hash → redact → enrich (process table) → encode → number → ledger and agent

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, after, never, select};
use event::{Event, EventClass, EventKind, Finding, Level, codec};
use ledger::MAX_LEAF_BYTES;

use crate::clock::Clock;
use crate::deliver::{Batch, Feed, Own, Request};
use crate::enrich::enrich;
use crate::handle::{Config, Shared};
use crate::hash::{self, Hasher};
use crate::order::{Order, runs_ahead};
use crate::pace::Pace;
use crate::process_table::ProcessTable;
use crate::queue::{self, Closed};
use crate::redact::Redactor;

/// Leaves handed on at once, and bytes from which on a batch is.
const BATCH_LEAVES: usize = 256;
const BATCH_BYTES: usize = 64 << 10;

/// Longest text of a selected column in a finding that would not fit a leaf otherwise.
const SELECTED_CHARS: usize = 4096;

pub(crate) struct Stages {
    /// `None` once the sensor ended.
    events: Option<queue::Receiver<Vec<Event>>>,
    requests: Receiver<Request>,
    /// Asks for a leaf that states a gap.
    expired: Receiver<()>,
    clock: Option<Clock>,
    pace: Pace,
    order: Order,
    hasher: Option<Hasher>,
    redactor: Redactor,
    table: ProcessTable,
    feed: Feed,
    batch: Batch,
    batch_bytes: usize,
    shared: Arc<Shared>,
    /// Snapshot rows not yet emitted.
    waiting: u64,
    acknowledged: u64,
    redactions: u64,
    cut: u64,
    /// Live processes were evicted, and the log says so.
    table_was_full: bool,
    rotation: Option<Rotation>,
}

/// When the ledger's keys are to hand over next.
struct Rotation {
    due: Instant,
    every: Duration,
}

/// Stand in for the leaves that the ledger's thread makes, which the agent has no use for.
const ROTATION_LEAF: &[u8] = b"daemoneye ledger rotation";
const GAP_LEAF: &[u8] = b"daemoneye ledger gap";

enum Input {
    Events(Vec<Event>),
    Finding(Box<Finding>),
    /// `None`: the worker ended.
    Hashed(Option<hash::Done>),
    Timer,
    /// The ledger's thread has leaves to drop.
    Expired,
    /// The keys are to hand over now.
    Rotate,
    Drained,
    Finish,
}

impl Stages {
    pub(crate) fn new(
        config: &Config,
        redactor: Redactor,
        events: queue::Receiver<Vec<Event>>,
        (requests, expired): (Receiver<Request>, Receiver<()>),
        feed: Feed,
        shared: Arc<Shared>,
        first: u64,
    ) -> Self {
        Self {
            events: Some(events),
            requests,
            expired,
            clock: config.live.then(|| Clock::new(config.hold.hold_max)),
            pace: Pace::default(),
            order: Order::new(config.hold),
            hasher: None,
            redactor,
            table: ProcessTable::new(config.table),
            feed,
            batch: Batch {
                first,
                ..Batch::default()
            },
            batch_bytes: 0,
            acknowledged: shared.outlet.acknowledged(),
            shared,
            waiting: 0,
            redactions: 0,
            cut: 0,
            table_was_full: false,
            rotation: config.rotation.map(|policy| Rotation {
                due: Instant::now() + policy.first,
                every: policy.every,
            }),
        }
    }

    pub(crate) fn with_hasher(self, hasher: Option<Hasher>) -> Self {
        Self { hasher, ..self }
    }

    /// Until [`Request::Finish`], or until the ledger's thread is gone (which says why itself).
    pub(crate) fn run(mut self, initial: Vec<Event>) {
        // A ledger that closed ended everything: what is still here cannot go anywhere.
        let _ = self.stages(initial);
        tracing::info!("process table at the end: {:?}", self.table.stats());
    }

    fn stages(&mut self, initial: Vec<Event>) -> Result<(), Closed> {
        self.snapshot(initial)?;
        loop {
            let napped = self.nap();
            match self.receive() {
                Input::Events(events) => {
                    self.hold(events);
                    if napped {
                        self.hold_queued();
                    }
                }
                Input::Finding(finding) => self.finding(finding)?,
                Input::Hashed(done) => self.hashed(done),
                Input::Timer => {}
                Input::Expired => self.gap()?,
                Input::Rotate => self.rotate_now()?,
                Input::Drained => self.drained()?,
                Input::Finish => {
                    // Even without a leaf: the ledger is to know how far the agent is.
                    self.batch.urgent = true;
                    return self.hand_on();
                }
            }
            self.release()?;
            self.rotate()?;
        }
    }

    /// Gives an index to the leaf by which the ledger states that it drops others.
    fn gap(&mut self) -> Result<(), Closed> {
        self.own_leaf(Own::Gap, GAP_LEAF)
    }

    /// While events flow; not where some are queued already. Findings and digests wait as well.
    fn nap(&self) -> bool {
        let live = self.clock.as_ref().and(self.events.as_ref());
        let nap = self.pace.nap(Instant::now());
        let nap = nap.filter(|_| live.is_some_and(queue::Receiver::is_empty));
        nap.inspect(|nap| thread::sleep(*nap)).is_some()
    }

    fn receive(&mut self) -> Input {
        let (no_events, no_hashes) = (never(), never());
        let hashes = self.hasher.as_ref().map_or(&no_hashes, Hasher::results);
        let events = self
            .events
            .as_ref()
            .map_or(&no_events, |queue| queue.channel());
        let wait = self.wait();
        let timer = wait.map_or_else(never, after);
        select! {
            recv(events) -> charged => match (charged, &self.events) {
                (Ok(charged), Some(queue)) => Input::Events(queue.accept(charged)),
                _ => Input::Drained,
            },
            recv(self.requests) -> request => match request {
                Ok(Request::Append(finding)) => Input::Finding(finding),
                Ok(Request::Rotate) => Input::Rotate,
                Ok(Request::Finish) | Err(_) => Input::Finish,
            },
            recv(hashes) -> done => Input::Hashed(done.ok()),
            recv(self.expired) -> asked => match asked {
                Ok(()) => Input::Expired,
                Err(_) => {
                    // The ledger's thread has ended, which the next batch tells.
                    self.expired = never();
                    Input::Timer
                }
            },
            recv(timer) -> _ => Input::Timer,
        }
    }

    /// Until something is due though nothing comes.
    fn wait(&self) -> Option<Duration> {
        let clock = self.clock.as_ref();
        let event = clock.and_then(|clock| self.order.wait(clock.now()));
        let hasher = self.hasher.as_ref();
        let hashing = hasher.and_then(|hasher| hasher.wait(Instant::now()));
        let rotation = self.rotation.as_ref();
        let rotation = rotation.map(|next| next.due.saturating_duration_since(Instant::now()));
        event.into_iter().chain(hashing).chain(rotation).min()
    }

    /// What already runs comes first. A row's parent can stand below it, so all rows are known
    /// before any is joined.
    fn snapshot(&mut self, mut initial: Vec<Event>) -> Result<(), Closed> {
        self.waiting = initial.len() as u64;
        self.shared.counters.update(|stats| {
            stats.queue.take_in(self.waiting);
            stats.queue.hand_on(self.waiting);
            stats.stages.take_in(self.waiting);
            for event in &initial {
                stats.count(event.class(), 1);
            }
        });
        for event in &mut initial {
            self.redactions += u64::from(self.redactor.event(event));
            if let EventKind::Snapshot(row) = &event.kind {
                self.table.advance(event.header.boot, event.header.time);
                self.table.exec(&row.process);
            }
        }
        for event in initial {
            self.waiting -= 1;
            self.emit(event)?;
        }
        self.hand_on()
    }

    fn hashed(&mut self, done: Option<hash::Done>) {
        if let Some(hasher) = &mut self.hasher {
            hasher.done(done);
        }
    }

    fn hold(&mut self, events: Vec<Event>) {
        let count = events.len() as u64;
        let last = events.iter().rfind(|event| !runs_ahead(event));
        if let (Some(clock), Some(last)) = (&mut self.clock, last) {
            clock.observe(&last.header);
        }
        self.pace.came(Instant::now());
        for mut event in events {
            if let Some(hasher) = &mut self.hasher {
                hasher.arrived(&mut event);
            }
            self.order.push(event);
        }
        self.shared.counters.update(|stats| {
            stats.queue.hand_on(count);
            stats.stages.seen += count;
            stats.stages.held = self.order.len() as u64;
        });
    }

    /// What came during a nap, so that it is released together and wakes the agent once.
    fn hold_queued(&mut self) {
        while !self.order.is_nearly_full()
            && let Some(events) = self.events.as_ref().and_then(queue::Receiver::try_accept)
        {
            self.hold(events);
        }
    }

    /// Emits what is due.
    fn release(&mut self) -> Result<(), Closed> {
        let caught_up = self.events.as_ref().is_none_or(queue::Receiver::is_empty);
        let now = self.clock.as_ref().map(Clock::now);
        if let Some(hasher) = &mut self.hasher {
            hasher.collect();
        }
        while let Some(event) = self.order.pop(now, caught_up) {
            self.emit(event)?;
        }
        self.follow_up()?;
        self.hand_on()
    }

    /// Emits the digests that execs left without.
    fn follow_up(&mut self) -> Result<(), Closed> {
        while let Some(event) = self.hasher.as_mut().and_then(Hasher::next_event) {
            self.batch.events += 1;
            self.batch.hashed += 1;
            self.number(codec::encode_event(&event))?;
        }
        Ok(())
    }

    fn emit(&mut self, mut event: Event) -> Result<(), Closed> {
        if let Some(hasher) = &mut self.hasher {
            hasher.leaving(&mut event);
        }
        self.redactions += u64::from(self.redactor.event(&mut event));
        self.cut += u64::from(enrich(&mut event, &mut self.table));
        self.batch.events += 1;
        self.number(codec::encode_event(&event))
    }

    fn finding(&mut self, finding: Box<Finding>) -> Result<(), Closed> {
        self.shared
            .counters
            .update(|stats| stats.findings.take_in(1));
        self.batch.findings += 1;
        self.batch.urgent |= finding.level >= Level::High;
        let leaf = self.finding_leaf(finding);
        self.number(leaf)
    }

    /// A rule may select more text than a leaf can hold.
    fn finding_leaf(&mut self, mut finding: Box<Finding>) -> Bytes {
        let leaf = codec::encode_finding(&finding);
        if leaf.len() <= MAX_LEAF_BYTES {
            return leaf;
        }
        self.cut += 1;
        for (_, value) in finding.selected.iter_mut().chain(&mut finding.matched) {
            value.truncate(value.floor_char_boundary(SELECTED_CHARS));
        }
        finding.selected.truncate(SELECTED_CHARS / 64);
        codec::encode_finding(&finding)
    }

    /// The leaf gets the next index.
    fn number(&mut self, leaf: Bytes) -> Result<(), Closed> {
        self.batch_bytes += leaf.len();
        self.batch.leaves.push(leaf);
        if self.batch.leaves.len() >= BATCH_LEAVES || self.batch_bytes >= BATCH_BYTES {
            return self.hand_on();
        }
        Ok(())
    }

    /// Gives an index to the leaf by which the ledger's keys hand over, once that is due.
    fn rotate(&mut self) -> Result<(), Closed> {
        let now = Instant::now();
        match &self.rotation {
            Some(next) if next.due <= now => self.rotate_now(),
            _ => Ok(()),
        }
    }

    fn rotate_now(&mut self) -> Result<(), Closed> {
        if let Some(next) = &mut self.rotation {
            next.due = Instant::now() + next.every;
        }
        self.own_leaf(Own::Rotation, ROTATION_LEAF)
    }

    /// A leaf that the ledger's thread makes is alone in its batch.
    fn own_leaf(&mut self, own: Own, stand_in: &'static [u8]) -> Result<(), Closed> {
        self.hand_on()?;
        self.batch.own = Some(own);
        self.batch.urgent = true;
        self.number(Bytes::from_static(stand_in))?;
        self.hand_on()
    }

    /// Hands the batch to the agent and to the ledger.
    fn hand_on(&mut self) -> Result<(), Closed> {
        if self.batch.leaves.is_empty() && !self.batch.urgent {
            return Ok(());
        }
        let next = Batch {
            first: self.batch.end(),
            ..Batch::default()
        };
        let mut batch = std::mem::replace(&mut self.batch, next);
        batch.acknowledged = self.acknowledged();
        self.batch_bytes = 0;
        self.count(&batch);
        self.warn_of_full_table();
        self.feed.send(batch)
    }

    /// Leaves before this one the agent is done with, and what it found in them is in this batch or
    /// an earlier one.
    pub(crate) fn acknowledged(&mut self) -> u64 {
        // In this order: the agent submits first and acknowledges then.
        let acknowledged = self.shared.outlet.acknowledged();
        if self.requests.is_empty() {
            self.acknowledged = acknowledged;
        }
        self.acknowledged
    }

    fn count(&self, batch: &Batch) {
        self.shared.counters.update(|stats| {
            stats.stages.seen += batch.hashed;
            stats.count(EventClass::Hashed, batch.hashed);
            stats.stages.delivered += batch.events;
            if let Some(hasher) = &self.hasher {
                stats.hashing = hasher.stats();
            }
            stats.stages.held = self.waiting + self.order.len() as u64;
            stats.ledger.take_in(batch.events);
            stats.late = self.order.late();
            stats.redactions = self.redactions;
            stats.cut = self.cut;
            stats.table = self.table.stats();
            stats.size = batch.end();
        });
    }

    fn finish_hashing(&mut self) -> Result<(), Closed> {
        // Nobody is to wait for what is there already.
        self.hand_on()?;
        if let Some(hasher) = &mut self.hasher {
            hasher.finish();
        }
        self.follow_up()
    }

    fn warn_of_full_table(&mut self) {
        let table = self.table.stats();
        if table.evicted_live > 0 && !self.table_was_full {
            self.table_was_full = true;
            tracing::warn!(
                "the process table is full ({} processes, {} KiB): live ones are forgotten, and \
                 their children's events lack parents and ancestors; a larger --process-table \
                 keeps them",
                table.entries,
                table.bytes >> 10
            );
        }
    }

    /// The sensor has ended: what is held goes out, and is made durable for an agent that is behind.
    fn drained(&mut self) -> Result<(), Closed> {
        self.events = None;
        while let Some(event) = self.order.pop_first() {
            self.emit(event)?;
        }
        self.finish_hashing()?;
        self.batch.urgent = true;
        self.hand_on()?;
        self.feed.close();
        Ok(())
    }
}
