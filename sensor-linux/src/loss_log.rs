//! Tells the operator of losses: at once of the first, then in sums, each with what would help.

use std::time::{Duration, Instant};

use event::{DropReason, EventClass, Lost};

/// Shortest time between two messages.
const INTERVAL: Duration = Duration::from_secs(10);

/// Largest ring that the advice names.
const LARGEST_RING: u32 = 512 << 20;

/// What was lost and not yet told.
#[derive(Debug)]
pub(crate) struct LossLog {
    /// Of the ring or of the socket, whichever the source has.
    ring_bytes: u32,
    max_processes: u32,
    untold: Vec<(EventClass, DropReason, u64)>,
    told: Option<Instant>,
}

impl LossLog {
    pub(crate) fn new(ring_bytes: u32, max_processes: u32) -> Self {
        Self {
            ring_bytes,
            max_processes,
            untold: Vec::new(),
            told: None,
        }
    }

    /// Adds losses.
    pub(crate) fn note(&mut self, lost: &Lost) {
        let same = |(class, reason, _): &&mut (EventClass, DropReason, u64)| {
            (*class, *reason) == (lost.class, lost.reason)
        };
        match self.untold.iter_mut().find(same) {
            Some((_, _, count)) => *count += lost.count,
            None => self.untold.push((lost.class, lost.reason, lost.count)),
        }
    }

    /// The messages that are due.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<String> {
        let recent = self.told.is_some_and(|told| now - told < INTERVAL);
        if self.untold.is_empty() || recent {
            return Vec::new();
        }
        self.told = Some(now);
        let untold = std::mem::take(&mut self.untold);
        let mut reasons: Vec<DropReason> = untold.iter().map(|(_, reason, _)| *reason).collect();
        reasons.sort_unstable();
        reasons.dedup();
        reasons
            .into_iter()
            .map(|reason| self.message(reason, &untold))
            .collect()
    }

    fn message(&self, reason: DropReason, lost: &[(EventClass, DropReason, u64)]) -> String {
        let counts: Vec<String> = lost
            .iter()
            .filter(|(_, r, _)| *r == reason)
            .map(|(class, _, count)| format!("{count} {class}"))
            .collect();
        let advice = self.advice(reason);
        format!("events lost ({reason}): {}{advice}", counts.join(", "))
    }

    fn advice(&self, reason: DropReason) -> String {
        match reason {
            DropReason::RingFull if self.ring_bytes >= LARGEST_RING => {
                "; the kernel buffer is as large as can be: mute known noise with --mute".into()
            }
            DropReason::RingFull => format!(
                "; the kernel buffer was full: raise --ring-size from {} to {}, or mute known noise \
                 with --mute",
                size(self.ring_bytes),
                size(self.ring_bytes.saturating_mul(4).min(LARGEST_RING))
            ),
            DropReason::TableFull => format!(
                "; more processes live than the kernel side keeps apart: raise --max-processes from \
                 {} to {}",
                self.max_processes,
                self.max_processes.saturating_mul(2)
            ),
            // The eBPF sensor has a process map, the process connector has none.
            DropReason::SourceLost if self.max_processes > 0 => {
                "; this kernel preempts the programs and skips them meanwhile: a kernel that does not \
                 (preempt=none or voluntary) loses none"
                    .into()
            }
            DropReason::SourceLost => format!(
                "; the process connector's buffer was full: raise --netlink-buffer from {} to {}",
                size(self.ring_bytes),
                size(self.ring_bytes.saturating_mul(4).min(LARGEST_RING))
            ),
            _ => String::new(),
        }
    }
}

/// As the options take it.
fn size(bytes: u32) -> String {
    match bytes >> 20 {
        0 => format!("{}K", bytes >> 10),
        mib => mib.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use event::BootTime;

    use super::*;

    fn lost(class: EventClass, reason: DropReason, count: u64) -> Lost {
        Lost {
            class,
            reason,
            count,
            from: BootTime(0),
            to: BootTime(0),
        }
    }

    #[test]
    fn the_first_loss_is_told_at_once_and_later_ones_in_sums_with_the_knob_to_turn() {
        let mut log = LossLog::new(4 << 20, 1024);
        let start = Instant::now();
        assert!(log.due(start).is_empty());
        log.note(&lost(EventClass::Exec, DropReason::RingFull, 5));
        log.note(&lost(EventClass::Fork, DropReason::RingFull, 2));
        log.note(&lost(EventClass::Exit, DropReason::TableFull, 1));
        let told = log.due(start);
        assert_eq!(
            told[0],
            "events lost (ring_full): 5 exec, 2 fork; the kernel buffer was full: raise \
             --ring-size from 4 to 16, or mute known noise with --mute"
        );
        assert!(
            told[1].ends_with("raise --max-processes from 1024 to 2048"),
            "{}",
            told[1]
        );
        log.note(&lost(EventClass::Exec, DropReason::RingFull, 1));
        log.note(&lost(EventClass::Exec, DropReason::RingFull, 3));
        assert!(log.due(start + Duration::from_secs(9)).is_empty());
        let told = log.due(start + Duration::from_secs(11));
        assert!(told[0].contains("4 exec;"), "{}", told[0]);
    }

    #[test]
    fn advice_names_sizes_as_the_option_takes_them() {
        let check = |kib: u32, expected| {
            let mut log = LossLog::new(kib << 10, 1024);
            log.note(&lost(EventClass::Exec, DropReason::RingFull, 1));
            let told = log.due(Instant::now());
            assert!(told[0].contains(expected), "{}", told[0]);
        };
        check(64, "from 64K to 256K,");
        check(256, "from 256K to 1,");
        check(1024, "from 1 to 4,");
        check(200 << 10, "from 200 to 512,");
    }
}
