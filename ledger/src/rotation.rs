//! Rotation statements: the leaves by which one epoch's keys hand over to the next.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{self, Checkpoint, parse_decimal, parse_hash};
use crate::disk;
use crate::error::Error;
use crate::hash::Hash;
use crate::key::LogSecret;
use crate::keys::{LogKeys, PublicKeys};
use crate::layout;
use crate::note::{self, MAX_TIME, NoteError, SignedNote};

/// What leaves begin with that the ledger itself appends. No other leaf may.
pub(crate) const OWN_LEAF: &[u8] = b"daemoneye ledger ";

/// The first line of a statement. With its spaces it is no origin, so a statement never reads as a
/// checkpoint, which the same key signs.
const HEADER: &str = "daemoneye ledger rotation v1";

/// A statement that the keys of one epoch signed, and those of the next: *the first `size` leaves
/// have this root, and from here on these are the keys*.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// The epoch that begins, counted from 1; a log begins in epoch 0.
    pub(crate) epoch: u64,
    /// Leaves before the statement, which is itself the leaf of this index.
    pub(crate) size: u64,
    /// The root hash over them.
    pub(crate) root: Hash,
    /// When, in POSIX seconds.
    pub(crate) time: u64,
    /// Those that sign for more leaves than `size`.
    pub(crate) keys: LogKeys,
    /// The signed note, which is the leaf.
    pub(crate) note: String,
}

impl Rotation {
    /// Reads a statement that must hand over from the newest epoch of `keys`.
    pub(crate) fn open(note: &str, keys: &PublicKeys) -> Result<Rotation, NoteError> {
        let signed = SignedNote::parse(note)?;
        let (origin, rotation) =
            parse(signed.text(), note).ok_or(NoteError::Malformed("rotation statement"))?;
        if origin != keys.name() || rotation.keys.log.name() != origin {
            return Err(NoteError::Origin);
        }
        if rotation.epoch != keys.epoch() + 1 || rotation.size < keys.begins_at() {
            return Err(NoteError::Epoch);
        }
        // Or the first keys would pass for their own successor, and the successor for the first.
        if rotation.keys.log == keys.newest().log || rotation.keys.time == keys.newest().time {
            return Err(NoteError::Malformed("successor is the same key"));
        }
        signed.verify(&keys.newest().log)?;
        signed.verify(&rotation.keys.log)?;
        Ok(rotation)
    }
}

fn parse(text: &str, note: &str) -> Option<(String, Rotation)> {
    let rest = text.strip_prefix(HEADER)?.strip_prefix('\n')?;
    let mut lines = rest.splitn(6, '\n');
    let origin = lines.next()?.to_owned();
    let rotation = Rotation {
        epoch: parse_decimal(lines.next()?)?,
        // The statement is the next leaf.
        size: parse_decimal(lines.next()?).filter(|size| *size < u64::MAX)?,
        root: parse_hash(lines.next()?)?,
        time: parse_decimal(lines.next()?).filter(|time| *time <= MAX_TIME)?,
        keys: LogKeys::parse(lines.next()?).ok()?,
        note: note.to_owned(),
    };
    Some((origin, rotation))
}

/// The statement that hands over to `next` after `closing`, which is of all leaves.
pub(crate) fn statement(
    keys: &PublicKeys,
    closing: &Checkpoint,
    time: u64,
    (old, next): (&LogSecret, &LogSecret),
) -> String {
    let text = format!(
        "{HEADER}\n{}\n{}\n{}\n{}\n{time}\n{}",
        keys.name(),
        keys.epoch() + 1,
        closing.size(),
        STANDARD.encode(closing.root().0),
        next.public()
    );
    note::sign(&text, time, &[old.signer(), next.signer()])
}

/// Adds the statement to `rotations.txt`, durably; what a crash left of it there is cut first.
pub(crate) fn list(dir: &Path, rotation: &Rotation) -> Result<(), Error> {
    let (mut listed, _) = checkpoint::open_list(&layout::rotations(dir))?;
    listed.write(checkpoint::record(&rotation.note).as_bytes())?;
    listed.sync()
}

/// Makes durable what `rotations.txt` has been seen to list.
pub(crate) fn renew_list(dir: &Path) -> Result<(), Error> {
    let (mut listed, _) = checkpoint::open_list(&layout::rotations(dir))?;
    listed.renew(0)
}

/// Makes the successor's secret the log's, and the old one unreadable. Only called once the
/// statement is durable in the log and in `rotations.txt`; safe to repeat.
pub(crate) fn hand_over(dir: &Path) -> Result<(), Error> {
    let secret = layout::secret_key(dir);
    // In place, before the name goes: afterwards nothing would lead to these bytes any more.
    disk::overwrite(&secret)?;
    disk::rename(&layout::next_key(dir), &secret)
}
