//! One fault at each call that a short life of a log makes, in turn.

use std::path::{Path, PathBuf};

use super::disk::{Fault, Simulation, make, temporary_dir};
use crate::disk::Change;
use crate::layout;
use crate::remains::BLOCK;
use crate::rotation::OWN_LEAF;
use crate::{
    Error, IndexStatus, Ledger, Options, Report, Retention, VerifyOptions, prove_telling, verify,
};

/// What must outlast everything from here on.
#[derive(Debug, Default)]
struct Promised {
    leaves: u64,
    /// The newest checkpoint.
    note: Option<String>,
}

impl Promised {
    fn by(ledger: &Ledger) -> Promised {
        Promised {
            leaves: ledger.durable_size(),
            note: ledger.last_checkpoint().map(|last| last.note().to_owned()),
        }
    }
}

fn options() -> Options {
    Options {
        segment_bytes: 2_500,
        ..Options::new("daemoneye/crash")
    }
}

fn leaf(index: u64) -> Vec<u8> {
    let repeated = if index < 30 { 60 } else { 1 };
    format!("leaf {index} ").repeat(repeated).into_bytes()
}

/// All but the newest segment.
const NOTHING: Retention = Retention {
    bytes: Some(0),
    seconds: None,
};

type Life = fn(&Path, &mut Promised) -> Result<(), Error>;

/// Leaves of more than a page, so that a commit reaches the disk in parts.
fn life(dir: &Path, promised: &mut Promised) -> Result<(), Error> {
    let (mut ledger, _) = Ledger::open(dir, &options())?;
    *promised = Promised::by(&ledger);
    for (leaves, is_sealed) in [(2, false), (9, true), (1, false), (5, true), (1, false)] {
        for _ in 0..leaves {
            ledger.append(&leaf(ledger.size()))?;
        }
        match is_sealed {
            false => drop(ledger.commit()?),
            true => drop(ledger.checkpoint()?),
        }
        *promised = Promised::by(&ledger);
        if leaves == 9 {
            ledger.rotate()?;
            *promised = Promised::by(&ledger);
        }
        if leaves == 5 {
            ledger.retain(&NOTHING, u64::MAX)?;
            *promised = Promised::by(&ledger);
        }
    }
    ledger.retain(&NOTHING, u64::MAX)?;
    *promised = Promised::by(&ledger);
    Ok(())
}

/// Leaves enough for a block of the tree beside the log.
fn life_of_a_tree(dir: &Path, promised: &mut Promised) -> Result<(), Error> {
    let (mut ledger, _) = Ledger::open(dir, &options())?;
    for size in [BLOCK - 1, BLOCK + 1] {
        while ledger.size() < size {
            ledger.append(&leaf(ledger.size()))?;
        }
        ledger.checkpoint()?;
        *promised = Promised::by(&ledger);
    }
    Ok(())
}

/// The newest segment was begun by a process that was killed, and all before it are dropped.
fn life_of_an_empty_segment(dir: &Path, promised: &mut Promised) -> Result<(), Error> {
    let (mut ledger, _) = Ledger::open(dir, &options())?;
    for _ in 0..9 {
        ledger.append(&leaf(ledger.size()))?;
    }
    ledger.checkpoint()?;
    *promised = Promised::by(&ledger);
    ledger.append(&leaf(ledger.size()))?;
    drop(ledger);
    let (mut ledger, _) = Ledger::open(dir, &options())?;
    assert_eq!(crate::disk::segments(dir)?, [0, 9]);
    ledger.retain(&NOTHING, u64::MAX)?;
    assert_eq!(ledger.kept_from(), 9);
    *promised = Promised::by(&ledger);
    Ok(())
}

/// Gaps in a row, rotations at both ends of one and at the beginning of a segment, starts without an
/// append, and a list that is thinned in between.
fn life_of_gaps(dir: &Path, promised: &mut Promised) -> Result<(), Error> {
    let (mut ledger, _) = Ledger::open(dir, &options())?;
    *promised = Promised::by(&ledger);
    for round in 0..3 {
        for _ in 0..9 {
            ledger.append(&leaf(ledger.size()))?;
        }
        ledger.checkpoint()?;
        *promised = Promised::by(&ledger);
        if round > 0 {
            ledger.rotate()?;
            *promised = Promised::by(&ledger);
        }
        ledger.set_cursor("agent", ledger.size());
        ledger.thin_at = 0;
        drop(ledger);
        (ledger, _) = Ledger::open(dir, &options())?;
        ledger.retain(&NOTHING, u64::MAX)?;
        *promised = Promised::by(&ledger);
        drop(ledger);
        (ledger, _) = Ledger::open(dir, &options())?;
        ledger.rotate()?;
        *promised = Promised::by(&ledger);
        ledger.retain(&NOTHING, u64::MAX)?;
        *promised = Promised::by(&ledger);
    }
    Ok(())
}

