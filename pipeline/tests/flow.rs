//! Events through the whole pipeline, into a real ledger and to an agent.

mod synthetic;

use std::time::{Duration, Instant};

use event::{Event, EventClass, EventKind, Finding, Leaf, Level, codec};
use ledger::{Ledger, Options, Reader, Retention};
use pipeline::{Config, Delivery, Error, Handle, Next, Pipeline, RotationPolicy, Subscription};
use synthetic::{Synthetic, Then};

const LONG: Duration = Duration::from_secs(60);

fn recording() -> Config {
    Config {
        live: false,
        ..Config::default()
    }
}

fn start(dir: &tempfile::TempDir, events: u64, then: Then, config: &Config) -> Handle {
    start_with(synthetic::ledger(dir.path()), events, then, config)
}

fn start_with(ledger: Ledger, events: u64, then: Then, config: &Config) -> Handle {
    let sensor = Synthetic::new((0..events).map(synthetic::event), 300, then);
    Pipeline::start(sensor, Vec::new(), ledger, config).unwrap()
}

/// Everything up to the end.
fn read_all(subscription: &mut Subscription) -> Vec<Delivery> {
    let mut all = Vec::new();
    loop {
        match subscription.next(LONG).unwrap() {
            Next::Leaves(leaves) => all.extend(leaves),
            Next::NotKept(..) | Next::Idle => {
                panic!("nothing came for {LONG:?} after {} leaves", all.len())
            }
            Next::End => return all,
        }
    }
}

fn read_some(subscription: &mut Subscription, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        match subscription.next(LONG).unwrap() {
            Next::Leaves(leaves) => all.extend(leaves),
            other => panic!("{other:?} after {} leaves", all.len()),
        }
    }
    all
}

#[track_caller]
fn assert_same_as_ledger(leaves: &[Delivery], first: u64, dir: &tempfile::TempDir) {
    let mut reader = Reader::open(dir.path()).unwrap();
    for (index, delivery) in (first..).zip(leaves) {
        assert_eq!(delivery.index, index);
        assert_eq!(
            reader.read(index).unwrap().as_deref(),
            Some(&delivery.leaf[..])
        );
    }
    assert_eq!(reader.read(first + leaves.len() as u64).unwrap(), None);
}

fn decoded(leaves: &[Delivery]) -> Vec<Event> {
    leaves
        .iter()
        .map(|delivery| codec::decode_event(delivery.leaf.clone()).unwrap())
        .collect()
}

#[test]
fn flood_balances_at_every_moment_and_loses_nothing() {
    const EVENTS: u64 = 200_000;
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let handle = start(&dir, EVENTS, Then::Finish, &recording());
    let mut subscription = handle.subscribe(0);
    let leaves = std::thread::scope(|scope| {
        let agent = scope.spawn(|| read_all(&mut subscription));
        while !agent.is_finished() {
            let stats = handle.stats();
            assert!(stats.balanced() && stats.ledger_agrees(), "{stats:?}");
            std::thread::yield_now();
        }
        agent.join().unwrap()
    });
    let finished = handle.finish();
    let rate = EVENTS as f64 / began.elapsed().as_secs_f64();
    eprintln!("{rate:.0} events/s");

    let stats = finished.stats;
    assert_eq!(finished.result.unwrap().size(), EVENTS);
    assert!(stats.balanced() && stats.sensor_agrees(), "{stats:?}");
    assert!(stats.ledger_agrees(), "{stats:?}");
    assert_eq!(
        (stats.overall().seen, stats.overall().delivered),
        (EVENTS, EVENTS)
    );
    assert_eq!(
        (stats.lost_events, stats.lost),
        (EVENTS / 1000, 3 * EVENTS / 1000)
    );
    assert_eq!(
        (stats.size, stats.durable_size, stats.late),
        (EVENTS, EVENTS, 0)
    );
    assert_eq!(stats.agent.live + stats.agent.from_ledger, EVENTS);

    assert_same_as_ledger(&leaves, 0, &dir);
    let events = decoded(&leaves);
    assert!(
        events
            .iter()
            .map(|event| event.header.sequence)
            .eq(0..EVENTS)
    );
}

#[test]
fn leaves_are_redacted_and_joined() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(&dir, 30, Then::Finish, &recording());
    let leaves = read_all(&mut handle.subscribe(0));
    assert!(handle.finish().stats.redactions == 10);
    for delivery in &leaves {
        assert!(!delivery.leaf.windows(7).any(|window| window == b"hunter2"));
    }
    for event in decoded(&leaves) {
        match event.kind {
            EventKind::Exec(exec) => assert_eq!(exec.process.redactions, 1),
            EventKind::Exit(exit) => assert_eq!(exit.exe, "/usr/bin/true"),
            _ => {}
        }
    }
}

