//! What the operator wants no events of is kept quiet and counted, and nothing else is.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use event::{Event, EventKind, FailedExec};
use rustix::process::Signal;
use vm::scenarios::run_all;
use vm::{Recording, Scenarios, place};

static RECORDED: LazyLock<Scenarios> = LazyLock::new(|| record().expect("a recording"));

fn record() -> Result<Scenarios> {
    let dir = tempfile::tempdir()?;
    let (noise, tree) = (copy(dir.path(), "noise")?, copy(dir.path(), "tree")?);
    let (mute_noise, mute_tree) = (format!("exe={noise}"), format!("exe={tree},children"));
    let options = ["--mute", &mute_noise, "--mute", &mute_tree];
    let options = [&options[..], &["--mute", "uid=12345", "--failed-exec"]].concat();
    let us = place::workload()?;
    let us = us.to_str().context("a path in UTF-8")?;
    let (recording, workloads) = Recording::with(&options, |_| {
        run_all(&[
            ("noise", &["run", &noise, "run", us, "exit", "0"]),
            ("failing", &["run", &noise, "failing"]),
            ("tree", &["run", &tree, "run", us, "exit", "0"]),
            ("user", &["rights", "plain"]),
            ("set-uid", &["rights", "set-uid"]),
        ])
    })?;
    Ok(Scenarios::of(recording, workloads))
}

/// The workload program under another name, and so another file.
fn copy(dir: &Path, name: &str) -> Result<String> {
    let path = dir.join(name);
    fs::copy(place::workload()?, &path)?;
    let path = path.into_os_string().into_string();
    path.ok().context("a path in UTF-8")
}

/// The muted program and what it started: each says who it is, one after the other.
fn muted_and_child(name: &str) -> [u32; 2] {
    let told: Vec<u64> = RECORDED.workload(name).all("self").collect();
    let [_, muted, child] = told[..] else {
        panic!("three processes, not {told:?}")
    };
    [muted, child].map(|pid| pid.try_into().unwrap())
}

#[test]
fn exec_of_a_muted_program_is_quiet_and_what_it_starts_is_told() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let [muted, child] = muted_and_child("noise").map(|pid| RECORDED.recording.life(pid));
    let muted = muted.expect("fork exit");
    assert_eq!(muted.parent(), RECORDED.key("noise", "self"));
    let child = child.expect("fork exec exit");
    assert_eq!(child.parent(), muted.key());
}

/// It would name what had run before the muted exec.
#[test]
fn exit_of_a_muted_program_says_so() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let [muted, child] = muted_and_child("noise").map(|pid| RECORDED.recording.life(pid));
    assert_eq!([muted.exit().muted, child.exit().muted], [true, false]);
}

#[test]
fn failed_exec_of_a_muted_program_says_so() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let pid = RECORDED.workload("failing").all("child").last().unwrap();
    let life = RECORDED.recording.life(pid.try_into().unwrap());
    let failed: Vec<&FailedExec> = life
        .events()
        .iter()
        .filter_map(|e| failed_exec(e))
        .collect();
    assert_eq!(failed.len(), 3, "{life:?}");
    for failed in failed {
        assert!(failed.muted);
    }
}

fn failed_exec(event: &Event) -> Option<&FailedExec> {
    match &event.kind {
        EventKind::FailedExec(failed) => Some(failed),
        _ => None,
    }
}

/// Of a muted exec nothing is sent.
#[test]
fn environment_of_a_muted_program_takes_no_room() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let noise = copy(dir.path(), "noise").unwrap();
    let mute = format!("exe={noise}");
    // The least that the option accepts. An environment takes 4 KiB of it at least: they would leave
    // no room for all the forks and exits.
    let options = ["--ring-size", "1", "--env", "NONE", "--mute", &mute];
    let (recording, ()) = Recording::with(&options, |daemon| {
        daemon.signal(Signal::STOP)?;
        for _ in 0..400 {
            let mut run = Command::new(&noise);
            run.args(["exit", "0"]).stdout(Stdio::null()).status()?;
        }
        daemon.signal(Signal::CONT)
    })
    .unwrap();
    assert_eq!(recording.dropped(|_, _| true), 0, "{}", recording.stderr);
}

#[test]
fn program_muted_with_children_is_quiet_with_all_that_it_starts() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let [muted, child] = muted_and_child("tree");
    // It was forked as any other, before it was known what it would run.
    let muted = RECORDED.recording.life(muted).expect("fork exit");
    assert_eq!(muted.parent(), RECORDED.key("tree", "self"));
    let child = RECORDED.recording.about(child);
    assert!(child.is_empty(), "{child:?}");
}

#[test]
fn muted_user_is_told_of_where_it_gains_rights() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let _quiet = RECORDED.life("user", "child").expect("fork exit");
    let life = RECORDED.life("set-uid", "child").expect("fork exec exit");
    let ids = life.program().credentials.unwrap();
    assert_eq!((ids.uid, ids.euid), (12345, 12347));
}

#[test]
fn what_was_muted_is_counted_by_class() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let muted = &RECORDED.recording.stats["sensor"]["muted"];
    let count = |class: &str| -> u64 {
        let entries = muted.as_array().into_iter().flatten();
        let of_class = entries.filter(|entry| entry["class"] == class);
        of_class.filter_map(|entry| entry["count"].as_u64()).sum()
    };
    // The execs of both programs, one of them twice, of the user's, and of what the tree started.
    assert_eq!(
        [count("fork"), count("exec"), count("exit")],
        [1, 5, 1],
        "{muted}"
    );
}
