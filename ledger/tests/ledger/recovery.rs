use std::fs;
use std::path::Path;

use ledger::segment::{Frame, Header};
use ledger::{Cause, Error, IndexRecovery, IndexStatus, Ledger, Options};

use crate::start::flip_byte;
use crate::support::{
    chained, copy, grow, last_segment, leaf, open, options, recovered, segments, small_segments,
    verify,
};

/// Cuts a copy of `from` to `len` bytes in its last segment and opens it.
fn cut_and_open(from: &Path, len: u64) -> (tempfile::TempDir, Ledger, ledger::Recovery) {
    let dir = tempfile::tempdir().unwrap();
    copy(from, dir.path());
    let file = last_segment(dir.path());
    fs::OpenOptions::new()
        .write(true)
        .open(file)
        .unwrap()
        .set_len(len)
        .unwrap();
    let (ledger, recovery) = Ledger::open(dir.path(), &options()).unwrap();
    (dir, ledger, recovery)
}

#[test]
fn a_torn_tail_is_cut_wherever_it_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 5);
    ledger.checkpoint().unwrap();
    let sealed = fs::metadata(last_segment(dir.path())).unwrap().len();
    grow(&mut ledger, 8, 3);
    drop(ledger);
    let full = fs::metadata(last_segment(dir.path())).unwrap().len();
    let mut ends = vec![sealed];
    for index in 5..8 {
        let frame = leaf(index).len() + Frame::OVERHEAD;
        ends.push(ends.last().unwrap() + frame as u64);
    }
    assert_eq!(ends.last(), Some(&full));
    for len in sealed..=full {
        let whole = ends.iter().filter(|&&end| end <= len).count() as u64 - 1;
        let (dir, mut ledger, recovery) = cut_and_open(dir.path(), len);
        assert_eq!(recovery.entries, 5 + whole, "cut at {len}");
        let kept = ends[usize::try_from(whole).unwrap()];
        assert_eq!(recovery.cut_bytes, len - kept);
        assert_eq!(recovery.replayed, whole);
        grow(&mut ledger, 12, 2);
        ledger.close().unwrap();
        let report = verify(dir.path()).unwrap();
        assert_eq!(
            (report.entries, report.unsealed(), report.torn),
            (12, 0, None)
        );
    }
}

#[test]
fn a_tail_of_zeros_or_garbage_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 5);
    drop(ledger);
    let file = last_segment(dir.path());
    let sound = fs::read(&file).unwrap();
    for tail in [vec![0; 5000], vec![0xff; 39], vec![0x80; 100_000]] {
        fs::write(&file, [&sound[..], &tail].concat()).unwrap();
        let torn = verify(dir.path()).unwrap().torn.unwrap();
        assert_eq!(
            (torn.offset, torn.bytes),
            (sound.len() as u64, tail.len() as u64)
        );
        assert_eq!(recovered(dir.path()).cut_bytes, tail.len() as u64);
        assert_eq!(fs::read(&file).unwrap(), sound);
    }
}

#[test]
fn a_batch_torn_in_its_middle_is_cut_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 5);
    let durable = fs::metadata(last_segment(dir.path())).unwrap().len();
    grow(&mut ledger, 50, 1000);
    drop(ledger);
    // Pages of one write reach the disk in any order: a hole, then sound entries.
    let file = last_segment(dir.path());
    let mut bytes = fs::read(&file).unwrap();
    let hole = usize::try_from(durable).unwrap();
    bytes[hole..hole + 500].fill(0);
    fs::write(&file, &bytes).unwrap();
    let recovery = recovered(dir.path());
    assert_eq!(
        (recovery.entries, recovery.cut_bytes),
        (5, bytes.len() as u64 - durable)
    );
}

#[test]
fn the_index_is_rebuilt_when_missing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(dir.path(), &small_segments()).unwrap();
    for size in [300, 513, 700, 2000] {
        grow(&mut ledger, size, 64);
        ledger.checkpoint().unwrap();
    }
    let root = ledger.root();
    drop(ledger);
    fs::remove_file(dir.path().join("index.redb")).unwrap();
    let recovery = recovered(dir.path());
    assert_eq!(
        recovery.index,
        IndexRecovery::Rebuilt {
            reason: "it was missing".into()
        }
    );
    assert_eq!((recovery.entries, recovery.sealed), (2000, 2000));
    let ledger = open(dir.path());
    assert_eq!(ledger.root(), root);
    ledger.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().index, IndexStatus::Agrees);
}

