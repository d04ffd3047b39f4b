//! Argument blocks of any bytes: redaction neither panics nor changes the number of arguments.
#![no_main]

use event::{Argv, Bytes};
use libfuzzer_sys::fuzz_target;
use pipeline::redact::{Config, Redactor};

thread_local! {
    static REDACTOR: Redactor = Redactor::new(&Config::default()).expect("the default compiles");
}

fuzz_target!(|block: &[u8]| {
    let argv = Argv::from_block(Bytes::copy_from_slice(block));
    if let Some((redacted, count)) = REDACTOR.with(|redactor| redactor.argv(&argv)) {
        assert!(count > 0);
        assert_eq!(redacted.len(), argv.len());
    }
});
