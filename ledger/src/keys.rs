//! The public keys that verify a log's checkpoints, and the file they are published in.

use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::checkpoint::{Record, Records};
use crate::disk::{self, Access};
use crate::error::{Cause, Error};
use crate::layout;
use crate::note::{self, KeyKind, NoteError, PublicKey, SignedNote};
use crate::published;
use crate::rotation::Rotation;

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

/// What verifies the checkpoints of a log: the keys it began with, and the statements by which each
/// epoch's keys handed over to the next. Whoever trusts the first keys needs to trust no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKeys {
    first: LogKeys,
    /// In order; each was verified with the keys before it.
    rotations: Vec<Rotation>,
}

/// The keys of one epoch, and the sizes of tree that they sign for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Its number, from 0.
    pub number: u64,
    /// Leaves of the smallest tree that they sign for.
    pub from: u64,
    /// Leaves of the largest one; `None` for the epoch that lasts.
    pub to: Option<u64>,
    /// When it began, in POSIX seconds; not known of the first.
    pub began: Option<u64>,
    /// The key of the tree.
    pub log: PublicKey,
    /// The key of the time.
    pub time: PublicKey,
}

impl PublicKeys {
    pub(crate) fn new(first: LogKeys) -> PublicKeys {
        PublicKeys {
            first,
            rotations: Vec::new(),
        }
    }

    /// Reads what [`PublicKeys`] displays as: `ledger.pub`, or what `daemoneye ledger key
    /// export-public` prints.
    pub fn parse(text: &str) -> Result<PublicKeys, NoteError> {
        let Some(at) = text.find("\n\n") else {
            return LogKeys::parse(text).map(PublicKeys::new);
        };
        let mut keys = PublicKeys::new(LogKeys::parse(&text[..=at])?);
        let rest = format!("{}\n", &text[at + 2..]);
        match keys.accept_all(rest.as_bytes())? == rest.len() {
            true => Ok(keys),
            false => Err(NoteError::Malformed("rotation statement is cut short")),
        }
    }

    /// Verifies and adds the statements of `rotations.txt`; returns how many bytes they take, since
    /// the last may be torn.
    pub(crate) fn accept_all(&mut self, listed: &[u8]) -> Result<usize, NoteError> {
        let mut records = Records::new(listed, 0);
        loop {
            // Reading from memory does not fail.
            let record = records
                .next()
                .map_err(|_| NoteError::Malformed("unreadable"))?;
            match record {
                Record::Note { note, .. } => {
                    self.add(Rotation::open(note::text(&note)?, self)?);
                }
                Record::Torn { offset } | Record::End { offset } => {
                    return Ok(usize::try_from(offset).unwrap_or(usize::MAX));
                }
            }
        }
    }

    /// Adds a rotation that was verified with these keys.
    pub(crate) fn add(&mut self, rotation: Rotation) {
        self.rotations.push(rotation);
    }

    /// The keys that the log began with, alone.
    pub(crate) fn first_epoch(&self) -> PublicKeys {
        PublicKeys::new(self.first.clone())
    }

    pub(crate) fn rotations(&self) -> &[Rotation] {
        &self.rotations
    }

