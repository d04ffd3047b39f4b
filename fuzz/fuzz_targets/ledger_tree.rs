//! A whole ledger with any bytes as the tree beside it: no reader panics, and each proof is that of
//! its leaf, whatever the tree says.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use ledger::{Ledger, Options, PublicKeys, Reader};
use libfuzzer_sys::fuzz_target;

/// Two blocks and a part of the third, in segments of some 300 leaves.
const LEAVES: u64 = 600;

struct Log {
    dir: PathBuf,
    keys: PublicKeys,
    tree: Vec<u8>,
}

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let dir = fuzz::directory();
    let options = Options {
        segment_bytes: 13_000,
        ..Options::new("daemoneye/fuzz")
    };
    let (mut ledger, _) = Ledger::open(&dir, &options).unwrap();
    while ledger.size() < LEAVES {
        ledger.append(&leaf(ledger.size())).unwrap();
        ledger.commit().unwrap();
    }
    ledger.close().unwrap();
    fs::remove_file(dir.join("index.redb")).unwrap();
    let keys = ledger::public_keys(&dir).unwrap();
    let tree = fs::read(dir.join("tree")).unwrap();
    Log { dir, keys, tree }
});

fn leaf(index: u64) -> Vec<u8> {
    index.to_string().into_bytes()
}

fuzz_target!(|bytes: &[u8]| {
    let [form, which, bytes @ ..] = bytes else {
        return;
    };
    let Log { dir, keys, tree } = &*LOG;
    let mut changed = tree.clone();
    match form % 3 {
        0 => changed = bytes.to_vec(),
        // In place of some of what was written.
        1 => {
            let from = usize::from(*which) % changed.len();
            let len = bytes.len().min(changed.len() - from);
            changed[from..from + len].copy_from_slice(&bytes[..len]);
        }
        // Places with their checksums, as whoever can write the file can make them.
        _ => {
            for (block, offset) in bytes.as_chunks::<2>().0.iter().take(2).enumerate() {
                let offset = u64::from(u16::from_le_bytes(*offset)).to_le_bytes();
                let crc = crc32c::crc32c(&(block as u64).to_le_bytes());
                let crc = crc32c::crc32c_append(crc, &offset).to_le_bytes();
                changed[44 * block..][..8].copy_from_slice(&offset);
                changed[44 * block + 8..][..4].copy_from_slice(&crc);
            }
        }
    }
    fs::write(dir.join("tree"), &changed).unwrap();
    let index = u64::from(*which) * 3 % LEAVES;
    let mut told = 0;
    let proof = ledger::prove_telling(dir, index, None, &mut |_| told += 1).unwrap();
    proof.verify(&leaf(index), keys).unwrap();
    assert!(told == 0 || changed != *tree);
    let read = Reader::open(dir).unwrap().read(index).unwrap();
    // A place that is another leaf's sends to that one.
    assert!(read == Some(leaf(index)) || form % 3 == 2);
});
