//! Processes that already ran when the programs were attached.

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use event::{Argv, BootId, BootTime, Credentials, FileIdentity, Namespaces, Process, ProcessKey};
use sensor_ebpf::record::START_TICK;

use crate::cgroup::Membership;

/// Longest argument block that is taken, as for exec records.
const ARGV_CAP: usize = sensor_ebpf::record::ARGV_CAP;

/// What `/proc/<pid>/stat` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) comm: Vec<u8>,
    /// No thread runs any more: a zombie that waits for its parent, or one being taken apart.
    pub(crate) ended: bool,
    /// The thread whose id is the process's has ended, whether others run or not.
    pub(crate) leader_left: bool,
    /// Threads, an ended leader among them.
    pub(crate) threads: u64,
    pub(crate) ppid: u32,
    pub(crate) session: u32,
    pub(crate) tty: u32,
    /// Clock ticks since boot.
    pub(crate) start_ticks: u64,
}

/// Ids of the processes that live now.
pub(crate) fn pids() -> std::io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Whether procfs here numbers processes as the kernel does. The inode of the first pid namespace
/// is fixed: <https://github.com/torvalds/linux/blob/v6.12/include/linux/proc_ns.h#L45>
pub(crate) fn in_initial_pid_namespace() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link == Path::new("pid:[4026531836]"))
}

/// Ids of the threads of a process, an ended leader among them; none if it is gone.
pub(crate) fn threads(pid: u32) -> Vec<u32> {
    let Ok(list) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// This boot's id.
pub(crate) fn boot_id() -> Option<BootId> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .ok()?
        .parse()
        .ok()
}

/// The stat line of a process; `None` if it is gone.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The start of a process, as records give it.
pub(crate) fn start(stat: &Stat) -> BootTime {
    BootTime(stat.start_ticks.saturating_mul(START_TICK))
}

/// Everything that procfs still knows of a process. What cannot be read is left out.
pub(crate) fn process(key: ProcessKey, parent: Option<ProcessKey>, stat: &Stat) -> Process {
    let dir = PathBuf::from(format!("/proc/{}", key.pid));
    let mut argv = fs::read(dir.join("cmdline")).unwrap_or_default();
    let missing = argv.len().saturating_sub(ARGV_CAP);
    argv.truncate(ARGV_CAP);
    let status = fs::read(dir.join("status")).ok();
    let link = link(&dir, "exe").unwrap_or_default();
    let cgroup = fs::read(dir.join("cgroup")).ok();
    let cgroup = cgroup.as_deref().and_then(parse_cgroup);
    let membership = cgroup
        .as_deref()
        .map(Membership::of_path)
        .unwrap_or_default();
    let exe_file = fs::metadata(dir.join("exe"))
        .ok()
        .map(|m| file_identity(&m, &link));
    Process {
        key,
        parent,
        comm: stat.comm.clone().into(),
        exe: without_deleted_mark(link, exe_file.as_ref()),
        argv: Argv::from_block(argv.into()),
        argv_truncated_bytes: missing as u64,
        cwd: self::link(&dir, "cwd").map(Bytes::from),
        credentials: status.as_deref().and_then(parse_ids),
        login_uid: number(&dir, "loginuid").filter(|uid| *uid != u32::MAX),
        session: number(&dir, "sessionid").filter(|id| *id != u32::MAX),
        session_leader: (stat.session != 0).then_some(stat.session),
        tty: (stat.tty != 0).then_some(stat.tty),
        effective_caps: status.as_deref().and_then(parse_effective_caps),
        namespaces: namespaces(&dir),
        namespace_pid: status
            .as_deref()
            .and_then(parse_namespace_pid)
            .filter(|pid| *pid != key.pid),
        cgroup_id: cgroup.as_deref().and_then(cgroup_id),
        container: membership.container,
        unit: membership.unit,
        exe_file,
        ..Process::default()
    }
}

/// `pid (comm) state ppid pgrp session tty … starttime`; comm may hold spaces and brackets.
pub(crate) fn parse_stat(line: &[u8]) -> Option<Stat> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let comm = line.get(open + 1..close)?.to_vec();
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field numbers of proc(5), of which `state` is the third and the first here.
    let field = |number: usize| fields.get(number - 3).copied();
    let threads: u64 = field(20)?.parse().ok()?;
    let leader_left = matches!(field(3)?, "Z" | "X" | "x");
    Some(Stat {
        comm,
        // A leader that left while its threads run is a zombie as well.
        ended: leader_left && threads <= 1,
        leader_left,
        threads,
        ppid: field(4)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        tty: field(7)?.parse::<i64>().ok()?.try_into().unwrap_or(0),
        start_ticks: field(22)?.parse().ok()?,
    })
}

