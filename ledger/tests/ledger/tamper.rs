//! Whatever is changed behind the ledger's back is found, and named.

use std::fs;
use std::path::{Path, PathBuf};

use ledger::segment::{Frame, Header};
use ledger::{Cause, Damage, Error, HashKind, IndexStatus, Ledger, Options};

use crate::support::{
    chained, copy, damage, grow, leaf, open, options, recovered, segments, small_segments, verify,
    write_secret,
};

/// Ten leaves in two segments, sealed at 4 and at 10. Without its index, which `verify` reports on
/// but does not hold against the log.
fn sealed_log(dir: &Path) {
    let (mut ledger, _) = Ledger::open(dir, &small_segments()).unwrap();
    grow(&mut ledger, 4, 2);
    ledger.checkpoint().unwrap();
    grow(&mut ledger, 10, 3);
    ledger.close().unwrap();
    fs::remove_file(dir.join("index.redb")).unwrap();
    assert_eq!(segments(dir).len(), 2);
    verify(dir).unwrap();
}

/// Every leaf, with the bytes of its frame in the segment.
pub(crate) fn frames(segment: &[u8]) -> Vec<std::ops::Range<usize>> {
    let nonce = Header::decode(segment).unwrap().nonce;
    let mut at = Header::LEN;
    let mut frames = Vec::new();
    while at < segment.len() {
        let len = Frame::decode(nonce, &segment[at..]).unwrap().leaf.len() + Frame::OVERHEAD;
        frames.push(at..at + len);
        at += len;
    }
    frames
}

/// Flips bits of each byte in turn and shows what `verify` makes of it.
fn flip_each_byte(dir: &Path, file: &Path, mut check: impl FnMut(usize, Damage)) {
    let sound = fs::read(file).unwrap();
    // In text also the bit that tells upper from lower case.
    let is_text = std::str::from_utf8(&sound).is_ok();
    for at in 0..sound.len() {
        for bits in [1 << (at % 8), 0x20]
            .into_iter()
            .take(1 + usize::from(is_text))
        {
            let mut bytes = sound.clone();
            bytes[at] ^= bits;
            fs::write(file, &bytes).unwrap();
            check(at, damage(dir));
        }
    }
    fs::write(file, sound).unwrap();
    verify(dir).unwrap();
}

#[test]
fn a_flipped_byte_of_a_segment_names_its_leaf() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 200,
        ..options()
    };
    let (mut ledger, _) = Ledger::open(dir.path(), &options).unwrap();
    grow(&mut ledger, 3, 2);
    ledger.checkpoint().unwrap();
    grow(&mut ledger, 5, 2);
    ledger.close().unwrap();
    fs::remove_file(dir.path().join("index.redb")).unwrap();
    assert_eq!(segments(dir.path()).len(), 2);
    let mut first = 0;
    for file in segments(dir.path()) {
        let frames = frames(&fs::read(&file).unwrap());
        flip_each_byte(dir.path(), &file, |at, damage| {
            let frame = frames
                .iter()
                .position(|frame| frame.contains(&at))
                .unwrap_or(0) as u64;
            let leaf = first + frame;
            assert_eq!(
                damage.leaves,
                leaf..leaf + 1,
                "byte {at} of {}: {damage}",
                file.display()
            );
            assert_eq!(damage.file, file);
        });
        first += frames.len() as u64;
    }
    assert_eq!(first, 5);
}

