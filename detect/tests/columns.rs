//! Every column in every stream: what fills it, and what an unknown one means.

use std::sync::Arc;
use std::time::Duration;

use detect::catalog::{COLUMNS, Column, Stream};
use detect::{Matcher, RuleSet, Source, run_tests};
use event::{
    Ancestor, Argv, BootTime, Bytes, Container, Credentials, Digest, DropReason, Event, EventClass,
    EventKind, Exec, Exit, ExitStatus, FailedExec, FileIdentity, Finding, Fork, HashFailure,
    Hashed, Header, Lost, Namespaces, Process, ProcessKey, WallTime, WindowsProcess,
};

#[track_caller]
fn findings(sql: &str, kind: EventKind) -> Vec<Finding> {
    let text = format!("id: r\ntitle: R\nlevel: high\nsql: |\n  {sql}\n");
    let rules = RuleSet::compile(&[Source {
        file: "r",
        text: &text,
    }])
    .unwrap_or_else(|e| panic!("{}", e[0]));
    let header = Header {
        wall: WallTime(1),
        ..Header::default()
    };
    let mut findings = Vec::new();
    Matcher::new(Arc::new(rules)).on_event(&Event { header, kind }, 7, &mut findings);
    findings
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey {
        pid,
        start: BootTime(5),
        ..ProcessKey::default()
    }
}

fn exec(process: Process) -> EventKind {
    EventKind::Exec(Box::new(Exec {
        process,
        old_tid: None,
    }))
}

fn hashed(outcome: Result<Digest, HashFailure>) -> Hashed {
    Hashed {
        key: key(10),
        exe: Bytes::from_static(b"/opt/app"),
        exe_file: Some(file()),
        outcome,
    }
}

const DIGEST: Digest = Digest {
    sha256: [0xab; 32],
    changed: true,
    touched: false,
};

const IDS: Credentials = Credentials {
    uid: 1,
    gid: 2,
    euid: 3,
    egid: 4,
};

fn file() -> FileIdentity {
    FileIdentity {
        inode: 11,
        device: 8 << 20 | 1,
        nlink: 2,
        size: 4096,
        mtime: 21,
        ctime: 22,
        mode: 0o106_755,
        uid: 5,
        memfd: false,
    }
}

/// All that a source can tell about an exec.
fn full() -> Process {
    let argv: Argv = [&b"/bin/sh"[..], b"/opt/run"].into_iter().collect();
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    Process {
        environment_truncated_bytes: 0,
        key: key(10),
        parent: Some(key(9)),
        comm: text("run"),
        exe: text("/usr/bin/dash"),
        filename: text("/opt/run"),
        interpreter: Some(text("/bin/sh")),
        argv: argv.clone(),
        argv_truncated_bytes: 0,
        cwd: Some(text("/srv")),
        credentials: Some(IDS),
        user: Some(text("app")),
        login_uid: Some(1000),
        session: Some(3),
        session_leader: Some(8),
        tty: Some(34_816),
        effective_caps: Some(1 << 40),
        cgroup_id: Some(77),
        namespaces: Some(Namespaces {
            mnt: 101,
            pid: 102,
            net: 103,
            user: 104,
            uts: 105,
            ipc: 106,
            cgroup: 107,
            time: 108,
        }),
        namespace_pid: Some(6),
        container: Some(Container {
            id: text("c0ffee"),
            runtime: text("docker"),
            pod_uid: Some(text("01234567-89ab-cdef-0123-456789abcdef")),
        }),
        unit: Some(text("app.service")),
        exe_file: Some(file()),
        secure_exec: Some(true),
        file_caps: Some(false),
        environment: Some([&b"LD_PRELOAD=/tmp/x.so"[..], b"A="].into_iter().collect()),
        sha256: Some([0xab; 32]),
        exe_changed: false,
        exe_touched: true,
        parent_process: Some(Box::new(Ancestor {
            key: key(9),
            comm: text("init"),
            exe: text("/sbin/init"),
            argv,
            parent: Some(key(1)),
            euid: Some(0),
        })),
        ancestors: Arc::new([Ancestor {
            key: key(1),
            exe: text("/sbin/one"),
            ..Ancestor::default()
        }]),
        redactions: 1,
        windows: Some(Box::new(WindowsProcess {
            integrity_level: Some(text("High")),
            logon_id: Some(0x3e7),
            original_file_name: Some(text("Cmd.Exe")),
            description: Some(text("what it is")),
            product: Some(text("product")),
            company: Some(text("company")),
            file_version: Some(text("10.0")),
            md5: Some([0xcd; 16]),
            sha1: Some([0xce; 20]),
            imphash: Some([0xcf; 16]),
            parent_user: Some(text("WS\\one")),
        })),
    }
}

