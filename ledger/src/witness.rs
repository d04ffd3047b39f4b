//! Witnesses: others that cosign checkpoints after they saw that the log only grew.
//!
//! The log cannot reach them itself. A checkpoint is carried to them, and the cosigned note back;
//! the newest such note is kept beside the log.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::disk::{self, Access};
use crate::error::Error;
use crate::fsck::Age;
use crate::keys::PublicKeys;
use crate::layout;
use crate::note::{self, KeyKind, NoteError, PublicKey, SignedNote};
use crate::published;

/// The witnesses that somebody trusts, and how many of them must have cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnesses {
    keys: Vec<PublicKey>,
    needed: usize,
}

/// A cosignature that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosignature {
    /// The witness's name.
    pub witness: String,
    /// When it cosigned, by its own clock, in POSIX seconds.
    pub time: u64,
}

impl Witnesses {
    /// Reads vkeys of cosignature keys, a line each; `needed` of them must have cosigned.
    pub fn parse(text: &str, needed: usize) -> Result<Witnesses, NoteError> {
        let mut keys: Vec<PublicKey> = Vec::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            let key = PublicKey::parse(line)?;
            if key.kind() != KeyKind::Cosignature {
                return Err(NoteError::Malformed("key of a witness is of another type"));
            }
            // One witness under two names would count twice.
            if keys.iter().any(|known| known.bytes() == key.bytes()) {
                return Err(NoteError::Malformed("two witnesses have the same key"));
            }
            keys.push(key);
        }
        match keys.len() >= needed {
            true => Ok(Witnesses { keys, needed }),
            false => Err(NoteError::Malformed("more witnesses are needed than named")),
        }
    }

    /// Whether as many of them as are needed cosigned within the age.
    pub(crate) fn within(&self, age: Age, cosignatures: &[Cosignature]) -> Result<(), Error> {
        let mut times: Vec<u64> = cosignatures.iter().map(|by| by.time).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let oldest_needed = self.needed.checked_sub(1).and_then(|at| times.get(at));
        match oldest_needed {
            Some(&cosigned_at) if !age.allows(cosigned_at) => Err(Error::StaleWitness {
                cosigned_at,
                now: age.now,
                seconds: age.seconds,
            }),
            _ => Ok(()),
        }
    }

    /// The cosignatures of these witnesses on `checkpoint`. One that does not verify is an error.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<Vec<Cosignature>, NoteError> {
        let note = SignedNote::parse(checkpoint.note())?;
        let mut found = Vec::new();
        for key in &self.keys {
            match note.cosigned_at(key) {
                Ok(time) => found.push(Cosignature {
                    witness: key.name().to_owned(),
                    time,
                }),
                Err(NoteError::NotSigned) => {}
                Err(e) => return Err(e),
            }
        }
        match found.len() >= self.needed {
            true => Ok(found),
            false => Err(NoteError::TooFewWitnesses),
        }
    }
}

/// The checkpoint that was last carried back from witnesses, if any ever was.
pub(crate) fn carried(dir: &Path, keys: &PublicKeys) -> Result<Option<Checkpoint>, Error> {
    published::checkpoint_in(&layout::witnessed_checkpoint(dir), keys)
}

/// Keeps a cosigned checkpoint beside the log, in place of an older one. Of one of the same tree the
/// cosignatures stay.
pub(crate) fn keep(dir: &Path, keys: &PublicKeys, checkpoint: &Checkpoint) -> Result<(), Error> {
    let kept = carried(dir, keys)?;
    let joined = match &kept {
        Some(kept) if kept.size() > checkpoint.size() => {
            return Err(Error::OlderThanWitnessed {
                size: checkpoint.size(),
                kept: kept.size(),
            });
        }
        Some(kept) if kept.root() == checkpoint.root() => {
            note::with_signatures_of(checkpoint.note(), kept.note())?
        }
        _ => checkpoint.note().to_owned(),
    };
    let path = layout::witnessed_checkpoint(dir);
    disk::replace(&path, joined.as_bytes(), Access::Everyone)
}
