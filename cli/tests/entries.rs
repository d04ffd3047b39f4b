//! Entries of a ledger, read while a daemon runs and after; and what is dropped of them.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ledger::{Ledger, Options};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// What a daemon does at once takes longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir_in("/tmp").unwrap())
    }

    fn ledger_dir(&self) -> PathBuf {
        self.0.path().join("state/ledger")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daemoneye"));
        command.args(arguments).arg("--state-dir");
        command.arg(self.0.path().join("state"));
        command
    }

    fn ledger(&self, arguments: &[&str]) -> Output {
        let command = [&["ledger"], arguments].concat();
        self.command(&command).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.ledger(&[&["--json"], arguments].concat());
        check(&output, 0, "");
        let lines = String::from_utf8(output.stdout).unwrap();
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    /// Two megabytes of leaves in small segments, all signed for.
    fn filled(&self) -> u64 {
        let options = Options {
            segment_bytes: 4 << 20,
            ..Options::new("daemoneye/test")
        };
        fs::create_dir(self.0.path().join("state")).unwrap();
        let (mut ledger, _) = Ledger::open(&self.ledger_dir(), &options).unwrap();
        for _ in 0..40 {
            ledger.append(&[0xff; 1 << 20]).unwrap();
            ledger.commit().unwrap();
        }
        ledger.set_cursor("agent", 40);
        ledger.close().unwrap().size()
    }
}

/// A daemon with a poll sensor, ended with this.
struct Daemon(Child);

impl Daemon {
    fn start(place: &Place, arguments: &[&str]) -> Daemon {
        let mut command = place.command(&[&["run", "--sensor", "poll"], arguments].concat());
        let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("ready (sensor") {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
        }
        std::thread::spawn(move || while stderr.read_line(&mut said).is_ok_and(|len| len > 0) {});
        Daemon(process)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

fn check(output: &Output, code: i32, part: &str) {
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(part), "{part:?} is not in {said}");
}

#[test]
fn a_running_daemons_entries_are_read() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &["--poll-interval", "10"]);
    let end = Instant::now() + PATIENCE;
    let first = loop {
        match place.ledger(&["show", "0"]) {
            shown if shown.status.success() => break shown,
            shown => assert!(Instant::now() < end, "{shown:?}"),
        }
    };
    check(&first, 0, "snapshot 1 ");
    // Each of these commands is an event itself.
    let mut follow = place.command(&["ledger", "--json", "tail", "-f", "-n", "1"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let indices = lines.take(4).map(|line| {
        let document: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let _ = place.ledger(&["tail", "-n", "0"]);
        document["daemoneye"]["index"].as_u64().unwrap()
    });
    let indices: Vec<u64> = indices.collect();
    assert!(indices.is_sorted_by(|a, b| a + 1 == *b), "{indices:?}");
    follow.kill().unwrap();
    follow.wait().unwrap();
    let stats = &place.json(&["stats"])[0];
    assert_eq!(stats["is_written"], true);
    assert!(stats["entries"].as_u64().unwrap() > indices[3]);
    assert!(stats["oldest"].is_string() && stats["newest"].is_string());
    check(
        &place.ledger(&["retain", "--keep-days", "1"]),
        5,
        "in use by",
    );
    drop(daemon);

    let size = place.json(&["stats"])[0]["entries"].as_u64().unwrap();
    let shown = place.json(&["show", &format!("{}..", size - 3)]);
    assert_eq!(shown.len(), 3);
    assert_eq!(place.json(&["tail", "-n", "3"]), shown);
    check(
        &place.ledger(&["show", &size.to_string()]),
        7,
        "the ledger has no entry",
    );
    check(
        &place.ledger(&["show", "9..3"]),
        2,
        "the last index is before the first",
    );
}

#[test]
fn the_oldest_entries_are_dropped_while_stopped_and_said_to_be_gone() {
    let place = Place::new();
    let size = place.filled();
    check(&place.ledger(&["retain"]), 2, "say what is to be kept");
    check(
        &place.ledger(&["retain", "--keep-days", "1"]),
        0,
        "nothing to drop",
    );
    let old = place.0.path().join("old");
    fs::copy(place.0.path().join("state/ledger/last-checkpoint"), &old).unwrap();
    let audit = ["audit", "--since", old.to_str().unwrap()];
    let before = place.ledger(&audit);
    check(&before, 0, "begins with that of");
    assert!(!String::from_utf8_lossy(&before.stdout).contains("dropped"));
    let dropped = place.ledger(&["retain", "--keep-bytes", "16M"]);
    check(&dropped, 0, "were dropped to make room");
    let stats = &place.json(&["stats"])[0];
    let kept_from = stats["kept_from"].as_u64().unwrap();
    assert!((20..36).contains(&kept_from), "{stats}");
    assert!(stats["bytes"].as_u64().unwrap() <= 16 << 20);
    assert_eq!(stats["gaps"][0]["last"], kept_from - 1);
    assert_eq!(stats["gaps"][0]["reason"], "size");

    // It said that nothing was removed.
    let gone = format!("entries 0 to {} are in the tree alone", kept_from - 1);
    check(&place.ledger(&audit), 0, &gone);
    assert_eq!(place.json(&audit)[0]["kept_from"], kept_from);
    let kept = format!("the oldest that is, is leaf {kept_from}");
    check(&place.ledger(&["show", "0"]), 7, &kept);
    check(&place.ledger(&["prove", "0"]), 7, &kept);
    // Of a range, what is there.
    let last = kept_from + 1;
    let shown = place.ledger(&["show", &format!("0..{last}")]);
    check(&shown, 0, &format!("\n{last} "));
    let told = String::from_utf8_lossy(&shown.stderr).into_owned();
    let gone = format!("entries 0 to {} are no longer kept", kept_from - 1);
    assert!(told.contains(&gone), "{told}");
    check(&place.ledger(&["show", "0..3"]), 7, &kept);
    check(
        &place.ledger(&["prove", &size.to_string()]),
        0,
        "c2sp.org/tlog-proof",
    );
    check(
        &place.ledger(&["show", &size.to_string()]),
        0,
        "daemoneye ledger gap v1",
    );
    let gone = format!("entries 0 to {}, stated in 1 record;", kept_from - 1);
    check(&place.ledger(&["verify"]), 0, &gone);
    assert_eq!(place.json(&["verify"])[0]["kept_from"], kept_from);
}

/// Nobody's flood fills the disk.
#[test]
fn a_daemon_with_a_limit_keeps_to_it() {
    let place = Place::new();
    place.filled();
    let daemon = Daemon::start(&place, &["--keep-bytes", "16M"]);
    let end = Instant::now() + PATIENCE;
    loop {
        let stats = &place.json(&["stats"])[0];
        if stats["bytes"].as_u64().unwrap() <= 16 << 20 {
            break;
        }
        assert!(Instant::now() < end, "{stats}");
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(daemon);
    check(&place.ledger(&["verify"]), 0, "can no longer be read");
}
