use std::time::Duration;

use event::sensor::BatchEnd;
use event::wire::RecordingWriter;
use event::{
    BootTime, DropReason, Event, EventClass, EventKind, Exit, Fork, Header, Lost, Sensor, Snapshot,
};

use super::{BATCH, ReplaySensor};

fn event(time: u64, kind: EventKind) -> Event {
    Event {
        header: Header {
            time: BootTime(time),
            ..Header::default()
        },
        kind,
    }
}

fn snapshot(time: u64) -> Event {
    event(time, EventKind::Snapshot(Box::<Snapshot>::default()))
}

fn fork(time: u64) -> Event {
    event(time, EventKind::Fork(Fork::default()))
}

fn lost(time: u64) -> Event {
    let (class, reason) = (EventClass::Exec, DropReason::RingFull);
    let (from, to) = (BootTime(1), BootTime(2));
    event(
        time,
        EventKind::Lost(Lost {
            class,
            reason,
            count: 5,
            from,
            to,
        }),
    )
}

fn recording(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = RecordingWriter::new(&mut bytes).unwrap();
    events.iter().for_each(|event| writer.write(event).unwrap());
    writer.flush().unwrap();
    bytes
}

/// Snapshot, batches, and how it ended.
fn replay(bytes: &[u8]) -> (Vec<Event>, Vec<Event>, Result<(), String>) {
    let mut sensor = ReplaySensor::open(bytes).unwrap();
    let (mut rows, mut events) = (Vec::new(), Vec::new());
    sensor.snapshot(&mut rows).unwrap();
    let end = loop {
        let stats = sensor.stats();
        assert_eq!(
            stats.seen,
            stats.delivered + stats.dropped_total() + stats.held
        );
        match sensor.next_batch(&mut events, Duration::ZERO) {
            Ok(BatchEnd::Open) => {}
            Ok(BatchEnd::Finished) => break Ok(()),
            Err(error) => break Err(error.to_string()),
        }
    };
    let delivered = rows
        .iter()
        .chain(&events)
        .filter(|event| event.class() != EventClass::Lost);
    assert_eq!(sensor.stats().delivered, delivered.count() as u64);
    assert_eq!(sensor.stats().held, 0);
    assert_eq!(
        sensor.next_batch(&mut events, Duration::ZERO).unwrap(),
        BatchEnd::Finished
    );
    (rows, events, end)
}

#[test]
fn recording_comes_back_as_snapshot_events_and_end() {
    let events = [
        snapshot(1),
        snapshot(2),
        fork(3),
        lost(4),
        snapshot(5),
        event(6, EventKind::Exit(Exit::default())),
    ];
    assert_eq!(
        replay(&recording(&events)),
        (events[..2].to_vec(), events[2..].to_vec(), Ok(()))
    );
}

#[test]
fn recordings_longer_than_a_batch_are_complete() {
    let events: Vec<_> = (0..2 * BATCH as u64 + 1).map(fork).collect();
    assert_eq!(replay(&recording(&events)), (Vec::new(), events, Ok(())));
    assert_eq!(replay(&recording(&[])), (Vec::new(), Vec::new(), Ok(())));
}

#[test]
fn cut_recording_gives_whole_events_and_then_place_and_cause() {
    let events = [snapshot(1), fork(2), fork(3)];
    let bytes = recording(&events);
    let last = recording(&events[..2]).len();
    let (rows, whole, end) = replay(&bytes[..bytes.len() - 1]);
    assert_eq!((rows, whole), (events[..1].to_vec(), events[1..2].to_vec()));
    let message = end.unwrap_err();
    assert!(
        message.contains(&format!("damaged at byte {last}, after 2 whole events: ")),
        "{message}"
    );
}

#[test]
fn damage_in_the_snapshot_is_reported_after_its_whole_rows() {
    let events = [snapshot(1), snapshot(2)];
    let mut bytes = recording(&events);
    *bytes.last_mut().unwrap() ^= 1;
    let (rows, rest, end) = replay(&bytes);
    assert_eq!((rows, rest), (events[..1].to_vec(), Vec::new()));
    assert!(end.unwrap_err().contains("after 1 whole events"));
}

#[test]
fn what_is_no_recording_is_refused_at_once() {
    assert!(ReplaySensor::open(&b"[{\"not\": \"ours\"}]"[..]).is_err());
    assert!(ReplaySensor::open(&b""[..]).is_err());
}
