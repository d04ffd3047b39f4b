//! Checkpoints: what they say, who else accepts them, and where they are kept.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use ledger::{
    Age, Cause, Checkpoint, Error, Export, Ledger, NoteError, Options, VerifyOptions, Witnesses,
};
use sha2::{Digest, Sha256};

use crate::proofs::openssl_verifies;
use crate::support::{copy, damage, grow, open, options, verify};

/// A ledger whose clock stands still.
fn open_at(dir: &Path, clock: fn() -> u64) -> Ledger {
    let options = Options { clock, ..options() };
    Ledger::open(dir, &options).unwrap().0
}

/// A ledger of five leaves, closed.
fn five_leaves(dir: &Path) -> Checkpoint {
    let mut ledger = open_at(dir, || 1_700_000_000);
    grow(&mut ledger, 5, 5);
    ledger.close().unwrap()
}

/// The bytes behind the key id of a note's signature line.
fn signature(note: &str, line: usize) -> Vec<u8> {
    let (_, lines) = note.split_once("\n\n").unwrap();
    let line = lines.lines().nth(line).unwrap();
    let bytes = STANDARD.decode(line.rsplit_once(' ').unwrap().1).unwrap();
    bytes[4..].to_vec()
}

/// The raw public key on a line of `ledger.pub`, and its type.
fn public_key(dir: &Path, line: usize) -> (u8, Vec<u8>) {
    let text = fs::read_to_string(dir.join("ledger.pub")).unwrap();
    let line = text.lines().nth(line).unwrap();
    let bytes = STANDARD.decode(line.splitn(3, '+').nth(2).unwrap());
    let bytes = bytes.unwrap();
    (bytes[0], bytes[1..].to_vec())
}

/// The message is built here from the text of the specification.
#[test]
fn the_time_is_a_cosignature_that_openssl_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = five_leaves(dir.path());
    assert_eq!(checkpoint.time(), 1_700_000_000);
    let (text, _) = checkpoint.note().split_once("\n\n").unwrap();
    let signature = signature(checkpoint.note(), 1);
    assert_eq!(signature[..8], 1_700_000_000_u64.to_be_bytes());
    let (kind, key) = public_key(dir.path(), 1);
    assert_eq!((kind, key.len(), signature.len()), (4, 32, 72));
    let message = format!("cosignature/v1\ntime 1700000000\n{text}\n");
    openssl_verifies(dir.path(), &key, &message, &signature[8..]);
    assert_ne!(public_key(dir.path(), 0).1, key, "one key signs both");
}

#[test]
fn the_signed_note_crate_accepts_checkpoints() {
    use signed_note::{Note, StandardVerifier, VerifierList};

    let dir = tempfile::tempdir().unwrap();
    let checkpoint = five_leaves(dir.path());
    let keys = fs::read_to_string(dir.path().join("ledger.pub")).unwrap();
    let verifier = StandardVerifier::new(keys.lines().next().unwrap()).unwrap();
    let known = VerifierList::new(vec![Box::new(verifier)]);
    let note = Note::from_bytes(checkpoint.note().as_bytes()).unwrap();
    let (verified, others) = note.verify(&known).unwrap();
    assert_eq!((verified.len(), others.len()), (1, 1));
    let forged = checkpoint.note().replacen("\n5\n", "\n6\n", 1);
    let note = Note::from_bytes(forged.as_bytes()).unwrap();
    assert!(note.verify(&known).is_err());
}

#[test]
fn a_checkpoint_without_its_time_or_with_another_is_not_sound() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = five_leaves(dir.path());
    let keys = fs::read_to_string(dir.path().join("ledger.pub")).unwrap();
    let keys = ledger::PublicKeys::parse(&keys).unwrap();
    let mut lines: Vec<&str> = checkpoint.note().split_inclusive('\n').collect();
    let time = lines.pop().unwrap().to_owned();
    assert_eq!(
        Checkpoint::open(&lines.concat(), &keys),
        Err(NoteError::NotSigned)
    );
    let (start, base64) = time.trim_end().rsplit_once(' ').unwrap();
    let mut bytes = STANDARD.decode(base64).unwrap();
    bytes[11] ^= 1;
    let later = format!("{}{start} {}\n", lines.concat(), STANDARD.encode(bytes));
    assert_eq!(Checkpoint::open(&later, &keys), Err(NoteError::Signature));
}

static NOW: AtomicU64 = AtomicU64::new(1_700_000_000);

