//! Epochs of keys: what each may sign, and that a rotation survives being cut short.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ledger::{
    Cause, Checkpoint, Error, Ledger, NoteError, PublicKeys, Reader, RotationRecovery,
    TlogProofError, VerifyOptions,
};

use crate::support::{copy, damage, grow, leaf, open, options, verify, write_secret};

/// Epoch 0 to 5 leaves, epoch 1 to 9, epoch 2 to 12; closed.
fn three_epochs(dir: &Path) -> PublicKeys {
    let mut ledger = open(dir);
    grow(&mut ledger, 5, 2);
    assert_eq!(ledger.rotate().unwrap(), 5);
    grow(&mut ledger, 9, 2);
    assert_eq!(ledger.rotate().unwrap(), 9);
    grow(&mut ledger, 12, 2);
    let keys = ledger.public_keys().clone();
    ledger.close().unwrap();
    keys
}

fn refused(dir: &Path) -> Error {
    match Ledger::open(dir, &options()) {
        Err(error) => error,
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn a_rotated_log_verifies_proves_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let keys = three_epochs(dir.path());
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.entries, report.sealed), (12, 12));
    assert_eq!(report.keys, keys);
    let ranges: Vec<_> = keys.epochs().iter().map(|e| (e.from, e.to)).collect();
    assert_eq!(ranges, [(0, Some(5)), (6, Some(9)), (10, None)]);
    let mut reader = Reader::open(dir.path()).unwrap();
    for index in 0..12 {
        let proof = ledger::prove(dir.path(), index, None).unwrap();
        let leaf = reader.read(index).unwrap().unwrap();
        let closed = match index {
            0..5 => 5,
            5..9 => 9,
            _ => 12,
        };
        assert_eq!(proof.verify(&leaf, &keys).unwrap().size(), closed);
    }
    // The index is rebuilt as any other; rotations are not in it.
    fs::remove_file(dir.path().join("index.redb")).unwrap();
    let mut ledger = open(dir.path());
    assert_eq!(ledger.public_keys(), &keys);
    grow(&mut ledger, 20, 5);
    ledger.rotate().unwrap();
    ledger.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().keys.epoch(), 3);
}

#[test]
fn public_keys_read_back_and_the_first_vouch_for_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let keys = three_epochs(dir.path());
    assert_eq!(PublicKeys::parse(&keys.to_string()), Ok(keys.clone()));
    let first = fs::read_to_string(dir.path().join("ledger.pub")).unwrap();
    let first = PublicKeys::parse(&first).unwrap();
    let verified = |keys| {
        let options = VerifyOptions {
            keys: Some(keys),
            ..VerifyOptions::default()
        };
        ledger::verify(dir.path(), options)
    };
    verified(first.clone()).unwrap();
    verified(keys.clone()).unwrap();
    // Of another log, and of a later epoch than the log has.
    let other = tempfile::tempdir().unwrap();
    let other = three_epochs(other.path());
    assert!(matches!(verified(other), Err(Error::Damaged(_))));
    let text = keys.to_string();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        if let Ok(text) = String::from_utf8(bytes) {
            assert_ne!(PublicKeys::parse(&text), Ok(keys.clone()), "byte {at}");
        }
    }
    // The first keys alone vouch for leaves of their own epoch.
    let proof = |index| ledger::prove(dir.path(), index, None).unwrap();
    assert_eq!(proof(3).verify(&leaf(3), &first).unwrap().size(), 5);
    assert_eq!(
        proof(11).verify(&leaf(11), &first),
        Err(TlogProofError::Checkpoint(NoteError::NotSigned))
    );
}

