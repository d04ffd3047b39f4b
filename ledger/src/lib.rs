//! Append-only Merkle log over opaque bytes: durable, signed, provable.
//!
//! A [`Ledger`] is one directory with one writer. Leaves go to flat segment files, framed, chained
//! and hashed into an RFC 6962 tree; [`Ledger::checkpoint`] signs the tree head as a C2SP signed
//! note. `index.redb` holds hash tiles, offsets, checkpoints and cursors and can be rebuilt from
//! the segments at any time.
//!
//! The crate does not know what a leaf means. It has no clock, no threads and no logging.
//!
//! Start with [`Ledger`] (the writer), [`Reader`], [`prove`] and [`verify`]. `docs/ledger-format.md`
//! states every byte; `segment.rs` is the code of the entry files.

mod append;
mod checkpoint;
#[cfg(all(test, unix))]
mod crash;
mod disk;
mod error;
mod fsck;
mod hash;
mod index;
mod key;
mod layout;
mod note;
mod proof;
mod prove;
mod published;
mod reader;
mod recover;
pub mod segment;
mod tiles;
mod tlog_proof;
mod tree;

pub use append::{Ledger, MAX_LEAF_BYTES, Options};
pub use checkpoint::{Checkpoint, CheckpointText};
pub use error::{Cause, Damage, Error};
pub use fsck::{IndexStatus, Progress, Report, TornTail, VerifyOptions, verify};
pub use hash::{Hash, HashKind};
pub use note::{NoteError, PublicKey, SignedNote};
pub use proof::{ProofError, verify_consistency, verify_inclusion};
pub use prove::prove;
pub use reader::{Leaves, Reader};
pub use recover::{IndexRecovery, Recovery};
pub use tlog_proof::{TlogProof, TlogProofError};
