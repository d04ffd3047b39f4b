//! The oldest leaves are dropped, recorded as gone, and all else stays provable.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ledger::{
    Checkpoint, Error, HashKind, IndexRecovery, Ledger, Options, Reader, Reason, Retention,
    VerifyOptions, prove, verify_inclusion,
};

use crate::support::{damage, first_of, grow, leaf, open, options, segments, verify};

/// All but the newest segment.
const NOTHING: Retention = Retention {
    bytes: Some(0),
    seconds: None,
};

fn keep(bytes: u64) -> Retention {
    Retention {
        bytes: Some(bytes),
        seconds: None,
    }
}

/// Some 50 leaves to a segment.
fn few_leaves(hash: HashKind) -> Options {
    Options {
        hash,
        segment_bytes: 2_500,
        ..options()
    }
}

/// Sealed at each of these sizes, in small segments.
fn log(dir: &Path, kind: HashKind, sizes: &[u64]) -> (Ledger, Vec<Checkpoint>) {
    let (mut ledger, _) = Ledger::open(dir, &few_leaves(kind)).unwrap();
    let mut signed = Vec::new();
    for &size in sizes {
        grow(&mut ledger, size, 3);
        signed.push(ledger.checkpoint().unwrap());
    }
    (ledger, signed)
}

/// Every kept leaf is proven, at every checkpoint that covers it.
fn all_is_provable(ledger: &mut Ledger, signed: &[Checkpoint]) {
    let kept_from = ledger.kept_from();
    let kind = ledger.hash_kind();
    for at in signed {
        let near = kept_from..at.size().min(kept_from + 10);
        for index in near.chain((kept_from..at.size()).step_by(97)) {
            let proof = ledger.prove(index, Some(at)).unwrap();
            let hash = kind.leaf(&ledger.reader().read(index).unwrap().unwrap());
            verify_inclusion(kind, index, at.size(), hash, &proof.path, at.root()).unwrap();
        }
        ledger.holds(at).unwrap();
        let last = ledger.last_checkpoint().unwrap();
        let path = ledger.prove_consistency(at.size(), last.size()).unwrap();
        ledger::verify_consistency(kind, at.size(), at.root(), last.size(), last.root(), &path)
            .unwrap();
    }
}

#[test]
fn what_is_kept_stays_provable_at_every_checkpoint() {
    let sizes: Vec<u64> = vec![
        1, 7, 100, 255, 256, 257, 300, 511, 640, 700, 777, 1024, 1030, 1400,
    ];
    for kind in [HashKind::Blake3, HashKind::Sha256] {
        let dir = tempfile::tempdir().unwrap();
        let (mut ledger, mut signed) = log(dir.path(), kind, &sizes);
        let total: u64 = segments(dir.path())
            .iter()
            .map(|s| fs::metadata(s).unwrap().len())
            .sum();
        for part in 1..12 {
            let before = ledger.kept_from();
            let gaps = ledger
                .retain(&keep(total - total * part / 12), u64::MAX)
                .unwrap();
            signed.push(ledger.last_checkpoint().unwrap().clone());
            assert_eq!(gaps.len(), 1, "{part}");
            assert_eq!((gaps[0].first, gaps[0].end), (before, ledger.kept_from()));
            assert_eq!(gaps[0].reason, Reason::Size);
            if part % 5 == 0 {
                all_is_provable(&mut ledger, &signed);
            }
        }
        all_is_provable(&mut ledger, &signed);
        let kept_from = ledger.kept_from();
        let size = ledger.size();
        drop(ledger);
        let report = verify(dir.path()).unwrap();
        assert_eq!((report.entries, report.gaps.len()), (size, 11));
        assert_eq!(report.kept_from(), kept_from);
        assert_eq!(report.index, ledger::IndexStatus::Agrees);

        // Without the index, what is left of the gaps tells the same.
        fs::remove_file(dir.path().join("index.redb")).unwrap();
        for index in (kept_from..size).step_by(131) {
            prove(dir.path(), index, None).unwrap();
        }
        for at in &signed {
            ledger::audit(dir.path(), None, at.note()).unwrap();
        }
        let (mut ledger, recovery) = Ledger::open(dir.path(), &few_leaves(kind)).unwrap();
        assert!(matches!(recovery.index, IndexRecovery::Rebuilt { .. }));
        all_is_provable(&mut ledger, &signed);
        ledger.retain(&NOTHING, u64::MAX).unwrap();
        grow(&mut ledger, size + 700, 3);
        signed.push(ledger.checkpoint().unwrap());
        ledger.retain(&NOTHING, u64::MAX).unwrap();
        all_is_provable(&mut ledger, &signed);
        drop(ledger);
        assert_eq!(
            verify(dir.path()).unwrap().index,
            ledger::IndexStatus::Agrees
        );
        all_is_provable(&mut open(dir.path()), &signed);
    }
}

