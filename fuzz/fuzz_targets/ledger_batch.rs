//! Batch and consistency proofs as text: no panic, one spelling. Claims about a tree, made of its own
//! nodes in any order: only true ones verify.
#![no_main]

use std::sync::LazyLock;

use ledger::{BatchProof, ConsistencyProof, Hash, HashKind, verify_batch};
use libfuzzer_sys::fuzz_target;

const KIND: HashKind = HashKind::Blake3;
const LEAVES: u64 = 21;

static NODES: LazyLock<Vec<Hash>> = LazyLock::new(|| {
    let mut nodes: Vec<Hash> = (0..LEAVES)
        .map(|leaf| KIND.leaf(&leaf.to_le_bytes()))
        .collect();
    root(&nodes.clone(), &mut nodes);
    nodes
});

/// The root by RFC 6962's recursion, last of the inner nodes that are added to `all`.
fn root(leaves: &[Hash], all: &mut Vec<Hash>) -> Hash {
    if let [leaf] = leaves {
        return *leaf;
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let node = KIND.node(root(left, all), root(right, all));
    all.push(node);
    node
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(proof) = BatchProof::parse(text) {
            assert_eq!(proof.to_string(), text);
        }
        if let Ok(proof) = ConsistencyProof::parse(text) {
            assert_eq!(proof.to_string(), text);
        }
    }
    // A byte for the size, a count, so many pairs of index and node, and the nodes of the path.
    let [size, count, rest @ ..] = bytes else {
        return;
    };
    let node = |byte: &u8| NODES[usize::from(*byte) % NODES.len()];
    let (claims, path) = rest.split_at(rest.len().min(2 * usize::from(*count % 32)));
    let claims: Vec<(u64, Hash)> = claims
        .as_chunks::<2>()
        .0
        .iter()
        .map(|[index, leaf]| (u64::from(*index), node(leaf)))
        .collect();
    let path: Vec<Hash> = path.iter().map(node).collect();
    let root = *NODES.last().expect("a tree has a root");
    let size = u64::from(*size);
    if verify_batch(KIND, &claims, size, &path, root).is_ok() && size == LEAVES {
        for (index, leaf) in claims {
            assert_eq!(KIND.leaf(&index.to_le_bytes()), leaf, "leaf {index}");
        }
    }
});
