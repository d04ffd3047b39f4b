//! Bad input gets one line that names place and cause, a documented exit code, and no panic.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use event::wire::RecordingWriter;
use event::{BootTime, Bytes, Credentials, Event, EventKind, Exec, Header, Process, ProcessKey};
use serde_json::Value;
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

/// Exit code and kind of the error, which is the last line and the only document; its message.
fn check_json(output: &Output, code: i32, kind: &str) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(
        stderr.matches("\n{").count() + usize::from(stderr.starts_with('{')),
        1
    );
    let mut document: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    let error = document["error"].take();
    assert_eq!(error["exit_code"], code, "{error}");
    assert_eq!(error["kind"], kind, "{error}");
    error["message"].as_str().unwrap().to_owned()
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
fn a_sensor_of_another_system_is_named_as_it_was_asked_for() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    let sensor = if cfg!(windows) { "ebpf" } else { "etw" };
    let output = daemoneye(["run", "--sensor", sensor, "--state-dir", text(&state)]);
    let named = format!("sensor {sensor} is not for this operating system");
    check(&output, 6, &[&named]);
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
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("20 events, 0 lost;"), "{stderr}");
    let message = check_json(&output, 3, "bad_input");
    for part in [
        "events.rec: recording",
        "after 20 whole events",
        "cut after",
    ] {
        assert!(message.contains(part), "{message}");
    }
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
    let message = check_json(&output, 3, "bad_input");
    assert!(message.contains("events.rec"), "{message}");
    assert!(message.ends_with("not a DaemonEye recording"), "{message}");
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
    check(&daemoneye(arguments), 7, &["no entry 9999"]);
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
    check(&daemoneye(arguments), 7, &["nothing is signed yet"]);
}

#[test]
fn exit_codes_are_those_of_the_table() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    check(&replay(&dir, &recording(), &state), 0, &[]);
    let existing = dir.path().join("events.rec");
    let (existing, state) = (text(&existing), text(&state));
    let nowhere = "/nonexistent/a";
    let expect = |code, arguments: &[&str], part| {
        let output = Command::new(env!("CARGO_BIN_EXE_daemoneye"))
            .args(arguments)
            .output()
            .unwrap();
        check_with(&output, code, part);
    };
    expect(2, &["record", existing], "exists");
    expect(2, &["record", nowhere], nowhere);
    expect(2, &["replay", existing, "--stats-json", nowhere], nowhere);
    expect(2, &["run", "--no-such-flag"], "--no-such-flag");
    expect(
        2,
        &["rules", "export", "/proc/nonexistent"],
        "/proc/nonexistent",
    );
    expect(3, &["replay", nowhere], nowhere);
    expect(3, &["replay", "/etc/passwd"], "not a DaemonEye recording");
    expect(3, &["rules", "check", nowhere], nowhere);
    expect(
        3,
        &["ledger", "verify", "--state-dir", state, "--key", nowhere],
        nowhere,
    );
    expect(5, &["ledger", "verify", "--state-dir", nowhere], nowhere);
    expect(
        5,
        &["replay", existing, "--state-dir", "/nonexistent/a/b"],
        "/nonexistent does not",
    );
    expect(
        7,
        &["ledger", "prove", "99999", "--state-dir", state],
        "no entry 99999",
    );
    let finding = [
        "ledger",
        "prove",
        "20",
        "--finding",
        "none",
        "--state-dir",
        state,
    ];
    expect(7, &finding, "no finding of rule none");
}

/// Also of the flag parser's refusals, which have lines of their own.
fn check_with(output: &Output, code: i32, part: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(
        stderr.contains("error: ") && stderr.contains(part),
        "{stderr}"
    );
    assert!(!stderr.contains("before the damage was"), "{stderr}");
}

#[test]
#[cfg(unix)]
fn an_account_that_does_not_exist_is_wrong_usage_for_root_and_said_to_be_of_no_use_to_others() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    let arguments = ["record", "/nonexistent/a", "--user", "no such account"];
    let output = daemoneye(arguments);
    let root = rustix::process::geteuid().is_root();
    check(&output, 2, &[if root { "no account" } else { "no effect" }]);
    assert!(!state.exists());
}

