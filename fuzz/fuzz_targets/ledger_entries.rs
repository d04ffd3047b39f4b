//! A whole ledger with any bytes as its segment: no reader panics, `verify` calls it intact only if
//! the leaves that were signed for are there, and both read the same leaves.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use ledger::segment::{Frame, Header};
use ledger::{Hash, Reader, VerifyOptions};
use libfuzzer_sys::fuzz_target;

/// The log of the page.
static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = fuzz::directory();
    fs::create_dir_all(dir.join("entries")).unwrap();
    for name in ["ledger.pub", "last-checkpoint"] {
        fs::write(dir.join(name), fuzz::block(name)).unwrap();
    }
    for name in ["checkpoints.txt", "rotations.txt"] {
        fs::write(dir.join(name), fuzz::block(name).to_owned() + "\n").unwrap();
    }
    dir
});

static SEGMENT: LazyLock<Vec<u8>> = LazyLock::new(fuzz::segment);

fuzz_target!(|bytes: &[u8]| {
    let Some((&form, bytes)) = bytes.split_first() else {
        return;
    };
    let segment = match form % 3 {
        0 => bytes.to_vec(),
        // In place of the last bytes that were written.
        1 => SEGMENT[..SEGMENT.len() / 2]
            .iter()
            .chain(bytes)
            .copied()
            .collect(),
        // Sound frames, as whoever can write the files can make them.
        _ => sound(bytes),
    };
    fs::write(DIR.join("entries/0000000000000000.seg"), &segment).unwrap();
    let report = ledger::verify(&DIR, VerifyOptions::default());
    let mut reader = Reader::open(&DIR).unwrap();
    let leaves: Result<Vec<(u64, Vec<u8>)>, _> = reader.range(0).collect();
    let Ok(report) = report else {
        return;
    };
    assert_eq!((report.sealed, report.keys.epoch()), (4, 1));
    let leaves = leaves.expect("what is intact can be read");
    assert_eq!(leaves.len() as u64, report.entries);
    for ((_, leaf), signed) in leaves.iter().zip(fuzz::leaves()) {
        assert_eq!(leaf, signed);
    }
});

/// A segment with the header of the page and these leaves, one between two bytes 0xff each.
fn sound(bytes: &[u8]) -> Vec<u8> {
    let header = SEGMENT.first_chunk::<{ Header::LEN }>().unwrap();
    let header = Header::decode(header).unwrap();
    let mut segment = header.encode().to_vec();
    let mut chain = header.chain;
    for leaf in bytes.split(|byte| *byte == 0xff) {
        let leaf_hash = blake3::hash(&[&[0], leaf].concat());
        let link = [chain.0, *leaf_hash.as_bytes()].concat();
        chain = Hash(*blake3::keyed_hash(b"daemoneye ledger chain, format 1", &link).as_bytes());
        let starts_commit = leaf.len() % 2 == 1;
        let frame = Frame {
            leaf,
            chain,
            starts_commit,
        };
        frame.encode(header.nonce, &mut segment);
    }
    segment
}
