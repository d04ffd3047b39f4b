//! The life of a process: fork, exec, exit, each exactly once and under one key.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use event::{Event, EventKind, Exec, Exit, ExitStatus, Fork, ProcessKey};
use vm::{Recording, Workload, expect_kinds, place};

/// One recording, in which every workload of this file runs once.
static RECORDED: LazyLock<Recorded> = LazyLock::new(|| record().expect("a recording"));

struct Recorded {
    recording: Recording,
    /// By name; each has its `self`, and its `child` where it started one.
    workloads: HashMap<&'static str, Workload>,
    /// A process that was there before the recorder, and ended under it.
    early: u32,
}

fn record() -> Result<Recorded> {
    let mut early = start_early()?;
    let pid = early.id();
    let (recording, workloads) = Recording::of(|| {
        drop(early.stdin.take());
        early.wait()?;
        run_workloads()
    })?;
    Ok(Recorded {
        recording,
        workloads,
        early: pid,
    })
}

fn start_early() -> Result<Child> {
    let mut command = Command::new(place::workload()?);
    let mut child = command
        .arg("wait")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    // Its first line shows that its exec is over.
    let pipe = child.stdout.as_mut().context("a pipe was asked for")?;
    BufReader::new(pipe).read_line(&mut String::new())?;
    Ok(child)
}

fn run_workloads() -> Result<HashMap<&'static str, Workload>> {
    let workload = place::workload()?;
    let us = workload
        .to_str()
        .context("the path of the workload is no UTF-8")?;
    let all: [(&str, &[&str]); 9] = [
        ("shell", &["run", "/bin/sh", "-c", "exec true"]),
        ("killed", &["kill"]),
        ("forked", &["fork"]),
        ("threads", &["run", us, "threads"]),
        ("exit-from-thread", &["run", us, "exit-from-thread"]),
        ("leader-leaves", &["run", us, "leader-leaves"]),
        ("codes", &["codes", "0", "1", "42", "255"]),
        ("deleted", &["deleted"]),
        ("memfd", &["memfd"]),
    ];
    all.into_iter()
        .map(|(name, arguments)| Ok((name, Workload::run(arguments)?)))
        .collect()
}

/// The workload and all events about its child.
fn child_of(name: &str) -> (&'static Workload, Vec<&'static Event>) {
    let workload = &RECORDED.workloads[name];
    (workload, RECORDED.recording.about(workload.pid("child")))
}

fn key_of(pid: u32) -> ProcessKey {
    let events = RECORDED.recording.about(pid);
    let first = events
        .first()
        .unwrap_or_else(|| panic!("no event about {pid}"));
    first.key().expect("it is about a process")
}

fn fork(event: &Event) -> Fork {
    let EventKind::Fork(fork) = &event.kind else {
        panic!("no fork: {event:?}")
    };
    *fork
}

fn exec(event: &Event) -> &Exec {
    let EventKind::Exec(exec) = &event.kind else {
        panic!("no exec: {event:?}")
    };
    exec
}

fn exit(event: &Event) -> &Exit {
    let EventKind::Exit(exit) = &event.kind else {
        panic!("no exit: {event:?}")
    };
    exit
}

fn status(event: &Event) -> ExitStatus {
    let known = exit(event).status;
    known.unwrap_or_else(|| panic!("no status: {event:?}"))
}

fn arguments(exec: &Exec) -> Vec<&[u8]> {
    exec.process.argv.iter().collect()
}

#[test]
fn shell_that_execs_gives_fork_exec_exec_exit_under_one_key() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (workload, events) = child_of("shell");
    expect_kinds(&events, "fork exec exec exit");
    let parent = key_of(workload.pid("self"));
    let key = fork(events[0]).child;
    assert_eq!(fork(events[0]).parent, parent);
    for event in &events {
        assert_eq!(event.key(), Some(key), "{event:?}");
    }

    let shell = exec(events[1]);
    assert_eq!(arguments(shell), [&b"/bin/sh"[..], b"-c", b"exec true"]);
    assert_eq!(shell.process.filename, &b"/bin/sh"[..]);
    assert_eq!(shell.process.parent, Some(parent));
    assert_eq!(shell.process.argv_truncated_bytes, 0);
    let program = exec(events[2]);
    assert_eq!(arguments(program), [b"true"]);
    assert_eq!(program.process.parent, Some(parent));

    let exit = exit(events[3]);
    let status = status(events[3]);
    assert_eq!((status.code, status.signal, status.raw), (0, 0, 0));
    assert_eq!(exit.parent, Some(parent));
}