/// A thief of the newest secret alters leaf 4 of epoch 0, which an outside checkpoint of three leaves
/// does not cover, and signs for all of it.
#[test]
fn later_keys_vouch_for_no_leaf_of_an_earlier_epoch() {
    let old = tempfile::tempdir().unwrap();
    let mut ledger = open(old.path());
    grow(&mut ledger, 3, 3);
    let since = ledger.checkpoint().unwrap();
    grow(&mut ledger, 5, 2);
    ledger.rotate().unwrap();
    grow(&mut ledger, 12, 2);
    let keys = ledger.public_keys().clone();
    ledger.close().unwrap();

    let forged = tempfile::tempdir().unwrap();
    fs::copy(
        old.path().join("ledger.key"),
        forged.path().join("ledger.key"),
    )
    .unwrap();
    let mut ledger = open(forged.path());
    for index in 0..12 {
        let leaf = if index == 4 {
            b"forged".to_vec()
        } else {
            leaf(index)
        };
        ledger.append(&leaf).unwrap();
    }
    let signed = ledger.checkpoint().unwrap();
    drop(ledger);
    for name in ["ledger.pub", "rotations.txt"] {
        fs::copy(old.path().join(name), forged.path().join(name)).unwrap();
    }
    let trusted = || Some(keys.clone());
    let audited = ledger::audit(forged.path(), trusted(), since.note());
    assert!(
        matches!(audited, Err(Error::HistoryRewritten { checkpoint_size: 5 })),
        "{audited:?}"
    );
    let refused = ledger::prove(forged.path(), 4, Some(&signed));
    assert!(
        matches!(refused, Err(Error::LaterEpoch { index: 4, size: 12 })),
        "{refused:?}"
    );
    // Made as before there were epochs.
    let by_thief = PublicKeys::parse(&{
        let epoch = &keys.epochs()[1];
        format!("{}\n{}\n", epoch.log, epoch.time)
    });
    fs::write(
        forged.path().join("ledger.pub"),
        by_thief.unwrap().to_string(),
    )
    .unwrap();
    fs::remove_file(forged.path().join("rotations.txt")).unwrap();
    let proof = ledger::prove(forged.path(), 4, None).unwrap();
    assert_eq!(proof.verify(b"forged", &keys), Err(TlogProofError::Epoch));
    // Of the genuine log all of it is proven.
    let audit = ledger::audit(old.path(), trusted(), since.note()).unwrap();
    let sizes: Vec<u64> = audit
        .rotations
        .iter()
        .map(|rotation| rotation.size)
        .collect();
    assert_eq!((audit.last.size(), sizes), (12, vec![5]));
}

/// A pipe would show each reader another key, or keep it waiting.
#[cfg(unix)]
#[test]
fn what_is_no_plain_file_is_not_read() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    let dir = tempfile::tempdir().unwrap();
    three_epochs(dir.path());
    for name in [
        "ledger.pub",
        "rotations.txt",
        "checkpoints.txt",
        "last-checkpoint",
        "entries/0000000000000000.seg",
    ] {
        let (path, aside) = (dir.path().join(name), dir.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let verified = verify(dir.path());
        assert!(
            matches!(&verified, Err(Error::Io { path: at, .. }) if *at == path),
            "{name}: {verified:?}"
        );
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    }
    verify(dir.path()).unwrap();
}

