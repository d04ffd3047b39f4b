//! What the programs counted and what arrived, as [`event::Stats`] and [`event::Lost`] events.

use event::{BootTime, DropReason, EventClass, Lost, Stats};
use sensor_ebpf::drops::Slot;

use crate::sys::Counters;

/// Counters of the programs that mean an event will never be delivered.
const DROPS: [(Slot, EventClass, DropReason); 5] = [
    (Slot::ForkRingFull, EventClass::Fork, DropReason::RingFull),
    (Slot::ExecRingFull, EventClass::Exec, DropReason::RingFull),
    (Slot::ExitRingFull, EventClass::Exit, DropReason::RingFull),
    // The record itself is delivered, but the exit of that process will be missing.
    (Slot::ForkTableFull, EventClass::Exit, DropReason::TableFull),
    (Slot::ExecTableFull, EventClass::Exit, DropReason::TableFull),
];

/// Drops at the ring: each took a sequence number.
const RING_DROPS: [Slot; 3] = [Slot::ForkRingFull, Slot::ExecRingFull, Slot::ExitRingFull];

/// What arrived here.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) delivered: u64,
    pub(crate) truncated: u64,
    pub(crate) malformed: u64,
    pub(crate) snapshot: u64,
    /// Highest sequence number and count of records, by cpu.
    arrived: Vec<(u64, u64)>,
    announced: [u64; DROPS.len()],
    announced_malformed: u64,
    announced_until: BootTime,
}

impl Tally {
    pub(crate) fn new(cpus: u32, now: BootTime) -> Self {
        Self {
            delivered: 0,
            truncated: 0,
            malformed: 0,
            snapshot: 0,
            arrived: vec![(0, 0); cpus as usize],
            announced: [0; DROPS.len()],
            announced_malformed: 0,
            announced_until: now,
        }
    }

    /// Notes a record that arrived.
    pub(crate) fn arrived(&mut self, cpu: u32, sequence: u64) {
        if let Some((highest, count)) = self.arrived.get_mut(cpu as usize) {
            *highest = sequence.max(*highest);
            *count += 1;
        }
        self.delivered += 1;
    }

    /// Losses since the last call.
    pub(crate) fn announce(&mut self, counters: &Counters, now: BootTime) -> Vec<Lost> {
        let from = std::mem::replace(&mut self.announced_until, now);
        let mut lost = Vec::new();
        let mut add = |class, reason, total: u64, announced: &mut u64| {
            let count = total.saturating_sub(*announced);
            *announced = total;
            if count > 0 {
                lost.push(Lost {
                    class,
                    reason,
                    count,
                    from,
                    to: now,
                });
            }
        };
        for ((slot, class, reason), announced) in DROPS.iter().zip(&mut self.announced) {
            add(*class, *reason, counters.total(*slot), announced);
        }
        add(
            EventClass::Unknown,
            DropReason::Malformed,
            self.malformed,
            &mut self.announced_malformed,
        );
        lost
    }

    /// Everything counted so far. `held` is what the programs submitted and nobody read yet.
    pub(crate) fn stats(&self, counters: &Counters) -> Stats {
        let begun = counters.total(Slot::Sequence);
        let ring_drops: u64 = RING_DROPS.iter().map(|slot| counters.total(*slot)).sum();
        let never_recorded =
            counters.total(Slot::ForkTableFull) + counters.total(Slot::ExecTableFull);
        let read = self.delivered + self.malformed;
        Stats {
            seen: begun + never_recorded + self.snapshot,
            delivered: self.delivered + self.snapshot,
            dropped: self.dropped(counters),
            held: begun.saturating_sub(ring_drops).saturating_sub(read),
            truncated: self.truncated,
            sequence_gaps: self.sequence_gaps(),
            untracked_exits: counters.total(Slot::ExitUntracked),
        }
    }

    fn dropped(&self, counters: &Counters) -> Vec<(EventClass, DropReason, u64)> {
        DROPS
            .iter()
            .map(|(slot, class, reason)| (*class, *reason, counters.total(*slot)))
            .chain([(EventClass::Unknown, DropReason::Malformed, self.malformed)])
            .filter(|(_, _, count)| *count > 0)
            .collect()
    }

    /// Numbers that were given out on a cpu below the highest one seen, and did not arrive.
    /// Counted, not followed one by one: with preemptible tracepoints two records can swap places.
    fn sequence_gaps(&self) -> u64 {
        self.arrived
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(highest, count)| (highest + 1).saturating_sub(*count))
            .sum()
    }
}
