//! The public keys that verify a log's checkpoints, and the file they are published in.

use std::fmt;
use std::path::Path;

use crate::disk::{self, Access};
use crate::error::{Cause, Error};
use crate::layout;
use crate::note::{KeyKind, NoteError, PublicKey};

const MAX_FILE_BYTES: u64 = 2048;

/// The keys of a log: that of the tree, whose name is the origin, and that of the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogKeys {
    pub(crate) log: PublicKey,
    pub(crate) time: PublicKey,
}

impl LogKeys {
    /// Reads two vkey lines.
    pub(crate) fn parse(text: &str) -> Result<LogKeys, NoteError> {
        let malformed = NoteError::Malformed;
        let text = text
            .strip_suffix('\n')
            .ok_or(malformed("keys are cut short"))?;
        let (log, time) = text
            .split_once('\n')
            .ok_or(malformed("one of two keys is missing"))?;
        let (log, time) = (PublicKey::parse(log)?, PublicKey::parse(time)?);
        match (log.kind(), time.kind()) {
            (KeyKind::Note, KeyKind::Cosignature) if log.name() == time.name() => {
                Ok(LogKeys { log, time })
            }
            _ => Err(malformed(
                "keys are not one of the tree and one of the time",
            )),
        }
    }
}

impl fmt::Display for LogKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", self.log, self.time)
    }
}

/// What verifies the checkpoints of a log, as `ledger.pub` holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKeys {
    first: LogKeys,
}

impl PublicKeys {
    pub(crate) fn new(first: LogKeys) -> PublicKeys {
        PublicKeys { first }
    }

    /// Reads what [`PublicKeys`] displays as. Only the canonical spelling is accepted.
    pub fn parse(text: &str) -> Result<PublicKeys, NoteError> {
        LogKeys::parse(text).map(PublicKeys::new)
    }

    /// The log's origin.
    pub fn name(&self) -> &str {
        self.first.log.name()
    }

    /// The keys that sign for a tree of `size` leaves.
    pub(crate) fn at(&self, _size: u64) -> &LogKeys {
        &self.first
    }
}

impl fmt::Display for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)
    }
}

/// Writes `ledger.pub` if it is missing; otherwise it must hold these keys.
pub(crate) fn publish(dir: &Path, keys: &LogKeys) -> Result<(), Error> {
    match read(dir)? {
        Some(published) if published == *keys => Ok(()),
        Some(_) => Err(damaged(dir, "it is not that of ledger.key")),
        None => {
            let path = layout::public_key(dir);
            disk::replace(&path, keys.to_string().as_bytes(), Access::Everyone)
        }
    }
}

/// Writes `ledger.pub` to a directory beside the log; keys that are there must be these.
pub(crate) fn export(dir: &Path, keys: &PublicKeys) -> Result<(), Error> {
    match read(dir)? {
        Some(there) if there == keys.first => Ok(()),
        Some(_) => Err(damaged(dir, "it is that of another log")),
        None => publish(dir, &keys.first),
    }
}

/// Reads `ledger.pub`, or `None` when there is none.
pub(crate) fn read(dir: &Path) -> Result<Option<LogKeys>, Error> {
    let Some(bytes) = disk::read_small(&layout::public_key(dir), MAX_FILE_BYTES)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged(dir, "it is not text"))?;
    LogKeys::parse(text).map(Some).map_err(|e| match e {
        NoteError::Malformed(cause) => damaged(dir, cause),
        _ => damaged(dir, "it is not a vkey"),
    })
}

fn damaged(dir: &Path, cause: &'static str) -> Error {
    Error::damaged(&layout::public_key(dir), 0, 0..0, Cause::Key(cause))
}
