//! What is left of dropped leaves: the hashes that proofs of other leaves and of sizes that were
//! signed still need. `docs/ledger-format.md` draws the file.
//!
//! One file stands for the segments of one gap: the roots over each 256 leaves that end in it, and
//! of the nodes below those the few that a listed checkpoint or the first leaf kept asks for.

use std::io;
use std::path::Path;

use crate::disk;
use crate::error::{Cause, Error};
use crate::gap::Gap;
use crate::hash::{Hash, HashKind, blake3_of};
use crate::layout;
use crate::proof::consistency_path;
use crate::tiles::TILE_HEIGHT;
use crate::tree::{Frontier, Node, subtrees};

const MAGIC: &[u8; 8] = b"DEYETRE\n";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 64;
/// Where a header has the end of the leaves.
const END_AT: usize = 24;
const NODE_BYTES: usize = 48;

/// Leaves of a block: the least that a tile has a hash of.
pub(crate) const BLOCK: u64 = 1 << TILE_HEIGHT;

/// No gap is of so many leaves that its remains are longer.
pub(crate) const MAX_BYTES: u64 = 256 << 20;

/// The hashes that are left of the leaves `first..end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remains {
    pub(crate) kind: HashKind,
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) origin: Hash,
    /// The roots of the blocks that end in it.
    pub(crate) blocks: Vec<Hash>,
    /// Smaller subtrees that end in it, ascending.
    pub(crate) low: Vec<(Node, Hash)>,
}

impl Remains {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[self.kind.code(), 0]);
        let low = u32::try_from(self.low.len()).expect("a few for each checkpoint");
        bytes.extend_from_slice(&low.to_le_bytes());
        for n in [self.first, self.end] {
            bytes.extend_from_slice(&n.to_le_bytes());
        }
        bytes.extend_from_slice(&self.origin.0);
        for hash in &self.blocks {
            bytes.extend_from_slice(&hash.0);
        }
        for (node, hash) in &self.low {
            bytes.extend_from_slice(&u64::from(node.level).to_le_bytes());
            bytes.extend_from_slice(&node.index.to_le_bytes());
            bytes.extend_from_slice(&hash.0);
        }
        bytes
    }

    /// `None` where the bytes are not as they must be.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Remains> {
        let (header, bytes) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let number = |at: usize| Some(u64::from_le_bytes(*header[at..].first_chunk()?));
        let version = u16::from_le_bytes([header[8], header[9]]);
        if &header[..8] != MAGIC || version != VERSION || header[11] != 0 {
            return None;
        }
        let low = usize::try_from(u32::from_le_bytes(*header[12..].first_chunk()?)).ok()?;
        let (first, end) = (number(16)?, number(END_AT)?);
        let blocks = (end >> TILE_HEIGHT).checked_sub(first >> TILE_HEIGHT)?;
        let block_bytes = usize::try_from(blocks).ok()?.checked_mul(Hash::LEN)?;
        let (blocks, low_bytes) = bytes.split_at_checked(block_bytes)?;
        let (low_nodes, []) = low_bytes.as_chunks::<NODE_BYTES>() else {
            return None;
        };
        let low_nodes: Vec<_> = low_nodes.iter().map(low_node).collect::<Option<_>>()?;
        let is_sound = low_nodes.len() == low && low_nodes.is_sorted_by(|(a, _), (b, _)| a < b);
        if !is_sound {
            return None;
        }
        Some(Remains {
            kind: HashKind::from_code(header[10])?,
            first,
            end,
            origin: Hash::read(&header[32..])?,
            blocks: blocks.as_chunks().0.iter().copied().map(Hash).collect(),
            low: low_nodes,
        })
    }

    /// A subtree below those of the blocks, if it is here.
    pub(crate) fn low(&self, node: Node) -> Option<Hash> {
        let found = self.low.binary_search_by_key(&node, |(node, _)| *node);
        found.ok().map(|at| self.low[at].1)
    }

    /// Brings `frontier`, of the leaves before it, to its end; shows every node that this completes
    /// and is known. `None` where that cannot be.
    pub(crate) fn replay(
        &self,
        frontier: &mut Frontier,
        mut completed: impl FnMut(Node, Hash),
    ) -> Option<()> {
        if frontier.size() != self.first || frontier.kind() != self.kind {
            return None;
        }
        for &(node, hash) in &self.low {
            completed(node, hash);
        }
        frontier.cut_to(TILE_HEIGHT);
        for &hash in &self.blocks {
            frontier.push_subtree(TILE_HEIGHT, hash, &mut completed);
        }
        for node in low_frontier(self.end) {
            frontier.push_subtree(node.level, self.low(node)?, |_, _| ());
        }
        Some(())
    }

    /// The root over the first `size` leaves, given the frontier of the blocks before it; `None` if
    /// it is not known.
    pub(crate) fn root(&self, mut blocks: Frontier, size: u64) -> Option<Hash> {
        for node in low_frontier(size) {
            blocks.push_subtree(node.level, self.low(node)?, |_, _| ());
        }
        (blocks.size() == size).then(|| blocks.root())
    }
}

