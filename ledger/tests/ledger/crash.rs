//! kill -9 at random moments: nothing acknowledged is lost, and the log goes on.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fastrand::Rng;
use ledger::{Ledger, Options};

use crate::support::{leaf, options, verify};

const DIR: &str = "LEDGER_CRASH_DIR";

fn crash_options() -> Options {
    Options {
        segment_bytes: 500_000,
        ..options()
    }
}

/// Long enough that a kill can come within a write.
fn long_leaf(index: u64) -> Vec<u8> {
    leaf(index).repeat(1 + usize::try_from(index % 61).unwrap())
}

/// What the process that is killed does: appends for ever, and acknowledges what is durable.
fn child(dir: &Path) {
    let (mut ledger, recovery) = Ledger::open(dir, &crash_options()).unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "opened {}", recovery.entries).unwrap();
    for round in 0_u64.. {
        for _ in 0..1 + round % 97 {
            ledger.append(&long_leaf(ledger.size())).unwrap();
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

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// What all logs came to.
#[derive(Debug, Default)]
struct Seen {
    kills: u64,
    before_any_leaf: u64,
    leaves: u64,
    sealed: u64,
    cuts: u64,
    cut_checkpoints: u64,
}

/// Runs the child, kills it at a random moment, some of them during its start, and returns what it
/// said.
fn run_and_kill(dir: &Path, random: &mut Rng) -> Vec<String> {
    let mut child = start(dir);
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || output.next().and_then(Result::ok);
    // From a line that it says, or from its start.
    let said = random.u64(..40).saturating_sub(10);
    let mut lines: Vec<String> = (0..said).map_while(|_| next()).collect();
    std::thread::sleep(Duration::from_micros(random.u64(
        ..match said {
            0 => 40_000,
            _ => 4_000,
        },
    )));
    child.kill().unwrap();
    child.wait().unwrap();
    lines.extend(std::iter::from_fn(next));
    lines
}

/// Kills the writers of one log one after another; each goes on with what the last one left.
fn kill_writers_of_one_log(kills: u64, random: &mut Rng, seen: &mut Seen) {
    let dir = tempfile::tempdir().unwrap();
    let (mut durable, mut sealed) = (0, 0);
    for kill in 0..kills {
        let lines = run_and_kill(dir.path(), random);
        durable = durable.max(last(&lines, "durable "));
        sealed = sealed.max(last(&lines, "sealed "));
        seen.kills += 1;
        seen.before_any_leaf += u64::from(durable == 0);
        // Not always, so that one killed start follows another.
        if durable == 0 || random.u64(..3) == 0 {
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
        seen.cuts += u64::from(recovery.cut_bytes > 0);
        seen.cut_checkpoints += u64::from(recovery.cut_checkpoint_bytes > 0);
        durable = ledger.size();
        let read = ledger
            .reader()
            .range(0)
            .map(Result::unwrap)
            .all(|(i, read)| read == long_leaf(i));
        assert!(read, "other leaves came back");
    }
    let (ledger, _) = Ledger::open(dir.path(), &crash_options()).unwrap();
    ledger.close().unwrap();
    let report = verify(dir.path()).unwrap();
    assert!(report.entries >= durable && report.unsealed() == 0);
    seen.leaves += report.entries;
    seen.sealed += sealed;
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    if let Some(dir) = std::env::var_os(DIR) {
        return child(Path::new(&dir));
    }
    let kills = number("DAEMONEYE_CRASH_KILLS").unwrap_or(30);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let seed = number("DAEMONEYE_CRASH_SEED").unwrap_or_else(|| now.into());
    eprintln!("DAEMONEYE_CRASH_SEED={seed}");
    let (mut random, mut seen) = (Rng::with_seed(seed), Seen::default());
    while seen.kills < kills {
        let more = (kills - seen.kills).min(15);
        kill_writers_of_one_log(more, &mut random, &mut seen);
    }
    eprintln!("{seen:?}");
    assert!(
        seen.leaves > 0 && seen.sealed > 0,
        "killed before it did anything"
    );
}
