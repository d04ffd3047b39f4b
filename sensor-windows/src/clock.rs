use event::{BootId, BootTime, Header, WallTime};

/// 100 ns steps since 1601-01-01T00:00:00Z, as Windows keeps time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct FileTime(pub(crate) u64);

const STEP_NS: u64 = 100;
/// From 1601 to 1970.
const UNIX_EPOCH: u64 = 11_644_473_600 * 10_000_000;

/// Turns Windows' wall times into times since boot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    boot: FileTime,
    id: BootId,
}

impl Clock {
    /// `boot` must be what the clock showed at boot, without later corrections: then it is the
    /// same for every start of the sensor. It and a hash of the host's name make the boot id,
    /// since Windows has none of its own.
    pub(crate) fn new(boot: FileTime, host: &str) -> Self {
        let fnv1a = host.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let id = u128::from(boot.0) << 64 | u128::from(fnv1a);
        Self {
            boot,
            id: BootId(id.to_be_bytes()),
        }
    }

    pub(crate) fn boot_id(&self) -> BootId {
        self.id
    }

    /// 0 for times before boot, which a clock that was set back gives.
    pub(crate) fn since_boot(&self, time: FileTime) -> BootTime {
        BootTime(time.0.saturating_sub(self.boot.0).saturating_mul(STEP_NS))
    }

    pub(crate) fn header(&self, time: FileTime, sequence: u64) -> Header {
        Header {
            boot: self.id,
            sequence,
            cpu: 0,
            time: self.since_boot(time),
            wall: wall(time),
        }
    }
}

fn wall(time: FileTime) -> WallTime {
    WallTime(time.0.saturating_sub(UNIX_EPOCH).saturating_mul(STEP_NS))
}

#[cfg(test)]
mod tests {
    use event::BootTime;

    use super::{Clock, FileTime, wall};

    #[test]
    fn file_times_become_wall_and_boot_times() {
        let time = FileTime(116_444_736_000_000_001);
        assert_eq!(wall(time).to_string(), "1970-01-01T00:00:00.000000100Z");
        let clock = Clock::new(FileTime(time.0 - 10_000_000), "host");
        assert_eq!(clock.since_boot(time), BootTime(1_000_000_000));
    }

    #[test]
    fn times_out_of_range_saturate() {
        let clock = Clock::new(FileTime(1000), "host");
        assert_eq!(clock.since_boot(FileTime(0)), BootTime(0));
        assert_eq!(clock.since_boot(FileTime(u64::MAX)), BootTime(u64::MAX));
        assert_eq!(wall(FileTime(0)).0, 0);
    }

    #[test]
    fn boot_id_depends_on_boot_and_host() {
        let id = |boot, host| Clock::new(FileTime(boot), host).boot_id();
        assert_eq!(id(1, "a"), id(1, "a"));
        assert!(id(1, "a") != id(2, "a") && id(1, "a") != id(1, "b"));
    }
}
