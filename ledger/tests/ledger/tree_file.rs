//! Proofs beside a writer: from the tree that lies beside the log, which nobody believes.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ledger::{
    Checkpoint, Error, IndexStatus, Ledger, Options, Reader, Retention, audit_telling,
    gather_telling, prove, prove_telling,
};

use crate::start::flip_byte;
use crate::support::{copy, grow, last_segment, leaf, options, segments, small_segments, verify};

fn tree(dir: &Path) -> PathBuf {
    dir.join("tree")
}

/// Segments of some 600 leaves, which begin within a block.
fn open(dir: &Path) -> Ledger {
    let options = Options {
        segment_bytes: 30_000,
        ..small_segments()
    };
    Ledger::open(dir, &options).unwrap().0
}

/// Each proof that is made, and what was told of the tree.
fn proven(dir: &Path, leaves: Range<u64>, step: usize) -> Vec<String> {
    let mut told = Vec::new();
    for index in leaves.step_by(step) {
        let proof = prove_telling(dir, index, None, &mut |error| told.push(error.to_string()));
        let proof = proof.unwrap();
        let keys = ledger::public_keys(dir).unwrap();
        proof.verify(&leaf(index), &keys).unwrap();
    }
    told
}

/// Proof, evidence and audit, none of which reads the log as a whole.
fn all_is_proven_by_the_tree(dir: &Path, leaves: Range<u64>, since: &Checkpoint) {
    let nothing = &mut |error: &Error| panic!("the log was read: {error}");
    assert_eq!(proven(dir, leaves.clone(), 97), [""; 0]);
    let indexes: BTreeSet<u64> = leaves.step_by(301).collect();
    gather_telling(dir, &indexes, (None, None), nothing).unwrap();
    audit_telling(dir, None, since.note(), nothing).unwrap();
}

#[test]
fn proofs_beside_a_writer_do_not_read_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let mut since = ledger.last_checkpoint().unwrap().clone();
    for size in [1, 255, 256, 257, 700, 5_000, 5_120, 9_001] {
        grow(&mut ledger, size, 50);
        let last = ledger.checkpoint().unwrap();
        // The newest leaf, and what is not signed for.
        grow(&mut ledger, size + 3, 2);
        assert_eq!(proven(dir.path(), size - 1..size, 1), [""; 0]);
        all_is_proven_by_the_tree(dir.path(), 0..size, &since);
        since = last;
    }
}

/// It is the same however often the log was opened, dropped leaves and all.
#[test]
fn the_tree_is_continued_by_each_writer() {
    let (dir, at_once) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut since = None;
    for size in [100, 300, 512, 1_300, 4_000] {
        let mut ledger = open(dir.path());
        grow(&mut ledger, size, 50);
        since = Some(ledger.checkpoint().unwrap());
        // Not covered by the index when the next begins.
        grow(&mut ledger, size + 290, 10);
    }
    let mut ledger = open(dir.path());
    ledger.checkpoint().unwrap();
    let mut other = open(at_once.path());
    grow(&mut other, 4_290, 10);
    other.checkpoint().unwrap();
    let hashes = |dir: &Path| {
        let tree = fs::read(tree(dir)).unwrap();
        let mut at = 0;
        let blocks = (1..=4_290 / 256_usize).map(|block| {
            let end = at + 12 + 32 * (1 + block.trailing_zeros() as usize);
            let hashes = tree[at + 12..end].to_vec();
            at = end;
            hashes
        });
        let hashes = blocks.collect::<Vec<_>>();
        assert_eq!(at, tree.len());
        hashes
    };
    assert_eq!(hashes(dir.path()), hashes(at_once.path()));

    let keep = Retention {
        bytes: Some(100_000),
        seconds: None,
    };
    ledger.retain(&keep, u64::MAX).unwrap();
    let (kept_from, size) = (ledger.kept_from(), ledger.size());
    assert!(kept_from > 1_000, "{kept_from}");
    all_is_proven_by_the_tree(dir.path(), kept_from..4_290, &since.unwrap());
    let gone = prove(dir.path(), kept_from - 1, None);
    assert!(matches!(gone, Err(Error::NotKept { .. })), "{gone:?}");
    drop(ledger);
    assert_eq!(verify(dir.path()).unwrap().entries, size);
}

/// A log of 3,000 leaves whose tree was changed behind the writer's back.
fn changed(change: impl FnOnce(&Path)) -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 3_000, 50);
    ledger.checkpoint().unwrap();
    change(&tree(dir.path()));
    (dir, ledger)
}