fn failed() -> FailedExec {
    FailedExec {
        key: key(10),
        parent: Some(key(9)),
        comm: Bytes::from_static(b"sh"),
        exe: Bytes::from_static(b"/usr/bin/dash"),
        filename: Bytes::from_static(b"/tmp/x"),
        errno: 13,
        credentials: Some(IDS),
        muted: false,
    }
}

fn exit() -> Exit {
    Exit {
        key: key(10),
        parent: Some(key(9)),
        status: Some(ExitStatus::from_wait_status(0x8b)),
        run_time: Some(Duration::from_millis(1500)),
        comm: Bytes::from_static(b"sh"),
        exe: Bytes::from_static(b"/usr/bin/dash"),
        muted: false,
    }
}

/// Events that between them fill every column of a stream.
fn told(stream: Stream) -> Vec<EventKind> {
    match stream {
        Stream::Exec => vec![exec(full())],
        Stream::Fork => vec![EventKind::Fork(Fork {
            child: key(10),
            parent: key(9),
            parent_muted: false,
        })],
        Stream::Exit => vec![EventKind::Exit(exit())],
        Stream::FailedExec => vec![EventKind::FailedExec(Box::new(failed()))],
        Stream::Hashed => [Ok(DIGEST), Err(HashFailure::Gone)]
            .map(|outcome| EventKind::Hashed(Box::new(hashed(outcome))))
            .into(),
        Stream::Lost => vec![EventKind::Lost(Lost {
            class: EventClass::Hashed,
            reason: DropReason::QueueFull,
            count: 1,
            from: BootTime(0),
            to: BootTime(1),
        })],
    }
}

/// The same from a source that can tell next to nothing.
fn untold(stream: Stream) -> Vec<EventKind> {
    match stream {
        Stream::Exec => vec![exec(Process::default())],
        Stream::Exit => vec![EventKind::Exit(Exit::default())],
        Stream::FailedExec => vec![EventKind::FailedExec(Box::default())],
        Stream::Hashed => [Ok(DIGEST), Err(HashFailure::Gone)]
            .map(|outcome| {
                EventKind::Hashed(Box::new(Hashed {
                    exe: Bytes::new(),
                    exe_file: None,
                    ..hashed(outcome)
                }))
            })
            .into(),
        Stream::Fork | Stream::Lost => told(stream),
    }
}

fn every_column() -> impl Iterator<Item = (&'static Column, Stream)> {
    COLUMNS
        .iter()
        .flat_map(|column| column.streams.iter().map(move |stream| (column, *stream)))
}

#[test]
fn every_column_is_filled_in_each_of_its_streams() {
    for (column, stream) in every_column() {
        let sql = format!("SELECT * FROM {stream} WHERE {} IS NOT NULL", column.name);
        let fired = told(stream)
            .into_iter()
            .any(|kind| !findings(&sql, kind).is_empty());
        assert!(fired, "{} in {stream}", column.name);
    }
}

#[test]
fn unknown_columns_are_told_unless_null_is_a_normal_answer() {
    for (column, stream) in every_column() {
        let sql = format!("SELECT * FROM {stream} WHERE {} IS NULL", column.name);
        for kind in untold(stream) {
            for finding in findings(&sql, kind) {
                let told = finding.absent == [column.name];
                assert_ne!(told, column.nullable, "{} in {stream}", column.name);
            }
        }
    }
}

