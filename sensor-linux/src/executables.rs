//! Opens the executables of processes, for hashing.
//!
//! What is opened is the file that the exec event names, by device and inode, or nothing. Needs
//! `CAP_SYS_PTRACE` for `/proc/<pid>/exe` of other users' processes and `CAP_DAC_READ_SEARCH` for
//! files that not everybody may read; without them less can be read.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use event::{FileIdentity, HashFailure};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, open, openat2};
use rustix::io::Errno;

use crate::procfs::{file_time, kernel_device};

const FUSE: i64 = 0x6573_5546;
const OVERLAY: i64 = 0x794c_7630;
const BTRFS: i64 = 0x9123_683e;

/// An opened executable.
#[derive(Debug)]
pub struct ExecutableFile {
    file: File,
    /// As the event names it; `fstat` names subvolumes of btrfs and layers of overlayfs instead.
    device: u32,
}

impl ExecutableFile {
    /// The file that a process ran: through procfs, which knows files in containers, deleted ones
    /// and memfds as long as the process lives and runs it; else by its path as the process sees
    /// it, else by its path here.
    ///
    /// # Errors
    /// [`HashFailure::Gone`] where none of these is the file of that device and inode,
    /// [`HashFailure::Unreadable`] where it may not be read.
    pub fn open(pid: u32, exe: &[u8], wanted: &FileIdentity) -> Result<Self, HashFailure> {
        let mut failure = HashFailure::Gone;
        for place in [Place::Link, Place::Root, Place::Here] {
            match place.find(pid, exe).and_then(|found| take(found, wanted)) {
                Ok(Some(file)) => return Ok(file),
                Ok(None) | Err(Errno::NOENT | Errno::SRCH | Errno::NOTDIR) => {}
                Err(_) => failure = HashFailure::Unreadable,
            }
        }
        Err(failure)
    }

    /// The file as it is now, its device as the event names it.
    ///
    /// # Errors
    /// As of fstat(2).
    pub fn identity(&self) -> io::Result<FileIdentity> {
        Ok(identity(&fstat(&self.file)?, self.device))
    }
}

impl Read for ExecutableFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

/// Where to look.
#[derive(Clone, Copy)]
enum Place {
    /// What the process runs now.
    Link,
    /// The path below the process's root.
    Root,
    /// The path below ours.
    Here,
}

/// A name is looked up and nothing is opened yet: opening a device, a pipe or a file of another
/// program's making could set something off or never come back.
const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

impl Place {
    fn find(self, pid: u32, exe: &[u8]) -> Result<OwnedFd, Errno> {
        match self {
            // A link of procfs, which leads to the file itself and not to its path.
            Self::Link => open(format!("/proc/{pid}/exe"), LOOK, Mode::empty()),
            Self::Root => {
                let root = open(format!("/proc/{pid}/root"), LOOK, Mode::empty())?;
                let flags = LOOK | OFlags::NOFOLLOW;
                openat2(
                    root,
                    absolute(exe)?,
                    flags,
                    Mode::empty(),
                    ResolveFlags::IN_ROOT,
                )
            }
            Self::Here => open(absolute(exe)?, LOOK | OFlags::NOFOLLOW, Mode::empty()),
        }
    }
}

/// Paths that are cut, relative or no paths at all are not looked up.
fn absolute(exe: &[u8]) -> Result<&[u8], Errno> {
    if exe.first() == Some(&b'/') {
        Ok(exe)
    } else {
        Err(Errno::NOENT)
    }
}

/// `None` for another file than the wanted one.
fn take(found: OwnedFd, wanted: &FileIdentity) -> Result<Option<ExecutableFile>, Errno> {
    let stat = fstat(&found)?;
    if stat.st_ino != wanted.inode || !is_regular(&stat) {
        return Ok(None);
    }
    let filesystem = fstatfs(&found)?.f_type;
    if !is_device(&stat, wanted, filesystem) {
        return Ok(None);
    }
    // A program that serves files could give others each time, or let us wait for ever.
    if filesystem == FUSE {
        return Err(Errno::ACCESS);
    }
    // By the descriptor, so that it is this very file. It does not wait for leases.
    let path = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open(path, flags, Mode::empty())?.into();
    let device = wanted.device;
    Ok(Some(ExecutableFile { file, device }))
}

