//! The arguments of a process as sysctl gives them: any bytes end without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|buffer: &[u8]| {
    let total: usize = sensor_macos::procargs::parse(buffer).iter().map(|a| a.len()).sum();
    assert!(total <= buffer.len());
});
