//! Which secret the log goes on with: settles a rotation that was cut short.

use std::path::Path;

use super::scan::Scanned;
use super::{Found, RotationRecovery};
use crate::disk;
use crate::error::{Cause, Error};
use crate::key::LogSecret;
use crate::keys::PublicKeys;
use crate::layout;
use crate::rotation::{self, Rotation};

/// The secrets that lie in the directory.
pub(super) struct Secrets {
    /// `None` also for one that was erased.
    pub(super) current: Option<LogSecret>,
    next: Option<LogSecret>,
}

/// The secret to go on with, and what has to be done for that.
pub(super) enum Settled {
    /// Nothing is left of any rotation.
    Current(LogSecret),
    /// The successor that was made is not in the log, and is dropped.
    Undone(LogSecret),
    /// The successor is named in the log, and takes over.
    Finished(LogSecret),
    /// So it is, but `rotations.txt` does not say so yet.
    Stated(LogSecret, Box<Rotation>),
}

impl Secrets {
    pub(super) fn load(dir: &Path) -> Result<Secrets, Error> {
        Ok(Secrets {
            current: LogSecret::load(&layout::secret_key(dir))?,
            next: LogSecret::load(&layout::next_key(dir))?,
        })
    }

    pub(super) fn is_none(&self) -> bool {
        self.current.is_none() && self.next.is_none()
    }

    /// `stated` is a rotation at the end of the log that `rotations.txt` does not list.
    pub(super) fn settle(
        self,
        dir: &Path,
        keys: &PublicKeys,
        stated: Option<Rotation>,
    ) -> Result<Settled, Error> {
        let newest = stated.as_ref().map_or(keys.newest(), |stated| &stated.keys);
        let is_newest = |secret: &LogSecret| secret.public() == *newest;
        match (self.current, self.next) {
            (_, Some(next)) if is_newest(&next) => Ok(match stated {
                Some(rotation) => Settled::Stated(next, Box::new(rotation)),
                None => Settled::Finished(next),
            }),
            (Some(current), None) if is_newest(&current) => Ok(Settled::Current(current)),
            (Some(current), Some(_)) if is_newest(&current) => Ok(Settled::Undone(current)),
            (current, _) => Err(Error::Key {
                path: layout::secret_key(dir),
                cause: match current {
                    Some(_) => "it is not that of the log's newest public keys",
                    None => "it was erased, and its successor is missing",
                },
            }),
        }
    }
}

impl Settled {
    /// What to tell of it.
    pub(super) fn told(&self) -> RotationRecovery {
        match self {
            Settled::Current(_) => RotationRecovery::None,
            Settled::Undone(_) => RotationRecovery::Undone,
            Settled::Finished(_) | Settled::Stated(..) => RotationRecovery::Finished,
        }
    }

    /// Does it, so that only the secret to go on with is left.
    pub(super) fn apply(self, dir: &Path, keys: &mut PublicKeys) -> Result<LogSecret, Error> {
        match self {
            Settled::Current(secret) => Ok(secret),
            Settled::Undone(secret) => {
                disk::erase(&layout::next_key(dir))?;
                Ok(secret)
            }
            Settled::Finished(secret) => {
                rotation::hand_over(dir)?;
                Ok(secret)
            }
            Settled::Stated(secret, rotation) => {
                rotation::list(dir, &rotation)?;
                keys.add(*rotation);
                rotation::hand_over(dir)?;
                Ok(secret)
            }
        }
    }
}

impl Found<'_> {
    /// The rotation at the end of the log that `rotations.txt` does not list, if there is one. Those
    /// that it lists must be the leaves that were read again.
    pub(super) fn stated(&self, scanned: &Scanned) -> Result<Option<Rotation>, Error> {
        let listed = self.keys.rotations();
        let size = scanned.edge.size();
        if let Some(beyond) = listed.last().filter(|last| last.size >= size) {
            return Err(Error::RolledBack {
                log_size: size,
                checkpoint_size: beyond.size + 1,
            });
        }
        for (index, leaf) in &scanned.own_leaves {
            let known = listed.iter().find(|rotation| rotation.size == *index);
            let other = |cause| {
                let leaves = *index..index + 1;
                Error::damaged(
                    &layout::rotations(self.dir),
                    0,
                    leaves,
                    Cause::Rotation(cause),
                )
            };
            match known {
                Some(known) if known.note.as_bytes() == leaf => {}
                None if index + 1 == size => {
                    let note = std::str::from_utf8(leaf);
                    let note = note.map_err(|_| other("the leaf is not text"))?;
                    let stated = Rotation::open(note, &self.keys);
                    return match stated {
                        Ok(stated) if stated.size == *index => Ok(Some(stated)),
                        _ => Err(other("the leaf is not sound")),
                    };
                }
                _ => return Err(other("the leaf is not listed")),
            }
        }
        Ok(None)
    }
}
