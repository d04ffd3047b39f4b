//! Records to events. Pure: boot id and clock are handed in.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use event::{
    Argv, BootId, BootTime, Credentials, Event, EventKind, Exec, Exit, ExitStatus, FailedExec,
    FileIdentity, Fork, Header, Namespaces, Process, ProcessKey, WallTime,
};
use sensor_ebpf::record::{ExecRecord, RecordHeader, flag, header_flag};

use crate::decode::{self, Record};

/// What the records themselves do not say.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// This boot.
    pub boot: BootId,
    /// Wall time of `CLOCK_BOOTTIME` zero.
    pub boot_wall: WallTime,
    /// What to add to a record's time to get ns since boot; not 0 with perf buffers alone.
    pub offset: u64,
}

/// Turns one record into an event; `None` for records that are none.
#[must_use]
pub fn normalize(record: &Record<'_>, clock: &Clock) -> Option<Event> {
    Some(match record {
        Record::Fork(header) => event(header, clock, EventKind::Fork(fork(header, clock.boot))),
        Record::Exit(record) => {
            let header = &record.header;
            let exit = Exit {
                key: key(header, clock.boot),
                parent: parent(header, clock.boot),
                status: Some(ExitStatus::from_wait_status(record.status)),
                // When it ended is not known of one whose exit no program saw.
                run_time: (!is_of_substitute(header))
                    .then_some(Duration::from_nanos(record.run_time)),
                comm: Bytes::copy_from_slice(until_nul(&record.comm)),
                exe: Bytes::new(),
                muted: is_muted(header),
            };
            event(header, clock, EventKind::Exit(exit))
        }
        Record::Exec(record) => {
            let header = &record.fixed.header;
            let exec = Exec {
                process: process(record, clock.boot),
                old_tid: (record.fixed.old_tid != header.tgid).then_some(record.fixed.old_tid),
            };
            event(header, clock, EventKind::Exec(Box::new(exec)))
        }
        Record::FailedExec(record) => {
            let header = &record.fixed.header;
            let failed = failed_exec(record, clock.boot);
            event(header, clock, EventKind::FailedExec(Box::new(failed)))
        }
        Record::Cgroup(_) | Record::Environment(_) => return None,
    })
}

fn event(header: &RecordHeader, clock: &Clock, kind: EventKind) -> Event {
    let time = BootTime(header.time.saturating_add(clock.offset));
    let header = Header {
        boot: clock.boot,
        sequence: header.sequence,
        cpu: header.cpu,
        time,
        wall: WallTime::at(clock.boot_wall, time),
    };
    Event { header, kind }
}

fn key(header: &RecordHeader, boot: BootId) -> ProcessKey {
    ProcessKey {
        boot,
        pid: header.tgid,
        start: BootTime(header.start),
    }
}

fn parent(header: &RecordHeader, boot: BootId) -> Option<ProcessKey> {
    (header.parent_tgid != 0).then_some(ProcessKey {
        boot,
        pid: header.parent_tgid,
        start: BootTime(header.parent_start),
    })
}

fn fork(header: &RecordHeader, boot: BootId) -> Fork {
    let parent = ProcessKey {
        boot,
        pid: header.parent_tgid,
        start: BootTime(header.parent_start),
    };
    Fork {
        child: key(header, boot),
        parent,
        parent_muted: header.flags & header_flag::PARENT_MUTED != 0,
    }
}

fn failed_exec(record: &decode::FailedExec<'_>, boot: BootId) -> FailedExec {
    let fixed = &record.fixed;
    FailedExec {
        key: key(&fixed.header, boot),
        parent: parent(&fixed.header, boot),
        comm: Bytes::copy_from_slice(until_nul(&fixed.comm)),
        exe: Bytes::new(),
        filename: Bytes::copy_from_slice(record.filename),
        errno: fixed.errno,
        credentials: Some(Credentials {
            uid: fixed.uid,
            gid: fixed.gid,
            euid: fixed.euid,
            egid: fixed.egid,
        }),
        muted: is_muted(&fixed.header),
    }
}