fn low_node(bytes: &[u8; NODE_BYTES]) -> Option<(Node, Hash)> {
    let (level, bytes) = bytes.split_first_chunk()?;
    let (index, hash) = bytes.split_first_chunk()?;
    let node = Node {
        level: u8::try_from(u64::from_le_bytes(*level)).ok()?,
        index: u64::from_le_bytes(*index),
    };
    (node.level < TILE_HEIGHT).then_some((node, Hash::read(hash)?))
}

/// The subtrees that a tree of `size` leaves has below its last whole block, largest first.
pub(crate) fn low_frontier(size: u64) -> Vec<Node> {
    let mut nodes = subtrees(&(0..size));
    nodes.retain(|node| node.level < TILE_HEIGHT);
    nodes
}

/// The subtrees below those of blocks that it takes to tell the root at `size`, and to prove that a
/// larger tree begins with it.
pub(crate) fn asked_by(size: u64) -> Vec<Node> {
    if size.is_multiple_of(BLOCK) {
        return Vec::new();
    }
    let path = consistency_path(size, size.next_multiple_of(BLOCK));
    let mut nodes: Vec<Node> = path.iter().flat_map(subtrees).collect();
    nodes.retain(|node| node.level < TILE_HEIGHT);
    nodes.extend(low_frontier(size));
    nodes
}

/// The remains that begin at leaf `first`, not held against anything.
pub(crate) fn read(dir: &Path, first: u64) -> Result<(Remains, Hash), Error> {
    let path = layout::remains(dir, first);
    let damaged = |cause| Error::damaged(&path, 0, first..first + 1, cause);
    let bytes = disk::read_small(&path, MAX_BYTES)?.ok_or_else(|| damaged(Cause::Missing))?;
    let remains = Remains::decode(&bytes).filter(|remains| remains.first == first);
    let remains = remains.ok_or_else(|| damaged(Cause::Gap("it is not what is left of leaves")))?;
    Ok((remains, blake3_of(&[&bytes])))
}

/// The remains of a gap, as its statement has them.
pub(crate) fn of(dir: &Path, gap: &Gap, kind: HashKind, origin: Hash) -> Result<Remains, Error> {
    let (remains, digest) = read(dir, gap.first)?;
    let is_it = digest == gap.remains
        && (remains.kind, remains.end, remains.origin) == (kind, gap.end, origin);
    match is_it {
        true => Ok(remains),
        false => {
            let path = layout::remains(dir, gap.first);
            let cause = Cause::Gap("what is left of them is not what was recorded");
            Err(Error::damaged(&path, 0, gap.first..gap.end, cause))
        }
    }
}

/// A subtree smaller than a block, of leaves that were dropped. What it leads to is held against
/// what was signed by whoever uses it.
pub(crate) fn find(dir: &Path, node: Node) -> Result<Option<Hash>, Error> {
    let end = node.leaves().end;
    let firsts = disk::remains(dir)?;
    let Some(&first) = firsts.iter().rev().find(|&&first| first < end) else {
        return Ok(None);
    };
    let (remains, _) = read(dir, first)?;
    Ok(remains.low(node))
}

/// Where the leaves end that were dropped together with `leaf`, or are about to be: files of them may be
/// left after a crash. As trustworthy as [`find`].
pub(crate) fn end_of_dropped(dir: &Path, leaf: u64) -> Result<Option<u64>, Error> {
    let firsts = disk::remains(dir)?;
    let Some(&first) = firsts.iter().rev().find(|&&first| first <= leaf) else {
        return Ok(None);
    };
    let path = layout::remains(dir, first);
    let mut end = [0; 8];
    let file = disk::open(&path).map_err(Error::io("open", &path))?;
    match file.read_exact_at(END_AT as u64, &mut end) {
        Ok(()) => Ok(Some(u64::from_le_bytes(end)).filter(|end| leaf < *end)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(Error::io("read", &path)(e)),
    }
}

/// The frontier at leaf `kept_from`, or after it where it is among leaves that were dropped; shows all
/// nodes that are known below it. As trustworthy as [`find`].
pub(crate) fn frontier(
    dir: &Path,
    kind: HashKind,
    kept_from: u64,
    mut completed: impl FnMut(Node, Hash),
) -> Result<Frontier, Error> {
    let mut frontier = Frontier::new(kind);
    while frontier.size() < kept_from {
        let first = frontier.size();
        let (remains, _) = read(dir, first)?;
        let replayed = remains.replay(&mut frontier, &mut completed);
        replayed.ok_or_else(|| {
            let cause = Cause::Gap("what is left of them does not go on");
            Error::damaged(&layout::remains(dir, first), 0, first..kept_from, cause)
        })?;
    }
    Ok(frontier)
}