/// What a thief of the present secret can and cannot do.
#[test]
fn a_key_signs_for_its_own_epoch_alone() {
    let dir = tempfile::tempdir().unwrap();
    let keys = three_epochs(dir.path());
    let secret = fs::read(dir.path().join("ledger.key")).unwrap();
    let vkeys = |number: usize| {
        let epoch = &keys.epochs()[number];
        format!("{}\n{}\n", epoch.log, epoch.time)
    };
    // A log of the thief's own, signed by that secret from its first leaf on.
    let forged = tempfile::tempdir().unwrap();
    write_secret(&forged.path().join("ledger.key"), secret);
    let mut ledger = open(forged.path());
    let mut notes = Vec::new();
    for size in [0, 3, 5, 9, 10, 30] {
        while ledger.size() < size {
            ledger.append(b"forged").unwrap();
        }
        notes.push((size, ledger.checkpoint().unwrap().note().to_owned()));
    }
    assert_eq!(ledger.public_keys().to_string(), vkeys(2));
    for (size, note) in notes {
        let opened = Checkpoint::open(&note, &keys);
        match size {
            0..=9 => assert_eq!(opened, Err(NoteError::Epoch), "size {size}"),
            _ => assert_eq!(opened.unwrap().size(), size),
        }
    }
    // Nor can the oldest sign for what came after it, however it was kept.
    let old = tempfile::tempdir().unwrap();
    let mut ledger = open(old.path());
    grow(&mut ledger, 5, 5);
    ledger.checkpoint().unwrap();
    drop(ledger);
    let thief = tempfile::tempdir().unwrap();
    copy(old.path(), thief.path());
    let mut ledger = open(old.path());
    ledger.rotate().unwrap();
    let keys = ledger.public_keys().clone();
    let mut ledger = open(thief.path());
    grow(&mut ledger, 8, 8);
    let late = ledger.checkpoint().unwrap();
    assert_eq!(Checkpoint::open(late.note(), &keys), Err(NoteError::Epoch));
}

#[test]
fn the_old_secret_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let old = fs::read(dir.path().join("ledger.key")).unwrap();
    // Another name for the same bytes shows what became of them.
    fs::hard_link(dir.path().join("ledger.key"), dir.path().join("kept")).unwrap();
    ledger.rotate().unwrap();
    let kept = fs::read(dir.path().join("kept")).unwrap();
    assert_eq!(kept, vec![0; old.len()]);
    assert_ne!(fs::read(dir.path().join("ledger.key")).unwrap(), old);
    assert!(!dir.path().join("next.key").exists());
}

#[test]
fn no_leaf_may_look_like_the_ledgers_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let refused = ledger.append(b"daemoneye ledger rotation v1\nx");
    assert!(matches!(refused, Err(Error::OwnLeaf)), "{refused:?}");
    ledger.append(b"daemoneye ledge").unwrap();
}

#[test]
fn rotations_that_were_changed_are_found() {
    let dir = tempfile::tempdir().unwrap();
    three_epochs(dir.path());
    let file = dir.path().join("rotations.txt");
    let sound = fs::read(&file).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&file, &bytes).unwrap();
        // Where a record then seems torn, its epoch is unknown, and its checkpoints are not sound.
        let found = damage(dir.path()).file;
        let last = dir.path().join("last-checkpoint");
        assert!(found == file || found == last, "byte {at}: {found:?}");
    }
    let half = sound.len() / 2;
    let second = (0..half + 40)
        .rev()
        .find(|at| sound[*at..].starts_with(b"daemoneye ledger"));
    let second = second.unwrap();
    for listed in [&sound[..second], &sound[second..], b""] {
        fs::write(&file, listed).unwrap();
        damage(dir.path());
        refused(dir.path());
    }
    fs::remove_file(&file).unwrap();
    damage(dir.path());
    refused(dir.path());
    fs::write(&file, &sound).unwrap();
    verify(dir.path()).unwrap();
    open(dir.path());
}

#[test]
fn a_log_cut_before_a_rotation_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 2);
    ledger.checkpoint().unwrap();
    drop(ledger);
    let older = tempfile::tempdir().unwrap();
    copy(dir.path(), older.path());
    open(dir.path()).rotate().unwrap();
    // All is set back but for the keys.
    for name in ["rotations.txt", "ledger.key"] {
        fs::copy(dir.path().join(name), older.path().join(name)).unwrap();
    }
    assert!(matches!(damage(older.path()).cause, Cause::Rotation(_)));
    assert!(matches!(refused(older.path()), Error::RolledBack { .. }));
}

