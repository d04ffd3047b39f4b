//! Checkpoints of a log whose keys are known: no panic, and only what was signed opens.
#![no_main]

use std::sync::LazyLock;

use ledger::{Checkpoint, PublicKeys, SignedNote, Witnesses};
use libfuzzer_sys::fuzz_target;

static KEYS: LazyLock<(PublicKeys, Witnesses)> = LazyLock::new(|| {
    let witness = fuzz::block("ledger.pub").lines().nth(1).unwrap();
    (fuzz::keys(), Witnesses::parse(witness, 0).unwrap())
});

fuzz_target!(|note: &str| {
    let (keys, witnesses) = &*KEYS;
    let Ok(checkpoint) = Checkpoint::open(note, keys) else {
        return;
    };
    let signed = SignedNote::parse(note).expect("what opened parses");
    let listed = fuzz::block("checkpoints.txt");
    assert!(listed.contains(signed.text()), "{note}");
    assert_eq!(
        (checkpoint.note(), checkpoint.time()),
        (note, 1_700_000_000)
    );
    let _ = witnesses.check(&checkpoint);
});
