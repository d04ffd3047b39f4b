//! Loss is counted, never silent: the books balance after a flood.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use event::{BootTime, DropReason, Event, EventClass, EventKind, ProcessKey};
use rustix::process::Signal;
use vm::{Recording, Running, Workload, fewer, kind_name, place};

/// Of each, the storm makes as many.
const CLASSES: [EventClass; 3] = [EventClass::Fork, EventClass::Exec, EventClass::Exit];
const GENERATIONS: u32 = 9;
const AT_ONCE: u64 = 100;

#[test]
fn execs_of_a_flood_are_delivered_or_counted_as_dropped() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (recording, workload) = Recording::of(storm).unwrap();
    for class in CLASSES {
        check_class(&recording, &workload, class);
    }
    check_books(&recording);
}

#[test]
fn losses_of_a_reader_that_stands_still_are_counted_to_the_last() {
    if !place::kernel_scenarios_run() {
        return;
    }
    // The least that the option accepts, which such a storm fills many times.
    let (recording, workload) = Recording::with(&["--ring-size", "64K"], |daemon| {
        daemon.signal(Signal::STOP)?;
        let workload = storm()?;
        daemon.signal(Signal::CONT)?;
        // A gap shows with the next record of its cpu, once there is room for one: other storms may
        // take it.
        for _ in 0..3 {
            thread::sleep(vm::patience(Duration::from_millis(300)));
            Workload::run(["every-cpu"])?;
        }
        Ok(workload)
    })
    .unwrap();
    for class in CLASSES {
        let missing = check_class(&recording, &workload, class);
        assert!(missing > execs() / 3, "{class}: only {missing} are missing");
    }
    check_books(&recording);
    check_intervals(&recording);
}

/// They come in records of their own, which can be lost while their execs are not.
#[test]
fn environments_that_found_no_room_are_counted() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let options = ["--ring-size", "1", "--env", "NONE"];
    let (recording, _) = Recording::with(&options, |daemon| {
        daemon.signal(Signal::STOP)?;
        let workload = storm()?;
        daemon.signal(Signal::CONT)?;
        Ok(workload)
    })
    .unwrap();
    let without = |event: &&Event| match &event.kind {
        EventKind::Exec(exec) => exec.process.environment_truncated_bytes > 0,
        _ => false,
    };
    let told = recording.events.iter().filter(without).count() as u64;
    let parts = recording.stats["sensor"]["incomplete"].as_array();
    let counted = parts.into_iter().flatten().find_map(|entry| {
        let count = entry["count"].as_u64()?;
        (entry["part"] == "environment").then_some(count)
    });
    let counted = counted.unwrap_or(0);
    // Most of their execs found none either.
    assert!(
        counted > 0 && told <= counted,
        "{told}: {}",
        recording.stats
    );
}

/// Processes that fork without end but for a limit: what the kernel refused is no event.
#[test]
fn fork_bomb_at_its_limit_gives_a_fork_and_an_exit_for_each_process_that_there_was() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (recording, workload) = Recording::of(|| {
        let numbers = [GENERATIONS.to_string(), AT_ONCE.to_string()];
        Workload::run(
            ["bomb"]
                .into_iter()
                .chain(numbers.iter().map(String::as_str)),
        )
    })
    .unwrap();
    let born = workload.number("born");
    assert!(workload.number("refused") > 0, "the limit never struck");
    assert!(born > AT_ONCE / 2, "only {born} processes");
    let lives = recording.lives();
    let bomb = family(&recording, recording.life(workload.pid("child")).key());
    for key in &bomb {
        let kinds = lives[key].kinds();
        let lossless = recording.dropped(|_, _| true) == 0;
        assert!(kinds == "fork exit" || !lossless, "{:?}", lives[key]);
    }
    let missing = born.checked_sub(bomb.len() as u64);
    let missing = missing.expect("no process that there was not");
    let dropped = recording.dropped(|class, _| class == "fork");
    assert!(missing <= dropped, "{missing} of {born}, {dropped} dropped");
    check_books(&recording);
}

/// Processes that the kernel side has room for, and how many there are.
const ROOM: u64 = 1_024;
const CROWD: u64 = 1_300;

fn crowd() -> Result<Running> {
    Running::start(["crowd", &CROWD.to_string()], "ready")
}