#[test]
fn agent_that_starts_when_all_is_over_gets_everything_from_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        agent_bytes: 16 << 10,
        ..recording()
    };
    let handle = start(&dir, 20_000, Then::Finish, &config);
    let mut subscription = handle.subscribe(0);
    assert!(handle.is_drained(LONG));
    let leaves = read_all(&mut subscription);
    let stats = handle.finish().stats;
    assert_same_as_ledger(&leaves, 0, &dir);
    assert_eq!(leaves.len(), 20_000);
    assert!(stats.agent.from_ledger > 15_000, "{:?}", stats.agent);
}

#[test]
fn agent_that_fell_behind_is_woken_though_no_event_comes() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        agent_bytes: 16 << 10,
        ..Config::default()
    };
    let handle = start(&dir, 5_000, Then::Wait, &config);
    let mut subscription = handle.subscribe(0);
    while handle.stats().durable_size < 5_000 {
        std::thread::yield_now();
    }
    let leaves = read_some(&mut subscription, 5_000);
    assert_eq!(subscription.next(Duration::ZERO).unwrap(), Next::Idle);
    handle.drain();
    assert_eq!(subscription.next(LONG).unwrap(), Next::End);
    drop(handle.finish());
    assert_same_as_ledger(&leaves, 0, &dir);
}

#[test]
fn agent_that_alternates_between_fast_and_stuck_gets_each_leaf_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        agent_bytes: 64 << 10,
        ..recording()
    };
    let handle = start(&dir, 30_000, Then::Finish, &config);
    let mut subscription = handle.subscribe(0);
    let mut leaves = Vec::new();
    for target in [1_000, 9_000, 17_000, 25_000] {
        leaves.extend(read_some(&mut subscription, 500));
        while handle.stats().durable_size < target {
            std::thread::yield_now();
        }
    }
    leaves.extend(read_all(&mut subscription));
    drop(handle.finish());
    assert_same_as_ledger(&leaves, 0, &dir);
    assert_eq!(leaves.len(), 30_000);
}

#[test]
fn quiet_live_event_needs_no_other_to_be_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(&dir, 1, Then::Wait, &Config::default());
    let mut subscription = handle.subscribe(0);
    assert_eq!(read_some(&mut subscription, 1).len(), 1);
    drop(handle.finish());
}

#[test]
fn findings_become_leaves_and_urgent_ones_durable_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.commit.interval = LONG;
    config.commit.checkpoint_interval = LONG;
    let handle = start(&dir, 3, Then::Wait, &config);
    let mut subscription = handle.subscribe(0);
    let evidence = read_some(&mut subscription, 3);
    let finding = |level| Finding {
        rule_id: "r1".into(),
        level,
        leaf_index: evidence[1].index,
        ..Finding::default()
    };
    let findings = handle.findings();
    findings.submit(finding(Level::Low)).unwrap();
    assert_eq!(read_some(&mut subscription, 1)[0].index, 3);
    assert_eq!(handle.stats().durable_size, 0);
    assert_eq!(handle.stats().last_checkpoint, None);
    findings.submit(finding(Level::High)).unwrap();
    while handle.stats().durable_size < 5 {
        std::thread::yield_now();
    }
    handle.drain();
    assert_eq!(read_all(&mut subscription).len(), 1, "the second finding");
    findings.submit(finding(Level::Medium)).unwrap();
    let finished = handle.finish();
    assert!(matches!(
        findings.submit(finding(Level::Low)),
        Err(Error::Ended)
    ));

    assert_eq!(finished.result.unwrap().size(), 6);
    assert!(finished.stats.balanced(), "{:?}", finished.stats);
    assert_eq!(finished.stats.findings.delivered, 3);
    assert_eq!(finished.stats.last_checkpoint.unwrap().size, 6);
    let last = Reader::open(dir.path()).unwrap().read(5).unwrap().unwrap();
    let Leaf::Finding(last) = codec::decode(last.into()).unwrap() else {
        panic!("no finding")
    };
    assert_eq!((last.level, last.leaf_index), (Level::Medium, 1));
}

#[test]
fn finding_with_more_text_than_a_leaf_holds_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(&dir, 0, Then::Wait, &Config::default());
    let selected = (0..3_000)
        .map(|i| (format!("c{i}").into(), "ü".repeat(3_000)))
        .collect();
    handle
        .findings()
        .submit(Finding {
            selected,
            ..Finding::default()
        })
        .unwrap();
    let finished = handle.finish();
    assert_eq!(finished.result.unwrap().size(), 1);
    assert_eq!(finished.stats.cut, 1);
}