/// 300 leaves in six segments or so, all signed for.
fn six_segments(dir: &Path) -> Ledger {
    let (ledger, _) = log(dir, HashKind::Blake3, &[40, 100, 150, 210, 260, 300]);
    assert!(segments(dir).len() >= 5);
    ledger
}

#[test]
fn what_is_needed_is_not_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = six_segments(dir.path());
    let second = ledger::Reader::open(dir.path()).unwrap();
    assert_eq!(second.oldest().unwrap(), 0);
    assert!(
        ledger
            .retain(&Retention::default(), u64::MAX)
            .unwrap()
            .is_empty()
    );
    assert!(ledger.retain(&NOTHING, 3).unwrap().is_empty());

    // Not what a consumer has still to read …
    ledger.set_cursor("agent", 120);
    ledger.retain(&NOTHING, u64::MAX).unwrap();
    let kept_from = ledger.kept_from();
    assert!((1..=120).contains(&kept_from), "{kept_from}");

    // … nor what no checkpoint covers, nor the newest segment.
    ledger.set_cursor("agent", u64::MAX);
    grow(&mut ledger, 600, 3);
    ledger.retain(&NOTHING, u64::MAX).unwrap();
    let kept_from = ledger.kept_from();
    assert!((250..=302).contains(&kept_from), "{kept_from}");
    ledger.checkpoint().unwrap();
    ledger.retain(&NOTHING, u64::MAX).unwrap();
    let newest = segments(dir.path()).len();
    assert!(
        (1..=2).contains(&newest),
        "{newest} segments, one of the gap's own leaf"
    );
    assert!(ledger.kept_from() < 600);
    verify(dir.path()).unwrap();
}

#[test]
fn a_dropped_leaf_is_told_from_one_that_is_not_there_yet() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = six_segments(dir.path());
    let mut early = ledger.reader();
    assert_eq!(early.read(0).unwrap(), Some(leaf(0)));
    ledger.retain(&NOTHING, u64::MAX).unwrap();
    let kept_from = ledger.kept_from();
    let not_kept = |read: Result<Option<Vec<u8>>, Error>, asked| match read {
        Err(Error::NotKept { index, oldest }) => assert_eq!((index, oldest), (asked, kept_from)),
        other => panic!("{other:?}"),
    };
    let mut outside = Reader::open(dir.path()).unwrap();
    for index in [0, kept_from - 1] {
        not_kept(ledger.reader().read(index), index);
        not_kept(outside.read(index), index);
        assert!(matches!(
            ledger.prove(index, None),
            Err(Error::NotKept { .. })
        ));
        assert!(matches!(
            prove(dir.path(), index, None),
            Err(Error::NotKept { .. })
        ));
    }
    assert_eq!(outside.read(kept_from).unwrap(), Some(leaf(kept_from)));
    assert_eq!(outside.read(ledger.size()).unwrap(), None);
}

static CLOCK: AtomicU64 = AtomicU64::new(0);

/// One that was far behind for a while made everything look old.
#[test]
fn age_is_that_of_the_newest_checkpoint_before() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        clock: || CLOCK.load(Ordering::Relaxed),
        ..few_leaves(HashKind::Blake3)
    };
    CLOCK.store(1_000, Ordering::Relaxed);
    let (mut ledger, _) = Ledger::open(dir.path(), &options).unwrap();
    for (time, size) in [(1_000, 100), (2_000, 200), (5, 300), (3_000, 400)] {
        CLOCK.store(time, Ordering::Relaxed);
        grow(&mut ledger, size, 3);
        ledger.checkpoint().unwrap();
    }
    let mut keep = |seconds| {
        let retention = Retention {
            bytes: None,
            seconds: Some(seconds),
        };
        let gaps = ledger.retain(&retention, u64::MAX).unwrap();
        assert!(gaps.iter().all(|gap| gap.reason == Reason::Age));
        ledger.kept_from()
    };
    assert_eq!(keep(2_001), 0);
    let kept_from = keep(2_000);
    assert!((51..=100).contains(&kept_from), "{kept_from}");
    assert_eq!(keep(1_001), kept_from);
    let kept_from = keep(1_000);
    assert!((251..=300).contains(&kept_from), "{kept_from}");
}

