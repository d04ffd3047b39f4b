//! `daemoneye status` and `--metrics-file`: what a daemon tells of itself, alive and dead.
#![cfg(target_os = "linux")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const RULE: &str = "id: one\ntitle: T\nlevel: low\nsql: SELECT process.pid FROM exec WHERE FALSE\n";

/// A place for a daemon: state, rules and metrics, which its account can reach.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        open_to_all(dir.path());
        fs::create_dir(dir.path().join("rules")).unwrap();
        open_to_all(&dir.path().join("rules"));
        fs::write(dir.path().join("rules/one.yaml"), RULE).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, metrics: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daemoneye"));
        command
            .args(["run", "--sensor", "poll", "--state-dir"])
            .arg(self.path("state"))
            .arg("--rules")
            .arg(self.path("rules"))
            .arg("--metrics-file")
            .arg(metrics);
        command
    }

    fn start(&self) -> Daemon {
        self.spawn(&mut self.command(&self.path("d.prom"))).0
    }

    /// Also how it says that it is ready.
    fn spawn(&self, command: &mut Command) -> (Daemon, String) {
        let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let mut daemon = Daemon { process, stderr };
        let ready = daemon.says("ready (sensor");
        (daemon, ready)
    }

    fn status(&self, options: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daemoneye"));
        command.args(options).arg("status").arg("--state-dir");
        command.arg(self.path("state")).output().unwrap()
    }

    /// Its exit code, the document, and the lines for people.
    fn told(&self) -> (i32, Value, String) {
        let document = self.status(&["--json"]);
        let lines = self.status(&[]);
        assert_eq!(document.status.code(), lines.status.code());
        let code = lines.status.code().unwrap();
        let document = serde_json::from_slice(&document.stdout).unwrap();
        (code, document, String::from_utf8(lines.stdout).unwrap())
    }

    /// The value of a metric, with its labels.
    fn metric(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.path("d.prom")).unwrap();
        let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
        text.lines().find_map(value)
    }
}

fn open_to_all(dir: &Path) {
    fs::set_permissions(dir, Permissions::from_mode(0o777)).unwrap();
}

/// Killed with the test.
struct Daemon {
    process: Child,
    stderr: BufReader<ChildStderr>,
}

impl Daemon {
    fn says(&mut self, wanted: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).unwrap();
            assert!(read > 0, "it ended and did not say {wanted:?}");
            if line.contains(wanted) {
                return line;
            }
        }
    }

    fn end(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_daemon_is_told_of_while_it_runs_and_after_its_end() {
    let place = Place::new();
    let mut daemon = place.start();
    let (code, document, lines) = place.told();
    assert_eq!(
        (code, &document["life"]),
        (0, &"running".into()),
        "{document}"
    );
    assert_eq!(document["pid"], daemon.process.id());
    assert_eq!(document["source"]["sensor"], "poll");
    assert_eq!(document["rules"]["count"], 1);
    assert!(lines.contains(" running since "), "{lines}");
    assert_eq!(place.metric("daemoneye_running").unwrap(), "1");

    daemon.end(Signal::TERM);
    let (code, document, lines) = place.told();
    assert_eq!(
        (code, &document["life"]),
        (7, &"ended".into()),
        "{document}"
    );
    assert!(lines.contains(" ended "), "{lines}");
    let rows = document["pipeline"]["classes"]["snapshot"]
        .as_u64()
        .unwrap();
    assert!(rows > 1, "{document}");
    assert_eq!(document["pipeline"]["balanced"], true);
    assert_eq!(
        document["ledger"]["last_checkpoint"]["size"],
        document["ledger"]["size"]
    );
    assert_eq!(place.metric("daemoneye_running").unwrap(), "0");
    let of_snapshot = place.metric("daemoneye_events_total{class=\"snapshot\"}");
    assert_eq!(of_snapshot.unwrap(), rows.to_string());
}

#[test]
fn rules_that_keep_nothing_have_no_line() {
    let place = Place::new();
    place.start().end(Signal::TERM);
    let file = place.path("state/status.json");
    let mut snapshot: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    snapshot["agent"]["memory"] = serde_json::json!([
        { "rule": "idle", "entries": 0, "bytes": 0, "evicted": 0 },
        { "rule": "busy", "entries": 1, "bytes": 728, "evicted": 0 },
        { "rule": "full", "entries": 0, "bytes": 0, "evicted": 2 },
    ]);
    fs::write(&file, snapshot.to_string()).unwrap();
    let (_, _, lines) = place.told();
    let told = lines
        .lines()
        .filter_map(|line| line.strip_prefix("memory "));
    assert_eq!(
        told.map(str::trim).collect::<Vec<_>>(),
        [
            "busy: 1 entry, 728 bytes, 0 forgotten",
            "full: 0 entries, 0 bytes, 2 forgotten"
        ]
    );
}

#[test]
fn a_daemon_that_was_killed_is_gone() {
    let place = Place::new();
    let mut daemon = place.start();
    daemon.end(Signal::KILL);
    let (code, document, lines) = place.told();
    assert_eq!((code, &document["life"]), (7, &"gone".into()), "{document}");
    assert!(lines.contains(" GONE: "), "{lines}");
    assert_eq!(place.metric("daemoneye_running").unwrap(), "1");
}

#[test]
fn a_reload_that_failed_is_named_until_one_succeeds() {
    let place = Place::new();
    let mut daemon = place.start();
    let file = place.path("rules/one.yaml");
    put(&file, &RULE.replace("process.pid", "process.pidd"));
    daemon.says("the rules stay as they were");
    let failed = |document: &Value| document["rules"]["last_reload"]["ok"] == false;
    let (_, document, lines) = wait_for(&place, failed);
    let error = &document["rules"]["last_reload"]["errors"][0];
    assert_eq!((&error["line"], &error["column"]), (&4.into(), &13.into()));
    assert_eq!(document["rules"]["count"], 1);
    let named = format!("{}:4:13: ", file.display());
    assert!(lines.contains(&named), "{lines}");
    assert_eq!(place.metric("daemoneye_rules_last_reload_ok").unwrap(), "0");
    let text = fs::read_to_string(place.path("d.prom")).unwrap();
    let labels = format!(
        "daemoneye_rules_last_reload_error{{file=\"{}\",line=\"4\",column=\"13\",",
        file.display()
    );
    assert!(text.contains(&labels), "{text}");

    let two = RULE.replace("id: one", "id: two");
    put(&place.path("rules/two.yaml"), &two);
    put(&file, RULE);
    daemon.says("rules read anew: 2 rules");
    let (_, document, _) = wait_for(&place, |document| document["rules"]["count"] == 2);
    assert_eq!(document["rules"]["last_reload"]["ok"], true);
    assert_eq!(document["rules"]["reloads"], 1);
}

/// Puts a file of rules in its place whole: one that is still empty is an error of its own.
fn put(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, file).unwrap();
}

