//! Holds the index against the log, without letting it decide anything.

use std::path::Path;

use redb::DatabaseError;

use super::IndexStatus;
use crate::hash::{Hash, HashKind};
use crate::index;
use crate::layout;
use crate::tiles::{Tile, TileId, Tiles};
use crate::tree::perfect_root;

/// What the index claims, condensed, so that it is open for a moment only.
pub(super) struct Claim {
    size: u64,
    chain: Hash,
    /// The frontier: one hash per set bit of the size.
    nodes: Vec<Hash>,
    /// The newest checkpoint it knows.
    newest: Option<String>,
    digest: Digest,
}

/// Hashes over everything of one kind, in order.
#[derive(Clone, PartialEq, Eq)]
struct Sums {
    nodes: Hash,
    places: Hash,
}

#[derive(Clone, Default)]
struct Digest {
    nodes: blake3::Hasher,
    places: blake3::Hasher,
}

impl Digest {
    fn place(&mut self, leaf: u64, segment: u64, offset: u64) {
        for n in [leaf, segment, offset] {
            self.places.update(&n.to_le_bytes());
        }
    }

    fn sums(&self) -> Sums {
        let sum = |hasher: &blake3::Hasher| Hash(*hasher.finalize().as_bytes());
        Sums {
            nodes: sum(&self.nodes),
            places: sum(&self.places),
        }
    }
}

/// What could be read of the index.
pub(super) enum Summary {
    Claims(Box<Claim>),
    Not(IndexStatus),
}

impl Summary {
    pub(super) fn read(dir: &Path, origin: &str, floor: u64) -> Summary {
        if !layout::index(dir).exists() {
            return Summary::Not(IndexStatus::Missing);
        }
        let database = match index::open_read_only(dir) {
            Ok(Ok(database)) => database,
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
                return Summary::Not(IndexStatus::InUse);
            }
            Ok(Err(DatabaseError::RepairAborted)) => return Summary::Not(IndexStatus::Unclean),
            Ok(Err(e)) => return Summary::Not(IndexStatus::Bad(e.to_string())),
            Err(panic) => return Summary::Not(IndexStatus::Bad(panic)),
        };
        let claim = index::guarded(|| Claim::read(&database, origin, floor));
        match claim.unwrap_or_else(Err) {
            Ok(claim) => Summary::Claims(Box::new(claim)),
            Err(reason) => Summary::Not(IndexStatus::Bad(reason)),
        }
    }
}

impl Claim {
    fn read(database: &redb::ReadOnlyDatabase, origin: &str, floor: u64) -> Result<Claim, String> {
        let text = |e: redb::Error| e.to_string();
        let state = index::state(database, origin).map_err(text)?;
        let state = state.ok_or("its commit record is not sound")?;
        let frontier = &state.frontier;
        let tile = |id| index::tile(database, id).map_err(text);
        Tiles::load(frontier, tile)?.ok_or("its tiles do not fit its commit record")?;
        let mut digest = Digest::default();
        check_tiles(frontier.kind(), frontier.size(), tile, &mut digest)?;
        for row in index::places(database).map_err(text)? {
            let (leaf, place) = row.map_err(text)?;
            // Those of leaves that were dropped are forgotten in time.
            if leaf >= floor {
                digest.place(leaf, place.segment, place.offset);
            }
        }
        Ok(Claim {
            size: frontier.size(),
            chain: state.chain,
            nodes: frontier.nodes().to_vec(),
            newest: index::newest(database).map_err(text)?,
            digest,
        })
    }
}

/// Sums up the tiles of level 1 and holds those above against them.
fn check_tiles(
    kind: HashKind,
    size: u64,
    tile: impl Fn(TileId) -> Result<Option<Tile>, String>,
    digest: &mut Digest,
) -> Result<(), String> {
    for index in 0..(size >> 8).div_ceil(256) {
        let hashes = tile(TileId { level: 1, index })?.ok_or("a tile is missing")?;
        for hash in hashes {
            digest.nodes.update(&hash.0);
        }
    }
    for level in 2..8_u8 {
        for index in 0..size >> (8 * level) {
            let below = tile(TileId {
                level: level - 1,
                index,
            })?
            .unwrap_or_default();
            let above = tile(TileId {
                level,
                index: index / 256,
            })?
            .unwrap_or_default();
            let position = usize::try_from(index % 256).expect("below 256");
            if below.len() != 256 || above.get(position) != Some(&perfect_root(kind, below)) {
                return Err(format!("tiles of level {} and {level} disagree", level - 1));
            }
        }
    }
    Ok(())
}

/// Holds the index's claim against the log as it is read.
pub(super) struct Compared {
    summary: Summary,
    seen: Digest,
    /// The newest checkpoint that the index knows is listed.
    newest_seen: bool,
    agrees: Option<bool>,
}

impl Compared {
    pub(super) fn new(summary: Summary) -> Compared {
        Compared {
            summary,
            seen: Digest::default(),
            newest_seen: false,
            agrees: None,
        }
    }

    /// The size that the index claims, at which it is compared.
    pub(super) fn claimed_size(&self) -> Option<u64> {
        match &self.summary {
            Summary::Claims(claim) => Some(claim.size),
            Summary::Not(_) => None,
        }
    }

    pub(super) fn place(&mut self, leaf: u64, segment: u64, offset: u64) {
        if leaf.is_multiple_of(index::OFFSET_STRIDE) && self.agrees.is_none() {
            self.seen.place(leaf, segment, offset);
        }
    }

    pub(super) fn node(&mut self, hash: Hash) {
        self.seen.nodes.update(&hash.0);
    }

    pub(super) fn note(&mut self, note: &str) {
        if let Summary::Claims(claim) = &self.summary {
            self.newest_seen |= claim.newest.as_deref() == Some(note);
        }
    }

    pub(super) fn at_size(&mut self, size: u64, chain: Hash, tree: &[(u32, Hash)]) {
        if let Summary::Claims(claim) = &self.summary
            && claim.size == size
        {
            let (seen, claimed) = (self.seen.sums(), claim.digest.sums());
            let nodes = tree.iter().map(|(_, hash)| hash).eq(&claim.nodes);
            let sums = seen.nodes == claimed.nodes && seen.places == claimed.places;
            self.agrees = Some(nodes && sums && claim.chain == chain);
        }
    }

    pub(super) fn status(self) -> IndexStatus {
        if let Summary::Not(status) = self.summary {
            return status;
        }
        match (self.agrees, self.newest_seen) {
            (Some(true), true) => IndexStatus::Agrees,
            (None, _) => IndexStatus::Bad("it covers more leaves than there are".into()),
            (Some(false), _) => IndexStatus::Bad("its hashes or offsets are not the log's".into()),
            (_, false) => IndexStatus::Bad("its checkpoints are not the log's".into()),
        }
    }
}
