//! Bytes from outside never panic a parser, and what parses is written back the same.

use ledger::segment::{Frame, Header};
use ledger::{CheckpointText, PublicKey, PublicKeys, SignedNote, TlogProof, Witnesses};
use proptest::prelude::*;

const NOTE: &str = "daemoneye/golden\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n\
    \u{2014} daemoneye/golden AAAAAAAAAAAAAAAA\n";
const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

fn parse_all(bytes: &[u8]) {
    let _ = Header::decode(bytes);
    let _ = Frame::decode([7; 8], bytes);
    let text = String::from_utf8_lossy(bytes);
    let _ = CheckpointText::parse(&text);
    let _ = SignedNote::parse(&text);
    let _ = PublicKey::parse(&text);
    let _ = Witnesses::parse(&text, 1);
    if let Ok(keys) = PublicKeys::parse(&text) {
        assert_eq!(keys.to_string(), text);
    }
    if let Ok(proof) = TlogProof::parse(&text) {
        assert_eq!(TlogProof::parse(&proof.to_string()), Ok(proof));
    }
}

/// Sound texts, to be damaged in one place.
fn samples() -> Vec<Vec<u8>> {
    let hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let proof =
        format!("c2sp.org/tlog-proof@v1\nextra Ymxha2Uz\nindex 7\n{hash}\n{hash}\n\n{NOTE}");
    TlogProof::parse(&proof).unwrap();
    PublicKey::parse(VKEY).unwrap();
    let header = Header {
        hash: ledger::HashKind::Blake3,
        first: 5,
        nonce: [7; 8],
        origin: ledger::Hash([1; 32]),
        chain: ledger::Hash([2; 32]),
    };
    let mut frame = Vec::new();
    Frame {
        leaf: b"leaf",
        chain: header.chain,
        starts_commit: true,
    }
    .encode([7; 8], &mut frame);
    vec![
        rotated_keys().into(),
        proof.into(),
        NOTE.into(),
        VKEY.into(),
        header.encode().into(),
        frame,
    ]
}

/// The keys of a log with one rotation.
fn rotated_keys() -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = crate::support::open(dir.path());
    ledger.rotate().unwrap();
    let keys = ledger.public_keys().to_string();
    PublicKeys::parse(&keys).unwrap();
    keys
}

#[test]
fn samples_damaged_anywhere_do_not_panic() {
    for sample in samples() {
        parse_all(&sample);
        for at in 0..sample.len() {
            parse_all(&sample[..at]);
            for byte in [0, b'\n', b' ', b'0', b'=', b'+', 0x7f, 0xff] {
                let mut damaged = sample.clone();
                damaged[at] = byte;
                parse_all(&damaged);
            }
        }
    }
}

#[test]
fn the_key_of_the_go_note_documentation_parses() {
    let key = PublicKey::parse(VKEY).unwrap();
    assert_eq!(
        (key.name(), key.to_string().as_str()),
        ("PeterNeumann", VKEY)
    );
    let text = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann \
        x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    SignedNote::parse(text).unwrap().verify(&key).unwrap();
    let altered = text.replace("problem is", "answer is");
    let altered = SignedNote::parse(&altered).unwrap().verify(&key);
    assert_eq!(altered, Err(ledger::NoteError::Signature));
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        parse_all(&bytes);
    }

    #[test]
    fn lines_of_plausible_text_do_not_panic(
        text in r"(c2sp\.org/tlog-proof@v1\n)?(index [0-9]{0,25}\n|[A-Za-z0-9+/=]{0,50}\n|\n|— a [A-Z]{8}\n){0,9}"
    ) {
        parse_all(text.as_bytes());
    }

    #[test]
    fn frames_come_back(nonce: [u8; 8], leaf in proptest::collection::vec(any::<u8>(), 0..300), flag: bool) {
        let mut bytes = Vec::new();
        let frame = Frame { leaf: &leaf, chain: ledger::Hash([3; 32]), starts_commit: flag };
        frame.encode(nonce, &mut bytes);
        prop_assert_eq!(Frame::decode(nonce, &bytes), Ok(frame));
    }
}
