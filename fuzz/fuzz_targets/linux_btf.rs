//! Kernel type descriptions: any bytes parse or are refused, and lookups end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor_linux::btf::Btf;
use sensor_linux::offsets::Offsets;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(btf) = Btf::parse(bytes) {
        let _ = Offsets::resolve(&btf);
    }
});
