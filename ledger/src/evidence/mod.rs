//! Evidence bundles: leaves, and all that proves them to whoever has the log's public keys, in one
//! file. `docs/evidence-format.md` states every byte.

mod archive;
mod gather;
mod proof;

use std::collections::BTreeMap;

pub use gather::{gather, gather_telling};
pub use proof::{BatchProof, ConsistencyProof};

use crate::batch::verify_batch;
use crate::checkpoint::Checkpoint;
use crate::hash::{Hash, HashKind};
use crate::keys::PublicKeys;
use crate::note::NoteError;
use crate::proof::{ProofError, verify_consistency};
use crate::rotation::Rotation;

/// Most leaves in a bundle.
pub const MAX_EVIDENCE_LEAVES: usize = 1000;

/// Longest bundle that is read or written, in bytes.
pub const MAX_EVIDENCE_BYTES: usize = 64 << 20;

/// Why an evidence bundle was rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The file is no ZIP archive of the form it must have.
    #[error("not an evidence bundle: {0}")]
    Archive(&'static str),
    /// A file in the bundle is not of the form it must have.
    #[error("{name:?} in the bundle: {cause}")]
    File {
        /// Its name there.
        name: String,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// The keys in the bundle are malformed, or one epoch's are not signed by those before.
    #[error("keys in the bundle are not sound")]
    Keys(#[source] NoteError),
    /// The bundle's keys do not begin with those that are trusted.
    #[error("bundle is of another log than the trusted keys")]
    OtherLog,
    /// The checkpoint in the bundle is malformed or does not verify.
    #[error("checkpoint in the bundle is not sound")]
    Checkpoint(#[source] NoteError),
    /// The leaves in the bundle are not those that the checkpoint signs for.
    #[error("leaves in the bundle are not those of the signed tree")]
    Inclusion(#[source] ProofError),
    /// The checkpoint that the bundle is held against is not one of this log.
    #[error("outside checkpoint is not one of this log")]
    Outside(#[source] NoteError),
    /// A leaf is of an earlier epoch than the checkpoint, whose keys do not vouch for it, and the
    /// bundle has no proof that its tree begins with the one that the leaf's epoch handed over.
    #[error(
        "checkpoint is signed by keys of a later epoch than leaf {index}, and the bundle has no proof \
         that its tree begins with the {size} leaves that were handed over to them"
    )]
    Epoch {
        /// The leaf.
        index: u64,
        /// Leaves of the tree that its epoch handed over.
        size: u64,
    },
    /// The bundle has no proof that leads from its tree to that of the outside checkpoint.
    #[error(
        "bundle has no proof between its tree of {size} leaves and the outside checkpoint's of \
         {other}: it takes one that was made with that checkpoint"
    )]
    Unlinked {
        /// Leaves in the bundle's tree.
        size: u64,
        /// Leaves that the outside checkpoint signs for.
        other: u64,
    },
    /// The bundle's tree and another that was signed for are of two histories.
    #[error(
        "history was rewritten: the tree of {size} leaves in the bundle, and that of {other} leaves \
         that was signed for, are not of one log"
    )]
    Rewritten {
        /// Leaves in the bundle's tree.
        size: u64,
        /// Leaves in the other tree: an outside checkpoint's, or what an epoch handed over.
        other: u64,
        /// What the proof lacks.
        source: ProofError,
    },
}

/// Leaves and what is to prove them. Nothing of it is verified but by [`Evidence::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    summary: String,
    keys: String,
    checkpoint: String,
    proof: BatchProof,
    /// Between the bundle's tree and others, by the size of the other.
    consistency: BTreeMap<u64, ConsistencyProof>,
    leaves: BTreeMap<u64, Vec<u8>>,
}

