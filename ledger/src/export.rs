//! Checkpoints as plain files in a second place: another disk, a stick, a share of another host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::{self, Checkpoint};
use crate::disk::{self, Access, AppendFile};
use crate::error::Error;
use crate::keys;
use crate::layout;
use crate::published;
use crate::thin::{self, NotThinned};

/// A directory of one log's checkpoints, with the same public files as the log's own: `ledger.pub`,
/// `rotations.txt`, `checkpoints.txt` and `last-checkpoint`. Independent of the log: what fails here
/// does not stop the writer.
#[derive(Debug)]
pub struct Export {
    dir: PathBuf,
    /// The log's directory.
    log: PathBuf,
    /// `None` after a failed write, until it is opened again.
    checkpoints: Option<AppendFile>,
    /// Bytes of it that are durable.
    durable: u64,
    /// The length from which on it is thinned.
    thin_at: u64,
    newest: Option<Checkpoint>,
}

impl Export {
    /// Opens `dir`, which exists, for the log in `log`. A directory of another log, or of one that
    /// has more epochs, is refused, and so is the log's own.
    pub fn open(dir: &Path, log: &Path) -> Result<Export, Error> {
        let real = |path: &Path| fs::canonicalize(path).map_err(Error::io("open", path));
        if real(dir)? == real(log)? {
            let own = io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is the ledger's own directory",
            );
            return Err(Error::io("copy checkpoints to", dir)(own));
        }
        let keys = &published::public_keys(log)?;
        keys::export(dir, keys)?;
        let newest = published::last_checkpoint(dir, keys)?;
        let (checkpoints, _) = checkpoint::open_list(&layout::checkpoints(dir))?;
        Ok(Export {
            dir: dir.to_owned(),
            log: log.to_owned(),
            durable: checkpoints.len(),
            checkpoints: Some(checkpoints),
            thin_at: thin::next_at(0),
            newest,
        })
    }

    /// The newest checkpoint that was brought here.
    pub fn newest(&self) -> Option<&Checkpoint> {
        self.newest.as_ref()
    }

    /// Adds a checkpoint, durably. One that is not newer than those here is left out.
    pub fn add(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let is_known = |newest: &Checkpoint| !checkpoint.follows(newest);
        if self.newest.as_ref().is_some_and(is_known) {
            return Ok(());
        }
        // Before the checkpoint that is signed by the newest keys.
        bring_rotations(&self.log, &self.dir)?;
        let mut checkpoints = match self.checkpoints.take() {
            Some(checkpoints) => checkpoints,
            // What a failed write left is cut, what a failed sync left is written again.
            None => {
                let path = layout::checkpoints(&self.dir);
                let (mut checkpoints, _) = checkpoint::open_list(&path)?;
                checkpoints.renew(self.durable.min(checkpoints.len()))?;
                checkpoints
            }
        };
        let note = checkpoint.note();
        checkpoints.write(checkpoint::record(note).as_bytes())?;
        checkpoints.sync()?;
        self.durable = checkpoints.len();
        self.checkpoints = Some(checkpoints);
        let last = layout::last_checkpoint(&self.dir);
        disk::replace(&last, note.as_bytes(), Access::Everyone)?;
        self.newest = Some(checkpoint.clone());
        match self.durable >= self.thin_at {
            true => self.thin(checkpoint.time()),
            false => Ok(()),
        }
    }

    /// What fails here is for later: the checkpoint is there already.
    fn thin(&mut self, now: u64) -> Result<(), Error> {
        let keys = published::public_keys(&self.log)?;
        match thin::thin(&self.dir, &keys, now) {
            Ok(thinned) => {
                if let Some(thinned) = thinned {
                    self.durable = thinned.len();
                    self.checkpoints = Some(thinned);
                }
                self.thin_at = thin::next_at(self.durable);
                Ok(())
            }
            Err(NotThinned::AsBefore(error)) => {
                self.thin_at = thin::again_at(self.durable);
                Err(error)
            }
            Err(NotThinned::Unsettled(error)) => {
                // Opened again, and all of it written once more.
                (self.checkpoints, self.durable) = (None, 0);
                Err(error)
            }
        }
    }
}

/// Copies `rotations.txt` if it has changed.
fn bring_rotations(log: &Path, to: &Path) -> Result<(), Error> {
    let (from, to) = (layout::rotations(log), layout::rotations(to));
    let read = |path| disk::read_small(path, published::MAX_ROTATIONS_BYTES);
    match (read(&from)?, read(&to)?) {
        (Some(listed), copied) if copied.as_ref() != Some(&listed) => {
            disk::replace(&to, &listed, Access::Everyone)
        }
        _ => Ok(()),
    }
}
