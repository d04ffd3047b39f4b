//! Everything that changes a file, and everything that reads one. Only here are files synced and
//! renamed, each time with a reason.
//!
//! A failed sync is never retried: the kernel may have dropped the dirty pages and would then
//! report success for bytes that are not on disk. The caller stops and reopens, and what it then
//! builds on is written once more ([`AppendFile::renew`]).
//!
//! What the disk does not give is an error with the byte where it was asked, never a shorter file:
//! what is torn gets cut, and a read that failed says nothing of what stands there.
//!
//! Each [`Change`] passes through [`make`] and each read through [`look`], where the tests put a disk
//! that fails.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::layout;

/// Bytes that the page cache keeps of what was written last: more than an open reads again.
const CACHED_BYTES: u64 = 48 << 20;

/// Bytes that are given back to the page cache at once.
const UNCACHED_BYTES: u64 = 1 << 20;

/// Bytes that [`AppendFile::renew`] holds at once.
const RENEW_BYTES: usize = 1 << 20;

/// Who may read a new file. Leaves and keys are the owner's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Owner,
    Everyone,
}

/// A change to the disk.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(all(test, unix)),
    expect(dead_code, reason = "only a simulated disk looks at it")
)]
pub(crate) enum Change<'a> {
    CreateDir(&'a Path),
    /// Unless it exists.
    Create(&'a Path),
    Write {
        path: &'a Path,
        offset: u64,
        bytes: &'a [u8],
    },
    SetLen {
        path: &'a Path,
        len: u64,
    },
    /// Bytes and length of a file.
    Sync(&'a Path),
    /// The names in a directory.
    SyncDir(&'a Path),
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    Remove(&'a Path),
}

/// Makes the change by `call`.
#[cfg(not(all(test, unix)))]
#[inline(always)]
fn make<T>(_: Change<'_>, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    call()
}

/// Before `wanted` bytes of a file are read, or something else is looked at: how many it may be.
#[cfg(not(all(test, unix)))]
#[inline(always)]
fn look(wanted: usize) -> io::Result<usize> {
    Ok(wanted)
}

#[cfg(all(test, unix))]
use crate::crash::disk::{look, make};

/// Creates the directory and those above it, readable by the owner alone, unless it exists.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    create_dir(parent(dir))?;
    let mut builder = fs::DirBuilder::new();
    // It may have come to exist meanwhile.
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    make(Change::CreateDir(dir), || builder.create(dir)).map_err(Error::io("create", dir))?;
    sync_dir(parent(dir))
}

/// The writer's lock, held until this is dropped.
pub(crate) struct Lock(File);

impl Drop for Lock {
    /// Explicitly, since a child that was just forked and did not exec yet keeps the file open.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Takes the writer's lock.
pub(crate) fn lock(dir: &Path) -> Result<Lock, Error> {
    let path = layout::lock(dir);
    let file = options(Access::Owner)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            dir: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(Error::io("lock", &path)(source)),
    }
}

/// Opens a file to read it. Anything but a plain file is refused: a pipe would keep the reader waiting,
/// and show each reader something else.
pub(crate) fn open(path: &Path) -> io::Result<ReadFile> {
    look(0)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        // Not to wait for whoever opens the other end.
        rustix::fs::OFlags::NONBLOCK.bits().cast_signed(),
    );
    let file = options.open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(ReadFile { file, offset: 0 }),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a plain file",
        )),
    }
}

/// A file to be read.
#[derive(Debug)]
pub(crate) struct ReadFile {
    file: File,
    /// Where its cursor stands.
    offset: u64,
}

impl ReadFile {
    /// How long it is by now.
    pub(crate) fn len(&self) -> io::Result<u64> {
        look(0)?;
        Ok(self.file.metadata()?.len())
    }