/// What a bundle proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The checkpoint that signs for the leaves.
    pub checkpoint: Checkpoint,
    /// The log's keys: those that were trusted, and perhaps epochs that followed.
    pub keys: PublicKeys,
    /// The tree's hash function.
    pub hash: HashKind,
    /// The leaves, by index.
    pub leaves: BTreeMap<u64, Vec<u8>>,
    /// A checkpoint from elsewhere that is of the same history.
    pub outside: Option<Checkpoint>,
}

impl Evidence {
    /// Reads a bundle. At most [`MAX_EVIDENCE_BYTES`] are looked at, and nothing is unpacked.
    pub fn from_zip(zip: &[u8]) -> Result<Evidence, EvidenceError> {
        let mut files = archive::read(zip)?;
        let mut text = |name: &str| match files.remove(name) {
            Some(bytes) => archive::text(name, bytes).map(Some),
            None => Ok(None),
        };
        let summary = text(SUMMARY)?.unwrap_or_default();
        let keys = text(KEYS)?.ok_or_else(|| missing(KEYS))?;
        let checkpoint = text(CHECKPOINT)?.ok_or_else(|| missing(CHECKPOINT))?;
        let proof = text(PROOF)?.ok_or_else(|| missing(PROOF))?;
        let proof = BatchProof::parse(&proof).map_err(|cause| file(PROOF, cause))?;
        let (mut leaves, mut consistency) = (BTreeMap::new(), BTreeMap::new());
        for (name, bytes) in files {
            if let Some(index) = archive::number_in(LEAVES, &name) {
                leaves.insert(index, bytes.to_owned());
            } else if let Some(size) = archive::number_in(CONSISTENCY, &name) {
                let proof = ConsistencyProof::parse(&archive::text(&name, bytes)?);
                consistency.insert(size, proof.map_err(|cause| file(&name, cause))?);
            } else {
                return Err(file(&name, "unknown file"));
            }
        }
        if !leaves.keys().eq(&proof.indexes) {
            return Err(file(PROOF, "it is of other leaves than are there"));
        }
        Ok(Evidence {
            summary,
            keys,
            checkpoint,
            proof,
            consistency,
            leaves,
        })
    }

    /// The bundle as a file: the same bytes for the same evidence.
    pub fn to_zip(&self) -> Result<Vec<u8>, EvidenceError> {
        let proof = self.proof.to_string();
        let consistency = self.consistency.iter();
        let consistency: Vec<(String, String)> = consistency
            .map(|(size, proof)| (format!("{CONSISTENCY}{size}"), proof.to_string()))
            .collect();
        let mut files: Vec<(String, &[u8])> = vec![
            (SUMMARY.into(), self.summary.as_bytes()),
            (KEYS.into(), self.keys.as_bytes()),
            (CHECKPOINT.into(), self.checkpoint.as_bytes()),
            (PROOF.into(), proof.as_bytes()),
        ];
        let consistency = consistency.iter();
        files.extend(consistency.map(|(name, proof)| (name.clone(), proof.as_bytes())));
        let leaves = self.leaves.iter();
        files.extend(leaves.map(|(index, leaf)| (format!("{LEAVES}{index}"), leaf.as_slice())));
        archive::write(&files)
    }

    /// What the bundle tells people. It proves nothing, and nothing vouches for it.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// Puts a summary in.
    #[must_use]
    pub fn with_summary(self, summary: String) -> Evidence {
        Evidence { summary, ..self }
    }

