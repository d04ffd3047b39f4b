//! The ETW sensor on a real Windows. By hand, as Administrator:
//! `cargo test -p sensor-windows -- --ignored live_etw`.
#![cfg(windows)]

use std::process::{self, Command};
use std::time::{Duration, Instant};

use event::{Event, EventClass, EventKind, Sensor, SensorError};
use sensor_windows::EtwSensor;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
#[ignore = "needs a real Windows and Administrator"]
fn live_etw() {
    let mut sensor = EtwSensor::open().map_err(SensorError::from).unwrap();
    let mut rows = Vec::new();
    sensor.snapshot(&mut rows).unwrap();
    let me = rows
        .iter()
        .filter_map(Event::key)
        .find(|key| key.pid == process::id())
        .unwrap();

    let mut child = Command::new("cmd.exe")
        .args(["/c", "exit 7"])
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
    let [fork, exec, exit] = &events[..] else {
        panic!("{events:?}")
    };
    let EventKind::Fork(fork) = &fork.kind else {
        panic!("{fork:?}")
    };
    assert_eq!(fork.parent, me);
    let EventKind::Exec(exec) = &exec.kind else {
        panic!("{exec:?}")
    };
    let exe = String::from_utf8(exec.process.exe.to_vec())
        .unwrap()
        .to_lowercase();
    assert!(exe.ends_with(r":\windows\system32\cmd.exe"), "{exe}");
    let EventKind::Exit(exit) = &exit.kind else {
        panic!("{exit:?}")
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
fn refusal_names_the_calls_the_code_and_what_to_do() {
    match EtwSensor::open().map_err(SensorError::from) {
        Ok(_) => eprintln!("skipped: ETW is allowed here"),
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.contains("OpenTraceW") && text.contains("code 0x5"),
                "{text}"
            );
            assert!(text.contains("run as Administrator"), "{text}");
        }
    }
}
