//! redb on the simulated disk, where this thread has one.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend};

use super::disk::{self, look, make};
use crate::disk::Change;

pub(crate) fn create(builder: Builder, path: &Path) -> Result<Database, DatabaseError> {
    match disk::is_simulated() {
        true => builder.create_with_backend(Backend::open(path)?),
        false => builder.create(path),
    }
}

/// A file of no bytes is begun anew, which redb itself does not do; the ledger finds it empty.
pub(crate) fn open(builder: Builder, path: &Path) -> Result<Database, DatabaseError> {
    match disk::is_simulated() {
        true => builder.create_with_backend(Backend::open(path)?),
        false => builder.open(path),
    }
}

#[derive(Debug)]
struct Backend {
    path: PathBuf,
    file: File,
    inner: FileBackend,
}

impl Backend {
    fn open(path: &Path) -> Result<Backend, DatabaseError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = make(Change::Create(path), || options.open(path))?;
        Ok(Backend {
            path: path.to_owned(),
            file: file.try_clone()?,
            inner: FileBackend::new(file)?,
        })
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        look(0)?;
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        look(0)?;
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let path = &self.path;
        make(Change::SetLen { path, len }, || self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        make(Change::Sync(&self.path), || self.inner.sync_data())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let path = &self.path;
        let write = Change::Write {
            path,
            offset,
            bytes,
        };
        make(write, || self.inner.write(offset, bytes))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}
