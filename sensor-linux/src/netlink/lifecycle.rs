//! What each message means: the events of one process, from its fork to its end.

use std::time::Duration;

use bytes::Bytes;
use event::{BootTime, EventKind, Exec, Exit, ExitStatus, Fork, Process, ProcessKey};

use super::clock::{is_same_start, tick};
use super::inbox::Later;
use super::lives::{Ending, Life};
use super::message::Task;
use super::sensor::NetlinkSensor;
use super::survey::tasks;
use crate::Error;
use crate::procfs::{self, Stat};

impl NetlinkSensor {
    pub(super) fn fork(&mut self, parent: Task, child: Task, at: BootTime) -> Option<EventKind> {
        if self.lives.is_old(child.tgid, at) {
            return None;
        }
        if !child.is_leader() {
            self.lives.thread_began(child);
            return None;
        }
        let stat = self.stat_at(child.tgid, at);
        let key = self.key(child.tgid, stat.as_ref().map_or(tick(at), procfs::start));
        let parent = self.parent(parent.tgid);
        self.lives.insert(Life {
            key,
            parent: Some(parent),
            comm: stat.map(|stat| stat.comm.into()).unwrap_or_default(),
            forked: Some(at),
            since: at,
            ..Life::default()
        });
        Some(EventKind::Fork(Fork {
            child: key,
            parent,
            parent_muted: false,
        }))
    }

    pub(super) fn exec(&mut self, pid: u32, at: BootTime) -> Result<Option<EventKind>, Error> {
        let stat = self.stat_at(pid, at);
        if !self.identify(pid, stat.as_ref()) {
            self.books.nameless_execs += 1;
            return Ok(None);
        }
        let bare = self.lives.get(pid).map(bare).unwrap_or_default();
        let process = self.program(bare, stat)?;
        let old_tid = self.lives.get_mut(pid).and_then(|life| {
            life.since = life.since.max(at);
            life.comm = process.comm.clone();
            life.tasks.exec()
        });
        let exec = Exec { process, old_tid };
        Ok(Some(EventKind::Exec(Box::new(exec))))
    }

    /// Makes sure that the process is known, under the key that procfs gives; false if nobody knows
    /// it.
    fn identify(&mut self, pid: u32, stat: Option<&Stat>) -> bool {
        let known = self.lives.get(pid).map(|life| life.key.start);
        let Some(stat) = stat else {
            return known.is_some();
        };
        if known.is_some_and(|start| is_same_start(start, procfs::start(stat))) {
            return true;
        }
        let key = self.key(pid, procfs::start(stat));
        self.lives.insert(Life {
            key,
            parent: self.lives.get(stat.ppid).map(|parent| parent.key),
            tasks: tasks(pid, stat),
            ..Life::default()
        });
        true
    }

    /// What it runs, as far as it can still be read. Nothing of it if the process has called exec
    /// again by then: it could be of that program.
    fn program(&mut self, bare: Process, stat: Option<Stat>) -> Result<Process, Error> {
        let pid = bare.key.pid;
        let Some(stat) = stat.filter(|_| self.later(pid).execs == 0) else {
            return Ok(bare);
        };
        let process = if stat.ended {
            Process {
                comm: stat.comm.into(),
                ..bare.clone()
            }
        } else {
            procfs::process(bare.key, bare.parent, &stat)
        };
        self.fill()?;
        Ok(if self.later(pid).execs == 0 {
            process
        } else {
            bare
        })
    }

    pub(super) fn exit(&mut self, task: Task, status: u32, at: BootTime) -> Option<EventKind> {
        if self.lives.is_old(task.tgid, at) {
            return None;
        }
        match self.lives.task_ended(task, status) {
            Ending::OfTask => None,
            Ending::Unknown => {
                self.count_unknown_exit(task, at);
                None
            }
            Ending::OfProcess(life, status) => {
                let ended = !self.doubt.is_open || !self.goes_on(&life);
                ended.then(|| EventKind::Exit(exit_of(*life, status, at)))
            }
        }
    }

    fn count_unknown_exit(&mut self, task: Task, at: BootTime) {
        if !task.is_leader() {
            return;
        }
        // Without a loss everybody is known, but for those that were on their way out before.
        if at < self.complete || self.doubt.lost == 0 {
            self.books.untracked_exits += 1;
        } else {
            self.books.nameless_exits += 1;
        }
    }

    /// A thread of it can have begun unseen.
    fn goes_on(&mut self, life: &Life) -> bool {
        let stat = procfs::stat(life.key.pid).filter(|stat| !stat.ended);
        let Some(stat) = stat.filter(|stat| is_same_start(life.key.start, procfs::start(stat)))
        else {
            return false;
        };
        let tasks = tasks(life.key.pid, &stat);
        self.lives.insert(Life {
            tasks,
            ..life.clone()
        });
        true
    }

    pub(super) fn rename(&mut self, task: Task, comm: &[u8]) {
        if let Some(life) = self.lives.get_mut(task.tgid).filter(|_| task.is_leader()) {
            let name = comm.split(|byte| *byte == 0).next().unwrap_or_default();
            life.comm = Bytes::copy_from_slice(name);
        }
    }

    /// What procfs shows of a process that lived at that time; `None` if it has ended, by a message
    /// that waits or by its pid being another's.
    fn stat_at(&mut self, pid: u32, at: BootTime) -> Option<Stat> {
        if self.later(pid).exits > 0 {
            return None;
        }
        procfs::stat(pid).filter(|stat| procfs::start(stat) <= tick(at))
    }

    fn later(&mut self, pid: u32) -> Later {
        self.inbox.get_mut().later(pid)
    }

    fn key(&self, pid: u32, start: BootTime) -> ProcessKey {
        ProcessKey {
            boot: self.clock.boot,
            pid,
            start,
        }
    }

    /// After a loss a parent can be unknown: then procfs tells its start, or it is 0.
    fn parent(&self, pid: u32) -> ProcessKey {
        let known = self.lives.get(pid).map(|life| life.key);
        known.unwrap_or_else(|| {
            let stat = procfs::stat(pid);
            self.key(pid, stat.as_ref().map(procfs::start).unwrap_or_default())
        })
    }
}

/// What is known of a process without procfs.
fn bare(life: &Life) -> Process {
    Process {
        key: life.key,
        parent: life.parent,
        ..Process::default()
    }
}

fn exit_of(life: Life, status: Option<ExitStatus>, at: BootTime) -> Exit {
    let run_time = life.forked.map(|forked| at.0.saturating_sub(forked.0));
    Exit {
        key: life.key,
        parent: life.parent,
        status,
        run_time: run_time.map(Duration::from_nanos),
        comm: life.comm,
        exe: Bytes::new(),
        muted: false,
    }
}
