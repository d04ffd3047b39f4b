//! Names of the files in a ledger's directory, and nothing else.

use std::path::{Path, PathBuf};

pub(crate) fn lock(dir: &Path) -> PathBuf {
    dir.join("lock")
}

pub(crate) fn secret_key(dir: &Path) -> PathBuf {
    dir.join("ledger.key")
}

pub(crate) fn public_key(dir: &Path) -> PathBuf {
    dir.join("ledger.pub")
}

pub(crate) fn checkpoints(dir: &Path) -> PathBuf {
    dir.join("checkpoints.txt")
}

/// The list that is to take the place of the other.
pub(crate) fn thinned_checkpoints(dir: &Path) -> PathBuf {
    dir.join("checkpoints.txt.tmp")
}

pub(crate) fn last_checkpoint(dir: &Path) -> PathBuf {
    dir.join("last-checkpoint")
}

/// The secret of the next epoch, while a rotation is under way.
pub(crate) fn next_key(dir: &Path) -> PathBuf {
    dir.join("next.key")
}

pub(crate) fn rotations(dir: &Path) -> PathBuf {
    dir.join("rotations.txt")
}

/// Which leaves are no longer kept.
pub(crate) fn gaps(dir: &Path) -> PathBuf {
    dir.join("gaps.txt")
}

/// The newest checkpoint that came back from witnesses.
pub(crate) fn witnessed_checkpoint(dir: &Path) -> PathBuf {
    dir.join("witnessed-checkpoint")
}

pub(crate) fn index(dir: &Path) -> PathBuf {
    dir.join("index.redb")
}

/// The tree, for who does not have the index.
pub(crate) fn tree(dir: &Path) -> PathBuf {
    dir.join("tree")
}

/// Where a damaged index is put when a new one is built.
pub(crate) fn bad_index(dir: &Path) -> PathBuf {
    dir.join("index.redb.bad")
}

pub(crate) fn entries(dir: &Path) -> PathBuf {
    dir.join("entries")
}

/// The segment whose first leaf is `first`.
pub(crate) fn segment(dir: &Path, first: u64) -> PathBuf {
    entries(dir).join(format!("{first:016x}.seg"))
}

/// What is left of the segments that were dropped, the first leaf of which was `first`.
pub(crate) fn remains(dir: &Path, first: u64) -> PathBuf {
    entries(dir).join(format!("{first:016x}.tree"))
}

/// The first leaf index that a segment's file name states, if it is a segment's name.
pub(crate) fn segment_first(name: &str) -> Option<u64> {
    first_of(name.strip_suffix(".seg")?)
}

/// The same of remains.
pub(crate) fn remains_first(name: &str) -> Option<u64> {
    first_of(name.strip_suffix(".tree")?)
}

fn first_of(hex: &str) -> Option<u64> {
    let canonical = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (hex.len() == 16 && hex.bytes().all(canonical)).then(|| u64::from_str_radix(hex, 16).ok())?
}
