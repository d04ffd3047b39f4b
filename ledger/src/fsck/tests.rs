//! Logs of many stretches, which are short in unit tests.

use std::fs;
use std::path::Path;

use fastrand::Rng;

use crate::segment::{Frame, Header};
use crate::{Cause, Error, HashKind, IndexStatus, Ledger, Options, VerifyOptions, layout, verify};

fn leaf(random: &mut Rng) -> Vec<u8> {
    // Now and then longer than a stretch.
    let most = if random.u8(..20) == 0 { 3_000 } else { 40 };
    let len = random.usize(..most);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

/// Commits and checkpoints at any size, segments that end within a block of leaves, a rotation.
fn grow(dir: &Path, hash: HashKind, random: &mut Rng) -> Ledger {
    let options = Options {
        hash,
        segment_bytes: 20_000,
        ..Options::new("daemoneye/fsck")
    };
    let (mut ledger, _) = Ledger::open(dir, &options).unwrap();
    for round in 0..40 {
        for _ in 0..random.u32(..90) {
            ledger.append(&leaf(random)).unwrap();
        }
        match random.u8(..4) {
            0 => drop(ledger.checkpoint().unwrap()),
            _ => drop(ledger.commit().unwrap()),
        }
        if round == 20 {
            ledger.rotate().unwrap();
        }
    }
    ledger
}

#[test]
fn a_log_of_many_stretches_has_the_root_of_its_writer() {
    for (seed, hash) in [(1, HashKind::Blake3), (2, HashKind::Sha256)] {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = grow(dir.path(), hash, &mut Rng::with_seed(seed));
        ledger.checkpoint().unwrap();
        let (root, size) = (ledger.root(), ledger.size());
        drop(ledger);
        let report = verify(dir.path(), VerifyOptions::default()).unwrap();
        assert_eq!((report.root, report.entries), (root, size));
        assert!(report.segments > 3, "{report:?}");
        assert_eq!(report.index, IndexStatus::Agrees);
    }
}

#[test]
fn the_first_bad_leaf_of_many_stretches_is_named() {
    let mut random = Rng::with_seed(3);
    let dir = tempfile::tempdir().unwrap();
    drop(grow(dir.path(), HashKind::Blake3, &mut random));
    let path = layout::segment(dir.path(), 0);
    let sound = fs::read(&path).unwrap();
    let header = Header::decode(&sound).unwrap();
    let (mut at, mut leaf) = (Header::LEN, 0);
    while at < sound.len() {
        let frame = Frame::decode(header.nonce, &sound[at..]).unwrap();
        let len = frame.leaf.len() + Frame::OVERHEAD;
        let mut bytes = sound.clone();
        let flipped = at + 4 + random.usize(..len - 4);
        bytes[flipped] ^= 1;
        // One that follows is not to be told of first.
        if at + len < sound.len() {
            *bytes.last_mut().unwrap() ^= 1;
        }
        fs::write(&path, &bytes).unwrap();
        let found = verify(dir.path(), VerifyOptions::default());
        let Err(Error::Damaged(damage)) = found else {
            panic!("leaf {leaf}, byte {flipped}: {found:?}");
        };
        assert_eq!((damage.leaves, damage.offset), (leaf..leaf + 1, at as u64));
        assert!([Cause::Checksum, Cause::Chain].contains(&damage.cause));
        (at, leaf) = (at + len, leaf + 1);
    }
    assert!(leaf > 100);
}
