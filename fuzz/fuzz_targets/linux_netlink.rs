//! Datagrams of the process connector: no panic, and only event messages of a real cpu decode.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor_linux::netlink::message::decode;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = decode(bytes) {
        assert!(bytes.len() >= 36 + 16);
        assert!(message.number.is_none_or(|number| number.cpu < 1 << 16));
    }
});
