//! The signed checkpoints that the log is held against.

use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::checkpoint::{Checkpoint, Record, Records};
use crate::disk::{self, ReadFile};
use crate::error::{Cause, Error};
use crate::keys::PublicKeys;
use crate::layout;
use crate::published;

/// The signed checkpoints, in the order they were signed.
pub(super) struct Seals<'a> {
    dir: &'a Path,
    pub(super) keys: PublicKeys,
    records: Records<BufReader<io::Take<ReadFile>>>,
    /// The checkpoint to come to.
    pub(super) next: Option<Checkpoint>,
    /// The checkpoint last passed.
    pub(super) passed: Option<Checkpoint>,
    pub(super) count: u64,
    /// How often one was signed at an earlier time than the one before it.
    pub(super) clock_set_back: u64,
    /// Where one is written in part.
    pub(super) torn: Option<u64>,
    pub(super) last: Checkpoint,
    last_seen: bool,
}

impl<'a> Seals<'a> {
    pub(super) fn open(
        dir: &'a Path,
        keys: &PublicKeys,
        last: Checkpoint,
    ) -> Result<Seals<'a>, Error> {
        let path = layout::checkpoints(dir);
        let records = match disk::open(&path) {
            Ok(file) => {
                let len = file.len().map_err(Error::io("read", &path))?;
                Records::new(BufReader::new(file.take(len)), 0)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::damaged(&path, 0, 0..0, Cause::Missing));
            }
            Err(e) => return Err(Error::io("open", &path)(e)),
        };
        let mut seals = Seals {
            dir,
            keys: keys.clone(),
            records,
            next: None,
            passed: None,
            count: 0,
            clock_set_back: 0,
            torn: None,
            last_seen: false,
            last,
        };
        seals.read_next()?;
        Ok(seals)
    }

    /// Leaves covered by the checkpoint last passed.
    pub(super) fn sealed(&self) -> u64 {
        self.passed.as_ref().map_or(0, Checkpoint::size)
    }

    /// Passes the next checkpoint and returns its note.
    pub(super) fn advance(&mut self) -> Result<String, Error> {
        let passed = self.next.take().expect("only called at a checkpoint");
        self.last_seen |= self.last == passed;
        let note = passed.note().to_owned();
        let before = self.passed.as_ref().map_or(0, Checkpoint::time);
        self.clock_set_back += u64::from(passed.time() < before);
        self.passed = Some(passed);
        self.count += 1;
        self.read_next()?;
        Ok(note)
    }

    fn read_next(&mut self) -> Result<(), Error> {
        let path = layout::checkpoints(self.dir);
        match self.records.next().map_err(Error::io("read", &path))? {
            Record::End { .. } => {}
            Record::Torn { offset } => self.torn = Some(offset),
            Record::Note { note, offset } => self.next = Some(self.checkpoint(&note, offset)?),
        }
        Ok(())
    }

    fn checkpoint(&self, note: &[u8], offset: u64) -> Result<Checkpoint, Error> {
        let checkpoint = match self.last.note().as_bytes() == note {
            true => self.last.clone(),
            false => published::opened(self.dir, &self.keys, note, offset)?,
        };
        let size = checkpoint.size();
        if size < self.sealed() {
            let cause = |line| Cause::Order { line, size };
            return Err(published::bad_checkpoint(self.dir, offset, cause));
        }
        Ok(checkpoint)
    }

    /// The last checkpoint is written after checkpoints.txt, so it must be listed there.
    pub(super) fn last_is_listed(&self) -> Result<(), Error> {
        match self.last_seen {
            true => Ok(()),
            false => match self.torn {
                Some(offset) => Err(published::torn_checkpoint(self.dir, offset)),
                None => Err(self.unlisted(&self.last)),
            },
        }
    }

    /// A checkpoint that was signed is not in checkpoints.txt.
    pub(super) fn unlisted(&self, checkpoint: &Checkpoint) -> Error {
        let size = checkpoint.size();
        let path = layout::checkpoints(self.dir);
        Error::damaged(&path, 0, 0..0, Cause::Unlisted { size })
    }
}
