//! The mute list: what the operator wants no events of.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sensor_ebpf::record::{identity_flag, mute};

use crate::Error;
use crate::error::MUTE_CAPACITY;
use crate::procfs::kernel_device;

/// What is kept quiet in the kernel, where it costs next to nothing. Kernels count what they mute
/// by class ([`event::Stats::muted`]).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MuteList {
    /// Executables. Muted are the files that these paths lead to from here, by device and inode: a
    /// file of the same path in a container is not muted, nor is one that replaces it until the
    /// sensor starts anew.
    pub exes: Vec<Muted<PathBuf>>,
    /// Users whose real and effective id are both this one.
    pub uids: Vec<Muted<u32>>,
    /// Control groups, by directory or by path below `/sys/fs/cgroup`.
    pub cgroups: Vec<Muted<PathBuf>>,
}

/// An entry of the mute list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Muted<T> {
    /// What.
    pub what: T,
    /// Also mute all that such a process starts, whatever it is.
    pub children: bool,
}

impl MuteList {
    /// Nothing is muted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exes.is_empty() && self.uids.is_empty() && self.cgroups.is_empty()
    }

    /// Whether everything in it is there, so that a slip of the pen is told before anything starts.
    ///
    /// # Errors
    /// A file is not, or there are too many.
    pub fn check(&self) -> Result<(), Error> {
        self.resolve().map(|_| ())
    }

    /// Looks the files up.
    pub(crate) fn resolve(&self) -> Result<Resolved, Error> {
        let exes = self
            .exes
            .iter()
            .map(|entry| exe(&entry.what, bits(entry.children)));
        let cgroups = self.cgroups.iter().map(|entry| {
            let file = stat(&cgroup_dir(&entry.what))?;
            // Where ids are 64 bits wide they are the inode numbers.
            Ok((file.ino(), bits(entry.children)))
        });
        let uids = self.uids.iter().map(|e| (e.what, bits(e.children)));
        let resolved = Resolved {
            exes: exes.collect::<Result<_, Error>>()?,
            uids: uids.collect(),
            cgroups: cgroups.collect::<Result<_, Error>>()?,
        };
        for len in [self.exes.len(), self.uids.len(), self.cgroups.len()] {
            if len > MUTE_CAPACITY {
                return Err(Error::MuteListTooLong { len });
            }
        }
        Ok(resolved)
    }
}

/// A muted executable.
#[derive(Debug)]
pub(crate) struct Exe {
    pub(crate) inode: u64,
    /// Of the filesystem, as the programs see it.
    pub(crate) device: u32,
    /// As stat(2) gives it: with btrfs, that of the subvolume.
    stat_device: u32,
    pub(crate) bits: u32,
    /// Keeps the inode from being given to another file while it is muted.
    _file: OwnedFd,
}

/// A mute list as the programs look it up.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) exes: Vec<Exe>,
    pub(crate) uids: Vec<(u32, u32)>,
    pub(crate) cgroups: Vec<(u64, u32)>,
}

impl Resolved {
    /// Flags in the process map of a process that runs already. Its snapshot row tells what it runs.
    pub(crate) fn flags_of(&self, process: &event::Process) -> u32 {
        let exe = process.exe_file.and_then(|file| {
            let same = |exe: &&Exe| exe.inode == file.inode && exe.stat_device == file.device;
            self.exes.iter().find(same)
        });
        let uid = process
            .credentials
            .filter(|ids| ids.uid == ids.euid)
            .map(|ids| ids.uid);
        let verdict = exe.map_or(0, |exe| exe.bits)
            | find(&self.uids, uid)
            | find(&self.cgroups, process.cgroup_id);
        if verdict & mute::TREE != 0 {
            identity_flag::MUTED_TREE
        } else {
            0
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.exes.is_empty() && self.uids.is_empty() && self.cgroups.is_empty()
    }
}

fn exe(path: &Path, bits: u32) -> Result<Exe, Error> {
    let (flags, none) = (OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let held = rustix::fs::open(path, flags, none).map_err(|errno| Error::Muted {
        path: path.to_owned(),
        source: errno.into(),
    })?;
    let file = stat(path)?;
    let stat_device = kernel_device(file.dev());
    Ok(Exe {
        _file: held,
        inode: file.ino(),
        device: filesystem_device(path).unwrap_or(stat_device),
        stat_device,
        bits,
    })
}

/// The device of the filesystem that a file is on, from the table of mounts.
fn filesystem_device(path: &Path) -> Option<u32> {
    let flags = rustix::fs::AtFlags::empty();
    let mask = rustix::fs::StatxFlags::MNT_ID;
    let found = rustix::fs::statx(rustix::fs::CWD, path, flags, mask).ok()?;
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    device_of_mount(&table, found.stx_mnt_id)
}

/// `36 35 98:0 /mnt1 /mnt2 …`: id, parent, device.
fn device_of_mount(table: &str, id: u64) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut words = line.split(' ');
        let found: u64 = words.next()?.parse().ok()?;
        let (major, minor) = words.nth(1)?.split_once(':')?;
        let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
        (found == id).then_some(major << 20 | minor & 0xf_ffff)
    })
}

fn find<K: PartialEq>(entries: &[(K, u32)], key: Option<K>) -> u32 {
    let found = key.and_then(|key| entries.iter().find(|(k, _)| *k == key));
    found.map_or(0, |(_, bits)| *bits)
}

fn bits(children: bool) -> u32 {
    if children {
        mute::EXEC | mute::TREE
    } else {
        mute::EXEC
    }
}

fn cgroup_dir(path: &Path) -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    if path.starts_with(root) {
        return path.to_owned();
    }
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn stat(path: &Path) -> Result<std::fs::Metadata, Error> {
    std::fs::metadata(path).map_err(|source| Error::Muted {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_muted_path_is_looked_up_and_a_wrong_one_is_named() {
        let muted = |path: &str| MuteList {
            exes: vec![Muted {
                what: path.into(),
                children: true,
            }],
            ..MuteList::default()
        };
        let resolved = muted("/proc/self/exe").resolve().unwrap();
        assert_eq!(resolved.exes[0].bits, mute::EXEC | mute::TREE);
        let error = muted("/no/such/program").resolve().unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }

    #[test]
    fn a_mount_is_found_by_its_id() {
        let table = "22 1 0:21 / /proc rw - proc proc rw\n26 1 254:1 / / rw - ext4 /dev/vda rw\n";
        assert_eq!(device_of_mount(table, 26), Some(254 << 20 | 1));
        assert_eq!(device_of_mount(table, 2), None);
        assert_eq!(device_of_mount("26 1 x\n", 26), None);
    }

    #[test]
    fn only_entries_for_children_mute_what_runs_already() {
        let process = event::Process {
            cgroup_id: Some(7),
            ..event::Process::default()
        };
        let of = |bits| Resolved {
            cgroups: vec![(7, bits)],
            ..Resolved::default()
        };
        assert_eq!(of(mute::EXEC).flags_of(&process), 0);
        assert_ne!(of(mute::EXEC | mute::TREE).flags_of(&process), 0);
        assert_eq!(Resolved::default().flags_of(&process), 0);
    }
}
