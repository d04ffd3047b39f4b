use event::{BootId, BootTime, Header, WallTime};

/// Turns macOS' wall times into times since boot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    boot: WallTime,
    id: BootId,
}

impl Clock {
    /// `boot` must be the same for every start of the sensor in one boot. `kern.boottime` is not:
    /// it is moved along with the clock. The start time of process 1 is.
    pub(crate) fn new(boot: WallTime, id: BootId) -> Self {
        Self { boot, id }
    }

    pub(crate) fn boot_id(&self) -> BootId {
        self.id
    }

    /// 0 for times before boot, which a clock that was set back gives.
    pub(crate) fn since_boot(&self, time: WallTime) -> BootTime {
        BootTime(time.0.saturating_sub(self.boot.0))
    }

    pub(crate) fn header(&self, wall: WallTime, sequence: u64) -> Header {
        Header {
            boot: self.id,
            sequence,
            cpu: 0,
            time: self.since_boot(wall),
            wall,
        }
    }
}
