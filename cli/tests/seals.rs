//! Checkpoints on the command line: copied elsewhere, audited, aged, cosigned.
#![cfg(target_os = "linux")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A place that the daemon's account can reach, with a directory for copies of checkpoints.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("copies")).unwrap();
        for dir in [place.0.path(), &place.path("copies")] {
            fs::set_permissions(dir, Permissions::from_mode(0o777)).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daemoneye"));
        command.args(arguments).arg("--state-dir");
        command.arg(self.path("state"));
        command
    }

    fn ledger(&self, arguments: &[&str]) -> Output {
        let command = [&["ledger"], arguments].concat();
        self.command(&command).output().unwrap()
    }

    /// A daemon that copies its checkpoints, from start to end.
    fn run(&self) -> Output {
        self.run_with(|| ())
    }

    /// The same, with something done while it runs.
    fn run_with(&self, meanwhile: impl FnOnce()) -> Output {
        let mut command = self.command(&["run", "--sensor", "poll"]);
        let mut process = command
            .arg("--checkpoint-dir")
            .arg(self.path("copies"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("ready (sensor") && stderr.read_line(&mut said).unwrap() > 0 {}
        if said.contains("ready (sensor") {
            meanwhile();
            kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
        }
        while stderr.read_line(&mut said).unwrap() > 0 {}
        Output {
            status: process.wait().unwrap(),
            stdout: Vec::new(),
            stderr: said.into_bytes(),
        }
    }
}

fn check(output: &Output, code: i32, part: &str) {
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(part), "{part:?} is not in {said}");
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

#[test]
fn checkpoints_are_copied_and_an_older_ledger_is_refused() {
    let place = Place::new();
    check(&place.run(), 0, "signed");
    copy(&place.path("state"), &place.path("older"));
    check(&place.run(), 0, "signed");
    for name in ["ledger.pub", "last-checkpoint"] {
        let own = fs::read(place.path("state/ledger").join(name)).unwrap();
        assert_eq!(fs::read(place.path("copies").join(name)).unwrap(), own);
    }
    let copied = place.path("copies/last-checkpoint");
    let since = ["audit", "--since", copied.to_str().unwrap()];
    check(&place.ledger(&since), 0, "begins with that of");

    // The disk was restored from a backup.
    fs::rename(place.path("state"), place.path("newer")).unwrap();
    fs::rename(place.path("older"), place.path("state")).unwrap();
    check(&place.run(), 4, "history was truncated");
    check(&place.ledger(&since), 4, "history was truncated");
}

#[test]
fn what_is_no_directory_and_no_checkpoint_is_the_callers_mistake() {
    let place = Place::new();
    check(&place.run(), 0, "signed");
    for command in [["audit", "--since"], ["verify", "--checkpoint"]] {
        let with = |name: &str| {
            let path = place.path("copies").join(name);
            place.ledger(&[&command[..], &[path.to_str().unwrap()]].concat())
        };
        check(
            &with("ledger.pub"),
            3,
            "ledger.pub is no checkpoint: malformed",
        );
        // It was called one of another log, cut short.
        check(
            &with("checkpoints.txt"),
            3,
            "checkpoints.txt holds several checkpoints; give a single one",
        );
    }
    fs::rename(place.path("copies"), place.path("moved")).unwrap();
    check(&place.run(), 2, "--checkpoint-dir");
}

#[test]
fn the_age_of_the_last_checkpoint_can_be_bounded() {
    let place = Place::new();
    check(&place.run(), 0, "signed");
    check(&place.ledger(&["verify", "--max-age", "600"]), 0, "s ago");
    check(&place.ledger(&["verify"]), 0, " bytes, 1 segment\n");
    std::thread::sleep(std::time::Duration::from_secs(2));
    check(
        &place.ledger(&["verify", "--max-age", "0"]),
        4,
        "not within",
    );
    let json = place.ledger(&["--json", "verify"]);
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(report["signed_at"].as_u64().unwrap() > 1_700_000_000);
}

#[test]
fn a_checkpoint_without_enough_witnesses_is_refused() {
    let place = Place::new();
    check(&place.run(), 0, "signed");
    // The witness of the specification's example.
    let key = "witness.example.com/w1";
    let keys = place.path("witnesses");
    fs::write(&keys, format!("{key}\n")).unwrap();
    let keys = keys.to_str().unwrap();
    let last = place.path("state/ledger/last-checkpoint");
    let last = last.to_str().unwrap();
    check(
        &place.ledger(&["cosigned", last, "--witness-keys", keys]),
        3,
        "not a vkey",
    );
    let own = fs::read_to_string(place.path("state/ledger/ledger.pub")).unwrap();
    fs::write(keys, own.lines().nth(1).unwrap()).unwrap();
    let cosigned = ["cosigned", last, "--witness-keys", keys];
    check(&place.ledger(&cosigned), 0, "cosigned by 1 witness");
    check(
        &place.ledger(&["verify", "--witness-keys", keys]),
        0,
        "cosigned",
    );
    let two = ["verify", "--witness-keys", keys, "--witnesses", "2"];
    check(&place.ledger(&two), 3, "more witnesses");
    let carried = place.path("state/ledger/witnessed-checkpoint");
    let proved = ["prove", "0", "--at", carried.to_str().unwrap()];
    check(&place.ledger(&proved), 0, "is in the tree of");
    check(&place.ledger(&["prove", "0", "--at", keys]), 3, "malformed");
}

#[test]
fn keys_are_rotated_shown_and_exported() {
    let place = Place::new();
    check(&place.run(), 0, "signed");
    check(
        &place.ledger(&["key", "show"]),
        0,
        "epoch 0: signs for 0 entries on",
    );
    let kept = place.path("kept.pub");
    fs::write(&kept, place.ledger(&["key", "export-public"]).stdout).unwrap();
    check(&place.ledger(&["key", "rotate"]), 0, "epoch 1 begins");
    check(&place.run(), 0, "signed");
    check(&place.ledger(&["key", "show"]), 0, "epoch 1: signs for");
    let exported = place.path("exported.pub");
    fs::write(&exported, place.ledger(&["key", "export-public"]).stdout).unwrap();
    for keys in [&kept, &exported] {
        let keys = keys.to_str().unwrap();
        check(&place.ledger(&["verify", "--key", keys]), 0, "is intact");
    }
    let json = place.ledger(&["--json", "key", "show"]);
    let shown: Value = serde_json::from_slice(&json.stdout).unwrap();
    let own = place.path("state/ledger/ledger.pub");
    let sum = Command::new("sha256sum").arg(own).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(shown["fingerprint"], format!("sha256:{}", &sum[..64]));
    let index = shown["epochs"][0]["to"].as_u64().unwrap().to_string();
    let proved = place.ledger(&["prove", &index]);
    check(&proved, 0, "daemoneye ledger rotation v1");
    let copies = fs::read(place.path("copies/rotations.txt")).unwrap();
    assert_eq!(
        copies,
        fs::read(place.path("state/ledger/rotations.txt")).unwrap()
    );
}

/// It was refused, since the daemon holds the ledger.
#[test]
fn the_keys_of_a_running_daemon_are_rotated() {
    let place = Place::new();
    let rotate = || {
        let rotated = place.ledger(&["--json", "key", "rotate"]);
        check(&rotated, 0, "\"epoch\":1");
        let told: Value = serde_json::from_slice(&rotated.stdout).unwrap();
        let shown = place.ledger(&["--json", "show", &told["entry"].to_string()]);
        check(&shown, 0, "daemoneye ledger rotation v1");
        assert!(!place.path("state/rotate-keys").exists());
    };
    check(&place.run_with(rotate), 0, "rotated, as was asked");
    check(&place.ledger(&["verify"]), 0, "is intact");
    // A request that nobody took in time is not for the next daemon.
    fs::write(place.path("state/rotate-keys"), "").unwrap();
    check(&place.run(), 0, "signed");
    check(&place.ledger(&["--json", "key", "show"]), 0, "\"epoch\":1");
}

#[test]
fn who_holds_a_ledger_and_does_not_rotate_its_keys_is_told() {
    let place = Place::new();
    check(&place.run(), 0, "signed");
    let lock = fs::File::open(place.path("state/ledger/lock")).unwrap();
    lock.lock().unwrap();
    let mut command = place.command(&["ledger", "key", "rotate"]);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let asking = command.spawn().unwrap();
    while !place.path("state/rotate-keys").exists() {
        std::thread::yield_now();
    }
    lock.unlock().unwrap();
    check(
        &asking.wait_with_output().unwrap(),
        5,
        "asked to rotate the keys and did not",
    );
    assert!(!place.path("state/rotate-keys").exists());
}

#[test]
fn a_key_that_others_can_read_is_no_damage_and_says_what_to_do() {
    let place = Place::new();
    check(&place.run(), 0, "signed");
    let key = place.path("state/ledger/ledger.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let told = "is open to others than its owner (mode 0644): take that away (chmod 600)";
    check(&place.run(), 5, told);
    for command in [
        &["checkpoint"][..],
        &["key", "rotate"],
        &["retain", "--keep-days", "1"],
    ] {
        check(&place.ledger(command), 5, told);
    }
    // Whoever only reads needs no key.
    check(&place.ledger(&["verify"]), 0, "is intact");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    check(&place.ledger(&["key", "rotate"]), 0, "epoch 1 begins");
    check(&place.run(), 0, "signed");
}