fn verified(dir: &Path, promised: &Promised) -> Report {
    let options = VerifyOptions {
        checkpoint: promised.note.clone(),
        ..VerifyOptions::default()
    };
    let report = verify(dir, options).unwrap();
    assert!(report.entries >= promised.leaves, "{report:?}");
    assert!(!matches!(report.index, IndexStatus::Bad(_)), "{report:?}");
    report
}

/// Opens on a disk that is sound again, and goes on.
fn reopen(dir: &Path, promised: &mut Promised) {
    drop(reopened(dir, promised));
}

fn reopened(dir: &Path, promised: &mut Promised) -> Ledger {
    let (ledger, recovery) = Ledger::open(dir, &options()).unwrap();
    assert!(recovery.entries >= promised.leaves, "{recovery:?}");
    let mut reader = ledger.reader();
    let read = reader.range(ledger.kept_from()).map(Result::unwrap);
    let is_right =
        |(index, read): &(u64, Vec<u8>)| *read == leaf(*index) || read.starts_with(OWN_LEAF);
    assert_eq!(
        read.filter(is_right).count() as u64,
        ledger.size() - ledger.kept_from()
    );
    *promised = Promised::by(&ledger);
    ledger
}

/// What happens after the fault.
#[derive(Debug, Clone, Copy)]
enum After {
    /// The machine stops at once.
    PowerLoss,
    /// The next process opens the log, and then the machine stops.
    OpenThenPowerLoss,
    /// That one also signs for what it found.
    SealThenPowerLoss,
    /// The next process finds no more room than the one before, and then there is some.
    OpenWithoutRoom,
    /// The next process is killed too, before call so and so; the one after it opens the log, and
    /// then the machine stops.
    DeathInOpen(u64),
}

fn check(fault: Fault, after: After, (number, seed): (u64, u64), life: Life) -> bool {
    let told = Told(fault, after, number, seed);
    let root = temporary_dir();
    let dir: PathBuf = root.path().join("state/ledger");
    let simulation = Simulation::start(root.path(), seed);
    simulation.plan(number, fault);
    let mut promised = Promised::default();
    let lived = life(&dir, &mut promised);
    let struck = simulation.has_failed();
    assert!(lived.is_ok() || struck, "{lived:?}");
    simulation.start_again();
    if let After::OpenWithoutRoom = after {
        let opened = Ledger::open(&dir, &options());
        let is_refused = |error: &Error| matches!(error, Error::Io { .. } | Error::Index { .. });
        assert!(opened.as_ref().err().is_none_or(is_refused), "{opened:?}");
        drop(opened);
        simulation.has_failed();
        // What the refused start wrote is not known to be durable.
        simulation.lose_power();
    }
    simulation.free_space();
    match after {
        After::PowerLoss | After::OpenWithoutRoom => {}
        After::OpenThenPowerLoss => reopen(&dir, &mut promised),
        After::SealThenPowerLoss => {
            let mut ledger = reopened(&dir, &mut promised);
            ledger.checkpoint().unwrap();
            promised = Promised::by(&ledger);
        }
        After::DeathInOpen(number) => {
            simulation.plan(number, Fault::Death);
            if let Ok((ledger, _)) = Ledger::open(&dir, &options()) {
                simulation.kill();
                drop(ledger);
            }
            simulation.has_failed();
            simulation.start_again();
            reopen(&dir, &mut promised);
        }
    }
    simulation.lose_all_unsynced();
    if promised.note.is_some() {
        verified(&dir, &promised);
    }
    reopen(&dir, &mut promised);
    let (ledger, _) = Ledger::open(&dir, &options()).unwrap();
    let last = ledger.close().unwrap();
    if let Some(index) = last.size().checked_sub(1) {
        let mut tell = |error: &Error| panic!("the tree beside the log: {error}");
        prove_telling(dir.as_path(), index, None, &mut tell).unwrap();
    }
    let report = verified(&dir, &promised);
    assert_eq!((report.unsealed(), report.index), (0, IndexStatus::Agrees));
    std::mem::forget(told);
    struck
}

