//! Loss is counted, never silent: the books balance after a flood.

use std::collections::HashSet;

use event::{EventKind, ProcessKey};
use vm::{Recording, Workload, place};

const EXECS: u64 = 5_000;

#[test]
fn execs_of_a_flood_are_delivered_or_counted_as_dropped() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (recording, workload) =
        Recording::of(|| Workload::run(["storm", &EXECS.to_string(), "2"])).unwrap();
    let storm = recording.about(workload.pid("self"));
    let storm = storm
        .first()
        .expect("the storm itself is seen")
        .key()
        .expect("it has a key");
    let delivered = execs_of_children(&recording, storm);
    let dropped = recording.dropped(|class, _| class == "exec");

    // Other programs on this machine may lose execs as well.
    let missing = EXECS
        .checked_sub(delivered)
        .expect("no exec is delivered twice");
    assert!(
        missing <= dropped,
        "{delivered} of {EXECS} delivered, {dropped} dropped"
    );
    check_books(&recording);
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
    let ring = recording.dropped(|_, reason| reason == "ring_full");
    assert_eq!(counter("sequence_gaps"), ring, "{}", recording.stats);
}