#[test]
fn a_flipped_byte_of_a_checkpoint_names_its_line() {
    let dir = tempfile::tempdir().unwrap();
    sealed_log(dir.path());
    let file = dir.path().join("checkpoints.txt");
    let text = fs::read_to_string(&file).unwrap();
    let second = text.find("daemoneye/test\n4\n").unwrap();
    let third = text.find("daemoneye/test\n10\n").unwrap();
    flip_each_byte(dir.path(), &file, |at, damage| {
        assert_eq!(damage.file, file, "byte {at}");
        match damage.cause {
            // A flip that hides where a record ends shows in that record.
            Cause::Checkpoint { line: 1, .. } => assert!(at < second + 3, "byte {at}: {damage}"),
            Cause::Checkpoint { line: 8, .. } => {
                assert!(at > second - 3 && at < third + 3, "byte {at}: {damage}");
            }
            Cause::Checkpoint { line: 15, .. } => assert!(at > third - 3, "byte {at}: {damage}"),
            // The very last newline: the record is then torn, but the last checkpoint knows of it.
            Cause::Unlisted { size: 10 } => assert!(at > third, "byte {at}: {damage}"),
            _ => panic!("byte {at}: {damage}"),
        }
    });
}

#[test]
fn a_flipped_byte_of_the_last_checkpoint_or_public_key_is_found() {
    let dir = tempfile::tempdir().unwrap();
    sealed_log(dir.path());
    for name in ["last-checkpoint", "ledger.pub"] {
        let file = dir.path().join(name);
        flip_each_byte(dir.path(), &file, |at, damage| {
            assert_eq!(damage.file, file, "byte {at}: {damage}");
        });
    }
}

#[test]
fn a_flipped_byte_of_the_secret_key_stops_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    sealed_log(dir.path());
    let file = dir.path().join("ledger.key");
    let sound = fs::read(&file).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&file, &bytes).unwrap();
        let refused = Ledger::open(dir.path(), &options());
        let Err(Error::Key { path, .. }) = refused else {
            panic!("byte {at}: {refused:?}");
        };
        assert_eq!(path, file);
    }
    fs::remove_file(&file).unwrap();
    let refused = Ledger::open(dir.path(), &options());
    assert!(matches!(refused, Err(Error::Key { .. })), "{refused:?}");
    write_secret(&file, sound);
    open(dir.path());
}

/// Changes the order of a segment's frames, as they are.
pub(crate) fn reorder(file: &Path, order: impl Fn(&mut Vec<Vec<u8>>)) {
    let bytes = fs::read(file).unwrap();
    let frames = frames(&bytes).into_iter();
    let mut frames: Vec<Vec<u8>> = frames.map(|frame| bytes[frame].to_vec()).collect();
    order(&mut frames);
    frames.insert(0, bytes[..Header::LEN].to_vec());
    fs::write(file, frames.concat()).unwrap();
}

/// Rewrites the log's first segment from `leaves`, every checksum and chain value recomputed, as
/// someone with this crate and no key can.
pub(crate) fn rewrite(file: &Path, mut edit: impl FnMut(u64, Vec<u8>) -> Vec<u8>) {
    let bytes = fs::read(file).unwrap();
    let header = Header::decode(&bytes).unwrap();
    let mut out = header.encode().to_vec();
    let mut chain = header.chain;
    for (index, frame) in (header.first..).zip(frames(&bytes)) {
        let frame = Frame::decode(header.nonce, &bytes[frame]).unwrap();
        let leaf = edit(index, frame.leaf.to_vec());
        chain = chained(chain.0, &leaf);
        Frame {
            leaf: &leaf,
            chain,
            starts_commit: frame.starts_commit,
        }
        .encode(header.nonce, &mut out);
    }
    fs::write(file, out).unwrap();
}

#[test]
fn an_edit_with_all_checksums_and_chain_recomputed_names_the_sealed_range() {
    for edited in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path());
        grow(&mut ledger, 4, 2);
        ledger.checkpoint().unwrap();
        grow(&mut ledger, 10, 3);
        ledger.close().unwrap();
        let file = segments(dir.path()).remove(0);
        rewrite(&file, |_, leaf| leaf);
        verify(dir.path()).unwrap();
        rewrite(&file, |index, leaf| {
            if index == edited {
                b"forged".to_vec()
            } else {
                leaf
            }
        });
        let damage = damage(dir.path());
        let (range, size) = if edited < 4 { (0..4, 4) } else { (4..10, 10) };
        assert_eq!((damage.leaves, damage.cause), (range, Cause::Root { size }));
        // Without the index, the writer holds the log against its last checkpoint too.
        fs::remove_file(dir.path().join("index.redb")).unwrap();
        let refused = Ledger::open(dir.path(), &options());
        let Err(Error::RolledBack {
            log_size: 10,
            checkpoint_size: 10,
        }) = refused
        else {
            panic!("{refused:?}");
        };
    }
}