/// Whether the record lacks what only the program knows that was left out.
pub(crate) fn is_of_substitute(header: &RecordHeader) -> bool {
    header.flags & header_flag::SUBSTITUTE != 0
}

fn is_muted(header: &RecordHeader) -> bool {
    header.flags & header_flag::MUTED != 0
}

/// All byte strings of one exec share one allocation.
fn process(record: &decode::Exec<'_>, boot: BootId) -> Process {
    let fixed = &record.fixed;
    let mut slab = Slab::with_capacity(record);
    let comm = slab.push(until_nul(&fixed.comm));
    let filename = slab.push(record.filename);
    let interpreter = slab.push(record.interpreter);
    let exe = slab.push_path(
        record.exe,
        fixed.flags & flag::EXE_CUT != 0,
        is_unnamed(fixed),
    );
    let cwd = slab.push_path(record.cwd, fixed.flags & flag::CWD_CUT != 0, false);
    let argv = slab.push(record.argv);
    let slab = slab.freeze();
    let exe = if record.exe.is_empty() {
        filename.clone()
    } else {
        exe
    };
    let has_cwd = !record.cwd.is_empty() || fixed.flags & flag::CWD_CUT == 0;
    Process {
        key: key(&fixed.header, boot),
        parent: parent(&fixed.header, boot),
        comm: slab.slice(comm),
        exe: slab.slice(exe),
        filename: slab.slice(filename),
        interpreter: (!record.interpreter.is_empty()).then(|| slab.slice(interpreter)),
        argv: Argv::from_block(slab.slice(argv)),
        argv_truncated_bytes: fixed.argv_total.saturating_sub(fixed.argv_len.into()),
        cwd: has_cwd.then(|| slab.slice(cwd)),
        credentials: Some(Credentials {
            uid: fixed.uid,
            gid: fixed.gid,
            euid: fixed.euid,
            egid: fixed.egid,
        }),
        login_uid: set(fixed.login_uid),
        session: set(fixed.session),
        session_leader: known(fixed.session_leader),
        tty: known(user_device(fixed.tty)),
        namespaces: namespaces(fixed.namespaces),
        namespace_pid: known(fixed.namespace_pid).filter(|pid| *pid != fixed.header.tgid),
        secure_exec: told(fixed, flag::SECURE_KNOWN, flag::SECURE),
        file_caps: told(fixed, flag::FILE_CAPS_KNOWN, flag::FILE_CAPS),
        effective_caps: Some(fixed.cap_effective),
        cgroup_id: (fixed.cgroup_id != 0).then_some(fixed.cgroup_id),
        exe_file: (fixed.inode != 0).then(|| file(record)),
        ..Process::default()
    }
}

fn file(record: &decode::Exec<'_>) -> FileIdentity {
    let fixed = &record.fixed;
    FileIdentity {
        inode: fixed.inode,
        device: fixed.device,
        nlink: fixed.nlink,
        size: fixed.size,
        mtime: file_time(fixed.mtime_seconds, fixed.mtime_nanos),
        ctime: file_time(fixed.ctime_seconds, fixed.ctime_nanos),
        mode: fixed.mode,
        uid: fixed.file_uid,
        memfd: is_unnamed(fixed) && record.exe.starts_with(b"memfd:"),
    }
}

/// Anybody can set a file's time, to years that ns since 1970 cannot hold.
fn file_time(seconds: i64, nanos: u32) -> u64 {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanos.into())
}

fn namespaces(of: [u32; 8]) -> Option<Namespaces> {
    let [mnt, pid, net, user, uts, ipc, cgroup, time] = of;
    of.iter().any(|inode| *inode != 0).then_some(Namespaces {
        mnt,
        pid,
        net,
        user,
        uts,
        ipc,
        cgroup,
        time,
    })
}

