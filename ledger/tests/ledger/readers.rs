use std::fs;

use ledger::{Cause, Error, IndexStatus, Ledger, Reader};

use crate::start::flip_byte;
use crate::support::{first_of, grow, last_segment, leaf, open, segments, small_segments, verify};
use crate::tamper::frames;

#[test]
fn readers_of_the_writer_see_durable_leaves_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let mut reader = ledger.reader();
    assert_eq!(reader.read(0).unwrap(), None);
    ledger.append(&leaf(0)).unwrap();
    assert_eq!(reader.read(0).unwrap(), None);
    ledger.commit().unwrap();
    assert_eq!(reader.read(0).unwrap(), Some(leaf(0)));
    let mut clone = reader.clone();
    let elsewhere = std::thread::spawn(move || clone.read(0).unwrap());
    assert_eq!(elsewhere.join().unwrap(), Some(leaf(0)));
}

#[test]
fn any_leaf_can_be_read_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(
        dir.path(),
        &ledger::Options {
            segment_bytes: 100_000,
            ..small_segments()
        },
    )
    .unwrap();
    grow(&mut ledger, 6000, 50);
    ledger.checkpoint().unwrap();
    grow(&mut ledger, 9000, 50);
    for mut reader in [ledger.reader(), Reader::open(dir.path()).unwrap()] {
        let mut index = 17;
        for _ in 0..2000 {
            index = (index * 7919 + 13) % 9100;
            let expected = (index < 9000).then(|| leaf(index));
            assert_eq!(reader.read(index).unwrap(), expected, "leaf {index}");
        }
        assert_eq!(reader.range(8990).map(Result::unwrap).count(), 10);
        assert_eq!(reader.range(9000).count(), 0);
        assert_eq!(reader.read(u64::MAX).unwrap(), None);
    }
}

#[test]
fn a_reader_follows_the_writer_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(dir.path(), &small_segments()).unwrap();
    let (mut inside, mut outside) = (ledger.reader(), Reader::open(dir.path()).unwrap());
    for size in 1..=200 {
        grow(&mut ledger, size, 1);
        assert_eq!(inside.read(size - 1).unwrap(), Some(leaf(size - 1)));
        assert_eq!(outside.read(size - 1).unwrap(), Some(leaf(size - 1)));
        assert_eq!(outside.read(size).unwrap(), None);
    }
}

/// A segment that is missing looked like the end of the log, to a reader that stood before it.
#[test]
fn a_segment_that_is_missing_is_not_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(dir.path(), &small_segments()).unwrap();
    grow(&mut ledger, 200, 1);
    let all = segments(dir.path());
    let (missing, later) = (first_of(&all[3]), first_of(&all[4]));
    fs::remove_file(&all[3]).unwrap();
    for mut reader in [ledger.reader(), Reader::open(dir.path()).unwrap()] {
        let mut read = reader.range(0);
        for index in 0..missing {
            assert_eq!(read.next().unwrap().unwrap(), (index, leaf(index)));
        }
        let Some(Err(Error::Damaged(found))) = read.next() else {
            panic!("not told");
        };
        assert_eq!((&found.file, found.leaves), (&all[3], missing..later));
        assert_eq!(found.cause, Cause::Missing);
        assert!(read.next().is_none());
        assert_eq!(reader.read(missing - 1).unwrap(), Some(leaf(missing - 1)));
        assert_eq!(reader.read(later).unwrap(), Some(leaf(later)));
        assert_eq!(reader.read(200).unwrap(), None);
    }
}

#[test]
fn a_write_under_way_is_pending_to_outside_readers() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 5);
    drop(ledger);
    let file = last_segment(dir.path());
    let whole = fs::read(&file).unwrap();
    let mut reader = Reader::open(dir.path()).unwrap();
    for len in whole.len() - leaf(4).len() - 39..whole.len() {
        fs::write(&file, &whole[..len]).unwrap();
        assert_eq!(reader.read(4).unwrap(), None, "at {len}");
        assert_eq!(reader.range(0).map(Result::unwrap).count(), 4);
    }
    fs::write(&file, &whole).unwrap();
    assert_eq!(reader.read(4).unwrap(), Some(leaf(4)));
}

#[test]
fn a_running_log_can_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 500, 50);
    ledger.checkpoint().unwrap();
    grow(&mut ledger, 520, 20);
    ledger.append(b"pending").unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!(
        (report.entries, report.sealed, report.unsealed()),
        (520, 500, 20)
    );
    assert_eq!(report.index, IndexStatus::InUse);
}

#[test]
fn verification_beside_a_busy_writer_finds_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(
        dir.path(),
        &ledger::Options {
            segment_bytes: 50_000,
            ..small_segments()
        },
    )
    .unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for size in (0..6000).step_by(30) {
                grow(&mut ledger, size, 10);
                if size % 300 == 0 {
                    ledger.checkpoint().unwrap();
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let mut passes = 0;
        while !done.load(std::sync::atomic::Ordering::Relaxed) || passes == 0 {
            match verify(dir.path()) {
                Ok(_) => passes += 1,
                // Nothing to verify before the first segment.
                Err(e) => panic!("after {passes} passes: {e}"),
            }
        }
    });
}

#[test]
fn progress_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 100, 100);
    ledger.close().unwrap();
    let mut last = None;
    let mut progress = |progress| last = Some(progress);
    let options = ledger::VerifyOptions {
        progress: Some(&mut progress),
        ..Default::default()
    };
    let report = ledger::verify(dir.path(), options).unwrap();
    let last = last.unwrap();
    assert_eq!(
        (last.entries, last.bytes, last.total_bytes),
        (100, report.bytes, report.bytes)
    );
}

#[test]
fn progress_ends_with_what_is_intact_before_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    for size in [40, 90, 200] {
        grow(&mut ledger, size, 10);
        ledger.checkpoint().unwrap();
    }
    drop(ledger);
    let file = last_segment(dir.path());
    let entry = frames(&fs::read(&file).unwrap()).swap_remove(120);
    flip_byte(&file, entry.start as u64 + 8);
    let mut last = None;
    let mut progress = |progress| last = Some(progress);
    let options = ledger::VerifyOptions {
        progress: Some(&mut progress),
        ..Default::default()
    };
    assert!(ledger::verify(dir.path(), options).is_err());
    let last = last.unwrap();
    assert_eq!((last.entries, last.sealed), (120, 90));
}
