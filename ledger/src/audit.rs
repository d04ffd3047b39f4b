//! Holds the log against a checkpoint from before: what was signed then must be how the log begins.

use std::ops::Range;
use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::error::{Cause, Error};
use crate::hash::{Hash, HashKind};
use crate::keys::PublicKeys;
use crate::layout;
use crate::outside;
use crate::proof::{consistency_path, verify_consistency};
use crate::prove;
use crate::published;
use crate::reader::Reader;
use crate::rotation::Rotation;
use crate::witness::{self, Cosignature, Witnesses};

/// A proof that one signed tree begins with another. Who has the two notes, the log's keys and the
/// hashes can repeat it with [`verify_consistency`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The tree's hash function.
    pub hash: HashKind,
    /// The checkpoint from before.
    pub since: Checkpoint,
    /// The log's last checkpoint.
    pub last: Checkpoint,
    /// The consistency proof from one to the other.
    pub path: Vec<Hash>,
    /// The same for what was handed over to each epoch that began between the two.
    pub rotations: Vec<HandOver>,
}

/// The tree that the keys of one epoch handed over to those of the next, as the statement of both
/// says, and the proof that the last checkpoint's begins with it. Without, the newest keys alone would
/// vouch for all that came after the old checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOver {
    /// Leaves of the tree.
    pub size: u64,
    /// Its root hash.
    pub root: Hash,
    /// The consistency proof from it to the last checkpoint.
    pub path: Vec<Hash>,
}

/// Proves that the tree of the log's last checkpoint begins with that of `since`, the note of a
/// checkpoint that was kept elsewhere. Works while a writer runs.
///
/// It reads a few hashes and leaves, or all leaves below the last checkpoint where the tree beside
/// the log is of no use. Whether the leaves in the files are those that were signed for is for
/// [`verify`](crate::verify) to say.
pub fn audit(dir: &Path, keys: Option<PublicKeys>, since: &str) -> Result<Audit, Error> {
    audit_telling(dir, keys, since, &mut |_| ())
}

/// As [`audit`]. Where the tree beside the log is of no use, why is told.
pub fn audit_telling(
    dir: &Path,
    keys: Option<PublicKeys>,
    since: &str,
    tell: &mut dyn FnMut(&Error),
) -> Result<Audit, Error> {
    outside::is_not_set_back(dir, keys.as_ref(), Some(since))?;
    let (keys, last) = published::signed(dir, keys.as_ref())?;
    let since = outside::open(since, &keys)?;
    let last =
        last.ok_or_else(|| Error::damaged(&layout::last_checkpoint(dir), 0, 0..0, Cause::Missing))?;
    let hash = prove::hash_kind(dir)?;
    let path = to_last(dir, hash, (since.size(), since.root()), &last, tell)?;
    let rotations = keys.rotations().iter();
    let between = rotations.filter(|rotation| (since.size()..last.size()).contains(&rotation.size));
    let handed_over = |&Rotation { size, root, .. }: &Rotation| {
        let path = to_last(dir, hash, (size, root), &last, tell)?;
        Ok(HandOver { size, root, path })
    };
    let rotations = between.map(handed_over).collect::<Result<_, Error>>()?;
    Ok(Audit {
        hash,
        since,
        last,
        path,
        rotations,
    })
}

/// Keeps a checkpoint beside the log that was carried to witnesses and back, if it has the
/// cosignatures that are needed and the log holds what it signs for.
pub fn carry_back(
    dir: &Path,
    note: &str,
    witnesses: &Witnesses,
) -> Result<(Checkpoint, Vec<Cosignature>), Error> {
    let Audit { since, .. } = audit(dir, None, note)?;
    let keys = published::public_keys(dir)?;
    let cosignatures = witnesses.check(&since);
    let cosignatures = cosignatures.map_err(|source| Error::NotWitnessed { source })?;
    witness::keep(dir, &keys, &since)?;
    Ok((since, cosignatures))
}

/// A tree: its leaves and their root hash.
pub(crate) type Tree = (u64, Hash);

/// The verified proof from a tree to that of the last checkpoint.
fn to_last(
    dir: &Path,
    kind: HashKind,
    old: Tree,
    last: &Checkpoint,
    tell: &mut dyn FnMut(&Error),
) -> Result<Vec<Hash>, Error> {
    let known = |ranges: &[_]| prove::from_tree(dir, kind, &mut Reader::open(dir)?, ranges);
    let last = (last.size(), last.root());
    let (path, unusable) = consistency(dir, kind, old, last, known)?;
    if let Some(unusable) = unusable {
        tell(&prove::of_the_tree(dir, unusable));
    }
    Ok(path)
}