/// To it the checkpoint was "not one of this log", as if it were another's.
#[test]
fn a_log_set_back_past_a_rotation_is_told_from_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 2);
    ledger.checkpoint().unwrap();
    drop(ledger);
    let older = tempfile::tempdir().unwrap();
    copy(dir.path(), older.path());
    let mut ledger = open(dir.path());
    ledger.rotate().unwrap();
    grow(&mut ledger, 9, 2);
    let kept = ledger.close().unwrap().note().to_owned();
    let keys = ledger::public_keys(dir.path()).unwrap();
    let against = |keys: Option<&PublicKeys>, dir: &Path| {
        let options = VerifyOptions {
            keys: keys.cloned(),
            checkpoint: Some(kept.clone()),
            ..VerifyOptions::default()
        };
        let verified = ledger::verify(dir, options).map(drop);
        let audited = ledger::audit(dir, keys.cloned(), &kept).map(drop);
        [verified, audited]
    };
    for result in against(Some(&keys), dir.path()) {
        result.unwrap();
    }
    for result in against(None, older.path()) {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::UnknownKey { checkpoint_size: 9 }));
        let told = error.to_string();
        assert!(told.contains("of another log of that name, or this one was set back"));
    }
    let truncated = |result: Result<(), Error>| match result {
        Err(Error::HistoryTruncated {
            log_size,
            checkpoint_size,
        }) => assert_eq!((log_size, checkpoint_size), (5, 9)),
        other => panic!("{other:?}"),
    };
    against(Some(&keys), older.path())
        .into_iter()
        .for_each(truncated);
    // Grown anew, which the keys alone tell.
    let mut ledger = open(older.path());
    grow(&mut ledger, 12, 2);
    ledger.close().unwrap();
    for result in against(Some(&keys), older.path()) {
        let told = result.unwrap_err().to_string();
        assert!(told.contains("the log lacks epochs"), "{told}");
    }
}

/// Nor one whose other leaves were put in their place, which nobody signed for yet.
#[test]
fn a_log_grown_anew_past_a_rotation_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 3, 3);
    ledger.checkpoint().unwrap();
    drop(ledger);
    let older = tempfile::tempdir().unwrap();
    copy(dir.path(), older.path());
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 2);
    ledger.rotate().unwrap();
    let mut ledger = open(older.path());
    grow(&mut ledger, 9, 2);
    drop(ledger);
    for name in ["rotations.txt", "ledger.key"] {
        fs::copy(dir.path().join(name), older.path().join(name)).unwrap();
    }
    let missing = Cause::Rotation("the log lacks a leaf that is listed");
    match refused(older.path()) {
        Error::Damaged(damage) => assert_eq!((damage.cause, damage.leaves), (missing, 5..6)),
        other => panic!("{other:?}"),
    }
}

/// The keys of a later epoch do not become the log's first ones.
#[test]
fn public_keys_that_are_missing_are_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    three_epochs(dir.path());
    for name in ["rotations.txt", "ledger.pub"] {
        fs::remove_file(dir.path().join(name)).unwrap();
        refused(dir.path());
        assert!(!dir.path().join("ledger.pub").exists() || name == "rotations.txt");
    }
}

#[test]
fn no_statement_hands_over_to_the_same_keys() {
    let dir = tempfile::tempdir().unwrap();
    let keys = three_epochs(dir.path());
    let epochs = keys.epochs();
    // By the secrets of epoch 0 and 1, read as if epoch 1 were the first.
    let statement = fs::read_to_string(dir.path().join("rotations.txt")).unwrap();
    let statement = statement.split("\n\ndaemoneye ledger").next().unwrap();
    let read = format!("{}\n{}\n\n{statement}\n", epochs[1].log, epochs[1].time);
    let read = PublicKeys::parse(&read);
    assert_eq!(read, Err(NoteError::Malformed("successor is the same key")));
}