/// Says which case it was that failed.
struct Told(Fault, After, u64, u64);

impl Drop for Told {
    fn drop(&mut self) {
        let Told(fault, after, number, seed) = self;
        eprintln!("{fault:?} at call {number}, then {after:?}, seed {seed}");
    }
}

fn at_each_call(fault: Fault, after: impl Fn(u64) -> After) {
    let calls = at_each_call_of(life, fault, after);
    assert!(calls > 80, "{calls}");
}

fn at_each_call_of(life: Life, fault: Fault, after: impl Fn(u64) -> After) -> usize {
    let struck = (0..).take_while(|&number| check(fault, after(number), (number, number), life));
    let calls = struck.count();
    eprintln!("{fault:?} at each of {calls} calls");
    calls
}

#[test]
fn death_at_any_call_loses_nothing() {
    at_each_call(Fault::Death, |_| After::PowerLoss);
}

/// What the killed process had written or named without a sync was taken for durable by the next.
#[test]
fn what_a_killed_process_left_is_made_durable_before_it_is_built_on() {
    at_each_call(Fault::Death, |_| After::OpenThenPowerLoss);
}

/// A statement that was listed in the page cache alone was lost, and what its keys signed was not.
#[test]
fn what_a_killed_process_left_is_made_durable_before_it_is_signed_for() {
    at_each_call(Fault::Death, |_| After::SealThenPowerLoss);
}

#[test]
fn death_at_any_call_and_again_in_recovery_loses_nothing() {
    at_each_call(Fault::Death, |number| After::DeathInOpen(number % 17));
}

#[test]
fn a_refused_call_loses_nothing() {
    at_each_call(Fault::Refused, |_| After::PowerLoss);
}

/// A sync that fails leaves pages that look written; the next sync, which does not fail, was
/// believed.
#[test]
fn what_a_failed_sync_left_is_written_again_before_it_is_built_on() {
    at_each_call(Fault::Refused, |_| After::OpenThenPowerLoss);
}

#[test]
fn a_refused_call_and_death_in_recovery_lose_nothing() {
    at_each_call(Fault::Refused, |number| After::DeathInOpen(number % 17));
}

/// What is in the page cache alone was put into the new index, which outlasted it.
#[test]
fn an_index_built_again_covers_nothing_that_can_be_lost() {
    let opened = (0..).find(|&number| {
        let root = temporary_dir();
        let dir = root.path().join("state/ledger");
        let simulation = Simulation::start(root.path(), number);
        let (mut ledger, _) = Ledger::open(&dir, &Options::new("daemoneye/crash")).unwrap();
        for _ in 0..100 {
            ledger.append(&leaf(ledger.size())).unwrap();
        }
        // The write is made, the sync refused.
        simulation.plan(1, Fault::Refused);
        ledger.commit().unwrap_err();
        drop(ledger);
        assert!(simulation.has_failed());
        let index = crate::layout::index(&dir);
        make(Change::Remove(&index), || std::fs::remove_file(&index)).unwrap();
        simulation.plan(number, Fault::Death);
        drop(Ledger::open(&dir, &options()));
        let killed = simulation.has_failed();
        simulation.start_again();
        let mut promised = Promised::default();
        reopen(&dir, &mut promised);
        simulation.lose_all_unsynced();
        reopen(&dir, &mut promised);
        !killed
    });
    assert!(opened > Some(40), "{opened:?}");
}

/// Every proof at the end is made with it.
#[test]
fn the_tree_beside_the_log_outlasts_every_fault() {
    at_each_call_of(life_of_a_tree, Fault::Death, |_| After::OpenThenPowerLoss);
    at_each_call_of(life_of_a_tree, Fault::Refused, |_| After::PowerLoss);
}

/// All that an index covered was dropped, and a crash came before the next index: the log was called
/// damaged.
#[test]
fn a_gap_up_to_an_empty_segment_outlasts_every_fault() {
    let cases = [
        (Fault::Death, After::PowerLoss),
        (Fault::Refused, After::OpenThenPowerLoss),
    ];
    for (fault, after) in cases {
        let calls = at_each_call_of(life_of_an_empty_segment, fault, |_| after);
        assert!(calls > 170, "{calls}");
    }
}

/// Not at each: there are many, and each case takes long.
#[test]
fn gaps_beside_rotations_outlast_a_fault_at_any_call() {
    let step = 9;
    let struck = (0..).step_by(step).take_while(|&number| {
        let after = After::DeathInOpen(number % 60);
        check(Fault::Death, after, (number, number), life_of_gaps)
    });
    let calls = struck.count() * step;
    assert!(calls > 600, "{calls}");
}

