//! The process list that Windows fills in: any bytes end without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, &[u8])| {
    let (address, bytes) = input;
    let rows = sensor_windows::processes::parse(bytes, address);
    assert!(rows.len() <= bytes.len() / 0x68);
});
