use event::{Event, EventKind, Exec, ExitStatus, ProcessKey, Snapshot};

use super::Normalizer;
use crate::clock::{Clock, FileTime};
use crate::decode::tests::{Value, start_v0};
use crate::decode::{Record, Start, Stop, decode};
use crate::path::Devices;
use crate::processes::Row;

const BOOT: u64 = 1_000_000;

fn normalizer() -> Normalizer {
    let drives = vec![("C:".to_owned(), r"\Device\HarddiskVolume3".to_owned())];
    let devices = Devices::new(drives, r"C:\Windows".to_owned());
    Normalizer::new(Clock::new(FileTime(BOOT), "host"), devices)
}

fn start(pid: u32, ppid: u32, created: u64) -> Start {
    Start {
        time: FileTime(BOOT + created + 1),
        pid,
        created: FileTime(BOOT + created),
        ppid,
        session: Some(2),
        image: r"\Device\HarddiskVolume3\dir\program with spaces.exe".to_owned(),
        ..Start::default()
    }
}

fn stop(pid: u32, created: u64, exit_code: u32) -> Record {
    Record::Stop(Stop {
        time: FileTime(BOOT + 90_000),
        pid,
        created: FileTime(BOOT + created),
        exit_code,
        image: "program with s".to_owned(),
    })
}

fn row(pid: u32, ppid: u32, created: u64) -> Row {
    Row {
        pid,
        ppid,
        created: BOOT + created,
        session: 1,
        name: format!("p{pid}.exe"),
    }
}

fn feed(normalizer: &mut Normalizer, record: Record) -> Vec<Event> {
    let mut out = Vec::new();
    normalizer.record(record, &mut out);
    out
}

