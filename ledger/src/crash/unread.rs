//! One read that fails, at each place in turn: it says nothing of what stands there, so nothing is cut,
//! built anew or called damaged for it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::{Path, PathBuf};

use super::disk::{Fault, Saved, Simulation, Unread, make, temporary_dir};
use crate::disk::Change;
use crate::rotation::OWN_LEAF;
use crate::{
    Error, IndexRecovery, Ledger, Options, Reader, Recovery, Retention, VerifyOptions,
    audit_telling, gather_telling, layout, prove_telling, verify,
};

fn options() -> Options {
    Options {
        segment_bytes: 5_000,
        ..Options::new("daemoneye/crash")
    }
}

/// How a log was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Closed,
    /// With leaves that neither the index nor a checkpoint covers.
    Killed,
    /// Within a write.
    Torn,
    /// Without its index.
    Unindexed,
}

/// A log with a gap, a rotation, a whole block and a cursor, as it was left.
struct Log {
    root: tempfile::TempDir,
    simulation: Simulation,
    saved: Saved,
    /// A checkpoint of its beginning.
    since: String,
    /// Leaves that were acknowledged.
    size: u64,
}

impl Log {
    fn left(left: Left) -> Log {
        let root = temporary_dir();
        let simulation = Simulation::start(root.path(), 7);
        let dir = root.path().join("ledger");
        let (mut ledger, _) = Ledger::open(&dir, &options()).unwrap();
        let grow = |ledger: &mut Ledger, size: u64| {
            while ledger.size() < size {
                let index = ledger.size();
                ledger.append(&leaf(index)).unwrap();
                if index.is_multiple_of(50) {
                    ledger.commit().unwrap();
                }
            }
        };
        grow(&mut ledger, 300);
        let since = ledger.checkpoint().unwrap();
        ledger.rotate().unwrap();
        let retention = Retention {
            bytes: Some(12_000),
            seconds: None,
        };
        ledger.set_cursor("agent", 290);
        assert_eq!(ledger.retain(&retention, u64::MAX).unwrap().len(), 1);
        grow(&mut ledger, 700);
        ledger.checkpoint().unwrap();
        if left != Left::Closed {
            grow(&mut ledger, 760);
            ledger.commit().unwrap();
        }
        let size = ledger.durable_size();
        if left == Left::Torn {
            ledger.append(&[7; 5_000]).unwrap();
            simulation.plan(0, Fault::Death);
            ledger.commit().unwrap_err();
        }
        if left == Left::Closed {
            ledger.close().unwrap();
        } else {
            simulation.kill();
            drop(ledger);
        }
        simulation.has_failed();
        simulation.start_again();
        if left == Left::Unindexed {
            let index = layout::index(&dir);
            make(Change::Remove(&index), || std::fs::remove_file(&index)).unwrap();
        }
        Log {
            root,
            saved: simulation.save(),
            simulation,
            since: since.note().to_owned(),
            size,
        }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("ledger")
    }

    fn open(&self) -> Result<(Ledger, Recovery), Error> {
        Ledger::open(&self.dir(), &options())
    }
}

fn leaf(index: u64) -> Vec<u8> {
    format!("leaf {index}, of some length").into_bytes()
}

fn is_leaf(index: u64, read: &[u8]) -> bool {
    read == leaf(index) || read.starts_with(OWN_LEAF)
}

/// The lengths of what recovery may cut.
fn lengths(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let segments = crate::disk::segments(dir).unwrap().into_iter();
    let segments = segments.map(|first| layout::segment(dir, first));
    let others = [
        layout::checkpoints(dir),
        layout::gaps(dir),
        layout::rotations(dir),
    ];
    let all = segments.chain(others);
    all.map(|path| {
        let len = std::fs::metadata(&path).unwrap().len();
        (path, len)
    })
    .collect()
}

/// Whether it says what was not read and why, and nothing more.
#[track_caller]
fn is_told(error: &Error, told: &str) {
    let source = match error {
        Error::Io { source, .. } => source.to_string(),
        Error::Index { source, .. } => source.to_string(),
        _ => panic!("{told}: {error:?}"),
    };
    assert!(!source.is_empty());
}

/// Lets each read that `attempt` makes fail in turn, until it makes no more; how many did. Every
/// fourth, from any on, unless `DAEMONEYE_CRASH_RUNS` asks for more than the usual tests.
fn at_each_read(log: &Log, attempt: impl Fn(&str)) -> u64 {
    let step = match std::env::var_os("DAEMONEYE_CRASH_RUNS") {
        Some(_) => 1,
        None => 4,
    };
    let mut reads = 0;
    for unread in [Unread::Refused, Unread::Ended] {
        for number in (fastrand::u64(..step)..).step_by(usize::try_from(step).unwrap()) {
            log.simulation.restore(&log.saved, number);
            log.simulation.plan_unread(number, unread);
            attempt(&format!("{unread:?} at read {number}"));
            if log.simulation.met().unread == 0 {
                break;
            }
            reads += 1;
        }
    }
    eprintln!("{reads} reads");
    reads
}

