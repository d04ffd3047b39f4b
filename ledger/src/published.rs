//! What stands beside the entries for any observer: the public keys and the last checkpoint.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::checkpoint::{Checkpoint, Record, Records};
use crate::disk;
use crate::error::{Cause, Error};
use crate::keys::{self, PublicKeys};
use crate::layout;
use crate::note::{MAX_NOTE_BYTES, NoteError};

/// Some 80,000 rotations.
const MAX_ROTATIONS_BYTES: u64 = 64 << 20;

/// The public keys of the log in `dir`, each epoch's verified with those before it; the first are
/// taken as they lie there.
pub fn public_keys(dir: &Path) -> Result<PublicKeys, Error> {
    let missing = || Error::damaged(&layout::public_key(dir), 0, 0..0, Cause::Missing);
    let first = keys::read(dir)?.ok_or_else(missing)?;
    let mut keys = PublicKeys::new(first);
    let path = layout::rotations(dir);
    if let Some(listed) = disk::read_small(&path, MAX_ROTATIONS_BYTES)? {
        let damaged = |source| Error::damaged(&path, 0, 0..0, Cause::Rotations { source });
        keys.accept_all(&listed).map_err(damaged)?;
    }
    Ok(keys)
}

/// Whether the log's keys are those that are trusted, and perhaps later epochs of them.
pub(crate) fn continues(dir: &Path, trusted: &PublicKeys) -> Result<(), Error> {
    match public_keys(dir)?.extend(trusted) {
        true => Ok(()),
        false => {
            let cause = Cause::Key("it is not the key asked for");
            Err(Error::damaged(&layout::public_key(dir), 0, 0..0, cause))
        }
    }
}

/// The keys and the last checkpoint, as they stood together: a writer that rotates its keys
/// meanwhile lists them first.
pub(crate) fn signed(dir: &Path) -> Result<(PublicKeys, Option<Checkpoint>), Error> {
    loop {
        let keys = public_keys(dir)?;
        let last = last_checkpoint(dir, &keys);
        if public_keys(dir)? == keys {
            return last.map(|last| (keys, last));
        }
    }
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

/// When the log's first checkpoint was signed.
pub(crate) fn first_time(dir: &Path, keys: &PublicKeys) -> Result<u64, Error> {
    let path = layout::checkpoints(dir);
    let file = File::open(&path).map_err(Error::io("open", &path))?;
    let record = Records::new(BufReader::new(file), 0).next();
    let note = match record.map_err(Error::io("read", &path))? {
        Record::Note { note, .. } => note,
        _ => return Err(Error::damaged(&path, 0, 0..0, Cause::Truncated)),
    };
    let note = std::str::from_utf8(&note).map_err(|_| NoteError::Malformed("not text"));
    let first = note.and_then(|note| Checkpoint::open(note, keys));
    let damaged = |source| bad_checkpoint(dir, 0, |line| Cause::Checkpoint { line, source });
    first.map(|first| first.time()).map_err(damaged)
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
