//! Ring buffer bytes: no panic, and every record that decodes becomes an event.
#![no_main]

use event::{BootId, WallTime};
use libfuzzer_sys::fuzz_target;
use sensor_linux::decode::decode;
use sensor_linux::normalize::{Clock, normalize};

fuzz_target!(|bytes: &[u8]| {
    let clock = Clock { boot: BootId([1; 16]), boot_wall: WallTime(1) };
    if let Ok(record) = decode(bytes) {
        let event = normalize(&record, &clock);
        assert_eq!(event.header.boot, clock.boot);
    }
});
