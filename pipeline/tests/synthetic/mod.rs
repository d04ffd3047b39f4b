//! A sensor whose events are made up, and a ledger to put them into.

#![allow(dead_code, reason = "each test crate uses its part")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use event::sensor::{BatchEnd, Waker};
use event::{
    Argv, BootTime, Bytes, Capabilities, DropReason, Event, EventClass, EventKind, Exec, Exit,
    Fork, Header, Lost, Process, ProcessKey, Sensor, SensorError, Stats, WallTime,
};
use ledger::{Ledger, Options};

/// What the sensor does when it has given all its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Finish,
    Wait,
    Break,
}

pub(crate) struct Synthetic {
    capabilities: Capabilities,
    events: Box<dyn Iterator<Item = Event> + Send>,
    batch: usize,
    then: Then,
    stats: Stats,
    wake: Sender<()>,
    woken: Receiver<()>,
}

impl Synthetic {
    pub(crate) fn new(
        events: impl Iterator<Item = Event> + Send + 'static,
        batch: usize,
        then: Then,
    ) -> Box<Self> {
        let (wake, woken) = bounded(1);
        let capabilities = Capabilities {
            sensor: "synthetic",
            ..Capabilities::default()
        };
        let stats = Stats::default();
        Box::new(Self {
            capabilities,
            events: Box::new(events),
            batch,
            then,
            stats,
            wake,
            woken,
        })
    }

    fn count(&mut self, event: &Event) {
        if let EventKind::Lost(lost) = &event.kind {
            self.stats.seen += lost.count;
            self.stats
                .dropped
                .push((lost.class, lost.reason, lost.count));
        } else {
            self.stats.seen += 1;
            self.stats.delivered += 1;
        }
    }
}

impl Sensor for Synthetic {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn snapshot(&mut self, _: &mut Vec<Event>) -> Result<(), SensorError> {
        Ok(())
    }

    fn next_batch(
        &mut self,
        out: &mut Vec<Event>,
        timeout: Duration,
    ) -> Result<BatchEnd, SensorError> {
        for event in self.events.by_ref().take(self.batch).collect::<Vec<_>>() {
            self.count(&event);
            out.push(event);
        }
        if !out.is_empty() {
            return Ok(BatchEnd::Open);
        }
        match self.then {
            Then::Finish => Ok(BatchEnd::Finished),
            Then::Break => Err(SensorError {
                message: "torn off".into(),
                advice: None,
                source: None,
            }),
            Then::Wait => {
                let _ = self.woken.recv_timeout(timeout);
                Ok(BatchEnd::Open)
            }
        }
    }

    fn stats(&self) -> Stats {
        self.stats.clone()
    }

    fn waker(&self) -> Waker {
        let wake = self.wake.clone();
        Arc::new(move || {
            let _ = wake.try_send(());
        })
    }
}

pub(crate) fn key(pid: u32) -> ProcessKey {
    ProcessKey {
        pid,
        start: BootTime(u64::from(pid)),
        ..ProcessKey::default()
    }
}

pub(crate) fn header(time: u64, cpu: u32, sequence: u64) -> Header {
    Header {
        time: BootTime(time),
        cpu,
        sequence,
        ..Header::default()
    }
}

pub(crate) fn exec(header: Header, pid: u32, argv: &[&str]) -> Event {
    let process = Process {
        key: key(pid),
        parent: Some(key(1)),
        comm: Bytes::from_static(b"true"),
        exe: Bytes::from_static(b"/usr/bin/true"),
        filename: Bytes::from_static(b"/usr/bin/true"),
        argv: argv.iter().collect::<Argv>(),
        ..Process::default()
    };
    Event {
        header,
        kind: EventKind::Exec(Box::new(Exec {
            process,
            old_tid: None,
        })),
    }
}

/// Number `i` of a stream: fork, exec, exit of one process after another, a `Lost` now and then,
/// 10 µs apart; neighbours come in the wrong order. The sequence number tells the right one.
pub(crate) fn event(i: u64) -> Event {
    let i = i ^ 1;
    let time = 1_000_000 + i * 10_000;
    let pid = 2 + u32::try_from(i / 3).unwrap();
    let mut header = header(time, u32::from(i.is_multiple_of(2)), i);
    header.wall = WallTime(1);
    let kind = match i % 3 {
        _ if i % 1000 == 998 => EventKind::Lost(Lost {
            class: EventClass::Exec,
            reason: DropReason::RingFull,
            count: 3,
            from: BootTime(time - 1),
            to: BootTime(time),
        }),
        0 => EventKind::Fork(Fork {
            child: key(pid),
            parent: key(1),
            parent_muted: false,
        }),
        1 => {
            return exec(
                header,
                pid,
                &["true", "--password", "hunter2", "some", "more arguments"],
            );
        }
        _ => EventKind::Exit(Exit {
            key: key(pid),
            ..Exit::default()
        }),
    };
    Event { header, kind }
}

pub(crate) fn ledger(dir: &Path) -> Ledger {
    Ledger::open(dir, &Options::new("test.example/log"))
        .unwrap()
        .0
}
