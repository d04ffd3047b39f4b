use event::{Event, EventKind, Exit, FailedExec, Process, ProcessKey};

use crate::order::runs_ahead;
use crate::process_table::ProcessTable;

/// Longest argument block that goes into a leaf. Sources cap theirs far below; one that does not
/// must not make a leaf that the ledger refuses (each argument costs two bytes more when encoded).
pub(crate) const ARGV_BYTES: usize = 256 << 10;

/// Joins what the table knows onto an event, and teaches the table what the event says. Returns
/// whether the event had to be cut.
pub(crate) fn enrich(event: &mut Event, table: &mut ProcessTable) -> bool {
    if !runs_ahead(event) {
        table.advance(event.header.boot, event.header.time);
    }
    match &mut event.kind {
        EventKind::Exec(exec) => return join(&mut exec.process, table),
        EventKind::Snapshot(row) => return join(&mut row.process, table),
        EventKind::Fork(fork) => {
            if fork.parent_muted {
                table.forget_image(fork.parent);
            }
            table.fork(fork.child, fork.parent);
        }
        EventKind::Exit(exit) => {
            join_ended(exit, table);
            table.exit(exit.key, event.header.time);
        }
        EventKind::FailedExec(failed) => join_failed(failed, table),
        _ => {}
    }
    false
}

fn join_ended(exit: &mut Exit, table: &mut ProcessTable) {
    if exit.muted {
        table.forget_image(exit.key);
    }
    exit.parent = exit.parent.or_else(|| table.parent(exit.key));
    if exit.exe.is_empty() {
        exit.exe = table.exe(exit.key).unwrap_or_default();
    }
}

fn join_failed(failed: &mut FailedExec, table: &mut ProcessTable) {
    if failed.muted {
        table.forget_image(failed.key);
    }
    failed.parent = failed.parent.or_else(|| table.parent(failed.key));
    if failed.exe.is_empty() {
        failed.exe = table.exe(failed.key).unwrap_or_default();
    }
}

fn join(process: &mut Process, table: &mut ProcessTable) -> bool {
    let cut = cut_argv(process);
    process.parent = process.parent.or_else(|| table.parent(process.key));
    if let Some(parent) = process.parent {
        join_ancestry(process, parent, table);
    }
    table.exec(process);
    cut
}

fn join_ancestry(process: &mut Process, parent: ProcessKey, table: &mut ProcessTable) {
    if process.parent_process.is_none() {
        process.parent_process = table.ancestor(parent).map(Box::new);
    }
    if process.ancestors.is_empty() {
        process.ancestors = table.above(parent);
    }
}