#[test]
fn stop_in_the_middle_keeps_what_happened_before() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(&dir, u64::MAX / 1_000_000, Then::Wait, &recording());
    let mut subscription = handle.subscribe(0);
    let mut leaves = read_some(&mut subscription, 3_000);
    handle.drain();
    leaves.extend(read_all(&mut subscription));
    let finished = handle.finish();
    assert_same_as_ledger(&leaves, 0, &dir);
    assert_eq!(finished.result.unwrap().size(), leaves.len() as u64);
    assert!(
        finished.stats.balanced() && finished.stats.sensor_agrees(),
        "{:?}",
        finished.stats
    );
}

#[test]
fn restart_resumes_where_the_agent_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(&dir, 1_000, Then::Finish, &recording());
    assert_eq!((handle.first_index(), handle.acknowledged()), (0, None));
    let mut subscription = handle.subscribe(0);
    let first = read_all(&mut subscription);
    subscription.acknowledge(400);
    drop(subscription);
    handle.finish().result.unwrap();

    let handle = start(&dir, 500, Then::Finish, &recording());
    assert_eq!(
        (handle.first_index(), handle.acknowledged()),
        (1_000, Some(400))
    );
    let again = read_all(&mut handle.subscribe(400));
    handle.finish().result.unwrap();
    assert_eq!(again.len(), 1_100);
    assert_eq!(again[..600], first[400..]);
    assert_same_as_ledger(&again, 400, &dir);
}

/// Leaves an earlier run's log behind, with or without a cursor.
fn earlier_run(dir: &tempfile::TempDir, leaves: u64, cursor: Option<u64>) {
    let mut ledger = synthetic::ledger(dir.path());
    for i in 0..leaves {
        ledger.append(&i.to_le_bytes()).unwrap();
    }
    if let Some(cursor) = cursor {
        ledger.set_cursor("agent", cursor);
    }
    ledger.checkpoint().unwrap();
}

fn wait_until_durable(handle: &Handle, size: u64) {
    while handle.stats().durable_size < size {
        std::thread::yield_now();
    }
}

/// The agent had leaves that a crash took from the log: it skipped as many of the new run's.
#[test]
fn cursor_beyond_the_log_hides_no_leaf_of_the_new_run() {
    let dir = tempfile::tempdir().unwrap();
    earlier_run(&dir, 100, Some(700));
    let handle = start(&dir, 1_000, Then::Wait, &Config::default());
    wait_until_durable(&handle, 1_000);
    assert_eq!(
        (handle.acknowledged(), handle.resume_from()),
        (Some(100), 100)
    );
    let mut subscription = handle.subscribe(handle.resume_from());
    let leaves = read_some(&mut subscription, 1_000);
    assert_eq!((leaves[0].index, leaves.len()), (100, 1_000));
    let stats = handle.finish().stats;
    assert!(stats.ledger_agrees(), "{stats:?}");
    // And not in the run after it either, though the log has grown past the old cursor.
    let handle = start(&dir, 0, Then::Finish, &recording());
    assert_eq!(handle.resume_from(), 100);
    drop(handle.finish());
}

/// Without a first checkpoint there was no cursor, and the next run skipped what was unprocessed.
#[test]
fn first_commit_stores_a_cursor_and_crash_before_the_first_checkpoint_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.commit.checkpoint_interval = LONG;
    let handle = start(&dir, 500, Then::Wait, &config);
    wait_until_durable(&handle, 500);
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    drop(handle.finish());

    let handle = start(&copy, 0, Then::Finish, &recording());
    assert_eq!(
        (handle.first_index(), handle.acknowledged()),
        (500, Some(0))
    );
    assert_eq!(
        read_all(&mut handle.subscribe(handle.resume_from())).len(),
        500
    );
    drop(handle.finish());
}

/// What a power loss would leave.
fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn log_without_a_cursor_is_taken_up_a_bounded_way_before_its_end() {
    let dir = tempfile::tempdir().unwrap();
    earlier_run(&dir, 70_000, None);
    for _ in 0..2 {
        let handle = start(&dir, 0, Then::Finish, &recording());
        assert_eq!(handle.resume_from(), 70_000 - 65_536);
        handle.finish().result.unwrap();
    }
}

