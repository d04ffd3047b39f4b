//! Who lives, and with which threads: the kernel tells of each thread's end, and of these one is
//! the end of the process. Pure.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use event::{BootTime, ExitStatus, ProcessKey};

use super::message::Task;

/// The processes that live, by pid.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    by_pid: HashMap<u32, Life>,
}

/// A process that lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Life {
    pub(crate) key: ProcessKey,
    pub(crate) parent: Option<ProcessKey>,
    /// Empty where unknown.
    pub(crate) comm: Bytes,
    /// When it was forked; `None` if it was there before.
    pub(crate) forked: Option<BootTime>,
    /// Messages from before this time tell nothing new: at its start, at an exec (which ends the
    /// other threads, and their messages can be late), or when procfs was read.
    pub(crate) since: BootTime,
    pub(crate) tasks: Tasks,
}

/// The threads of a process that live.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tasks {
    pub(crate) leader: Leader,
    /// All but the leader.
    pub(crate) others: HashSet<u32>,
    /// A wait status that says that a core was dumped.
    core: Option<u32>,
}

/// The thread whose id is the process's; it can end before the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Leader {
    #[default]
    Lives,
    /// With this wait status.
    Left(u32),
    /// Before anybody looked.
    LeftUnseen,
}

/// What the end of a task means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nobody knows the process.
    Unknown,
    /// Its process goes on.
    OfTask,
    /// It was the last one. Its wait status is `None` where the kernel does not tell.
    OfProcess(Box<Life>, Option<ExitStatus>),
}

impl Lives {
    pub(crate) fn get(&self, pid: u32) -> Option<&Life> {
        self.by_pid.get(&pid)
    }

    pub(crate) fn get_mut(&mut self, pid: u32) -> Option<&mut Life> {
        self.by_pid.get_mut(&pid)
    }

    /// Takes the place of a process of the same pid, whose end was lost.
    pub(crate) fn insert(&mut self, life: Life) {
        self.by_pid.insert(life.key.pid, life);
    }

