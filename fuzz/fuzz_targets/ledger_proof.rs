//! tlog-proof texts: no panic, what parses is written back to the same proof, and what verifies is a
//! leaf of the log. Any claim to the verifiers: no panic.
#![no_main]

use std::sync::LazyLock;

use ledger::{Hash, HashKind, PublicKeys, TlogProof, verify_consistency, verify_inclusion};
use libfuzzer_sys::fuzz_target;

static KEYS: LazyLock<PublicKeys> = LazyLock::new(fuzz::keys);

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(proof) = TlogProof::parse(text)
    {
        assert_eq!(TlogProof::parse(&proof.to_string()).as_ref(), Ok(&proof));
        for leaf in fuzz::leaves().into_iter().chain([&b"other"[..]]) {
            if proof.verify(leaf, &KEYS).is_ok() {
                assert_eq!(fuzz::leaves()[proof.index as usize], leaf);
            }
        }
    }
    let (numbers, rest) = bytes.as_chunks::<8>();
    let [a, b, ..] = *numbers else {
        return;
    };
    let path: Vec<Hash> = bytes[16..]
        .as_chunks()
        .0
        .iter()
        .copied()
        .map(Hash)
        .collect();
    let (a, b) = (u64::from_le_bytes(a), u64::from_le_bytes(b));
    // Small ones too, where paths are as short as what the fuzzer makes.
    let shift = rest.first().map_or(0, |byte| byte % 64);
    let (a, b) = (a >> shift, b >> shift);
    for kind in [HashKind::Blake3, HashKind::Sha256] {
        let root = kind.leaf(b"root");
        assert!(verify_inclusion(kind, a, b, kind.leaf(b""), &path, root).is_err());
        let _ = verify_consistency(kind, a, kind.leaf(b""), b, root, &path);
    }
});
