//! kill -9 at random moments: nothing acknowledged is lost, and the log goes on.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ledger::{Ledger, Options};

use crate::support::{leaf, options, verify};

const DIR: &str = "LEDGER_CRASH_DIR";

fn crash_options() -> Options {
    Options {
        segment_bytes: 200_000,
        ..options()
    }
}

/// What the process that is killed does: appends for ever, and acknowledges what is durable.
fn child(dir: &Path) {
    let (mut ledger, recovery) = Ledger::open(dir, &crash_options()).unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "opened {}", recovery.entries).unwrap();
    for round in 0_u64.. {
        for _ in 0..1 + round % 97 {
            ledger.append(&leaf(ledger.size())).unwrap();
        }
        let durable = ledger.commit().unwrap();
        writeln!(out, "durable {durable}").unwrap();
        if round % 5 == 0 {
            let sealed = ledger.checkpoint().unwrap().size();
            writeln!(out, "sealed {sealed}").unwrap();
        }
    }
}

/// Starts the test below once more, as the process that is killed.
fn start(dir: &Path) -> Child {
    let test = "crash::nothing_acknowledged_is_lost_to_kill_9";
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// The last number that the child printed after `word`.
fn last(lines: &[String], word: &str) -> u64 {
    let numbers = lines
        .iter()
        .rev()
        .filter_map(|line| line.strip_prefix(word));
    numbers
        .flat_map(|rest| rest.trim().parse().ok())
        .next()
        .unwrap_or(0)
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    if let Some(dir) = std::env::var_os(DIR) {
        return child(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut durable, mut sealed, mut cuts) = (0, 0, 0);
    for kill in 0_u64..30 {
        let mut child = start(dir.path());
        let pipe = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            BufReader::new(pipe)
                .lines()
                .map_while(Result::ok)
                .collect::<Vec<_>>()
        });
        // The moment of the kill is what is random here; some come during start.
        std::thread::sleep(Duration::from_micros(kill * 7919 % 100_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let lines = reader.join().unwrap();
        durable = durable.max(last(&lines, "durable "));
        sealed = sealed.max(last(&lines, "sealed "));
        if durable == 0 {
            continue;
        }
        let report = verify(dir.path()).unwrap_or_else(|e| panic!("after kill {kill}: {e}"));
        assert!(
            report.entries >= durable && report.sealed >= sealed,
            "{report:?}"
        );
        let (ledger, recovery) = Ledger::open(dir.path(), &crash_options())
            .unwrap_or_else(|e| panic!("after kill {kill}: {e}"));
        assert_eq!(ledger.size(), report.entries);
        assert_eq!(ledger.root(), report.root);
        cuts += u64::from(recovery.cut_bytes > 0);
        durable = ledger.size();
        let read = ledger
            .reader()
            .range(0)
            .map(Result::unwrap)
            .all(|(i, read)| read == leaf(i));
        assert!(read, "other leaves came back");
    }
    assert!(durable > 0 && sealed > 0, "killed before it did anything");
    let (ledger, _) = Ledger::open(dir.path(), &crash_options()).unwrap();
    ledger.close().unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.entries, report.unsealed()), (durable, 0));
    eprintln!("30 kills, {durable} leaves, {sealed} sealed, {cuts} torn tails cut");
}