#[test]
fn the_index_is_rebuilt_when_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 2000, 100);
    ledger.checkpoint().unwrap();
    grow(&mut ledger, 2010, 100);
    ledger.close().unwrap();
    let sound = fs::read(dir.path().join("index.redb")).unwrap();
    let check = |bytes: &[u8], what: &str| {
        let work = tempfile::tempdir().unwrap();
        copy(dir.path(), work.path());
        fs::write(work.path().join("index.redb"), bytes).unwrap();
        let (mut ledger, recovery) = Ledger::open(work.path(), &options()).unwrap();
        assert_eq!(recovery.entries, 2010, "{what}");
        ledger
            .prove(7, None)
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        grow(&mut ledger, 2600, 100);
        ledger.set_cursor("agent", 1);
        ledger.close().unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(
            verify(work.path()).unwrap().index,
            IndexStatus::Agrees,
            "{what}"
        );
        recovery
    };
    for bytes in [
        &b""[..],
        b"not a database",
        &sound[..4096],
        &vec![0; sound.len()],
    ] {
        let recovery = check(bytes, "whole");
        assert!(
            matches!(recovery.index, IndexRecovery::Rebuilt { .. }),
            "{recovery:?}"
        );
    }
    // Wherever it is damaged, the ledger opens, by rebuilding where it matters.
    let (mut damaged, mut rebuilt) = (0, 0);
    for at in (0..sound.len()).step_by(2048) {
        if sound[at..at + 64].iter().all(|&byte| byte == 0) {
            continue;
        }
        damaged += 1;
        let mut bytes = sound.clone();
        bytes[at..at + 64].iter_mut().for_each(|byte| *byte ^= 0x5a);
        let recovery = check(&bytes, &format!("page at {at}"));
        rebuilt += usize::from(recovery.index != IndexRecovery::Sound);
    }
    assert!(rebuilt > 0);
    eprintln!("{rebuilt} of {damaged} damaged indexes were rebuilt");
}

#[test]
fn a_torn_checkpoint_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 5);
    ledger.checkpoint().unwrap();
    let before = fs::read(dir.path().join("checkpoints.txt")).unwrap();
    let last = fs::read(dir.path().join("last-checkpoint")).unwrap();
    drop(ledger);
    let work = tempfile::tempdir().unwrap();
    copy(dir.path(), work.path());
    let mut ledger = open(work.path());
    grow(&mut ledger, 9, 4);
    ledger.checkpoint().unwrap();
    drop(ledger);
    let after = fs::read(work.path().join("checkpoints.txt")).unwrap();
    assert!(after.starts_with(&before));
    let lens = before.len()..=after.len();
    for len in lens.step_by(11).chain([after.len() - 1, after.len()]) {
        // As if killed while it was appended: the last checkpoint is still the one before.
        fs::write(work.path().join("checkpoints.txt"), &after[..len]).unwrap();
        fs::write(work.path().join("last-checkpoint"), &last).unwrap();
        fs::remove_file(work.path().join("index.redb")).unwrap();
        let torn = len != before.len() && len != after.len();
        assert_eq!(verify(work.path()).unwrap().torn_checkpoint, torn);
        let recovery = recovered(work.path());
        let cut = if torn { len - before.len() } else { 0 };
        assert_eq!(recovery.cut_checkpoint_bytes, cut as u64);
        assert_eq!(recovery.sealed, if len == after.len() { 9 } else { 5 });
        let newest = fs::read(work.path().join("last-checkpoint")).unwrap();
        assert_eq!(newest == last, len != after.len());
        verify(work.path()).unwrap();
    }
}

#[test]
fn what_a_crash_during_creation_left_is_completed() {
    let order = [
        "ledger.pub",
        "checkpoints.txt",
        "last-checkpoint",
        "entries",
        "index.redb",
    ];
    for missing in order {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        // In the order of creation, nothing after the missing one was there.
        let from = order.iter().position(|&name| name == missing).unwrap();
        for name in &order[from..] {
            let path = dir.path().join(name);
            let _ = if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            };
        }
        let mut ledger = open(dir.path());
        grow(&mut ledger, 3, 3);
        ledger.close().unwrap();
        let report = verify(dir.path()).unwrap();
        assert_eq!((report.entries, report.checkpoints), (3, 2), "{missing}");
    }
}