/// Events name the device of the filesystem. `fstat` does as well, but for files in subvolumes of
/// btrfs and in layers of overlayfs that are of several filesystems: there nothing but the times and
/// the size can tell that it is the same file, and a changed one is not taken.
fn is_device(stat: &Stat, wanted: &FileIdentity, filesystem: i64) -> bool {
    let now = identity(stat, kernel_device(stat.st_dev));
    if now.device == wanted.device {
        return true;
    }
    let known = |wanted: u64, now: u64| wanted == 0 || wanted == now;
    matches!(filesystem, BTRFS | OVERLAY)
        && now.mtime == wanted.mtime
        && known(wanted.ctime, now.ctime)
        && known(wanted.size, now.size)
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn identity(stat: &Stat, device: u32) -> FileIdentity {
    FileIdentity {
        inode: stat.st_ino,
        device,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: file_time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: file_time(stat.st_ctime, stat.st_ctime_nsec),
        mode: stat.st_mode,
        uid: stat.st_uid,
        memfd: false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;

    use super::*;

    /// No process has it: pids end at 2^22.
    const NOBODY: u32 = 1 << 30;

    fn as_event(path: &Path) -> FileIdentity {
        let file = open(path, LOOK, Mode::empty()).unwrap();
        let stat = fstat(&file).unwrap();
        identity(&stat, kernel_device(stat.st_dev))
    }

    fn path_of_ours() -> PathBuf {
        std::env::current_exe().unwrap()
    }

    #[test]
    fn our_own_executable_is_found_by_process_and_by_path() {
        let path = path_of_ours();
        let wanted = as_event(&path);
        for (pid, exe) in [
            (std::process::id(), &b""[..]),
            (std::process::id(), path.as_os_str().as_bytes()),
            (NOBODY, path.as_os_str().as_bytes()),
        ] {
            let mut file = ExecutableFile::open(pid, exe, &wanted).unwrap();
            assert_eq!(file.identity().unwrap(), wanted);
            let mut magic = [0; 4];
            file.read_exact(&mut magic).unwrap();
            assert_eq!(&magic, b"\x7fELF");
        }
    }

    #[test]
    fn another_file_under_the_path_is_not_taken() {
        let path = path_of_ours();
        let wanted = as_event(&path);
        let other_inode = FileIdentity {
            inode: wanted.inode + 1,
            ..wanted
        };
        let other_device = FileIdentity {
            device: wanted.device ^ 1,
            mtime: 1,
            ..wanted
        };
        for wanted in [other_inode, other_device] {
            let opened = ExecutableFile::open(NOBODY, path.as_os_str().as_bytes(), &wanted);
            assert_eq!(opened.unwrap_err(), HashFailure::Gone);
        }
    }

    #[test]
    fn what_is_no_path_or_no_file_is_gone() {
        for (exe, like) in [
            ("relative", "/"),
            (".../cut", "/"),
            ("", "/"),
            ("/no/such/file", "/"),
            ("/dev/null", "/dev/null"),
            ("/", "/"),
        ] {
            let wanted = as_event(Path::new(like));
            let opened = ExecutableFile::open(NOBODY, exe.as_bytes(), &wanted);
            assert_eq!(opened.unwrap_err(), HashFailure::Gone, "{exe}");
        }
    }

    #[test]
    fn device_may_differ_only_where_the_filesystem_makes_it_and_nothing_else_does() {
        let path = path_of_ours();
        let file = open(&path, LOOK, Mode::empty()).unwrap();
        let stat = fstat(&file).unwrap();
        let wanted = FileIdentity {
            device: kernel_device(stat.st_dev) ^ 1,
            ..identity(&stat, 0)
        };
        let changed = FileIdentity { ctime: 1, ..wanted };
        const EXT4: i64 = 0xef53;
        assert!(is_device(&stat, &wanted, OVERLAY) && is_device(&stat, &wanted, BTRFS));
        assert!(!is_device(&stat, &changed, OVERLAY) && !is_device(&stat, &wanted, EXT4));
    }
}
