use bytes::Bytes;
use event::{BootId, BootTime, Credentials, Event, EventKind, ExitStatus, ProcessKey, WallTime};

use super::Normalizer;
use crate::clock::Clock;
use crate::message::{Body, Exec, Message, Proc, Row};

const BOOT: u64 = 1_700_000_000_000_000_000;
const ID: BootId = BootId([7; 16]);

fn normalizer() -> Normalizer {
    Normalizer::new(Clock::new(WallTime(BOOT), ID))
}

fn at(since_boot: u64) -> WallTime {
    WallTime(BOOT + since_boot)
}

fn key(pid: u32, start: u64) -> ProcessKey {
    ProcessKey {
        boot: ID,
        pid,
        start: BootTime(start),
    }
}

fn proc(pid: u32, ppid: u32, start: u64) -> Proc {
    Proc {
        pid,
        ppid,
        started: Some(at(start)),
        credentials: Credentials {
            uid: 501,
            gid: 20,
            euid: 0,
            egid: 20,
        },
        auid: u32::MAX,
        session: 100_003,
        tty: Some(0x1000_0002),
        exe: Bytes::from_static(b"/bin/zsh"),
        ..Proc::default()
    }
}

fn message(time: u64, process: Proc, body: Body) -> Message {
    Message {
        time: at(time),
        sequence: Some(0),
        global_sequence: Some(41),
        process,
        body,
    }
}

fn fork(time: u64, parent: Proc, child: Proc) -> Message {
    message(time, parent, Body::Fork { child })
}

fn exec(time: u64, target: Proc) -> Message {
    let target = Proc {
        exe: Bytes::from_static(b"/usr/bin/a-program-with-a-name"),
        ..target
    };
    let exec = Exec {
        target: target.clone(),
        argv: [&b"a"[..], b"", b"\xff b"].into_iter().collect(),
        argv_truncated_bytes: 3,
        cwd: Some(Bytes::from_static(b"/tmp")),
        script: Some(Bytes::from_static(b"/tmp/run.sh")),
    };
    message(time, target, Body::Exec(Box::new(exec)))
}

fn exit(time: u64, process: Proc, wait_status: i32) -> Message {
    message(time, process, Body::Exit { wait_status })
}

fn row(pid: u32, ppid: u32, start: u64) -> Row {
    Row {
        pid,
        ppid,
        started: at(start),
        ..Row::default()
    }
}

fn feed(normalizer: &mut Normalizer, message: Message) -> Option<Event> {
    let mut out = Vec::new();
    normalizer.message(message, &mut out);
    assert!(out.len() <= 1);
    out.pop()
}

fn snapshot(normalizer: &mut Normalizer, begun: u64, rows: Vec<Row>) -> Vec<Event> {
    let mut out = Vec::new();
    normalizer.snapshot(rows, at(begun), &mut out);
    out
}

#[test]
fn fork_names_child_and_forker() {
    let mut normalizer = normalizer();
    let event = feed(
        &mut normalizer,
        fork(500, proc(10, 1, 100), proc(20, 10, 499)),
    )
    .unwrap();
    let EventKind::Fork(fork) = event.kind else {
        panic!("{event:?}")
    };
    assert_eq!((fork.child, fork.parent), (key(20, 499), key(10, 100)));
    assert_eq!(
        (event.header.time, event.header.wall),
        (BootTime(500), at(500))
    );
    assert_eq!(event.header.sequence, 42);
}

#[test]
fn exec_keeps_the_key_and_the_forker() {
    let mut normalizer = normalizer();
    feed(
        &mut normalizer,
        fork(500, proc(10, 1, 100), proc(20, 10, 499)),
    );
    // Re-parented in between: the present parent is launchd.
    let event = feed(&mut normalizer, exec(600, proc(20, 1, 499))).unwrap();
    let EventKind::Exec(exec) = event.kind else {
        panic!("{event:?}")
    };
    let process = exec.process;
    assert_eq!(
        (process.key, process.parent),
        (key(20, 499), Some(key(10, 100)))
    );
    assert_eq!(process.exe.as_ref(), b"/usr/bin/a-program-with-a-name");
    assert_eq!(process.comm.as_ref(), b"a-program-with-");
    assert_eq!(process.filename.as_ref(), b"/tmp/run.sh");
    assert_eq!(
        process.argv.iter().collect::<Vec<_>>(),
        [&b"a"[..], b"", b"\xff b"]
    );
    assert_eq!((process.argv_truncated_bytes, normalizer.truncated), (3, 1));
    assert_eq!(process.cwd.unwrap().as_ref(), b"/tmp");
    assert_eq!(process.credentials.unwrap().euid, 0);
    assert_eq!((process.login_uid, process.session), (None, Some(100_003)));
    assert_eq!(process.tty, Some(0x1000_0002));
}