#[test]
fn a_heartbeat_signs_again_for_the_same_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open_at(dir.path(), || NOW.load(Ordering::Relaxed));
    grow(&mut ledger, 5, 5);
    let first = ledger.checkpoint().unwrap();
    NOW.store(1_700_000_060, Ordering::Relaxed);
    assert_eq!(ledger.checkpoint().unwrap(), first);
    let second = ledger.heartbeat().unwrap();
    assert_eq!((second.size(), second.root()), (5, first.root()));
    assert_eq!(second.time(), 1_700_000_060);
    // A clock that was set back says nothing new.
    NOW.store(1_700_000_030, Ordering::Relaxed);
    assert_eq!(ledger.heartbeat().unwrap(), second);
    ledger.append(b"earlier").unwrap();
    ledger.checkpoint().unwrap();
    drop(ledger);
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.checkpoints, report.clock_set_back), (4, 1));
    open(dir.path()).close().unwrap();
}

/// Killed between the two files that hold the newest checkpoint.
#[test]
fn a_heartbeat_that_was_only_listed_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open_at(dir.path(), || 1_700_000_000);
    grow(&mut ledger, 5, 5);
    ledger.checkpoint().unwrap();
    let before = fs::read(dir.path().join("last-checkpoint")).unwrap();
    drop(ledger);
    let mut ledger = open_at(dir.path(), || 1_700_000_060);
    let heartbeat = ledger.heartbeat().unwrap();
    drop(ledger);
    fs::write(dir.path().join("last-checkpoint"), before).unwrap();
    verify(dir.path()).unwrap();
    let ledger = open(dir.path());
    assert_eq!(ledger.last_checkpoint(), Some(&heartbeat));
    drop(ledger);
    let last = fs::read_to_string(dir.path().join("last-checkpoint")).unwrap();
    assert_eq!(last, heartbeat.note());
}

#[test]
fn an_old_checkpoint_fails_the_policy() {
    let dir = tempfile::tempdir().unwrap();
    five_leaves(dir.path());
    let aged = |now| {
        let age = Some(Age { now, seconds: 600 });
        let options = VerifyOptions {
            age,
            ..VerifyOptions::default()
        };
        ledger::verify(dir.path(), options)
    };
    for now in [1_699_999_400, 1_700_000_000, 1_700_000_600] {
        aged(now).unwrap();
    }
    for now in [1_699_999_399, 1_700_000_601] {
        assert!(matches!(aged(now), Err(Error::Stale { .. })), "{now}");
    }
}

#[test]
fn checkpoints_are_exported_as_plain_files() {
    let (dir, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut ledger = open_at(dir.path(), || 1_700_000_000);
    let mut export = Export::open(second.path(), dir.path()).unwrap();
    for size in [3, 5, 5, 9] {
        grow(&mut ledger, size, 10);
        export.add(&ledger.checkpoint().unwrap()).unwrap();
    }
    let last = ledger.close().unwrap();
    assert_eq!(export.newest(), Some(&last));
    for name in ["ledger.pub", "last-checkpoint"] {
        let read = |dir: &Path| fs::read(dir.join(name)).unwrap();
        assert_eq!(read(dir.path()), read(second.path()), "{name}");
    }
    let listed = || fs::read_to_string(second.path().join("checkpoints.txt")).unwrap();
    assert_eq!(listed().matches("daemoneye/test\n").count(), 3);

    // Killed or unplugged while writing.
    let whole = listed();
    fs::write(
        second.path().join("checkpoints.txt"),
        whole.clone() + "daem",
    )
    .unwrap();
    let mut export = Export::open(second.path(), dir.path()).unwrap();
    assert_eq!((export.newest(), listed()), (Some(&last), whole));
    let mut ledger = open(dir.path());
    ledger.rotate().unwrap();
    let rotated = ledger.close().unwrap();
    export.add(&rotated).unwrap();
    let export = Export::open(second.path(), dir.path()).unwrap();
    assert_eq!(export.newest(), Some(&rotated));

    let other = tempfile::tempdir().unwrap();
    drop(open(other.path()));
    let refused = Export::open(second.path(), other.path());
    assert!(matches!(refused, Err(Error::Damaged(_))), "{refused:?}");
}

#[test]
fn the_logs_own_directory_is_no_second_place() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let own = dir.path().join("entries/..");
    let refused = Export::open(&own, dir.path());
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
}

/// A witness as the specification describes one; returns its vkey and the cosigned note.
fn cosign(note: &str, name: &str, seed: u8, time: u64) -> (String, String) {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let public = [&[4], &key.verifying_key().to_bytes()[..]].concat();
    let id = Sha256::digest([name.as_bytes(), b"\n", &public].concat())[..4].to_vec();
    let (text, _) = note.split_once("\n\n").unwrap();
    let message = format!("cosignature/v1\ntime {time}\n{text}\n");
    let signature = key.sign(message.as_bytes()).to_bytes();
    let line = [&id, &time.to_be_bytes()[..], &signature].concat();
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    (
        format!("{name}+{hex}+{}\n", STANDARD.encode(public)),
        format!("{note}\u{2014} {name} {}\n", STANDARD.encode(line)),
    )
}