fn a_start(left: Left) {
    let log = Log::left(left);
    let expected = log.open().unwrap().1;
    assert_eq!(expected.cut_bytes > 0, left == Left::Torn);
    let lengths_after = lengths(&log.dir());
    let reads = at_each_read(&log, |told| {
        let told = &format!("{left:?}, {told}");
        let cut = match log.open() {
            Ok((ledger, recovery)) => {
                assert_eq!(recovery, expected, "{told}");
                drop(ledger);
                expected.cut_bytes
            }
            Err(error) => {
                is_told(&error, told);
                0
            }
        };
        log.simulation.has_failed();
        // As if it had not happened: what was cut was torn, what was built anew was gone.
        let (ledger, recovery) = log.open().unwrap_or_else(|e| panic!("{told}: {e:?}"));
        assert_eq!(recovery.entries, log.size, "{told}");
        assert_eq!(recovery.sealed, expected.sealed, "{told}");
        assert!(recovery.cut_bytes + cut <= expected.cut_bytes, "{told}");
        assert_eq!(recovery.cut_checkpoint_bytes, 0, "{told}");
        assert_eq!(lengths(&log.dir()), lengths_after, "{told}");
        if left != Left::Unindexed {
            assert_eq!(recovery.index, IndexRecovery::Sound, "{told}");
            assert_eq!(ledger.cursor("agent"), Some(290), "{told}");
        }
        let mut reader = ledger.reader();
        let read = reader.range(ledger.kept_from()).map(Result::unwrap);
        let sound = read.filter(|(index, read)| is_leaf(*index, read)).count();
        assert_eq!(sound as u64, log.size - ledger.kept_from(), "{told}");
    });
    assert!(reads > 40, "{reads}");
}

/// An index that could not be read was put aside, and with it how far the agent was.
#[test]
fn a_start_that_cannot_read_changes_nothing() {
    a_start(Left::Killed);
    a_start(Left::Unindexed);
}

/// A file that gave less than its length was taken to end there, and cut.
#[test]
fn a_start_cuts_what_is_torn_and_not_what_it_could_not_read() {
    a_start(Left::Torn);
}

#[test]
fn a_check_that_cannot_read_calls_nothing_damaged() {
    for left in [Left::Closed, Left::Killed, Left::Torn] {
        let log = Log::left(left);
        let expected = verify(&log.dir(), VerifyOptions::default()).unwrap();
        let reads = at_each_read(&log, |told| {
            let options = VerifyOptions {
                checkpoint: Some(log.since.clone()),
                ..VerifyOptions::default()
            };
            match verify(&log.dir(), options) {
                Ok(report) => assert_eq!(
                    (report.entries, report.index, report.torn.is_some()),
                    (
                        expected.entries,
                        expected.index.clone(),
                        expected.torn.is_some()
                    ),
                    "{told}"
                ),
                Err(error) => is_told(&error, told),
            }
        });
        assert!(reads > 20, "{reads}");
    }
}

#[test]
fn a_proof_is_made_another_way_or_says_what_was_not_read() {
    let log = &Log::left(Left::Closed);
    let dir = &log.dir();
    let from = Reader::open(dir).unwrap().oldest().unwrap();
    let proofs = at_each_read(log, |told| {
        let tell = &mut |error: &Error| is_told(error, told);
        let proof = prove_telling(dir, from + 9, None, tell);
        proof.map_or_else(|error| is_told(&error, told), drop);
    });
    let bundles = at_each_read(log, |told| {
        let tell = &mut |error: &Error| is_told(error, told);
        let indexes = [from + 1, 690].into();
        let gathered = gather_telling(dir, &indexes, (None, None), tell);
        gathered.map_or_else(|error| is_told(&error, told), drop);
    });
    let audits = at_each_read(log, |told| {
        let tell = &mut |error: &Error| is_told(error, told);
        let audited = audit_telling(dir, None, &log.since, tell);
        audited.map_or_else(|error| is_told(&error, told), drop);
    });
    assert!([proofs, bundles, audits].iter().all(|reads| *reads > 10));
}

/// A segment whose name was not found was taken for the end of the log.
#[test]
fn a_reader_ends_with_the_log_or_says_what_was_not_read() {
    let log = &Log::left(Left::Killed);
    let read_all = |next: &mut u64| {
        let mut reader = Reader::open(&log.dir())?;
        *next = reader.oldest()?;
        for read in reader.range(*next) {
            let (index, leaf) = read?;
            assert!(index == *next && is_leaf(index, &leaf));
            *next += 1;
        }
        Ok(())
    };
    let at_bytes = Cell::new(0);
    at_each_read(log, |told| {
        let mut next = 0;
        match read_all(&mut next) {
            Ok(()) => assert_eq!(next, log.size, "{told}"),
            Err(error) => {
                is_told(&error, told);
                let source = error.source().map(ToString::to_string);
                let is_at = source.is_some_and(|source| source.starts_with("at byte "));
                at_bytes.set(at_bytes.get() + u64::from(is_at));
            }
        }
    });
    assert!(at_bytes.get() > 1, "{}", at_bytes.get());
}
