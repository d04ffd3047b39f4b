//! Holds the index against the log, without letting it decide anything.

use std::path::Path;

use redb::DatabaseError;

use super::IndexStatus;
use crate::disk;
use crate::error::Error;
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
    /// An index that could not be read is neither good nor bad.
    pub(super) fn read(dir: &Path, origin: &str, floor: u64) -> Result<Summary, Error> {
        let path = layout::index(dir);
        if !disk::exists(&path)? {
            return Ok(Summary::Not(IndexStatus::Missing));
        }
        let database = match index::open_read_only(dir) {
            Ok(Ok(database)) => database,
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => {
                return Ok(Summary::Not(IndexStatus::InUse));
            }
            Ok(Err(DatabaseError::RepairAborted)) => {
                return Ok(Summary::Not(IndexStatus::Unclean));
            }
            Ok(Err(e)) => return Summary::bad(&path, Unusable::Failed(e.into())),
            Err(panic) => return Summary::bad(&path, Unusable::Bad(panic)),
        };
        let claim = index::guarded(|| Claim::read(&database, origin, floor));
        match claim {
            Ok(Ok(claim)) => Ok(Summary::Claims(Box::new(claim))),
            Ok(Err(unusable)) => Summary::bad(&path, unusable),
            Err(panic) => Summary::bad(&path, Unusable::Bad(panic)),
        }
    }

    fn bad(path: &Path, unusable: Unusable) -> Result<Summary, Error> {
        let reason = match unusable {
            Unusable::Failed(e) if index::is_unread(&e) => return Err(index::failed(path)(e)),
            Unusable::Failed(e) => e.to_string(),
            Unusable::Bad(reason) => reason,
        };
        Ok(Summary::Not(IndexStatus::Bad(reason)))
    }
}

/// Why an index makes no claim.
enum Unusable {
    /// What redb said.
    Failed(redb::Error),
    /// What is wrong with what it holds.
    Bad(String),
}

impl From<redb::Error> for Unusable {
    fn from(error: redb::Error) -> Unusable {
        Unusable::Failed(error)
    }
}

impl From<&str> for Unusable {
    fn from(reason: &str) -> Unusable {
        Unusable::Bad(reason.to_owned())
    }
}

impl Claim {
    fn read(
        database: &redb::ReadOnlyDatabase,
        origin: &str,
        floor: u64,
    ) -> Result<Claim, Unusable> {
        let state = index::state(database, origin)?;
        let state = state.ok_or("its commit record is not sound")?;
        let frontier = &state.frontier;
        let tile = |id| index::tile(database, id);
        Tiles::load(frontier, tile)?.ok_or("its tiles do not fit its commit record")?;
        let mut digest = Digest::default();
        check_tiles(frontier.kind(), frontier.size(), tile, &mut digest)?;
        for row in index::places(database)? {
            let (leaf, place) = row?;
            // Those of leaves that were dropped are forgotten in time.
            if leaf >= floor {
                digest.place(leaf, place.segment, place.offset);
            }
        }
        Ok(Claim {
            size: frontier.size(),
            chain: state.chain,
            nodes: frontier.nodes().to_vec(),
            newest: index::newest(database)?,
            digest,
        })
    }
}

/// Sums up the tiles of level 1 and holds those above against them.
fn check_tiles(
    kind: HashKind,
    size: u64,
    tile: impl Fn(TileId) -> Result<Option<Tile>, redb::Error>,
    digest: &mut Digest,
) -> Result<(), Unusable> {
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
                let reason = format!("tiles of level {} and {level} disagree", level - 1);
                return Err(Unusable::Bad(reason));
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