/// The verified proof from one tree to another. The hashes that are `known` are not trusted: if they
/// lead nowhere, all leaves are read, which must be those of the new tree, and why is returned too.
pub(crate) fn consistency(
    dir: &Path,
    kind: HashKind,
    (old, old_root): Tree,
    (new, new_root): Tree,
    known: impl FnOnce(&[Range<u64>]) -> Result<Vec<Hash>, Error>,
) -> Result<(Vec<Hash>, Option<Error>), Error> {
    if old > new {
        return Err(Error::HistoryTruncated {
            log_size: new,
            checkpoint_size: old,
        });
    }
    let ranges = consistency_path(old, new);
    let verified = |path: &[Hash]| verify_consistency(kind, old, old_root, new, new_root, path);
    let rewritten = || Error::HistoryRewritten {
        checkpoint_size: old,
    };
    let unusable = match known(&ranges) {
        Ok(path) if verified(&path).is_ok() => return Ok((path, None)),
        Ok(_) => rewritten(),
        Err(error) => error,
    };
    let path = from_leaves(dir, kind, (new, new_root), &ranges);
    let path = path.map_err(|error| error.too_old(old))?;
    match verified(&path) {
        Ok(()) => Ok((path, Some(unusable))),
        Err(_) => Err(rewritten()),
    }
}

/// The hashes of `ranges` out of all leaves, which must be those of the tree.
fn from_leaves(
    dir: &Path,
    kind: HashKind,
    (size, root): Tree,
    ranges: &[Range<u64>],
) -> Result<Vec<Hash>, Error> {
    if size == 0 {
        return Ok(Vec::new());
    }
    let mut wanted = ranges.to_vec();
    wanted.push(0..size);
    let mut path = prove::from_scan(dir, kind, size, &wanted)?;
    match path.pop() {
        Some(found) if found == root => Ok(path),
        _ => Err(Error::damaged(
            &layout::entries(dir),
            0,
            0..size,
            Cause::Root { size },
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{self, Update};
    use crate::tiles::TileId;
    use crate::{Ledger, Options};

    fn open(dir: &Path) -> Ledger {
        let (ledger, _) = Ledger::open(dir, &Options::new("daemoneye/test")).unwrap();
        ledger
    }

    /// Whoever can write the files can put hashes of the true log into the index of one that was set
    /// back to its beginning and grown anew with another leaf.
    #[test]
    fn no_hash_of_the_index_is_believed() {
        const TILE: TileId = TileId { level: 1, index: 0 };
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        drop(open(dir.path()));
        for name in [
            "ledger.key",
            "ledger.pub",
            "last-checkpoint",
            "checkpoints.txt",
        ] {
            std::fs::copy(dir.path().join(name), other.path().join(name)).unwrap();
        }
        let entries = |dir: &Path| layout::segment(dir, 0);
        std::fs::create_dir(layout::entries(other.path())).unwrap();
        std::fs::copy(entries(dir.path()), entries(other.path())).unwrap();

        let mut ledger = open(dir.path());
        for leaf in 0..66_000_u32 {
            ledger.append(&leaf.to_le_bytes()).unwrap();
            if leaf == 65_600 {
                ledger.checkpoint().unwrap();
            }
        }
        let kept = ledger.last_checkpoint().unwrap().clone();
        ledger.checkpoint().unwrap();
        ledger.holds(&kept).unwrap();
        let tile = index::tile(&**ledger.index.database(), TILE)
            .unwrap()
            .unwrap();
        drop(ledger);

        let mut ledger = open(other.path());
        for leaf in 0..66_000_u32 {
            let leaf = if leaf == 100 { u32::MAX } else { leaf };
            ledger.append(&leaf.to_le_bytes()).unwrap();
        }
        ledger.commit().unwrap();
        ledger.write_index(None).unwrap();
        let state = index::state(&**ledger.index.database(), "daemoneye/test");
        ledger
            .index
            .commit(&Update {
                state: Some(&state.unwrap().unwrap()),
                forget_places: None,
                tiles: vec![(TILE, &tile)],
                offsets: &[],
                newest: None,
                cursors: &std::collections::BTreeMap::new(),
            })
            .unwrap();
        drop(ledger);
        let held = open(other.path()).holds(&kept);
        assert!(
            matches!(
                held,
                Err(Error::HistoryRewritten {
                    checkpoint_size: 65_601
                })
            ),
            "{held:?}"
        );
    }
}