#[test]
fn keys_rotate_before_in_and_after_what_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, mut signed) = log(dir.path(), HashKind::Blake3, &[10]);
    for size in [100, 256, 300, 512, 700, 800, 1_000] {
        ledger.rotate().unwrap();
        grow(&mut ledger, size, 3);
        signed.push(ledger.checkpoint().unwrap());
        if size % 3 != 0 {
            ledger.retain(&keep(9_000), u64::MAX).unwrap();
        }
        verify(dir.path()).unwrap();
    }
    assert!(ledger.kept_from() > 700);
    all_is_provable(&mut ledger, &signed);
    drop(ledger);
    fs::remove_file(dir.path().join("index.redb")).unwrap();
    all_is_provable(&mut open(dir.path()), &signed);
    assert_eq!(verify(dir.path()).unwrap().gaps.len(), 5);
}

#[test]
fn an_outside_checkpoint_of_dropped_leaves_holds_if_it_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, mut signed) = log(dir.path(), HashKind::Blake3, &[100, 300, 333, 700, 1_000]);
    let (unlisted, listed) = (signed.remove(2), signed.remove(1));
    let path = dir.path().join("checkpoints.txt");
    let text = fs::read_to_string(&path).unwrap();
    drop(ledger);
    fs::write(&path, text.replace(&format!("{}\n", unlisted.note()), "")).unwrap();
    fs::remove_file(dir.path().join("index.redb")).unwrap();
    ledger = open(dir.path());
    ledger.retain(&NOTHING, u64::MAX).unwrap();
    assert!(ledger.kept_from() > 333);
    let too_old = |error: Error| {
        assert!(matches!(
            error,
            Error::TooOld {
                checkpoint_size: 333
            }
        ))
    };
    ledger.holds(&listed).unwrap();
    too_old(ledger.holds(&unlisted).unwrap_err());
    drop(ledger);
    let verified = |outside: &Checkpoint| {
        let checkpoint = Some(outside.note().to_owned());
        let options = VerifyOptions {
            checkpoint,
            ..VerifyOptions::default()
        };
        ledger::verify(dir.path(), options)
    };
    verified(&listed).unwrap();
    too_old(verified(&unlisted).unwrap_err());
    ledger::audit(dir.path(), None, listed.note()).unwrap();
    too_old(ledger::audit(dir.path(), None, unlisted.note()).unwrap_err());
}

/// A log of six segments, three or so of them dropped, in two gaps.
fn gapped(dir: &Path) -> u64 {
    let mut ledger = six_segments(dir);
    ledger.retain(&keep(12_000), u64::MAX).unwrap();
    ledger.retain(&keep(8_000), u64::MAX).unwrap();
    let kept_from = ledger.kept_from();
    assert_eq!(verify(dir).unwrap().gaps.len(), 2);
    kept_from
}

