use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::evidence::EvidenceError;
use crate::note::NoteError;
use crate::tlog_proof::TlogProofError;

/// What can go wrong with a ledger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation was refused by the OS. A full disk is `ErrorKind::StorageFull`.
    #[error("{call} {}", path.display())]
    Io {
        /// The operation, as a verb.
        call: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the OS said.
        source: io::Error,
    },
    /// `index.redb` could not be read or written. The entries are unaffected.
    #[error("index {} cannot be used", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What redb said.
        source: Box<redb::Error>,
    },
    /// Another process holds the writer's lock.
    #[error("ledger {} is in use by another process", dir.display())]
    Locked {
        /// The ledger's directory.
        dir: PathBuf,
    },
    /// Bytes on disk are not what was written.
    #[error(transparent)]
    Damaged(Box<Damage>),
    /// The log is older than, or does not continue, the last checkpoint signed for it: a restored
    /// disk or VM snapshot. Nothing was changed.
    #[error(
        "log rolled back: it holds {log_size} leaves and does not continue the last checkpoint, \
         of {checkpoint_size} leaves"
    )]
    RolledBack {
        /// Leaves found in the segments.
        log_size: u64,
        /// Leaves that the last checkpoint covers.
        checkpoint_size: u64,
    },
    /// The outside checkpoint given to [`crate::verify`] is not one, or not of this log's key. With
    /// [`NoteError::Malformed`] it is bad input; otherwise it, or the key, is of another log.
    #[error("outside checkpoint is not one of this log")]
    OutsideCheckpoint {
        /// What is wrong with it.
        source: NoteError,
    },
    /// The outside checkpoint names this log, and none of its keys signed it. Keys of later epochs tell
    /// which it is: see [`crate::VerifyOptions::keys`].
    #[error(
        "outside checkpoint of {checkpoint_size} leaves names this log, and is signed by a key that \
         this log does not have: it is of another log of that name, or this one was set back to \
         before a rotation of its keys; give the public keys that were exported after it with --key \
         to tell which"
    )]
    UnknownKey {
        /// Leaves that it says it covers.
        checkpoint_size: u64,
    },
    /// The log has fewer leaves than an outside checkpoint signed for.
    #[error(
        "history was truncated: the log holds {log_size} leaves, and an outside checkpoint signed \
         for {checkpoint_size}"
    )]
    HistoryTruncated {
        /// Leaves in the log.
        log_size: u64,
        /// Leaves that the outside checkpoint covers.
        checkpoint_size: u64,
    },
    /// The log's first leaves do not hash to the root that an outside checkpoint signed.
    #[error(
        "history was rewritten: the first {checkpoint_size} leaves are not those that an outside \
         checkpoint signed for"
    )]
    HistoryRewritten {
        /// Leaves that the outside checkpoint covers.
        checkpoint_size: u64,
    },
    /// The last checkpoint was signed too long ago, or in the future.
    #[error(
        "last checkpoint was signed at {signed_at}, which is not within {seconds} s of now, {now} \
         (POSIX seconds)"
    )]
    Stale {
        /// When it was signed.
        signed_at: u64,
        /// What time it is.
        now: u64,
        /// How far the two may be apart.
        seconds: u64,
    },
    /// Too few of the witnesses that are asked for have cosigned, or one's cosignature is forged.
    #[error("not witnessed as asked for")]
    NotWitnessed {
        /// What is wrong.
        source: NoteError,
    },
    /// The cosignatures that are needed are older than asked for.
    #[error(
        "witnesses that are needed cosigned at {cosigned_at} at the latest, which is not within \
         {seconds} s of now, {now} (POSIX seconds)"
    )]
    StaleWitness {
        /// When the last one that is needed cosigned, by its own clock.
        cosigned_at: u64,
        /// What time it is.
        now: u64,
        /// How far the two may be apart.
        seconds: u64,
    },
    /// A checkpoint that was carried back is older than the one that is kept.
    #[error(
        "checkpoint of {size} leaves is older than the cosigned one of {kept} leaves that is kept"
    )]
    OlderThanWitnessed {
        /// Leaves that it covers.
        size: u64,
        /// Leaves that the one beside the log covers.
        kept: u64,
    },
    /// An earlier write or sync failed, so what is on disk is unknown. Reopen the ledger.
    #[error("ledger stopped after an I/O error; reopen it")]
    Poisoned,
    /// The leaf is larger than [`crate::MAX_LEAF_BYTES`].
    #[error("leaf of {len} bytes is larger than {max}")]
    LeafTooLarge {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The leaf begins as those do that the ledger itself appends.
    #[error("leaf begins like one of the ledger's own")]
    OwnLeaf,
    /// The leaf was dropped to make room, or because of its age: see [`crate::Gap`].
    #[error("leaf {index} is no longer kept; the oldest that is, is leaf {oldest}")]
    NotKept {
        /// The leaf index asked for.
        index: u64,
        /// The first leaf that can be read.
        oldest: u64,
    },
    /// An outside checkpoint is of a size between leaves that were dropped, and no hashes were kept
    /// for that size: they are for sizes that checkpoints.txt lists.
    #[error(
        "checkpoint of size {checkpoint_size} can no longer be held against the log: the leaves \
         around it were dropped, and checkpoints.txt does not list that size"
    )]
    TooOld {
        /// Leaves that the outside checkpoint covers.
        checkpoint_size: u64,
    },
    /// No checkpoint covers this leaf (yet).
    #[error("leaf {index} is not covered by a checkpoint ({sealed} leaves are)")]
    NotIntegrated {
        /// The leaf index asked for.
        index: u64,
        /// Leaves that the checkpoint covers.
        sealed: u64,
    },
    /// The checkpoint was signed by keys of a later epoch than the leaf.
    #[error(
        "checkpoint of {size} leaves was signed by keys of a later epoch than that of leaf {index}, \
         which do not vouch for it"
    )]
    LaterEpoch {
        /// The leaf index asked for.
        index: u64,
        /// Leaves that the checkpoint covers.
        size: u64,
    },
    /// A consistency proof was asked for from a larger to a smaller tree, or beyond the log.
    #[error("no consistency proof from size {old} to size {new} in a log of {size} leaves")]
    NoSuchSize {
        /// The size to start from.
        old: u64,
        /// The size to reach.
        new: u64,
        /// Leaves in the log.
        size: u64,
    },
    /// The origin cannot name a log: it is empty, too long, or holds spaces, `+` or control bytes.
    #[error("origin {0:?} cannot name a log")]
    Origin(String),
    /// The signing key is missing although a log exists, or is not a key.
    #[error("signing key {}: {cause}", path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// Others than this account can read or write the signing key: it is theirs, or its mode lets them.
    /// Nothing was signed with it.
    #[error(
        "signing key {} {}; and if somebody may have read it, rotate the keys",
        path.display(),
        open_to(*mode, *owner)
    )]
    KeyOpenToOthers {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The account that owns it, where that is another one.
        owner: Option<u32>,
    },
    /// A signed note or key text is malformed or its signature does not verify.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A proof text is malformed or does not verify.
    #[error(transparent)]
    Proof(#[from] TlogProofError),
    /// An evidence bundle cannot be made, or does not verify.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The OS gave no randomness, which a new key and a new segment need.
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
}

