//! What was delivered and what was not, as [`event::Stats`] and [`event::Lost`] events.

use event::{AnnouncedLosses, BootTime, DropReason, EventClass, Lost, Stats};

/// Counts that no other part keeps.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) delivered: u64,
    pub(crate) truncated: u64,
    /// Of processes that had ended before the snapshot reached them.
    pub(crate) untracked_exits: u64,
    /// Messages about processes whose start was lost, or was before ours, and that procfs no longer
    /// knows: without a key there is no event.
    pub(crate) nameless_execs: u64,
    pub(crate) nameless_exits: u64,
    announced: AnnouncedLosses,
}

/// What the inbox counts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Inflow {
    /// Messages that never came; of any kind, also of threads and renamings.
    pub(crate) lost: u64,
    pub(crate) malformed: u64,
    pub(crate) gaps: u64,
    pub(crate) waiting: u64,
}

type Loss = (EventClass, DropReason, u64);

impl Books {
    pub(crate) fn new(now: BootTime) -> Self {
        Self {
            delivered: 0,
            truncated: 0,
            untracked_exits: 0,
            nameless_execs: 0,
            nameless_exits: 0,
            announced: AnnouncedLosses::since(now),
        }
    }

    /// Losses since the last call.
    pub(crate) fn announce(&mut self, inflow: Inflow, now: BootTime) -> Vec<Lost> {
        let losses = self.losses(inflow);
        self.announced.tell(losses, now)
    }

    pub(crate) fn stats(&self, inflow: Inflow) -> Stats {
        let losses = self.losses(inflow).into_iter();
        let dropped: Vec<Loss> = losses.filter(|(_, _, count)| *count > 0).collect();
        let lost: u64 = dropped.iter().map(|(_, _, count)| count).sum();
        Stats {
            seen: self.delivered + lost + inflow.waiting,
            delivered: self.delivered,
            dropped,
            held: inflow.waiting,
            truncated: self.truncated,
            incomplete: Vec::new(),
            sequence_gaps: inflow.gaps,
            untracked_exits: self.untracked_exits,
            muted: Vec::new(),
        }
    }

    fn losses(&self, inflow: Inflow) -> [Loss; 4] {
        let nameless = DropReason::Unreadable;
        [
            (EventClass::Unknown, DropReason::SourceLost, inflow.lost),
            (EventClass::Exec, nameless, self.nameless_execs),
            (EventClass::Exit, nameless, self.nameless_exits),
            (EventClass::Unknown, DropReason::Malformed, inflow.malformed),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_delivered_dropped_or_held() {
        let mut books = Books::new(BootTime(0));
        (books.delivered, books.nameless_exits) = (10, 2);
        let inflow = Inflow {
            lost: 5,
            malformed: 1,
            gaps: 4,
            waiting: 3,
        };
        let stats = books.stats(inflow);
        assert_eq!((stats.seen, stats.held, stats.sequence_gaps), (21, 3, 4));
        assert_eq!(stats.dropped_total(), 8);
        let told: u64 = books
            .announce(inflow, BootTime(9))
            .iter()
            .map(|l| l.count)
            .sum();
        assert_eq!(told, 8);
        assert!(books.announce(inflow, BootTime(10)).is_empty());
    }
}
