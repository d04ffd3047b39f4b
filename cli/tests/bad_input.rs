//! Bad input gets one line that names place and cause, a documented exit code, and no panic.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use event::wire::RecordingWriter;
use event::{BootTime, Bytes, Credentials, Event, EventKind, Exec, Header, Process, ProcessKey};
use tempfile::TempDir;

fn daemoneye<const N: usize>(arguments: [&str; N]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_daemoneye"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Exit code and, of a failure, the one line on standard error.
fn check(output: &Output, code: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in {stderr}");
    }
    let errors: Vec<&str> = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("daemoneye: error: "))
        .collect();
    assert_eq!(errors.len(), usize::from(code != 0), "{stderr}");
    for error in errors {
        let causes: Vec<&str> = error.split(": ").collect();
        let mut distinct = causes.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), causes.len(), "a cause is repeated: {error}");
    }
}

fn rule(dir: &TempDir, sql: &str) -> PathBuf {
    let path = dir.path().join("bad.yaml");
    let rule = format!(
        "id: bad\ntitle: Bad\ndescription: Bad.\nlevel: low\nsql: |\n  {sql}\ntests:\n  fires:\n    - exe: /x\n  silent:\n    - exe: /y\n"
    );
    fs::write(&path, rule).unwrap();
    path
}

fn exec(pid: u32, arguments: &[&str]) -> Event {
    let key = ProcessKey {
        pid,
        start: BootTime(u64::from(pid)),
        ..ProcessKey::default()
    };
    let process = Process {
        key,
        exe: Bytes::copy_from_slice(arguments[0].as_bytes()),
        argv: arguments.iter().collect(),
        credentials: Some(Credentials::default()),
        ..Process::default()
    };
    let time = BootTime(u64::from(pid) * 1_000_000);
    let header = Header {
        time,
        ..Header::default()
    };
    Event {
        header,
        kind: EventKind::Exec(Box::new(Exec {
            process,
            old_tid: None,
        })),
    }
}

/// Twenty harmless execs and then one from shared memory.
fn recording() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = RecordingWriter::new(&mut bytes).unwrap();
    for pid in 100..120 {
        writer
            .write(&exec(pid, &["/usr/bin/true", "harmless"]))
            .unwrap();
    }
    writer.write(&exec(200, &["/dev/shm/x", "evil"])).unwrap();
    bytes
}

fn replay(dir: &TempDir, recording: &[u8], state: &Path) -> Output {
    let file = dir.path().join("events.rec");
    fs::write(&file, recording).unwrap();
    daemoneye(["replay", text(&file), "--state-dir", text(state), "--json"])
}

#[test]
fn a_malformed_rule_is_named_with_line_and_column() {
    let dir = TempDir::new().unwrap();
    let path = rule(&dir, "SELECT process.pid FROM exec WHERE process.uid = ");
    let output = daemoneye(["rules", "check", text(&path)]);
    check(&output, 3, &["bad.yaml:6:"]);
}

#[test]
fn a_rule_that_is_no_select_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = rule(&dir, "DELETE FROM exec");
    check(
        &daemoneye(["rules", "check", text(&path)]),
        3,
        &["bad.yaml:6:3", "SELECT"],
    );
    // `run` refuses it as well, before it touches anything else.
    let state = dir.path().join("state");
    let arguments = ["run", "--rules", text(&path), "--state-dir", text(&state)];
    check(&daemoneye(arguments), 3, &["bad.yaml:6:3"]);
    assert!(!state.exists());
}

#[test]
fn an_unknown_column_is_refused_with_the_nearest_one() {
    let dir = TempDir::new().unwrap();
    let path = rule(
        &dir,
        "SELECT process.pid FROM exec WHERE process.exectable = 'x'",
    );
    let output = daemoneye(["rules", "check", text(&path)]);
    check(
        &output,
        3,
        &["bad.yaml:6:38", "process.exectable", "process.executable"],
    );
}