/// What is told of the rules is written right after the log line.
fn wait_for(place: &Place, wanted: impl Fn(&Value) -> bool) -> (i32, Value, String) {
    loop {
        let told = place.told();
        if wanted(&told.1) {
            return told;
        }
        assert_eq!(told.0, 0, "{}", told.2);
    }
}

#[test]
fn metrics_that_cannot_be_written_stop_the_start() {
    let place = Place::new();
    let check = |metrics: &Path, part: &str| {
        let output = place.command(metrics).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    };
    check(&place.path("none/d.prom"), "none/d.prom");
    let closed = place.path("closed");
    fs::create_dir(&closed).unwrap();
    let mode = if geteuid().is_root() { 0o755 } else { 0o555 };
    fs::set_permissions(&closed, Permissions::from_mode(mode)).unwrap();
    check(
        &closed.join("d.prom"),
        "must be able to write to the directory",
    );
    check(&closed.join("d.prom"), "closed/d.prom cannot be written");
}

#[test]
fn without_a_daemon_there_is_nothing_to_tell() {
    let place = Place::new();
    let check = |code, part: &str| {
        let output = place.status(&[]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    };
    check(5, "no ledger in");
    place.start().end(Signal::TERM);
    let status = place.path("state/status.json");
    fs::write(&status, "{").unwrap();
    check(1, "status.json in");
    fs::remove_file(&status).unwrap();
    check(7, "has told its status");
    // Nothing that its owner puts there is waited for or followed.
    std::os::unix::fs::symlink("/etc/passwd", &status).unwrap();
    check(1, "status.json in");
    fs::remove_file(&status).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &status, rustix::fs::Mode::RUSR).unwrap();
    check(1, "it is no file");
}

#[test]
fn a_service_manager_hears_when_it_is_ready() {
    let place = Place::new();
    let path = place.path("manager");
    let name = format!("daemoneye-test-{}", std::process::id());
    let hidden = SocketAddr::from_abstract_name(&name).unwrap();
    for (socket, given) in [
        (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
        (
            UnixDatagram::bind_addr(&hidden).unwrap(),
            format!("@{name}").into(),
        ),
    ] {
        let mut command = place.command(&place.path("d.prom"));
        let (mut daemon, said) = place.spawn(command.env("NOTIFY_SOCKET", given));
        // It was told before.
        socket.set_nonblocking(true).unwrap();
        let mut heard = [0; 4096];
        let len = socket.recv(&mut heard).unwrap();
        let status = said.trim_end().strip_prefix("daemoneye: ").unwrap();
        let heard = std::str::from_utf8(&heard[..len]).unwrap();
        assert_eq!(heard, format!("READY=1\nSTATUS={status}\n"));
        daemon.end(Signal::TERM);
    }
}
