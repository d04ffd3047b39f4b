//! Counters that the programs keep for each cpu, in one mmapable array: cpu `c` owns the slots
//! from `c * SLOTS_PER_CPU`.

/// Slots of one cpu; 256 bytes, so that cpus share no cache line.
pub const SLOTS_PER_CPU: u32 = 32;

/// Staging areas of one cpu in the build for perf buffers: programs nest where they are preempted.
pub const STAGING_PER_CPU: u32 = 2;

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
    /// Forks whose process found no room in the process map, so that its exit goes unreported.
    ForkTableFull = 4,
    /// Processes that got their entry only at an exec or as the parent of a fork: before the
    /// loader's snapshot those that already ran, later those that had found no room.
    LateEntry = 5,
    /// Execs whose arguments could not be read; the record itself is delivered.
    ArgvUnreadable = 6,
    /// Last threads of processes that the map did not know; no record.
    ExitUntracked = 7,
    /// Failed execs dropped: the ring had no room.
    FailedExecRingFull = 8,
    /// Control group paths dropped; the next exec there sends it again.
    CgroupRingFull = 9,
    /// Environments dropped; their execs are delivered without.
    EnvironmentRingFull = 10,
    /// Forks kept quiet by the mute list.
    MutedFork = 11,
    /// Execs kept quiet.
    MutedExec = 12,
    /// Exits kept quiet.
    MutedExit = 13,
    /// Failed execs kept quiet.
    MutedFailedExec = 14,
}

impl Slot {
    /// All slots in use.
    pub const ALL: [Self; 15] = [
        Self::Sequence,
        Self::ForkRingFull,
        Self::ExecRingFull,
        Self::ExitRingFull,
        Self::ForkTableFull,
        Self::LateEntry,
        Self::ArgvUnreadable,
        Self::ExitUntracked,
        Self::FailedExecRingFull,
        Self::CgroupRingFull,
        Self::EnvironmentRingFull,
        Self::MutedFork,
        Self::MutedExec,
        Self::MutedExit,
        Self::MutedFailedExec,
    ];
}
