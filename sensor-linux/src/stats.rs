//! What the programs counted and what arrived, as [`event::Stats`] and [`event::Lost`] events.

use event::{AnnouncedLosses, BootTime, DropReason, EventClass, Lost, Stats};
use sensor_ebpf::drops::Slot;

use crate::misses::{Missed, Misses, Role};
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

/// Programs that the kernel can leave out, and that seldom run for nothing; see [`crate::misses`].
const SKIPPED: [EventClass; 3] = [EventClass::Fork, EventClass::Exec, EventClass::Exit];

const ARGS: &str = "args";
/// What a substitute does not know of an exec, see [`sensor_ebpf::record::header_flag::SUBSTITUTE`].
const INTERPRETER: &str = "interpreter";
/// And of an exit.
const RUN_TIME: &str = "run_time";
/// A path that was lost is sent again at the next exec in that control group.
pub(crate) const CONTAINER: &str = "container";
pub(crate) const ENVIRONMENT: &str = "environment";
/// Its program runs at the end of every system call: where the kernel left it out there was nearly
/// never a failed exec, so that no event can be said to be lost.
pub(crate) const FAILED_EXEC: &str = "failed_exec";

/// Parts of events that come in a record of their own, or could not be read, and what is counted as
/// they are.
const PARTS: [(Option<Slot>, &str); 4] = [
    (Some(Slot::ArgvUnreadable), ARGS),
    (Some(Slot::CgroupRingFull), CONTAINER),
    (Some(Slot::EnvironmentRingFull), ENVIRONMENT),
    (None, FAILED_EXEC),
];

/// Kinds of loss that are announced: those at the ring, events at which the kernel left a program
/// out, exits for want of room in the process map, and records that do not decode.
const KINDS: usize = RING_DROPS.len() + SKIPPED.len() + 2;

type Loss = (EventClass, DropReason, u64);

/// What arrived here.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) delivered: u64,
    pub(crate) truncated: u64,
    pub(crate) malformed: u64,
    pub(crate) snapshot: u64,
    /// Execs and exits told of by a substitute, which does not know all of them.
    pub(crate) substituted: (u64, u64),
    /// [`Slot::ExitUntracked`] when the snapshot was over: those had ended before it reached them. What
    /// comes on top had found no room in the process map.
    untracked_before: Option<u64>,
    /// Highest sequence number and count of the records that arrived, by cpu.
    arrived: Vec<(u64, u64)>,
    announced: AnnouncedLosses,
    /// What has been told of, so that stream and counters agree at any time.
    told: [Loss; KINDS],
    /// By part, how often the kernel left its program out, when that was last looked up.
    missed_parts: [u64; PARTS.len()],
}

