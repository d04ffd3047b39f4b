//! The polling sensor, wherever it runs. What needs Unix commands is in `poll_unix.rs`.

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use event::{EventKind, Sensor};
use sensor_fallback::PollSensor;

const INTERVAL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn own_process_is_in_the_snapshot_and_not_in_the_batches() {
    let mut sensor = PollSensor::open(INTERVAL).unwrap();
    let mut rows = Vec::new();
    sensor.snapshot(&mut rows).unwrap();
    let mine: Vec<_> = rows
        .iter()
        .filter(|row| row.key().unwrap().pid == process::id())
        .collect();
    assert_eq!(mine.len(), 1);
    let EventKind::Snapshot(row) = &mine[0].kind else {
        panic!("{mine:?}")
    };
    let exe = std::env::current_exe().unwrap();
    assert_eq!(row.process.exe.as_ref(), exe.as_os_str().as_encoded_bytes());
    let mut events = Vec::new();
    sensor.next_batch(&mut events, 3 * INTERVAL).unwrap();
    assert!(!events.iter().any(|event| event.key() == mine[0].key()));
}

#[test]
fn waker_ends_a_wait_at_once_and_outlives_the_sensor() {
    let mut sensor = PollSensor::open(Duration::from_secs(3600)).unwrap();
    let waker = sensor.waker();
    let begin = Instant::now();
    let other = thread::spawn({
        let waker = waker.clone();
        move || waker()
    });
    let mut events = Vec::new();
    sensor.next_batch(&mut events, Duration::MAX).unwrap();
    assert!(begin.elapsed() < PATIENCE && events.is_empty());
    other.join().unwrap();
    drop(sensor);
    waker();
}

#[test]
fn a_wait_is_over_when_its_timeout_is() {
    let mut sensor = PollSensor::open(Duration::from_secs(3600)).unwrap();
    let begin = Instant::now();
    sensor.next_batch(&mut Vec::new(), INTERVAL).unwrap();
    assert!(begin.elapsed() >= INTERVAL && begin.elapsed() < PATIENCE);
}

#[test]
fn polling_says_what_it_cannot_see() {
    let sensor = PollSensor::open(INTERVAL).unwrap();
    let capabilities = sensor.capabilities();
    assert_eq!(capabilities.sensor, "poll");
    assert!(!capabilities.event_driven && !capabilities.exit_status);
    assert!(
        capabilities
            .absent
            .iter()
            .any(|(field, why)| *field == "filename" && !why.is_empty())
    );
}