/// What `verify` finds after `change` was made to a sealed log.
fn after(change: impl Fn(&Path)) -> Damage {
    let dir = tempfile::tempdir().unwrap();
    sealed_log(dir.path());
    change(dir.path());
    let opened = Ledger::open(dir.path(), &options());
    assert!(opened.is_err(), "the writer opened it");
    let mut damage = damage(dir.path());
    damage.file = damage.file.strip_prefix(dir.path()).unwrap().into();
    damage
}

fn segment(number: usize) -> impl Fn(&Path) -> PathBuf {
    move |dir| segments(dir).remove(number)
}

#[test]
fn missing_renamed_and_cut_segments_are_found() {
    let (first, second) = (segment(0), segment(1));
    let gone = after(|dir| fs::remove_file(first(dir)).unwrap());
    assert_eq!((gone.leaves.start, gone.cause), (0, Cause::Missing));
    assert_eq!(gone.file, Path::new("entries/0000000000000000.seg"));

    let gone = after(|dir| fs::remove_file(second(dir)).unwrap());
    assert_eq!((gone.leaves.end, gone.cause), (10, Cause::Truncated));

    let renamed = |dir: &Path| dir.join("entries").join("00000000000000ff.seg");
    let moved = after(|dir| fs::rename(second(dir), renamed(dir)).unwrap());
    assert_eq!((moved.leaves.end, moved.cause), (0xff, Cause::Missing));

    let swapped = after(|dir| {
        let (first, second) = (first(dir), second(dir));
        let bytes = (fs::read(&first).unwrap(), fs::read(&second).unwrap());
        fs::write(first, bytes.1).unwrap();
        fs::write(second, bytes.0).unwrap();
    });
    assert!(matches!(swapped.cause, Cause::Header(_)), "{swapped}");

    for number in [0, 1] {
        let file = segment(number);
        let dir = tempfile::tempdir().unwrap();
        sealed_log(dir.path());
        let len = fs::metadata(file(dir.path())).unwrap().len();
        for cut in (0..len).step_by(41) {
            let found = after(|dir| {
                fs::OpenOptions::new()
                    .write(true)
                    .open(file(dir))
                    .unwrap()
                    .set_len(cut)
                    .unwrap();
            });
            let expected = matches!(found.cause, Cause::Truncated | Cause::Missing);
            assert!(expected, "segment {number} cut at {cut}: {found}");
        }
    }
}

#[test]
fn swapped_repeated_and_removed_entries_are_found() {
    let file = segment(0);
    let edit = |order: &dyn Fn(&mut Vec<Vec<u8>>)| after(|dir| reorder(&file(dir), order));
    let swapped = edit(&|entries| entries.swap(1, 2));
    assert_eq!((swapped.leaves, swapped.cause), (1..2, Cause::Chain));
    let repeated = edit(&|entries| entries.insert(2, entries[1].clone()));
    assert_eq!((repeated.leaves, repeated.cause), (2..3, Cause::Chain));
    let removed = edit(&|entries| drop(entries.remove(3)));
    assert_eq!((removed.leaves, removed.cause), (3..4, Cause::Chain));
}

