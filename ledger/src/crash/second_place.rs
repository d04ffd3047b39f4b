//! Checkpoints are copied to a disk that fails.

use std::fs;
use std::path::Path;

use super::disk::{Fault, Simulation, temporary_dir};
use crate::checkpoint::{Record, Records};
use crate::{Checkpoint, Export, Ledger, Options, disk, layout, public_keys};

/// What failed is left out or comes again whole; every record that is there stays one.
#[test]
fn copies_are_whole_records_whatever_fails() {
    let mut failed = 0;
    for (seed, fault) in (0..40).flat_map(|seed| [(seed, Fault::Full), (seed, Fault::Refused)]) {
        let root = temporary_dir();
        let (dir, second) = (root.path().join("ledger"), root.path().join("second"));
        let simulation = Simulation::start(root.path(), seed);
        disk::create_dir(&second).unwrap();
        let options = Options::new("daemoneye/crash");
        let (mut ledger, _) = Ledger::open(&dir, &options).unwrap();
        let mut export = Export::open(&second, &dir).unwrap();
        let mut last = None;
        for number in 0..6 {
            ledger.append(&[number]).unwrap();
            let checkpoint = ledger.checkpoint().unwrap();
            if number == 2 {
                simulation.plan(seed % 8, fault);
            }
            failed += u64::from(export.add(&checkpoint).is_err());
            simulation.has_failed();
            simulation.free_space();
            last = Some(checkpoint);
        }
        assert_eq!(export.newest(), last.as_ref());
        drop((ledger, export));
        simulation.lose_all_unsynced();
        let sizes = listed(&dir, &second);
        assert!(sizes.is_sorted(), "{fault:?}, seed {seed}: {sizes:?}");
        assert_eq!(sizes.last(), Some(&6), "{fault:?}, seed {seed}: {sizes:?}");
    }
    assert!(failed > 20, "{failed}");
}

/// A fault at each call that bringing checkpoints makes, thinning their list among them.
#[test]
fn copies_outlast_a_fault_at_any_call() {
    for fault in [Fault::Full, Fault::Refused, Fault::Death] {
        let struck = (0..).take_while(|&number| bring(fault, number));
        let calls = struck.count();
        assert!(calls > 60, "{fault:?}: {calls}");
    }
}

fn bring(fault: Fault, number: u64) -> bool {
    let root = temporary_dir();
    let (dir, second) = (root.path().join("ledger"), root.path().join("second"));
    let simulation = Simulation::start(root.path(), number);
    disk::create_dir(&second).unwrap();
    let (mut ledger, _) = Ledger::open(&dir, &Options::new("daemoneye/crash")).unwrap();
    let mut checkpoints = Vec::new();
    for leaf in 0..9 {
        ledger.append(&[leaf]).unwrap();
        match leaf {
            4 => drop(ledger.rotate().unwrap()),
            _ => drop(ledger.checkpoint().unwrap()),
        }
        checkpoints.extend(ledger.last_checkpoint().cloned());
    }
    drop(ledger);
    simulation.plan(number, fault);
    let mut export = Export::open(&second, &dir);
    let (mut struck, mut brought) = (false, None);
    for checkpoint in &checkpoints {
        // A daemon that was killed, or could not open it, starts again.
        let added = match &mut export {
            Ok(export) => export.add(checkpoint),
            Err(_) => Err(crate::Error::Poisoned),
        };
        match added {
            Ok(()) => brought = Some(checkpoint.clone()),
            Err(_) => {
                struck |= simulation.has_failed();
                simulation.start_again();
                simulation.free_space();
                if fault == Fault::Death || export.is_err() {
                    export = Export::open(&second, &dir);
                }
            }
        }
    }
    let newest = checkpoints.pop().unwrap();
    drop(export);
    struck |= simulation.has_failed();
    simulation.start_again();
    simulation.free_space();
    let told = format!("{fault:?} at call {number}");
    simulation.lose_all_unsynced();
    let mut export = Export::open(&second, &dir).unwrap_or_else(|e| panic!("{told}: {e}"));
    let kept = export.newest().map(Checkpoint::size);
    assert!(
        kept >= brought.as_ref().map(Checkpoint::size),
        "{told}: {kept:?}"
    );
    export
        .add(&newest)
        .unwrap_or_else(|e| panic!("{told}: {e}"));
    let listed = listed(&dir, &second);
    assert!(listed.is_sorted(), "{told}: {listed:?}");
    assert_eq!(listed.last(), Some(&newest.size()), "{told}");
    struck
}

/// The sizes of the checkpoints in a second place; all of them are sound.
fn listed(log: &Path, second: &Path) -> Vec<u64> {
    let keys = public_keys(log).unwrap();
    let listed = fs::read(layout::checkpoints(second)).unwrap();
    let mut records = Records::new(&listed[..], 0);
    let mut sizes = Vec::new();
    while let Record::Note { note, .. } = records.next().unwrap() {
        let note = String::from_utf8(note).unwrap();
        sizes.push(Checkpoint::open(&note, &keys).unwrap().size());
    }
    sizes
}
