//! Checkpoints as plain files in a second place: another disk, a stick, a share of another host.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use crate::checkpoint::{self, Checkpoint, Record, Records};
use crate::disk::{self, Access, AppendFile};
use crate::error::Error;
use crate::keys::{self, PublicKeys};
use crate::layout;
use crate::published;

/// A directory of one log's checkpoints, with the same three public files as the log's own:
/// `ledger.pub`, `checkpoints.txt` and `last-checkpoint`. Independent of the log: what fails here
/// does not stop the writer.
#[derive(Debug)]
pub struct Export {
    dir: PathBuf,
    checkpoints: AppendFile,
    newest: Option<Checkpoint>,
}

impl Export {
    /// Opens `dir`, which exists, for the log of `keys`. A directory of another log is refused.
    pub fn open(dir: &Path, keys: &PublicKeys) -> Result<Export, Error> {
        keys::export(dir, keys)?;
        let newest = published::last_checkpoint(dir, keys)?;
        let path = layout::checkpoints(dir);
        let mut checkpoints = AppendFile::open(&path, Access::Everyone)?;
        let end = whole_records(&path)?;
        if checkpoints.len() > end {
            checkpoints.cut(end)?;
        }
        Ok(Export {
            dir: dir.to_owned(),
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

/// Where the last whole record ends.
fn whole_records(path: &Path) -> Result<u64, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut records = Records::new(BufReader::new(file), 0);
    loop {
        match records.next().map_err(Error::io("read", path))? {
            Record::Note { .. } => {}
            Record::End { offset } | Record::Torn { offset } => return Ok(offset),
        }
    }
}