impl Tally {
    pub(crate) fn new(cpus: u32, now: BootTime) -> Self {
        Self {
            delivered: 0,
            truncated: 0,
            malformed: 0,
            snapshot: 0,
            substituted: (0, 0),
            untracked_before: None,
            arrived: vec![(0, 0); cpus as usize],
            announced: AnnouncedLosses::since(now),
            told: [(EventClass::Unknown, DropReason::Malformed, 0); KINDS],
            missed_parts: [0; PARTS.len()],
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
        self.untracked_before = Some(counters.total(Slot::ExitUntracked));
    }

    /// Losses since the last call.
    pub(crate) fn announce(
        &mut self,
        counters: &Counters,
        misses: &Misses,
        now: BootTime,
    ) -> Vec<Lost> {
        self.told = self.losses(counters, misses);
        self.missed_parts = PARTS.map(|(_, part)| misses.of(Missed::Part(part)));
        self.announced.tell(self.told, now)
    }

    /// Everything counted so far. `held` is what the programs submitted and nobody read yet, and
    /// losses that were not told yet.
    pub(crate) fn stats(&self, counters: &Counters) -> Stats {
        let begun = counters.total(Slot::Sequence);
        let numbered =
            |(_, reason, _): &&Loss| matches!(reason, DropReason::RingFull | DropReason::Malformed);
        let (dropped, of_numbered) = (total(&self.told), total(self.told.iter().filter(numbered)));
        let unnumbered = dropped - of_numbered;
        Stats {
            seen: begun + unnumbered + self.snapshot,
            delivered: self.delivered + self.snapshot,
            dropped: self
                .told
                .into_iter()
                .filter(|(_, _, count)| *count > 0)
                .collect(),
            held: begun
                .saturating_sub(of_numbered)
                .saturating_sub(self.delivered),
            truncated: self.truncated,
            incomplete: self.incomplete(counters),
            sequence_gaps: self.sequence_gaps(),
            untracked_exits: counters
                .total(Slot::ExitUntracked)
                .saturating_sub(self.exits_without_room(counters)),
            muted: MUTED
                .map(|(slot, class)| (class, counters.total(slot)))
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }

    fn incomplete(&self, counters: &Counters) -> Vec<(&'static str, u64)> {
        let (execs, exits) = self.substituted;
        let parts = PARTS.iter().zip(self.missed_parts);
        parts
            .map(|(&(slot, part), missed)| {
                let counted = slot.map_or(0, |slot| counters.total(slot));
                (part, counted + missed)
            })
            .chain([(INTERPRETER, execs), (RUN_TIME, exits)])
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    fn losses(&self, counters: &Counters, misses: &Misses) -> [Loss; KINDS] {
        let ring = RING_DROPS.map(|(slot, class)| {
            let count = counters.total(slot);
            (class, DropReason::RingFull, count)
        });
        let exits = self.exits_without_room(counters);
        let skipped = SKIPPED.map(|class| {
            let count = self.skipped(class, counters, misses);
            (class, DropReason::SourceLost, count)
        });
        let [forks, execs, ring_exits, failed_execs] = ring;
        let [skipped_forks, skipped_execs, skipped_exits] = skipped;
        [
            forks,
            execs,
            ring_exits,
            failed_execs,
            skipped_forks,
            skipped_execs,
            skipped_exits,
            (EventClass::Exit, DropReason::TableFull, exits),
            (EventClass::Unknown, DropReason::Malformed, self.malformed),
        ]
    }

    /// Events at which the kernel left every program out, at most.
    fn skipped(&self, class: EventClass, counters: &Counters, misses: &Misses) -> u64 {
        let missed = Missed::Event(class);
        match class {
            EventClass::Exec => {
                let disregarded = counters.total(Slot::SubstituteFirst) > 0;
                let by_all = misses.by(missed, |role| role != Role::Substitute || !disregarded);
                // Only the first program tells of a process that is not in the map.
                let by_first = misses.by(missed, |role| role == Role::First);
                by_all + by_first.min(counters.total(Slot::ExecWithoutEntry))
            }
            EventClass::Exit => {
                // Nor does the one that waits for the release know those.
                let all_in_map = self.exits_without_room(counters) == 0;
                misses.by(missed, |role| role != Role::Release || all_in_map)
                    + counters.total(Slot::ExitMissed)
            }
            _ => misses.of(missed),
        }
    }

    /// Exits that were not reported because the process had found no room in the map.
    fn exits_without_room(&self, counters: &Counters) -> u64 {
        let before = self.untracked_before;
        before.map_or(0, |before| {
            counters.total(Slot::ExitUntracked).saturating_sub(before)
        })
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

fn total<'a>(losses: impl IntoIterator<Item = &'a Loss>) -> u64 {
    losses.into_iter().map(|(_, _, count)| count).sum()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;
    use crate::load::PROGRAMS;

    /// What the programs of two cpus counted.
    fn counters(counts: &[(u32, Slot, u64)]) -> Counters {
        use sensor_ebpf::drops::SLOTS_PER_CPU;
        let file = File::from(memfd_create("counters", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(u64::from(2 * SLOTS_PER_CPU) * 8).unwrap();
        for (cpu, slot, count) in counts {
            let at = u64::from(cpu * SLOTS_PER_CPU + *slot as u32) * 8;
            file.write_all_at(&count.to_ne_bytes(), at).unwrap();
        }
        Counters::map(&file, 2).unwrap()
    }

    #[test]
    fn parts_that_could_not_be_had_are_told_and_are_no_dropped_events() {
        let tally = Tally::new(2, BootTime(0));
        let counted = counters(&[
            (0, Slot::ArgvUnreadable, 2),
            (1, Slot::ArgvUnreadable, 1),
            (1, Slot::CgroupRingFull, 4),
            (0, Slot::EnvironmentRingFull, 5),
        ]);
        let stats = tally.stats(&counted);
        assert_eq!(
            stats.incomplete,
            [("args", 3), ("container", 4), ("environment", 5)]
        );
        assert_eq!((stats.seen, stats.dropped_total()), (0, 0));
        assert_eq!(tally.stats(&counters(&[])).incomplete, []);
    }

    /// The program of failed execs runs at every system call, and one that it missed was told as a
    /// failed exec that was lost.
    #[test]
    fn programs_that_the_kernel_left_out_lose_events_but_for_the_one_of_every_system_call() {
        let misses = Misses::simulated(PROGRAMS.map(|program| (program.missed, program.role, 7)));
        let (counted, mut tally) = (counters(&[]), Tally::new(2, BootTime(0)));
        let lost = tally.announce(&counted, &misses, BootTime(1));
        let mut lost: Vec<_> = lost.iter().map(|lost| (lost.class, lost.count)).collect();
        lost.sort_unstable();
        assert_eq!(lost, SKIPPED.map(|class| (class, 7)));
        let stats = tally.stats(&counted);
        assert_eq!(stats.dropped_total(), 21);
        assert_eq!(
            stats.incomplete,
            [("container", 7), ("environment", 7), ("failed_exec", 7)]
        );
    }

    /// A substitute that does not act for some of them is no proof that they were seen.
    #[test]
    fn what_a_substitute_leaves_alone_may_be_lost() {
        let [exec, exit] = [EventClass::Exec, EventClass::Exit].map(Missed::Event);
        let misses = Misses::simulated([
            (exec, Role::First, 9),
            (exec, Role::Again, 5),
            (exec, Role::Substitute, 1),
            (exit, Role::First, 8),
            (exit, Role::Substitute, 2),
            (exit, Role::Release, 0),
        ]);
        let mut tally = Tally::new(2, BootTime(0));
        tally.snapshot_done(&counters(&[]));
        let lost = |slots: &[(u32, Slot, u64)]| {
            let counted = counters(slots);
            let skipped = |class| tally.skipped(class, &counted, &misses);
            [skipped(EventClass::Exec), skipped(EventClass::Exit)]
        };
        assert_eq!(lost(&[]), [1, 0]);
        assert_eq!(lost(&[(0, Slot::SubstituteFirst, 1)]), [5, 0]);
        assert_eq!(lost(&[(1, Slot::ExecWithoutEntry, 3)]), [4, 0]);
        assert_eq!(lost(&[(1, Slot::ExecWithoutEntry, 30)]), [10, 0]);
        assert_eq!(lost(&[(0, Slot::ExitUntracked, 1)]), [1, 2]);
        assert_eq!(lost(&[(0, Slot::ExitMissed, 4)]), [1, 4]);
    }
}
