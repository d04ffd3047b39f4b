//! Inclusion of several leaves at once: what their paths share is there once.
//!
//! The tree is climbed from the leaves to the root. On each level, from left to right, a node whose
//! sibling is not known needs the sibling's hash, and that is the order of the hashes in a proof. So
//! the proof of one leaf is its inclusion proof, and of all leaves it is empty.

use std::ops::Range;

use crate::hash::{Hash, HashKind};
use crate::proof::ProofError;

/// The ranges whose hashes prove the leaves at `indexes`, in the proof's order. The indexes are
/// ascending, without repetition, and below `size`.
pub(crate) fn batch_path(indexes: &[u64], size: u64) -> Vec<Range<u64>> {
    let mut path = Vec::new();
    let mut nodes: Vec<(u64, ())> = indexes.iter().map(|&index| (index, ())).collect();
    let mut last = size.saturating_sub(1);
    for level in 0_u8.. {
        if last == 0 {
            break;
        }
        let sibling = |position: u64| {
            let start = position << level;
            path.push(start..start.saturating_add(1 << level).min(size));
            Some(())
        };
        nodes = climb(&nodes, last, sibling, |(), ()| ()).unwrap_or_default();
        last >>= 1;
    }
    path
}

/// Verifies that each of `leaves`, an index and a leaf hash, is in the tree of `size` leaves with
/// `root`. The indexes must ascend.
///
/// `size` and `root` must come from a verified checkpoint: a path alone does not fix the size.
pub fn verify_batch(
    kind: HashKind,
    leaves: &[(u64, Hash)],
    size: u64,
    path: &[Hash],
    root: Hash,
) -> Result<(), ProofError> {
    check_indexes(leaves.iter().map(|(index, _)| *index), size)?;
    let wrong_length = ProofError::Length { found: path.len() };
    let mut rest = path.iter();
    let mut nodes = leaves.to_vec();
    let mut last = size - 1;
    while last > 0 {
        let sibling = |_| rest.next().copied();
        let join = |left, right| kind.node(left, right);
        nodes = climb(&nodes, last, sibling, join).ok_or(wrong_length)?;
        last >>= 1;
    }
    match (rest.next(), nodes.first()) {
        (None, Some((_, found))) if *found == root => Ok(()),
        (None, _) => Err(ProofError::Root),
        (Some(_), _) => Err(wrong_length),
    }
}

/// Whether there is an index, and all ascend and are below `size`.
pub(crate) fn check_indexes(
    indexes: impl Iterator<Item = u64>,
    size: u64,
) -> Result<(), ProofError> {
    let mut before = None;
    for index in indexes {
        if before.is_some_and(|before| before >= index) {
            return Err(ProofError::Unsorted { index });
        }
        if index >= size {
            return Err(ProofError::IndexBeyondSize { index, size });
        }
        before = Some(index);
    }
    before.map(drop).ok_or(ProofError::NoLeaves)
}

