//! What the programs counted and what arrived, as [`event::Stats`] and [`event::Lost`] events.

use event::{AnnouncedLosses, BootTime, DropReason, EventClass, Lost, Stats};
use sensor_ebpf::drops::Slot;

use crate::sys::Counters;

/// Records dropped at the ring: each took a sequence number.
const RING_DROPS: [(Slot, EventClass); 4] = [
    (Slot::ForkRingFull, EventClass::Fork),
    (Slot::ExecRingFull, EventClass::Exec),
    (Slot::ExitRingFull, EventClass::Exit),
    (Slot::FailedExecRingFull, EventClass::FailedExec),
];

/// Events that the mute list kept quiet.
const MUTED: [(Slot, EventClass); 4] = [
    (Slot::MutedFork, EventClass::Fork),
    (Slot::MutedExec, EventClass::Exec),
    (Slot::MutedExit, EventClass::Exit),
    (Slot::MutedFailedExec, EventClass::FailedExec),
];

/// Kinds of loss that are announced: those at the ring, exits for want of room in the process map,
/// and records that do not decode.
const KINDS: usize = RING_DROPS.len() + 2;

type Loss = (EventClass, DropReason, u64);

/// What arrived here.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) delivered: u64,
    pub(crate) truncated: u64,
    pub(crate) malformed: u64,
    pub(crate) snapshot: u64,
    /// Rows of the snapshot that found no room in the process map.
    pub(crate) snapshot_without_room: u64,
    /// [`Slot::LateEntry`] when the snapshot was over: what comes on top had found no room before.
    late_entries_before: u64,
    /// Highest sequence number and count of the records that arrived, by cpu.
    arrived: Vec<(u64, u64)>,
    announced: AnnouncedLosses,
}

impl Tally {
    pub(crate) fn new(cpus: u32, now: BootTime) -> Self {
        Self {
            delivered: 0,
            truncated: 0,
            malformed: 0,
            snapshot: 0,
            snapshot_without_room: 0,
            late_entries_before: 0,
            arrived: vec![(0, 0); cpus as usize],
            announced: AnnouncedLosses::since(now),
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

    /// The snapshot is over: every process that already ran is in the map, or counted.
    pub(crate) fn snapshot_done(&mut self, counters: &Counters) {
        self.late_entries_before = counters.total(Slot::LateEntry);
    }

    /// Losses since the last call.
    pub(crate) fn announce(&mut self, counters: &Counters, now: BootTime) -> Vec<Lost> {
        let losses = self.losses(counters);
        self.announced.tell(losses, now)
    }

    /// Everything counted so far. `held` is what the programs submitted and nobody read yet.
    pub(crate) fn stats(&self, counters: &Counters) -> Stats {
        let begun = counters.total(Slot::Sequence);
        let losses = self.losses(counters);
        let at_the_ring = total(&losses[..RING_DROPS.len()]);
        let read = self.delivered + self.malformed;
        Stats {
            seen: begun + self.exits_without_room(counters) + self.snapshot,
            delivered: self.delivered + self.snapshot,
            dropped: losses
                .into_iter()
                .filter(|(_, _, count)| *count > 0)
                .collect(),
            held: begun.saturating_sub(at_the_ring).saturating_sub(read),
            truncated: self.truncated,
            sequence_gaps: self.sequence_gaps(),
            untracked_exits: counters.total(Slot::ExitUntracked),
            muted: MUTED
                .map(|(slot, class)| (class, counters.total(slot)))
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }

    fn losses(&self, counters: &Counters) -> [Loss; KINDS] {
        let ring = RING_DROPS.map(|(slot, class)| {
            let count = counters.total(slot);
            (class, DropReason::RingFull, count)
        });
        let exits = self.exits_without_room(counters);
        let [forks, execs, ring_exits, failed_execs] = ring;
        [
            forks,
            execs,
            ring_exits,
            failed_execs,
            (EventClass::Exit, DropReason::TableFull, exits),
            (EventClass::Unknown, DropReason::Malformed, self.malformed),
        ]
    }

    /// Processes whose exit will not be reported. One that finds room later, at an exec, is no
    /// longer among them.
    fn exits_without_room(&self, counters: &Counters) -> u64 {
        let late = counters
            .total(Slot::LateEntry)
            .saturating_sub(self.late_entries_before);
        (counters.total(Slot::ForkTableFull) + self.snapshot_without_room).saturating_sub(late)
    }

    /// Numbers below the highest one that arrived from a cpu and that did not arrive themselves.
    /// Counted, not followed one by one: with preemptible tracepoints two records can swap places.
    fn sequence_gaps(&self) -> u64 {
        self.arrived
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(highest, count)| (highest + 1).saturating_sub(*count))
            .sum()
    }
}

fn total(losses: &[Loss]) -> u64 {
    losses.iter().map(|(_, _, count)| count).sum()
}
