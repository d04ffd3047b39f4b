use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use event::{
    BootTime, Event, EventKind, Exec, Exit, ExitStatus, Fork, Process, ProcessKey, Snapshot,
};

use crate::clock::{Clock, FileTime};
use crate::decode::{Record, Start, Stop};
use crate::path::{Devices, file_name};
use crate::processes::Row;

/// Turns records into events, and keeps what later ones need of the living processes.
///
/// Windows creates a process with its program, so a start is a fork (where the parent is known)
/// and an exec, at the same time.
pub(crate) struct Normalizer {
    clock: Clock,
    devices: Devices,
    living: HashMap<u32, Living>,
    /// Of the last event; also the order of those that have the same time.
    sequence: u64,
    pub(crate) untracked_exits: u64,
}

struct Living {
    key: ProcessKey,
    /// Windows' own number of the process, in newer versions.
    sequence: Option<u64>,
    parent: Option<ProcessKey>,
    exe: Bytes,
}

impl Normalizer {
    pub(crate) fn new(clock: Clock, devices: Devices) -> Self {
        Self {
            clock,
            devices,
            living: HashMap::new(),
            sequence: 0,
            untracked_exits: 0,
        }
    }

    /// Appends the events of a record: none for a start that the snapshot told already.
    pub(crate) fn record(&mut self, record: Record, out: &mut Vec<Event>) {
        match record {
            Record::Start(start) => self.start(start, out),
            Record::Stop(stop) => self.stop(stop, out),
        }
    }

    /// Appends a row for each process of the list. `image` finds the path of an executable.
    pub(crate) fn snapshot(
        &mut self,
        rows: &[Row],
        now: FileTime,
        image: impl Fn(u32) -> Option<String>,
        out: &mut Vec<Event>,
    ) {
        // Pid 0 is the idle process: an account of unused time.
        let rows = || rows.iter().filter(|row| row.pid != 0);
        for row in rows() {
            let exe = image(row.pid).unwrap_or_default().into_bytes().into();
            let key = self.key(row.pid, row.created());
            self.living.insert(
                row.pid,
                Living {
                    key,
                    sequence: None,
                    parent: None,
                    exe,
                },
            );
        }
        for row in rows() {
            let key = self.key(row.pid, row.created());
            let parent = self.parent(row.ppid, None, key);
            let Some(living) = self.living.get_mut(&row.pid) else {
                continue;
            };
            living.parent = parent;
            let process = Process {
                key,
                parent,
                comm: comm(&row.name),
                exe: living.exe.clone(),
                session: Some(row.session),
                ..Process::default()
            };
            let header = self.clock.header(now, 0);
            out.push(Event {
                header,
                kind: EventKind::Snapshot(Box::new(Snapshot { process })),
            });
        }
    }

    fn start(&mut self, start: Start, out: &mut Vec<Event>) {
        let key = self.key(start.pid, start.created);
        if self
            .living
            .get(&start.pid)
            .is_some_and(|living| living.key == key)
        {
            return;
        }
        let parent = self.parent(start.ppid, start.parent_sequence, key);
        let path = self.devices.dos_path(&start.image);
        let process = Process {
            key,
            parent,
            comm: comm(file_name(&path)),
            exe: path.into_bytes().into(),
            session: start.session,
            ..Process::default()
        };
        let exe = process.exe.clone();
        self.living.insert(
            start.pid,
            Living {
                key,
                sequence: start.sequence,
                parent,
                exe,
            },
        );
        if let Some(parent) = parent {
            self.push(
                out,
                start.time,
                EventKind::Fork(Fork {
                    child: key,
                    parent,
                    parent_muted: false,
                }),
            );
        }
        let exec = Box::new(Exec {
            process,
            old_tid: None,
        });
        self.push(out, start.time, EventKind::Exec(exec));
    }

    fn stop(&mut self, stop: Stop, out: &mut Vec<Event>) {
        let key = self.key(stop.pid, stop.created);
        let (parent, exe) = if self.living.get(&stop.pid).is_some_and(|l| l.key == key) {
            self.living
                .remove(&stop.pid)
                .map(|living| (living.parent, living.exe))
        } else {
            self.untracked_exits += 1;
            None
        }
        .unwrap_or_default();
        let status = ExitStatus {
            raw: stop.exit_code,
            code: stop.exit_code,
            signal: 0,
            core_dumped: false,
        };
        let exit = Exit {
            key,
            parent,
            status: Some(status),
            run_time: Some(Duration::from_nanos(
                self.clock
                    .since_boot(stop.time)
                    .0
                    .saturating_sub(key.start.0),
            )),
            comm: comm(&stop.image),
            exe,
            muted: false,
        };
        self.push(out, stop.time, EventKind::Exit(exit));
    }

    fn key(&self, pid: u32, created: FileTime) -> ProcessKey {
        ProcessKey {
            boot: self.clock.boot_id(),
            pid,
            start: self.clock.since_boot(created),
        }
    }

    /// The living process with this id, unless it took the id over from the parent: Windows
    /// reuses ids soon, and keeps that of a parent that has ended.
    fn parent(&self, ppid: u32, sequence: Option<u64>, child: ProcessKey) -> Option<ProcessKey> {
        let living = self.living.get(&ppid)?;
        let is_same = match (sequence, living.sequence) {
            (Some(said), Some(known)) => said == known,
            _ => living.key.start <= child.start,
        };
        (is_same && living.key != child).then_some(living.key)
    }

    fn push(&mut self, out: &mut Vec<Event>, time: FileTime, kind: EventKind) {
        self.sequence += 1;
        out.push(Event {
            header: self.clock.header(time, self.sequence),
            kind,
        });
    }

    /// Time since boot of a moment on the clock.
    pub(crate) fn since_boot(&self, time: FileTime) -> BootTime {
        self.clock.since_boot(time)
    }

    /// A `Lost` event of this moment.
    pub(crate) fn lost(&self, lost: event::Lost, now: FileTime) -> Event {
        Event {
            header: self.clock.header(now, 0),
            kind: EventKind::Lost(lost),
        }
    }
}

/// At most 15 bytes, as elsewhere, and no character cut.
fn comm(name: &str) -> Bytes {
    Bytes::copy_from_slice(&name.as_bytes()[..name.floor_char_boundary(15)])
}

#[cfg(test)]
mod tests;