#[test]
fn exec_of_a_process_not_seen_before_takes_the_present_parent() {
    let mut normalizer = normalizer();
    snapshot(&mut normalizer, 50, vec![row(10, 1, 20)]);
    let event = feed(&mut normalizer, exec(600, proc(20, 10, 499))).unwrap();
    let EventKind::Exec(exec) = event.kind else {
        panic!("{event:?}")
    };
    assert_eq!(exec.process.parent, Some(key(10, 20)));
}

#[test]
fn exit_splits_the_wait_status() {
    let mut normalizer = normalizer();
    let mut check = |wait_status, code, signal, core_dumped| {
        feed(
            &mut normalizer,
            fork(500, proc(10, 1, 100), proc(20, 10, 499)),
        );
        let event = feed(&mut normalizer, exit(700, proc(20, 1, 499), wait_status)).unwrap();
        let EventKind::Exit(exit) = event.kind else {
            panic!("{event:?}")
        };
        let raw = wait_status.cast_unsigned();
        assert_eq!(
            exit.status,
            Some(ExitStatus {
                raw,
                code,
                signal,
                core_dumped
            })
        );
        assert_eq!((exit.key, exit.parent), (key(20, 499), Some(key(10, 100))));
        assert_eq!(
            (exit.exe.as_ref(), exit.comm.as_ref()),
            (&b"/bin/zsh"[..], &b"zsh"[..])
        );
    };
    check(0x0700, 7, 0, false);
    check(9, 0, 9, false);
    check(0x8b, 0, 11, true);
    assert_eq!(normalizer.untracked_exits, 0);
}

#[test]
fn exit_of_an_unknown_process_is_untracked() {
    let mut normalizer = normalizer();
    assert!(feed(&mut normalizer, exit(700, proc(20, 10, 499), 0)).is_some());
    assert_eq!(normalizer.untracked_exits, 1);
}

#[test]
fn what_the_snapshot_shows_is_not_told_again() {
    let mut normalizer = normalizer();
    let rows = snapshot(
        &mut normalizer,
        650,
        vec![row(20, 10, 499), row(10, 1, 100)],
    );
    assert_eq!(rows[0].key(), Some(key(20, 499)));
    assert_eq!(
        feed(
            &mut normalizer,
            fork(500, proc(10, 1, 100), proc(20, 10, 499))
        ),
        None
    );
    assert_eq!(feed(&mut normalizer, exec(600, proc(20, 10, 499))), None);
    assert!(feed(&mut normalizer, exec(660, proc(20, 10, 499))).is_some());
    assert!(
        feed(&mut normalizer, exec(600, proc(30, 10, 599))).is_some(),
        "ended before it"
    );
    assert!(feed(&mut normalizer, exit(649, proc(20, 10, 499), 0)).is_some());
}

#[test]
fn snapshot_links_parents_in_any_order() {
    let rows = snapshot(
        &mut normalizer(),
        650,
        vec![row(20, 10, 499), row(10, 20, 100)],
    );
    let parent = |event: &Event| match &event.kind {
        EventKind::Snapshot(row) => row.process.parent,
        other => panic!("{other:?}"),
    };
    assert_eq!(parent(&rows[0]), Some(key(10, 100)));
    assert_eq!(
        parent(&rows[1]),
        None,
        "a parent is not younger than its child"
    );
}

#[test]
fn reused_pid_is_another_process() {
    let mut normalizer = normalizer();
    feed(
        &mut normalizer,
        fork(500, proc(10, 1, 100), proc(20, 10, 499)),
    );
    let event = feed(&mut normalizer, exit(900, proc(20, 10, 800), 0)).unwrap();
    assert_eq!(event.key(), Some(key(20, 800)));
    assert_eq!(normalizer.untracked_exits, 1);
    feed(&mut normalizer, exit(950, proc(20, 10, 499), 0));
    assert_eq!(
        normalizer.untracked_exits, 1,
        "the other one was still known"
    );
}

#[test]
fn message_without_start_times_finds_the_living_process() {
    let mut normalizer = normalizer();
    snapshot(&mut normalizer, 50, vec![row(10, 1, 20)]);
    let old = Proc {
        started: None,
        ..proc(10, 1, 0)
    };
    assert_eq!(
        feed(&mut normalizer, exit(700, old, 0)).unwrap().key(),
        Some(key(10, 20))
    );
}
