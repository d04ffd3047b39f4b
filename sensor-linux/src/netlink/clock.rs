use event::{BootId, BootTime, Header, WallTime};
use sensor_ebpf::record::{START_TICK, tick_of};

use crate::clock::{boot_wall, suspended_ns};

/// From the clock of messages to those of events.
#[derive(Debug)]
pub(crate) struct Clock {
    pub(crate) boot: BootId,
    boot_wall: WallTime,
    /// See [`suspended_ns`].
    suspended_ns: u64,
}

/// A change below this is the inaccuracy of measuring.
const SUSPEND_NS: u64 = 1_000_000;

impl Clock {
    pub(crate) fn new(boot: BootId) -> Self {
        let mut clock = Self {
            boot,
            boot_wall: boot_wall(),
            suspended_ns: 0,
        };
        clock.refresh();
        clock
    }

    /// Follows changes of the wall clock and suspends. Messages from before a suspend that are read
    /// after this are dated after it.
    pub(crate) fn refresh(&mut self) {
        self.boot_wall = boot_wall();
        let suspended = suspended_ns();
        if suspended.abs_diff(self.suspended_ns) > SUSPEND_NS {
            self.suspended_ns = suspended;
        }
    }

    pub(crate) fn boot_time(&self, monotonic_ns: u64) -> BootTime {
        BootTime(monotonic_ns.saturating_add(self.suspended_ns))
    }

    pub(crate) fn header(&self, time: BootTime, cpu: u32, sequence: u64) -> Header {
        Header {
            boot: self.boot,
            sequence,
            cpu,
            time,
            wall: WallTime::at(self.boot_wall, time),
        }
    }
}

/// A time in steps of procfs's start times.
pub(crate) fn tick(time: BootTime) -> BootTime {
    BootTime(tick_of(time.0))
}

/// Whether a start that is known and one that procfs shows are one process's: the former can be by
/// the time of its fork, and then one tick late.
pub(crate) fn is_same_start(known: BootTime, shown: BootTime) -> bool {
    shown <= known && known.0 - shown.0 <= START_TICK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_messages_are_moved_by_the_time_of_suspends() {
        let clock = Clock {
            boot: BootId::default(),
            boot_wall: WallTime(1_000),
            suspended_ns: 50,
        };
        let header = clock.header(clock.boot_time(7), 1, 9);
        assert_eq!((header.time, header.wall), (BootTime(57), WallTime(1_057)));
        assert_eq!((header.cpu, header.sequence), (1, 9));
        assert_eq!(tick(BootTime(29_999_999)), BootTime(20_000_000));
    }

    #[test]
    fn start_by_a_fork_can_be_one_tick_late_but_not_early() {
        let check = |shown, same| {
            let known = BootTime(50_000_000);
            assert_eq!(is_same_start(known, BootTime(shown)), same, "{shown}");
        };
        check(50_000_000, true);
        check(40_000_000, true);
        check(30_000_000, false);
        check(60_000_000, false);
    }
}
