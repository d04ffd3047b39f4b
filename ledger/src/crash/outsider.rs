//! Who reads a log that no writer has settled yet, and has checkpoints from before.

use std::path::Path;

use fastrand::Rng;

use crate::layout;
use crate::rotation::OWN_LEAF;
use crate::{Error, Overview, Reader, audit, overview, prove};

/// What must be found.
pub(super) struct Known<'a> {
    pub(super) dir: &'a Path,
    pub(super) leaves: &'a [Vec<u8>],
    /// How many of them are not to be lost.
    pub(super) acknowledged: usize,
    /// No leaf from here on may have been dropped.
    pub(super) cursor: u64,
    /// Checkpoints that were kept elsewhere.
    pub(super) kept: &'a [(u64, String)],
}

/// What was told, and how often.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) proven: u64,
    pub(super) not_kept: u64,
    pub(super) audited: u64,
    pub(super) too_old: u64,
}

pub(super) fn look(known: &Known<'_>, random: &mut Rng, seen: &mut Seen) {
    let overview = overview(known.dir).unwrap();
    assert!(overview.kept_from <= known.cursor, "{overview:?}");
    assert!(
        overview.entries >= known.acknowledged as u64,
        "{overview:?}"
    );
    known.read_all(overview.kept_from);
    known.prove(&overview, random, seen);
    known.audit(&overview, random, seen);
}

impl Known<'_> {
    /// From the first leaf on that there ever was.
    fn read_all(&self, kept_from: u64) {
        let acknowledged = self.acknowledged as u64;
        let (mut next, mut reader) = (0, Reader::open(self.dir).unwrap());
        for read in reader.range(0) {
            match read {
                Ok((index, _)) if index >= acknowledged => break,
                Ok((index, leaf)) => {
                    assert!(index == next || index <= kept_from, "{index} after {next}");
                    assert!(self.is_leaf(index, &leaf), "leaf {index}");
                    next = index + 1;
                }
                Err(Error::NotKept { index, oldest }) => {
                    assert!(index < oldest && oldest <= kept_from, "{index}, {oldest}");
                }
                Err(error) => panic!("not read: {error:?}"),
            }
        }
        assert!(next >= acknowledged, "read to {next} of {acknowledged}");
    }

    fn is_leaf(&self, index: u64, read: &[u8]) -> bool {
        match self.leaves[usize::try_from(index).unwrap()].as_slice() {
            OWN_LEAF => read.starts_with(OWN_LEAF),
            leaf => read == leaf,
        }
    }

    fn prove(&self, overview: &Overview, random: &mut Rng, seen: &mut Seen) {
        let size = overview.last_checkpoint.size();
        if size == 0 {
            return;
        }
        let index = random.u64(..size);
        match prove(self.dir, index, None) {
            Ok(_) => seen.proven += 1,
            Err(Error::NotKept { .. }) if index < overview.kept_from => seen.not_kept += 1,
            Err(error) => panic!("leaf {index} not proven: {error:?}; {overview:?}"),
        }
    }

    fn audit(&self, overview: &Overview, random: &mut Rng, seen: &mut Seen) {
        let Some((size, note)) = random.choice(self.kept) else {
            return;
        };
        match audit(self.dir, None, note) {
            Ok(_) => seen.audited += 1,
            Err(Error::TooOld { .. }) if *size < overview.kept_from && !self.lists(note) => {
                seen.too_old += 1;
            }
            Err(error) => panic!("not held against {size}: {error:?}; {overview:?}"),
        }
    }

    /// Of sizes that are listed enough is left.
    fn lists(&self, note: &str) -> bool {
        let listed = std::fs::read(layout::checkpoints(self.dir)).unwrap();
        // What is torn at its end may be anything.
        String::from_utf8_lossy(&listed).contains(note)
    }
}
