//! One fault at each call that a short life of a log makes, in turn.

use std::path::{Path, PathBuf};

use super::disk::{Fault, Simulation, temporary_dir};
use crate::{Error, IndexStatus, Ledger, Options, Report, VerifyOptions, verify};

/// What must outlast everything from here on.
#[derive(Debug, Default)]
struct Promised {
    leaves: u64,
    /// The newest checkpoint.
    note: Option<String>,
}

impl Promised {
    fn by(ledger: &Ledger) -> Promised {
        Promised {
            leaves: ledger.durable_size(),
            note: ledger.last_checkpoint().map(|last| last.note().to_owned()),
        }
    }
}

fn options() -> Options {
    Options {
        segment_bytes: 7_000,
        ..Options::new("daemoneye/crash")
    }
}

fn leaf(index: u64) -> Vec<u8> {
    format!("leaf {index} ").repeat(60).into_bytes()
}

/// Leaves of more than a page, so that a commit reaches the disk in parts.
fn life(dir: &Path, promised: &mut Promised) -> Result<(), Error> {
    let (mut ledger, _) = Ledger::open(dir, &options())?;
    *promised = Promised::by(&ledger);
    for (leaves, is_sealed) in [(2, false), (9, true), (1, false), (5, true), (1, false)] {
        for _ in 0..leaves {
            ledger.append(&leaf(ledger.size()))?;
        }
        match is_sealed {
            false => drop(ledger.commit()?),
            true => drop(ledger.checkpoint()?),
        }
        *promised = Promised::by(&ledger);
    }
    Ok(())
}

fn verified(dir: &Path, promised: &Promised) -> Report {
    let options = VerifyOptions {
        checkpoint: promised.note.clone(),
        ..VerifyOptions::default()
    };
    let report = verify(dir, options).unwrap();
    assert!(report.entries >= promised.leaves, "{report:?}");
    report
}

/// Opens on a disk that is sound again, and goes on.
fn reopen(dir: &Path, promised: &mut Promised) {
    let (ledger, recovery) = Ledger::open(dir, &options()).unwrap();
    assert!(recovery.entries >= promised.leaves, "{recovery:?}");
    let mut reader = ledger.reader();
    let read = reader.range(0).map(Result::unwrap);
    assert_eq!(
        read.filter(|(i, read)| *read == leaf(*i)).count() as u64,
        ledger.size()
    );
    *promised = Promised::by(&ledger);
}

fn check(fault: Fault, number: u64, seed: u64) -> bool {
    let told = Told(fault, number, seed);
    let root = temporary_dir();
    let dir: PathBuf = root.path().join("state/ledger");
    let simulation = Simulation::start(root.path(), seed);
    simulation.plan(number, fault);
    let mut promised = Promised::default();
    let lived = life(&dir, &mut promised);
    let struck = simulation.has_failed();
    assert!(lived.is_ok() || struck, "{lived:?}");
    simulation.start_again();
    simulation.free_space();
    simulation.lose_all_unsynced();
    if promised.note.is_some() {
        verified(&dir, &promised);
    }
    reopen(&dir, &mut promised);
    let (ledger, _) = Ledger::open(&dir, &options()).unwrap();
    ledger.close().unwrap();
    let report = verified(&dir, &promised);
    assert_eq!((report.unsealed(), report.index), (0, IndexStatus::Agrees));
    std::mem::forget(told);
    struck
}

/// Says which case it was that failed.
struct Told(Fault, u64, u64);

impl Drop for Told {
    fn drop(&mut self) {
        let Told(fault, number, seed) = self;
        eprintln!("{fault:?} at call {number}, seed {seed}");
    }
}

fn at_each_call(fault: Fault) {
    let struck = (0..).take_while(|&number| check(fault, number, number));
    let calls = struck.count();
    assert!(calls > 80, "{calls}");
    eprintln!("{fault:?} at each of {calls} calls");
}

#[test]
fn death_at_any_call_loses_nothing() {
    at_each_call(Fault::Death);
}

#[test]
fn a_refused_call_loses_nothing() {
    at_each_call(Fault::Refused);
}
