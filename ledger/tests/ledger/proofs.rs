use std::fs;
use std::process::Command;

use ledger::{
    Checkpoint, Error, HashKind, Ledger, Options, ProofError, PublicKeys, TlogProof, TlogProofError,
};

use crate::support::{grow, leaf, open, options, skipped, small_segments};

#[test]
fn every_leaf_proves_at_every_checkpoint() {
    for hash in [HashKind::Blake3, HashKind::Sha256] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            hash,
            segment_bytes: 20_000,
            ..options()
        };
        let (mut ledger, _) = Ledger::open(dir.path(), &options).unwrap();
        let mut checkpoints = Vec::new();
        for size in [1, 2, 255, 256, 257, 600, 1025] {
            grow(&mut ledger, size, 50);
            checkpoints.push(ledger.checkpoint().unwrap());
        }
        let key = ledger.public_keys().clone();
        for checkpoint in &checkpoints {
            for index in (0..checkpoint.size()).step_by(41) {
                let proof = ledger.prove(index, Some(checkpoint)).unwrap();
                let text = proof.to_string();
                let parsed = TlogProof::parse(&text).unwrap();
                assert_eq!(parsed, proof);
                assert_eq!(parsed.verify(&leaf(index), &key).unwrap(), *checkpoint);
                let wrong = parsed.verify(b"another leaf", &key);
                assert_eq!(wrong, Err(TlogProofError::Inclusion(ProofError::Root)));
            }
        }
    }
}

#[test]
fn consistency_proves_between_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let mut checkpoints = Vec::new();
    for size in [0, 1, 3, 256, 511, 512, 1000, 1300] {
        grow(&mut ledger, size, 100);
        checkpoints.push(ledger.checkpoint().unwrap());
    }
    for (position, new) in checkpoints.iter().enumerate() {
        for old in &checkpoints[..=position] {
            let path = ledger.prove_consistency(old.size(), new.size()).unwrap();
            let (kind, old, new) = (HashKind::Blake3, (old.size(), old.root()), new);
            let verified =
                ledger::verify_consistency(kind, old.0, old.1, new.size(), new.root(), &path);
            assert_eq!(verified, Ok(()), "{} to {}", old.0, new.size());
        }
    }
    assert!(matches!(
        ledger.prove_consistency(5, 4),
        Err(Error::NoSuchSize { .. })
    ));
    assert!(matches!(
        ledger.prove_consistency(5, 1301),
        Err(Error::NoSuchSize { .. })
    ));
}

#[test]
fn proofs_are_the_same_from_the_writer_the_index_and_a_scan() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(
        dir.path(),
        &Options {
            segment_bytes: 30_000,
            ..small_segments()
        },
    )
    .unwrap();
    grow(&mut ledger, 70_000, 5000);
    let earlier = ledger.checkpoint().unwrap();
    grow(&mut ledger, 71_234, 5000);
    ledger.checkpoint().unwrap();
    let indexes = [0, 255, 256, 65_535, 65_536, 69_999];
    let prove = |at| indexes.map(|index| ledger::prove(dir.path(), index, at).unwrap());
    let scanned = ledger::prove(dir.path(), indexes[3], Some(&earlier)).unwrap();
    let by_writer = indexes.map(|index| ledger.prove(index, None).unwrap());
    let earlier_by_writer = indexes.map(|index| ledger.prove(index, Some(&earlier)).unwrap());
    drop(ledger);
    assert_eq!(prove(None), by_writer);
    assert_eq!(prove(Some(&earlier)), earlier_by_writer);
    assert_eq!(scanned, earlier_by_writer[3]);
    let refused = ledger::prove(dir.path(), 71_234, None);
    let Err(Error::NotIntegrated {
        index: 71_234,
        sealed: 71_234,
    }) = refused
    else {
        panic!("{refused:?}");
    };
}

#[test]
fn a_damaged_leaf_has_no_proof() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 10, 10);
    ledger.close().unwrap();
    let file = crate::support::last_segment(dir.path());
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert!(matches!(
        ledger::prove(dir.path(), 9, None),
        Err(Error::Damaged(_))
    ));
}

/// The signature by another path than this crate's own: note layout and Ed25519 from the spec.
#[test]
fn checkpoints_verify_without_this_crate() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ed25519_dalek::{Signature, Verifier, VerifyingKey};
    use sha2::{Digest, Sha256};

    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 3, 3);
    let root = ledger.root();
    ledger.close().unwrap();
    let vkey = fs::read_to_string(dir.path().join("ledger.pub")).unwrap();
    let mut parts = vkey.lines().next().unwrap().splitn(3, '+');
    let (name, id, key) = (
        parts.next().unwrap(),
        parts.next().unwrap(),
        parts.next().unwrap(),
    );
    let key = STANDARD.decode(key).unwrap();
    assert_eq!((name, key[0], key.len()), ("daemoneye/test", 1, 33));
    let digest = Sha256::digest([name.as_bytes(), b"\n", &key].concat());
    let expected: String = digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(id, expected);

    let note = fs::read_to_string(dir.path().join("last-checkpoint")).unwrap();
    let (text, signature) = note.split_once("\n\n").unwrap();
    let text = format!("{text}\n");
    assert_eq!(
        text,
        format!("daemoneye/test\n3\n{}\n", STANDARD.encode(root.0))
    );
    let signature = signature
        .lines()
        .next()
        .unwrap()
        .strip_prefix("\u{2014} daemoneye/test ")
        .unwrap();
    let signature = STANDARD.decode(signature).unwrap();
    assert_eq!(signature[..4], digest[..4]);
    let key = VerifyingKey::from_bytes(key[1..].try_into().unwrap()).unwrap();
    let signature = Signature::from_slice(&signature[4..]).unwrap();
    key.verify(text.as_bytes(), &signature).unwrap();
    openssl_verifies(dir.path(), &key.to_bytes(), &text, &signature.to_bytes());
}

pub(crate) fn openssl_verifies(dir: &std::path::Path, key: &[u8], text: &str, signature: &[u8]) {
    // SubjectPublicKeyInfo of Ed25519, RFC 8410.
    let der = [
        &b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"[..],
        key,
    ]
    .concat();
    fs::write(dir.join("key.der"), der).unwrap();
    fs::write(dir.join("text"), text).unwrap();
    fs::write(dir.join("signature"), signature).unwrap();
    let args =
        "pkeyutl -verify -pubin -inkey key.der -keyform DER -rawin -in text -sigfile signature";
    match Command::new("openssl")
        .args(args.split(' '))
        .current_dir(dir)
        .output()
    {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(e) => skipped(format_args!("openssl does not run: {e}")),
    }
}

#[test]
fn a_checkpoint_of_another_key_or_origin_does_not_open() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let checkpoint = open(ours.path()).close().unwrap();
    let other = open(theirs.path()).public_keys().clone();
    assert_eq!(
        Checkpoint::open(checkpoint.note(), &other),
        Err(ledger::NoteError::NotSigned)
    );
    let key = fs::read_to_string(ours.path().join("ledger.pub")).unwrap();
    let key = PublicKeys::parse(&key).unwrap();
    assert_eq!(
        Checkpoint::open(checkpoint.note(), &key).unwrap(),
        checkpoint
    );
    // Cosignatures of witnesses are carried and not looked at.
    let witnessed = format!(
        "{}\u{2014} witness.example AAAAAAAAAAAAAAAA\n",
        checkpoint.note()
    );
    assert_eq!(
        Checkpoint::open(&witnessed, &key).unwrap().root(),
        checkpoint.root()
    );
}
