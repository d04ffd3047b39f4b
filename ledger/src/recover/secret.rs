//! Which secret the log goes on with: settles a rotation that was cut short.

use std::path::Path;

use super::scan::Scanned;
use super::{Found, RotationRecovery};
use crate::checkpoint::Checkpoint;
use crate::disk;
use crate::error::{Cause, Error};
use crate::gap::Gap;
use crate::key::LogSecret;
use crate::keys::PublicKeys;
use crate::layout;
use crate::rotation::{self, Rotation};

/// The secrets that lie in the directory.
pub(super) struct Secrets {
    /// `None` also for one that was erased.
    pub(super) current: Option<LogSecret>,
    next: Option<LogSecret>,
    /// Why one of them cannot be read. It is no matter where the other is the newest: the power went
    /// while this one was erased.
    unreadable: Option<Error>,
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
    /// The successor has taken over, and `rotations.txt` says so no more.
    Unlisted(LogSecret, Box<Rotation>),
}

impl Secrets {
    pub(super) fn load(dir: &Path) -> Result<Secrets, Error> {
        let mut unreadable = None;
        let mut load = |path: &Path| match LogSecret::load(path) {
            Err(error @ Error::Key { .. }) => {
                unreadable = Some(error);
                Ok(None)
            }
            secret => secret,
        };
        let next = load(&layout::next_key(dir))?;
        let current = load(&layout::secret_key(dir))?;
        match (&current, &next, unreadable) {
            (None, None, Some(error)) => Err(error),
            (_, _, unreadable) => Ok(Secrets {
                current,
                next,
                unreadable,
            }),
        }
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
        let is_left = self.next.is_some() || disk::exists(&layout::next_key(dir))?;
        let newest = stated.as_ref().map_or(keys.newest(), |stated| &stated.keys);
        let is_newest = |secret: &LogSecret| secret.public() == *newest;
        match (self.current, self.next) {
            (_, Some(next)) if is_newest(&next) => Ok(match stated {
                Some(rotation) => Settled::Stated(next, Box::new(rotation)),
                None => Settled::Finished(next),
            }),
            (Some(current), _) if is_newest(&current) => Ok(match stated {
                Some(rotation) => Settled::Unlisted(current, Box::new(rotation)),
                None if is_left => Settled::Undone(current),
                None => Settled::Current(current),
            }),
            (current, _) => Err(self.unreadable.unwrap_or(Error::Key {
                path: layout::secret_key(dir),
                cause: match current {
                    Some(_) => "it is not that of the log's newest public keys",
                    None => "it was erased, and its successor is missing",
                },
            })),
        }
    }
}

impl Settled {
    /// What to tell of it.
    pub(super) fn told(&self) -> RotationRecovery {
        match self {
            Settled::Current(_) => RotationRecovery::None,
            Settled::Undone(_) => RotationRecovery::Undone,
            Settled::Finished(_) | Settled::Stated(..) | Settled::Unlisted(..) => {
                RotationRecovery::Finished
            }
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
                // It may be listed in the page cache alone, and then the old secret is still needed.
                rotation::renew_list(dir)?;
                rotation::hand_over(dir)?;
                Ok(secret)
            }
            Settled::Stated(secret, rotation) => {
                rotation::list(dir, &rotation)?;
                keys.add(*rotation);
                rotation::hand_over(dir)?;
                Ok(secret)
            }
            Settled::Unlisted(secret, rotation) => {
                rotation::list(dir, &rotation)?;
                keys.add(*rotation);
                Ok(secret)
            }
        }
    }
}

impl Found<'_> {
    /// The rotation at the end of the log that `rotations.txt` does not list, if there is one. Those
    /// that it lists must be the leaves that were read again.
    pub(super) fn stated(
        &self,
        scanned: &Scanned,
        sealed_by: &Checkpoint,
    ) -> Result<Option<Rotation>, Error> {
        let listed = self.keys.rotations();
        let size = scanned.edge.size();
        let unsound = |index: u64, cause| {
            let (path, leaves) = (layout::rotations(self.dir), index..index + 1);
            Error::damaged(&path, 0, leaves, Cause::Rotation(cause))
        };
        if let Some(beyond) = listed.last().filter(|last| last.size >= size) {
            return Err(Error::RolledBack {
                log_size: size,
                checkpoint_size: beyond.size + 1,
            });
        }
        let is_leaf = |rotation: &&Rotation| {
            let mut own = scanned.own_leaves.iter();
            own.any(|(index, leaf)| *index == rotation.size && leaf == rotation.note.as_bytes())
        };
        let mut read_again = listed.iter().filter(|listed| listed.size >= scanned.from);
        if let Some(missing) = read_again.find(|rotation| !is_leaf(rotation)) {
            return Err(unsound(missing.size, "the log lacks a leaf that is listed"));
        }
        let own = scanned.own_leaves.iter();
        for (index, leaf) in own.filter(|(_, leaf)| !Gap::is(leaf)) {
            let other = |cause| unsound(*index, cause);
            match listed.iter().find(|rotation| rotation.size == *index) {
                Some(_) => {}
                None if index + 1 == size => {
                    let note = std::str::from_utf8(leaf);
                    let note = note.map_err(|_| other("the leaf is not text"))?;
                    let stated = Rotation::open(note, &self.keys);
                    return match stated {
                        Ok(stated) if closes(sealed_by, &stated, *index) => Ok(Some(stated)),
                        _ => Err(other("the leaf is not sound")),
                    };
                }
                _ => return Err(other("the leaf is not listed")),
            }
        }
        Ok(None)
    }
}

/// Whether `last` is of all leaves before the statement, which says so.
fn closes(last: &Checkpoint, stated: &Rotation, index: u64) -> bool {
    (last.size(), last.root()) == (index, stated.root) && stated.size == index
}