#[test]
fn clean_end_keeps_the_last_acknowledgement_and_every_finding() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(&dir, 10, Then::Wait, &Config::default());
    let mut subscription = handle.subscribe(0);
    for _ in 0..20 {
        let next = read_some(&mut subscription, 1).last().unwrap().index + 1;
        handle.findings().submit(Finding::default()).unwrap();
        subscription.acknowledge(next);
    }
    let stats = handle.finish().stats;
    assert_eq!(stats.findings.delivered, 20);
    assert!(stats.ledger_agrees(), "{stats:?}");
    let handle = start(&dir, 0, Then::Finish, &recording());
    assert_eq!(handle.acknowledged(), Some(subscription.position()));
    drop(handle.finish());
}

#[test]
fn subscription_beyond_the_log_begins_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(&dir, 0, Then::Finish, &recording());
    let mut subscription = handle.subscribe(1_000_000);
    assert_eq!(subscription.position(), 0);
    assert_eq!(read_all(&mut subscription), []);
    drop(handle.finish());
}

#[test]
fn another_subscription_ends_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(&dir, 100, Then::Wait, &Config::default());
    let mut first = handle.subscribe(0);
    read_some(&mut first, 50);
    let mut second = handle.subscribe(0);
    while first.next(LONG).unwrap() != Next::End {}
    assert_eq!(read_some(&mut second, 100).len(), 100);
    drop(handle.finish());
}

#[test]
fn first_subscription_finds_live_what_came_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.commit.interval = LONG;
    let handle = start(&dir, 100, Then::Wait, &config);
    while handle.stats().size < 100 {
        std::thread::yield_now();
    }
    assert_eq!(read_some(&mut handle.subscribe(0), 100).len(), 100);
    let stats = handle.finish().stats;
    assert_eq!((stats.agent.live, stats.agent.from_ledger), (100, 0));
}

#[test]
fn broken_sensor_is_reported_after_what_it_gave() {
    let dir = tempfile::tempdir().unwrap();
    let handle = start(&dir, 700, Then::Break, &recording());
    let leaves = read_all(&mut handle.subscribe(0));
    assert_eq!(leaves.len(), 700);
    let finished = handle.finish();
    assert!(
        matches!(finished.result, Err(Error::Sensor(_))),
        "{:?}",
        finished.result
    );
    assert_eq!(finished.stats.durable_size, 700);
}

#[test]
fn snapshot_rows_come_first_and_find_parents_below_them() {
    let dir = tempfile::tempdir().unwrap();
    let row = |pid| {
        let mut event = synthetic::exec(synthetic::header(u64::MAX, 0, 0), pid, &["x"]);
        let EventKind::Exec(exec) = event.kind else {
            unreachable!()
        };
        event.kind = EventKind::Snapshot(Box::new(event::Snapshot {
            process: exec.process,
        }));
        event
    };
    let sensor = Synthetic::new((0..3).map(synthetic::event), 10, Then::Finish);
    let ledger = synthetic::ledger(dir.path());
    let handle = Pipeline::start(sensor, vec![row(7), row(1)], ledger, &recording()).unwrap();
    let events = decoded(&read_all(&mut handle.subscribe(0)));
    let finished = handle.finish();
    assert!(finished.stats.balanced(), "{:?}", finished.stats);
    assert_eq!(events.len(), 5);
    let of = |class| -> u64 {
        let classes = EventClass::ALL.iter().zip(finished.stats.classes);
        classes.filter(|(c, _)| **c == class).map(|(_, n)| n).sum()
    };
    assert_eq!(of(EventClass::Snapshot), 2);
    assert_eq!(of(EventClass::Exec), 1);
    let EventKind::Snapshot(first) = &events[0].kind else {
        panic!("{:?}", events[0])
    };
    assert_eq!(
        first.process.parent_process.as_ref().unwrap().exe,
        "/usr/bin/true"
    );
}

#[test]
fn checkpoints_come_by_count_and_again_without_news() {
    let dir = tempfile::tempdir().unwrap();
    let (copies, signed) = crossbeam_channel::bounded(8);
    let mut config = recording();
    config.copies = Some(copies);
    config.commit.checkpoint_interval = LONG;
    config.commit.checkpoint_leaves = 1;
    // Of whole seconds is what a checkpoint tells.
    config.commit.heartbeat = Duration::from_millis(1_100);
    let handle = start(&dir, 300, Then::Wait, &config);
    let next = || signed.recv_timeout(LONG).unwrap();
    let (mut first, mut second) = (next(), next());
    while first.size() != second.size() {
        (first, second) = (second, next());
    }
    assert!(first.size() > 0);
    assert_eq!(first.root(), second.root());
    assert!(first.time() < second.time());
    handle.drain();
    let last = handle.finish().result.unwrap();
    assert_eq!(last.size(), 300);
}