/// One that was written anew and not synced yet has holes after a power loss, and looks whole by its
/// length and by the hashes at its end.
#[test]
fn a_tree_that_is_mended_outlasts_a_power_loss() {
    let root = temporary_dir();
    let dir = root.path().join("state/ledger");
    let simulation = Simulation::start(root.path(), 0);
    let (mut ledger, _) = Ledger::open(&dir, &options()).unwrap();
    // Several sectors.
    while ledger.size() < 24 * BLOCK {
        ledger.append(&leaf(ledger.size())).unwrap();
    }
    ledger.close().unwrap();
    let path = &layout::tree(&dir);
    let cut = Change::SetLen { path, len: 0 };
    make(cut, || std::fs::File::create(path)).unwrap();
    make(Change::Sync(path), || Ok(())).unwrap();
    let saved = simulation.save();
    let calls = (0..).take_while(|&number| {
        let mut struck = true;
        for seed in 0..8 {
            simulation.restore(&saved, seed);
            simulation.plan(number, Fault::Death);
            drop(Ledger::open(&dir, &options()));
            struck = simulation.has_failed();
            simulation.start_again();
            simulation.lose_power();
            drop(Ledger::open(&dir, &options()).unwrap());
            let report = verify(&dir, VerifyOptions::default()).unwrap();
            assert_eq!(report.index, IndexStatus::Agrees, "at call {number}");
        }
        struck
    });
    assert!(calls.count() > 8);
}

#[test]
fn a_full_disk_loses_nothing() {
    at_each_call(Fault::Full, |_| After::OpenThenPowerLoss);
}

#[test]
fn a_start_without_room_loses_nothing() {
    at_each_call(Fault::Full, |_| After::OpenWithoutRoom);
}

/// Or a fault at each of its calls would not be one at those of thinning and dropping.
#[test]
fn the_life_thins_its_list_drops_leaves_and_rotates() {
    let root = temporary_dir();
    let dir = root.path().join("state/ledger");
    let _simulation = Simulation::start(root.path(), 0);
    let mut promised = Promised::default();
    life(&dir, &mut promised).unwrap();
    let report = verified(&dir, &promised);
    assert_eq!((report.gaps.len(), report.keys.epoch()), (2, 1));
    // Of size 0, and two or more for each sealing, rotation and gap.
    assert!(report.checkpoints < 9, "{report:?}");
}

/// A drop that failed leaves a ledger that goes on, and drops later: a daemon tries again.
#[test]
fn drops_that_fail_at_any_call_are_made_by_the_same_writer_later() {
    // After the last write a full disk is none.
    for (fault, least) in [(Fault::Refused, 5), (Fault::Full, 3)] {
        let struck = (0..).take_while(|&number| drop_again(fault, number));
        let calls = struck.count();
        assert!(calls >= least, "{fault:?}: {calls}");
    }
}

fn drop_again(fault: Fault, number: u64) -> bool {
    let told = Told(fault, After::PowerLoss, number, number);
    let root = temporary_dir();
    let dir = root.path().join("state/ledger");
    let simulation = Simulation::start(root.path(), number);
    let (mut ledger, _) = Ledger::open(&dir, &options()).unwrap();
    for _ in 0..60 {
        ledger.append(&leaf(ledger.size())).unwrap();
        ledger.commit().unwrap();
    }
    ledger.checkpoint().unwrap();
    simulation.plan(number, fault);
    let expired = ledger.expired(&NOTHING, u64::MAX);
    let struck = simulation.has_failed();
    assert_eq!(expired.is_err(), struck, "{expired:?}");
    simulation.free_space();
    // Chosen anew, since leaves have come.
    ledger.append(&leaf(ledger.size())).unwrap();
    ledger.checkpoint().unwrap();
    ledger.retain(&NOTHING, u64::MAX).unwrap();
    assert!(ledger.kept_from() > 40);
    let mut promised = Promised::by(&ledger);
    drop(ledger);
    simulation.lose_all_unsynced();
    verified(&dir, &promised);
    reopen(&dir, &mut promised);
    std::mem::forget(told);
    struck
}

/// A list of checkpoints that could not be made shorter stopped the whole ledger.
#[test]
fn a_list_that_cannot_be_thinned_is_thinned_later() {
    for (fault, least) in [(Fault::Full, 2), (Fault::Refused, 5)] {
        let struck = (0..).take_while(|&number| thin_again(fault, number));
        let calls = struck.count();
        assert!(calls >= least, "{fault:?}: {calls}");
    }
}

