//! The sensor's thread: reads the source and queues what it gives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::sensor::BatchEnd;
use event::{Event, EventKind, Sensor};

use crate::Error;
use crate::handle::Shared;
use crate::queue::{Closed, Sender, weight};

/// Longest wait for events; only this wakes an idle pipeline.
const WAIT: Duration = Duration::from_secs(1);

/// The sensor's counters are asked for at most this often: it may have to ask the kernel.
const STATS_INTERVAL: Duration = Duration::from_millis(250);

/// Longest drain after the stop, for a source that never runs dry.
const REST: Duration = Duration::from_millis(500);

/// Its steps: what a sensor holds to put it in order comes a little later.
const STEP: Duration = Duration::from_millis(10);

/// Events queued at once, so that room for a large batch is taken step by step.
const CHUNK: usize = 512;

pub(crate) struct Intake {
    sensor: Box<dyn Sensor>,
    queue: Sender<Vec<Event>>,
    shared: Arc<Shared>,
    polled: Instant,
}

impl Intake {
    pub(crate) fn new(
        sensor: Box<dyn Sensor>,
        queue: Sender<Vec<Event>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            sensor,
            queue,
            shared,
            polled: Instant::now(),
        }
    }

    /// Until the source is exhausted or broken, or the pipeline stops.
    pub(crate) fn run(mut self) -> Result<(), Error> {
        let result = self.read();
        self.finish();
        self.poll_stats();
        result
    }

    fn read(&mut self) -> Result<(), Error> {
        while !self.shared.is_stopping() {
            if self.pass(WAIT)? == Pass::Last {
                return Ok(());
            }
        }
        let end = Instant::now() + REST;
        while Instant::now() < end {
            match self.pass(STEP)? {
                Pass::Last => break,
                Pass::Nothing if self.sensor.stats().held == 0 => break,
                Pass::Some | Pass::Nothing => {}
            }
        }
        Ok(())
    }

    /// What is still to be told of losses. A queue that closed has nobody to tell.
    fn finish(&mut self) {
        let mut last = Vec::new();
        self.sensor.finish(&mut last);
        if !last.is_empty() {
            let _ = self.queue_all(last);
        }
    }

    /// One batch. What came before an error is queued as well.
    fn pass(&mut self, timeout: Duration) -> Result<Pass, Error> {
        let mut batch = Vec::new();
        let end = self.sensor.next_batch(&mut batch, timeout);
        let any = !batch.is_empty();
        let closed = any && self.queue_all(batch).is_err();
        if self.polled.elapsed() >= STATS_INTERVAL {
            self.poll_stats();
        }
        Ok(match end? {
            BatchEnd::Finished => Pass::Last,
            BatchEnd::Open if closed => Pass::Last,
            BatchEnd::Open if any => Pass::Some,
            BatchEnd::Open => Pass::Nothing,
        })
    }

    /// Waits for room: meanwhile the source keeps, or counts as lost, what happens.
    fn queue_all(&self, batch: Vec<Event>) -> Result<(), Closed> {
        self.count(&batch);
        if batch.len() <= CHUNK {
            return self.queue(batch);
        }
        let mut batch = batch.into_iter();
        while batch.len() > 0 {
            self.queue(batch.by_ref().take(CHUNK).collect())?;
        }
        Ok(())
    }

    fn queue(&self, chunk: Vec<Event>) -> Result<(), Closed> {
        let bytes = chunk.iter().map(weight).sum();
        self.queue.send(chunk, bytes)
    }

    fn count(&self, batch: &[Event]) {
        let lost = batch.iter().filter_map(|event| match &event.kind {
            EventKind::Lost(lost) => Some(lost.count),
            _ => None,
        });
        let (events, count) = lost.fold((0, 0), |(events, sum), lost| (events + 1, sum + lost));
        self.shared.counters.update(|stats| {
            stats.queue.take_in(batch.len() as u64);
            for event in batch {
                stats.count(event.class(), 1);
            }
            stats.lost_events += events;
            stats.lost += count;
        });
    }

    fn poll_stats(&mut self) {
        let sensor = self.sensor.stats();
        self.polled = Instant::now();
        self.shared.counters.update(|stats| stats.sensor = sensor);
    }
}

#[derive(PartialEq, Eq)]
enum Pass {
    Nothing,
    Some,
    Last,
}
