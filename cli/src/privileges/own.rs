//! Gives a state directory to the account, by descriptors only: a path could be made to mean
//! another file between two looks at it.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::fs::{chownat, fchown, fstat, openat};
use rustix::io::Errno;

use super::Account;

/// Where the ledger keeps its files. Nothing else is touched.
const LAYOUT: [&str; 2] = ["ledger", "entries"];

impl Account {
    /// Makes the account own an opened state directory of root's and the ledger in it. One that the
    /// account owns already is left as it is: nothing in it can be trusted.
    pub(crate) fn own(self, top: &OwnedFd) -> Result<()> {
        if fstat(top)?.st_uid == self.uid() {
            return Ok(());
        }
        self.own_below(top, &LAYOUT)?;
        // Last, so that the account has no way in before everything in it is its own.
        self.own_opened(top)
    }

    fn own_below(self, parent: &OwnedFd, layout: &[&str]) -> Result<()> {
        let Some((name, deeper)) = layout.split_first() else {
            return Ok(());
        };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match openat(parent, *name, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("opening {name}")),
        };
        self.own_below(&dir, deeper)?;
        for entry in Dir::read_from(&dir).with_context(|| format!("listing {name}"))? {
            self.own_file(&dir, entry?.file_name())?;
        }
        self.own_opened(&dir)
            .with_context(|| format!("changing the owner of {name}"))
    }

    /// Files alone: `.` and `..`, directories, links, pipes and devices are none of the ledger's.
    fn own_file(self, dir: &OwnedFd, name: &CStr) -> Result<()> {
        // A path descriptor: opening a device or a pipe could set something off.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(dir, name, flags, Mode::empty())?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let name = name.to_string_lossy();
        if stat.st_nlink != 1 || !self.may_take(&stat) {
            bail!("{name} is not ours alone to give away");
        }
        self.own_opened(&file)
            .with_context(|| format!("changing the owner of {name}"))
    }

    fn own_opened(self, file: &OwnedFd) -> Result<()> {
        let stat = fstat(file)?;
        if !self.may_take(&stat) {
            bail!("it belongs to uid {}", stat.st_uid);
        }
        let (uid, gid) = (Uid::from_raw(self.uid()), Gid::from_raw(self.gid()));
        let changed = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            fchown(file, Some(uid), Some(gid))
        } else {
            chownat(file.as_fd(), c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
        };
        Ok(changed?)
    }

    fn may_take(self, stat: &Stat) -> bool {
        stat.st_uid == 0 || stat.st_uid == self.uid()
    }
}