#[test]
fn missing_and_reordered_checkpoints_are_found() {
    let file = |dir: &Path| dir.join("checkpoints.txt");
    let halves = |dir: &Path| {
        let text = fs::read_to_string(file(dir)).unwrap();
        let at = text.rfind("daemoneye/test\n10\n").unwrap();
        (text[..at].to_owned(), text[at..].to_owned())
    };
    let gone = after(|dir| fs::remove_file(file(dir)).unwrap());
    assert_eq!(
        (gone.file.to_str(), gone.cause),
        (Some("checkpoints.txt"), Cause::Missing)
    );
    let cut = after(|dir| fs::write(file(dir), halves(dir).0).unwrap());
    assert_eq!(cut.cause, Cause::Unlisted { size: 10 });
    let emptied = after(|dir| fs::write(file(dir), "").unwrap());
    assert_eq!(emptied.cause, Cause::Unlisted { size: 10 });
    let last = |dir: &Path| dir.join("last-checkpoint");
    let unkept = after(|dir| fs::remove_file(last(dir)).unwrap());
    assert_eq!(
        (unkept.file.to_str(), unkept.cause),
        (Some("last-checkpoint"), Cause::Missing)
    );

    let dir = tempfile::tempdir().unwrap();
    sealed_log(dir.path());
    let (first, second) = halves(dir.path());
    fs::write(file(dir.path()), second + &first).unwrap();
    assert_eq!(damage(dir.path()).cause, Cause::Order { line: 8, size: 0 });
}

#[test]
fn checkpoints_of_another_log_do_not_pass() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sealed_log(ours.path());
    sealed_log(theirs.path());
    let keys = fs::read_to_string(theirs.path().join("ledger.pub")).unwrap();
    let keys = ledger::PublicKeys::parse(&keys).unwrap();
    let options = ledger::VerifyOptions {
        keys: Some(keys),
        ..Default::default()
    };
    assert!(matches!(
        ledger::verify(ours.path(), options),
        Err(Error::Damaged(_))
    ));
    for name in ["checkpoints.txt", "last-checkpoint", "ledger.pub"] {
        let sound = fs::read(ours.path().join(name)).unwrap();
        fs::copy(theirs.path().join(name), ours.path().join(name)).unwrap();
        damage(ours.path());
        fs::write(ours.path().join(name), sound).unwrap();
    }
}

#[test]
fn an_older_copy_of_the_log_is_seen_as_rolled_back() {
    let (dir, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut ledger = open(dir.path());
    grow(&mut ledger, 600, 100);
    ledger.close().unwrap();
    copy(dir.path(), older.path());
    let own = fs::read(dir.path().join("last-checkpoint")).unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 900, 100);
    ledger.close().unwrap();
    // The disk is restored; the last checkpoint was kept apart.
    fs::copy(
        dir.path().join("last-checkpoint"),
        older.path().join("last-checkpoint"),
    )
    .unwrap();
    for _ in 0..2 {
        let refused = Ledger::open(older.path(), &options());
        let Err(Error::RolledBack {
            log_size: 600,
            checkpoint_size: 900,
        }) = refused
        else {
            panic!("{refused:?}");
        };
        // Also without an index; and what is there stays there.
        fs::remove_file(older.path().join("index.redb")).unwrap();
    }
    assert_eq!(damage(older.path()).cause, Cause::Unlisted { size: 900 });
    // The restored log has grown since, past the checkpoint: the root tells.
    fs::copy(
        dir.path().join("ledger.pub"),
        older.path().join("ledger.pub"),
    )
    .unwrap();
    fs::write(older.path().join("last-checkpoint"), own).unwrap();
    let mut ledger = open(older.path());
    for _ in 0..400 {
        ledger.append(b"other").unwrap();
    }
    ledger.close().unwrap();
    fs::copy(
        dir.path().join("last-checkpoint"),
        older.path().join("last-checkpoint"),
    )
    .unwrap();
    let refused = Ledger::open(older.path(), &options());
    let Err(Error::RolledBack {
        log_size: 1000,
        checkpoint_size: 900,
    }) = refused
    else {
        panic!("{refused:?}");
    };
}

