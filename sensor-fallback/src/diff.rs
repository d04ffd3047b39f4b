use std::collections::HashMap;
use std::iter::successors;

use event::{BootTime, EventKind, Exec, Exit, Fork, ProcessKey};

use crate::scan::{Scan, Seen};

/// What happened between two scans, in order of time, parents before their children.
///
/// A new process is a fork (where its parent is known) and an exec at its start time: whether it
/// runs its parent's program or one of its own cannot be told. Everything else is placed at the
/// time of the second scan, which is the latest it can have happened. How a process ended is not
/// known: its status is zero.
pub(crate) fn diff(before: &Scan, after: &Scan) -> Vec<(BootTime, EventKind)> {
    let mut events = Vec::new();
    exits(before, after, &mut events);
    starts(before, after, &mut events);
    execs(before, after, &mut events);
    // Stable: what has the same time keeps the order of the three calls.
    events.sort_by_key(|(time, _)| *time);
    events
}

fn exits(before: &Scan, after: &Scan, events: &mut Vec<(BootTime, EventKind)>) {
    for gone in before
        .processes
        .values()
        .filter(|seen| after.get(seen.key()).is_none())
    {
        // Whoever has its pid now started after it ended.
        let successor = after
            .processes
            .get(&gone.key().pid)
            .map(|seen| seen.key().start);
        let time = successor.unwrap_or(after.at).max(gone.key().start);
        events.push((time, EventKind::Exit(exit(gone))));
    }
}

fn exit(gone: &Seen) -> Exit {
    Exit {
        key: gone.key(),
        parent: gone.parent,
        status: None,
        run_time: None,
        comm: gone.process.comm.clone(),
        exe: gone.process.exe.clone(),
        muted: false,
    }
}

fn starts(before: &Scan, after: &Scan, events: &mut Vec<(BootTime, EventKind)>) {
    let mut new: Vec<_> = after
        .processes
        .values()
        .filter(|seen| before.get(seen.key()).is_none())
        .collect();
    let parents: HashMap<_, _> = new.iter().map(|seen| (seen.key(), seen.parent)).collect();
    new.sort_by_cached_key(|seen| (seen.key().start, generation(seen.key(), &parents)));
    for seen in new {
        let child = seen.key();
        if let Some(parent) = seen.parent {
            events.push((
                child.start,
                EventKind::Fork(Fork {
                    child,
                    parent,
                    parent_muted: false,
                }),
            ));
        }
        if !seen.kernel_thread {
            events.push((child.start, exec(seen)));
        }
    }
}

/// Number of ancestors that started in the same clock tick: start times do not order those.
fn generation(key: ProcessKey, parents: &HashMap<ProcessKey, Option<ProcessKey>>) -> usize {
    let parent = |of: &ProcessKey| parents.get(of).copied().flatten();
    successors(parent(&key), parent)
        .take_while(|up| up.start == key.start)
        .take(MAX_GENERATIONS)
        .count()
}

fn execs(before: &Scan, after: &Scan, events: &mut Vec<(BootTime, EventKind)>) {
    for seen in after.processes.values() {
        if before
            .get(seen.key())
            .is_some_and(|old| runs_another_program(old, seen))
        {
            events.push((after.at.max(seen.key().start), exec(seen)));
        }
    }
}

/// Where no image is shown, the executable or the arguments tell, so a process that rewrites its
/// own arguments looks like one that called exec. A process that is just ending shows neither.
pub(crate) fn runs_another_program(old: &Seen, new: &Seen) -> bool {
    if let (Some(old), Some(new)) = (old.image, new.image) {
        return old != new;
    }
    let (old, new) = (&old.process, &new.process);
    (!new.exe.is_empty() && !old.exe.is_empty() && new.exe != old.exe)
        || (!new.argv.is_empty() && new.argv != old.argv)
}

fn exec(seen: &Seen) -> EventKind {
    EventKind::Exec(Box::new(Exec {
        process: seen.full(),
        old_tid: None,
    }))
}

/// Ends the walk where pids reused during a scan make a circle.
const MAX_GENERATIONS: usize = 1000;

#[cfg(test)]
mod tests;
