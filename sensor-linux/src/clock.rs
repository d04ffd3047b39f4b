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

/// What `CLOCK_BOOTTIME` is ahead of `CLOCK_MONOTONIC`: all the time that the host was suspended. The
/// least of a few readings, since an interruption between the two clocks makes it larger.
pub(crate) fn suspended_ns() -> u64 {
    let ahead = || {
        let monotonic = nanoseconds(ClockId::Monotonic);
        nanoseconds(ClockId::Boottime).saturating_sub(monotonic)
    };
    (0..5).map(|_| ahead()).min().unwrap_or(0)
}

/// A clock's reading in ns.
pub(crate) fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}