    /// Fills `bytes` from byte `offset` on. Moves the cursor somewhere.
    pub(crate) fn read_exact_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read_at_cursor(offset + filled as u64, &mut bytes[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// `offset` is where the cursor stands.
    fn read_at_cursor(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.try_read(offset, bytes);
        read.map_err(|source| io::Error::new(source.kind(), NotRead { offset, source }))
    }

    fn try_read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let read_once = |bytes: &mut [u8]| {
            let most = look(bytes.len())?;
            (&self.file).read(&mut bytes[..most])
        };
        match read_once(bytes)? {
            0 if !bytes.is_empty() && self.file.metadata()?.len() > offset => {}
            read => return Ok(read),
        }
        // It may have grown in between.
        match read_once(bytes)? {
            0 => Err(io::Error::other("nothing is read before its end")),
            read => Ok(read),
        }
    }
}

/// Where a file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("at byte {offset}")]
struct NotRead {
    offset: u64,
    source: io::Error,
}

impl Read for ReadFile {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.read_at_cursor(self.offset, bytes)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl Seek for ReadFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.offset = self.file.seek(to)?;
        Ok(self.offset)
    }
}

/// Whether there is a file, or anything else, of that name.
pub(crate) fn exists(path: &Path) -> Result<bool, Error> {
    let exists = look(0).and_then(|_| path.try_exists());
    exists.map_err(Error::io("read", path))
}

/// How long a file is.
pub(crate) fn len(path: &Path) -> Result<u64, Error> {
    let file = look(0).and_then(|_| fs::metadata(path));
    file.map(|file| file.len()).map_err(Error::io("read", path))
}

/// Reads a small file whole, or `None` when it does not exist. Longer than `limit` is an error.
pub(crate) fn read_small(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let file = match open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path)(e)),
    };
    let len = file.len().map_err(Error::io("read", path))?;
    // At once: what grows leaves copies behind in memory, and these may be secrets.
    let mut bytes = Vec::with_capacity(usize::try_from(len.min(limit)).unwrap_or(0) + 2);
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    match u64::try_from(bytes.len()) {
        Ok(len) if len <= limit => Ok(Some(bytes)),
        _ => Err(Error::io("read", path)(io::ErrorKind::FileTooLarge.into())),
    }
}

/// Whose a file is and who may do what with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights {
    /// The permission bits.
    pub(crate) mode: u32,
    /// The account that owns it, if that is not the one of this process.
    pub(crate) other_owner: Option<u32>,
}

/// The rights of a file.
#[cfg(unix)]
pub(crate) fn rights(path: &Path) -> Result<Rights, Error> {
    use std::os::unix::fs::MetadataExt;

    let file = look(0).and_then(|_| fs::metadata(path));
    let file = file.map_err(Error::io("read", path))?;
    Ok(Rights {
        mode: file.mode() & 0o7777,
        other_owner: other_than(rustix::process::geteuid().as_raw(), file.uid()),
    })
}

#[cfg(unix)]
fn other_than(own: u32, owner: u32) -> Option<u32> {
    Some(owner).filter(|owner| *owner != own)
}

/// Elsewhere files have none.
#[cfg(not(unix))]
pub(crate) fn rights(_: &Path) -> Result<Rights, Error> {
    Ok(Rights {
        mode: 0,
        other_owner: None,
    })
}

/// Replaces a file whole: after a crash it holds the old bytes or the new ones.
pub(crate) fn replace(path: &Path, bytes: &[u8], access: Access) -> Result<(), Error> {
    let temporary = path.with_added_extension("tmp");
    // Left by a crash, perhaps with other permissions.
    match make(Change::Remove(&temporary), || fs::remove_file(&temporary)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &temporary)(e));
        }
        _ => {}
    }
    let create = || {
        options(access)
            .write(true)
            .create_new(true)
            .open(&temporary)
    };
    let mut file =
        make(Change::Create(&temporary), create).map_err(Error::io("create", &temporary))?;
    let write = Change::Write {
        path: &temporary,
        offset: 0,
        bytes,
    };
    make(write, || file.write_all(bytes)).map_err(Error::io("write", &temporary))?;
    // Before the rename, or the new name could outlive a power loss without the bytes.
    make(Change::Sync(&temporary), || file.sync_all()).map_err(Error::io("sync", &temporary))?;
    drop(file);
    rename(&temporary, path)
}

