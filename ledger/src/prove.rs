//! Builds proofs: from the tree and a few leaves, or, where those lead nowhere, from a whole scan.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use redb::Database;

use crate::checkpoint::Checkpoint;
use crate::disk;
use crate::error::{Cause, Error};
use crate::hash::{Hash, HashKind};
use crate::index::{self, Index, LeafPlace, OFFSET_STRIDE};
use crate::keys::PublicKeys;
use crate::layout;
use crate::proof::{inclusion_path, verify_inclusion};
use crate::published;
use crate::reader::Reader;
use crate::remains;
use crate::segment;
use crate::tiles::{self, TILE_HEIGHT, Tile, Tiles};
use crate::tlog_proof::TlogProof;
use crate::tree::{Node, hash_of, perfect_root, subtrees};
use crate::tree_file::{KnownBlocks, TreeFile};

/// Proves that the leaf at `index` is in the log in `dir`, at checkpoint `at` or else the last one of the
/// leaf's epoch. Works while a writer runs.
pub fn prove(dir: &Path, index: u64, at: Option<&Checkpoint>) -> Result<TlogProof, Error> {
    prove_telling(dir, index, at, &mut |_| ())
}

/// As [`prove`]. Where the tree beside the log is of no use, the proof is made of all leaves, which
/// takes as long as the log is; why is then told.
pub fn prove_telling(
    dir: &Path,
    index: u64,
    at: Option<&Checkpoint>,
    tell: &mut dyn FnMut(&Error),
) -> Result<TlogProof, Error> {
    let (keys, last) = published::signed(dir, None)?;
    let checkpoint = &vouching(dir, &keys, index, at, last.as_ref())?;
    let size = checkpoint.size();
    let kind = hash_kind(dir)?;
    let path = inclusion_path(index, size);
    // Not trusted: a proof that does not lead to the signed root is built again from the log.
    let reader = &mut Reader::open(dir)?;
    let built = from_tree(dir, kind, reader, &path)
        .and_then(|hashes| proof(kind, index, hashes, checkpoint, reader));
    let unusable = match built {
        Ok(proof) => return Ok(proof),
        Err(error) => of_the_tree(dir, error),
    };
    let hashes = from_scan(dir, kind, size, &path)?;
    let proof = proof(
        kind,
        index,
        hashes,
        checkpoint,
        &mut Reader::without_places(dir)?,
    )?;
    tell(&unusable);
    Ok(proof)
}

/// Why the tree beside the log was of no use, as it turned out when the log itself was.
pub(crate) fn of_the_tree(dir: &Path, error: Error) -> Error {
    match error {
        Error::Damaged(damage) if damage.file == layout::tree(dir) => Error::Damaged(damage),
        // It says nothing of the tree.
        Error::Io { .. } => error,
        _ => {
            let cause = Cause::Index("it is not the tree that was signed for");
            Error::damaged(&layout::tree(dir), 0, 0..0, cause)
        }
    }
}

/// The checkpoint to prove a leaf under, which keys of its own epoch must have signed.
pub(crate) fn vouching(
    dir: &Path,
    keys: &PublicKeys,
    index: u64,
    at: Option<&Checkpoint>,
    last: Option<&Checkpoint>,
) -> Result<Checkpoint, Error> {
    let sealed = at.or(last).map_or(0, Checkpoint::size);
    let checkpoint = at.or(last).filter(|checkpoint| index < checkpoint.size());
    let checkpoint = checkpoint.ok_or(Error::NotIntegrated { index, sealed })?;
    if index >= keys.first_leaf_at(sealed) {
        return Ok(checkpoint.clone());
    }
    match (at, keys.closed_at(index)) {
        (None, Some(closed)) => published::checkpoint_of(dir, keys, closed),
        _ => Err(Error::LaterEpoch {
            index,
            size: sealed,
        }),
    }
}

/// Assembles a proof and verifies it before anyone sees it.
pub(crate) fn proof(
    kind: HashKind,
    index: u64,
    path: Vec<Hash>,
    checkpoint: &Checkpoint,
    reader: &mut Reader,
) -> Result<TlogProof, Error> {
    let (size, root) = (checkpoint.size(), checkpoint.root());
    let leaf = kind.leaf(&leaf(reader, index)?);
    match verify_inclusion(kind, index, size, leaf, &path, root) {
        Ok(()) => Ok(TlogProof {
            hash: kind,
            index,
            path,
            note: checkpoint.note().to_owned(),
        }),
        Err(_) => Err(Error::damaged(
            &reader.entries(),
            0,
            0..size,
            Cause::Root { size },
        )),
    }
}

