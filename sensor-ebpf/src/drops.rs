//! Counters that the programs keep for each cpu, in one mmapable array: cpu `c` owns the slots
//! from `c * SLOTS_PER_CPU`.

/// Slots of one cpu; 256 bytes, so that cpus share no cache line.
pub const SLOTS_PER_CPU: u32 = 32;

/// Staging areas of one cpu in the build for perf buffers: programs nest where they are preempted.
pub const STAGING_PER_CPU: u32 = 4;

/// A counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Slot {
    /// Records begun: the next sequence number. Counted also where the record is then dropped.
    Sequence = 0,
    /// Fork records dropped: the ring had no room.
    ForkRingFull = 1,
    /// Exec records dropped: the ring had no room.
    ExecRingFull = 2,
    /// Exit records dropped: the ring had no room.
    ExitRingFull = 3,
    /// Execs whose arguments could not be read; the record itself is delivered.
    ArgvUnreadable = 4,
    /// Last threads of processes that the map did not know, or had no room for; no record.
    ExitUntracked = 5,
    /// Failed execs dropped: the ring had no room.
    FailedExecRingFull = 6,
    /// Control group paths dropped; the next exec there sends it again.
    CgroupRingFull = 7,
    /// Environments dropped; their execs are delivered without.
    EnvironmentRingFull = 8,
    /// Forks kept quiet by the mute list.
    MutedFork = 9,
    /// Execs kept quiet.
    MutedExec = 10,
    /// Exits kept quiet.
    MutedExit = 11,
    /// Failed execs kept quiet.
    MutedFailedExec = 12,
    /// Exits that no program saw, found out when another process got the pid; no record.
    ExitMissed = 13,
    /// Execs of processes that the map did not know, at the second program of execs: if the first one
    /// was left out, they are lost.
    ExecWithoutEntry = 14,
    /// Execs at which the substitute ran before the program that it stands in for.
    SubstituteFirst = 15,
}

impl Slot {
    /// All slots in use.
    pub const ALL: [Self; 16] = [
        Self::Sequence,
        Self::ForkRingFull,
        Self::ExecRingFull,
        Self::ExitRingFull,
        Self::ArgvUnreadable,
        Self::ExitUntracked,
        Self::FailedExecRingFull,
        Self::CgroupRingFull,
        Self::EnvironmentRingFull,
        Self::MutedFork,
        Self::MutedExec,
        Self::MutedExit,
        Self::MutedFailedExec,
        Self::ExitMissed,
        Self::ExecWithoutEntry,
        Self::SubstituteFirst,
    ];
}