/// Overwrites a file with zeros, where it stands. A disk may keep the old bytes all the same: a
/// copying filesystem, or flash that moves what is written.
pub(crate) fn overwrite(path: &Path) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).open(path);
    let mut file = file.map_err(Error::io("open", path))?;
    let len = file.metadata().map_err(Error::io("read", path))?.len();
    let zeros = vec![0; usize::try_from(len).unwrap_or(0)];
    let write = Change::Write {
        path,
        offset: 0,
        bytes: &zeros,
    };
    make(write, || file.write_all(&zeros)).map_err(Error::io("write", path))?;
    // Before the name goes: or the zeros might never reach the disk.
    make(Change::Sync(path), || file.sync_all()).map_err(Error::io("sync", path))
}

/// Overwrites and removes a file, durably.
pub(crate) fn erase(path: &Path) -> Result<(), Error> {
    overwrite(path)?;
    remove(path)?;
    sync_dir(parent(path))
}

/// Removes a file; durable once the directory is synced.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    make(Change::Remove(path), || fs::remove_file(path)).map_err(Error::io("remove", path))
}

/// Renames a file within its directory and makes the new name durable.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    make(Change::Rename { from, to }, || fs::rename(from, to))
        .map_err(Error::io("rename", from))?;
    sync_dir(parent(to))
}

/// Makes the names in a directory durable. Windows does so with each file's own metadata.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    try_sync_dir(dir).map_err(Error::io("sync", dir))
}

/// Makes the names of a directory and of those above it durable, up to one that is not the caller's to
/// open or whose filesystem does not sync directories.
pub(crate) fn sync_name(dir: &Path) -> Result<(), Error> {
    for above in dir.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() {
            Path::new(".")
        } else {
            above
        };
        match try_sync_dir(above) {
            Err(e) if is_not_for_us(e.kind()) => return Ok(()),
            synced => synced.map_err(Error::io("sync", above))?,
        }
    }
    Ok(())
}

fn is_not_for_us(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    [
        InvalidInput,
        PermissionDenied,
        ReadOnlyFilesystem,
        Unsupported,
    ]
    .contains(&kind)
}

fn try_sync_dir(dir: &Path) -> io::Result<()> {
    make(Change::SyncDir(dir), || match cfg!(unix) {
        true => File::open(dir)?.sync_all(),
        false => Ok(()),
    })
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(unix)]
fn options(access: Access) -> OpenOptions {
    let mut options = OpenOptions::new();
    let mode = if access == Access::Owner {
        0o600
    } else {
        0o644
    };
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    options
}

/// Elsewhere files take the access rights of their directory.
#[cfg(not(unix))]
fn options(_: Access) -> OpenOptions {
    OpenOptions::new()
}