    /// Verifies that the leaves are in the log of the `trusted` keys, signed for by the checkpoint in
    /// the bundle and, where they are older than its epoch, by the keys of their own, and that this is of one history with `outside`, the note of a checkpoint that was
    /// kept elsewhere. Needs nothing of the log.
    ///
    /// The trusted keys may have fewer epochs than the bundle, or more.
    pub fn verify(
        &self,
        trusted: &PublicKeys,
        outside: Option<&str>,
    ) -> Result<Proven, EvidenceError> {
        let keys = self.keys(trusted)?;
        let checkpoint = Checkpoint::open(&self.checkpoint, &keys);
        let checkpoint = checkpoint.map_err(EvidenceError::Checkpoint)?;
        let hash = self.proof.hash;
        let leaves = self.leaves.iter();
        let leaves: Vec<_> = leaves.map(|(at, leaf)| (*at, hash.leaf(leaf))).collect();
        let (size, root) = (checkpoint.size(), checkpoint.root());
        verify_batch(hash, &leaves, size, &self.proof.path, root)
            .map_err(EvidenceError::Inclusion)?;
        self.verify_epochs(&checkpoint, &keys)?;
        let outside = outside.map(|note| {
            let outside = Checkpoint::open(note, &keys).map_err(EvidenceError::Outside)?;
            let (size, other) = (checkpoint.size(), outside.size());
            match self.verify_link(&checkpoint, (other, outside.root()))? {
                Link::Proven => Ok(outside),
                Link::Missing => Err(EvidenceError::Unlinked { size, other }),
            }
        });
        Ok(Proven {
            outside: outside.transpose()?,
            checkpoint,
            keys,
            hash,
            leaves: self.leaves.clone(),
        })
    }

    /// The longer of the two lists of keys, if one continues the other.
    fn keys(&self, trusted: &PublicKeys) -> Result<PublicKeys, EvidenceError> {
        let own = PublicKeys::parse(&self.keys).map_err(EvidenceError::Keys)?;
        if trusted.extend(&own) {
            // They may know where an epoch ended that still lasts in the bundle.
            return Ok(trusted.clone());
        }
        match own.extend(trusted) {
            true => Ok(own),
            false => Err(EvidenceError::OtherLog),
        }
    }

    /// A thief of the checkpoint's keys could have put other leaves before its epoch. So those there
    /// must be in the trees that their own epochs' keys signed for when they handed over.
    fn verify_epochs(
        &self,
        checkpoint: &Checkpoint,
        keys: &PublicKeys,
    ) -> Result<(), EvidenceError> {
        let indexes = self.leaves.keys().copied();
        for (index, rotation) in keys.earlier_epochs(indexes, checkpoint.size()) {
            let Rotation { size, root, .. } = *rotation;
            match self.verify_link(checkpoint, (size, root))? {
                Link::Proven => {}
                Link::Missing => return Err(EvidenceError::Epoch { index, size }),
            }
        }
        Ok(())
    }

    /// Whether the bundle's tree and another one are proven to be of one history.
    fn verify_link(
        &self,
        own: &Checkpoint,
        (other, root): (u64, Hash),
    ) -> Result<Link, EvidenceError> {
        let size = own.size();
        let (from, to) = match size <= other {
            true => ((size, own.root()), (other, root)),
            false => ((other, root), (size, own.root())),
        };
        let path: &[_] = match self.consistency.get(&other) {
            // Nothing leads from a tree to itself, or from the empty one to any.
            _ if from.0 == to.0 || from.0 == 0 => &[],
            Some(proof) if (proof.from, proof.to) == (from.0, to.0) => &proof.path,
            _ => return Ok(Link::Missing),
        };
        let verified = verify_consistency(self.proof.hash, from.0, from.1, to.0, to.1, path);
        let rewritten = |source| EvidenceError::Rewritten {
            size,
            other,
            source,
        };
        verified.map(|()| Link::Proven).map_err(rewritten)
    }
}

/// Whether there is a proof between two trees.
enum Link {
    Proven,
    Missing,
}

const SUMMARY: &str = "summary.txt";
const KEYS: &str = "keys.txt";
const CHECKPOINT: &str = "checkpoint.txt";
const PROOF: &str = "proof.txt";
const CONSISTENCY: &str = "consistency/";
const LEAVES: &str = "leaves/";

fn missing(name: &str) -> EvidenceError {
    file(name, "it is missing")
}

fn file(name: &str, cause: &'static str) -> EvidenceError {
    EvidenceError::File {
        name: name.to_owned(),
        cause,
    }
}
