//! Looks through procfs: for what already runs at the start, and after a loss for what began and
//! ended unseen.

use std::collections::HashMap;

use bytes::Bytes;
use event::{BootId, BootTime, Process, ProcessKey};

use super::clock::is_same_start;
use super::inbox::{Inbox, Later};
use super::lives::{Leader, Life, Lives, Tasks};
use crate::Error;
use crate::clock::boot_time;
use crate::procfs::{self, Stat};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Processes that were not known; now they are.
    pub(crate) rows: Vec<Process>,
    /// Known ones that are not there. Messages of their ends may still wait.
    pub(crate) gone: Vec<ProcessKey>,
}

/// Whom procfs shows.
struct Seen {
    key: ProcessKey,
    stat: Stat,
    /// From before `stat` was read.
    at: BootTime,
}

/// Enters all that live into `lives`, and moves the messages that come meanwhile into the inbox.
pub(crate) fn survey(lives: &mut Lives, inbox: &mut Inbox, boot: BootId) -> Result<Survey, Error> {
    let seen = seen(boot)?;
    let there: HashMap<u32, BootTime> = seen.iter().map(|s| (s.key.pid, s.key.start)).collect();
    let is_there = |key: &ProcessKey| {
        let shown = there.get(&key.pid);
        shown.is_some_and(|shown| is_same_start(key.start, *shown))
    };
    let mut survey = Survey {
        rows: Vec::new(),
        gone: lives.keys().filter(|key| !is_there(key)).collect(),
    };
    for seen in seen {
        inbox.fill().map_err(Error::reading_messages)?;
        let later = inbox.later(seen.key.pid);
        match lives.get_mut(seen.key.pid) {
            Some(life) if is_same_start(life.key.start, seen.key.start) => {
                // What waits is to be told first, by what is known so far.
                if later == Later::default() {
                    life.tasks = tasks(seen.key.pid, &seen.stat);
                    life.since = seen.at;
                }
            }
            // Its messages will tell of it.
            _ if later.forks > 0 || later.exits > 0 => {}
            _ => survey.rows.extend(enter(lives, seen)),
        }
    }
    Ok(survey)
}

/// Parents before their children.
fn seen(boot: BootId) -> Result<Vec<Seen>, Error> {
    let pids = procfs::pids().map_err(|source| Error::System {
        call: "listing /proc",
        source,
    })?;
    let look = |pid| {
        let at = boot_time();
        let stat = procfs::stat(pid).filter(|stat| !stat.ended)?;
        let start = procfs::start(&stat);
        let key = ProcessKey { boot, pid, start };
        Some(Seen { key, stat, at })
    };
    let mut seen: Vec<Seen> = pids.into_iter().filter_map(look).collect();
    seen.sort_unstable_by_key(|seen| (seen.key.start, seen.key.pid));
    Ok(seen)
}

/// The row of a process that was not known; `None` if it ended before all of it was read.
fn enter(lives: &mut Lives, seen: Seen) -> Option<Process> {
    let Seen { key, stat, at } = seen;
    let parent = lives.get(stat.ppid).map(|parent| parent.key);
    let process = procfs::process(key, parent, &stat);
    let tasks = tasks(key.pid, &stat);
    if !is_alive(key) {
        return None;
    }
    lives.insert(Life {
        key,
        parent,
        comm: Bytes::from(stat.comm),
        forked: None,
        since: at,
        tasks,
    });
    Some(process)
}

/// The threads of a process that live.
pub(crate) fn tasks(pid: u32, stat: &Stat) -> Tasks {
    let mut tasks = Tasks::default();
    if stat.leader_left {
        tasks.leader = Leader::LeftUnseen;
    }
    if stat.threads > 1 {
        tasks.others.extend(procfs::threads(pid));
        tasks.others.remove(&pid);
    }
    tasks
}

/// Whether procfs still shows this very process.
pub(crate) fn is_alive(key: ProcessKey) -> bool {
    let stat = procfs::stat(key.pid).filter(|stat| !stat.ended);
    stat.is_some_and(|stat| is_same_start(key.start, procfs::start(&stat)))
}