/// What `verify` says, and that a start refuses it too unless it need not see it.
fn check(what: &str, words: &str, is_refused: bool, tamper: impl Fn(&Path, u64)) {
    let dir = tempfile::tempdir().unwrap();
    let kept_from = gapped(dir.path());
    fs::remove_file(dir.path().join("index.redb")).unwrap();
    tamper(dir.path(), kept_from);
    let found = damage(dir.path()).to_string();
    assert!(found.contains(words), "{what}: {found}");
    let opened = Ledger::open(dir.path(), &options());
    assert_eq!(opened.is_err(), is_refused, "{what}: {:?}", opened.err());
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_missing_and_not_recorded_is_found() {
    check(
        "a segment after the gap deleted",
        "file is missing",
        true,
        |dir, _| {
            fs::remove_file(&segments(dir)[1]).unwrap();
        },
    );
    check(
        "the first one that is kept deleted",
        "file is missing",
        true,
        |dir, kept_from| {
            fs::remove_file(dir.join(format!("entries/{kept_from:016x}.seg"))).unwrap();
        },
    );
    check(
        "the list of gaps deleted",
        "file is missing",
        true,
        |dir, _| {
            fs::remove_file(dir.join("gaps.txt")).unwrap();
        },
    );
    check(
        "the newest gap not listed",
        "file is missing",
        true,
        |dir, _| {
            edit(&dir.join("gaps.txt"), |text| text.truncate(text.len() / 2));
        },
    );
    check(
        "a number of a gap changed",
        "a record of dropped leaves is not sound",
        true,
        |dir, kept_from| {
            let path = dir.join("gaps.txt");
            let text = fs::read_to_string(&path).unwrap();
            let (old, new) = (kept_from - 1, kept_from);
            fs::write(
                path,
                text.replace(&format!("\n{old}\n"), &format!("\n{new}\n")),
            )
            .unwrap();
        },
    );
    check(
        "what is left of a gap deleted",
        "file is missing",
        true,
        |dir, _| {
            fs::remove_file(dir.join("entries/0000000000000000.tree")).unwrap();
        },
    );
    let changed = "what is left of them is not what was recorded";
    check("what is left of a gap changed", changed, true, |dir, _| {
        edit(&dir.join("entries/0000000000000000.tree"), |bytes| {
            *bytes.last_mut().unwrap() ^= 1;
        });
    });
    check(
        "what is left of a gap cut",
        "it is not what is left of leaves",
        true,
        |dir, _| {
            edit(&dir.join("entries/0000000000000000.tree"), |bytes| {
                bytes.truncate(bytes.len() - 1)
            });
        },
    );
    check(
        "the chain value after a gap",
        "segment header",
        true,
        |dir, _| {
            edit(&segments(dir)[0], |bytes| bytes[64] ^= 1);
        },
    );
}

/// A gap that another log stated is not this one's.
#[test]
fn a_gap_of_another_log_does_not_pass() {
    let other = tempfile::tempdir().unwrap();
    gapped(other.path());
    let words = "a record of dropped leaves is not sound";
    check("the gaps of another log", words, true, |dir, _| {
        fs::copy(other.path().join("gaps.txt"), dir.join("gaps.txt")).unwrap();
    });
}

/// Leaves are dropped while somebody reads all of them.
#[test]
fn a_copy_can_be_verified_and_read_while_leaves_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = six_segments(dir.path());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) || rounds < 3 {
                let report = verify(dir.path()).unwrap();
                let mut reader = Reader::open(dir.path()).unwrap();
                let read = reader.read(report.kept_from());
                assert!(
                    matches!(read, Ok(Some(_)) | Err(Error::NotKept { .. })),
                    "{read:?}"
                );
                rounds += 1;
            }
        });
        for size in (300..2_000).step_by(100) {
            grow(&mut ledger, size, 9);
            ledger.checkpoint().unwrap();
            ledger.retain(&keep(6_000), u64::MAX).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reading.join().unwrap();
    });
    assert!(ledger.kept_from() > 1_500);
}

/// A reader that stood in a segment when it was dropped failed at its end, and one that stood at the
/// end when what followed was dropped as well waited for ever.
#[test]
fn a_reader_goes_on_after_what_is_dropped_while_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = six_segments(dir.path());
    let size = ledger.size();
    let firsts: Vec<u64> = segments(dir.path())
        .iter()
        .map(|path| first_of(path))
        .collect();
    ledger.checkpoint().unwrap();
    drop(ledger);
    let starts = [0, 10, firsts[1] - 1, firsts[1], firsts[2] + 3];
    for (start, outside) in starts
        .into_iter()
        .flat_map(|start| [(start, false), (start, true)])
    {
        let copied = tempfile::tempdir().unwrap();
        crate::support::copy(dir.path(), copied.path());
        let mut ledger = Ledger::open(copied.path(), &few_leaves(HashKind::Blake3))
            .unwrap()
            .0;
        let mut reader = match outside {
            true => Reader::open(copied.path()).unwrap(),
            false => ledger.reader(),
        };
        assert_eq!(reader.read(start).unwrap(), Some(leaf(start)));
        // What is open can be read to its end, and then what comes next is told to be gone.
        ledger.retain(&NOTHING, u64::MAX).unwrap();
        let mut next = start + 1;
        let mut gone = 0;
        loop {
            match reader.read(next) {
                Ok(Some(read)) => assert!(read == leaf(next) || next >= size),
                Ok(None) => break,
                Err(Error::NotKept { index, oldest }) => {
                    assert_eq!((index, oldest), (next, ledger.kept_from()));
                    (gone, next) = (gone + 1, oldest - 1);
                }
                Err(other) => panic!("leaf {next}, from {start}: {other}"),
            }
            next += 1;
        }
        assert_eq!(
            (next, gone),
            (ledger.size(), 1),
            "from {start}, outside: {outside}"
        );
    }
}

