//! tlog-proof texts: no panic, and what parses is written back to the same proof.
#![no_main]

use ledger::TlogProof;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(proof) = TlogProof::parse(text) {
        assert_eq!(TlogProof::parse(&proof.to_string()), Ok(proof));
    }
});