#[test]
fn null_is_a_normal_answer_where_most_processes_have_no_value() {
    let nullable: Vec<&str> = COLUMNS
        .iter()
        .filter(|column| column.nullable)
        .map(|column| column.name)
        .collect();
    assert_eq!(
        nullable,
        [
            "process.interpreter",
            "process.environment",
            "process.login_uid",
            "process.session",
            "process.tty",
            "process.unit",
            "process.container_id",
            "process.container_runtime",
            "process.pod_uid",
            "process.namespace_pid",
            "process.sha256",
            "process.exe_changed",
            "process.exe_touched",
            "process.hash_failure",
        ]
    );
}

#[track_caller]
fn check(stream: Stream, kind: EventKind, condition: &str) {
    let sql = format!("SELECT * FROM {stream} WHERE {condition}");
    assert_eq!(findings(&sql, kind).len(), 1, "{condition}");
}

#[test]
fn columns_of_an_exec_are_not_mixed_up() {
    let check = |condition: &str| check(Stream::Exec, exec(full()), condition);
    check("process.interpreter = '/bin/sh' AND process.filename = '/opt/run'");
    check("process.session = 3 AND process.session_leader = 8 AND process.namespace_pid = 6");
    check("process.is_secure_exec AND NOT process.has_file_caps AND NOT process.exe_changed");
    check("process.exe_touched");
    check("process.mnt_ns = 101 AND process.pid_ns = 102 AND process.net_ns = 103");
    check("process.user_ns = 104 AND process.uts_ns = 105 AND process.ipc_ns = 106");
    check("process.cgroup_ns = 107 AND process.time_ns = 108 AND process.cgroup_id = 77");
    check("process.container_id = 'c0ffee' AND process.container_runtime = 'docker'");
    check("process.pod_uid LIKE '01234567-%' AND process.unit = 'app.service'");
    check("process.file_inode = 11 AND process.file_device = 8388609 AND process.file_nlink = 2");
    check("process.file_size = 4096 AND process.file_mtime = 21 AND process.file_ctime = 22");
}

#[test]
fn what_windows_tells_is_not_mixed_up() {
    let check = |condition: &str| check(Stream::Exec, exec(full()), condition);
    check("process.integrity_level = 'High' AND process.logon_id = 999");
    check("process.pe.original_file_name = 'Cmd.Exe' AND process.pe.description = 'what it is'");
    check("process.pe.product = 'product' AND process.pe.company = 'company'");
    check("process.pe.file_version = '10.0' AND parent.user = 'WS\\one'");
    check("grandparent.executable = '/sbin/one'");
    let hex = |byte: &str, bytes| byte.repeat(bytes);
    let (md5, sha1, imphash) = (hex("cd", 16), hex("ce", 20), hex("cf", 16));
    check(&format!(
        "process.md5 = '{md5}' AND process.sha1 = '{sha1}'"
    ));
    check(&format!("process.pe.imphash = '{imphash}'"));
    let sha256 = hex("AB", 32);
    let hashes = format!("SHA1={sha1},MD5={md5},SHA256={sha256},IMPHASH={imphash}").to_uppercase();
    check(&format!("process.hashes = '{hashes}'"));
}

#[test]
fn a_whole_digest_is_found_in_all_and_absent_where_none_is_known() {
    let with = |imphash, sha256| {
        let mut process = full();
        process.sha256 = sha256;
        let windows = process.windows.as_mut().unwrap();
        (windows.md5, windows.sha1, windows.imphash) = (None, None, imphash);
        exec(process)
    };
    let fires = |kind: &EventKind, condition: &str| {
        let sql = format!("SELECT process.hashes FROM exec WHERE {condition}");
        findings(&sql, kind.clone())
    };
    let part = format!("process.hashes ILIKE '%ImpHash={}%'", "cf".repeat(16));
    let known = with(Some([0xcf; 16]), None);
    let found = fires(&known, &part);
    assert_eq!(
        found[0].selected[0].1,
        format!("IMPHASH={}", "CF".repeat(16))
    );
    let other = with(Some([0xce; 16]), None);
    let only_another = with(None, Some([0xcf; 32]));
    for kind in [&other, &only_another] {
        assert!(fires(kind, &part).is_empty());
        assert_eq!(fires(kind, &format!("NOT {part}")).len(), 1);
    }
    let none = with(None, None);
    for condition in [part.clone(), format!("NOT {part}")] {
        assert!(fires(&none, &condition).is_empty(), "{condition}");
    }
    assert_eq!(fires(&none, &format!("({part}) IS UNKNOWN")).len(), 1);
    // Case matters to LIKE, and all digests together are in capital letters.
    let like = part.replace("ILIKE", "LIKE");
    assert!(fires(&known, &like).is_empty());
    assert_eq!(
        fires(
            &known,
            &like
                .to_uppercase()
                .replace("PROCESS.HASHES", "process.hashes")
        )
        .len(),
        1
    );
}

