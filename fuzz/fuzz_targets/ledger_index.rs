//! What the index holds, tiles and the commit record: no panic, and one spelling.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ledger::fuzzing::index_values(bytes));
