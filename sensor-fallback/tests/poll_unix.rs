//! The polling sensor on real processes of a Unix machine.
#![cfg(unix)]

use std::process::{self, Command};
use std::time::{Duration, Instant};

use event::sensor::BatchEnd;
use event::{Event, EventClass, EventKind, Sensor};
use sensor_fallback::PollSensor;

const INTERVAL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads batches until one has what is looked for, and gives all events up to then.
fn until(sensor: &mut PollSensor, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let deadline = Instant::now() + PATIENCE;
    let mut events = Vec::new();
    while !events.iter().any(&wanted) {
        assert!(
            Instant::now() < deadline,
            "not seen within {PATIENCE:?}: {events:?}"
        );
        assert_eq!(
            sensor.next_batch(&mut events, INTERVAL).unwrap(),
            BatchEnd::Open
        );
    }
    events
}

fn is(class: EventClass, pid: u32) -> impl Fn(&Event) -> bool {
    move |event| event.class() == class && event.key().is_some_and(|key| key.pid == pid)
}

#[test]
fn spawned_and_killed_process_is_seen_with_exact_arguments() {
    let mut sensor = PollSensor::open(INTERVAL).unwrap();
    let mut rows = Vec::new();
    sensor.snapshot(&mut rows).unwrap();
    let me = rows
        .iter()
        .find(|row| row.key().unwrap().pid == process::id())
        .unwrap()
        .key();

    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = child.id();
    // Between fork and exec the child still has this program's arguments.
    let runs_sleep = |event: &Event| match &event.kind {
        EventKind::Exec(exec) => {
            exec.process.key.pid == pid && exec.process.argv.iter().next() == Some(b"sleep")
        }
        _ => false,
    };
    let events = until(&mut sensor, runs_sleep);
    let fork = events
        .iter()
        .find(|event| is(EventClass::Fork, pid)(event))
        .unwrap();
    let EventKind::Fork(fork) = &fork.kind else {
        unreachable!()
    };
    assert_eq!(Some(fork.parent), me);
    let EventKind::Exec(exec) = &events.iter().rfind(|event| runs_sleep(event)).unwrap().kind
    else {
        unreachable!()
    };
    let argv: Vec<_> = exec.process.argv.iter().collect();
    assert_eq!(argv, [&b"sleep"[..], b"1000"]);
    assert_eq!(exec.process.parent, me);
    assert_eq!(exec.process.key, fork.child);
    assert_eq!(exec.process.comm.as_ref(), b"sleep");

    child.kill().unwrap();
    // Not reaped yet: a process has ended when its last thread did.
    let events = until(&mut sensor, is(EventClass::Exit, pid));
    let exits: Vec<_> = events
        .iter()
        .filter(|event| is(EventClass::Exit, pid)(event))
        .collect();
    assert_eq!(exits.len(), 1);
    assert_eq!(exits[0].key(), Some(fork.child));
    assert!(exits[0].header.time >= fork.child.start);
    child.wait().unwrap();

    let stats = sensor.stats();
    assert_eq!(
        stats.seen,
        stats.delivered + stats.dropped_total() + stats.held
    );
}

#[cfg(target_os = "linux")]
#[test]
fn arguments_that_are_empty_spaced_or_not_utf_8_survive() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let mut sensor = PollSensor::open(INTERVAL).unwrap();
    let script = OsStr::new("read line");
    let arguments = [
        OsStr::new("-c"),
        script,
        OsStr::new(""),
        OsStr::from_bytes(b"\xff a"),
    ];
    let mut child = Command::new("sh")
        .args(arguments)
        .stdin(process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let expected: &[&[u8]] = &[b"sh", b"-c", b"read line", b"", b"\xff a"];
    let events = until(&mut sensor, |event| match &event.kind {
        EventKind::Exec(exec) => {
            exec.process.key.pid == pid && exec.process.argv.iter().eq(expected.iter().copied())
        }
        _ => false,
    });
    assert!(!events.is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn exec_in_a_known_process_is_seen() {
    use std::io::Write;

    let mut child = Command::new("sh")
        .args(["-c", "read line; exec sleep 1000"])
        .stdin(process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let mut sensor = PollSensor::open(INTERVAL).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let events = until(&mut sensor, |event| match &event.kind {
        EventKind::Exec(exec) => {
            exec.process.key.pid == pid && exec.process.argv.iter().eq([&b"sleep"[..], b"1000"])
        }
        _ => false,
    });
    assert!(
        !events.iter().any(is(EventClass::Fork, pid)),
        "it was there before"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}
