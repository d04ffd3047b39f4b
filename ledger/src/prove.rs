//! Builds proofs: from tiles and a few leaves, or, when the index is in use, from a whole scan.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use redb::ReadableDatabase;

use crate::checkpoint::Checkpoint;
use crate::disk;
use crate::error::{Cause, Error};
use crate::hash::{Hash, HashKind};
use crate::index::{self, OFFSET_STRIDE};
use crate::keys::PublicKeys;
use crate::layout;
use crate::proof::{inclusion_path, verify_inclusion};
use crate::published;
use crate::reader::Reader;
use crate::remains;
use crate::segment;
use crate::tiles::{self, TILE_HEIGHT, Tiles};
use crate::tlog_proof::TlogProof;
use crate::tree::{Node, hash_of, perfect_root, subtrees};

/// Proves that the leaf at `index` is in the log in `dir`, at checkpoint `at` or else the last one of the
/// leaf's epoch.
///
/// Works while a writer runs: then the index is in use and the log is read from its start.
pub fn prove(dir: &Path, index: u64, at: Option<&Checkpoint>) -> Result<TlogProof, Error> {
    let (keys, last) = published::signed(dir, None)?;
    let checkpoint = &vouching(dir, &keys, index, at, last.as_ref())?;
    let size = checkpoint.size();
    let kind = hash_kind(dir)?;
    let path = inclusion_path(index, size);
    let mut reader = Reader::open(dir)?;
    let found = match from_index(dir, kind, checkpoint, &mut reader, &path) {
        // Not trusted: a proof that does not lead to the signed root is built again from the log.
        Ok(hashes) => proof(kind, index, hashes, checkpoint, &mut reader).ok(),
        Err(_) => None,
    };
    match found {
        Some(proof) => Ok(proof),
        None => {
            let hashes = from_scan(dir, kind, size, &path)?;
            proof(kind, index, hashes, checkpoint, &mut reader)
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

/// Where complete subtrees come from: tiles from level 8 up, leaves below.
pub(crate) struct Nodes<'a, D> {
    pub(crate) kind: HashKind,
    pub(crate) tiles: Option<&'a Tiles>,
    pub(crate) database: &'a D,
    pub(crate) reader: &'a mut Reader,
}

impl<D: ReadableDatabase> Nodes<'_, D> {
    pub(crate) fn hashes(&mut self, path: &[Range<u64>]) -> Result<Vec<Hash>, Error> {
        // From the last on: so the reader ends near the leaf that the first stands beside, which is
        // read next. Elsewhere it would have to walk there from the start of its segment.
        let hashes = path.iter().rev().map(|leaves| self.hash(leaves));
        let mut hashes: Vec<Hash> = hashes.collect::<Result<_, Error>>()?;
        hashes.reverse();
        Ok(hashes)
    }

    pub(crate) fn hash(&mut self, leaves: &Range<u64>) -> Result<Hash, Error> {
        let kind = self.kind;
        hash_of(kind, leaves, |node| match node.level >= TILE_HEIGHT {
            true => self.tiled(node),
            false => self.hashed(node),
        })
    }

    fn tiled(&self, node: Node) -> Result<Hash, Error> {
        if let Some(hash) = self.tiles.and_then(|tiles| tiles.node(self.kind, node)) {
            return Ok(hash);
        }
        let (id, _) = tiles::place(node);
        let tile = index::tile(self.database, id).map_err(|e| self.index_error(e))?;
        let hash = tile.and_then(|tile| tiles::node_in(self.kind, &tile, node));
        hash.ok_or_else(|| {
            let leaves = node.index << node.level..(node.index + 1) << node.level;
            let file = self.reader.index_file();
            Error::damaged(&file, 0, leaves, Cause::Index("a tile is missing"))
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
        let place = index::place(self.database, first).map_err(|e| self.index_error(e))?;
        if let Some((leaf, place)) = place.filter(|(leaf, _)| first - leaf < OFFSET_STRIDE) {
            self.reader.hint(leaf, place)?;
        }
        let leaves = first..first + (1 << node.level);
        let hashes = leaves.map(|index| Ok(self.kind.leaf(&leaf(self.reader, index)?)));
        Ok(perfect_root(
            self.kind,
            hashes.collect::<Result<_, Error>>()?,
        ))
    }

    fn index_error(&self, source: redb::Error) -> Error {
        Error::Index {
            path: self.reader.index_file(),
            source: Box::new(source),
        }
    }
}

pub(crate) fn leaf(reader: &mut Reader, index: u64) -> Result<Vec<u8>, Error> {
    let leaf = reader.read(index)?;
    let missing = || Error::damaged(&reader.entries(), 0, index..index + 1, Cause::Truncated);
    leaf.ok_or_else(missing)
}

pub(crate) fn from_index(
    dir: &Path,
    kind: HashKind,
    checkpoint: &Checkpoint,
    reader: &mut Reader,
    path: &[Range<u64>],
) -> Result<Vec<Hash>, Error> {
    let unusable = |cause| Error::damaged(&layout::index(dir), 0, 0..0, Cause::Index(cause));
    let database = index::open_read_only(dir)
        .map_err(|_| unusable("it is corrupt"))?
        .map_err(|_| unusable("it cannot be opened"))?;
    let read = || {
        let state = index::state(&database, checkpoint.origin()).ok().flatten();
        if state.is_none_or(|state| state.frontier.size() < checkpoint.size()) {
            return Err(unusable("it does not reach the checkpoint"));
        }
        Nodes {
            kind,
            tiles: None,
            database: &database,
            reader,
        }
        .hashes(path)
    };
    index::guarded(read).map_err(|_| unusable("it is corrupt"))?
}

/// Hashes all leaves below `size`, keeping only the nodes that the path needs.
pub(crate) fn from_scan(
    dir: &Path,
    kind: HashKind,
    size: u64,
    path: &[Range<u64>],
) -> Result<Vec<Hash>, Error> {
    let wanted = path.iter().flat_map(subtrees).map(|node| (node, None));
    let mut nodes: HashMap<Node, Option<Hash>> = wanted.collect();
    let mut frontier = remains::frontier(dir, kind, take_in(&mut nodes))?;
    let mut reader = Reader::open(dir)?;
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
    let first = disk::segments(dir)?.first().copied().unwrap_or(0);
    let path = layout::segment(dir, first);
    let mut file = disk::open(&path).map_err(Error::io("open", &path))?;
    let header = segment::read_header(&mut file).map_err(Error::io("read", &path))?;
    let header = header.map_err(|cause| Error::damaged(&path, 0, 0..1, cause))?;
    Ok(header.hash)
}