/// Real and effective ids from `/proc/<pid>/status`.
pub(crate) fn parse_ids(status: &[u8]) -> Option<Credentials> {
    let ids = |label| -> Option<(u32, u32)> {
        let mut numbers = status_line(status, label)?.split_ascii_whitespace();
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    };
    let (uid, euid) = ids("Uid:")?;
    let (gid, egid) = ids("Gid:")?;
    Some(Credentials {
        uid,
        gid,
        euid,
        egid,
    })
}

fn parse_effective_caps(status: &[u8]) -> Option<u64> {
    u64::from_str_radix(status_line(status, "CapEff:")?.trim(), 16).ok()
}

/// The last of `NStgid:` is the number in the innermost namespace.
fn parse_namespace_pid(status: &[u8]) -> Option<u32> {
    let numbers = status_line(status, "NStgid:")?.split_ascii_whitespace();
    numbers.last()?.parse().ok()
}

fn status_line<'a>(status: &'a [u8], label: &str) -> Option<&'a str> {
    let line = status
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(label.as_bytes()))?;
    std::str::from_utf8(line).ok()
}

/// The path of a process's control group, as the programs choose it: of v1's pids or memory
/// hierarchy where one of them is mounted, else of v2.
pub(crate) fn cgroup_path(pid: u32) -> Option<Vec<u8>> {
    parse_cgroup(&fs::read(format!("/proc/{pid}/cgroup")).ok()?)
}

/// Lines are `id:controller,controller:path`; that of v2 is `0::path`.
fn parse_cgroup(text: &[u8]) -> Option<Vec<u8>> {
    let lines = || text.split(|byte| *byte == b'\n');
    let of = |wanted: &[u8]| {
        lines().find_map(|line| {
            let mut parts = line.splitn(3, |byte| *byte == b':').skip(1);
            let controllers = parts.next()?;
            let mut named = controllers.split(|byte| *byte == b',');
            named.any(|name| name == wanted).then(|| parts.next())?
        })
    };
    let path = of(b"pids").or_else(|| of(b"memory")).or_else(|| of(b""))?;
    Some(path.to_vec())
}

/// Where ids are 64 bits wide they are the inode numbers of the v2 hierarchy.
fn cgroup_id(path: &[u8]) -> Option<u64> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let dir = Path::new("/sys/fs/cgroup").join(std::ffi::OsStr::from_bytes(path));
    Some(fs::metadata(dir).ok()?.ino())
}

/// Of the process whose directory in procfs it is.
pub(crate) fn namespaces(dir: &Path) -> Option<Namespaces> {
    let inode = |name: &str| {
        let link = fs::read_link(dir.join("ns").join(name)).ok()?;
        let (_, number) = link.to_str()?.split_once('[')?;
        number.strip_suffix(']')?.parse::<u32>().ok()
    };
    let found = Namespaces {
        mnt: inode("mnt")?,
        pid: inode("pid").unwrap_or(0),
        net: inode("net").unwrap_or(0),
        user: inode("user").unwrap_or(0),
        uts: inode("uts").unwrap_or(0),
        ipc: inode("ipc").unwrap_or(0),
        cgroup: inode("cgroup").unwrap_or(0),
        time: inode("time").unwrap_or(0),
    };
    Some(found)
}

fn link(dir: &Path, name: &str) -> Option<Vec<u8>> {
    Some(
        fs::read_link(dir.join(name))
            .ok()?
            .into_os_string()
            .into_vec(),
    )
}

fn number(dir: &Path, name: &str) -> Option<u32> {
    fs::read_to_string(dir.join(name)).ok()?.trim().parse().ok()
}

fn file_identity(metadata: &fs::Metadata, link: &[u8]) -> FileIdentity {
    FileIdentity {
        inode: metadata.ino(),
        device: kernel_device(metadata.dev()),
        nlink: u32::try_from(metadata.nlink()).unwrap_or(u32::MAX),
        size: metadata.size(),
        mtime: file_time(metadata.mtime(), metadata.mtime_nsec()),
        ctime: file_time(metadata.ctime(), metadata.ctime_nsec()),
        mode: metadata.mode(),
        uid: metadata.uid(),
        memfd: metadata.nlink() == 0 && link.starts_with(b"/memfd:"),
    }
}

/// From `st_dev` to the kernel's `major << 20 | minor`.
pub(crate) fn kernel_device(st_dev: u64) -> u32 {
    rustix::fs::major(st_dev) << 20 | rustix::fs::minor(st_dev)
}

