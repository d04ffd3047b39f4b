//! What stands beside the entries for any observer: the public keys and the last checkpoint.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::checkpoint::{Checkpoint, Record, Records};
use crate::disk;
use crate::error::{Cause, Error};
use crate::keys::{self, PublicKeys};
use crate::layout;
use crate::note::{MAX_NOTE_BYTES, NoteError};

/// Some 80,000 rotations.
pub(crate) const MAX_ROTATIONS_BYTES: u64 = 64 << 20;

/// The public keys of the log in `dir`, each epoch's verified with those before it; the first are
/// taken as they lie there.
pub fn public_keys(dir: &Path) -> Result<PublicKeys, Error> {
    keys_of(dir, None)
}

/// As [`public_keys`], but of those that are `trusted` and perhaps later epochs of them. What is
/// returned is what was compared: the files may be others at the next reading.
pub(crate) fn keys_of(dir: &Path, trusted: Option<&PublicKeys>) -> Result<PublicKeys, Error> {
    let damaged = |cause| Error::damaged(&layout::public_key(dir), 0, 0..0, cause);
    let first = keys::read(dir)?.ok_or_else(|| damaged(Cause::Missing))?;
    let keys = listed(dir, PublicKeys::new(first))?;
    match trusted.filter(|trusted| !keys.extend(trusted)) {
        None => Ok(keys),
        Some(trusted) => Err(damaged(Cause::Key(keys.differ(trusted)))),
    }
}

/// Adds the epochs that `rotations.txt` lists.
fn listed(dir: &Path, mut keys: PublicKeys) -> Result<PublicKeys, Error> {
    let path = layout::rotations(dir);
    if let Some(listed) = disk::read_small(&path, MAX_ROTATIONS_BYTES)? {
        let damaged = |source| Error::damaged(&path, 0, 0..0, Cause::Rotations { source });
        keys.accept_all(&listed).map_err(damaged)?;
    }
    Ok(keys)
}

/// The keys and the last checkpoint, as they stood together: a writer that rotates its keys
/// meanwhile lists them first.
pub(crate) fn signed(
    dir: &Path,
    trusted: Option<&PublicKeys>,
) -> Result<(PublicKeys, Option<Checkpoint>), Error> {
    loop {
        let found = keys_of(dir, trusted)?;
        let last = last_checkpoint(dir, &found);
        if keys_of(dir, trusted)? == found {
            return last.map(|last| (found, last));
        }
    }
}

/// As [`signed`], of a log that must have a last checkpoint: it begins with one.
pub(crate) fn sealed(
    dir: &Path,
    trusted: Option<&PublicKeys>,
) -> Result<(PublicKeys, Checkpoint), Error> {
    let (keys, last) = signed(dir, trusted)?;
    let missing = || Error::damaged(&layout::last_checkpoint(dir), 0, 0..0, Cause::Missing);
    Ok((keys, last.ok_or_else(missing)?))
}

/// The newest checkpoint of the log in `dir`, verified with the keys that lie there; `None` when nothing
/// is signed yet.
pub fn newest_checkpoint(dir: &Path) -> Result<Option<Checkpoint>, Error> {
    signed(dir, None).map(|(_, last)| last)
}

/// The checkpoint in `last-checkpoint`, verified; `None` when there is no such file.
pub(crate) fn last_checkpoint(dir: &Path, keys: &PublicKeys) -> Result<Option<Checkpoint>, Error> {
    checkpoint_in(&layout::last_checkpoint(dir), keys)
}

/// The checkpoint that is a file of its own, verified; `None` when there is no such file.
pub(crate) fn checkpoint_in(path: &Path, keys: &PublicKeys) -> Result<Option<Checkpoint>, Error> {
    let Some(note) = disk::read_small(path, MAX_NOTE_BYTES as u64)? else {
        return Ok(None);
    };
    let damaged = |source| Error::damaged(path, 0, 0..0, Cause::Checkpoint { line: 1, source });
    Checkpoint::read(&note, keys).map(Some).map_err(damaged)
}

/// The first checkpoint of `size` leaves.
pub(crate) fn checkpoint_of(dir: &Path, keys: &PublicKeys, size: u64) -> Result<Checkpoint, Error> {
    let path = layout::checkpoints(dir);
    let file = disk::open(&path).map_err(Error::io("open", &path))?;
    let mut records = Records::new(BufReader::new(file), 0);
    let wanted = size.to_string();
    loop {
        match records.next().map_err(Error::io("read", &path))? {
            Record::Note { note, offset } => {
                let mut lines = note.split(|byte| *byte == b'\n');
                if lines.nth(1) == Some(wanted.as_bytes()) {
                    return opened(dir, keys, &note, offset);
                }
            }
            Record::Torn { .. } | Record::End { .. } => {
                return Err(Error::damaged(&path, 0, 0..0, Cause::Unlisted { size }));
            }
        }
    }
}

/// A checkpoint out of checkpoints.txt, verified.
pub(crate) fn opened(
    dir: &Path,
    keys: &PublicKeys,
    note: &[u8],
    offset: u64,
) -> Result<Checkpoint, Error> {
    Checkpoint::read(note, keys)
        .map_err(|source| bad_checkpoint(dir, offset, |line| Cause::Checkpoint { line, source }))
}

/// When the log's first checkpoint was signed.
pub(crate) fn first_time(dir: &Path, keys: &PublicKeys) -> Result<u64, Error> {
    let path = layout::checkpoints(dir);
    let file = disk::open(&path).map_err(Error::io("open", &path))?;
    let record = Records::new(BufReader::new(file), 0).next();
    let note = match record.map_err(Error::io("read", &path))? {
        Record::Note { note, .. } => note,
        _ => return Err(Error::damaged(&path, 0, 0..0, Cause::Truncated)),
    };
    opened(dir, keys, &note, 0).map(|first| first.time())
}

/// Damage in checkpoints.txt at a byte offset, whose line is counted for the message.
pub(crate) fn bad_checkpoint(dir: &Path, offset: u64, cause: impl FnOnce(u64) -> Cause) -> Error {
    let path = layout::checkpoints(dir);
    match line_at(&path, offset) {
        Ok(line) => Error::damaged(&path, offset, 0..0, cause(line)),
        Err(e) => Error::io("read", &path)(e),
    }
}

/// The last of them is cut short or no note, and was signed for good.
pub(crate) fn torn_checkpoint(dir: &Path, offset: u64) -> Error {
    let source = NoteError::Malformed("it is cut short or no note");
    bad_checkpoint(dir, offset, |line| Cause::Checkpoint { line, source })
}

fn line_at(path: &Path, offset: u64) -> io::Result<u64> {
    let mut before = BufReader::new(disk::open(path)?.take(offset));
    let mut line = 1;
    while before.skip_until(b'\n')? > 0 {
        line += 1;
    }
    Ok(line)
}