    /// Forgets a process, unless its pid belongs to another one by now.
    pub(crate) fn forget(&mut self, key: ProcessKey) {
        if self
            .by_pid
            .get(&key.pid)
            .is_some_and(|life| life.key == key)
        {
            self.by_pid.remove(&key.pid);
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = ProcessKey> {
        self.by_pid.values().map(|life| life.key)
    }

    /// Whether a message of this time is older than what is known of the process.
    pub(crate) fn is_old(&self, pid: u32, at: BootTime) -> bool {
        self.get(pid).is_some_and(|life| at < life.since)
    }

    /// A thread was created.
    pub(crate) fn thread_began(&mut self, task: Task) {
        if let Some(life) = self.get_mut(task.tgid) {
            life.tasks.others.insert(task.tid);
        }
    }

    /// A task ended.
    pub(crate) fn task_ended(&mut self, task: Task, status: u32) -> Ending {
        let Some(life) = self.get_mut(task.tgid) else {
            return Ending::Unknown;
        };
        life.tasks.end(task, status);
        if life.tasks.any() {
            return Ending::OfTask;
        }
        match self.by_pid.remove(&task.tgid) {
            Some(life) => {
                let status = life.tasks.end_status(status);
                Ending::OfProcess(Box::new(life), status)
            }
            None => Ending::Unknown,
        }
    }
}

impl Tasks {
    /// An exec leaves one thread, under the leader's id. Gives the id that it had, where that is
    /// sure: the leader's end has been told, and all others' but one.
    pub(crate) fn exec(&mut self) -> Option<u32> {
        let before = std::mem::take(self);
        let mut others = before.others.into_iter();
        let (caller, more) = (others.next(), others.next());
        caller.filter(|_| before.leader != Leader::Lives && more.is_none())
    }

    fn end(&mut self, task: Task, status: u32) {
        if task.is_leader() {
            self.leader = Leader::Left(status);
        } else {
            self.others.remove(&task.tid);
        }
        if status & CORE != 0 {
            self.core = Some(status);
        }
    }

    fn any(&self) -> bool {
        self.leader == Leader::Lives || !self.others.is_empty()
    }

    /// The wait status of the process, of which a message says only each task's own.
    ///
    /// In a group exit (`exit_group`, a fatal signal) all that still live have the process's. Where
    /// the leader was gone before with another one, the last task's counts after a group exit, and
    /// from Linux 5.19 on always, but before that the leader's: then nothing is claimed. That a core
    /// was dumped is in the status of the task that dumped it.
    fn end_status(&self, last: u32) -> Option<ExitStatus> {
        let without_core = |status: u32| status & !CORE;
        let agrees = |status: u32| without_core(status) == without_core(last);
        if !matches!(self.leader, Leader::Left(status) if agrees(status)) {
            return None;
        }
        let core = self.core.filter(|core| agrees(*core));
        Some(ExitStatus::from_wait_status(core.unwrap_or(last)))
    }
}

/// Bit of a wait status.
const CORE: u32 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: Task = Task { tid: 6, tgid: 6 };

    fn thread(tid: u32) -> Task {
        Task { tid, tgid: 6 }
    }

    fn one_process(threads: &[u32]) -> Lives {
        let mut lives = Lives::default();
        let key = ProcessKey {
            pid: 6,
            ..ProcessKey::default()
        };
        lives.insert(Life {
            key,
            ..Life::default()
        });
        threads
            .iter()
            .for_each(|tid| lives.thread_began(thread(*tid)));
        lives
    }

    /// Only the last of these is the end; gives its status.
    fn end_of(threads: &[u32], ends: &[(u32, u32)]) -> Option<u32> {
        let mut lives = one_process(threads);
        let (last, before) = ends.split_last().unwrap();
        for (tid, status) in before {
            assert_eq!(lives.task_ended(thread(*tid), *status), Ending::OfTask);
        }
        let Ending::OfProcess(life, status) = lives.task_ended(thread(last.0), last.1) else {
            panic!("no end")
        };
        assert_eq!(life.key.pid, 6);
        assert_eq!(lives.task_ended(LEADER, 0), Ending::Unknown);
        status.map(|status| status.raw)
    }

    #[test]
    fn process_ends_once_with_its_last_task() {
        assert_eq!(end_of(&[], &[(6, 9)]), Some(9));
        assert_eq!(end_of(&[7, 8], &[(7, 0), (8, 0), (6, 0x700)]), Some(0x700));
        assert_eq!(end_of(&[7], &[(7, 0), (6, 0)]), Some(0));
        assert_eq!(end_of(&[7], &[(6, 0x700), (7, 0x700)]), Some(0x700));
    }

    #[test]
    fn status_is_unknown_where_the_leader_left_with_another() {
        assert_eq!(end_of(&[7], &[(6, 0), (7, 0x900)]), None);
    }

    #[test]
    fn core_dump_of_a_thread_is_the_processs() {
        assert_eq!(end_of(&[7], &[(7, 0x8b), (6, 11)]), Some(0x8b));
        assert_eq!(end_of(&[7], &[(6, 11), (7, 0x8b)]), Some(0x8b));
        assert_eq!(end_of(&[], &[(6, 0x86)]), Some(0x86));
    }

    #[test]
    fn exec_of_a_thread_ends_nothing_and_names_the_thread() {
        let mut lives = one_process(&[7, 8]);
        assert_eq!(lives.task_ended(thread(7), 0), Ending::OfTask);
        assert_eq!(lives.task_ended(LEADER, 0), Ending::OfTask);
        let tasks = &mut lives.get_mut(6).unwrap().tasks;
        assert_eq!(tasks.exec(), Some(8));
        assert_eq!(*tasks, Tasks::default());
    }

    #[test]
    fn exec_of_the_leader_names_nobody() {
        let exec = |threads: &[u32]| {
            let mut lives = one_process(threads);
            lives.get_mut(6).unwrap().tasks.exec()
        };
        assert_eq!((exec(&[]), exec(&[7]), exec(&[7, 8])), (None, None, None));
    }

    #[test]
    fn late_end_of_a_thread_that_an_exec_ended_changes_nothing() {
        let mut lives = one_process(&[7]);
        let life = lives.get_mut(6).unwrap();
        life.since = BootTime(50);
        life.tasks.exec();
        assert!(lives.is_old(6, BootTime(49)) && !lives.is_old(6, BootTime(50)));
        assert_eq!(lives.task_ended(thread(7), 0), Ending::OfTask);
        assert!(matches!(lives.task_ended(LEADER, 0), Ending::OfProcess(..)));
    }
}