#[test]
fn cosignatures_of_witnesses_are_carried_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 5);
    let checkpoint = ledger.checkpoint().unwrap();
    let (one, note) = cosign(checkpoint.note(), "witness.example/one", 1, 1_700_000_001);
    let (two, note) = cosign(&note, "witness.example/two", 2, 1_700_000_002);
    let (three, _) = cosign(&note, "witness.example/three", 3, 0);
    let keys = [one, two, three].concat();
    let witnesses = |needed| Witnesses::parse(&keys, needed).unwrap();
    let asked = |needed| {
        let options = VerifyOptions {
            witnesses: Some(witnesses(needed)),
            ..VerifyOptions::default()
        };
        ledger::verify(dir.path(), options)
    };
    assert!(matches!(asked(1), Err(Error::NotWitnessed { .. })));

    let (kept, by) = ledger::carry_back(dir.path(), &note, &witnesses(2)).unwrap();
    assert_eq!(kept.note(), note);
    assert_eq!(
        (by[1].witness.as_str(), by[1].time),
        ("witness.example/two", 1_700_000_002)
    );
    grow(&mut ledger, 8, 8);
    ledger.checkpoint().unwrap();
    let report = asked(2).unwrap();
    assert_eq!(report.cosignatures, by);
    assert_eq!(report.witnessed.as_ref(), Some(&kept));
    assert!(matches!(asked(3), Err(Error::NotWitnessed { .. })));
    // A proof at a cosigned checkpoint carries the cosignatures.
    assert_eq!(ledger.prove(2, Some(&kept)).unwrap().note, note);

    // The first witness's signature in the second one's place.
    let (start, _) = note.rsplit_once("AAAA").unwrap();
    let forged = format!(
        "{start}{}",
        note.rsplit_once("AAAA").unwrap().1.replace(['A', 'B'], "C")
    );
    let refused = ledger::carry_back(dir.path(), &forged, &witnesses(1));
    assert!(matches!(refused, Err(Error::NotWitnessed { .. })));
    assert!(Witnesses::parse(&keys, 4).is_err());
    assert!(Witnesses::parse(&keys.repeat(2), 1).is_err());
}

#[test]
fn an_audit_proves_that_the_log_only_grew() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let mut kept = Vec::new();
    for size in [0, 3, 256, 700, 1000] {
        grow(&mut ledger, size, 100);
        kept.push(ledger.checkpoint().unwrap());
    }
    let audit_all = || {
        for since in &kept {
            let audit = ledger::audit(dir.path(), None, since.note()).unwrap();
            assert_eq!((&audit.since, &audit.last), (since, kept.last().unwrap()));
            let (old, new) = (&audit.since, &audit.last);
            let verified = ledger::verify_consistency(
                audit.hash,
                old.size(),
                old.root(),
                new.size(),
                new.root(),
                &audit.path,
            );
            assert_eq!(verified, Ok(()));
        }
    };
    // From the leaves while the writer has the index, then from the index, then without one.
    audit_all();
    ledger.close().unwrap();
    audit_all();
    fs::remove_file(dir.path().join("index.redb")).unwrap();
    audit_all();
}

/// Whoever has the key can sign another history, which the copies of the log cannot show.
#[test]
fn an_audit_catches_a_rewritten_history_that_verifies() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(open(dir.path()));
    copy(dir.path(), other.path());
    let mut ledger = open(dir.path());
    grow(&mut ledger, 10, 5);
    let kept = ledger.close().unwrap();
    let mut forged = open(other.path());
    for _ in 0..20 {
        forged.append(b"other").unwrap();
    }
    forged.close().unwrap();
    verify(other.path()).unwrap();
    let audited = ledger::audit(other.path(), None, kept.note());
    assert!(matches!(
        audited,
        Err(Error::HistoryRewritten {
            checkpoint_size: 10
        })
    ));
    // And one that was taken back.
    let short = tempfile::tempdir().unwrap();
    copy(other.path(), short.path());
    let mut longer = open(other.path());
    grow(&mut longer, 30, 10);
    let kept = longer.close().unwrap();
    let audited = ledger::audit(short.path(), None, kept.note());
    assert!(matches!(audited, Err(Error::HistoryTruncated { .. })));
}