/// What knows the hashes of subtrees of level 8 or more, and where leaves stand. Nothing of it is
/// trusted.
pub(crate) trait Known {
    fn subtree(&self, kind: HashKind, node: Node) -> Result<Hash, Error>;

    /// A place at or before `leaf`.
    fn place(&self, leaf: u64) -> Result<Option<(u64, LeafPlace)>, Error>;
}

/// The writer's index, with what it does not have yet.
pub(crate) struct Indexed<'a> {
    dir: &'a Path,
    tiles: &'a Tiles,
    database: &'a Database,
}

impl<'a> Indexed<'a> {
    /// `tiles` are those that the index does not have yet.
    pub(crate) fn new(dir: &'a Path, tiles: &'a Tiles, index: &'a Index) -> Self {
        Self {
            dir,
            tiles,
            database: index.database(),
        }
    }

    fn failed(&self, source: redb::Error) -> Error {
        Error::Index {
            path: layout::index(self.dir),
            source: Box::new(source),
        }
    }
}

impl KnownBlocks for Indexed<'_> {
    fn roots(&self, first: u64) -> Result<Tile, Error> {
        let node = Node {
            level: TILE_HEIGHT,
            index: first,
        };
        let (id, _) = tiles::place(node);
        match self.tiles.tile(id) {
            Some(tile) => Ok(tile.clone()),
            None => {
                let tile = index::tile(self.database, id).map_err(|e| self.failed(e))?;
                Ok(tile.unwrap_or_default())
            }
        }
    }

    fn starts(&self) -> Result<impl Iterator<Item = Result<(u64, u64), Error>>, Error> {
        let places = index::places(self.database).map_err(|e| self.failed(e))?;
        Ok(places.map(|row| {
            let (leaf, place) = row.map_err(|e| self.failed(e))?;
            Ok((leaf, place.offset))
        }))
    }
}

impl Known for Indexed<'_> {
    fn subtree(&self, kind: HashKind, node: Node) -> Result<Hash, Error> {
        if let Some(hash) = self.tiles.node(kind, node) {
            return Ok(hash);
        }
        let (id, _) = tiles::place(node);
        let tile = index::tile(self.database, id).map_err(|e| self.failed(e))?;
        let hash = tile.and_then(|tile| tiles::node_in(kind, &tile, node));
        let missing = Cause::Index("a tile is missing");
        hash.ok_or_else(|| Error::damaged(&layout::index(self.dir), 0, node.leaves(), missing))
    }

    fn place(&self, leaf: u64) -> Result<Option<(u64, LeafPlace)>, Error> {
        index::place(self.database, leaf).map_err(|e| self.failed(e))
    }
}

/// Where complete subtrees come from: what is known from level 8 up, leaves below.
pub(crate) struct Nodes<'a, K> {
    pub(crate) kind: HashKind,
    pub(crate) known: K,
    pub(crate) reader: &'a mut Reader,
}

impl<K: Known> Nodes<'_, K> {
    pub(crate) fn hashes(&mut self, path: &[Range<u64>]) -> Result<Vec<Hash>, Error> {
        let mut hashes = vec![Hash([0; Hash::LEN]); path.len()];
        for at in reading_order(path) {
            hashes[at] = self.hash(&path[at])?;
        }
        Ok(hashes)
    }

    pub(crate) fn hash(&mut self, leaves: &Range<u64>) -> Result<Hash, Error> {
        let kind = self.kind;
        hash_of(kind, leaves, |node| match node.level >= TILE_HEIGHT {
            true => self.known.subtree(kind, node),
            false => self.hashed(node),
        })
    }

    fn hashed(&mut self, node: Node) -> Result<Hash, Error> {
        match self.hash_leaves(node) {
            Err(Error::NotKept { .. }) => self.remaining(node),
            hash => hash,
        }
    }

    /// A subtree that begins with a leaf that was dropped.
    fn remaining(&mut self, node: Node) -> Result<Hash, Error> {
        if let Some(hash) = self.reader.remains(node)? {
            return Ok(hash);
        }
        if node.level == 0 {
            return Err(self.reader.not_kept(node.index));
        }
        let [left, right] = node.children();
        Ok(self.kind.node(self.hashed(left)?, self.hashed(right)?))
    }

    fn hash_leaves(&mut self, node: Node) -> Result<Hash, Error> {
        let first = node.index << node.level;
        // What the writer alone knows is the place of the last block, which is not whole.
        let is_near = |leaf: u64| first - leaf < 2 * OFFSET_STRIDE;
        if let Some((leaf, place)) = self.known.place(first)?.filter(|(leaf, _)| is_near(*leaf)) {
            self.reader.hint(leaf, place)?;
        }
        let leaves = first..first + (1 << node.level);
        let hashes = leaves.map(|index| {
            let hash = self.reader.hash(self.kind, index)?;
            hash.ok_or_else(|| no_leaf(self.reader, index))
        });
        Ok(perfect_root(
            self.kind,
            hashes.collect::<Result<_, Error>>()?,
        ))
    }
}