/// Where the power went while the old secret was overwritten.
#[test]
fn a_secret_erased_in_part_keeps_no_successor_from_taking_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 2);
    ledger.close().unwrap();
    let step = &steps(dir.path())[3];
    let secret = step.path().join("ledger.key");
    let mut bytes = fs::read(&secret).unwrap();
    bytes[..20].fill(0);
    fs::write(&secret, bytes).unwrap();
    let (ledger, recovery) = Ledger::open(step.path(), &options()).unwrap();
    assert_eq!(recovery.rotation, RotationRecovery::Finished);
    drop(ledger);
    // Nor does a successor that was dropped in part.
    let step = &steps(dir.path())[1];
    let next = step.path().join("next.key");
    let mut bytes = fs::read(&next).unwrap();
    bytes[..20].fill(0);
    fs::write(&next, bytes).unwrap();
    let (ledger, recovery) = Ledger::open(step.path(), &options()).unwrap();
    assert_eq!(recovery.rotation, RotationRecovery::Undone);
    drop(ledger);
    assert!(!next.exists());
    // Alone it is of no use.
    fs::write(step.path().join("ledger.key"), [0, 1]).unwrap();
    assert!(matches!(refused(step.path()), Error::Key { .. }));
}

/// The directory as a kill would leave it after each step of a rotation, in order.
fn steps(dir: &Path) -> Vec<tempfile::TempDir> {
    let before = tempfile::tempdir().unwrap();
    copy(dir, before.path());
    // As it is when all is done but the last checkpoint, which a rotation ends with.
    open(dir).rotate().unwrap();
    let after = tempfile::tempdir().unwrap();
    copy(dir, after.path());
    let segment = "entries/0000000000000000.seg";
    let step = |files: &[(&str, &Path, &str)], zero: bool| {
        let step = tempfile::tempdir().unwrap();
        copy(before.path(), step.path());
        for (from, of, to) in files {
            fs::copy(of.join(from), step.path().join(to)).unwrap();
        }
        if zero {
            let secret = step.path().join("ledger.key");
            let len = fs::read(&secret).unwrap().len();
            fs::write(secret, vec![0; len]).unwrap();
        }
        step
    };
    let after = after.path();
    let next = ("ledger.key", after, "next.key");
    let leaf = (segment, after, segment);
    let listed = ("rotations.txt", after, "rotations.txt");
    vec![
        step(&[], false),
        step(&[next], false),
        step(&[next, leaf], false),
        step(&[next, leaf, listed], false),
        step(&[next, leaf, listed], true),
        step(&[leaf, listed, ("ledger.key", after, "ledger.key")], false),
    ]
}

#[test]
fn a_rotation_that_was_cut_short_is_finished_or_undone() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 2);
    ledger.close().unwrap();
    for (number, step) in steps(dir.path()).iter().enumerate() {
        let stated = number >= 2;
        assert_eq!(verify(step.path()).unwrap().entries, 5 + u64::from(stated));
        let (mut ledger, recovery) = Ledger::open(step.path(), &options()).unwrap();
        let told = match number {
            0 | 5 => RotationRecovery::None,
            1 => RotationRecovery::Undone,
            _ => RotationRecovery::Finished,
        };
        assert_eq!(recovery.rotation, told, "step {number}");
        assert_eq!(
            ledger.public_keys().epoch(),
            u64::from(stated),
            "step {number}"
        );
        assert!(!step.path().join("next.key").exists(), "step {number}");
        grow(&mut ledger, 8, 2);
        ledger.rotate().unwrap();
        ledger.close().unwrap();
        let report = verify(step.path()).unwrap();
        assert_eq!(report.keys.epoch(), 1 + u64::from(stated), "step {number}");
        assert_eq!((report.entries, report.sealed), (9, 9));
        open(step.path());
    }
}

