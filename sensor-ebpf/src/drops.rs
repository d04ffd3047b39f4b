//! Counters that the programs keep for each cpu, in one mmapable array: cpu `c` owns the slots
//! from `c * SLOTS_PER_CPU`.

/// Slots of one cpu; 256 bytes, so that cpus share no cache line.
pub const SLOTS_PER_CPU: u32 = 32;

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
}

impl Slot {
    /// All slots in use.
    pub const ALL: [Self; 8] = [
        Self::Sequence,
        Self::ForkRingFull,
        Self::ExecRingFull,
        Self::ExitRingFull,
        Self::ForkTableFull,
        Self::LateEntry,
        Self::ArgvUnreadable,
        Self::ExitUntracked,
    ];
}
