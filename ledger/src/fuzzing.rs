//! Parsers that are nobody's but the ledger's own, for fuzz targets alone.

use crate::hash::{Hash, HashKind, blake3_of};
use crate::index::{self, State};
use crate::tiles;
use crate::tree::Node;

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
