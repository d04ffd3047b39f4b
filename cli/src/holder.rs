//! Who writes to a ledger.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// A process that holds a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Not known on every system, nor across PID namespaces.
    pid: Option<u32>,
}

impl Holder {
    #[cfg(test)]
    pub(crate) fn new(pid: Option<u32>) -> Self {
        Self { pid }
    }

    /// Its number, where that is known.
    pub(crate) fn pid(self) -> Option<u32> {
        self.pid
    }

    /// The writer of the ledger in this directory, if one runs.
    pub(crate) fn of(ledger: &Path) -> Option<Self> {
        let file = open(&ledger.join("lock")).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Some(Self { pid: pid_of(&file) }),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "the process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

/// Whoever owns the directory may have put a pipe there, which would keep us waiting, or a link.
#[cfg(unix)]
fn open(lock: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};

    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(lock, flags, Mode::empty())?.into())
}

#[cfg(not(unix))]
fn open(lock: &Path) -> io::Result<File> {
    File::open(lock)
}

#[cfg(target_os = "linux")]
fn pid_of(lock: &File) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;

    let inode = lock.metadata().ok()?.ino();
    pid_in(&std::fs::read_to_string("/proc/locks").ok()?, inode)
}

#[cfg(not(target_os = "linux"))]
fn pid_of(_: &File) -> Option<u32> {
    None
}

/// From `/proc/locks`: `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`. An inode number may be that
/// of another file system's file, so that the answer must be the only one.
#[cfg(target_os = "linux")]
fn pid_in(locks: &str, inode: u64) -> Option<u32> {
    let ends = format!(":{inode}");
    let mut pids = locks.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = fields[..] else {
            return None;
        };
        file.ends_with(&ends).then(|| pid.parse().ok())?
    });
    pids.next().filter(|pid| *pid > 0 && pids.next().is_none())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::pid_in;

    #[test]
    fn the_holder_of_a_lock_is_read_from_the_list_of_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 fe:00:21 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 42 fe:00:21 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 43 fe:00:21 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 8 fe:00:121 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 9 fe:00:5 0 EOF\n\
                     5: FLOCK  ADVISORY  WRITE 10 fe:01:5 0 EOF\n\
                     6: FLOCK  ADVISORY  WRITE 0 fe:00:6 0 EOF\n";
        assert_eq!(pid_in(locks, 21), Some(42));
        assert_eq!(pid_in(locks, 5), None);
        assert_eq!(pid_in(locks, 6), None);
        assert_eq!(pid_in("", 21), None);
    }
}
