//! Append-only Merkle log over opaque bytes: durable, signed, provable.
//!
//! A [`Ledger`] is one directory with one writer. Leaves go to flat segment files, framed, chained
//! and hashed into an RFC 6962 tree; [`Ledger::checkpoint`] signs the tree head as a C2SP signed
//! note. `index.redb` holds hash tiles, offsets and cursors and can be rebuilt from
//! the segments at any time.
//!
//! The crate does not know what a leaf means. Its one clock is that of [`Options`]; it logs
//! nothing, and only [`verify`] has threads, while it runs.
//!
//! Start with [`Ledger`] (the writer), [`Reader`], [`prove`], [`verify`] and [`Evidence`]. `docs/ledger-format.md`
//! states every byte; `segment.rs` is the code of the entry files.

mod append;
mod audit;
mod batch;
mod checkpoint;
#[cfg(all(test, unix))]
mod crash;
mod disk;
mod error;
mod evidence;
mod export;
mod fsck;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gap;
mod hash;
mod index;
mod key;
mod keys;
mod layout;
mod note;
mod outside;
mod overview;
mod proof;
mod prove;
mod published;
mod reader;
mod recover;
mod remains;
mod retention;
mod rotation;
pub mod segment;
mod thin;
mod tiles;
mod tlog_proof;
mod tree;
mod tree_file;
mod witness;

pub use append::{Ledger, MAX_LEAF_BYTES, Options};
pub use audit::{Audit, HandOver, audit, audit_telling, carry_back};
pub use batch::verify_batch;
pub use checkpoint::{Checkpoint, CheckpointText};
pub use error::{Cause, Damage, Error};
pub use evidence::{
    BatchProof, ConsistencyProof, Evidence, EvidenceError, MAX_EVIDENCE_BYTES, MAX_EVIDENCE_LEAVES,
    Proven, gather, gather_telling,
};
pub use export::Export;
pub use fsck::{Age, IndexStatus, Progress, Report, TornTail, VerifyOptions, verify};
pub use gap::{Gap, Reason};
pub use hash::{Hash, HashKind};
pub use keys::{Epoch, PublicKeys};
pub use note::{KeyKind, NoteError, PublicKey, SignedNote};
pub use overview::{Overview, overview};
pub use proof::{ProofError, verify_consistency, verify_inclusion};
pub use prove::{prove, prove_telling};
pub use published::{newest_checkpoint, public_keys};
pub use reader::{Leaves, Reader};
pub use recover::{IndexRecovery, Recovery, RotationRecovery};
pub use retention::{Expired, Retention};
pub use tlog_proof::{TlogProof, TlogProofError};
pub use witness::{Cosignature, Witnesses};