    /// Why these are not `older` and perhaps later epochs.
    pub(crate) fn differ(&self, older: &PublicKeys) -> &'static str {
        match self.first == older.first {
            true => LACKS_EPOCHS,
            false => "it is not the key asked for",
        }
    }

    /// Whether these are `older`, and perhaps later epochs.
    pub(crate) fn extend(&self, older: &PublicKeys) -> bool {
        self.first == older.first && self.rotations.starts_with(&older.rotations)
    }

    /// The number of the newest epoch.
    pub fn epoch(&self) -> u64 {
        self.rotations.last().map_or(0, |rotation| rotation.epoch)
    }

    /// All epochs, in order.
    pub fn epochs(&self) -> Vec<Epoch> {
        let sizes = self.rotations.iter().map(|rotation| rotation.size);
        let ends: Vec<u64> = sizes.collect();
        let first = (&self.first, 0, None);
        let later = self.rotations.iter();
        let later = later.map(|next| (&next.keys, next.size + 1, Some(next.time)));
        let all = (0..).zip(std::iter::once(first).chain(later));
        all.map(|(number, (keys, from, began))| Epoch {
            number,
            from,
            to: usize::try_from(number)
                .ok()
                .and_then(|at| ends.get(at).copied()),
            began,
            log: keys.log.clone(),
            time: keys.time.clone(),
        })
        .collect()
    }

    pub(crate) fn newest(&self) -> &LogKeys {
        let newest = self.rotations.last();
        newest.map_or(&self.first, |rotation| &rotation.keys)
    }

    /// The size of the smallest tree that the newest keys sign for.
    pub(crate) fn begins_at(&self) -> u64 {
        self.rotations
            .last()
            .map_or(0, |rotation| rotation.size + 1)
    }

    /// Whether keys of any epoch signed it, for an error that says so.
    pub(crate) fn signed_in_another_epoch(&self, note: &SignedNote) -> bool {
        let later = self.rotations.iter().map(|rotation| &rotation.keys);
        std::iter::once(&self.first)
            .chain(later)
            .any(|keys| note.verify(&keys.log).is_ok())
    }

    /// SHA-256 of `ledger.pub`, which later epochs do not change.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.first.to_string()).into()
    }

    /// The log's origin.
    pub fn name(&self) -> &str {
        self.first.log.name()
    }

    /// The keys that sign for a tree of `size` leaves, and no others do.
    pub(crate) fn at(&self, size: u64) -> &LogKeys {
        self.begun_before(size)
            .map_or(&self.first, |rotation| &rotation.keys)
    }

    /// The first leaf that the keys for a tree of `size` leaves vouch for. Those before it are for the
    /// keys of their own epochs: whoever has stolen later ones could have put others there.
    pub(crate) fn first_leaf_at(&self, size: u64) -> u64 {
        self.begun_before(size).map_or(0, |rotation| rotation.size)
    }

    /// Leaves of the last tree that the keys of this leaf's epoch signed for, if it is over.
    pub(crate) fn closed_at(&self, leaf: u64) -> Option<u64> {
        let mut sizes = self.rotations.iter().map(|rotation| rotation.size);
        sizes.find(|size| leaf < *size)
    }

    /// Of the leaves at `indexes` that the keys for a tree of `size` leaves do not vouch for, one for each
    /// epoch, and the rotation that ended it.
    pub(crate) fn earlier_epochs(
        &self,
        indexes: impl Iterator<Item = u64>,
        size: u64,
    ) -> Vec<(u64, &Rotation)> {
        let first = self.first_leaf_at(size);
        let mut found: Vec<(u64, &Rotation)> = Vec::new();
        for index in indexes.filter(|index| *index < first) {
            let mut rotations = self.rotations.iter();
            if let Some(ended) = rotations.find(|rotation| index < rotation.size)
                && found.iter().all(|(_, known)| known.size != ended.size)
            {
                found.push((index, ended));
            }
        }
        found
    }

    fn begun_before(&self, size: u64) -> Option<&Rotation> {
        let mut newest_first = self.rotations.iter().rev();
        newest_first.find(|rotation| rotation.size < size)
    }
}

impl fmt::Display for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        let mut notes = self.rotations.iter().map(|rotation| &rotation.note);
        notes.try_for_each(|note| write!(f, "\n{note}"))
    }
}

const LACKS_EPOCHS: &str = "the log lacks epochs that are known of it elsewhere, or has others: it \
    was set back, or its keys were used elsewhere";

/// Writes `ledger.pub` if it is missing.
pub(crate) fn publish(dir: &Path, keys: &LogKeys) -> Result<(), Error> {
    match read(dir)? {
        Some(_) => Ok(()),
        None => {
            let path = layout::public_key(dir);
            disk::replace(&path, keys.to_string().as_bytes(), Access::Everyone)
        }
    }
}

/// Writes `ledger.pub` to a directory beside the log; keys that are there must be these.
pub(crate) fn export(dir: &Path, keys: &PublicKeys) -> Result<(), Error> {
    match read(dir)? {
        None => publish(dir, &keys.first),
        Some(there) if there != keys.first => Err(damaged(dir, "it is that of another log")),
        Some(_) if !keys.extend(&published::public_keys(dir)?) => Err(damaged(dir, LACKS_EPOCHS)),
        Some(_) => Ok(()),
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