/// From the kernel's `major << 20 | minor` to what user space is shown (`stat`, procfs).
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/kdev_t.h#L37>
fn user_device(device: u32) -> u32 {
    let (major, minor) = (device >> 20, device & 0xf_ffff);
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

fn known(value: u32) -> Option<u32> {
    (value != 0).then_some(value)
}

fn told(fixed: &ExecRecord, known: u32, flag: u32) -> Option<bool> {
    (fixed.flags & known != 0).then_some(fixed.flags & flag != 0)
}

fn is_unnamed(fixed: &ExecRecord) -> bool {
    fixed.flags & flag::EXE_UNNAMED != 0
}

fn set(audit_id: u32) -> Option<u32> {
    (audit_id != u32::MAX).then_some(audit_id)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

type Range = std::ops::Range<usize>;

/// One buffer for all byte strings of an event.
struct Slab(BytesMut);

impl Slab {
    fn with_capacity(record: &decode::Exec<'_>) -> Self {
        let parts = [
            record.filename,
            record.interpreter,
            record.exe,
            record.cwd,
            record.argv,
        ];
        Self(BytesMut::with_capacity(
            parts.iter().map(|p| p.len()).sum::<usize>() + 32,
        ))
    }

    fn push(&mut self, bytes: &[u8]) -> Range {
        let start = self.0.len();
        self.0.put_slice(bytes);
        start..self.0.len()
    }

    /// Joins components (innermost first, NUL-ended) to a path. One that lost its outermost
    /// components begins with `.../`; one that its filesystem made up is its name alone.
    fn push_path(&mut self, components: &[u8], cut: bool, unnamed: bool) -> Range {
        let body = components.strip_suffix(&[0]).unwrap_or(components);
        if unnamed {
            return self.push(until_nul(body));
        }
        let start = self.0.len();
        if cut {
            self.0.put_slice(b"...");
        }
        if body.is_empty() {
            self.0.put_u8(b'/');
        }
        for component in body.rsplit(|byte| *byte == 0).filter(|c| !c.is_empty()) {
            self.0.put_u8(b'/');
            self.0.put_slice(component);
        }
        start..self.0.len()
    }

    fn freeze(self) -> Bytes {
        self.0.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Clock = Clock {
        boot: BootId([7; 16]),
        boot_wall: WallTime(1_000),
        offset: 0,
    };

    fn exec<'a>(fixed: ExecRecord, exe: &'a [u8], cwd: &'a [u8]) -> decode::Exec<'a> {
        decode::Exec {
            fixed,
            filename: b"./run",
            interpreter: b"",
            exe,
            cwd,
            argv: b"run\0\0a b\0\xff\0",
        }
    }

    fn process_of(record: decode::Exec<'_>) -> Process {
        match normalize(&Record::Exec(record), &CLOCK).unwrap().kind {
            EventKind::Exec(exec) => exec.process,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn paths_are_joined_from_the_root() {
        let check = |exe: &[u8], flags, expected: &[u8]| {
            let fixed = ExecRecord {
                flags,
                inode: 1,
                ..ExecRecord::default()
            };
            let process = process_of(exec(fixed, exe, b"tmp\0"));
            assert_eq!(process.exe, expected, "{}", exe.escape_ascii());
            assert_eq!(process.cwd.as_deref(), Some(&b"/tmp"[..]));
        };
        check(b"run\0bin\0usr\0", 0, b"/usr/bin/run");
        check(b"run\0bin\0", flag::EXE_CUT, b".../bin/run");
        check(b"memfd:x\0", flag::EXE_UNNAMED, b"memfd:x");
        check(b"", 0, b"./run");
    }

    #[test]
    fn root_as_working_directory_is_a_slash() {
        let process = process_of(exec(ExecRecord::default(), b"run\0", b""));
        assert_eq!(process.cwd.as_deref(), Some(&b"/"[..]));
    }

    #[test]
    fn a_memfd_is_told_from_a_file_of_that_name() {
        let memfd = |flags| {
            let fixed = ExecRecord {
                flags,
                inode: 1,
                ..ExecRecord::default()
            };
            process_of(exec(fixed, b"memfd:x\0", b""))
                .exe_file
                .unwrap()
                .memfd
        };
        assert!(memfd(flag::EXE_UNNAMED));
        assert!(!memfd(0));
    }

    #[test]
    fn arguments_keep_their_bytes_and_say_what_is_missing() {
        let fixed = ExecRecord {
            argv_total: 1_000,
            argv_len: 11,
            ..ExecRecord::default()
        };
        let process = process_of(exec(fixed, b"run\0", b""));
        let arguments: Vec<&[u8]> = process.argv.iter().collect();
        assert_eq!(arguments, [&b"run"[..], b"", b"a b", b"\xff"]);
        assert_eq!(process.argv_truncated_bytes, 989);
    }

    #[test]
    fn thread_exec_keeps_the_old_tid_and_the_leader_does_not() {
        let old_tid = |old_tid| {
            let header = RecordHeader {
                tgid: 5,
                ..RecordHeader::default()
            };
            let fixed = ExecRecord {
                header,
                old_tid,
                ..ExecRecord::default()
            };
            let record = Record::Exec(exec(fixed, b"run\0", b""));
            match normalize(&record, &CLOCK).unwrap().kind {
                EventKind::Exec(exec) => exec.old_tid,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(old_tid(5), None);
        assert_eq!(old_tid(6), Some(6));
    }

    #[test]
    fn what_the_kernel_does_not_know_is_absent() {
        let process = process_of(exec(ExecRecord::default(), b"run\0", b""));
        assert_eq!((process.namespaces, process.tty), (None, None));
        assert_eq!((process.secure_exec, process.file_caps), (None, None));
        assert_eq!(process.interpreter, None);
        let header = RecordHeader {
            tgid: 5,
            ..RecordHeader::default()
        };
        let fixed = ExecRecord {
            header,
            namespaces: [1, 2, 3, 4, 5, 6, 7, 0],
            namespace_pid: 5,
            tty: 136 << 20 | 300,
            flags: flag::SECURE_KNOWN | flag::FILE_CAPS_KNOWN | flag::FILE_CAPS,
            ctime_seconds: 3,
            ctime_nanos: 4,
            ..ExecRecord::default()
        };
        let process = process_of(exec(fixed, b"run\0", b""));
        assert_eq!(process.namespaces.unwrap().cgroup, 7);
        assert_eq!(process.namespace_pid, None, "it is the pid itself");
        assert_eq!(process.tty, Some(1 << 20 | 136 << 8 | 44));
        assert_eq!(process.secure_exec, Some(false));
        assert_eq!(process.file_caps, Some(true));
        assert_eq!(file_time(3, 4), 3_000_000_004);
        assert_eq!(file_time(i64::MAX, 0), u64::MAX);
    }

    #[test]
    fn exit_status_is_split_and_parent_kept() {
        let header = RecordHeader {
            tgid: 5,
            start: 50,
            parent_tgid: 4,
            parent_start: 40,
            time: 100,
            ..RecordHeader::default()
        };
        let mut comm = [0; 16];
        comm[..2].copy_from_slice(b"sh");
        let record = sensor_ebpf::record::ExitRecord {
            header,
            comm,
            run_time: 50,
            status: 9,
            reserved: 0,
        };
        let event = normalize(&Record::Exit(record), &CLOCK).unwrap();
        assert_eq!(event.header.wall, WallTime(1_100));
        let EventKind::Exit(exit) = event.kind else {
            panic!("no exit")
        };
        let status = exit.status.unwrap();
        assert_eq!((status.signal, status.code), (9, 0));
        assert_eq!(exit.parent.map(|p| (p.pid, p.start.0)), Some((4, 40)));
        assert_eq!(exit.comm, "sh");
        assert_eq!(exit.run_time, Some(Duration::from_nanos(50)));
    }
}
