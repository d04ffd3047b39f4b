//! Holds the log against a checkpoint from before: what was signed then must be how the log begins.

use std::ops::Range;
use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::error::{Cause, Error};
use crate::hash::{Hash, HashKind};
use crate::keys::PublicKeys;
use crate::layout;
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
/// It reads a few tiles and leaves, or all leaves below the last checkpoint where the index cannot
/// be read. Whether the leaves in the files are those that were signed for is for
/// [`verify`](crate::verify) to say.
pub fn audit(dir: &Path, keys: Option<PublicKeys>, since: &str) -> Result<Audit, Error> {
    let (keys, last) = published::signed(dir, keys.as_ref())?;
    let since = Checkpoint::open(since, &keys);
    let since = since.map_err(|source| Error::OutsideCheckpoint { source })?;
    let last =
        last.ok_or_else(|| Error::damaged(&layout::last_checkpoint(dir), 0, 0..0, Cause::Missing))?;
    let (hash, path) = consistency(dir, (since.size(), since.root()), &last)?;
    let rotations = keys.rotations().iter();
    let between = rotations.filter(|rotation| (since.size()..last.size()).contains(&rotation.size));
    let handed_over = |&Rotation { size, root, .. }: &Rotation| {
        let (_, path) = consistency(dir, (size, root), &last)?;
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
    let cosignatures = witnesses.check(&since);
    let cosignatures = cosignatures.map_err(|source| Error::NotWitnessed { source })?;
    witness::keep(dir, &since)?;
    Ok((since, cosignatures))
}

/// The verified proof from a tree to that of the last checkpoint.
fn consistency(
    dir: &Path,
    (old, root): (u64, Hash),
    last: &Checkpoint,
) -> Result<(HashKind, Vec<Hash>), Error> {
    let new = last.size();
    if old > new {
        return Err(Error::HistoryTruncated {
            log_size: new,
            checkpoint_size: old,
        });
    }
    let kind = prove::hash_kind(dir)?;
    let ranges = consistency_path(old, new);
    let verified = |path: &[Hash]| verify_consistency(kind, old, root, new, last.root(), path);
    let from_index = prove::from_index(dir, kind, last, &mut Reader::open(dir)?, &ranges);
    if let Ok(path) = from_index
        && verified(&path).is_ok()
    {
        return Ok((kind, path));
    }
    let path = from_leaves(dir, kind, last, &ranges)?;
    match verified(&path) {
        Ok(()) => Ok((kind, path)),
        Err(_) => Err(Error::HistoryRewritten {
            checkpoint_size: old,
        }),
    }
}

/// The hashes of `ranges` out of all leaves, which must be those that `last` signed for.
fn from_leaves(
    dir: &Path,
    kind: HashKind,
    last: &Checkpoint,
    ranges: &[Range<u64>],
) -> Result<Vec<Hash>, Error> {
    let size = last.size();
    if size == 0 {
        return Ok(Vec::new());
    }
    let mut wanted = ranges.to_vec();
    wanted.push(0..size);
    let mut path = prove::from_scan(dir, kind, size, &wanted)?;
    match path.pop() {
        Some(root) if root == last.root() => Ok(path),
        _ => Err(Error::damaged(
            &layout::entries(dir),
            0,
            0..size,
            Cause::Root { size },
        )),
    }
}
