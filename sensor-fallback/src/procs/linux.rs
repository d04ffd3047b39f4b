use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use event::{Argv, BootId, BootTime, FileIdentity, Process, ProcessKey, WallTime};

use super::linux_text::{self as text, Stat};
use crate::Error;
use crate::scan::{Scan, Seen};

/// Lists processes from procfs.
///
/// Not by sysinfo, as other systems: it reads each `stat` as well, so it would double the cost of
/// a scan, has start times in whole seconds, and splits arguments.
pub(crate) struct Procs {
    root: PathBuf,
    boot: BootId,
    buffer: Vec<u8>,
}

/// Arguments beyond this are counted, not kept.
const MAX_ARGV: usize = 32 * 1024;

/// A process that calls exec time and again is not read for ever.
const MAX_READS: usize = 4;

impl Procs {
    pub(crate) fn open() -> Result<Self, Error> {
        Self::at("/proc".into())
    }

    fn at(root: PathBuf) -> Result<Self, Error> {
        let path = root.join("sys/kernel/random/boot_id");
        let id = fs::read_to_string(&path).map_err(|source| Error::Read {
            path: path.clone(),
            source,
        })?;
        let boot = id.parse().map_err(|_| Error::Form { path })?;
        Ok(Self {
            root,
            boot,
            buffer: Vec::new(),
        })
    }

    pub(crate) fn absent() -> Vec<(&'static str, String)> {
        let mut absent = vec![
            ("filename", "procfs keeps the resolved path only".to_owned()),
            (
                "cgroup_id",
                "polling does not resolve control groups".to_owned(),
            ),
            (
                "container_id",
                "polling does not resolve control groups".to_owned(),
            ),
        ];
        if exe_of_others_is_hidden() {
            let reason = "readable for our own processes only, without CAP_SYS_PTRACE";
            absent.extend(["exe", "exe_file", "cwd"].map(|field| (field, reason.to_owned())));
        }
        absent
    }

    /// What is hidden from us of other users' processes: all of them, or what they run.
    pub(crate) fn hidden() -> Option<&'static str> {
        if fs::metadata("/proc/1/stat").is_err() {
            return Some(
                "other users' processes are not shown at all (/proc is mounted with hidepid)",
            );
        }
        if fs::read("/proc/1/cmdline").is_err() {
            return Some(
                "neither arguments nor executables of other users' processes can be read (/proc is \
                 mounted with hidepid), only their names: most rules cannot fire on them",
            );
        }
        exe_of_others_is_hidden().then_some(
            "the executables of other users' processes cannot be read, only their names and \
             arguments: rules on process.executable cannot fire on them",
        )
    }

    /// Lists all processes. What did not change since `before` is shared with it.
    pub(crate) fn scan(&mut self, before: &Scan) -> Result<Scan, Error> {
        let mut scan = Scan {
            boot: self.boot,
            ..Scan::default()
        };
        let list = fs::read_dir(&self.root).map_err(|source| self.unreadable("", source))?;
        for entry in list {
            let entry = entry.map_err(|source| self.unreadable("", source))?;
            let Some(pid) = text::number(entry.file_name().as_bytes()) else {
                continue;
            };
            if let Some(seen) = self.process(pid, before) {
                scan.processes.insert(pid, seen);
            }
        }
        (scan.at, scan.boot_wall) = self.now()?;
        scan.link_parents(before);
        Ok(scan)
    }

    fn now(&self) -> Result<(BootTime, WallTime), Error> {
        let read = fs::read(self.root.join("uptime"));
        let uptime = read.map_err(|source| self.unreadable("uptime", source))?;
        let at = text::uptime(&uptime).ok_or(Error::Form {
            path: self.root.join("uptime"),
        })?;
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        let wall = u64::try_from(wall).unwrap_or(u64::MAX);
        Ok((at, WallTime(wall.saturating_sub(at.0))))
    }

    fn unreadable(&self, name: &str, source: io::Error) -> Error {
        Error::Read {
            path: self.root.join(name),
            source,
        }
    }

    /// A process with all that is told of it from one program; `None` for one that ended in the
    /// meantime.
    fn process(&mut self, pid: u32, before: &Scan) -> Option<Seen> {
        let dir = self.root.join(pid.to_string());
        let mut seen = self.read(pid, &dir, before)?;
        for _ in 1..MAX_READS {
            if is_shared(&seen, before) || !self.runs_another_by_now(&seen, &dir) {
                break;
            }
            match self.read(pid, &dir, before) {
                Some(again) => seen = again,
                None => break,
            }
        }
        Some(seen)
    }

    /// Whether exec was called since `stat` was read, with which a reading begins. A process that is
    /// just ending shows no image any more: what it ran stays.
    fn runs_another_by_now(&mut self, seen: &Seen, dir: &Path) -> bool {
        if read_into(&dir.join("stat"), &mut self.buffer).is_err() {
            return false;
        }
        match text::stat(&self.buffer) {
            Some(stat) if stat.ended || (stat.image.is_none() && seen.image.is_some()) => false,
            Some(stat) => (stat.image, stat.comm) != (seen.image, &seen.process.comm[..]),
            None => false,
        }
    }

    fn read(&mut self, pid: u32, dir: &Path, before: &Scan) -> Option<Seen> {
        read_into(&dir.join("stat"), &mut self.buffer).ok()?;
        let stat = text::stat(&self.buffer).filter(|stat| !stat.ended)?;
        let key = ProcessKey {
            boot: self.boot,
            pid,
            start: stat.start,
        };
        let process = match before.get(key) {
            Some(old) if is_unchanged(old, &stat, dir) => Arc::clone(&old.process),
            _ => Arc::new(read_process(dir, key, &stat)),
        };
        Some(Seen {
            process,
            ppid: stat.ppid,
            parent: None,
            image: stat.image,
            kernel_thread: stat.kernel_thread,
        })
    }
}

