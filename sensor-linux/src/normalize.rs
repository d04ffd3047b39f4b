//! Records to events. Pure: boot id and clock are handed in.

use bytes::{BufMut, Bytes, BytesMut};
use event::{
    Argv, BootId, BootTime, Credentials, Event, EventKind, Exec, Exit, ExitStatus, FileIdentity,
    Fork, Header, Process, ProcessKey, WallTime,
};
use sensor_ebpf::record::{ExecRecord, RecordHeader, flag};

use crate::decode::{self, Record};

/// What the records themselves do not say.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// This boot.
    pub boot: BootId,
    /// Wall time of `CLOCK_BOOTTIME` zero.
    pub boot_wall: WallTime,
}

/// Turns one record into an event.
#[must_use]
pub fn normalize(record: &Record<'_>, clock: &Clock) -> Event {
    match record {
        Record::Fork(header) => event(header, clock, EventKind::Fork(fork(header, clock.boot))),
        Record::Exit(record) => {
            let header = &record.header;
            let exit = Exit {
                key: key(header, clock.boot),
                parent: parent(header, clock.boot),
                status: Some(ExitStatus::from_wait_status(record.status)),
                run_time: None,
                comm: Bytes::copy_from_slice(until_nul(&record.comm)),
                exe: Bytes::new(),
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
    }
}

fn event(header: &RecordHeader, clock: &Clock, kind: EventKind) -> Event {
    let time = BootTime(header.time);
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
    }
}

/// All byte strings of one exec share one allocation.
fn process(record: &decode::Exec<'_>, boot: BootId) -> Process {
    let fixed = &record.fixed;
    let mut slab = Slab::with_capacity(record);
    let comm = slab.push(until_nul(&fixed.comm));
    let filename = slab.push(record.filename);
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
        effective_caps: Some(fixed.cap_effective),
        cgroup_id: (fixed.cgroup_id != 0).then_some(fixed.cgroup_id),
        exe_file: (fixed.inode != 0).then(|| file(record)),
        ..Process::default()
    }
}

fn file(record: &decode::Exec<'_>) -> FileIdentity {
    let fixed = &record.fixed;
    let seconds = u64::try_from(fixed.mtime_seconds).unwrap_or(0);
    FileIdentity {
        inode: fixed.inode,
        device: fixed.device,
        nlink: fixed.nlink,
        mtime: seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(fixed.mtime_nanos.into()),
        mode: fixed.mode,
        uid: fixed.file_uid,
        memfd: is_unnamed(fixed) && record.exe.starts_with(b"memfd:"),
        ..FileIdentity::default()
    }
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
        let parts = [record.filename, record.exe, record.cwd, record.argv];
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
    };

    fn exec<'a>(fixed: ExecRecord, exe: &'a [u8], cwd: &'a [u8]) -> decode::Exec<'a> {
        decode::Exec {
            fixed,
            filename: b"./run",
            exe,
            cwd,
            argv: b"run\0\0a b\0\xff\0",
        }
    }

    fn process_of(record: decode::Exec<'_>) -> Process {
        match normalize(&Record::Exec(record), &CLOCK).kind {
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
            match normalize(&Record::Exec(exec(fixed, b"run\0", b"")), &CLOCK).kind {
                EventKind::Exec(exec) => exec.old_tid,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(old_tid(5), None);
        assert_eq!(old_tid(6), Some(6));
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
            status: 9,
            reserved: 0,
        };
        let event = normalize(&Record::Exit(record), &CLOCK);
        assert_eq!(event.header.wall, WallTime(1_100));
        let EventKind::Exit(exit) = event.kind else {
            panic!("no exit")
        };
        let status = exit.status.unwrap();
        assert_eq!((status.signal, status.code), (9, 0));
        assert_eq!(exit.parent.map(|p| (p.pid, p.start.0)), Some((4, 40)));
        assert_eq!(exit.comm, "sh");
    }
}
