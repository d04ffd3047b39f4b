//! What stands beside the entries for any observer: the public keys and the last checkpoint.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::disk;
use crate::error::{Cause, Error};
use crate::keys::{self, PublicKeys};
use crate::layout;
use crate::note::{MAX_NOTE_BYTES, NoteError};

/// The log's keys; without them nothing can be verified.
pub(crate) fn public_keys(dir: &Path) -> Result<PublicKeys, Error> {
    let missing = || Error::damaged(&layout::public_key(dir), 0, 0..0, Cause::Missing);
    let first = keys::read(dir)?.ok_or_else(missing)?;
    Ok(PublicKeys::new(first))
}

/// The checkpoint in `last-checkpoint`, verified; `None` when there is no such file.
pub(crate) fn last_checkpoint(dir: &Path, keys: &PublicKeys) -> Result<Option<Checkpoint>, Error> {
    let path = layout::last_checkpoint(dir);
    let Some(bytes) = disk::read_small(&path, MAX_NOTE_BYTES as u64)? else {
        return Ok(None);
    };
    let note = std::str::from_utf8(&bytes).map_err(|_| NoteError::Malformed("not text"));
    let checkpoint = note.and_then(|note| Checkpoint::open(note, keys));
    let damaged = |source| Error::damaged(&path, 0, 0..0, Cause::Checkpoint { line: 1, source });
    checkpoint.map(Some).map_err(damaged)
}

/// Damage in checkpoints.txt at a byte offset, whose line is counted for the message.
pub(crate) fn bad_checkpoint(dir: &Path, offset: u64, cause: impl FnOnce(u64) -> Cause) -> Error {
    let path = layout::checkpoints(dir);
    match line_at(&path, offset) {
        Ok(line) => Error::damaged(&path, offset, 0..0, cause(line)),
        Err(e) => Error::io("read", &path)(e),
    }
}

fn line_at(path: &Path, offset: u64) -> io::Result<u64> {
    let mut before = BufReader::new(File::open(path)?.take(offset));
    let mut line = 1;
    while before.skip_until(b'\n')? > 0 {
        line += 1;
    }
    Ok(line)
}
