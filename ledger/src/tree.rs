//! The RFC 6962 tree as arithmetic: which nodes exist, how they fold, and the live frontier.
//!
//! No structure here holds leaves. The frontier keeps one hash per set bit of the size.

use std::ops::Range;

use crate::hash::{Hash, HashKind};

/// A complete subtree: the leaves `index << level .. (index + 1) << level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Node {
    pub(crate) level: u8,
    pub(crate) index: u64,
}

impl Node {
    /// Its leaves.
    pub(crate) fn leaves(self) -> Range<u64> {
        self.index << self.level..(self.index + 1) << self.level
    }

    /// The two that it is made of; `level` is not 0.
    pub(crate) fn children(self) -> [Node; 2] {
        let (level, left) = (self.level - 1, self.index << 1);
        [left, left + 1].map(|index| Node { level, index })
    }
}

/// The live tree as a compact range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frontier {
    kind: HashKind,
    size: u64,
    /// Complete subtrees, largest first: one per set bit of `size`.
    nodes: Vec<Hash>,
}

impl Frontier {
    pub(crate) fn new(kind: HashKind) -> Frontier {
        Frontier {
            kind,
            size: 0,
            nodes: Vec::new(),
        }
    }

    /// The frontier of `size` leaves with these nodes, if there are as many as it must have.
    pub(crate) fn restore(kind: HashKind, size: u64, nodes: Vec<Hash>) -> Option<Frontier> {
        let expected = usize::try_from(size.count_ones()).ok()?;
        (nodes.len() == expected).then_some(Frontier { kind, size, nodes })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn kind(&self) -> HashKind {
        self.kind
    }

    pub(crate) fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// Appends a leaf hash and shows every node this completes, leaf first.
    pub(crate) fn push(&mut self, leaf: Hash, completed: impl FnMut(Node, Hash)) {
        self.push_subtree(0, leaf, completed);
    }

    /// Appends a complete subtree of `2^level` leaves, of which the size is a multiple.
    pub(crate) fn push_subtree(
        &mut self,
        level: u8,
        hash: Hash,
        mut completed: impl FnMut(Node, Hash),
    ) {
        let leaves = 1 << level;
        debug_assert!(self.size.is_multiple_of(leaves), "where a subtree starts");
        let (mut node, mut hash) = (
            Node {
                level,
                index: self.size >> level,
            },
            hash,
        );
        completed(node, hash);
        while node.index & 1 == 1 {
            let left = self.nodes.pop().expect("one hash per set bit of the size");
            hash = self.kind.node(left, hash);
            node = Node {
                level: node.level + 1,
                index: node.index >> 1,
            };
            completed(node, hash);
        }
        self.nodes.push(hash);
        self.size += leaves;
    }

    /// Goes back to the last size that is a multiple of `2^level`.
    pub(crate) fn cut_to(&mut self, level: u8) {
        self.size = self.size >> level << level;
        let nodes = usize::try_from(self.size.count_ones()).expect("at most 64");
        self.nodes.truncate(nodes);
    }

    pub(crate) fn root(&self) -> Hash {
        fold(self.kind, self.nodes.iter().copied())
    }
}

/// Folds complete subtrees, largest first, into the hash over all of them.
pub(crate) fn fold(kind: HashKind, nodes: impl DoubleEndedIterator<Item = Hash>) -> Hash {
    let root = nodes.rev().reduce(|right, left| kind.node(left, right));
    root.unwrap_or_else(|| kind.empty())
}

/// The complete subtrees that make up `leaves`, largest first.
///
/// `leaves` must start where the RFC 6962 tree puts a subtree: at a multiple of the smallest power
/// of two not less than its length.
pub(crate) fn subtrees(leaves: &Range<u64>) -> Vec<Node> {
    let len = leaves.end - leaves.start;
    let mut start = leaves.start;
    let bits = (0..u64::BITS as u8).rev().filter(|bit| len >> bit & 1 == 1);
    bits.map(|level| {
        let node = Node {
            level,
            index: start >> level,
        };
        start += 1 << level;
        node
    })
    .collect()
}

/// The hash over `leaves` (as in [`subtrees`]), asking `node` for complete subtrees.
pub(crate) fn hash_of<E>(
    kind: HashKind,
    leaves: &Range<u64>,
    mut node: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Hash, E> {
    let nodes: Vec<Hash> = subtrees(leaves)
        .into_iter()
        .map(&mut node)
        .collect::<Result<_, E>>()?;
    Ok(fold(kind, nodes.into_iter()))
}

/// The largest power of two below `n`; `n` is at least 2.
pub(crate) fn split(n: u64) -> u64 {
    1 << (u64::BITS - 1 - (n - 1).leading_zeros())
}

/// The root over a power of two of hashes of one level.
pub(crate) fn perfect_root(kind: HashKind, mut hashes: Vec<Hash>) -> Hash {
    debug_assert!(hashes.len().is_power_of_two(), "a complete subtree");
    while hashes.len() > 1 {
        hashes = hashes
            .chunks_exact(2)
            .map(|pair| kind.node(pair[0], pair[1]))
            .collect();
    }
    hashes.pop().unwrap_or_else(|| kind.empty())
}
