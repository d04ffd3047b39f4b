use std::time::{Duration, Instant};

/// How long the stages sleep while events flow. Longer than the sensor's own naps, so that each look
/// finds something; bounds the latency that batching adds.
const NAP: Duration = Duration::from_millis(3);

/// Batches that follow each other closely, from which on events flow. What one program does from
/// its fork to its exit is fewer: its alert is not to wait.
const STREAK: u32 = 5;

/// Tells a flow of events, which is taken in naps, from single ones, which are taken at once.
///
/// To be woken for each batch costs the stages, and the agent after them, more than the events in
/// it.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the last batch came.
    last: Option<Instant>,
    /// Batches without a pause between them.
    streak: u32,
}

impl Pace {
    /// A batch came.
    pub(crate) fn came(&mut self, now: Instant) {
        self.streak = if self.is_within(NAP + NAP, now) {
            self.streak.saturating_add(1)
        } else {
            1
        };
        self.last = Some(now);
    }

    /// How long to sleep before the next look; `None`: wait for what comes.
    pub(crate) fn nap(&self, now: Instant) -> Option<Duration> {
        // Not after a look that found nothing.
        (self.streak >= STREAK && self.is_within(NAP, now)).then_some(NAP)
    }

    fn is_within(&self, span: Duration, now: Instant) -> bool {
        self.last
            .is_some_and(|last| now.saturating_duration_since(last) < span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Batches so many ms after each other; whether a nap follows the last one.
    fn check(gaps: &[u32], naps: bool) -> (Pace, Instant) {
        let mut now = Instant::now();
        let mut pace = Pace::default();
        for gap in gaps {
            now += MS * *gap;
            pace.came(now);
        }
        assert_eq!(pace.nap(now), naps.then_some(NAP), "{gaps:?}");
        (pace, now)
    }

    #[test]
    fn events_flow_once_batches_follow_each_other() {
        check(&[], false);
        check(&[0, 1, 1, 1], false);
        check(&[0, 2, 2, 2, 2], true);
        check(&[0, 2, 2, 2, 2, 4, 4], true);
        check(&[0, 2, 2, 2, 2, 6], false);
        check(&[0, 20, 20, 20, 20, 20, 20], false);
    }

    #[test]
    fn look_that_finds_nothing_ends_the_flow() {
        // An event after a pause is waited for, and so taken at once.
        let (mut pace, now) = check(&[0, 2, 2, 2, 2], true);
        let later = now + NAP;
        assert_eq!(pace.nap(later), None);
        pace.came(later + NAP);
        assert_eq!(pace.nap(later + NAP), None);
    }
}
