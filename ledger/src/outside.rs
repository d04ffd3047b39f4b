//! Checkpoints that were kept elsewhere, and the keys that know of them.

use std::path::Path;

use crate::checkpoint::{Checkpoint, CheckpointText};
use crate::error::Error;
use crate::keys::PublicKeys;
use crate::note::{NoteError, SignedNote};
use crate::published;
use crate::reader::Reader;

/// Reads one that is said to be of the log with these keys.
pub(crate) fn open(note: &str, keys: &PublicKeys) -> Result<Checkpoint, Error> {
    Checkpoint::open(note, keys).map_err(|source| match unknown_key(note, keys) {
        Some(checkpoint_size) if source == NoteError::NotSigned => {
            Error::UnknownKey { checkpoint_size }
        }
        _ => Error::OutsideCheckpoint { source },
    })
}

/// The size of one that names the log, and is signed in its name by another key.
fn unknown_key(note: &str, keys: &PublicKeys) -> Option<u64> {
    let signed = SignedNote::parse(note).ok()?;
    let text = CheckpointText::parse(signed.text()).ok()?;
    let is_in_its_name = text.origin == keys.name() && signed.is_signed_as(&text.origin);
    is_in_its_name.then_some(text.size)
}

/// Whether the log lacks an epoch that `trusted` keys know of, and the leaves up to a checkpoint that was
/// signed in it: it was set back.
pub(crate) fn is_not_set_back(
    dir: &Path,
    trusted: Option<&PublicKeys>,
    note: Option<&str>,
) -> Result<(), Error> {
    let (Some(trusted), Some(note)) = (trusted, note) else {
        return Ok(());
    };
    let own = published::keys_of(dir, None)?;
    let lacking = trusted.rotations().get(own.rotations().len());
    let Some(lacking) = lacking.filter(|_| trusted.extend(&own)) else {
        return Ok(());
    };
    // What is wrong with it is told once the log's keys are not.
    let Ok(checkpoint) = Checkpoint::open(note, trusted) else {
        return Ok(());
    };
    let (log_size, checkpoint_size) = (Reader::open(dir)?.size()?, checkpoint.size());
    match checkpoint_size > lacking.size && log_size < checkpoint_size {
        true => Err(Error::HistoryTruncated {
            log_size,
            checkpoint_size,
        }),
        false => Ok(()),
    }
}