impl Error {
    pub(crate) fn io(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io {
            call,
            path: path.to_owned(),
            source,
        }
    }

    /// What it means for a checkpoint that leaves before its size were dropped.
    pub(crate) fn too_old(self, checkpoint_size: u64) -> Error {
        match self {
            Error::NotKept { .. } => Error::TooOld { checkpoint_size },
            error => error,
        }
    }

    pub(crate) fn damaged(file: &Path, offset: u64, leaves: Range<u64>, cause: Cause) -> Error {
        Error::Damaged(Box::new(Damage {
            file: file.to_owned(),
            offset,
            leaves,
            cause,
        }))
    }
}

/// To whom a key file is open, and what to do.
fn open_to(mode: u32, owner: Option<u32>) -> String {
    match owner {
        Some(owner) => format!("belongs to another account (uid {owner}): make it yours (chown)"),
        None => format!(
            "is open to others than its owner (mode {mode:04o}): take that away (chmod 600)"
        ),
    }
}

/// The first damaged place found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The damaged file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The leaves it concerns; empty when it concerns none.
    pub leaves: Range<u64>,
    /// What is wrong.
    pub cause: Cause,
}

/// The cause is part of the text, so what follows in the chain is what caused that.
impl std::error::Error for Damage {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.source()
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: ", self.file.display(), self.offset)?;
        match self.leaves.end.saturating_sub(self.leaves.start) {
            0 => {}
            1 => write!(f, "leaf {}: ", self.leaves.start)?,
            _ => write!(
                f,
                "leaves {} to {}: ",
                self.leaves.start,
                self.leaves.end - 1
            )?,
        }
        write!(f, "{}", self.cause)
    }
}

/// Why a place counts as damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The segment header is not one, or does not belong here.
    #[error("segment header: {0}")]
    Header(&'static str),
    /// The segment was written by a newer version of this format.
    #[error("segment format version {0} is not supported")]
    Version(u16),
    /// An entry's length word is impossible.
    #[error("entry length {0:#010x} is impossible")]
    Length(u32),
    /// An entry's CRC-32C does not match.
    #[error("entry checksum does not match")]
    Checksum,
    /// An entry's chain value does not follow from the entry before it.
    #[error("entry does not continue the hash chain")]
    Chain,
    /// The file ends too early.
    #[error("file ends too early")]
    Truncated,
    /// A file is not there.
    #[error("file is missing")]
    Missing,
    /// The leaves do not hash to the root that a checkpoint signed.
    #[error("leaves do not hash to the root signed at size {size}")]
    Root {
        /// The tree size of the checkpoint.
        size: u64,
    },
    /// A checkpoint is malformed or its signature does not verify.
    #[error("checkpoint on line {line} is not sound")]
    Checkpoint {
        /// Line of the checkpoint's first line, counted from 1.
        line: u64,
        /// What is wrong.
        source: NoteError,
    },
    /// A checkpoint is smaller than the one before it.
    #[error("checkpoint on line {line} is of size {size}, smaller than the one before it")]
    Order {
        /// Line of the checkpoint's first line, counted from 1.
        line: u64,
        /// Its tree size.
        size: u64,
    },
    /// The last checkpoint is not among the checkpoints.
    #[error("checkpoint of size {size} is not in checkpoints.txt")]
    Unlisted {
        /// Its tree size.
        size: u64,
    },
    /// A statement in rotations.txt is not sound.
    #[error("a rotation of the keys is not sound")]
    Rotations {
        /// What is wrong.
        source: NoteError,
    },
    /// The rotations in the log are not those of rotations.txt.
    #[error("rotation of the keys: {0}")]
    Rotation(&'static str),
    /// Leaves that are not there, and what is recorded of that, do not agree.
    #[error("dropped leaves: {0}")]
    Gap(&'static str),
    /// A statement in gaps.txt is not sound.
    #[error("a record of dropped leaves is not sound")]
    Gaps {
        /// What is wrong.
        source: NoteError,
    },
    /// A key file does not hold the key it should.
    #[error("public key: {0}")]
    Key(&'static str),
    /// The index disagrees with the entries or the checkpoints.
    #[error("index disagrees with the log: {0}")]
    Index(&'static str),
}