/// Whether nothing of it was read anew since that scan.
fn is_shared(seen: &Seen, before: &Scan) -> bool {
    let old = before.get(seen.key());
    old.is_some_and(|old| Arc::ptr_eq(&old.process, &seen.process))
}

/// Process 1 belongs to root and is never ours: what we may see of it, we may see of all.
fn exe_of_others_is_hidden() -> bool {
    fs::read_link("/proc/1/exe").is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
}

/// Whether the process still runs the program that it ran in the scan before. A process that is
/// just ending shows nothing any more: what it ran stays.
fn is_unchanged(old: &Seen, stat: &Stat<'_>, dir: &Path) -> bool {
    if stat.kernel_thread || (stat.image.is_some() && stat.image == old.image) {
        return true;
    }
    let argv = argv(dir).0;
    argv.is_empty() || (argv == old.process.argv && exe(dir).0 == old.process.exe)
}

fn read_process(dir: &Path, key: ProcessKey, stat: &Stat<'_>) -> Process {
    let (argv, argv_truncated_bytes) = argv(dir);
    let (exe, exe_file) = exe(dir);
    let status = text::status(&fs::read(dir.join("status")).unwrap_or_default());
    Process {
        key,
        comm: Bytes::copy_from_slice(stat.comm),
        exe,
        argv,
        argv_truncated_bytes,
        cwd: link(&dir.join("cwd")),
        credentials: status.credentials,
        login_uid: audit_id(&dir.join("loginuid")),
        session: audit_id(&dir.join("sessionid")),
        tty: stat.tty,
        effective_caps: status.effective_caps,
        exe_file,
        ..Process::default()
    }
}

fn argv(dir: &Path) -> (Argv, u64) {
    let mut block = fs::read(dir.join("cmdline")).unwrap_or_default();
    let cut = block.len().saturating_sub(MAX_ARGV);
    block.truncate(MAX_ARGV);
    block.shrink_to_fit();
    (
        Argv::from_block(block.into()),
        u64::try_from(cut).unwrap_or(u64::MAX),
    )
}

/// Path and file of the executable. The mark that the kernel puts behind the path of a deleted
/// file is taken off, that it is deleted shows in its link count; one that never had a name is
/// `memfd:` and the name given to `memfd_create`.
fn exe(dir: &Path) -> (Bytes, Option<FileIdentity>) {
    let link_path = dir.join("exe");
    let Some(path) = link(&link_path) else {
        return (Bytes::new(), None);
    };
    let file = fs::metadata(&link_path).ok();
    let memfd = path.starts_with(b"/memfd:");
    let identity = file.as_ref().map(|file| identity(file, memfd));
    let end = match path.strip_suffix(b" (deleted)") {
        Some(name) if memfd || !is_file(&path, file.as_ref()) => name.len(),
        _ => path.len(),
    };
    (path.slice(usize::from(memfd)..end), identity)
}

/// A file may really be called `x (deleted)`.
fn is_file(path: &[u8], file: Option<&fs::Metadata>) -> bool {
    let named = fs::symlink_metadata(Path::new(std::ffi::OsStr::from_bytes(path)));
    let inode = |file: &fs::Metadata| (file.dev(), file.ino());
    named.is_ok_and(|named| file.is_some_and(|file| inode(file) == inode(&named)))
}

fn identity(file: &fs::Metadata, memfd: bool) -> FileIdentity {
    FileIdentity {
        inode: file.ino(),
        device: kernel_device(file.dev()),
        nlink: u32::try_from(file.nlink()).unwrap_or(u32::MAX),
        size: file.size(),
        mtime: FileIdentity::time(file.mtime(), file.mtime_nsec()),
        ctime: FileIdentity::time(file.ctime(), file.ctime_nsec()),
        mode: file.mode(),
        uid: file.uid(),
        memfd,
    }
}

/// From the C library's encoding of `st_dev` to the kernel's own (12 and 20 bits).
fn kernel_device(st_dev: u64) -> u32 {
    let major = st_dev >> 8 & 0xfff;
    let minor = (st_dev & 0xff) | (st_dev >> 12 & 0xf_ff00);
    u32::try_from(major << 20 | minor).expect("12 and 20 bits are 32")
}

fn link(path: &Path) -> Option<Bytes> {
    Some(fs::read_link(path).ok()?.into_os_string().into_vec().into())
}

fn audit_id(path: &Path) -> Option<u32> {
    text::audit_id(&fs::read(path).ok()?)
}

fn read_into(path: &Path, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    File::open(path)?.read_to_end(buffer)?;
    Ok(())
}

#[cfg(test)]
mod tests;
