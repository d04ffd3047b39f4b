//! What the codec promises: bytes fixed for ever, nothing lost, no panic on anything.

use std::time::Duration;

use bytes::Bytes;
use event::wire::{MAGIC, RecordingReader, RecordingWriter};
use event::{
    Ancestor, Argv, BootId, BootTime, Container, Credentials, Digest, DropReason, Error, Event,
    EventClass, EventKind, Exec, Exit, ExitStatus, FailedExec, FileIdentity, Finding, Fork,
    HashFailure, Hashed, Header, Leaf, Level, Lost, Namespaces, Process, ProcessKey, Snapshot,
    WallTime, WindowsProcess, codec,
};
use proptest::prelude::*;

const BOOT: BootId = BootId(*b"0123456789abcdef");

fn key(pid: u32, start: u64) -> ProcessKey {
    ProcessKey {
        boot: BOOT,
        pid,
        start: BootTime(start),
    }
}

fn header() -> Header {
    Header {
        boot: BOOT,
        sequence: 7,
        cpu: 1,
        time: BootTime(1000),
        wall: WallTime(2000),
    }
}

fn full_process() -> Process {
    Process {
        key: key(42, 900),
        parent: Some(key(1, 1)),
        comm: Bytes::from_static(b"sh"),
        exe: Bytes::from_static(b"/usr/bin/dash"),
        filename: Bytes::from_static(b"/bin/sh"),
        argv: Argv::from_block(Bytes::from_static(b"sh\0-c\0\0\xff cut")),
        argv_truncated_bytes: 5,
        cwd: Some(Bytes::from_static(b"/")),
        credentials: Some(Credentials {
            uid: 1,
            gid: 2,
            euid: 0,
            egid: 3,
        }),
        user: Some(Bytes::from_static(b"root")),
        login_uid: Some(1000),
        session: Some(3),
        tty: Some(0x8801),
        effective_caps: Some(u64::MAX),
        cgroup_id: Some(77),
        interpreter: Some(Bytes::from_static(b"/bin/sh")),
        session_leader: Some(40),
        namespaces: Some(Namespaces {
            mnt: 1,
            pid: 2,
            net: 3,
            user: 4,
            uts: 5,
            ipc: 6,
            cgroup: 7,
            time: 8,
        }),
        namespace_pid: Some(2),
        container: Some(Container {
            id: Bytes::from_static(b"c0ffee"),
            runtime: Bytes::from_static(b"docker"),
            pod_uid: Some(Bytes::from_static(b"p")),
        }),
        unit: Some(Bytes::from_static(b"ssh.service")),
        secure_exec: Some(true),
        file_caps: Some(false),
        environment: Some(Argv::from_block(Bytes::from_static(b"A=1\0B=cut"))),
        environment_truncated_bytes: 9,
        exe_changed: true,
        exe_touched: true,
        exe_file: Some(FileIdentity {
            inode: 9,
            device: 8,
            nlink: 1,
            mtime: 5,
            mode: 0o104_755,
            uid: 0,
            memfd: false,
            size: 10,
            ctime: 6,
        }),
        sha256: Some([0xab; 32]),
        parent_process: Some(Box::new(Ancestor {
            key: key(1, 1),
            comm: Bytes::from_static(b"init"),
            exe: Bytes::from_static(b"/sbin/init"),
            argv: ["/sbin/init"].into_iter().collect(),
            parent: None,
            euid: Some(0),
        })),
        redactions: 1,
        ancestors: [Ancestor {
            key: key(2, 2),
            exe: Bytes::from_static(b"/x"),
            ..Ancestor::default()
        }]
        .into(),
        windows: Some(Box::new(WindowsProcess {
            integrity_level: Some(Bytes::from_static(b"High")),
            logon_id: Some(0),
            original_file_name: Some(Bytes::from_static(b"Cmd.Exe")),
            description: Some(Bytes::new()),
            product: Some(Bytes::from_static(b"p")),
            company: Some(Bytes::from_static(b"c")),
            file_version: Some(Bytes::from_static(b"1.0")),
            md5: Some([1; 16]),
            sha1: Some([2; 20]),
            imphash: Some([3; 16]),
            parent_user: Some(Bytes::from_static(b"x")),
        })),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How every leaf of these tests begins.
const HEAD: &str =
    "0801 1210 30313233343536373839616263646566 1807 2001 29e803000000000000 31d007000000000000";

#[test]
fn golden_vector_of_a_finding_holds() {
    let column = |name: &'static str, value: &str| (name.into(), value.to_owned());
    let finding = Finding {
        header: header(),
        rule_id: "r".into(),
        level: Level::High,
        leaf_index: 12,
        key: Some(key(42, 900)),
        selected: vec![column("a", "b")],
        absent: vec!["c".into()],
        evidence: vec![3, 12],
        incomplete: vec!["d".into()],
        matched: vec![column("e", "f")],
        ..Finding::default()
    };
    let bytes = codec::encode_finding(&finding);
    let body = "7a2e 0a0172 1804 280c 320b 082a 118403000000000000 4206 0a0161 120162 4a0163 \
                5202 030c 5a0164 7206 0a0165 120166";
    assert_eq!(hex(&bytes), format!("{HEAD}{body}").replace(' ', ""));
    let decoded = codec::decode(bytes).unwrap();
    assert_eq!(decoded, Leaf::Finding(Box::new(finding)));
}

/// Each row was checked by hand against docs/event-format.md. A row never changes: a change here
/// is a change of a format that ledgers on disk use.
#[test]
fn golden_vectors_hold() {
    let check = |kind: EventKind, body: &str| {
        let event = Event {
            header: header(),
            kind,
        };
        let bytes = codec::encode_event(&event);
        assert_eq!(
            hex(&bytes),
            format!("{HEAD}{body}").replace([' ', '\n'], ""),
            "{event:?}"
        );
        assert_eq!(codec::decode_event(bytes).unwrap(), event);
    };
    check(
        EventKind::Fork(Fork {
            child: key(42, 900),
            parent: key(41, 800),
            parent_muted: false,
        }),
        "5a1a 0a0b 082a 118403000000000000 120b 0829 112003000000000000",
    );
    check(
        EventKind::Fork(Fork {
            child: key(42, 900),
            parent: key(41, 800),
            parent_muted: true,
        }),
        "5a1c 0a0b 082a 118403000000000000 120b 0829 112003000000000000 1801",
    );
    check(
        EventKind::Exit(Exit {
            key: key(42, 900),
            parent: None,
            status: Some(ExitStatus::from_wait_status(9)),
            run_time: None,
            comm: Bytes::from_static(b"sh"),
            exe: Bytes::new(),
            muted: false,
        }),
        "6215 0a0b 082a 118403000000000000 1809 2809 3a027368",
    );
    check(
        EventKind::Exit(Exit {
            key: key(42, 900),
            run_time: Some(Duration::from_nanos(300)),
            ..Exit::default()
        }),
        "6212 0a0b 082a 118403000000000000 4801 50ac02",
    );
    check(
        EventKind::Exit(Exit {
            key: key(42, 900),
            muted: true,
            ..Exit::default()
        }),
        "6211 0a0b 082a 118403000000000000 4801 5801",
    );
    check(
        EventKind::Hashed(Box::new(Hashed {
            key: key(42, 900),
            exe: Bytes::new(),
            exe_file: None,
            outcome: Err(HashFailure::Gone),
        })),
        "82010f 0a0b 082a 118403000000000000 3001",
    );
    check(
        EventKind::FailedExec(Box::new(FailedExec {
            key: key(42, 900),
            filename: Bytes::from_static(b"/x"),
            errno: 2,
            ..FailedExec::default()
        })),
        "8a0113 0a0b 082a 118403000000000000 2a022f78 3002",
    );
    check(
        EventKind::FailedExec(Box::new(FailedExec {
            key: key(42, 900),
            muted: true,
            ..FailedExec::default()
        })),
        "8a010f 0a0b 082a 118403000000000000 4001",
    );
    check(
        EventKind::Lost(Lost {
            class: EventClass::Exec,
            reason: DropReason::RingFull,
            count: 300,
            from: BootTime(1),
            to: BootTime(2),
        }),
        "6a19 0802 1001 18ac02 210100000000000000 290200000000000000",
    );
    let process = Process {
        key: key(42, 900),
        parent: Some(key(41, 800)),
        comm: Bytes::from_static(b"sh"),
        argv: ["sh", ""].into_iter().collect(),
        ..Process::default()
    };
    let body = "0a0b082a118403000000000000 120b0829112003000000000000 1a027368 320273683200";
    check(
        EventKind::Exec(Box::new(Exec {
            process: process.clone(),
            old_tid: Some(43),
        })),
        &format!("5228 0a24 {body} 102b"),
    );
    check(
        EventKind::Snapshot(Box::new(Snapshot { process })),
        &format!("7226 0a24 {body}"),
    );
    let process = Process {
        key: key(42, 900),
        windows: Some(Box::new(WindowsProcess {
            integrity_level: Some(Bytes::from_static(b"Low")),
            logon_id: Some(0x3e7),
            md5: Some([0xab; 16]),
            ..WindowsProcess::default()
        })),
        ..Process::default()
    };
    let md5 = "ab".repeat(16);
    check(
        EventKind::Exec(Box::new(Exec {
            process,
            old_tid: None,
        })),
        &format!("522c 0a2a 0a0b082a118403000000000000 9a021a 0a034c6f77 10e707 4210 {md5}"),
    );
}

#[test]
fn every_field_survives() {
    for kind in [
        EventKind::Exec(Box::new(Exec {
            process: full_process(),
            old_tid: Some(3),
        })),
        EventKind::Snapshot(Box::new(Snapshot {
            process: full_process(),
        })),
        EventKind::Hashed(Box::new(Hashed {
            key: key(42, 900),
            exe: Bytes::from_static(b"/x"),
            exe_file: full_process().exe_file,
            outcome: Ok(Digest {
                sha256: [7; 32],
                changed: true,
                touched: true,
            }),
        })),
        EventKind::FailedExec(Box::new(FailedExec {
            key: key(42, 900),
            parent: Some(key(1, 1)),
            comm: Bytes::from_static(b"sh"),
            exe: Bytes::from_static(b"/bin/sh"),
            filename: Bytes::from_static(b"/none"),
            errno: 2,
            credentials: full_process().credentials,
            muted: true,
        })),
    ] {
        let event = Event {
            header: header(),
            kind,
        };
        assert_eq!(
            codec::decode_event(codec::encode_event(&event)).unwrap(),
            event
        );
    }
    let finding = Finding {
        header: header(),
        rule_id: "r".into(),
        title: "t".into(),
        level: Level::High,
        tags: ["attack.t1059".to_owned()].into(),
        leaf_index: 12,
        key: Some(key(1, 2)),
        exe: Bytes::from_static(b"/x"),
        selected: vec![("process.pid".into(), "1".into())],
        absent: vec!["process.user".into()],
        evidence: vec![3, 12],
        incomplete: vec!["more than was counted".into()],
        author: "Somebody".into(),
        license: "DRL-1.1".into(),
        matched: vec![("process.name".into(), "x".into())],
    };
    let decoded = codec::decode(codec::encode_finding(&finding)).unwrap();
    assert_eq!(decoded, Leaf::Finding(Box::new(finding)));
}

#[test]
fn newer_schema_is_refused_by_name() {
    let mut bytes = codec::encode_event(&Event {
        header: header(),
        kind: EventKind::Fork(Fork::default()),
    })
    .to_vec();
    bytes[1] = 2;
    let error = codec::decode(bytes.into()).unwrap_err();
    assert!(
        matches!(error, Error::SchemaVersion { found: 2, known: 1 }),
        "{error}"
    );
}

#[test]
fn a_recording_cut_or_damaged_anywhere_names_the_place() {
    let events: Vec<Event> = (0..3)
        .map(|pid| Event {
            header: header(),
            kind: EventKind::Fork(Fork {
                child: key(pid, 1),
                parent: key(0, 0),
                parent_muted: false,
            }),
        })
        .collect();
    let mut recording = Vec::new();
    let mut ends = vec![MAGIC.len() as u64];
    let mut writer = RecordingWriter::new(&mut recording).unwrap();
    for event in &events {
        writer.write(event).unwrap();
        let frame = 8 + codec::encode_event(event).len() as u64;
        ends.push(ends.last().unwrap() + frame);
    }

    let read_all = |bytes: &[u8]| -> Result<Vec<Event>, (usize, Error)> {
        let mut reader = RecordingReader::new(bytes).map_err(|e| (0, e))?;
        let mut out = Vec::new();
        while let Some(event) = reader.next().map_err(|e| (out.len(), e))? {
            out.push(event);
        }
        Ok(out)
    };
    assert_eq!(read_all(&recording).unwrap(), events);

    for cut in 0..recording.len() {
        let whole = ends.iter().filter(|end| **end <= cut as u64).count();
        match read_all(&recording[..cut]) {
            Ok(got) => assert!(
                ends.contains(&(cut as u64)) && got.len() + 1 == whole,
                "cut {cut}"
            ),
            Err((got, Error::Frame { offset, events, .. })) => {
                assert!(!ends.contains(&(cut as u64)), "cut {cut}");
                assert_eq!(events, got as u64);
                assert_eq!(
                    offset,
                    if whole == 0 { 0 } else { ends[whole - 1] },
                    "cut {cut}"
                );
            }
            Err(other) => panic!("cut {cut}: {other:?}"),
        }
    }
    for at in 0..recording.len() {
        let mut bad = recording.clone();
        bad[at] ^= 1;
        assert!(read_all(&bad).is_err(), "flip at {at} went unseen");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = codec::decode(bytes.clone().into());
        if let Ok(mut reader) = RecordingReader::new(&bytes[..]) {
            while let Ok(Some(_)) = reader.next() {}
        }
    }

    #[test]
    fn damaged_leaves_never_panic(at in 0usize..400, bit in 0u8..8) {
        let event = Event {
            header: header(),
            kind: EventKind::Exec(Box::new(Exec { process: full_process(), old_tid: None })),
        };
        let mut bytes = codec::encode_event(&event).to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let _ = codec::decode(bytes.into());
    }

    #[test]
    fn argument_blocks_survive(block in proptest::collection::vec(0u8..4, 0..40)) {
        let argv = Argv::from_block(block.into());
        let process = Process { argv: argv.clone(), ..full_process() };
        let event = Event {
            header: header(),
            kind: EventKind::Exec(Box::new(Exec { process, old_tid: None })),
        };
        prop_assert_eq!(codec::decode_event(codec::encode_event(&event)).unwrap(), event);
    }
}
