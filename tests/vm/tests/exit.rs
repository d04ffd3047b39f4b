//! How processes end: each once, with what `wait` would tell.

use std::sync::LazyLock;

use event::ExitStatus;
use vm::{Scenarios, place};

static RECORDED: LazyLock<Scenarios> = LazyLock::new(|| record().expect("a recording"));

const RACES: usize = 40;
/// Signals that leave a core dump where one is allowed: QUIT, ILL, TRAP, ABRT, BUS, FPE, SEGV,
/// XCPU, XFSZ and SYS.
const DUMPING: [u32; 10] = [3, 4, 5, 6, 7, 8, 11, 24, 25, 31];

fn record() -> anyhow::Result<Scenarios> {
    let workload = place::workload()?;
    let us = workload.to_str().expect("a path in UTF-8");
    Scenarios::record(&[
        ("codes", &["codes"]),
        ("killed", &["kill"]),
        ("signals", &["signals"]),
        ("faulting", &["faulting"]),
        ("stillborn", &["stillborn"]),
        ("exit-from-thread", &["run", us, "exit-from-thread"]),
        (
            "leader-leaves-group",
            &["run", us, "leader-leaves", "group"],
        ),
        (
            "leader-leaves-alone",
            &["run", us, "leader-leaves", "alone"],
        ),
        ("race", &["race-to-the-end", &RACES.to_string()]),
    ])
}

/// Code, signal and core flag are what the raw status says, and nothing else.
fn check_status(status: ExitStatus, raw: u32) {
    assert_eq!(status, ExitStatus::from_wait_status(raw));
}

#[test]
fn all_256_exit_codes_arrive_unchanged() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for code in 0..=255 {
        let life = RECORDED.life("codes", &format!("child-{code}"));
        let status = life.expect("fork exit").status();
        check_status(status, code << 8);
        assert_eq!((status.code, status.signal), (code, 0));
    }
}

#[test]
fn killed_process_has_one_exit_with_signal_9() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let life = RECORDED.life("killed", "child").expect("fork exec exit");
    assert_eq!(life.parent(), RECORDED.key("killed", "self"));
    check_status(life.status(), 9);
}

#[test]
fn every_fatal_signal_is_told_and_its_core_dump_as_wait_tells() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let workload = RECORDED.workload("signals");
    let mut count = 0;
    for (name, pid) in workload.pids_of("signal-") {
        let raw = u32::try_from(workload.number(&format!("status-{name}"))).unwrap();
        let life = RECORDED.recording.life(pid).expect("fork exit");
        check_status(life.status(), raw);
        check_signal(name, life.status());
        count += 1;
    }
    assert_eq!(count, 2 * (64 - 8));
}

/// The name is the signal, and whether a core dump was allowed.
fn check_signal(name: &str, status: ExitStatus) {
    let (signal, allowed) = name.split_once('-').unwrap();
    let signal: u32 = signal.parse().unwrap();
    assert_eq!((status.signal, status.code), (signal, 0), "{name}");
    let dumps = allowed == "1" && DUMPING.contains(&signal);
    if !dumps || cores_become_files() {
        assert_eq!(status.core_dumped, dumps, "{name}");
    }
}

/// Otherwise a program of this machine decides what becomes of them.
fn cores_become_files() -> bool {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    !pattern.starts_with(['|', '@'])
}

#[test]
fn program_that_faults_ends_by_the_processors_signal() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let life = RECORDED.life("faulting", "child");
    let status = life.expect("fork exec exit").status();
    assert_eq!(status.signal, 4);
    check_status(status, RECORDED.workload("faulting").pid("status"));
}

#[test]
fn exec_that_fails_beyond_return_is_no_exec_but_a_death() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let life = RECORDED.life("stillborn", "child").expect("fork exit");
    check_status(life.status(), RECORDED.workload("stillborn").pid("status"));
    assert_ne!(life.status().signal, 0);
}

#[test]
fn exit_group_from_a_thread_is_one_exit_with_its_code() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let life = RECORDED.life("exit-from-thread", "child");
    check_status(life.expect("fork exec exit").status(), 7 << 8);
}

#[test]
fn process_whose_leader_left_first_ends_with_its_last_thread() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for name in ["leader-leaves-group", "leader-leaves-alone"] {
        let workload = RECORDED.workload(name);
        let life = RECORDED.life(name, "child").expect("fork exec exit");
        check_status(life.status(), workload.pid("status"));
        let about = RECORDED.recording.about(workload.pid("tid"));
        assert!(about.is_empty(), "{name}: {about:?}");
    }
    assert_eq!(
        RECORDED.life("leader-leaves-group", "child").status().code,
        9
    );
}

/// Nobody ends these as a whole. Old kernels then take the leader's code, newer ones the last's.
#[test]
fn threads_that_race_to_the_end_give_one_exit() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let workload = RECORDED.workload("race");
    let children: Vec<_> = workload.pids_of("child-").collect();
    assert_eq!(children.len(), RACES);
    for (number, child) in children {
        let life = RECORDED.recording.life(child).expect("fork exit");
        check_status(life.status(), workload.pid(&format!("status-{number}")));
    }
}
