//! What a log is like, told from its files, while a writer runs or not.

use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::disk;
use crate::error::Error;
use crate::gap::{self, Gap, Verified};
use crate::hash::HashKind;
use crate::keys::PublicKeys;
use crate::layout;
use crate::prove;
use crate::published;
use crate::reader::Reader;

/// A log at a glance. Signatures were verified, leaves were not read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Overview {
    /// The keys of all epochs.
    pub keys: PublicKeys,
    /// The tree's hash function.
    pub hash: HashKind,
    /// Leaves in the log, those that were dropped included.
    pub entries: u64,
    /// The first leaf that is kept.
    pub kept_from: u64,
    /// Segments, and the bytes in them.
    pub segments: u64,
    /// See `segments`.
    pub bytes: u64,
    /// Bytes of hashes that are left of dropped leaves.
    pub remains_bytes: u64,
    /// Bytes of the index and of the tree beside it.
    pub index_bytes: u64,
    /// Bytes of the list of checkpoints.
    pub checkpoint_bytes: u64,
    /// The last checkpoint.
    pub last_checkpoint: Checkpoint,
    /// What was dropped.
    pub gaps: Vec<Gap>,
}

/// Looks at the log in `dir`. Counts the leaves of the last segment, which takes some 0.1 s.
pub fn overview(dir: &Path) -> Result<Overview, Error> {
    let (keys, last_checkpoint) = published::sealed(dir, None)?;
    let entries = Reader::open(dir)?.size()?;
    let segments = disk::segments(dir)?;
    let gaps = gap::listed(dir, &keys, Verified::All)?;
    let first = segments.first().copied().unwrap_or(0);
    let kept_from = gap::floor(dir, &gaps, first, last_checkpoint.size())?;
    let len = |path: PathBuf| match disk::exists(&path)? {
        true => disk::len(&path),
        false => Ok(0),
    };
    let remains = disk::remains(dir)?.into_iter();
    let remains = remains.filter(|first| *first < kept_from);
    Ok(Overview {
        hash: prove::hash_kind(dir)?,
        entries,
        kept_from,
        segments: segments.len() as u64,
        bytes: segments
            .iter()
            .map(|first| len(layout::segment(dir, *first)))
            .sum::<Result<_, _>>()?,
        remains_bytes: remains
            .map(|first| len(layout::remains(dir, first)))
            .sum::<Result<_, _>>()?,
        index_bytes: len(layout::index(dir))? + len(layout::tree(dir))?,
        checkpoint_bytes: len(layout::checkpoints(dir))?,
        last_checkpoint,
        gaps,
        keys,
    })
}