/// It ended there, as if the log did.
#[test]
fn a_range_goes_on_after_leaves_that_are_dropped_while_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = six_segments(dir.path());
    ledger.checkpoint().unwrap();
    let mut reader = Reader::open(dir.path()).unwrap();
    let mut range = reader.range(0);
    assert_eq!(range.next().unwrap().unwrap(), (0, leaf(0)));
    ledger.retain(&NOTHING, u64::MAX).unwrap();
    let (read, gone): (Vec<_>, Vec<_>) = range.partition(Result::is_ok);
    let read: Vec<u64> = read.into_iter().map(|read| read.unwrap().0).collect();
    let Ok([Err(Error::NotKept { index, oldest })]) = <[_; 1]>::try_from(gone) else {
        panic!("one gap");
    };
    assert!(oldest == ledger.kept_from() && index < oldest);
    assert_eq!(
        read,
        (1..index).chain(oldest..ledger.size()).collect::<Vec<_>>()
    );
}

/// A proof that was made of all leaves failed when the oldest of them went meanwhile.
#[test]
fn a_leaf_is_proven_of_all_leaves_while_others_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = six_segments(dir.path());
    fs::remove_file(dir.path().join("tree")).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let proving = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let newest = ledger::newest_checkpoint(dir.path()).unwrap().unwrap();
                prove(dir.path(), newest.size() - 1, None).unwrap();
            }
        });
        for size in (300..6_000).step_by(300) {
            grow(&mut ledger, size, 9);
            ledger.checkpoint().unwrap();
            ledger.retain(&keep(60_000), u64::MAX).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        proving.join().unwrap();
    });
    assert!(ledger.kept_from() > 3_000);
}

/// What was dropped and is put back (by a backup, by whoever wants it to be believed) is not read as
/// the log's, does not make the log look damaged, and goes.
#[test]
fn segments_of_dropped_leaves_that_are_put_back_are_no_part_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = six_segments(dir.path());
    let dropped = tempfile::tempdir().unwrap();
    crate::support::copy(dir.path(), dropped.path());
    ledger.retain(&NOTHING, u64::MAX).unwrap();
    let (kept_from, size) = (ledger.kept_from(), ledger.size());
    let remains = fs::read(dir.path().join("entries/0000000000000000.tree")).unwrap();
    let gone: Vec<_> = segments(dropped.path());
    let gone: Vec<_> = gone
        .iter()
        .filter(|path| first_of(path) < kept_from)
        .collect();
    assert!(gone.len() > 3);
    let put_back = |which: &[usize], altered: bool| {
        for &which in which {
            let mut bytes = fs::read(gone[which]).unwrap();
            if altered {
                let at = bytes.len() - 50;
                bytes[at] ^= 1;
            }
            let to = dir
                .path()
                .join("entries")
                .join(gone[which].file_name().unwrap());
            fs::write(to, bytes).unwrap();
        }
    };
    let check = |put_back: &dyn Fn()| {
        put_back();
        let report = verify(dir.path()).unwrap();
        assert_eq!((report.kept_from(), report.gaps.len()), (kept_from, 1));
        // Also where the index has to be built anew.
        let copied = tempfile::tempdir().unwrap();
        crate::support::copy(dir.path(), copied.path());
        fs::remove_file(copied.path().join("index.redb")).unwrap();
        let (mut ledger, _) = Ledger::open(copied.path(), &few_leaves(HashKind::Blake3)).unwrap();
        grow(&mut ledger, size + 3, 1);
        ledger.checkpoint().unwrap();
        assert_eq!(first_of(&segments(copied.path())[0]), kept_from);
        all_is_provable(&mut ledger, &[]);
        drop(ledger);
        assert_eq!(verify(copied.path()).unwrap().kept_from(), kept_from);
        for path in segments(dir.path())
            .iter()
            .filter(|path| first_of(path) < kept_from)
        {
            fs::remove_file(path).unwrap();
        }
    };
    let all: Vec<usize> = (0..gone.len()).collect();
    check(&|| put_back(&all, false));
    check(&|| put_back(&all, true));
    check(&|| put_back(&[0], false));
    check(&|| put_back(&[1], true));
    check(&|| put_back(&[gone.len() - 1], false));

    // A running writer does not count them, nor states anew what it stated; it takes them away.
    put_back(&[0, 1], false);
    assert!(ledger.expired(&NOTHING, u64::MAX).unwrap().is_none());
    let kept = fs::read(dir.path().join("entries/0000000000000000.tree")).unwrap();
    assert_eq!(kept, remains);
    grow(&mut ledger, size + 3, 1);
    ledger.checkpoint().unwrap();
    assert_eq!(first_of(&segments(dir.path())[0]), kept_from);
    drop(ledger);
    verify(dir.path()).unwrap();
}