fn thin_again(fault: Fault, number: u64) -> bool {
    let told = Told(fault, After::PowerLoss, number, number);
    let root = temporary_dir();
    let dir = root.path().join("state/ledger");
    let simulation = Simulation::start(root.path(), number);
    let (mut ledger, _) = Ledger::open(&dir, &options()).unwrap();
    ledger.thin_at = u64::MAX;
    let sealed = |ledger: &mut Ledger| {
        ledger.append(&leaf(ledger.size())).unwrap();
        ledger.checkpoint().unwrap();
    };
    (0..9).for_each(|_| sealed(&mut ledger));
    let len = ledger.checkpoints.len();
    simulation.plan(number, fault);
    let thinned = ledger.thin_list(1 << 40);
    let struck = simulation.has_failed();
    simulation.free_space();
    if thinned.is_ok() {
        let put_off = ledger.put_off();
        assert_eq!(put_off.is_some(), struck, "{put_off:?}");
        assert_eq!(ledger.checkpoints.len() == len, struck);
        assert!(!layout::thinned_checkpoints(&dir).exists());
        // As the next checkpoint that makes it long enough does.
        (0..3).for_each(|_| sealed(&mut ledger));
        assert!(ledger.checkpoints.len() < len);
    } else {
        // The new name may not be on the disk.
        assert_eq!(fault, Fault::Refused);
    }
    let mut promised = Promised::by(&ledger);
    drop(ledger);
    simulation.lose_all_unsynced();
    verified(&dir, &promised);
    reopen(&dir, &mut promised);
    std::mem::forget(told);
    struck
}

/// What stays of dropped leaves stopped the ledger, and each start after it did the same again.
#[test]
fn segments_that_cannot_be_removed_go_later() {
    let root = temporary_dir();
    let dir = root.path().join("state/ledger");
    let simulation = Simulation::start(root.path(), 0);
    let (mut ledger, _) = Ledger::open(&dir, &options()).unwrap();
    for _ in 0..60 {
        ledger.append(&leaf(ledger.size())).unwrap();
        ledger.commit().unwrap();
    }
    ledger.checkpoint().unwrap();
    let expired = ledger.expired(&NOTHING, u64::MAX).unwrap().unwrap();
    // What is no file is not removed as one.
    let first = layout::segment(&dir, 0);
    let away = dir.join("away");
    std::fs::rename(&first, &away).unwrap();
    std::fs::create_dir(&first).unwrap();
    ledger.drop_expired(expired).unwrap();
    assert!(ledger.kept_from() > 0);
    let put_off = ledger.put_off();
    assert!(
        matches!(&put_off, Some(Error::Io { path, .. }) if *path == first),
        "{put_off:?}"
    );
    ledger.append(&leaf(ledger.size())).unwrap();
    ledger.checkpoint().unwrap();
    assert!(ledger.put_off().is_some());
    // That nothing is to be dropped would be false.
    let refused = ledger.retain(&NOTHING, u64::MAX);
    assert!(
        matches!(&refused, Err(Error::Io { path, .. }) if *path == first),
        "{refused:?}"
    );
    std::fs::remove_dir(&first).unwrap();
    std::fs::rename(&away, &first).unwrap();
    assert!(ledger.expired(&NOTHING, 0).unwrap().is_none());
    assert!(!first.exists());
    ledger.checkpoint().unwrap();
    assert!(ledger.put_off().is_none());
    drop((ledger, simulation));
}

/// All leaves after the last index commit were, which took longer than the rest of a start.
#[test]
fn a_start_writes_no_more_than_the_last_commit_again() {
    let root = temporary_dir();
    let dir = root.path().join("state/ledger");
    let simulation = Simulation::start(root.path(), 0);
    let (mut ledger, _) = Ledger::open(&dir, &Options::new("daemoneye/crash")).unwrap();
    for _ in 0..20 {
        ledger.append(&vec![0; 100_000]).unwrap();
        ledger.commit().unwrap();
    }
    drop(ledger);
    let before = simulation.met().written;
    let (_, recovery) = Ledger::open(&dir, &Options::new("daemoneye/crash")).unwrap();
    let written = simulation.met().written - before;
    assert_eq!(recovery.replayed, 20);
    assert!((100_000..400_000).contains(&written), "{written}");
}