#[test]
fn a_witnessed_checkpoint_of_another_history_is_found() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(open(dir.path()));
    copy(dir.path(), other.path());
    for (dir, leaf) in [(&dir, b"ours"), (&other, b"else")] {
        let mut ledger = open(dir.path());
        ledger.append(leaf).unwrap();
        ledger.close().unwrap();
    }
    let note = fs::read(other.path().join("last-checkpoint")).unwrap();
    let carried = dir.path().join("witnessed-checkpoint");
    fs::write(&carried, note).unwrap();
    assert!(matches!(
        verify(dir.path()),
        Err(Error::HistoryRewritten { checkpoint_size: 1 })
    ));
    fs::write(&carried, "nothing\n").unwrap();
    assert!(matches!(
        damage(dir.path()).cause,
        Cause::Checkpoint { line: 1, .. }
    ));
}

#[test]
fn an_older_cosigned_checkpoint_takes_no_newer_ones_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 3, 3);
    let old = ledger.checkpoint().unwrap();
    grow(&mut ledger, 5, 3);
    let new = ledger.checkpoint().unwrap();
    let (one, by_one) = cosign(new.note(), "witness.example/one", 1, 1_700_000_001);
    let (two, by_two) = cosign(new.note(), "witness.example/two", 2, 1_700_000_900);
    let keys = [one, two].concat();
    let witnesses = |needed| Witnesses::parse(&keys, needed).unwrap();
    ledger::carry_back(dir.path(), &by_one, &witnesses(1)).unwrap();
    // Those of the same tree come together.
    ledger::carry_back(dir.path(), &by_two, &witnesses(1)).unwrap();
    let (_, older) = cosign(old.note(), "witness.example/one", 1, 1_700_000_002);
    let refused = ledger::carry_back(dir.path(), &older, &witnesses(1));
    assert!(
        matches!(refused, Err(Error::OlderThanWitnessed { size: 3, kept: 5 })),
        "{refused:?}"
    );
    let aged = |needed, now| {
        let options = VerifyOptions {
            witnesses: Some(witnesses(needed)),
            age: Some(Age {
                now,
                seconds: u64::MAX / 4,
            }),
            ..VerifyOptions::default()
        };
        ledger::verify(dir.path(), options).map(|report| report.cosignatures.len())
    };
    assert_eq!(aged(2, 1_700_000_900).unwrap(), 2);
}

/// The log's own clock may be anybody's.
#[test]
fn cosignatures_have_an_age_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open_at(dir.path(), || 1_700_009_000);
    grow(&mut ledger, 3, 3);
    let last = ledger.checkpoint().unwrap();
    let (one, note) = cosign(last.note(), "witness.example/one", 1, 1_700_000_000);
    let (two, note) = cosign(&note, "witness.example/two", 2, 1_700_008_990);
    let keys = [one, two].concat();
    let aged = |needed| {
        let witnesses = Witnesses::parse(&keys, needed).unwrap();
        ledger::carry_back(dir.path(), &note, &witnesses).unwrap();
        let options = VerifyOptions {
            witnesses: Some(witnesses),
            age: Some(Age {
                now: 1_700_009_000,
                seconds: 60,
            }),
            ..VerifyOptions::default()
        };
        ledger::verify(dir.path(), options)
    };
    assert_eq!(aged(1).unwrap().cosignatures.len(), 2);
    let stale = aged(2);
    assert!(
        matches!(
            stale,
            Err(Error::StaleWitness {
                cosigned_at: 1_700_000_000,
                ..
            })
        ),
        "{stale:?}"
    );
}

/// A power loss left the end of a record and not its beginning: the two were in different sectors.
#[test]
fn a_checkpoint_torn_in_its_middle_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    five_leaves(dir.path());
    let listed = dir.path().join("checkpoints.txt");
    let sound = fs::read(&listed).unwrap();
    let last = fs::read(dir.path().join("last-checkpoint")).unwrap();
    let torn = [&sound[..], &[0; 100], &last[100..], b"\n"].concat();
    fs::write(&listed, &torn).unwrap();
    assert!(verify(dir.path()).unwrap().torn_checkpoint);
    let (ledger, recovery) = Ledger::open(dir.path(), &options()).unwrap();
    assert_eq!(recovery.cut_checkpoint_bytes, last.len() as u64 + 1);
    drop(ledger);
    assert_eq!(fs::read(&listed).unwrap(), sound);
    // Nothing is cut that another follows.
    fs::write(&listed, [&torn, &last[..], b"\n"].concat()).unwrap();
    assert!(matches!(
        damage(dir.path()).cause,
        Cause::Checkpoint { line: 15, .. }
    ));
}
