use std::collections::HashMap;

use bytes::Bytes;
use event::{
    BootTime, Event, EventKind, Exec, Exit, ExitStatus, Fork, Lost, Process, ProcessKey, Snapshot,
    WallTime,
};

use crate::clock::Clock;
use crate::message::{self, Body, Message, Proc, Row};

/// Turns messages into events, and keeps what later ones need of the living processes.
pub(crate) struct Normalizer {
    clock: Clock,
    living: HashMap<u32, Living>,
    snapshot_at: WallTime,
    pub(crate) untracked_exits: u64,
    pub(crate) truncated: u64,
}

struct Living {
    key: ProcessKey,
    parent: Option<ProcessKey>,
    in_snapshot: bool,
}

impl Normalizer {
    pub(crate) fn new(clock: Clock) -> Self {
        let snapshot_at = WallTime(0);
        Self {
            clock,
            living: HashMap::new(),
            snapshot_at,
            untracked_exits: 0,
            truncated: 0,
        }
    }

    /// Appends the event of a message: none where the snapshot told it already.
    pub(crate) fn message(&mut self, message: Message, out: &mut Vec<Event>) {
        let Message {
            time,
            global_sequence,
            process,
            body,
            ..
        } = message;
        let kind = match body {
            Body::Fork { child } => self.fork(time, &process, &child),
            Body::Exec(exec) => self.exec(time, *exec),
            Body::Exit { wait_status } => Some(self.exit(&process, wait_status)),
        };
        // Counted from 0 by macOS, where 0 means none to us.
        let sequence = global_sequence.map_or(0, |number| number.saturating_add(1));
        let header = self.clock.header(time, sequence);
        out.extend(kind.map(|kind| Event { header, kind }));
    }

    /// Appends a row for each process of a list that was begun at `begun`.
    pub(crate) fn snapshot(&mut self, rows: Vec<Row>, begun: WallTime, out: &mut Vec<Event>) {
        self.snapshot_at = begun;
        for row in &rows {
            let key = self.key(row.pid, row.started);
            self.living.insert(
                row.pid,
                Living {
                    key,
                    parent: None,
                    in_snapshot: true,
                },
            );
        }
        for row in rows {
            let key = self.key(row.pid, row.started);
            let parent = self.parent(row.ppid, key);
            if let Some(living) = self.living.get_mut(&row.pid) {
                living.parent = parent;
            }
            let header = self.clock.header(begun, 0);
            let row = Snapshot {
                process: process_of_row(row, key, parent),
            };
            self.truncated += u64::from(row.process.argv_truncated_bytes > 0);
            out.push(Event {
                header,
                kind: EventKind::Snapshot(Box::new(row)),
            });
        }
    }

    fn fork(&mut self, time: WallTime, parent: &Proc, child: &Proc) -> Option<EventKind> {
        let parent = self.key_of(parent);
        let key = self.key_of(child);
        if self.is_in_snapshot(key, time) {
            return None;
        }
        let living = Living {
            key,
            parent: Some(parent),
            in_snapshot: false,
        };
        self.living.insert(key.pid, living);
        Some(EventKind::Fork(Fork {
            child: key,
            parent,
            parent_muted: false,
        }))
    }

    fn exec(&mut self, time: WallTime, exec: message::Exec) -> Option<EventKind> {
        let key = self.key_of(&exec.target);
        if self.is_in_snapshot(key, time) {
            return None;
        }
        let parent = match self.living(key) {
            Some(living) => living.parent,
            None => self.parent(exec.target.ppid, key),
        };
        let in_snapshot = self.living(key).is_some_and(|living| living.in_snapshot);
        self.living.insert(
            key.pid,
            Living {
                key,
                parent,
                in_snapshot,
            },
        );
        self.truncated += u64::from(exec.argv_truncated_bytes > 0);
        let process = process_of_exec(exec, key, parent);
        Some(EventKind::Exec(Box::new(Exec {
            process,
            old_tid: None,
        })))
    }

    fn exit(&mut self, process: &Proc, wait_status: i32) -> EventKind {
        let key = self.key_of(process);
        let parent = if self.living(key).is_some() {
            self.living
                .remove(&key.pid)
                .and_then(|living| living.parent)
        } else {
            self.untracked_exits += 1;
            self.parent(process.ppid, key)
        };
        EventKind::Exit(Exit {
            key,
            parent,
            status: Some(ExitStatus::from_wait_status(wait_status.cast_unsigned())),
            run_time: None,
            comm: comm(&process.exe),
            exe: process.exe.clone(),
            muted: false,
        })
    }

    /// Whether the snapshot has the process as it was after what happened at `time`.
    fn is_in_snapshot(&self, key: ProcessKey, time: WallTime) -> bool {
        time < self.snapshot_at && self.living(key).is_some_and(|living| living.in_snapshot)
    }

    fn living(&self, key: ProcessKey) -> Option<&Living> {
        self.living.get(&key.pid).filter(|living| living.key == key)
    }

    /// The key of a process in a message. Without a start time (macOS before 10.15.4) that of the
    /// living process with its pid.
    fn key_of(&self, process: &Proc) -> ProcessKey {
        match (process.started, self.living.get(&process.pid)) {
            (Some(started), _) => self.key(process.pid, started),
            (None, Some(living)) => living.key,
            (None, None) => self.key(process.pid, WallTime(0)),
        }
    }

    fn key(&self, pid: u32, started: WallTime) -> ProcessKey {
        ProcessKey {
            boot: self.clock.boot_id(),
            pid,
            start: self.clock.since_boot(started),
        }
    }

    fn parent(&self, ppid: u32, child: ProcessKey) -> Option<ProcessKey> {
        let parent = self.living.get(&ppid)?.key;
        (parent.start <= child.start && parent != child).then_some(parent)
    }

    /// Time since boot of a moment on the clock.
    pub(crate) fn since_boot(&self, time: WallTime) -> BootTime {
        self.clock.since_boot(time)
    }

    /// A `Lost` event of this moment.
    pub(crate) fn lost(&self, lost: Lost, now: WallTime) -> Event {
        Event {
            header: self.clock.header(now, 0),
            kind: EventKind::Lost(lost),
        }
    }
}

fn process_of_exec(exec: message::Exec, key: ProcessKey, parent: Option<ProcessKey>) -> Process {
    let target = exec.target;
    Process {
        key,
        parent,
        comm: comm(&target.exe),
        exe: target.exe,
        filename: exec.script.unwrap_or_default(),
        argv: exec.argv,
        argv_truncated_bytes: exec.argv_truncated_bytes,
        cwd: exec.cwd,
        credentials: Some(target.credentials),
        login_uid: Some(target.auid).filter(|auid| *auid != u32::MAX),
        session: Some(target.session),
        tty: target.tty,
        exe_file: Some(target.exe_file),
        ..Process::default()
    }
}

fn process_of_row(row: Row, key: ProcessKey, parent: Option<ProcessKey>) -> Process {
    Process {
        key,
        parent,
        comm: row.comm,
        exe: row.exe,
        argv: row.argv,
        argv_truncated_bytes: row.argv_truncated_bytes,
        credentials: Some(row.credentials),
        tty: row.tty,
        ..Process::default()
    }
}

/// The kernel's name of a process is the file name of its program; cut as elsewhere.
fn comm(exe: &Bytes) -> Bytes {
    let start = exe
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1);
    exe.slice(start..exe.len().min(start + 15))
}

#[cfg(test)]
mod tests;