/// Leaves that the agent has acknowledged are dropped, others are not, and nobody waits.
#[test]
fn the_oldest_leaves_are_dropped_once_the_agent_has_read_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = recording();
    config.retention = Some(Retention {
        bytes: Some(20_000),
        seconds: None,
    });
    config.commit.checkpoint_leaves = 1;
    let options = Options {
        segment_bytes: 5_000,
        ..Options::new("test.example/log")
    };
    let (ledger, _) = Ledger::open(dir.path(), &options).unwrap();
    let handle = start_with(ledger, 5_000, Then::Wait, &config);
    let mut subscription = handle.subscribe(0);
    let mut leaves = 0;
    while leaves < 2_500 {
        match subscription.next(LONG).unwrap() {
            Next::Leaves(came) => leaves += came.len() as u64,
            other => panic!("{other:?}"),
        }
    }
    // The ledger outgrew what it may be, and nothing told so.
    let patience = Instant::now() + LONG;
    while handle.stats().held_up < 20_000 {
        assert!(Instant::now() < patience, "{:?}", handle.stats());
        std::thread::yield_now();
    }
    assert_eq!(handle.stats().kept_from, 0, "nothing was acknowledged");
    subscription.acknowledge(2_000);
    handle.drain();
    let rest = read_all(&mut subscription);
    assert!(
        (leaves..)
            .zip(&rest)
            .all(|(index, leaf)| leaf.index == index)
    );
    let acknowledged = subscription.position();
    subscription.acknowledge(acknowledged);
    let finished = handle.finish();
    let stats = &finished.stats;
    assert!(stats.balanced() && stats.ledger_agrees(), "{stats:?}");
    let report = ledger::verify(dir.path(), ledger::VerifyOptions::default()).unwrap();
    assert_eq!(report.kept_from(), stats.kept_from);
    assert!(stats.gaps == report.gaps.len() as u64 && stats.kept_from <= acknowledged);

    // The next run drops what is left to drop; whoever asks for what is gone is told so.
    let (ledger, _) = Ledger::open(dir.path(), &options).unwrap();
    let handle = start_with(ledger, 2_000, Then::Wait, &config);
    let patience = Instant::now() + LONG;
    while handle.stats().kept_from <= 2_000 {
        assert!(Instant::now() < patience, "{:?}", handle.stats());
        std::thread::yield_now();
    }
    let kept_from = handle.stats().kept_from;
    assert_eq!(handle.stats().drop_errors, 0);
    let mut subscription = handle.subscribe(7);
    match subscription.next(LONG).unwrap() {
        Next::NotKept(7, oldest) => assert!(oldest >= kept_from),
        other => panic!("{other:?}"),
    }
    handle.drain();
    let rest = read_all(&mut subscription);
    assert!(rest.first().is_some_and(|leaf| leaf.index >= kept_from));
    assert_eq!(handle.stats().agent.not_kept, rest[0].index - 7);
    let _ = handle.finish();
}

/// The keys of a running ledger hand over in a leaf that counts as every other.
#[test]
fn the_ledgers_keys_hand_over_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = recording();
    config.rotation = Some(RotationPolicy {
        first: Duration::ZERO,
        every: LONG,
    });
    let handle = start(&dir, 2_000, Then::Wait, &config);
    let mut subscription = handle.subscribe(0);
    while handle.stats().rotations == 0 {
        std::thread::yield_now();
    }
    // And whenever somebody asks.
    handle.rotate_keys().unwrap();
    while handle.stats().rotations == 1 {
        std::thread::yield_now();
    }
    handle.drain();
    let leaves = read_all(&mut subscription);
    assert!((0..).zip(&leaves).all(|(index, leaf)| leaf.index == index));
    let finished = handle.finish();
    assert_eq!(finished.result.unwrap().size(), 2_002);
    let stats = &finished.stats;
    assert!(stats.balanced() && stats.ledger_agrees(), "{stats:?}");
    let report = ledger::verify(dir.path(), ledger::VerifyOptions::default()).unwrap();
    assert_eq!((report.entries, report.keys.epoch()), (2_002, 2));
    let mut own = Vec::new();
    for leaf in Reader::open(dir.path()).unwrap().range(0) {
        let (index, leaf) = leaf.unwrap();
        if matches!(codec::decode(leaf.into()), Ok(Leaf::Ledger(_))) {
            own.push(index);
        }
    }
    let told = leaves
        .iter()
        .filter(|leaf| leaf.leaf.starts_with(codec::LEDGERS_OWN));
    assert_eq!(told.map(|leaf| leaf.index).collect::<Vec<_>>(), own);
    assert_eq!(own.len(), 2);
}