#[test]
fn a_rule_file_that_is_no_yaml_is_named() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("bad.yaml");
    fs::write(&path, "id: [unclosed").unwrap();
    check(
        &daemoneye(["rules", "check", text(&path)]),
        3,
        &["bad.yaml:1:"],
    );
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let below_a_file = file.join("state");
    let arguments = [
        "run",
        "--sensor",
        "poll",
        "--state-dir",
        text(&below_a_file),
    ];
    check(
        &daemoneye(arguments),
        5,
        &["state directory", text(&below_a_file)],
    );
}

#[test]
fn a_ledger_that_is_not_there_is_no_success() {
    let dir = TempDir::new().unwrap();
    let arguments = ["ledger", "verify", "--state-dir", text(dir.path())];
    check(
        &daemoneye(arguments),
        5,
        &["no ledger in", text(dir.path())],
    );
}

#[test]
fn a_recording_cut_in_the_middle_loses_no_whole_event() {
    let dir = TempDir::new().unwrap();
    let whole = recording();
    // Within the last event: the twenty before it are whole.
    let state = dir.path().join("cut");
    let output = replay(&dir, &whole[..whole.len() - 5], &state);
    check(&output, 3, &["after 20 whole events", "cut after"]);
    let verified = daemoneye(["ledger", "verify", "--state-dir", text(&state), "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(report["entries"], 20);

    let state = dir.path().join("whole");
    let output = replay(&dir, &whole, &state);
    check(&output, 0, &["21 events"]);
    let alert: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(alert["process"]["args"][0], "/dev/shm/x");
}

#[test]
fn what_is_no_recording_is_refused() {
    let dir = TempDir::new().unwrap();
    let output = replay(&dir, b"not a recording at all", &dir.path().join("state"));
    check(&output, 3, &["not a DaemonEye recording"]);
}

#[test]
fn every_flipped_byte_of_the_ledger_is_found_and_its_entry_named() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    check(&replay(&dir, &recording(), &state), 0, &[]);
    let verify = || daemoneye(["ledger", "verify", "--state-dir", text(&state)]);
    check(&verify(), 0, &[]);
    let entries = fs::read_dir(state.join("ledger/entries")).unwrap();
    let segment = entries.last().unwrap().unwrap().path();
    let sound = fs::read(&segment).unwrap();
    // Every byte is tried by the ledger's own tests; here it is the command that counts.
    for at in (0..sound.len()).step_by(97) {
        let mut bad = sound.clone();
        bad[at] ^= 0x10;
        fs::write(&segment, bad).unwrap();
        let expected = if at < 96 { "segment header" } else { "leaf" };
        check(&verify(), 4, &[text(&segment), expected]);
    }
    fs::write(&segment, sound).unwrap();
    check(&verify(), 0, &[]);
}

#[test]
fn an_entry_that_does_not_exist_cannot_be_proved() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    check(&replay(&dir, &recording(), &state), 0, &[]);
    let arguments = ["ledger", "prove", "9999", "--state-dir", text(&state)];
    check(&daemoneye(arguments), 1, &["no entry 9999"]);
    let proved = daemoneye(["ledger", "prove", "20", "--state-dir", text(&state)]);
    check(&proved, 0, &[]);
    assert!(String::from_utf8_lossy(&proved.stdout).contains("/dev/shm/x"));
}

#[test]
#[cfg(unix)]
fn a_key_that_is_not_there_is_named_with_one_cause() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    check(&replay(&dir, &recording(), &state), 0, &[]);
    let state = text(&state);
    let arguments = [
        "ledger",
        "verify",
        "--state-dir",
        state,
        "--key",
        "/nonexistent/key",
    ];
    check(&daemoneye(arguments), 3, &["/nonexistent/key"]);
}

/// It was a bare "No such file".
#[test]
fn a_running_daemon_that_has_signed_nothing_yet_is_told_of() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    check(&replay(&dir, &recording(), &state), 0, &[]);
    // As a young daemon has it: locked, and without a checkpoint.
    let lock = fs::File::open(state.join("ledger/lock")).unwrap();
    lock.lock().unwrap();
    let arguments = ["ledger", "checkpoint", "--state-dir", text(&state)];
    check(&daemoneye(arguments), 0, &[]);
    fs::remove_file(state.join("ledger/last-checkpoint")).unwrap();
    check(&daemoneye(arguments), 1, &["nothing is signed yet"]);
}
