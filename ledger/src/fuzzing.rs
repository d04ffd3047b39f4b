//! Parsers that are nobody's but the ledger's own, for fuzz targets alone.

use crate::gap::Gap;
use crate::hash::{Hash, HashKind, blake3_of};
use crate::index::{self, State};
use crate::keys::PublicKeys;
use crate::remains::{BLOCK, Remains};
use crate::tiles;
use crate::tree::{Frontier, Node};

/// Reads bytes as a tile, and looks up any node in it; and as the commit record.
pub fn index_values(bytes: &[u8]) {
    let tile = index::tile_hashes(bytes);
    for level in 8..64 {
        for index in [0, 1, 255, u64::MAX >> level] {
            let node = Node { level, index };
            let found = tiles::node_in(HashKind::Blake3, &tile, node);
            assert!(found.is_none() || !tile.is_empty());
        }
    }
    // Its check is what a fuzzer cannot guess.
    let origin = "daemoneye/golden";
    let Hash(check) = blake3_of(&[bytes, origin.as_bytes()]);
    let record = [bytes, &check].concat();
    if let Some(state) = State::decode(&record, origin) {
        assert_eq!(state.encode(origin), record);
    }
}

/// Whether a text is a sound statement of dropped leaves, the first one of a log with these keys.
pub fn is_gap(note: &str, keys: &PublicKeys) -> bool {
    Gap::open(note, keys, None).is_ok()
}

/// Reads bytes as what is left of dropped leaves, and brings a tree to their end with it.
pub fn remains(bytes: &[u8]) {
    let Some(remains) = Remains::decode(bytes) else {
        return;
    };
    assert_eq!(remains.encode(), bytes);
    let mut blocks = Frontier::new(remains.kind);
    let mut nodes = 0;
    if remains.replay(&mut blocks, |_, _| nodes += 1).is_some() {
        assert_eq!(blocks.size(), remains.end);
        assert!(nodes >= remains.blocks.len() + remains.low.len());
    }
    for size in [0, 1, remains.first, remains.end, u64::MAX] {
        let empty = Frontier::new(remains.kind);
        let root = remains.root(empty, size);
        assert!(root.is_none() || size < BLOCK);
    }
}
