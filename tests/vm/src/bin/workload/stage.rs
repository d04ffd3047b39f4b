//! A directory with programs to run, which every user may enter.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Result;
use vm::tiny;

use crate::report;

pub(crate) struct Stage {
    /// Without symbolic links on the way, as the kernel names it.
    pub(crate) dir: PathBuf,
    _dir: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            dir: dir.path().canonicalize()?,
            _dir: dir,
        })
    }

    /// The smallest program, which ends with `code`.
    pub(crate) fn tiny(&self, name: impl AsRef<Path>, code: u8) -> Result<PathBuf> {
        let path = self.dir.join(name);
        tiny::write(&path, code)?;
        Ok(path)
    }

    /// A program of these bytes.
    pub(crate) fn program(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.dir.join(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }
}

/// Reports a path, with what is not printable escaped.
pub(crate) fn report_path(name: &str, path: &Path) {
    report(name, path.as_os_str().as_bytes().escape_ascii());
}

/// Reports what stat(2) says of a program.
pub(crate) fn report_file(path: &Path) -> Result<()> {
    let file = fs::metadata(path)?;
    let nanos = |seconds, nanos| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let device = file.dev();
    let device = rustix::fs::major(device) << 20 | rustix::fs::minor(device);
    report("inode", file.ino());
    report("device", device);
    report("nlink", file.nlink());
    report("size", file.size());
    report("mtime", nanos(file.mtime(), file.mtime_nsec()));
    report("ctime", nanos(file.ctime(), file.ctime_nsec()));
    report("mode", file.mode());
    report("uid", file.uid());
    Ok(())
}