#[test]
fn killed_process_has_one_exit_with_signal_9() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (workload, events) = child_of("killed");
    expect_kinds(&events, "fork exec exit");
    let exit = exit(events[2]);
    let status = status(events[2]);
    assert_eq!((status.code, status.signal, status.raw), (0, 9, 9));
    assert!(!status.core_dumped);
    assert_eq!(exit.parent, Some(key_of(workload.pid("self"))));
}

#[test]
fn fork_without_exec_is_fork_and_exit() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (workload, events) = child_of("forked");
    expect_kinds(&events, "fork exit");
    assert_eq!(fork(events[0]).parent, key_of(workload.pid("self")));
    assert_eq!(status(events[1]).code, 3);
    assert_eq!(exit(events[1]).key, fork(events[0]).child);
}

/// One fork, one exec and one exit for the process, and nothing for its threads.
fn check_threads(name: &str, threads: usize, code: u32) {
    let (workload, events) = child_of(name);
    expect_kinds(&events, "fork exec exit");
    assert_eq!(status(events[2]).code, code);
    let tids: Vec<_> = workload.all("tid").collect();
    assert_eq!(tids.len(), threads, "{workload:?}");
    for tid in tids {
        let tid = u32::try_from(tid).unwrap();
        // A later process may have got the same number, but not before this one ended.
        let end = events[2].header.time;
        let about = RECORDED.recording.about(tid);
        let about: Vec<_> = about.into_iter().filter(|e| e.header.time <= end).collect();
        let early = about
            .iter()
            .filter(|e| e.header.time >= events[0].header.time);
        assert_eq!(early.count(), 0, "events about thread {tid}: {about:?}");
    }
}

#[test]
fn threads_are_no_processes() {
    if !place::kernel_scenarios_run() {
        return;
    }
    check_threads("threads", 4, 0);
}

#[test]
fn exit_group_from_a_thread_is_one_exit() {
    if !place::kernel_scenarios_run() {
        return;
    }
    check_threads("exit-from-thread", 1, 7);
}

#[test]
fn process_whose_leader_left_first_ends_with_its_last_thread() {
    if !place::kernel_scenarios_run() {
        return;
    }
    check_threads("leader-leaves", 1, 9);
}

#[test]
fn exit_codes_arrive_unchanged() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for code in [0, 1, 42, 255] {
        let workload = &RECORDED.workloads["codes"];
        let events = RECORDED
            .recording
            .about(workload.pid(&format!("child-{code}")));
        expect_kinds(&events, "fork exec exit");
        let status = status(events[2]);
        assert_eq!(
            (status.code, status.signal, status.raw),
            (code, 0, code << 8)
        );
    }
}

#[test]
fn program_whose_file_is_gone_has_no_links() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (_, events) = child_of("deleted");
    expect_kinds(&events, "fork exec exit");
    let file = exec(events[1])
        .process
        .exe_file
        .expect("the executable file is known");
    assert_eq!((file.nlink, file.memfd), (0, false));
}

#[test]
fn program_in_a_memfd_is_called_that() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (_, events) = child_of("memfd");
    expect_kinds(&events, "fork exec exit");
    let file = exec(events[1])
        .process
        .exe_file
        .expect("the executable file is known");
    assert_eq!((file.nlink, file.memfd), (0, true));
}

#[test]
fn process_from_before_is_in_the_snapshot_once_and_keeps_its_key() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let events = RECORDED.recording.about(RECORDED.early);
    expect_kinds(&events, "snapshot exit");
    assert_eq!(events[0].key(), events[1].key());
    let EventKind::Snapshot(row) = &events[0].kind else {
        panic!("{events:?}")
    };
    assert_eq!(row.process.argv.iter().nth(1), Some(&b"wait"[..]));
    assert_eq!(
        row.process.parent.map(|key| key.pid),
        Some(std::process::id())
    );
}

#[test]
fn events_of_a_key_come_in_the_order_of_kernel_time() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let mut last: HashMap<ProcessKey, &Event> = HashMap::new();
    for event in &RECORDED.recording.events {
        let Some(key) = event.key() else { continue };
        let Some(before) = last.insert(key, event) else {
            continue;
        };
        let in_time = before.header.time <= event.header.time;
        let stages = stage(before) <= stage(event) && stage(before) < 2;
        assert!(in_time && stages, "out of order:\n{before:?}\n{event:?}");
    }
}

/// Where in a life an event belongs; execs repeat.
fn stage(event: &Event) -> u8 {
    match event.kind {
        EventKind::Fork(_) | EventKind::Snapshot(_) => 0,
        EventKind::Exec(_) => 1,
        _ => 2,
    }
}
