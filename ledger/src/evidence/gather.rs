//! Makes a bundle of a log, also while a writer runs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use super::{BatchProof, ConsistencyProof, Evidence, EvidenceError, MAX_EVIDENCE_LEAVES};
use crate::batch::batch_path;
use crate::checkpoint::Checkpoint;
use crate::error::{Cause, Error};
use crate::hash::{Hash, HashKind};
use crate::keys::PublicKeys;
use crate::proof::consistency_path;
use crate::prove;
use crate::published;
use crate::reader::Reader;

/// Gathers the leaves at `indexes` of the log in `dir`, and what proves them at checkpoint `at` or
/// else the last one; with `outside`, a checkpoint of this log, also that the two are of one history.
pub fn gather(
    dir: &Path,
    indexes: &BTreeSet<u64>,
    at: Option<&Checkpoint>,
    outside: Option<&Checkpoint>,
) -> Result<Evidence, Error> {
    gather_telling(dir, indexes, (at, outside), &mut |_| ())
}

/// As [`gather`]. Where the tree beside the log is of no use, all leaves are read; why is then told.
pub fn gather_telling(
    dir: &Path,
    indexes: &BTreeSet<u64>,
    (at, outside): (Option<&Checkpoint>, Option<&Checkpoint>),
    tell: &mut dyn FnMut(&Error),
) -> Result<Evidence, Error> {
    let Some(&most) = indexes
        .last()
        .filter(|_| indexes.len() <= MAX_EVIDENCE_LEAVES)
    else {
        return Err(EvidenceError::Archive("no entries are wanted, or too many").into());
    };
    let (keys, last) = published::signed(dir, None)?;
    let checkpoint = at.or(last.as_ref());
    let sealed = checkpoint.map_or(0, Checkpoint::size);
    let checkpoint = checkpoint.filter(|_| most < sealed);
    let checkpoint = checkpoint.ok_or(Error::NotIntegrated {
        index: most,
        sealed,
    })?;
    let log_size = last.as_ref().map_or(0, Checkpoint::size);
    if let Some(outside) = outside
        && outside.size() > log_size
    {
        return Err(Error::HistoryTruncated {
            log_size,
            checkpoint_size: outside.size(),
        });
    }
    let plan = Plan {
        kind: prove::hash_kind(dir)?,
        keys,
        checkpoint,
        outside,
        indexes: indexes.iter().copied().collect(),
    };
    plan.carry_out(dir, tell)
}

/// What a bundle is to prove.
struct Plan<'a> {
    kind: HashKind,
    keys: PublicKeys,
    checkpoint: &'a Checkpoint,
    outside: Option<&'a Checkpoint>,
    indexes: Vec<u64>,
}

impl Plan<'_> {
    fn carry_out(&self, dir: &Path, tell: &mut dyn FnMut(&Error)) -> Result<Evidence, Error> {
        let ranges = self.ranges();
        // Not trusted: what does not lead to the signed root is built again from the log.
        let reader = &mut Reader::open(dir)?;
        let gathered = prove::from_tree(dir, self.kind, reader, &ranges)
            .and_then(|hashes| self.verified(reader, hashes));
        let unusable = match gathered {
            Ok(evidence) => return Ok(evidence),
            Err(error) => prove::of_the_tree(dir, error),
        };
        let hashes = prove::from_scan(dir, self.kind, self.reach().size(), &ranges)?;
        let evidence = self.verified(&mut Reader::without_places(dir)?, hashes)?;
        tell(&unusable);
        Ok(evidence)
    }

    /// The larger of the two trees.
    fn reach(&self) -> &Checkpoint {
        let outside = self.outside.filter(|o| o.size() > self.checkpoint.size());
        outside.unwrap_or(self.checkpoint)
    }

    /// Sizes of other trees that proofs of consistency lead to: what earlier epochs handed over, and
    /// the outside checkpoint's. None leads to a tree of the same size.
    fn links(&self) -> BTreeSet<u64> {
        let own = self.checkpoint.size();
        let earlier = self.keys.earlier_epochs(self.indexes.iter().copied(), own);
        let earlier = earlier.into_iter().map(|(_, rotation)| rotation.size);
        let outside = self.outside.map(Checkpoint::size);
        earlier.chain(outside).filter(|size| *size != own).collect()
    }

    fn link(&self, other: u64) -> (u64, u64) {
        let own = self.checkpoint.size();
        (own.min(other), own.max(other))
    }

    /// What is to be hashed: the proof of the leaves, and then those of consistency.
    fn ranges(&self) -> Vec<Range<u64>> {
        let mut ranges = batch_path(&self.indexes, self.checkpoint.size());
        for (from, to) in self.links().into_iter().map(|other| self.link(other)) {
            ranges.extend(consistency_path(from, to));
        }
        ranges
    }

    fn consistency(
        &self,
        mut hashes: impl Iterator<Item = Hash>,
    ) -> BTreeMap<u64, ConsistencyProof> {
        let links = self.links().into_iter();
        let proofs = links.map(|other| {
            let (from, to) = self.link(other);
            let count = consistency_path(from, to).len();
            let path = hashes.by_ref().take(count).collect();
            (other, ConsistencyProof { from, to, path })
        });
        proofs.collect()
    }

    fn verified(&self, reader: &mut Reader, mut hashes: Vec<Hash>) -> Result<Evidence, Error> {
        let of_leaves = batch_path(&self.indexes, self.checkpoint.size()).len();
        let consistency = self.consistency(hashes.split_off(of_leaves).into_iter());
        let leaves = self.indexes.iter();
        let leaves = leaves.map(|&index| Ok((index, prove::leaf(reader, index)?)));
        let evidence = Evidence {
            summary: String::new(),
            keys: self.keys.to_string(),
            checkpoint: self.checkpoint.note().to_owned(),
            proof: BatchProof {
                hash: self.kind,
                indexes: self.indexes.clone(),
                path: hashes,
            },
            consistency,
            leaves: leaves.collect::<Result<_, Error>>()?,
        };
        let size = self.checkpoint.size();
        match evidence.verify(&self.keys, self.outside.map(Checkpoint::note)) {
            Ok(_) => Ok(evidence),
            Err(EvidenceError::Inclusion(_)) => Err(Error::damaged(
                &reader.entries(),
                0,
                0..size,
                Cause::Root { size },
            )),
            Err(EvidenceError::Rewritten { other, .. }) => Err(Error::HistoryRewritten {
                checkpoint_size: other,
            }),
            Err(other) => Err(other.into()),
        }
    }
}