/// A leaf held bytes that passed for a commit, and a torn write before them for damage: the log
/// did not open again.
#[test]
fn a_leaf_cannot_pass_for_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 5);
    let durable = fs::metadata(last_segment(dir.path())).unwrap().len();
    // What stands before a frame is the leaf's own, so its chain value can be computed.
    let before = [1; 32];
    let chain = chained(before, b"");
    let forge = |nonce| {
        let mut forged = before.to_vec();
        let frame = Frame {
            leaf: b"",
            chain,
            starts_commit: true,
        };
        frame.encode(nonce, &mut forged);
        forged
    };
    ledger.append(b"torn").unwrap();
    ledger.append(&forge([0; 8])).unwrap();
    ledger.commit().unwrap();
    drop(ledger);
    let file = last_segment(dir.path());
    let mut bytes = fs::read(&file).unwrap();
    bytes[usize::try_from(durable).unwrap() + 8] ^= 1;
    let nonce = Header::decode(&bytes).unwrap().nonce;
    // With the nonce it would, which only whoever reads the file knows.
    let known = [&bytes[..], &forge(nonce)].concat();
    fs::write(&file, known).unwrap();
    assert!(Ledger::open(dir.path(), &options()).is_err());
    fs::write(&file, &bytes).unwrap();
    let recovery = recovered(dir.path());
    let cut = bytes.len() as u64 - durable;
    assert_eq!((recovery.entries, recovery.cut_bytes), (5, cut));
}

#[test]
fn segments_have_nonces_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(dir.path(), &small_segments()).unwrap();
    grow(&mut ledger, 30, 3);
    let files = segments(dir.path());
    let nonce = |file| Header::decode(&fs::read(file).unwrap()).unwrap().nonce;
    let nonces: std::collections::BTreeSet<_> = files.iter().map(nonce).collect();
    assert!(files.len() > 2 && nonces.len() == files.len());
}

#[test]
fn unsealed_leaves_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 5);
    ledger.checkpoint().unwrap();
    grow(&mut ledger, 12, 7);
    drop(ledger);
    let recovery = recovered(dir.path());
    assert_eq!((recovery.sealed, recovery.unsealed), (5, 7));
    assert!(!recovery.is_clean());
    open(dir.path()).close().unwrap();
    let recovery = recovered(dir.path());
    assert!(recovery.unsealed == 0 && recovery.is_clean());
}

#[test]
fn a_log_whose_segments_are_gone_is_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 3, 3);
    ledger.close().unwrap();
    for also in ["", "last-checkpoint"] {
        let _ = fs::remove_file(dir.path().join(also));
        fs::remove_dir_all(dir.path().join("entries")).unwrap();
        let refused = Ledger::open(dir.path(), &options());
        let Err(Error::RolledBack {
            log_size: 0,
            checkpoint_size: 3,
        }) = refused
        else {
            panic!("{also}: {refused:?}");
        };
    }
}

/// Opened twice with nothing in its last segment, a log was refused: the index said that the next
/// leaf goes there, and the segment before it ended elsewhere.
#[test]
fn an_empty_last_segment_is_where_the_log_ends() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 1,
        ..options()
    };
    let (mut ledger, _) = Ledger::open(dir.path(), &options).unwrap();
    grow(&mut ledger, 3, 1);
    // Begins a segment, and is never written to it.
    ledger.append(b"pending").unwrap();
    drop(ledger);
    assert_eq!(fs::metadata(last_segment(dir.path())).unwrap().len(), 96);
    for replayed in [3, 0, 0] {
        assert_eq!(recovered(dir.path()).replayed, replayed);
    }
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 1);
    ledger.close().unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.entries, report.index), (5, IndexStatus::Agrees));
}

/// `verify` took it for the torn end of a write and the log for intact, while no writer went on with it.
#[test]
fn a_bad_leaf_that_the_index_covers_is_damage_to_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 5);
    drop(ledger);
    // The index is brought up to what nobody signed for yet.
    drop(open(dir.path()));
    let segment = last_segment(dir.path());
    let end = fs::metadata(&segment).unwrap().len();
    flip_byte(&segment, end - 1);
    let verified = verify(dir.path()).map(drop);
    let opened = Ledger::open(dir.path(), &options()).map(drop);
    for found in [verified, opened] {
        let Err(Error::Damaged(damage)) = found else {
            panic!("{found:?}");
        };
        assert_eq!((damage.leaves, damage.cause), (4..5, Cause::Chain));
    }
    assert_eq!(fs::metadata(&segment).unwrap().len(), end);
}