#[test]
fn proofs_that_the_tree_leads_astray_are_made_of_the_log() {
    type Change = fn(&Path);
    let short = "tree at byte 99: file ends too early";
    let other = "it is not the tree that was signed for";
    let changes: [(Change, &str); 5] = [
        (
            |tree| fs::remove_file(tree).unwrap(),
            "tree at byte 0: file is missing",
        ),
        (
            |tree| fs::write(tree, "").unwrap(),
            "tree at byte 0: file ends too early",
        ),
        (|tree| fs::write(tree, [0; 99]).unwrap(), short),
        (|tree| fs::write(tree, [7; 5_000]).unwrap(), other),
        // The root of the second block.
        (|tree| flip_byte(tree, 60), other),
    ];
    for (change, expected) in changes {
        let (dir, ledger) = changed(change);
        // Found beside the writer, which has the index.
        let index = verify(dir.path()).unwrap().index;
        assert!(
            matches!(&index, IndexStatus::Bad(told) if told.contains("block ")),
            "{index:?}"
        );
        let told = proven(dir.path(), 0..1, 1);
        assert!(told[0].contains(expected), "{told:?}");
        let mut told = 0;
        let mut tell = |_: &Error| told += 1;
        let indexes = [0, 2_999].into();
        gather_telling(dir.path(), &indexes, (None, None), &mut tell).unwrap();
        assert_eq!(told, 1);
        let leaves: Vec<_> = Reader::open(dir.path())
            .unwrap()
            .range(2_990)
            .map(|leaf| leaf.unwrap().1)
            .collect();
        assert_eq!(leaves, (2_990..3_000).map(leaf).collect::<Vec<_>>());
        drop(ledger);
        // And mended by the next.
        drop(open(dir.path()));
        assert_eq!(verify(dir.path()).unwrap().index, IndexStatus::Agrees);
    }
}

/// A place that is another leaf's, with its checksum: the reader cannot tell, who proves can.
#[test]
fn a_leaf_at_a_place_that_is_not_its_own_is_not_proven() {
    let (dir, ledger) = changed(|tree| {
        let mut bytes = fs::read(tree).unwrap();
        // The second block's is put into the first's place.
        let offset: [u8; 8] = bytes[44..52].try_into().unwrap();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&0_u64.to_le_bytes()), &offset);
        bytes[..8].copy_from_slice(&offset);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        fs::write(tree, bytes).unwrap();
    });
    let mut reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.read(3).unwrap(), Some(leaf(259)));
    assert_eq!(proven(dir.path(), 3..4, 1).len(), 1);
    assert_eq!(proven(dir.path(), 600..601, 1).len(), 0);
    // The checksum is for accidents.
    flip_byte(&tree(dir.path()), 0);
    let mut reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.read(3).unwrap(), Some(leaf(3)));
    drop(ledger);
}

/// Of a log whose leaves are other ones, and are proven by nobody.
#[test]
fn a_tree_that_is_right_proves_no_leaf_that_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 3_000, 50);
    ledger.close().unwrap();
    flip_byte(&segments(dir.path())[0], 200);
    let refused = prove_telling(dir.path(), 2, None, &mut |error| panic!("{error}"));
    assert!(matches!(refused, Err(Error::Damaged(_))), "{refused:?}");
}

#[test]
fn a_writer_puts_right_what_it_finds_of_the_tree() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 3_000, 50);
    ledger.checkpoint().unwrap();
    drop(ledger);
    let whole = fs::read(tree(dir.path())).unwrap();
    // The root of the first 2,048 leaves is the last one of its block's.
    let frontier = 12 * 8 + 32 * 14;
    let changes: [&dyn Fn(Vec<u8>) -> Option<Vec<u8>>; 8] = [
        // A hash that no start asks for, and a place with its checksum.
        &|mut whole| {
            whole[12] ^= 1;
            Some(whole)
        },
        &|mut whole| {
            whole[0] ^= 1;
            let crc = crc32c::crc32c_append(crc32c::crc32c(&[0; 8]), &whole[..8]);
            whole[8..12].copy_from_slice(&crc.to_le_bytes());
            Some(whole)
        },
        &|_| None,
        &|_| Some(Vec::new()),
        &|whole| Some(whole[..whole.len() - 1].to_vec()),
        &|whole| Some(whole[..300].to_vec()),
        &|whole| Some([&whole[..], &[1; 70]].concat()),
        &|mut whole| {
            whole[frontier] ^= 1;
            Some(whole)
        },
    ];
    for change in changes {
        match change(whole.clone()) {
            Some(bytes) => fs::write(tree(dir.path()), bytes).unwrap(),
            None => fs::remove_file(tree(dir.path())).unwrap(),
        }
        let ledger = open(dir.path());
        assert_eq!(fs::read(tree(dir.path())).unwrap(), whole);
        drop(ledger);
    }
    // And when it had to build the index again.
    let other = tempfile::tempdir().unwrap();
    copy(dir.path(), other.path());
    fs::remove_file(other.path().join("index.redb")).unwrap();
    fs::write(tree(other.path()), vec![3; whole.len()]).unwrap();
    drop(open(other.path()));
    assert_eq!(fs::read(tree(other.path())).unwrap(), whole);
}

/// In one segment, which was read from its start.
#[test]
fn a_reader_from_outside_finds_a_leaf_by_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(dir.path(), &options()).unwrap();
    grow(&mut ledger, 3_000, 50);
    ledger.checkpoint().unwrap();
    // A leaf that every reading from the start stumbles over.
    flip_byte(&last_segment(dir.path()), 200);
    let mut reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.size().unwrap(), 3_000);
    assert_eq!(reader.read(2_900).unwrap(), Some(leaf(2_900)));
    assert_eq!(reader.read(3_000).unwrap(), None);
    assert!(matches!(reader.read(2), Err(Error::Damaged(_))));
}