#[test]
fn damage_in_an_unsealed_commit_is_no_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 30, 10);
    drop(ledger);
    fs::remove_file(dir.path().join("index.redb")).unwrap();
    let file = segments(dir.path()).remove(0);
    let sound = fs::read(&file).unwrap();
    for (index, frame) in (0..).zip(frames(&sound)) {
        for at in [frame.start, frame.start + 5, frame.start + 9, frame.end - 1] {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x04;
            fs::write(&file, &bytes).unwrap();
            if index < 20 {
                let damage = damage(dir.path());
                assert_eq!(damage.leaves, index..index + 1, "byte {at}");
                let refused = Ledger::open(dir.path(), &options());
                assert!(matches!(refused, Err(Error::Damaged(_))), "{refused:?}");
                assert_eq!(fs::read(&file).unwrap(), bytes, "changed what it refused");
            } else {
                // Only the last commit can be torn, and this is in it.
                let torn = verify(dir.path()).unwrap().torn.unwrap();
                assert_eq!(torn.offset, frame.start as u64);
            }
        }
    }
}

#[test]
fn what_the_index_covers_is_no_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 30, 30);
    drop(ledger);
    // This start writes the index.
    assert_eq!(recovered(dir.path()).replayed, 30);
    let file = segments(dir.path()).remove(0);
    let sound = fs::read(&file).unwrap();
    let last = frames(&sound).pop().unwrap();
    fs::write(&file, &sound[..last.end - 1]).unwrap();
    let Err(Error::Damaged(damage)) = Ledger::open(dir.path(), &options()) else {
        panic!("cut silently");
    };
    assert_eq!((damage.leaves, damage.cause), (29..30, Cause::Truncated));
    fs::write(&file, &sound[..last.start]).unwrap();
    let Err(Error::Damaged(damage)) = Ledger::open(dir.path(), &options()) else {
        panic!("accepted");
    };
    assert_eq!((damage.leaves, damage.cause), (29..30, Cause::Truncated));
}

#[test]
fn an_index_of_other_leaves_is_reported() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sha256 = Options {
        hash: HashKind::Sha256,
        ..options()
    };
    let mut ledger = Ledger::open(ours.path(), &sha256).unwrap().0;
    grow(&mut ledger, 1000, 100);
    ledger.close().unwrap();
    assert_eq!(verify(ours.path()).unwrap().index, IndexStatus::Agrees);
    copy(ours.path(), theirs.path());
    let mut ledger = open(theirs.path());
    ledger.append(&leaf(1000)).unwrap();
    ledger.close().unwrap();
    fs::copy(
        theirs.path().join("index.redb"),
        ours.path().join("index.redb"),
    )
    .unwrap();
    assert!(matches!(
        verify(ours.path()).unwrap().index,
        IndexStatus::Bad(_)
    ));
}

/// A log of 300 leaves sealed at 4, 100, 200 and 300, taken back by someone without the key: the
/// checkpoints after the one of 4 leaves are gone, and so is the index; leaf 50 is another, with
/// all checksums and the chain recomputed. With it the checkpoints that were kept elsewhere.
fn taken_back() -> (tempfile::TempDir, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let mut kept = Vec::new();
    for size in [4, 100, 200, 300] {
        grow(&mut ledger, size, 10);
        kept.push(ledger.checkpoint().unwrap().note().to_owned());
    }
    ledger.close().unwrap();
    let file = dir.path().join("checkpoints.txt");
    let text = fs::read_to_string(&file).unwrap();
    let cut = text.find("daemoneye/test\n100\n").unwrap();
    fs::write(&file, &text[..cut]).unwrap();
    fs::write(dir.path().join("last-checkpoint"), &kept[0]).unwrap();
    fs::remove_file(dir.path().join("index.redb")).unwrap();
    rewrite(&segments(dir.path())[0], |index, leaf| match index {
        50 => b"forged".to_vec(),
        _ => leaf,
    });
    (dir, kept)
}