/// At every byte that the leaf, or the line in `rotations.txt`, can be torn at.
#[test]
fn a_torn_rotation_is_undone_or_listed_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 2);
    ledger.close().unwrap();
    let short = fs::read(dir.path().join("entries/0000000000000000.seg")).unwrap();
    let steps = steps(dir.path());
    for (step, name, from, epoch) in [
        (2, "entries/0000000000000000.seg", short.len(), 0),
        (3, "rotations.txt", 0, 1),
    ] {
        let whole = fs::read(steps[step].path().join(name)).unwrap();
        for len in (from..whole.len()).step_by(37).chain([whole.len() - 1]) {
            let work = tempfile::tempdir().unwrap();
            copy(steps[step].path(), work.path());
            fs::write(work.path().join(name), &whole[..len]).unwrap();
            let ledger = open(work.path());
            assert_eq!(ledger.public_keys().epoch(), epoch, "{name} cut at {len}");
            ledger.close().unwrap();
            verify(work.path()).unwrap();
        }
    }
}

/// Never two secrets, never none.
#[test]
fn a_secret_that_is_not_the_newest_is_refused_and_nothing_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let old = fs::read(dir.path().join("ledger.key")).unwrap();
    ledger.rotate().unwrap();
    ledger.close().unwrap();
    let newest = fs::read(dir.path().join("ledger.key")).unwrap();
    fs::write(dir.path().join("ledger.key"), &old).unwrap();
    assert!(matches!(refused(dir.path()), Error::Key { .. }));
    fs::write(dir.path().join("ledger.key"), vec![0; old.len()]).unwrap();
    assert!(matches!(refused(dir.path()), Error::Key { .. }));
    fs::remove_file(dir.path().join("ledger.key")).unwrap();
    assert!(matches!(refused(dir.path()), Error::Key { .. }));
    write_secret(&dir.path().join("ledger.key"), newest);
    open(dir.path());
}

const DIR: &str = "LEDGER_ROTATION_DIR";

/// What the process that is killed does.
fn rotate_for_ever(dir: &Path) {
    let (mut ledger, mut out) = (open(dir), std::io::stdout());
    loop {
        let size = ledger.size() + 3;
        grow(&mut ledger, size, 2);
        ledger.rotate().unwrap();
        let epoch = ledger.public_keys().epoch();
        writeln!(out, "epoch {epoch}").unwrap();
    }
}

#[test]
fn a_rotation_survives_kill_9() {
    if let Some(dir) = std::env::var_os(DIR) {
        return rotate_for_ever(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close().unwrap();
    let mut epoch = 0;
    for kill in 0_u64..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "rotation::a_rotation_survives_kill_9",
                "--nocapture",
            ])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Once it rotates; the moment of the kill is what is random.
        let told = lines.by_ref().map_while(Result::ok);
        let mut told = told.filter_map(|line| line.split_once("epoch ")?.1.parse().ok());
        epoch = told.next().unwrap();
        std::thread::sleep(Duration::from_micros(kill * 7919 % 30_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let report = verify(dir.path()).unwrap_or_else(|e| panic!("after kill {kill}: {e}"));
        let ledger = open(dir.path());
        let keys = ledger.public_keys();
        assert!(keys.epoch() >= epoch && keys.epoch() >= report.keys.epoch());
        epoch = keys.epoch();
    }
    assert!(epoch >= 20, "{epoch}");
    open(dir.path()).close().unwrap();
    verify(dir.path()).unwrap();
}

/// Whoever reads the keys, and then what newer ones signed, would find it damaged.
#[test]
fn a_log_whose_keys_rotate_verifies_and_audits_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 5);
    let since = ledger.checkpoint().unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..60 {
                let size = ledger.size() + 3;
                grow(&mut ledger, size, 2);
                ledger.rotate().unwrap();
            }
        });
        let mut epoch = 0;
        while !writer.is_finished() {
            let report = verify(dir.path()).unwrap_or_else(|e| panic!("epoch {epoch}: {e}"));
            assert!(report.keys.epoch() >= epoch);
            epoch = report.keys.epoch();
            let audit = ledger::audit(dir.path(), None, since.note());
            audit.unwrap_or_else(|e| panic!("epoch {epoch}: {e}"));
        }
    });
    assert_eq!(verify(dir.path()).unwrap().keys.epoch(), 60);
}