/// It still tells who forked whom, and counts the ends of those that it could not keep.
#[test]
fn processes_beyond_the_room_for_them_are_told_of_and_their_missing_exits_are_counted() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let options = ["--max-processes", &ROOM.to_string()];
    let after = Recording::with(&options, |_| crowd()?.finish());
    check_room(after.unwrap(), EventClass::Fork);
    let before = crowd().unwrap();
    let before = Recording::with(&options, |_| before.finish());
    check_room(before.unwrap(), EventClass::Snapshot);
}

/// Each is told of by an event of this class.
fn check_room((recording, crowd): (Recording, Workload), class: EventClass) {
    let parent = recording.life(crowd.pid("self")).key();
    assert_eq!(delivered(&recording, parent, class), CROWD, "{class}");
    let missing = CROWD - delivered(&recording, parent, EventClass::Exit);
    let dropped = recording.dropped(|class, reason| (class, reason) == ("exit", "table_full"));
    assert!(missing >= CROWD - ROOM, "{class}: only {missing} missing");
    assert!(
        missing <= dropped,
        "{class}: {missing} of {dropped} dropped"
    );
    check_books(&recording);
}

/// A process and all its descendants.
fn family(recording: &Recording, first: ProcessKey) -> HashSet<ProcessKey> {
    let mut family = HashSet::from([first]);
    for event in &recording.events {
        if let EventKind::Fork(fork) = &event.kind
            && family.contains(&fork.parent)
        {
            assert!(family.insert(fork.child), "twice: {event:?}");
        }
    }
    family
}

/// Enough to fill a ring of 1 MiB twice.
fn execs() -> u64 {
    fewer(5_000).max(2_000).into()
}

fn storm() -> Result<Workload> {
    Workload::run(["storm", &execs().to_string(), "2"])
}

/// Each event of a class that the storm caused came once or is counted as dropped. Gives how many
/// did not come.
fn check_class(recording: &Recording, workload: &Workload, class: EventClass) -> u64 {
    let storm = recording.life(workload.pid("self")).key();
    let delivered = delivered(recording, storm, class);
    let dropped = recording.dropped(|name, _| name == class.name());
    let missing = execs().checked_sub(delivered);
    let missing = missing.expect("nothing is delivered twice");
    // Other programs on this machine may lose some as well.
    assert!(
        missing <= dropped,
        "{class}: {missing} of {dropped} dropped"
    );
    if place::alone() && class == EventClass::Exec {
        // Nothing else runs programs there, but the storm itself.
        assert!(
            dropped <= missing + 1,
            "{class}: {missing} of {dropped} dropped"
        );
    }
    missing
}

/// Events of a class about children of a process.
fn delivered(recording: &Recording, parent: ProcessKey, class: EventClass) -> u64 {
    let mut keys = HashSet::new();
    let of_class = |event: &&Event| event.class() == class;
    for event in recording.events.iter().filter(of_class) {
        let (key, of) = match &event.kind {
            EventKind::Fork(fork) => (fork.child, Some(fork.parent)),
            EventKind::Exec(exec) => (exec.process.key, exec.process.parent),
            EventKind::Exit(exit) => (exit.key, exit.parent),
            EventKind::Snapshot(row) => (row.process.key, row.process.parent),
            _ => unreachable!("{} is of no class of the storm", kind_name(event)),
        };
        if of == Some(parent) {
            assert!(keys.insert(key), "twice: {event:?}");
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
    let mut lost: HashMap<(EventClass, DropReason), u64> = HashMap::new();
    for event in &recording.events {
        if let EventKind::Lost(loss) = &event.kind {
            *lost.entry((loss.class, loss.reason)).or_default() += loss.count;
        }
    }
    for ((class, reason), count) in &lost {
        let counted = recording.dropped(|c, r| c == class.name() && r == reason.name());
        assert_eq!(*count, counted, "{class} {reason}: {}", recording.stats);
    }
    // Nor is anything counted of which the stream does not tell.
    assert_eq!(lost.values().sum::<u64>(), dropped, "{}", recording.stats);
    let ring = recording.dropped(|_, reason| reason == "ring_full");
    assert_eq!(counter("sequence_gaps"), ring, "{}", recording.stats);
}

/// Losses of a class and reason are told with intervals that follow each other.
fn check_intervals(recording: &Recording) {
    let mut told: HashMap<(EventClass, DropReason), BootTime> = HashMap::new();
    for event in &recording.events {
        let EventKind::Lost(lost) = &event.kind else {
            continue;
        };
        let before = told.insert((lost.class, lost.reason), lost.to);
        assert!(lost.from < lost.to, "{event:?}");
        assert!(before.is_none_or(|to| to <= lost.from), "{event:?}");
        assert!(lost.count > 0, "{event:?}");
    }
}
