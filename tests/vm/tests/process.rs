//! The life of a process: fork, exec, exit, each exactly once and under one key.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use event::{Event, EventKind, ProcessKey};
use vm::scenarios::run_all;
use vm::{Life, Recording, Scenarios, Workload, place};

/// One recording, in which every workload of this file runs once.
static RECORDED: LazyLock<Recorded> = LazyLock::new(|| record().expect("a recording"));

struct Recorded {
    scenarios: Scenarios,
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
        scenarios: Scenarios::of(recording, workloads),
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
    run_all(&[
        ("shell", &["run", "/bin/sh", "-c", "exec true"]),
        ("forked", &["fork"]),
        ("spawned", &["spawned"]),
        ("vforked", &["vforked"]),
        ("twice", &["twice", "0"]),
        ("failing", &["failing"]),
        ("threads", &["run", us, "threads"]),
        ("exec-from-thread", &["exec-from-thread", "stayed"]),
        ("exec-without-leader", &["exec-from-thread", "left"]),
        ("race-to-exec", &["race-to-exec", "30"]),
        ("fork-from-thread", &["fork-from-thread"]),
        ("rewrite", &["run", us, "rewrite", "an", "argument"]),
    ])
}

/// The workload, and the life of its child.
fn child_of(name: &str) -> (&'static Workload, Life<'static>) {
    let scenarios = &RECORDED.scenarios;
    (scenarios.workload(name), scenarios.life(name, "child"))
}

fn key_of_self(name: &str) -> ProcessKey {
    RECORDED.scenarios.key(name, "self")
}

fn arguments(exec: &event::Exec) -> Vec<&[u8]> {
    exec.process.argv.iter().collect()
}

#[test]
fn shell_that_execs_gives_fork_exec_exec_exit_under_one_key() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (_, life) = child_of("shell");
    let life = life.expect("fork exec exec exit");
    assert_eq!(life.fork().parent, key_of_self("shell"));

    let [shell, program] = life.execs()[..] else {
        panic!("{life:?}")
    };
    assert_eq!(arguments(shell), [&b"/bin/sh"[..], b"-c", b"exec true"]);
    assert_eq!(shell.process.filename, &b"/bin/sh"[..]);
    assert_eq!(shell.process.argv_truncated_bytes, 0);
    assert_eq!(arguments(program), [b"true"]);

    let status = life.status();
    assert_eq!((status.code, status.signal, status.raw), (0, 0, 0));
}

#[test]
fn fork_without_exec_is_fork_and_exit() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (_, life) = child_of("forked");
    let life = life.expect("fork exit");
    assert_eq!(life.parent(), key_of_self("forked"));
    assert_eq!(life.status().code, 3);
}

#[test]
fn posix_spawn_is_fork_exec_exit() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (workload, life) = child_of("spawned");
    let life = life.expect("fork exec exit");
    assert_eq!(life.parent(), key_of_self("spawned"));
    assert_eq!(life.program().exe, workload.text("program").as_bytes());
    assert_eq!(life.status().code, 4);
}

#[test]
fn vfork_without_exec_is_fork_and_exit() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (_, life) = child_of("vforked");
    let life = life.expect("fork exit");
    assert_eq!(life.parent(), key_of_self("vforked"));
    assert_eq!(life.status().code, 8);
}

#[test]
fn two_execs_in_one_process_are_two_events_under_one_key() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (_, life) = child_of("twice");
    let life = life.expect("fork exec exec exit");
    let [first, second] = life.execs()[..] else {
        panic!("{life:?}")
    };
    assert_eq!(arguments(first), [&b"first"[..], b"twice", b"1"]);
    assert_eq!(arguments(second), [&b"second"[..], b"exit", b"5"]);
    assert_eq!((first.old_tid, second.old_tid), (None, None));
    assert_eq!(life.parent(), key_of_self("twice"));
    assert_eq!(life.status().code, 5);
}

#[test]
fn exec_that_fails_is_no_exec() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (_, life) = child_of("failing");
    let life = life.expect("fork exit");
    assert_eq!(life.status().code, 6);
}

#[test]
fn threads_are_no_processes() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (workload, life) = child_of("threads");
    let life = life.expect("fork exec exit");
    let tids: Vec<_> = workload.all("tid").collect();
    assert_eq!(tids.len(), 4, "{workload:?}");
    for tid in tids {
        assert_nothing_about_thread(tid, &life);
    }
}

/// No event bears a thread's number while its process lives; later a process may get it.
fn assert_nothing_about_thread(tid: u64, life: &Life<'_>) {
    let times: Vec<_> = life.events().iter().map(|e| e.header.time).collect();
    let (start, end) = (times[0], times[times.len() - 1]);
    let about = RECORDED.scenarios.recording.about(tid.try_into().unwrap());
    let during = |event: &&&Event| (start..=end).contains(&event.header.time);
    let about: Vec<_> = about.iter().filter(during).collect();
    assert!(about.is_empty(), "events about thread {tid}: {about:?}");
}

#[test]
fn exec_from_a_thread_keeps_the_process_and_names_the_thread() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for name in ["exec-from-thread", "exec-without-leader"] {
        let (workload, life) = child_of(name);
        // The other threads ended by this or before; that is no end of the process.
        let life = life.expect("fork exec exit");
        let tid = workload.number("tid");
        assert_ne!(tid, workload.number("child"));
        assert_eq!(life.exec().old_tid.map(u64::from), Some(tid), "{name}");
        assert_eq!(arguments(life.exec()), [b"from-thread"]);
        assert_eq!(life.program().exe, workload.text("program").as_bytes());
        assert_eq!(life.parent(), key_of_self(name));
        assert_eq!(life.status().code, 2);
        assert_nothing_about_thread(tid, &life);
    }
}

#[test]
fn threads_that_race_to_exec_give_one_exec() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let children: Vec<_> = RECORDED
        .scenarios
        .workload("race-to-exec")
        .all("child")
        .collect();
    assert_eq!(children.len(), 30);
    for child in children {
        let life = RECORDED.scenarios.recording.life(child.try_into().unwrap());
        assert_eq!(life.expect("fork exec exit").status().code, 2);
    }
}

#[test]
fn parent_of_a_process_that_a_thread_forked_is_the_threads_process() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (workload, life) = child_of("fork-from-thread");
    assert_ne!(workload.number("tid"), workload.number("self"));
    let life = life.expect("fork exec exit");
    assert_eq!(life.parent(), key_of_self("fork-from-thread"));
}

#[test]
fn arguments_and_name_are_those_of_the_exec_whatever_the_process_makes_of_them() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (_, life) = child_of("rewrite");
    let life = life.expect("fork exec exit");
    let us = place::workload().unwrap();
    let us = us.as_os_str().as_encoded_bytes();
    assert_eq!(arguments(life.exec()), [us, b"rewrite", b"an", b"argument"]);
    assert_eq!(life.program().comm, "workload");
    // The name at the end is that at the end.
    assert_eq!(life.exit().comm, "rewritten");
}

#[test]
fn process_from_before_is_in_the_snapshot_once_and_keeps_its_key() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let life = RECORDED.scenarios.recording.life(RECORDED.early);
    let life = life.expect("snapshot exit");
    let process = &life.snapshot().process;
    assert_eq!(process.argv.iter().nth(1), Some(&b"wait"[..]));
    assert_eq!(life.parent().pid, std::process::id());
}

#[test]
fn events_of_a_key_come_in_the_order_of_kernel_time() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let mut last: HashMap<ProcessKey, &Event> = HashMap::new();
    for event in &RECORDED.scenarios.recording.events {
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
