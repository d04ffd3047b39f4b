//! How fast files are read.

use std::time::{Duration, Instant};

/// So much time's worth of reading may be done at once after a rest.
const BURST: Duration = Duration::from_millis(250);

/// A token bucket that lets itself be overdrawn by one read.
#[derive(Debug)]
pub(super) struct Budget {
    /// Bytes in a second.
    rate: u64,
    /// When the bucket is as full as it gets, if nothing is taken.
    full: Instant,
}

impl Budget {
    pub(super) fn new(rate: u64, now: Instant) -> Self {
        Self {
            rate: rate.max(1),
            full: now,
        }
    }

    pub(super) fn spend(&mut self, bytes: usize, now: Instant) {
        let cost = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        self.full = self.full.max(now) + cost;
    }

    /// How long to wait before the next read.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.full.saturating_duration_since(now + BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_keeps_to_its_rate_after_a_burst() {
        let start = Instant::now();
        let mut now = start;
        let mut budget = Budget::new(1_000_000, now);
        for _ in 0..100 {
            now += budget.wait(now);
            budget.spend(100_000, now);
        }
        let took = now - start;
        assert!(took > Duration::from_millis(9_500), "{took:?}");
        assert!(took < Duration::from_millis(10_000), "{took:?}");
        assert_eq!(budget.wait(now + Duration::from_secs(60)), Duration::ZERO);
    }
}
