//! Inclusion and consistency proofs: which subtrees make one up, and the RFC 9162 verifiers.

use std::ops::Range;

use crate::hash::{Hash, HashKind};
use crate::tree::split;

/// Why a proof was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The leaf index is not below the tree size.
    #[error("leaf index {index} is not below the tree size {size}")]
    IndexBeyondSize {
        /// The leaf index.
        index: u64,
        /// The tree size.
        size: u64,
    },
    /// A batch proves no leaf at all.
    #[error("proof is of no leaf")]
    NoLeaves,
    /// The leaves of a batch do not ascend: one is out of order or there twice.
    #[error("leaf index {index} is not above the one before it")]
    Unsorted {
        /// The leaf index.
        index: u64,
    },
    /// The old size is above the new one.
    #[error("tree size {old} is above {new}")]
    SizesReversed {
        /// The smaller tree's claimed size.
        old: u64,
        /// The larger tree's claimed size.
        new: u64,
    },
    /// The proof has too few or too many hashes.
    #[error("proof has {found} hashes, which is the wrong number")]
    Length {
        /// How many it has.
        found: usize,
    },
    /// The proof leads to another root.
    #[error("proof does not lead to the root")]
    Root,
}

/// The ranges whose hashes form the inclusion proof of `index`, leaf side first. `index < size`.
pub(crate) fn inclusion_path(index: u64, size: u64) -> Vec<Range<u64>> {
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(middle..end);
            end = middle;
        } else {
            path.push(start..middle);
            start = middle;
        }
    }
    path.reverse();
    path
}

/// The ranges whose hashes form the consistency proof from `old` to `new`. `old <= new`.
pub(crate) fn consistency_path(old: u64, new: u64) -> Vec<Range<u64>> {
    let (mut start, mut end) = (0, new);
    let mut path = Vec::new();
    if old == 0 {
        return path;
    }
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(middle..end);
            end = middle;
        } else {
            path.push(start..middle);
            start = middle;
        }
    }
    // The old tree itself is known to the verifier; a part of it is not.
    if start != 0 {
        path.push(start..end);
    }
    path.reverse();
    path
}

/// Verifies that the leaf with `leaf_hash` is at `index` in the tree of `size` leaves with `root`.
///
/// `size` and `root` must come from a verified checkpoint: a path alone does not fix the size.
/// RFC 9162, section 2.1.3.2.
pub fn verify_inclusion(
    kind: HashKind,
    index: u64,
    size: u64,
    leaf_hash: Hash,
    path: &[Hash],
    root: Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::IndexBeyondSize { index, size });
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf_hash);
    for &sibling in path {
        if last == 0 {
            return Err(ProofError::Length { found: path.len() });
        }
        if node & 1 == 1 || node == last {
            hash = kind.node(sibling, hash);
            skip_lone_levels(&mut node, &mut last);
        } else {
            hash = kind.node(hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    match (last, hash == root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::Root),
        _ => Err(ProofError::Length { found: path.len() }),
    }
}

/// Verifies that the tree of `new` leaves with `new_root` begins with the tree of `old` leaves
/// with `old_root`. RFC 9162, section 2.1.4.2; from size 0 the proof is empty.
pub fn verify_consistency(
    kind: HashKind,
    old: u64,
    old_root: Hash,
    new: u64,
    new_root: Hash,
    path: &[Hash],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::SizesReversed { old, new });
    }
    let wrong_length = ProofError::Length { found: path.len() };
    if old == 0 || old == new {
        let roots_agree =
            (old != 0 || old_root == kind.empty()) && (old != new || old_root == new_root);
        return match (path.is_empty(), roots_agree) {
            (true, true) => Ok(()),
            (true, false) => Err(ProofError::Root),
            (false, _) => Err(wrong_length),
        };
    }
    let (first, rest) = if old.is_power_of_two() {
        (old_root, path)
    } else {
        let (first, rest) = path.split_first().ok_or(wrong_length)?;
        (*first, rest)
    };
    let (mut node, mut last) = (old - 1, new - 1);
    let lone = node.trailing_ones();
    (node, last) = (node >> lone, last >> lone);
    let (mut old_hash, mut new_hash) = (first, first);
    for &sibling in rest {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            old_hash = kind.node(sibling, old_hash);
            new_hash = kind.node(sibling, new_hash);
            skip_lone_levels(&mut node, &mut last);
        } else {
            new_hash = kind.node(new_hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    match (last, old_hash == old_root && new_hash == new_root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::Root),
        _ => Err(wrong_length),
    }
}