fn verify_with(dir: &Path, checkpoint: &str) -> Result<ledger::Report, Error> {
    let options = ledger::VerifyOptions {
        checkpoint: Some(checkpoint.to_owned()),
        ..Default::default()
    };
    ledger::verify(dir, options)
}

#[test]
fn a_log_taken_back_is_found_by_a_checkpoint_kept_elsewhere() {
    let (dir, kept) = taken_back();
    // Nothing in the directory tells; what is signed for, and what is not, is said.
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.sealed, report.unsealed()), (4, 296));
    assert_eq!(report.outside, None);
    for (note, size) in kept[1..].iter().zip([100, 200, 300]) {
        let found = verify_with(dir.path(), note);
        let Err(Error::HistoryRewritten { checkpoint_size }) = found else {
            panic!("{found:?}");
        };
        assert_eq!(checkpoint_size, size);
    }
    let report = verify_with(dir.path(), &kept[0]).unwrap();
    assert_eq!(report.outside.unwrap().size(), 4);
    assert_eq!(recovered(dir.path()).unsealed, 296);
}

#[test]
fn a_log_cut_at_a_commit_is_found_by_a_checkpoint_kept_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 10, 10);
    ledger.checkpoint().unwrap();
    let older = tempfile::tempdir().unwrap();
    copy(dir.path(), older.path());
    grow(&mut ledger, 1000, 10);
    let kept = ledger.close().unwrap().note().to_owned();
    assert_eq!(verify_with(dir.path(), &kept).unwrap().sealed, 1000);
    verify(older.path()).unwrap();
    let found = verify_with(older.path(), &kept);
    let Err(Error::HistoryTruncated {
        log_size: 10,
        checkpoint_size: 1000,
    }) = found
    else {
        panic!("{found:?}");
    };
    // All leaves are there, but no longer that they were signed for.
    for name in ["checkpoints.txt", "last-checkpoint"] {
        fs::copy(older.path().join(name), dir.path().join(name)).unwrap();
    }
    fs::remove_file(dir.path().join("index.redb")).unwrap();
    let found = verify_with(dir.path(), &kept);
    let Err(Error::Damaged(damage)) = found else {
        panic!("{found:?}");
    };
    assert_eq!(damage.cause, Cause::Unlisted { size: 1000 });
}

#[test]
fn an_outside_checkpoint_of_another_key_is_refused() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sealed_log(ours.path());
    sealed_log(theirs.path());
    let note = fs::read_to_string(theirs.path().join("last-checkpoint")).unwrap();
    let refused = verify_with(ours.path(), &note);
    assert!(
        matches!(refused, Err(Error::UnknownKey { .. })),
        "{refused:?}"
    );
    for note in [&note.replace("daemoneye/", "other/"), "not a note"] {
        let refused = verify_with(ours.path(), note);
        assert!(
            matches!(refused, Err(Error::OutsideCheckpoint { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn a_log_without_any_checkpoint_is_damaged() {
    let (dir, _) = taken_back();
    let files = ["checkpoints.txt", "last-checkpoint"].map(|name| dir.path().join(name));
    for remove in [vec![0], vec![1], vec![0, 1]] {
        let kept = files.each_ref().map(|file| fs::read(file).unwrap());
        for &file in &remove {
            fs::remove_file(&files[file]).unwrap();
        }
        assert_eq!(damage(dir.path()).cause, Cause::Missing, "{remove:?}");
        let Err(Error::Damaged(refused)) = Ledger::open(dir.path(), &options()) else {
            panic!("the writer opened it without {remove:?}");
        };
        assert_eq!(refused.cause, Cause::Missing, "{remove:?}");
        for (file, bytes) in files.iter().zip(kept) {
            fs::write(file, bytes).unwrap();
        }
    }
    // Neither is an empty one.
    fs::write(&files[0], "").unwrap();
    assert_eq!(damage(dir.path()).cause, Cause::Unlisted { size: 4 });
    assert!(Ledger::open(dir.path(), &options()).is_err());
}
