//! Checkpoints as plain files in a second place: another disk, a stick, a share of another host.

use std::fs;
use std::path::{Path, PathBuf};

use crate::checkpoint::{self, Checkpoint};
use crate::disk::{self, Access, AppendFile};
use crate::error::Error;
use crate::keys;
use crate::layout;
use crate::published;

/// A directory of one log's checkpoints, with the same public files as the log's own:
/// `ledger.pub`, `rotations.txt`, `checkpoints.txt` and `last-checkpoint`. Independent of the log: what fails here
/// does not stop the writer.
#[derive(Debug)]
pub struct Export {
    dir: PathBuf,
    /// The log's directory.
    log: PathBuf,
    checkpoints: AppendFile,
    newest: Option<Checkpoint>,
}

impl Export {
    /// Opens `dir`, which exists, for the log in `log`. A directory of another log, or of one that
    /// has come further than this, is refused.
    pub fn open(dir: &Path, log: &Path) -> Result<Export, Error> {
        let keys = &published::public_keys(log)?;
        keys::export(dir, keys)?;
        bring_rotations(log, dir)?;
        let newest = published::last_checkpoint(dir, keys)?;
        let path = layout::checkpoints(dir);
        let mut checkpoints = AppendFile::open(&path, Access::Everyone)?;
        let end = checkpoint::whole_records(&path)?;
        if checkpoints.len() > end {
            checkpoints.cut(end)?;
        }
        Ok(Export {
            dir: dir.to_owned(),
            log: log.to_owned(),
            checkpoints,
            newest,
        })
    }

    /// The newest checkpoint that was brought here.
    pub fn newest(&self) -> Option<&Checkpoint> {
        self.newest.as_ref()
    }

    /// Adds a checkpoint, durably. One that is not newer than those here is left out.
    pub fn add(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        if self
            .newest
            .as_ref()
            .is_some_and(|newest| !checkpoint.follows(newest))
        {
            return Ok(());
        }
        // Before the checkpoint that is signed by the newest keys.
        bring_rotations(&self.log, &self.dir)?;
        let note = checkpoint.note();
        self.checkpoints
            .write(checkpoint::record(note).as_bytes())?;
        self.checkpoints.sync()?;
        let last = layout::last_checkpoint(&self.dir);
        disk::replace(&last, note.as_bytes(), Access::Everyone)?;
        self.newest = Some(checkpoint.clone());
        Ok(())
    }
}

/// Copies `rotations.txt` if it has grown.
fn bring_rotations(log: &Path, to: &Path) -> Result<(), Error> {
    let (from, to) = (layout::rotations(log), layout::rotations(to));
    let len = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    if len(&from) <= len(&to) {
        return Ok(());
    }
    let listed = fs::read(&from).map_err(Error::io("read", &from))?;
    disk::replace(&to, &listed, Access::Everyone)
}