fn snapshot(normalizer: &mut Normalizer, rows: &[Row]) -> Vec<Snapshot> {
    let mut out = Vec::new();
    let image = |pid| (pid != 4).then(|| format!(r"C:\p{pid}.exe"));
    normalizer.snapshot(rows, FileTime(BOOT + 50_000), image, &mut out);
    out.into_iter()
        .map(|event| match event.kind {
            EventKind::Snapshot(row) => *row,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn key(pid: u32, created: u64) -> ProcessKey {
    let boot = Clock::new(FileTime(BOOT), "host").boot_id();
    ProcessKey {
        boot,
        pid,
        start: event::BootTime(created * 100),
    }
}

fn exec(events: &[Event]) -> &Exec {
    match &events.last().unwrap().kind {
        EventKind::Exec(exec) => exec,
        other => panic!("{other:?}"),
    }
}

#[test]
fn start_becomes_fork_and_exec() {
    let mut normalizer = normalizer();
    snapshot(&mut normalizer, &[row(10, 0, 100)]);
    let events = feed(&mut normalizer, Record::Start(start(20, 10, 500)));
    assert_eq!(events.len(), 2);
    let EventKind::Fork(fork) = &events[0].kind else {
        panic!("{events:?}")
    };
    assert_eq!((fork.child, fork.parent), (key(20, 500), key(10, 100)));
    let process = &exec(&events).process;
    assert_eq!(
        (process.key, process.parent),
        (key(20, 500), Some(key(10, 100)))
    );
    assert_eq!(process.exe.as_ref(), br"C:\dir\program with spaces.exe");
    assert_eq!(process.comm.as_ref(), b"program with sp");
    assert_eq!(process.session, Some(2));
    assert_eq!(events[0].header.time.0, 501 * 100);
    assert!(events[0].header.sequence < events[1].header.sequence);
}

#[test]
fn decoded_record_of_the_oldest_version_is_enough() {
    let map = start_v0().with("CreateTime", Value::U64(BOOT + 500));
    let record = decode(1, FileTime(BOOT + 501), &map).unwrap();
    let events = feed(&mut normalizer(), record);
    assert_eq!(exec(&events).process.key, key(4321, 500));
    assert_eq!(events.len(), 1, "no fork without a known parent");
}

#[test]
fn stop_becomes_exit_with_the_raw_code_and_what_was_known() {
    let mut normalizer = normalizer();
    snapshot(&mut normalizer, &[row(10, 0, 100)]);
    feed(&mut normalizer, Record::Start(start(20, 10, 500)));
    let events = feed(&mut normalizer, stop(20, 500, 0xc000_0005));
    let [
        Event {
            kind: EventKind::Exit(exit),
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((exit.key, exit.parent), (key(20, 500), Some(key(10, 100))));
    let (raw, code) = (0xc000_0005, 0xc000_0005);
    assert_eq!(
        exit.status,
        Some(ExitStatus {
            raw,
            code,
            signal: 0,
            core_dumped: false
        })
    );
    assert_eq!(exit.exe.as_ref(), br"C:\dir\program with spaces.exe");
    assert_eq!(normalizer.untracked_exits, 0);
}

#[test]
fn stop_of_an_unknown_process_is_an_untracked_exit() {
    let mut normalizer = normalizer();
    feed(&mut normalizer, Record::Start(start(20, 10, 500)));
    let events = feed(&mut normalizer, stop(20, 400, 1));
    assert_eq!(events[0].key(), Some(key(20, 400)));
    assert_eq!(normalizer.untracked_exits, 1);
    assert_eq!(feed(&mut normalizer, stop(20, 500, 1)).len(), 1);
    assert_eq!(
        normalizer.untracked_exits, 1,
        "the other one was still known"
    );
}

#[test]
fn process_of_the_snapshot_is_not_started_again() {
    let mut normalizer = normalizer();
    snapshot(&mut normalizer, &[row(20, 10, 500)]);
    assert_eq!(feed(&mut normalizer, Record::Start(start(20, 10, 500))), []);
    assert_eq!(
        feed(&mut normalizer, Record::Start(start(20, 10, 700))).len(),
        1
    );
}

#[test]
fn snapshot_links_parents_and_leaves_out_the_idle_process() {
    let mut normalizer = normalizer();
    let rows = [
        row(0, 0, 0),
        row(20, 10, 500),
        row(10, 4, 100),
        row(4, 0, 0),
    ];
    let rows = snapshot(&mut normalizer, &rows);
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.process.key, row.process.parent))
        .collect();
    assert_eq!(
        told,
        [
            (key(20, 500), Some(key(10, 100))),
            (key(10, 100), Some(key(4, 0))),
            (key(4, 0), None)
        ]
    );
    assert_eq!(rows[0].process.exe.as_ref(), br"C:\p20.exe");
    assert_eq!(rows[2].process.exe.as_ref(), b"");
    assert_eq!(rows[2].process.comm.as_ref(), b"p4.exe");
}

#[test]
fn process_that_took_over_the_parents_id_is_not_the_parent() {
    let mut normalizer = normalizer();
    snapshot(&mut normalizer, &[row(10, 0, 600)]);
    let events = feed(&mut normalizer, Record::Start(start(20, 10, 500)));
    assert_eq!(exec(&events).process.parent, None);
}

#[test]
fn sequence_numbers_decide_about_the_parent_where_there_are_any() {
    let mut normalizer = normalizer();
    let parent = Start {
        sequence: Some(7),
        ..start(10, 1, 100)
    };
    feed(&mut normalizer, Record::Start(parent));
    let child = Start {
        parent_sequence: Some(6),
        ..start(20, 10, 500)
    };
    let events = feed(&mut normalizer, Record::Start(child));
    assert_eq!(exec(&events).process.parent, None);
    let child = Start {
        parent_sequence: Some(7),
        ..start(30, 10, 50)
    };
    let events = feed(&mut normalizer, Record::Start(child));
    assert_eq!(exec(&events).process.parent, Some(key(10, 100)));
}

#[test]
fn names_are_cut_between_characters() {
    assert_eq!(
        super::comm("aaaaaaaaaaaaaaü.exe").as_ref(),
        b"aaaaaaaaaaaaaa"
    );
}