#[cfg(target_os = "linux")]
fn advise_uncached(file: &File, bytes: Range<u64>) {
    use rustix::fs::{Advice, fadvise};

    let len = NonZeroU64::new(bytes.end.saturating_sub(bytes.start));
    // Advice: a filesystem that does not take it loses nothing.
    let _ = fadvise(file, bytes.start, len, Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
fn advise_uncached(_: &File, _: Range<u64>) {}

/// A file that only grows, and knows how long it is.
#[derive(Debug)]
pub(crate) struct AppendFile {
    file: File,
    path: PathBuf,
    len: u64,
    /// So many of the first bytes the page cache was told to forget.
    uncached: u64,
}

impl AppendFile {
    /// Opens a file, creating it when missing, for appending after its last byte.
    pub(crate) fn open(path: &Path, access: Access) -> Result<AppendFile, Error> {
        let existed = exists(path)?;
        let open = || {
            options(access)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
        };
        let mut file = make(Change::Create(path), open).map_err(Error::io("open", path))?;
        let len = file
            .seek(SeekFrom::End(0))
            .map_err(Error::io("seek", path))?;
        if !existed {
            sync_dir(parent(path))?;
        }
        Ok(AppendFile {
            file,
            path: path.to_owned(),
            len,
            uncached: len,
        })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write_at_cursor(self.len, bytes)?;
        self.len += u64::try_from(bytes.len()).expect("a buffer's length fits 64 bits");
        Ok(())
    }

    /// `offset` is where the file's cursor stands.
    fn write_at_cursor(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let path = &self.path;
        let write = Change::Write {
            path,
            offset,
            bytes,
        };
        make(write, || self.file.write_all(bytes)).map_err(Error::io("write", path))
    }

    /// Makes all bytes written so far durable.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        make(Change::Sync(&self.path), || self.file.sync_data())
            .map_err(Error::io("sync", &self.path))?;
        self.uncache();
        Ok(())
    }

    /// Lets the page cache forget what is durable and unlikely to be read soon: a log that is only
    /// written is not to push out what others read, and to write into pages that are used again
    /// costs less than half of what fresh ones do.
    fn uncache(&mut self) {
        let until = self.len.saturating_sub(CACHED_BYTES);
        let until = until - until % UNCACHED_BYTES;
        if until > self.uncached {
            advise_uncached(&self.file, self.uncached..until);
            self.uncached = until;
        }
    }

    /// Writes the bytes from `from` on once more, as they are, and makes all durable.
    ///
    /// A sync alone would not: where one failed before, the kernel may hold pages as clean that
    /// never reached the disk.
    pub(crate) fn renew(&mut self, from: u64) -> Result<(), Error> {
        let old = open(&self.path).map_err(Error::io("open", &self.path))?;
        let sought = self.file.seek(SeekFrom::Start(from));
        sought.map_err(Error::io("seek", &self.path))?;
        let (mut at, mut chunk) = (from, vec![0; RENEW_BYTES]);
        while at < self.len {
            let room = usize::try_from(self.len - at).unwrap_or(usize::MAX);
            chunk.truncate(room);
            old.read_exact_at(at, &mut chunk)
                .map_err(Error::io("read", &self.path))?;
            self.write_at_cursor(at, &chunk)?;
            at += u64::try_from(chunk.len()).expect("a buffer's length fits 64 bits");
        }
        self.sync()
    }

    /// Renames the file within its directory; durable once that is synced.
    pub(crate) fn take_name(&mut self, to: &Path) -> Result<(), Error> {
        let from = &self.path;
        make(Change::Rename { from, to }, || fs::rename(from, to))
            .map_err(Error::io("rename", from))?;
        self.path = to.to_owned();
        Ok(())
    }

    /// Cuts the file to `len` bytes, durably.
    pub(crate) fn cut(&mut self, len: u64) -> Result<(), Error> {
        let path = &self.path;
        make(Change::SetLen { path, len }, || self.file.set_len(len))
            .map_err(Error::io("truncate", path))?;
        self.file
            .seek(SeekFrom::Start(len))
            .map_err(Error::io("seek", path))?;
        self.len = len;
        make(Change::Sync(path), || self.file.sync_all()).map_err(Error::io("sync", path))
    }
}

/// The first leaves of all segments, ascending. Other files are not looked at.
pub(crate) fn segments(dir: &Path) -> Result<Vec<u64>, Error> {
    firsts(dir, layout::segment_first)
}

/// The first leaves of all remains of dropped segments, ascending.
pub(crate) fn remains(dir: &Path) -> Result<Vec<u64>, Error> {
    firsts(dir, layout::remains_first)
}

fn firsts(dir: &Path, first: impl Fn(&str) -> Option<u64>) -> Result<Vec<u64>, Error> {
    let dir = layout::entries(dir);
    let mut firsts = Vec::new();
    let entries = look(0).and_then(|_| fs::read_dir(&dir));
    for entry in entries.map_err(Error::io("list", &dir))? {
        look(0).map_err(Error::io("list", &dir))?;
        let name = entry.map_err(Error::io("list", &dir))?.file_name();
        firsts.extend(name.to_str().and_then(&first));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_account_is_no_other_owner() {
        assert_eq!(other_than(1_000, 1_000), None);
        assert_eq!(other_than(0, 1_000), Some(1_000));
        assert_eq!(other_than(1_000, 0), Some(0));
    }
}
