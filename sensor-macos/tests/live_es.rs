//! The Endpoint Security sensor on a real macOS. By hand, in a signed and approved test program,
//! as root: `cargo test -p sensor-macos -- --ignored live_es`.
#![cfg(target_os = "macos")]

use std::process::{self, Command};
use std::time::{Duration, Instant};

use event::{Event, EventClass, EventKind, Sensor, SensorError};
use sensor_macos::EsSensor;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
#[ignore = "needs macOS, root, the Endpoint Security entitlement and Full Disk Access"]
fn live_es() {
    let mut sensor = EsSensor::open().map_err(SensorError::from).unwrap();
    let mut rows = Vec::new();
    sensor.snapshot(&mut rows).unwrap();
    let me = rows
        .iter()
        .filter_map(Event::key)
        .find(|key| key.pid == process::id())
        .unwrap();

    let mut child = Command::new("/bin/sh")
        .args(["-c", "exit 7", ""])
        .spawn()
        .unwrap();
    let pid = child.id();
    assert_eq!(child.wait().unwrap().code(), Some(7));

    let of_child = |event: &Event| event.key().is_some_and(|key| key.pid == pid);
    let deadline = Instant::now() + PATIENCE;
    let mut events = Vec::new();
    while !events
        .iter()
        .any(|e| of_child(e) && e.class() == EventClass::Exit)
    {
        assert!(
            Instant::now() < deadline,
            "no exit within {PATIENCE:?}: {events:?}"
        );
        sensor
            .next_batch(&mut events, Duration::from_millis(100))
            .unwrap();
    }
    events.retain(of_child);
    let EventKind::Fork(fork) = &events[0].kind else {
        panic!("{events:?}")
    };
    assert_eq!(fork.parent, me);
    // /bin/sh is a small program that calls exec once more.
    let EventKind::Exec(exec) = &events[1].kind else {
        panic!("{events:?}")
    };
    assert_eq!(exec.process.key, fork.child);
    assert!(
        exec.process
            .argv
            .iter()
            .skip(1)
            .eq([&b"-c"[..], b"exit 7", b""]),
        "{exec:?}"
    );
    let exits: Vec<_> = events
        .iter()
        .filter(|e| e.class() == EventClass::Exit)
        .collect();
    let [
        Event {
            kind: EventKind::Exit(exit),
            ..
        },
    ] = exits[..]
    else {
        panic!("{exits:?}")
    };
    let code = exit.status.map(|status| status.code);
    assert_eq!((exit.key, code), (fork.child, Some(7)));

    let stats = sensor.stats();
    assert_eq!(
        stats.seen,
        stats.delivered + stats.dropped_total() + stats.held
    );
}

#[test]
fn refusal_names_the_call_and_what_to_do() {
    match EsSensor::open().map_err(SensorError::from) {
        Ok(_) => eprintln!("skipped: Endpoint Security is allowed here"),
        Err(error) => {
            assert!(
                error.message.starts_with("es_new_client refused: "),
                "{error}"
            );
            assert!(error.advice.is_some(), "{error}");
        }
    }
}
