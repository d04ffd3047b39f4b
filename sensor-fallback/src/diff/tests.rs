use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use event::{BootTime, EventKind, Process, ProcessKey};
use proptest::prelude::*;

use super::diff;
use crate::scan::{Scan, Seen};

/// One process: pid, start, parent's pid, argument.
type Row = (u32, u64, u32, &'static str);

fn seen((pid, start, ppid, argument): Row) -> Seen {
    let process = Process {
        key: ProcessKey {
            pid,
            start: BootTime(start),
            ..ProcessKey::default()
        },
        exe: Bytes::from_static(b"/bin/x"),
        argv: [argument].into_iter().collect(),
        ..Process::default()
    };
    Seen {
        process: Arc::new(process),
        ppid,
        parent: None,
        image: None,
        kernel_thread: false,
    }
}

fn scan(at: u64, rows: &[Row], before: &Scan) -> Scan {
    let mut scan = Scan {
        at: BootTime(at),
        ..Scan::default()
    };
    scan.processes = rows.iter().map(|row| (row.0, seen(*row))).collect();
    scan.link_parents(before);
    scan
}

fn two(before: &[Row], after: &[Row]) -> (Scan, Scan) {
    let before = scan(100, before, &Scan::default());
    let after = scan(200, after, &before);
    (before, after)
}

fn told(before: &Scan, after: &Scan) -> Vec<String> {
    let name = |key: &ProcessKey| format!("{}@{}", key.pid, key.start.0);
    let line = |(time, kind): &(BootTime, EventKind)| match kind {
        EventKind::Fork(fork) => {
            format!(
                "{} fork {} by {}",
                time.0,
                name(&fork.child),
                name(&fork.parent)
            )
        }
        EventKind::Exec(exec) => format!("{} exec {}", time.0, name(&exec.process.key)),
        EventKind::Exit(exit) => format!("{} exit {}", time.0, name(&exit.key)),
        other => format!("{other:?}"),
    };
    diff(before, after).iter().map(line).collect()
}

fn check(before: &[Row], after: &[Row], expected: &[&str]) {
    let (before, after) = two(before, after);
    assert_eq!(told(&before, &after), expected);
}

#[test]
fn two_scans_tell_forks_execs_and_exits() {
    let shell = (7, 10, 1, "sh");
    check(&[shell], &[shell], &[]);
    check(&[], &[shell], &["10 exec 7@10"]);
    check(&[shell], &[], &["200 exit 7@10"]);
    check(
        &[shell],
        &[shell, (9, 150, 7, "a")],
        &["150 fork 9@150 by 7@10", "150 exec 9@150"],
    );
    check(&[shell], &[(7, 10, 1, "true")], &["200 exec 7@10"]);
}

#[test]
fn pid_reuse_is_an_exit_and_then_a_new_process() {
    check(
        &[(1, 0, 0, "init"), (7, 10, 1, "sh")],
        &[(1, 0, 0, "init"), (7, 150, 1, "sh")],
        &["150 exit 7@10", "150 fork 7@150 by 1@0", "150 exec 7@150"],
    );
}

#[test]
fn a_family_born_in_one_tick_comes_parents_first() {
    check(
        &[(8, 10, 1, "sh")],
        &[
            (8, 10, 1, "sh"),
            (3, 150, 5, "c"),
            (5, 150, 9, "b"),
            (9, 150, 8, "a"),
        ],
        &[
            "150 fork 9@150 by 8@10",
            "150 exec 9@150",
            "150 fork 5@150 by 9@150",
            "150 exec 5@150",
            "150 fork 3@150 by 5@150",
            "150 exec 3@150",
        ],
    );
}

#[test]
fn parent_that_ended_during_the_scan_is_still_the_parent() {
    check(
        &[(7, 10, 1, "sh")],
        &[(9, 150, 7, "a")],
        &["150 fork 9@150 by 7@10", "150 exec 9@150", "200 exit 7@10"],
    );
}

#[test]
fn a_younger_process_with_the_parents_pid_is_not_the_parent() {
    check(
        &[],
        &[(7, 180, 0, "late"), (9, 150, 7, "a")],
        &["150 exec 9@150", "180 exec 7@180"],
    );
}

#[test]
fn reparented_process_keeps_its_forker() {
    let (before, middle) = two(
        &[(1, 0, 0, "init"), (7, 10, 1, "sh")],
        &[(1, 0, 0, "init"), (7, 10, 1, "sh"), (9, 150, 7, "a")],
    );
    assert_eq!(told(&before, &middle).len(), 2);
    let after = scan(300, &[(1, 0, 0, "init"), (9, 150, 1, "b")], &middle);
    let events = diff(&middle, &after);
    let exec = events.iter().find_map(|(_, kind)| match kind {
        EventKind::Exec(exec) => Some(exec),
        _ => None,
    });
    assert_eq!(exec.unwrap().process.parent.unwrap().pid, 7);
}

#[test]
fn where_the_image_is_known_only_it_tells_exec() {
    let (mut before, mut after) = two(&[(7, 10, 1, "title: a")], &[(7, 10, 1, "title: b")]);
    before.processes.get_mut(&7).unwrap().image = Some([1; 5]);
    after.processes.get_mut(&7).unwrap().image = Some([1; 5]);
    assert!(told(&before, &after).is_empty());
    after = scan(200, &[(7, 10, 1, "title: a")], &before);
    after.processes.get_mut(&7).unwrap().image = Some([2; 5]);
    assert_eq!(told(&before, &after), ["200 exec 7@10"]);
}

#[test]
fn a_process_that_is_just_ending_did_not_call_exec() {
    let (before, mut after) = two(&[(7, 10, 1, "a")], &[(7, 10, 1, "a")]);
    let ending = after.processes.get_mut(&7).unwrap();
    ending.process = Arc::new(Process {
        key: ending.process.key,
        ..Process::default()
    });
    assert!(told(&before, &after).is_empty());
}

#[test]
fn kernel_threads_fork_and_exit_but_never_exec() {
    let (before, mut after) = two(&[(2, 0, 0, "")], &[(2, 0, 0, ""), (9, 150, 2, "")]);
    after.processes.get_mut(&9).unwrap().kernel_thread = true;
    assert_eq!(told(&before, &after), ["150 fork 9@150 by 2@0"]);
    assert_eq!(
        told(&after, &before),
        ["100 exit 2@0", "150 exit 9@150"][1..]
    );
}

fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        1_u32..12,
        0_u64..20,
        0_u32..12,
        prop_oneof![Just("a"), Just("b")],
    );
    prop::collection::vec(row, 0..12)
}

proptest! {
    #[test]
    fn events_lead_from_one_scan_to_the_other(before in any_rows(), after in any_rows()) {
        let (before, after) = two(&before, &after);
        let keys = |scan: &Scan| -> BTreeSet<_> { scan.processes.values().map(Seen::key).collect() };
        let mut alive = keys(&before);
        let mut last = BootTime(0);
        for (time, kind) in diff(&before, &after) {
            prop_assert!(time >= last);
            last = time;
            match kind {
                EventKind::Exit(exit) => prop_assert!(alive.remove(&exit.key)),
                EventKind::Exec(exec) => { alive.insert(exec.process.key); }
                EventKind::Fork(fork) => prop_assert!(!alive.contains(&fork.child)),
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(alive, keys(&after));
    }
}
