use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::sensor::{BatchEnd, Waker};
use event::{
    BootTime, Capabilities, Event, EventKind, Header, Sensor, SensorError, Snapshot, Stats,
    WallTime,
};

use crate::Error;
use crate::diff::diff;
use crate::procs::Procs;
use crate::scan::Scan;
use crate::wake::{Wake, waker};

/// Lists the processes at an interval and reports the differences.
///
/// Costs a scan each time: on Linux about 10 ms of processor time per 1,000 processes. Never drops
/// an event, but cannot know of what started and ended between two scans.
pub struct PollSensor {
    procs: Procs,
    last: Scan,
    interval: Duration,
    next_scan: Instant,
    wake: Arc<Wake>,
    capabilities: Capabilities,
    stats: Stats,
    /// Of the last event; also the order of those that have the same time.
    sequence: u64,
}

/// Shorter intervals are taken for this one.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

impl PollSensor {
    /// Scans once: what is reported later starts from here.
    ///
    /// # Errors
    /// The processes cannot be listed.
    pub fn open(interval: Duration) -> Result<Self, Error> {
        let mut procs = Procs::open()?;
        let last = procs.scan(&Scan::default())?;
        let interval = interval.max(MIN_INTERVAL);
        Ok(Self {
            procs,
            last,
            interval,
            next_scan: Instant::now() + interval,
            wake: Arc::default(),
            capabilities: capabilities(),
            stats: Stats::default(),
            sequence: 0,
        })
    }

    /// What this process may not see of other users' processes; `None` if nothing is hidden, or if
    /// it cannot be known.
    #[must_use]
    pub fn hidden() -> Option<&'static str> {
        Procs::hidden()
    }

    fn scan(&mut self, out: &mut Vec<Event>) -> Result<(), Error> {
        let scan = self.procs.scan(&self.last)?;
        let before = mem::replace(&mut self.last, scan);
        for (time, kind) in diff(&before, &self.last) {
            self.sequence += 1;
            self.emit(out, time, kind, self.sequence);
        }
        // Counted from the end, so that a scan slower than the interval does not take all time.
        self.next_scan = Instant::now() + self.interval;
        Ok(())
    }

    fn emit(&mut self, out: &mut Vec<Event>, time: BootTime, kind: EventKind, sequence: u64) {
        self.stats.seen += 1;
        self.stats.delivered += 1;
        let wall = WallTime::at(self.last.boot_wall, time);
        let header = Header {
            boot: self.last.boot,
            sequence,
            cpu: 0,
            time,
            wall,
        };
        self.stats.truncated += u64::from(is_cut(&kind));
        out.push(Event { header, kind });
    }
}

fn is_cut(kind: &EventKind) -> bool {
    let process = match kind {
        EventKind::Exec(exec) => &exec.process,
        EventKind::Snapshot(row) => &row.process,
        _ => return false,
    };
    process.argv_truncated_bytes > 0
}

fn capabilities() -> Capabilities {
    Capabilities {
        sensor: "poll",
        event_driven: false,
        forks: true,
        exit_status: false,
        absent: Procs::absent(),
    }
}

impl Sensor for PollSensor {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn snapshot(&mut self, out: &mut Vec<Event>) -> Result<(), SensorError> {
        let rows: Vec<_> = self
            .last
            .processes
            .values()
            .map(|seen| seen.full())
            .collect();
        for process in rows {
            let row = EventKind::Snapshot(Box::new(Snapshot { process }));
            self.emit(out, self.last.at, row, 0);
        }
        Ok(())
    }

    fn next_batch(
        &mut self,
        out: &mut Vec<Event>,
        timeout: Duration,
    ) -> Result<BatchEnd, SensorError> {
        let deadline = Instant::now().checked_add(timeout);
        let already = out.len();
        loop {
            if Instant::now() >= self.next_scan {
                self.scan(out)?;
            }
            let until = deadline.map_or(self.next_scan, |deadline| deadline.min(self.next_scan));
            let has_events = out.len() > already;
            if has_events || self.wake.wait_until(until) || deadline == Some(until) {
                return Ok(BatchEnd::Open);
            }
        }
    }

    fn stats(&self) -> Stats {
        self.stats.clone()
    }

    fn waker(&self) -> Waker {
        waker(&self.wake)
    }
}