/// Anybody can set a file's time, to years that ns since 1970 cannot hold.
pub(crate) fn file_time(seconds: i64, nanos: impl Into<i128>) -> u64 {
    let ns = i128::from(seconds) * 1_000_000_000 + nanos.into();
    u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
}

/// The kernel marks unlinked files in the link's text; exec records give the bare path.
fn without_deleted_mark(link: Vec<u8>, file: Option<&FileIdentity>) -> Bytes {
    let Some(file) = file.filter(|file| file.nlink == 0) else {
        return link.into();
    };
    let path = link.strip_suffix(b" (deleted)").unwrap_or(&link);
    let path = if file.memfd {
        path.strip_prefix(b"/").unwrap_or(path)
    } else {
        path
    };
    Bytes::copy_from_slice(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_brackets_and_spaces_in_the_name() {
        let line = b"42 (a) b (c) S 1 42 7 34816 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 123456 0 0\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!(stat.comm, b"a) b (c");
        assert_eq!(
            (stat.ppid, stat.session, stat.tty, stat.start_ticks),
            (1, 7, 34816, 123_456)
        );
        assert!(!stat.ended);
        assert_eq!(parse_stat(b"42 (cut) S 1 42"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn a_zombie_has_ended_unless_threads_outlive_their_leader() {
        let ended = |state: &str, threads: &str| {
            let line = format!("1 (x) {state} 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 5 0");
            parse_stat(line.as_bytes()).unwrap().ended
        };
        assert!(ended("Z", "1") && ended("X", "0"));
        assert!(!ended("Z", "2") && !ended("S", "1"));
    }

    #[test]
    fn a_file_time_beyond_all_years_is_no_overflow() {
        assert_eq!(file_time(i64::MAX, 999_999_999), u64::MAX);
        assert_eq!(file_time(i64::MIN, 0), 0);
        assert_eq!(file_time(2, 5), 2_000_000_005);
    }

    #[test]
    fn ids_come_from_the_status_lines() {
        let status = b"Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t100\t5\t5\t5\n";
        let ids = parse_ids(status).unwrap();
        assert_eq!((ids.uid, ids.euid, ids.gid, ids.egid), (1000, 0, 100, 5));
        assert_eq!(parse_ids(b"Uid:\tx\n"), None);
    }

    #[test]
    fn the_control_group_is_that_of_v1_where_it_is_in_use() {
        let check = |text: &str, expected: Option<&str>| {
            let found = parse_cgroup(text.as_bytes());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{text}");
        };
        check("0::/init.scope\n", Some("/init.scope"));
        check(
            "5:memory:/m\n4:cpu,pids:/docker/a:b\n0::/system.slice\n",
            Some("/docker/a:b"),
        );
        check("1:name=systemd:/x\n0::/u\n", Some("/u"));
        check("", None);
        check("nonsense", None);
    }

    #[test]
    fn capabilities_and_inner_pid_come_from_the_status_lines() {
        let status = b"CapEff:\t000001ffffffffff\nNStgid:\t77\t5\n";
        assert_eq!(parse_effective_caps(status), Some(0x1ff_ffff_ffff));
        assert_eq!(parse_namespace_pid(status), Some(5));
        assert_eq!(parse_effective_caps(b""), None);
    }

    #[test]
    fn the_deleted_mark_is_removed_only_where_the_file_is_gone() {
        let check = |nlink, memfd, link: &[u8], expected: &[u8]| {
            let file = FileIdentity {
                nlink,
                memfd,
                ..FileIdentity::default()
            };
            assert_eq!(without_deleted_mark(link.to_vec(), Some(&file)), expected);
        };
        check(0, false, b"/tmp/x (deleted)", b"/tmp/x");
        check(1, false, b"/tmp/x (deleted)", b"/tmp/x (deleted)");
        check(0, true, b"/memfd:x (deleted)", b"memfd:x");
    }

    #[test]
    fn this_very_process_is_listed() {
        let pid = std::process::id();
        assert!(pids().unwrap().contains(&pid));
        let stat = stat(pid).unwrap();
        let key = ProcessKey {
            pid,
            start: start(&stat),
            ..ProcessKey::default()
        };
        let process = process(key, None, &stat);
        assert_eq!(
            process.exe.as_ref(),
            std::env::current_exe()
                .unwrap()
                .as_os_str()
                .as_encoded_bytes()
        );
        assert_eq!(process.argv.len(), std::env::args().count());
        assert!(process.exe_file.unwrap().nlink >= 1);
        assert_ne!(process.namespaces.unwrap().mnt, 0);
    }
}
