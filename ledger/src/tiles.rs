//! Hash tiles: 256 nodes of every eighth tree level, from level 8 up.
//!
//! Levels 0 to 7 are not stored; they are hashed again from at most 256 leaves.

use crate::hash::{Hash, HashKind};
use crate::tree::{Frontier, Node, perfect_root, subtrees};

const WIDTH: usize = 256;
const TILE_LEVELS: u8 = 7;

/// Tree levels per tile level.
pub(crate) const TILE_HEIGHT: u8 = 8;

/// A tile: `level` 1 holds the roots over 256 leaves each, `level` 2 over 65,536, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TileId {
    pub(crate) level: u8,
    pub(crate) index: u64,
}

/// The hashes of a tile, less than 256 while it is partial.
pub(crate) type Tile = Vec<Hash>;

/// The growing edge of the tiles: one partial tile per level, and the full ones not yet stored.
#[derive(Debug, Clone)]
pub(crate) struct Tiles {
    partial: Vec<Partial>,
    full: Vec<(TileId, Tile)>,
}

#[derive(Debug, Clone, Default)]
struct Partial {
    index: u64,
    hashes: Tile,
    changed: bool,
}

impl Tiles {
    pub(crate) fn new() -> Tiles {
        let partial = (0..TILE_LEVELS).map(|_| Partial::default()).collect();
        Tiles {
            partial,
            full: Vec::new(),
        }
    }

    /// The edge at the frontier's size, read with `stored`; `None` when what is stored does not
    /// agree with the frontier.
    pub(crate) fn load<E>(
        frontier: &Frontier,
        mut stored: impl FnMut(TileId) -> Result<Option<Tile>, E>,
    ) -> Result<Option<Tiles>, E> {
        let mut tiles = Tiles::new();
        for (level, partial) in (1..).zip(&mut tiles.partial) {
            let count = frontier.size() >> (TILE_HEIGHT * level);
            let width = u8::try_from(count % WIDTH as u64).expect("a remainder of 256");
            partial.index = count / WIDTH as u64;
            if width > 0 {
                let tile = stored(TileId {
                    level,
                    index: partial.index,
                })?;
                partial.hashes = tile.unwrap_or_default();
            }
            if partial.hashes.len() != usize::from(width) {
                return Ok(None);
            }
        }
        Ok(tiles.agree_with(frontier).then_some(tiles))
    }

    fn agree_with(&self, frontier: &Frontier) -> bool {
        let nodes = subtrees(&(0..frontier.size()));
        let mut tiled = nodes
            .iter()
            .zip(frontier.nodes())
            .filter(|(n, _)| n.level >= TILE_HEIGHT);
        tiled.all(|(&node, &hash)| self.node(frontier.kind(), node) == Some(hash))
    }

    /// Takes note of a completed node, if it belongs in a tile.
    pub(crate) fn add(&mut self, node: Node, hash: Hash) {
        if node.level < TILE_HEIGHT || !node.level.is_multiple_of(TILE_HEIGHT) {
            return;
        }
        let level = node.level / TILE_HEIGHT;
        let partial = &mut self.partial[usize::from(level - 1)];
        partial.hashes.push(hash);
        partial.changed = true;
        if partial.hashes.len() == WIDTH {
            let index = partial.index;
            let hashes = std::mem::take(&mut partial.hashes);
            self.full.push((TileId { level, index }, hashes));
            *partial = Partial {
                index: index + 1,
                hashes: Tile::new(),
                changed: false,
            };
        }
    }

    /// Every tile that changed since [`Tiles::stored`].
    pub(crate) fn changed(&self) -> impl Iterator<Item = (TileId, &Tile)> {
        let partial = (1..)
            .zip(&self.partial)
            .filter(|(_, partial)| partial.changed);
        let partial = partial.map(|(level, partial)| {
            (
                TileId {
                    level,
                    index: partial.index,
                },
                &partial.hashes,
            )
        });
        self.full
            .iter()
            .map(|(id, tile)| (*id, tile))
            .chain(partial)
    }

    /// Marks all changes as stored.
    pub(crate) fn stored(&mut self) {
        self.full.clear();
        self.partial
            .iter_mut()
            .for_each(|partial| partial.changed = false);
    }

    /// A node of level 8 or more, if the tile it is in is held here.
    pub(crate) fn node(&self, kind: HashKind, node: Node) -> Option<Hash> {
        node_in(kind, self.tile(place(node).0)?, node)
    }

    /// A tile that is held here.
    pub(crate) fn tile(&self, id: TileId) -> Option<&Tile> {
        let partial = self.partial.get(usize::from(id.level - 1))?;
        match partial.index == id.index {
            true => Some(&partial.hashes),
            false => Some(&self.full.iter().find(|(full, _)| *full == id)?.1),
        }
    }
}

/// The tile that a node of level 8 or more is in, and its first hash there.
pub(crate) fn place(node: Node) -> (TileId, usize) {
    let first = node.index << (node.level % TILE_HEIGHT);
    let position = usize::try_from(first % WIDTH as u64).expect("below 256");
    (
        TileId {
            level: node.level / TILE_HEIGHT,
            index: first / WIDTH as u64,
        },
        position,
    )
}

/// The hash of `node` from its tile, if the tile reaches that far.
pub(crate) fn node_in(kind: HashKind, tile: &[Hash], node: Node) -> Option<Hash> {
    let (_, position) = place(node);
    let hashes = tile.get(position..position + (1 << (node.level % TILE_HEIGHT)))?;
    Some(perfect_root(kind, hashes.to_vec()))
}
