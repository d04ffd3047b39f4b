//! A power loss while the segments of a gap are removed: any of their names may be left, until a writer
//! comes.

use std::collections::BTreeMap;
use std::path::Path;

use super::disk::temporary_dir;
use crate::remains::BLOCK;
use crate::rotation::OWN_LEAF;
use crate::{
    Error, Ledger, Options, Reader, Retention, VerifyOptions, audit, disk, layout, overview, prove,
    verify,
};

fn options() -> Options {
    Options {
        segment_bytes: 5_000,
        ..Options::new("daemoneye/crash")
    }
}

fn leaf(index: u64) -> Vec<u8> {
    format!("leaf {index:05}").into_bytes()
}

/// A log of some segments, and notes of checkpoints in each.
fn log(dir: &Path) -> (Ledger, Vec<String>) {
    let (mut ledger, _) = Ledger::open(dir, &options()).unwrap();
    ledger.thin_at = u64::MAX;
    let mut notes = Vec::new();
    while ledger.size() < 3 * BLOCK {
        ledger.append(&leaf(ledger.size())).unwrap();
        ledger.commit().unwrap();
        if ledger.size().is_multiple_of(250) {
            notes.push(ledger.checkpoint().unwrap().note().to_owned());
        }
    }
    (ledger, notes)
}

fn segments(dir: &Path) -> BTreeMap<u64, Vec<u8>> {
    let firsts = disk::segments(dir).unwrap().into_iter();
    firsts
        .map(|first| (first, std::fs::read(layout::segment(dir, first)).unwrap()))
        .collect()
}

/// All there is to read, to prove and to hold against what was signed.
fn look(dir: &Path, notes: &[String]) {
    let overview = overview(dir).unwrap();
    let (mut next, mut reader) = (0, Reader::open(dir).unwrap());
    for read in reader.range(0) {
        match read {
            Ok((index, read)) => {
                assert!(read == leaf(index) || read.starts_with(OWN_LEAF));
                next = index + 1;
            }
            Err(Error::NotKept { index, oldest }) => {
                assert!(index < oldest && oldest <= overview.kept_from);
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(next, overview.entries);
    for index in (0..overview.entries).step_by(17) {
        match Reader::open(dir).unwrap().read(index) {
            Ok(read) => {
                let read = read.expect("it was counted");
                assert!(
                    read == leaf(index) || read.starts_with(OWN_LEAF),
                    "leaf {index}"
                );
            }
            Err(Error::NotKept { oldest, .. }) => {
                assert!(index < oldest && oldest <= overview.kept_from);
            }
            Err(error) => panic!("leaf {index} not read: {error:?}"),
        }
    }
    for index in (0..overview.entries).step_by(61) {
        match prove(dir, index, None) {
            Ok(_) => {}
            Err(Error::NotKept { .. }) if index < overview.kept_from => {}
            Err(error) => panic!("leaf {index} not proven: {error:?}"),
        }
    }
    for note in notes {
        audit(dir, None, note).unwrap();
        let options = VerifyOptions {
            checkpoint: Some(note.clone()),
            ..VerifyOptions::default()
        };
        verify(dir, options).unwrap();
    }
}

/// Some of them and not those after them: a leaf that was dropped was read out of another's place, or
/// told as damage, and nothing could be proven without the tree beside the log.
#[test]
fn segments_that_a_power_loss_leaves_of_a_gap_stop_nobody() {
    for with_tree in [true, false] {
        let root = temporary_dir();
        let dir = root.path().join("ledger");
        let (mut ledger, notes) = log(&dir);
        let before = segments(&dir);
        let retention = Retention {
            bytes: Some(10_000),
            seconds: None,
        };
        let expired = ledger.expired(&retention, u64::MAX).unwrap().unwrap();
        ledger.drop_expired(expired).unwrap();
        drop(ledger);
        let kept = segments(&dir);
        let gone: Vec<u64> = before
            .keys()
            .copied()
            .filter(|first| !kept.contains_key(first))
            .collect();
        assert!(gone.len() > 2, "{gone:?}");
        for left in 0..1 << gone.len().min(4) {
            let is_left = |number: usize| left >> number & 1 == 1;
            for (number, first) in gone.iter().enumerate() {
                let path = layout::segment(&dir, *first);
                match is_left(number) {
                    true => std::fs::write(path, &before[first]).unwrap(),
                    false => drop(std::fs::remove_file(path)),
                }
            }
            if !with_tree {
                drop(std::fs::remove_file(layout::tree(&dir)));
            }
            look(&dir, &notes);
        }
        let (ledger, _) = Ledger::open(&dir, &options()).unwrap();
        assert!(ledger.close().is_ok());
        assert_eq!(segments(&dir).into_keys().next(), kept.into_keys().next());
    }
}
