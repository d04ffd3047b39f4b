use std::time::{Duration, Instant, SystemTime};

use event::{BootId, BootTime, Header, WallTime};

/// The boot clock as of now, told from the events themselves: each carries its boot time and its
/// wall time, so its age on the wall clock gives the present boot time. No system call, the same
/// on every system, and never more than `max_age` off after a step of the wall clock.
#[derive(Debug)]
pub(crate) struct Clock {
    time: BootTime,
    at: Instant,
    max_age: Duration,
}

impl Clock {
    pub(crate) fn new(max_age: Duration) -> Self {
        Self {
            time: BootTime(0),
            at: Instant::now(),
            max_age,
        }
    }

    /// Learns from an event that was just received.
    pub(crate) fn observe(&mut self, header: &Header) {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_nanos(header.wall.0);
        let age = SystemTime::now()
            .duration_since(wall)
            .unwrap_or_default()
            .min(self.max_age);
        let estimate = after(header.time, age);
        if estimate > self.now() {
            *self = Self {
                time: estimate,
                at: Instant::now(),
                max_age: self.max_age,
            };
        }
    }

    pub(crate) fn now(&self) -> BootTime {
        after(self.time, self.at.elapsed())
    }

    /// For an event that happens here and now.
    pub(crate) fn header(&self, boot: BootId) -> Header {
        Header {
            boot,
            time: self.now(),
            wall: wall_now(),
            ..Header::default()
        }
    }
}

pub(crate) fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ns = since.unwrap_or_default().as_nanos();
    WallTime(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// A time so much later.
pub(crate) fn after(time: BootTime, duration: Duration) -> BootTime {
    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    BootTime(time.0.saturating_add(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(time: u64, age: Duration) -> Header {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            - age;
        Header {
            time: BootTime(time),
            wall: WallTime(u64::try_from(wall.as_nanos()).unwrap()),
            ..Header::default()
        }
    }

    #[test]
    fn clock_adds_the_age_of_the_event_up_to_its_limit() {
        let mut clock = Clock::new(Duration::from_secs(5));
        clock.observe(&header(1_000_000_000, Duration::from_secs(2)));
        assert!(clock.now() >= BootTime(3_000_000_000));
        clock.observe(&header(10_000_000_000, Duration::from_secs(3600)));
        assert!((15_000_000_000..16_000_000_000).contains(&clock.now().0));
    }

    #[test]
    fn clock_does_not_go_back() {
        let mut clock = Clock::new(Duration::from_millis(5));
        clock.observe(&header(9_000_000_000, Duration::ZERO));
        clock.observe(&header(1_000_000_000, Duration::ZERO));
        assert!(clock.now() >= BootTime(9_000_000_000));
    }
}