/// A node without a right sibling is promoted unchanged: climb to where it has a left one.
fn skip_lone_levels(node: &mut u64, last: &mut u64) {
    while *node & 1 == 0 && *node != 0 {
        (*node, *last) = (*node >> 1, *last >> 1);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::tree::{Frontier, Node, hash_of};

    /// The tree by RFC 6962's own recursion.
    pub(crate) struct Naive {
        pub(crate) kind: HashKind,
        pub(crate) leaves: Vec<Hash>,
        known: HashMap<Range<u64>, Hash>,
    }

    impl Naive {
        pub(crate) fn new(kind: HashKind, size: u64) -> Naive {
            let leaves = (0..size).map(|i| kind.leaf(&i.to_le_bytes())).collect();
            Naive {
                kind,
                leaves,
                known: HashMap::new(),
            }
        }

        pub(crate) fn root(&mut self, leaves: Range<u64>) -> Hash {
            if let Some(&known) = self.known.get(&leaves) {
                return known;
            }
            let root = match leaves.end - leaves.start {
                0 => self.kind.empty(),
                1 => self.leaves[usize::try_from(leaves.start).unwrap()],
                n => {
                    let mut k = 1;
                    while k * 2 < n {
                        k *= 2;
                    }
                    let middle = leaves.start + k;
                    let left = self.root(leaves.start..middle);
                    let right = self.root(middle..leaves.end);
                    self.kind.node(left, right)
                }
            };
            self.known.insert(leaves, root);
            root
        }

        pub(crate) fn path(&mut self, ranges: Vec<Range<u64>>) -> Vec<Hash> {
            ranges.into_iter().map(|range| self.root(range)).collect()
        }

        fn check_size(&mut self, size: u64) {
            let root = self.root(0..size);
            for index in 0..size {
                self.check_inclusion(index, size, root);
            }
            for old in 0..=size {
                self.check_consistency(old, size, root);
            }
        }

        fn check_inclusion(&mut self, index: u64, size: u64, root: Hash) {
            let path = self.path(inclusion_path(index, size));
            let leaf = self.leaves[usize::try_from(index).unwrap()];
            assert_eq!(
                verify_inclusion(self.kind, index, size, leaf, &path, root),
                Ok(())
            );
        }

        fn check_consistency(&mut self, old: u64, new: u64, root: Hash) {
            let path = self.path(consistency_path(old, new));
            let old_root = self.root(0..old);
            assert_eq!(
                verify_consistency(self.kind, old, old_root, new, root, &path),
                Ok(())
            );
        }
    }

    #[test]
    fn proofs_of_all_small_sizes_verify() {
        for (kind, most) in [(HashKind::Blake3, 300), (HashKind::Sha256, 70)] {
            let mut naive = Naive::new(kind, most);
            for size in 0..=most {
                naive.check_size(size);
            }
        }
    }

    #[test]
    fn proofs_of_all_sizes_to_2000_verify() {
        let mut random = fastrand::Rng::with_seed(6);
        let mut naive = Naive::new(HashKind::Blake3, 2000);
        for size in 1..=2000 {
            let root = naive.root(0..size);
            let some: [u64; 8] = std::array::from_fn(|_| random.u64(0..size));
            for index in some.into_iter().chain([0, size - 1]) {
                naive.check_inclusion(index, size, root);
                naive.check_consistency(index, size, root);
            }
        }
    }

    #[test]
    fn frontier_has_the_naive_root_at_every_size() {
        let mut naive = Naive::new(HashKind::Blake3, 1100);
        let mut frontier = Frontier::new(HashKind::Blake3);
        let mut nodes = HashMap::new();
        for size in 0..1100 {
            assert_eq!(frontier.root(), naive.root(0..size), "size {size}");
            let node = |node: Node| nodes.get(&node).copied().ok_or(node);
            assert_eq!(
                hash_of(HashKind::Blake3, &(0..size), node),
                Ok(frontier.root())
            );
            let leaf = naive.leaves[usize::try_from(size).unwrap()];
            frontier.push(leaf, |node, hash| {
                nodes.insert(node, hash);
            });
        }
    }

    #[test]
    fn wrong_claims_are_rejected() {
        let kind = HashKind::Blake3;
        let mut naive = Naive::new(kind, 64);
        for size in 1..=20 {
            let root = naive.root(0..size);
            for index in 0..size {
                let path = naive.path(inclusion_path(index, size));
                let leaf = naive.leaves[usize::try_from(index).unwrap()];
                let rejects = |index, leaf, path: &[Hash]| {
                    assert!(verify_inclusion(kind, index, size, leaf, path, root).is_err());
                };
                (0..4 * size)
                    .filter(|&i| i != index)
                    .for_each(|i| rejects(i, leaf, &path));
                rejects(index, root, &[&path[..], &[root]].concat());
                rejects(index, leaf, &[&path[..], &[leaf]].concat());
                rejects(index, kind.leaf(b"other"), &path);
                if let Some((_, shorter)) = path.split_last() {
                    rejects(index, leaf, shorter);
                }
            }
            for old in 1..size {
                let path = naive.path(consistency_path(old, size));
                let old_root = naive.root(0..old);
                let rejects = |old, old_root, path: &[Hash]| {
                    assert!(verify_consistency(kind, old, old_root, size, root, path).is_err());
                };
                rejects(old, kind.leaf(b"other"), &path);
                rejects(old, old_root, &[&path[..], &[root]].concat());
                rejects(old, old_root, &path[1..]);
                rejects(size + 1, old_root, &path);
                rejects(size, old_root, &[]);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn proofs_of_random_sizes_verify(size in 1..3000_u64, index: u64, old: u64) {
            let mut naive = Naive::new(HashKind::Blake3, size);
            let root = naive.root(0..size);
            naive.check_inclusion(index % size, size, root);
            naive.check_consistency(old % (size + 1), size, root);
        }

        #[test]
        fn verifiers_survive_any_claim(
            (index, size, old) in any::<(u64, u64, u64)>(),
            path in proptest::collection::vec(any::<[u8; 32]>(), 0..70),
        ) {
            let path: Vec<Hash> = path.into_iter().map(Hash).collect();
            let (kind, hash) = (HashKind::Blake3, Hash([7; 32]));
            prop_assert!(verify_inclusion(kind, index, size, hash, &path, Hash([8; 32])).is_err());
            prop_assert!(
                verify_consistency(kind, old, hash, size, Hash([8; 32]), &path).is_err()
            );
        }
    }
}