/// One level up: the parents of `nodes`, which are positions in a level whose last one is `last`, and
/// ascend. `None` when a sibling that is needed is not to be had.
fn climb<T: Copy>(
    nodes: &[(u64, T)],
    last: u64,
    mut sibling: impl FnMut(u64) -> Option<T>,
    join: impl Fn(T, T) -> T,
) -> Option<Vec<(u64, T)>> {
    let mut parents = Vec::with_capacity(nodes.len());
    let mut nodes = nodes.iter().copied().peekable();
    while let Some((position, node)) = nodes.next() {
        let parent = if position & 1 == 1 {
            // Its left sibling, had it been known, would have taken it along.
            join(sibling(position - 1)?, node)
        } else if let Some((_, right)) = nodes.next_if(|(next, _)| *next == position + 1) {
            join(node, right)
        } else if position == last {
            // Without a right sibling it is promoted unchanged.
            node
        } else {
            join(node, sibling(position + 1)?)
        };
        parents.push((position >> 1, parent));
    }
    Some(parents)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::hash::tests::Blake3Nodes;
    use crate::proof::inclusion_path;
    use crate::proof::tests::Naive;

    fn claim(naive: &Naive, indexes: &[u64]) -> Vec<(u64, Hash)> {
        let leaf = |&index| (index, naive.leaves[usize::try_from(index).unwrap()]);
        indexes.iter().map(leaf).collect()
    }

    fn check(naive: &mut Naive, indexes: &BTreeSet<u64>, size: u64) {
        let indexes: Vec<u64> = indexes.iter().copied().collect();
        let (root, path) = (naive.root(0..size), batch_path(&indexes, size));
        let path = naive.path(path);
        let verified = verify_batch(naive.kind, &claim(naive, &indexes), size, &path, root);
        assert_eq!(verified, Ok(()), "{indexes:?} of {size}");
    }

    /// Sets of few, of half and of most leaves, in one place or all over.
    fn some_sets(size: u64, random: &mut fastrand::Rng) -> Vec<BTreeSet<u64>> {
        let mut sets = vec![BTreeSet::from([0, size - 1])];
        for count in [1, 2, 7, size / 2, size] {
            sets.push((0..count.max(1)).map(|_| random.u64(0..size)).collect());
        }
        let start = random.u64(0..size);
        sets.push((start..size.min(start + 9)).collect());
        sets
    }

    #[test]
    fn batches_of_all_sizes_to_2000_verify() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut naive = Naive::new(HashKind::Blake3, 2000);
        for size in 1..=2000 {
            for set in some_sets(size, &mut random) {
                check(&mut naive, &set, size);
            }
        }
    }

    #[test]
    fn every_batch_of_a_small_tree_verifies() {
        for kind in [HashKind::Blake3, HashKind::Sha256] {
            let mut naive = Naive::new(kind, 9);
            for size in 1..=9 {
                for bits in 1..1_u64 << size {
                    let set = (0..size).filter(|bit| bits >> bit & 1 == 1).collect();
                    check(&mut naive, &set, size);
                }
            }
        }
    }

    #[test]
    fn of_one_leaf_it_is_the_inclusion_proof_and_of_all_leaves_empty() {
        for size in 1..200 {
            for index in 0..size {
                assert_eq!(batch_path(&[index], size), inclusion_path(index, size));
            }
            let all: Vec<u64> = (0..size).collect();
            assert_eq!(batch_path(&all, size), []);
        }
        let most = u64::MAX;
        assert_eq!(
            batch_path(&[most - 1], most),
            inclusion_path(most - 1, most)
        );
        assert_eq!(batch_path(&[0], most), inclusion_path(0, most));
    }

    /// The same hashes in the same order, and its verifier accepts them.
    #[test]
    fn rs_merkle_makes_the_same_proofs() {
        let mut random = fastrand::Rng::with_seed(8);
        let mut naive = Naive::new(HashKind::Blake3, 400);
        for size in 1..=400 {
            let count = usize::try_from(size).unwrap();
            let leaves: Vec<[u8; 32]> = naive.leaves[..count].iter().map(|leaf| leaf.0).collect();
            let theirs = rs_merkle::MerkleTree::<Blake3Nodes>::from_leaves(&leaves);
            for set in some_sets(size, &mut random) {
                let indexes: Vec<u64> = set.into_iter().collect();
                let places: Vec<usize> = indexes.iter().map(|&i| i.try_into().unwrap()).collect();
                let proof = theirs.proof(&places);
                let path = naive.path(batch_path(&indexes, size));
                let path: Vec<[u8; 32]> = path.iter().map(|hash| hash.0).collect();
                assert_eq!(proof.proof_hashes(), path, "{indexes:?} of {size}");
                let claimed: Vec<[u8; 32]> = places.iter().map(|&place| leaves[place]).collect();
                let root = naive.root(0..size).0;
                assert!(proof.verify(root, &places, &claimed, count));
            }
        }
    }

    #[test]
    fn wrong_claims_are_rejected() {
        let kind = HashKind::Blake3;
        let mut random = fastrand::Rng::with_seed(9);
        let mut naive = Naive::new(kind, 64);
        for size in 1..=40 {
            let root = naive.root(0..size);
            for set in some_sets(size, &mut random) {
                let indexes: Vec<u64> = set.into_iter().collect();
                let path = naive.path(batch_path(&indexes, size));
                let leaves = claim(&naive, &indexes);
                let rejects = |leaves: &[(u64, Hash)], size, path: &[Hash]| {
                    let verified = verify_batch(kind, leaves, size, path, root);
                    verified.expect_err("a wrong claim holds")
                };
                for place in 0..leaves.len() {
                    let mut other = leaves.clone();
                    other[place].1 = kind.leaf(b"other");
                    assert_eq!(rejects(&other, size, &path), ProofError::Root);
                    other[place] = leaves[place];
                    other.insert(place, leaves[place]);
                    let index = leaves[place].0;
                    assert_eq!(rejects(&other, size, &path), ProofError::Unsorted { index });
                    other[place].0 = size + u64::try_from(place).unwrap();
                    other.truncate(place + 1);
                    let beyond = rejects(&other, size, &path);
                    assert!(
                        matches!(beyond, ProofError::IndexBeyondSize { .. }),
                        "{beyond}"
                    );
                }
                for place in 0..path.len() {
                    let mut other = path.clone();
                    other[place] = kind.leaf(b"other");
                    assert_eq!(rejects(&leaves, size, &other), ProofError::Root);
                    other.remove(place);
                    let found = other.len();
                    assert_eq!(rejects(&leaves, size, &other), ProofError::Length { found });
                }
                let found = path.len() + 1;
                let longer = [&path[..], &[root]].concat();
                assert_eq!(
                    rejects(&leaves, size, &longer),
                    ProofError::Length { found }
                );
                if leaves.len() > 1 {
                    let reversed: Vec<_> = leaves.iter().rev().copied().collect();
                    let unsorted = rejects(&reversed, size, &path);
                    assert!(
                        matches!(unsorted, ProofError::Unsorted { .. }),
                        "{unsorted}"
                    );
                }
            }
            let nothing = verify_batch(kind, &[], size, &[], root);
            assert_eq!(nothing, Err(ProofError::NoLeaves));
        }
        assert!(verify_batch(kind, &[(0, kind.empty())], 0, &[], kind.empty()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn batches_of_random_sizes_verify(
            size in 2000..6000_u64,
            indexes in proptest::collection::btree_set(any::<u64>(), 1..40),
        ) {
            let mut naive = Naive::new(HashKind::Sha256, size);
            check(&mut naive, &indexes.iter().map(|index| index % size).collect(), size);
        }

        #[test]
        fn the_verifier_survives_any_claim(
            size: u64,
            indexes in proptest::collection::btree_set(any::<u64>(), 0..9),
            path in proptest::collection::vec(any::<[u8; 32]>(), 0..70),
        ) {
            let path: Vec<Hash> = path.into_iter().map(Hash).collect();
            let leaves: Vec<_> = indexes.into_iter().map(|index| (index, Hash([7; 32]))).collect();
            let root = Hash([8; 32]);
            prop_assert!(verify_batch(HashKind::Blake3, &leaves, size, &path, root).is_err());
        }
    }
}
