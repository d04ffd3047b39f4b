//! Signed notes, checkpoints and public keys: no panic, and keys have one spelling.
#![no_main]

use ledger::{CheckpointText, PublicKey, PublicKeys, SignedNote, Witnesses};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(note) = SignedNote::parse(text) {
        assert!(text.starts_with(note.text()));
    }
    let _ = CheckpointText::parse(text);
    let _ = Witnesses::parse(text, 1);
    if let Ok(keys) = PublicKeys::parse(text) {
        assert_eq!(keys.to_string(), text);
    }
    if let Ok(key) = PublicKey::parse(text) {
        assert_eq!(key.to_string(), text);
    }
});