#[test]
fn the_environment_is_an_array_that_may_be_unknown_empty_or_cut() {
    let with = |block: Option<&'static [u8]>| {
        exec(Process {
            environment: block.map(|block| Argv::from_block(Bytes::from_static(block))),
            ..full()
        })
    };
    let preload = "any_like(process.environment, 'LD_PRELOAD=/tmp/%')";
    let none = format!("SELECT * FROM exec WHERE NOT {preload}");
    check(Stream::Exec, exec(full()), preload);
    check(
        Stream::Exec,
        exec(full()),
        "'A=' = ANY(process.environment)",
    );
    check(Stream::Exec, with(None), "process.environment IS NULL");
    check(
        Stream::Exec,
        with(Some(b"")),
        "cardinality(process.environment) = 0",
    );
    assert!(findings(&none, with(None)).is_empty());
    assert!(findings(&none, with(Some(b"")))[0].absent.is_empty());
    let cut = findings(&none, with(Some(b"A=1\0B=2")));
    assert_eq!(cut[0].absent, ["process.environment"]);
}

#[test]
fn an_exit_of_unknown_status_has_neither_code_nor_signal() {
    // It had code 0 and signal 0, and rules on failed programs stayed silent without a word.
    let unknown = || {
        EventKind::Exit(Exit {
            status: None,
            ..exit()
        })
    };
    for condition in [
        "process.exit_code = 0",
        "process.exit_signal = 0",
        "NOT process.core_dumped",
    ] {
        let sql = format!("SELECT * FROM exit WHERE {condition}");
        assert!(findings(&sql, unknown()).is_empty(), "{condition}");
    }
    let sql = "SELECT * FROM exit WHERE (process.exit_code = 0) IS NOT TRUE";
    assert_eq!(findings(sql, unknown())[0].absent, ["process.exit_code"]);
    check(
        Stream::Exit,
        EventKind::Exit(exit()),
        "process.run_time = 1500000000",
    );
}

#[test]
fn a_digest_says_whether_the_file_changed_and_a_missing_one_why() {
    let event = |outcome| EventKind::Hashed(Box::new(hashed(outcome)));
    check(
        Stream::Hashed,
        event(Ok(DIGEST)),
        &format!(
            "process.exe_changed AND NOT process.exe_touched AND process.sha256 = '{}' AND process.name = 'app' \
             AND process.hash_failure IS NULL AND process.file_owner = 5",
            "ab".repeat(32)
        ),
    );
    check(
        Stream::Hashed,
        event(Err(HashFailure::TooLarge)),
        "process.hash_failure = 'too_large' AND process.exe_changed IS NULL \
         AND process.exe_touched IS NULL AND process.sha256 IS NULL",
    );
    let not_hashed = Process {
        sha256: None,
        ..full()
    };
    check(
        Stream::Exec,
        exec(not_hashed),
        "process.exe_changed IS NULL",
    );
}

