//! A start builds on no damage that it reads: the end of the log, and what is still to be read.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ledger::{Cause, Damage, Error, Ledger};

use crate::support::{grow, open, options, recovered, segments, small_segments, verify};
use crate::tamper::{frames, rewrite};

/// Every file of the log but its index, which is no evidence, with what is in it.
fn evidence(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let names = ["checkpoints.txt", "last-checkpoint", "ledger.pub"];
    let files = names.map(|name| dir.join(name)).into_iter();
    let files = files.chain(segments(dir));
    files
        .map(|file| (file.clone(), fs::read(&file).unwrap()))
        .collect()
}

/// What a start refuses; it has changed nothing.
fn refused(dir: &Path) -> Damage {
    let before = evidence(dir);
    let Err(Error::Damaged(damage)) = Ledger::open(dir, &options()) else {
        panic!("a damaged log was opened");
    };
    assert!(evidence(dir) == before, "a damaged log was changed");
    *damage
}

pub(crate) fn flip_byte(file: &Path, at: u64) {
    let mut file = fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

/// It checked the chain value of the last entry alone, appended to the log and signed for it.
#[test]
fn a_flipped_byte_of_any_entry_read_again_stops_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(dir.path(), &small_segments()).unwrap();
    grow(&mut ledger, 4, 2);
    ledger.checkpoint().unwrap();
    grow(&mut ledger, 24, 3);
    ledger.close().unwrap();
    let mut leaf = 0;
    for file in segments(dir.path()) {
        let sound = fs::read(&file).unwrap();
        for frame in frames(&sound) {
            for at in [frame.start, frame.start + 8, frame.end - 1] {
                let mut bytes = sound.clone();
                bytes[at] ^= 1;
                fs::write(&file, &bytes).unwrap();
                let damage = refused(dir.path());
                assert_eq!(damage.leaves, leaf..leaf + 1, "{damage}");
                fs::write(&file, &sound).unwrap();
            }
            leaf += 1;
        }
    }
    assert_eq!(leaf, 24);
    assert!(recovered(dir.path()).is_clean());
}

/// CRC and chain hold no secret: it is the tree that the new leaves do not lead to.
#[test]
fn an_edit_with_all_checksums_and_chain_recomputed_stops_the_writer() {
    for edited in [0, 511, 512, 599] {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path());
        grow(&mut ledger, 600, 100);
        ledger.close().unwrap();
        let file = segments(dir.path()).remove(0);
        rewrite(&file, |index, leaf| match index {
            _ if index == edited => vec![b'x'; leaf.len()],
            _ => leaf,
        });
        refused(dir.path());
    }
}

/// Flips a byte within a leaf of a segment, and back.
fn flip_in(file: &Path) -> impl Fn(usize) {
    let frames = frames(&fs::read(file).unwrap());
    move |leaf| flip_byte(file, frames[leaf].start as u64 + 1000)
}

/// 520 leaves of 256 KiB: the last known place 32 MiB before the end is that of leaf 256, so that is
/// read again and 255 is not.
#[test]
fn older_damage_is_left_to_verify_and_later_checkpoints_do_not_hide_it() {
    const LEAF: usize = 256 << 10;
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    for index in 0..520_u64 {
        let mut leaf = index.to_le_bytes().to_vec();
        leaf.resize(LEAF, 0);
        ledger.append(&leaf).unwrap();
        if index % 64 == 0 {
            ledger.commit().unwrap();
        }
    }
    ledger.close().unwrap();
    let file = segments(dir.path()).remove(0);
    let flip = flip_in(&file);
    flip(256);
    assert_eq!(refused(dir.path()).leaves, 256..257);
    flip(256);

    flip(255);
    let mut ledger = open(dir.path());
    grow(&mut ledger, 530, 5);
    ledger.close().unwrap();
    let Err(Error::Damaged(damage)) = verify(dir.path()) else {
        panic!("later checkpoints hide it");
    };
    assert_eq!((damage.leaves, damage.cause), (255..256, Cause::Checksum));

    // With a consumer that has still to read it, it is read again.
    let mut ledger = open(dir.path());
    ledger.set_cursor("agent", 200);
    ledger.close().unwrap();
    assert_eq!(refused(dir.path()).leaves, 255..256);
}

/// The index's end was taken for the log's: 32 MiB before it were read on top of all after it.
#[test]
fn what_the_index_does_not_cover_counts_as_the_tail() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let long = |index: u64| {
        let mut leaf = index.to_le_bytes().to_vec();
        leaf.resize(128 << 10, 0);
        leaf
    };
    // 33 MiB after the checkpoint; leaf 256 is the last known place before it.
    for (size, is_sealed) in [(300, true), (564, false)] {
        while ledger.size() < size {
            ledger.append(&long(ledger.size())).unwrap();
        }
        match is_sealed {
            true => drop(ledger.checkpoint().unwrap()),
            false => drop(ledger.commit().unwrap()),
        }
    }
    drop(ledger);
    let file = segments(dir.path()).remove(0);
    let flip = flip_in(&file);
    flip(256);
    assert_eq!(refused(dir.path()).leaves, 256..257);
    flip(256);
    flip(255);
    assert_eq!(recovered(dir.path()).entries, 564);
}
