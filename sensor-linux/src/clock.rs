//! The clocks.

use event::{BootTime, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// Now, since boot.
pub(crate) fn boot_time() -> BootTime {
    BootTime(nanoseconds(ClockId::Boottime))
}

/// Wall time at boot, by the present setting of the wall clock.
pub(crate) fn boot_wall() -> WallTime {
    WallTime(nanoseconds(ClockId::Realtime).saturating_sub(nanoseconds(ClockId::Boottime)))
}

/// A clock's reading in ns.
pub(crate) fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}
