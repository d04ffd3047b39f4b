//! Ring buffer bytes: no panic, and every record of an event becomes one.
#![no_main]

use event::{BootId, WallTime};
use libfuzzer_sys::fuzz_target;
use sensor_linux::cgroup::Membership;
use sensor_linux::decode::{Record, decode};
use sensor_linux::normalize::{Clock, normalize};

fuzz_target!(|bytes: &[u8]| {
    let clock = Clock { boot: BootId([1; 16]), boot_wall: WallTime(1), offset: 1 };
    let Ok(record) = decode(bytes) else { return };
    if let Record::Cgroup(cgroup) = record {
        let outermost_first = cgroup.path.rsplit(|b| *b == 0);
        let _ = Membership::of_components(outermost_first);
    }
    let event = normalize(&record, &clock);
    assert_eq!(event.is_some(), record.event_header().is_some());
    if let Some(event) = event {
        assert_eq!(event.header.boot, clock.boot);
    }
});