/// The order in which a path costs least to read: what is in the block of its first range last and as it
/// stands there, so that the block is read once and the reader ends near the leaf that the first stands
/// beside, which is read next.
fn reading_order(path: &[Range<u64>]) -> Vec<usize> {
    let block = |at: usize| path[at].start >> TILE_HEIGHT;
    let mut order: Vec<usize> = (0..path.len()).rev().collect();
    order.sort_by_key(|&at| (block(at) == block(0)).then_some(path[at].start));
    order
}

pub(crate) fn leaf(reader: &mut Reader, index: u64) -> Result<Vec<u8>, Error> {
    let leaf = reader.read(index)?;
    leaf.ok_or_else(|| no_leaf(reader, index))
}

/// A leaf below the size of a checkpoint is not there.
fn no_leaf(reader: &Reader, index: u64) -> Error {
    Error::damaged(&reader.entries(), 0, index..index + 1, Cause::Truncated)
}

/// Reads the hashes of a path from the tree beside the log and a few leaves.
pub(crate) fn from_tree(
    dir: &Path,
    kind: HashKind,
    reader: &mut Reader,
    path: &[Range<u64>],
) -> Result<Vec<Hash>, Error> {
    let known = TreeFile::open(dir)?;
    Nodes {
        kind,
        known,
        reader,
    }
    .hashes(path)
}

/// Hashes all leaves below `size`, keeping only the nodes that the path needs.
pub(crate) fn from_scan(
    dir: &Path,
    kind: HashKind,
    size: u64,
    path: &[Range<u64>],
) -> Result<Vec<Hash>, Error> {
    let mut kept_from = Reader::open(dir)?.oldest()?;
    loop {
        match scan(dir, kind, (kept_from, size), path) {
            // Leaves were dropped under it, or a crash left some of those that were: what is left of
            // them leads on.
            Err(Error::NotKept { oldest, .. }) if oldest > kept_from => kept_from = oldest,
            scanned => return scanned,
        }
    }
}

fn scan(
    dir: &Path,
    kind: HashKind,
    (kept_from, size): (u64, u64),
    path: &[Range<u64>],
) -> Result<Vec<Hash>, Error> {
    let wanted = path.iter().flat_map(subtrees).map(|node| (node, None));
    let mut nodes: HashMap<Node, Option<Hash>> = wanted.collect();
    let mut frontier = remains::frontier(dir, kind, kept_from, take_in(&mut nodes))?;
    let mut reader = Reader::without_places(dir)?;
    let kept_from = frontier.size();
    let is_gone = |(node, hash): (&Node, &Option<Hash>)| {
        (hash.is_none() && node.leaves().end <= kept_from).then(|| node.leaves().start)
    };
    if let Some(gone) = nodes.iter().find_map(is_gone) {
        return Err(reader.not_kept(gone));
    }
    while frontier.size() < size {
        let leaf = kind.leaf(&leaf(&mut reader, frontier.size())?);
        frontier.push(leaf, take_in(&mut nodes));
    }
    let known = |node: Node| nodes[&node].ok_or_else(|| reader.not_kept(node.leaves().start));
    path.iter()
        .map(|leaves| hash_of(kind, leaves, known))
        .collect()
}

/// Notes the hashes of those nodes that are wanted.
fn take_in(nodes: &mut HashMap<Node, Option<Hash>>) -> impl FnMut(Node, Hash) {
    |node, hash| {
        nodes.entry(node).and_modify(|wanted| *wanted = Some(hash));
    }
}

pub(crate) fn hash_kind(dir: &Path) -> Result<HashKind, Error> {
    // The newest, which is never dropped.
    let first = disk::segments(dir)?.last().copied().unwrap_or(0);
    let path = layout::segment(dir, first);
    let mut file = disk::open(&path).map_err(Error::io("open", &path))?;
    let header = segment::read_header(&mut file).map_err(Error::io("read", &path))?;
    let header = header.map_err(|cause| Error::damaged(&path, 0, 0..1, cause))?;
    Ok(header.hash)
}