fn cut_argv(process: &mut Process) -> bool {
    let block = process.argv.as_block();
    let Some(over) = block.len().checked_sub(ARGV_BYTES).filter(|over| *over > 0) else {
        return false;
    };
    process.argv = event::Argv::from_block(block.slice(..ARGV_BYTES));
    process.argv_truncated_bytes += over as u64;
    true
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use event::{BootTime, Exec, Fork, Header, codec};

    use super::*;
    use crate::TableLimits;

    fn key(pid: u32) -> ProcessKey {
        ProcessKey {
            pid,
            ..ProcessKey::default()
        }
    }

    fn at(time: u64, kind: EventKind) -> Event {
        Event {
            header: Header {
                time: BootTime(time),
                ..Header::default()
            },
            kind,
        }
    }

    fn exec(pid: u32, exe: &'static str) -> Event {
        let process = Process {
            key: key(pid),
            exe: Bytes::from_static(exe.as_bytes()),
            ..Process::default()
        };
        at(
            1,
            EventKind::Exec(Box::new(Exec {
                process,
                old_tid: None,
            })),
        )
    }

    fn process(event: &Event) -> &Process {
        match &event.kind {
            EventKind::Exec(exec) => &exec.process,
            other => panic!("not an exec: {other:?}"),
        }
    }

    #[test]
    fn exec_gets_its_parent_as_it_was_then() {
        let mut table = ProcessTable::new(TableLimits::default());
        let mut shell = exec(1, "/bin/sh");
        enrich(&mut shell, &mut table);
        let mut fork = at(
            2,
            EventKind::Fork(Fork {
                child: key(2),
                parent: key(1),
                parent_muted: false,
            }),
        );
        enrich(&mut fork, &mut table);
        let mut child = exec(2, "/bin/true");
        enrich(&mut child, &mut table);
        enrich(&mut exec(1, "/bin/other"), &mut table);
        assert_eq!(process(&child).parent, Some(key(1)));
        assert_eq!(
            process(&child).parent_process.as_ref().unwrap().exe,
            "/bin/sh"
        );
    }

    /// The shell's exec was told, that of what it became was muted.
    #[test]
    fn what_ran_before_a_muted_exec_is_nobodys_parent() {
        let mut table = ProcessTable::new(TableLimits::default());
        enrich(&mut exec(1, "/bin/sh"), &mut table);
        let mut fork = at(
            2,
            EventKind::Fork(Fork {
                child: key(2),
                parent: key(1),
                parent_muted: true,
            }),
        );
        enrich(&mut fork, &mut table);
        let mut child = exec(2, "/bin/true");
        enrich(&mut child, &mut table);
        assert_eq!(process(&child).parent, Some(key(1)));
        assert_eq!(process(&child).parent_process, None);
    }

    #[test]
    fn exit_gets_path_and_parent_unless_it_has_them() {
        let mut table = ProcessTable::new(TableLimits::default());
        enrich(
            &mut at(
                1,
                EventKind::Fork(Fork {
                    child: key(2),
                    parent: key(1),
                    parent_muted: false,
                }),
            ),
            &mut table,
        );
        enrich(&mut exec(2, "/bin/true"), &mut table);
        let mut exit = at(
            3,
            EventKind::Exit(Exit {
                key: key(2),
                ..Exit::default()
            }),
        );
        enrich(&mut exit, &mut table);
        let EventKind::Exit(exit) = exit.kind else {
            unreachable!()
        };
        assert_eq!(exit.exe, "/bin/true");
        assert_eq!(exit.parent, Some(key(1)));
    }

    #[test]
    fn what_ran_before_a_muted_exec_did_not_end_or_fail() {
        let mut table = ProcessTable::new(TableLimits::default());
        enrich(&mut exec(2, "/bin/sh"), &mut table);
        let mut joined = |kind| {
            let mut event = at(2, kind);
            enrich(&mut event, &mut table);
            match event.kind {
                EventKind::Exit(exit) => exit.exe,
                EventKind::FailedExec(failed) => failed.exe,
                other => panic!("neither: {other:?}"),
            }
        };
        let failed = |muted| {
            EventKind::FailedExec(Box::new(FailedExec {
                key: key(2),
                muted,
                ..FailedExec::default()
            }))
        };
        assert_eq!(joined(failed(false)), "/bin/sh");
        assert_eq!(joined(failed(true)), "");
        let exit = Exit {
            key: key(2),
            muted: true,
            ..Exit::default()
        };
        assert_eq!(joined(EventKind::Exit(exit)), "");
    }

    #[test]
    fn longest_arguments_fit_a_leaf_and_say_what_is_missing() {
        let mut table = ProcessTable::new(TableLimits::default());
        let mut event = exec(1, "/bin/true");
        let EventKind::Exec(exec) = &mut event.kind else {
            unreachable!()
        };
        exec.process.argv = event::Argv::from_block(Bytes::from(vec![0; 3 << 20]));
        assert!(enrich(&mut event, &mut table));
        assert_eq!(
            process(&event).argv_truncated_bytes,
            (3 << 20) - ARGV_BYTES as u64
        );
        assert!(codec::encode_event(&event).len() <= 1 << 20);
    }
}
