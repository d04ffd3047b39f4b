use std::collections::BTreeMap;

use crate::{BootTime, DropReason, EventClass, Lost};

/// What a sensor has told of its losses, so that its counters become [`Lost`] events once.
#[derive(Debug, Default)]
pub struct AnnouncedLosses {
    told: BTreeMap<(EventClass, DropReason), u64>,
    until: BootTime,
}

impl AnnouncedLosses {
    /// Nothing is told yet; losses are from `now` on.
    #[must_use]
    pub fn since(now: BootTime) -> Self {
        Self {
            told: BTreeMap::new(),
            until: now,
        }
    }

    /// What the totals grew by since the last call. A total that shrinks tells nothing until it
    /// has grown past what was told.
    pub fn tell(
        &mut self,
        totals: impl IntoIterator<Item = (EventClass, DropReason, u64)>,
        now: BootTime,
    ) -> Vec<Lost> {
        let from = std::mem::replace(&mut self.until, now);
        let mut lost = Vec::new();
        for (class, reason, total) in totals {
            let told = self.told.entry((class, reason)).or_default();
            let count = total.saturating_sub(*told);
            *told += count;
            if count > 0 {
                lost.push(Lost {
                    class,
                    reason,
                    count,
                    from,
                    to: now,
                });
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_is_told_once_with_its_interval() {
        let mut losses = AnnouncedLosses::since(BootTime(1));
        let mut tell = |total, now| -> Vec<(u64, u64, u64)> {
            let totals = [(EventClass::Exec, DropReason::RingFull, total)];
            let lost = losses.tell(totals, BootTime(now));
            lost.iter().map(|l| (l.count, l.from.0, l.to.0)).collect()
        };
        assert_eq!(tell(0, 5), []);
        assert_eq!(tell(3, 7), [(3, 5, 7)]);
        assert_eq!(tell(2, 8), []);
        assert_eq!(tell(4, 9), [(1, 8, 9)]);
    }
}
