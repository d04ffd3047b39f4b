//! Files that are replaced as a whole, so that a reader sees the old or the new one.

use std::ffi::OsString;
use std::io;
use std::path::Path;

/// A file of which only whole versions are seen. Its directory is opened once: it may become
/// unreachable by its path when rights are given up. Nothing waits for the disk: after a power loss
/// the file may be empty.
#[derive(Debug)]
pub(crate) struct Replaced {
    directory: platform::Directory,
    name: OsString,
    /// The next version, while it is written.
    next: OsString,
    access: Access,
}

/// Who may read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Its owner.
    Private,
    /// Everybody.
    Public,
}

impl Replaced {
    /// Opens the directory that the file is in; the file itself is left as it is.
    pub(crate) fn open(path: &Path, access: Access) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let mut next = OsString::from(".");
        next.push(name);
        next.push(".new");
        Ok(Self {
            directory: platform::Directory::open(parent.unwrap_or(Path::new(".")))?,
            name: name.to_owned(),
            next,
            access,
        })
    }

    /// Puts this text in its place.
    pub(crate) fn replace(&self, text: &str) -> io::Result<()> {
        let written = self
            .directory
            .write_new(&self.next, text.as_bytes(), self.access)
            .and_then(|()| self.directory.rename(&self.next, &self.name));
        written.inspect_err(|_| self.directory.remove(&self.next))
    }
}

#[cfg(unix)]
mod platform {
    use std::ffi::OsStr;
    use std::fs::File;
    use std::io::{self, Write};
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::fs::{AtFlags, Mode, OFlags, fchmod, open, openat, renameat, unlinkat};

    use super::Access;

    #[derive(Debug)]
    pub(super) struct Directory(OwnedFd);

    impl Directory {
        pub(super) fn open(path: &Path) -> io::Result<Self> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(Self(open(path, flags, Mode::empty())?))
        }

        /// Others may be able to write to the directory: what has the name already is not opened.
        pub(super) fn write_new(
            &self,
            name: &OsStr,
            bytes: &[u8],
            access: Access,
        ) -> io::Result<()> {
            self.remove(name);
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?;
            if access == Access::Public {
                // Whatever the umask is.
                fchmod(&file, Mode::from_raw_mode(0o644))?;
            }
            File::from(file).write_all(bytes)
        }

        pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            Ok(renameat(&self.0, from, &self.0, to)?)
        }

        /// If it is there; what cannot be removed cannot be created either, which is told.
        pub(super) fn remove(&self, name: &OsStr) {
            let _ = unlinkat(&self.0, name, AtFlags::empty());
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use std::ffi::OsStr;
    use std::fs;
    use std::io;
    use std::path::{Path, PathBuf};

    use super::Access;

    #[derive(Debug)]
    pub(super) struct Directory(PathBuf);

    impl Directory {
        pub(super) fn open(path: &Path) -> io::Result<Self> {
            fs::read_dir(path)?;
            Ok(Self(path.to_owned()))
        }

        /// The directory decides who may read it.
        pub(super) fn write_new(&self, name: &OsStr, bytes: &[u8], _: Access) -> io::Result<()> {
            fs::write(self.0.join(name), bytes)
        }

        pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            fs::rename(self.0.join(from), self.0.join(to))
        }

        pub(super) fn remove(&self, name: &OsStr) {
            let _ = fs::remove_file(self.0.join(name));
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_follows_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (here, moved) = (dir.path().join("here"), dir.path().join("moved"));
        fs::create_dir(&here).unwrap();
        let file = Replaced::open(&here.join("f"), Access::Public).unwrap();
        file.replace("one").unwrap();
        let old = fs::File::open(here.join("f")).unwrap();
        fs::rename(&here, &moved).unwrap();
        file.replace("two").unwrap();
        assert_eq!(fs::read_to_string(moved.join("f")).unwrap(), "two");
        assert_eq!(std::io::read_to_string(old).unwrap(), "one");
        let mode = fs::metadata(moved.join("f")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(fs::read_dir(&moved).unwrap().count(), 1);
    }

    #[test]
    fn what_somebody_put_in_the_way_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, dir.path().join(".f.new")).unwrap();
        symlink(&victim, dir.path().join("f")).unwrap();
        let file = Replaced::open(&dir.path().join("f"), Access::Private).unwrap();
        file.replace("text").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(fs::read_to_string(dir.path().join("f")).unwrap(), "text");

        fs::create_dir(dir.path().join(".f.new")).unwrap();
        assert!(file.replace("again").is_err());
        assert_eq!(fs::read_to_string(dir.path().join("f")).unwrap(), "text");
    }
}