#[test]
fn findings_on_the_new_streams_name_the_process_and_its_program() {
    let found = &findings(
        "SELECT * FROM failed_exec WHERE process.errno = 13",
        EventKind::FailedExec(Box::new(failed())),
    )[0];
    assert_eq!(
        (found.key, found.exe.as_ref()),
        (Some(key(10)), &b"/usr/bin/dash"[..])
    );
    let selected = |finding: &Finding| {
        let names = finding.selected.iter().map(|(name, _)| name.clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(
        selected(found),
        [
            "process.pid",
            "process.executable",
            "process.filename",
            "process.uid",
            "parent.pid",
            "process.errno"
        ]
    );
    let found = &findings(
        "SELECT * FROM hashed",
        EventKind::Hashed(Box::new(hashed(Ok(DIGEST)))),
    )[0];
    assert_eq!(
        (found.key, found.exe.as_ref()),
        (Some(key(10)), &b"/opt/app"[..])
    );
    assert_eq!(
        selected(found),
        ["process.pid", "process.executable", "process.sha256"]
    );
}

#[test]
fn tests_of_rules_can_say_all_that_an_event_can() {
    let text = "
id: exec
title: R
level: low
sql: |
  SELECT * FROM exec
  WHERE process.interpreter = '/bin/sh' AND process.session_leader = 8
    AND process.environment[1] = 'A=1' AND process.has_file_caps AND process.is_secure_exec
    AND process.unit = 'a.service' AND process.container_id = 'c' AND process.pod_uid = 'p'
    AND process.container_runtime = 'docker' AND process.namespace_pid = 6
    AND process.mnt_ns = 1 AND process.pid_ns = 2 AND process.net_ns = 3 AND process.user_ns = 4
    AND process.uts_ns = 5 AND process.ipc_ns = 6 AND process.cgroup_ns = 7
    AND process.time_ns = 8 AND process.exe_changed AND process.file_inode = 11
    AND process.file_device = 12 AND process.file_nlink = 13 AND process.file_size = 14
    AND process.file_ctime = 15 AND process.integrity_level = 'Low' AND process.logon_id = 7
    AND process.pe.original_file_name = 'o' AND process.pe.description = 'd'
    AND process.pe.product = 'q' AND process.pe.company = 'co' AND process.pe.file_version = 'v'
    AND process.hashes LIKE 'SHA1=%,MD5=%,IMPHASH=%' AND parent.user = 'pu'
tests:
  fires:
    - {interpreter: /bin/sh, session_leader: 8, environment: [A=1], file_caps: true,
       secure_exec: true, unit: a.service, container_id: c, pod_uid: p,
       container_runtime: docker, namespace_pid: 6, mnt_ns: 1, pid_ns: 2, net_ns: 3, user_ns: 4,
       uts_ns: 5, ipc_ns: 6, cgroup_ns: 7, time_ns: 8, exe_changed: true, file_inode: 11,
       file_device: 12, file_nlink: 13, file_size: 14, file_ctime: 15, integrity_level: Low,
       logon_id: 7, original_file_name: o, description: d, product: q, company: co,
       file_version: v, md5: 00112233445566778899aabbccddeeff, parent: {user: pu},
       sha1: 00112233445566778899aabbccddeeff00112233,
       imphash: 00112233445566778899aabbccddeeff}
---
id: exit
title: R
level: low
sql: SELECT * FROM exit WHERE process.run_time = 5 AND process.exit_code IS NULL
tests:
  fires:
    - {run_time: 5, status_unknown: true}
  silent:
    - {run_time: 5}
---
id: failed
title: R
level: low
sql: |
  SELECT * FROM failed_exec
  WHERE process.errno = 13 AND process.filename = '/tmp/x' AND process.name = 'sh'
    AND process.euid = 4 AND process.egid = 4 AND parent.pid = 9
tests:
  fires:
    - {exe: /bin/sh, filename: /tmp/x, errno: 13, uid: 4, parent: {pid: 9}}
  silent:
    - {exe: /bin/sh, filename: /tmp/x, uid: 4, parent: {pid: 9}}
---
id: hashed
title: R
level: low
sql: |
  SELECT * FROM hashed
  WHERE process.exe_changed AND process.is_setuid OR process.hash_failure = 'gone'
tests:
  fires:
    - {exe: /bin/x, exe_changed: true, setuid: true}
    - {exe: /bin/x, hash_failure: gone}
  silent:
    - {exe: /bin/x, setuid: true}
    - {exe: /bin/x, hash_failure: queue_full}
";
    let rules = RuleSet::compile(&[Source { file: "r", text }])
        .unwrap_or_else(|errors| panic!("{}", errors[0]));
    let outcomes = run_tests(&rules);
    assert_eq!(outcomes.len(), 9);
    for outcome in outcomes {
        assert!(
            outcome.passed,
            "{}: {}",
            outcome.rule_id, outcome.explanation
        );
    }
}
