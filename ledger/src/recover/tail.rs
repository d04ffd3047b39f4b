//! Where an open begins to read the entries again, so that it builds on nothing that is damaged.

use redb::Database;

use super::Found;
use crate::append::Edge;
use crate::disk;
use crate::error::Error;
use crate::hash::{Hash, origin_hash};
use crate::index::{self, LeafPlace, State};
use crate::layout;
use crate::remains;
use crate::tiles::{self, TILE_HEIGHT, Tile, TileId, Tiles};
use crate::tree::{Frontier, Node, subtrees};

/// Bytes of entries, from the end back, that every open reads again: some 0.06 s of processor time.
const TAIL_BYTES: u64 = 32 << 20;

/// The edge of the log at its first leaf that is read again.
pub(super) struct Tail {
    pub(super) edge: Edge,
    pub(super) start: LeafPlace,
}

impl Found<'_> {
    /// The tail begins at least [`TAIL_BYTES`] before the end, and not after `latest`: the first
    /// leaf that no checkpoint covers, or that a consumer has still to read. The tree before it is
    /// taken from the tiles, so that the leaves of the tail must lead to the root that was signed.
    /// `None` when the index does not tell it.
    pub(super) fn tail(
        &self,
        database: &Database,
        state: &State,
        latest: u64,
    ) -> Result<Option<Tail>, Error> {
        let covered = TAIL_BYTES.saturating_sub(self.bytes_after(state.end)?);
        let (first, start) = self.tail_start(database, state.end, latest, covered)?;
        let blocks = first >> TILE_HEIGHT << TILE_HEIGHT;
        let Some(frontier) = self.frontier_at(database, blocks)? else {
            return Ok(None);
        };
        let Some(frontier) = self.with_low(frontier, first)? else {
            return Ok(None);
        };
        let tiles = Tiles::load(&frontier, |id| {
            let tile = self.told(index::tile(database, id))?;
            Ok::<_, Error>(tile.map(|tile| as_of(first, id, tile)))
        })?;
        Ok(tiles.map(|tiles| Tail {
            edge: Edge {
                chain: self.chain_at(first, state),
                frontier,
                tiles,
                offsets: Vec::new(),
            },
            start,
        }))
    }

    /// That of the first leaf read takes its place; a log without leaves, or without any but those
    /// that were dropped, begins with it.
    fn chain_at(&self, first: u64, state: &State) -> Hash {
        let gap = self.gaps.iter().find(|gap| gap.end == first);
        match first {
            0 => state.chain,
            _ => gap.map_or(Hash([0; 32]), |gap| gap.chain),
        }
    }

    /// Of the floor, which need not be where a tile has a hash, the rest is left of the leaves that
    /// were dropped last. Where that is damaged, the index is built anew, which tells of it.
    fn with_low(&self, mut blocks: Frontier, first: u64) -> Result<Option<Frontier>, Error> {
        if blocks.size() == first {
            return Ok(Some(blocks));
        }
        let Some(gap) = self.gaps.iter().find(|gap| gap.end == first) else {
            return Ok(None);
        };
        let origin = origin_hash(self.keys.name());
        let remains = match remains::of(self.dir, gap, self.kind, origin) {
            Err(Error::Damaged(_)) => return Ok(None),
            remains => remains?,
        };
        for node in remains::low_frontier(first) {
            let Some(hash) = remains.low(node) else {
                return Ok(None);
            };
            blocks.push_subtree(node.level, hash, |_, _| ());
        }
        Ok((blocks.root() == gap.root).then_some(blocks))
    }

    fn told<T>(&self, answer: Result<T, redb::Error>) -> Result<T, Error> {
        answer.map_err(index::failed(&layout::index(self.dir)))
    }

    /// The last leaf of known place that is `bytes` or more before `end`, and not after `latest`.
    fn tail_start(
        &self,
        database: &Database,
        end: LeafPlace,
        latest: u64,
        bytes: u64,
    ) -> Result<(u64, LeafPlace), Error> {
        let (mut segment, mut to_end) = (end.segment, end.offset);
        for row in self.told(index::places(database))?.rev() {
            let (leaf, place) = self.told(row)?;
            if place.segment < self.floor {
                break;
            }
            if place.segment != segment {
                segment = place.segment;
                to_end += self.segment_len(segment)?;
            }
            if leaf <= latest && to_end.saturating_sub(place.offset) >= bytes {
                return Ok((leaf, place));
            }
        }
        Ok((self.floor, self.floor_place()))
    }

    /// What the index does not cover, and is read in any case.
    fn bytes_after(&self, end: LeafPlace) -> Result<u64, Error> {
        let later = self.firsts.iter().filter(|&&first| first > end.segment);
        let later = later.map(|&first| self.segment_len(first));
        let later: u64 = later.sum::<Result<_, _>>()?;
        Ok(later + self.segment_len(end.segment)?.saturating_sub(end.offset))
    }

    /// 0 for one that is missing, which the scan tells.
    fn segment_len(&self, first: u64) -> Result<u64, Error> {
        let path = layout::segment(self.dir, first);
        match disk::exists(&path)? {
            true => disk::len(&path),
            false => Ok(0),
        }
    }

    /// The tree of the first `size` leaves, a multiple of 256, out of the tiles.
    fn frontier_at(&self, database: &Database, size: u64) -> Result<Option<Frontier>, Error> {
        let mut nodes = Vec::new();
        for node in subtrees(&(0..size)) {
            match self.tiled(database, node)? {
                Some(hash) => nodes.push(hash),
                None => return Ok(None),
            }
        }
        Ok(Frontier::restore(self.kind, size, nodes))
    }

    fn tiled(&self, database: &Database, node: Node) -> Result<Option<Hash>, Error> {
        if node.level < TILE_HEIGHT {
            return Ok(None);
        }
        let tile = self.told(index::tile(database, tiles::place(node).0))?;
        Ok(tile.and_then(|tile| tiles::node_in(self.kind, &tile, node)))
    }
}

/// The tile as it was when the log had `size` leaves.
fn as_of(size: u64, id: TileId, mut tile: Tile) -> Tile {
    let hashes = (size >> (TILE_HEIGHT * id.level)).saturating_sub(id.index << TILE_HEIGHT);
    tile.truncate(usize::try_from(hashes).unwrap_or(usize::MAX));
    tile
}
