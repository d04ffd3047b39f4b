//! Loss is counted, never silent: the books balance after a flood.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use event::{Event, EventKind, ProcessKey};
use rustix::process::Signal;
use vm::{Recording, Workload, place};

const EXECS: u64 = 5_000;

#[test]
fn execs_of_a_flood_are_delivered_or_counted_as_dropped() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (recording, workload) = Recording::of(storm).unwrap();
    check_execs(&recording, &workload);
    check_books(&recording);
}

#[test]
fn losses_of_a_reader_that_stands_still_are_counted_to_the_last() {
    if !place::kernel_scenarios_run() {
        return;
    }
    // The least that the option accepts, which such a storm fills.
    let (recording, workload) = Recording::with(&["--ring-size", "1"], |daemon| {
        daemon.signal(Signal::STOP)?;
        let workload = storm()?;
        daemon.signal(Signal::CONT)?;
        // A gap shows with the next record of its cpu, once there is room for one.
        thread::sleep(vm::patience(Duration::from_millis(300)));
        Workload::run(["every-cpu"])?;
        Ok(workload)
    })
    .unwrap();
    assert!(
        recording.dropped(|_, reason| reason == "ring_full") > 0,
        "{}",
        recording.stats
    );
    check_execs(&recording, &workload);
    check_books(&recording);
}

fn storm() -> Result<Workload> {
    Workload::run(["storm", &EXECS.to_string(), "2"])
}

/// Each exec of the storm came once or is counted as dropped.
fn check_execs(recording: &Recording, workload: &Workload) {
    let storm = recording.about(workload.pid("self"));
    let storm = storm
        .first()
        .expect("the storm itself is seen")
        .key()
        .expect("it has a key");
    let delivered = execs_of_children(recording, storm);
    let dropped = recording.dropped(|class, _| class == "exec");
    // Other programs on this machine may lose execs as well.
    let missing = EXECS
        .checked_sub(delivered)
        .expect("no exec is delivered twice");
    assert!(
        missing <= dropped,
        "{delivered} of {EXECS} delivered, {dropped} dropped"
    );
}

fn execs_of_children(recording: &Recording, parent: ProcessKey) -> u64 {
    let mut keys = HashSet::new();
    for event in &recording.events {
        let EventKind::Exec(exec) = &event.kind else {
            continue;
        };
        if exec.process.parent == Some(parent) {
            assert!(keys.insert(exec.process.key), "twice: {event:?}");
        }
    }
    keys.len() as u64
}

fn check_books(recording: &Recording) {
    let counter = |name: &str| recording.counter(&format!("/sensor/{name}"));
    let dropped = recording.dropped(|_, _| true);
    assert_eq!(
        counter("seen"),
        counter("delivered") + dropped + counter("held"),
        "{}",
        recording.stats
    );
    let lost: u64 = recording.events.iter().map(lost_in).sum();
    assert_eq!(
        lost, dropped,
        "the stream tells of other losses than the counters"
    );
    let ring = recording.dropped(|_, reason| reason == "ring_full");
    assert_eq!(counter("sequence_gaps"), ring, "{}", recording.stats);
}

fn lost_in(event: &Event) -> u64 {
    match &event.kind {
        EventKind::Lost(lost) => lost.count,
        _ => 0,
    }
}
