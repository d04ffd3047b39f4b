//! A kernel that lets nobody read its memory: eBPF is refused, and what comes then is said.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use vm::{Daemon, place};

/// As `daemoneye --help` lists it.
const SENSOR_UNAVAILABLE: i32 = 6;

fn daemoneye(arguments: &[&Path]) -> Output {
    let mut command = Command::new(place::daemoneye().unwrap());
    command.args(arguments).output().unwrap()
}

#[test]
fn doctor_names_lockdown_and_what_to_do() {
    if !place::lockdown_scenarios_run() {
        return;
    }
    let output = daemoneye(&["doctor", "--json"].map(Path::new));
    assert_eq!(output.status.code(), Some(SENSOR_UNAVAILABLE), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let mut findings = said.lines().map(|line| serde_json::from_str(line).unwrap());
    let finding: Value = findings
        .find(|finding: &Value| finding["check"] == "lockdown")
        .unwrap_or_else(|| panic!("doctor looks at no lockdown: {said}"));
    assert_eq!(finding["ok"], false, "{finding}");
    let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    assert!(text("found").contains("[confidentiality]"), "{finding}");
    assert!(
        text("fix").contains("lockdown=confidentiality"),
        "{finding}"
    );
}

#[test]
fn ebpf_that_lockdown_refuses_is_refused_with_a_reason() {
    if !place::lockdown_scenarios_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.rec");
    let arguments = ["record", "--sensor", "ebpf"].map(Path::new);
    let output = daemoneye(&[&arguments[..], &[&file]].concat());
    assert_eq!(output.status.code(), Some(SENSOR_UNAVAILABLE), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("daemoneye: error: "), "{said}");
    let names_it = said.contains("lockdown") || said.contains("daemoneye doctor");
    assert!(names_it, "neither lockdown nor doctor is named: {said}");
}

#[test]
fn run_takes_the_next_source_and_raises_alerts_from_that() {
    if !place::lockdown_scenarios_run() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let start = ["run", "--json", "--poll-interval", "100", "--state-dir"].map(Path::new);
    let mut daemon = Daemon::start(start.into_iter().chain([state.path()])).unwrap();

    // It lives until the alert is there: no source may miss it.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let program = dir.path().join("provoke");
    std::fs::copy(place::workload().unwrap(), &program).unwrap();
    let mut command = Command::new(&program);
    let command = command
        .arg("wait")
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = vm::spawn(command).unwrap();
    let pid = u64::from(child.id());
    daemon
        .line(Duration::from_secs(60), |line| is_alert_about(line, pid))
        .unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();

    let said = daemon.stop().unwrap().stderr;
    assert!(said.contains("no eBPF: "), "{said}");
    assert!(said.contains("ready (sensor "), "{said}");
    assert!(!said.contains("ready (sensor ebpf"), "{said}");
}

fn is_alert_about(line: &str, pid: u64) -> bool {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    let kind = value.pointer("/event/kind").and_then(Value::as_str);
    let about = value.pointer("/process/pid").and_then(Value::as_u64);
    kind == Some("alert") && about == Some(pid)
}
