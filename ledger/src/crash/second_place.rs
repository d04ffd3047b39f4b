//! Checkpoints are copied to a disk that fails.

use std::fs;

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
        let (keys, listed) = (public_keys(&dir).unwrap(), layout::checkpoints(&second));
        let listed = fs::read(listed).unwrap();
        let mut records = Records::new(&listed[..], 0);
        let mut sizes = Vec::new();
        while let Record::Note { note, .. } = records.next().unwrap() {
            let note = String::from_utf8(note).unwrap();
            sizes.push(Checkpoint::open(&note, &keys).unwrap().size());
        }
        assert!(sizes.is_sorted(), "{fault:?}, seed {seed}: {sizes:?}");
        assert_eq!(sizes.last(), Some(&6), "{fault:?}, seed {seed}: {sizes:?}");
    }
    assert!(failed > 20, "{failed}");
}