#[test]
fn errors_are_documents_where_json_is_asked_for() {
    let dir = TempDir::new().unwrap();
    check_json(&daemoneye(["run", "--json", "--no-such-flag"]), 2, "usage");

    let path = rule(&dir, "DELETE FROM exec");
    let output = daemoneye(["rules", "check", text(&path), "--json"]);
    assert!(check_json(&output, 3, "bad_input").contains("bad.yaml:6:3"));
    let document: Value = serde_json::from_slice(&output.stderr).unwrap();
    let error = &document["error"]["rules"][0];
    assert_eq!((&error["line"], &error["column"]), (&6.into(), &3.into()));

    let state = dir.path().join("state");
    check(&replay(&dir, &recording(), &state), 0, &[]);
    let segment = state.join("ledger/entries/0000000000000000.seg");
    let mut bytes = fs::read(&segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&segment, bytes).unwrap();
    let output = daemoneye(["ledger", "verify", "--json", "--state-dir", text(&state)]);
    check_json(&output, 4, "ledger_invalid");
    let document: Value = serde_json::from_slice(&output.stderr).unwrap();
    let damage = &document["error"]["damage"];
    assert_eq!(damage["file"], text(&segment));
    // The finding about the last event.
    assert_eq!(damage["leaves"], serde_json::json!([21, 21]));
}

/// They appended to the ledger and signed it.
#[test]
fn nothing_is_written_to_a_damaged_ledger() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    check(&replay(&dir, &recording(), &state), 0, &[]);
    let ledger = state.join("ledger");
    let segment = ledger.join("entries/0000000000000000.seg");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let signed = fs::read(ledger.join("checkpoints.txt")).unwrap();
    let recording = dir.path().join("events.rec");
    for command in [
        &["replay", text(&recording)][..],
        &["ledger", "checkpoint"],
        // The last: as root it gives the directory away.
        &["run", "--sensor", "poll"],
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_daemoneye"));
        let output = program
            .args(command)
            .args(["--state-dir", text(&state)])
            .output()
            .unwrap();
        let file = text(&segment);
        check(
            &output,
            4,
            &[file, "nothing was appended or signed", "checksum"],
        );
    }
    assert_eq!(fs::read(&segment).unwrap(), bytes);
    assert_eq!(fs::read(ledger.join("checkpoints.txt")).unwrap(), signed);
}

#[test]
fn a_finding_is_proved_by_the_event_and_the_rule_that_the_alert_names() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    let alert = replay(&dir, &recording(), &state).stdout;
    let alert: Value = serde_json::from_slice(&alert).unwrap();
    let (leaf, rule) = (&alert["daemoneye"]["leaf_index"], &alert["rule"]["id"]);
    let (leaf, rule) = (leaf.to_string(), rule.as_str().unwrap());
    let state = text(&state);
    let arguments = [
        "ledger",
        "prove",
        &leaf,
        "--finding",
        rule,
        "--json",
        "--state-dir",
        state,
    ];
    let output = daemoneye(arguments);
    check(&output, 0, &[]);
    let proved: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&proved["index"], &proved["verified"]),
        (&21.into(), &true.into())
    );
    assert_eq!(proved["entry"]["rule"]["id"], rule);
}

#[test]
fn a_log_filter_that_is_none_is_told_and_stops_nothing() {
    let list = |filter: &[u8]| {
        let filter = OsStr::from_bytes(filter);
        Command::new(env!("CARGO_BIN_EXE_daemoneye"))
            .args(["rules", "list"])
            .env("DAEMONEYE_LOG", filter)
            .output()
            .unwrap()
    };
    let said = list(b"ledger=loud");
    check(&said, 0, &["DAEMONEYE_LOG does not count: ", "\"debug\""]);
    let said = list(b"info\xff");
    check(&said, 0, &["DAEMONEYE_LOG does not count: ", "unicode"]);
    assert_eq!(list(b"ledger=debug,info").stderr, b"");
}
