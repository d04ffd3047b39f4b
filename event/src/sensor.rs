//! The contract between a source of events and everything after it.
//!
//! A sensor is opened by its own constructor (which may need privileges), gives one
//! [`Sensor::snapshot`], and then batches until it is closed. What it guarantees:
//!
//! - Events are in near order: a stage downstream puts them in order of [`crate::Header::time`].
//! - Each process has one [`crate::Exit`], and keys agree between events and snapshot.
//! - Whatever it cannot deliver is in [`Stats`] and is announced as a [`crate::Lost`] event.
//! - It never blocks the kernel, and waits only in [`Sensor::next_batch`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Event;

/// A source of events.
pub trait Sensor: Send {
    /// What this source can and cannot tell.
    fn capabilities(&self) -> &Capabilities;

    /// Appends a row for every process that already runs. Called once, before `next_batch`.
    /// Events that happen meanwhile are kept and come with the first batches; no process is in
    /// both.
    ///
    /// # Errors
    /// The system cannot be asked for its processes.
    fn snapshot(&mut self, out: &mut Vec<Event>) -> Result<(), SensorError>;

    /// Waits until there are events, the waker is called or `timeout` is over, and appends what
    /// there is. Appending nothing is no error.
    ///
    /// # Errors
    /// The source is broken for good; what was appended before is valid.
    fn next_batch(
        &mut self,
        out: &mut Vec<Event>,
        timeout: Duration,
    ) -> Result<BatchEnd, SensorError>;

    /// Appends what is still to be told of losses. Called once, after the last batch.
    fn finish(&mut self, out: &mut Vec<Event>) {
        let _ = out;
    }

    /// Counters since the start. They count a loss once it has been told.
    fn stats(&self) -> Stats;

    /// Wakes a `next_batch` that waits in another thread.
    fn waker(&self) -> Waker;
}

/// See [`Sensor::waker`]. Cheap to clone and to call; safe to call after the sensor is gone.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Whether more can come after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchEnd {
    /// Call again.
    Open,
    /// The source is exhausted (the end of a recording).
    Finished,
}

/// Why a sensor cannot start or go on. Each sensor has its own typed error and converts it here.
#[derive(Debug, thiserror::Error)]
#[error("{message}{}", advice.as_ref().map(|a| format!(" ({a})")).unwrap_or_default())]
pub struct SensorError {
    /// What is wrong, in one line.
    pub message: String,
    /// What the operator can do about it.
    pub advice: Option<String>,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What a source can tell. Shown by `daemoneye doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Short name: `ebpf`, `ebpf-perf`, `netlink`, `etw`, `endpoint-security`, `poll`,
    /// `replay`.
    pub sensor: &'static str,
    /// Reacts to each event; false where short-lived processes can be missed by construction.
    pub event_driven: bool,
    /// Reports forks.
    pub forks: bool,
    /// Reports exit status.
    pub exit_status: bool,
    /// Fields of [`crate::Process`] that this source cannot fill here, with the reason.
    pub absent: Vec<(&'static str, String)>,
}

/// Kinds of event in which losses are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventClass {
    /// [`crate::Fork`].
    Fork,
    /// [`crate::Exec`].
    Exec,
    /// [`crate::Exit`].
    Exit,
    /// [`crate::Snapshot`].
    Snapshot,
    /// [`crate::Lost`].
    Lost,
    /// The source does not say what it skipped.
    Unknown,
    /// [`crate::FailedExec`].
    FailedExec,
    /// [`crate::Hashed`].
    Hashed,
}

impl EventClass {
    /// All classes, in the order of their codes on the wire.
    pub const ALL: [Self; 8] = [
        Self::Fork,
        Self::Exec,
        Self::Exit,
        Self::Snapshot,
        Self::Lost,
        Self::Unknown,
        Self::FailedExec,
        Self::Hashed,
    ];

    /// Lower-case name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::Exit => "exit",
            Self::Snapshot => "snapshot",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
            Self::FailedExec => "failed_exec",
            Self::Hashed => "hashed",
        }
    }
}

impl fmt::Display for EventClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an event was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The kernel's ring buffer had no room.
    RingFull,
    /// The kernel's process map had no room: identity could not be kept.
    TableFull,
    /// What the event needs could not be read any more: memory, in the kernel, or whose event it is.
    Unreadable,
    /// A record did not decode.
    Malformed,
    /// The operating system says it skipped events and does not say why.
    SourceLost,
    /// A bounded queue in this program was full.
    QueueFull,
}

impl DropReason {
    /// All reasons, in the order of their codes on the wire.
    pub const ALL: [Self; 6] = [
        Self::RingFull,
        Self::TableFull,
        Self::Unreadable,
        Self::Malformed,
        Self::SourceLost,
        Self::QueueFull,
    ];

    /// Lower-case name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::TableFull => "table_full",
            Self::Unreadable => "unreadable",
            Self::Malformed => "malformed",
            Self::SourceLost => "source_lost",
            Self::QueueFull => "queue_full",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Counters of a sensor since its start. `seen = delivered + dropped + held` at all times.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Events that happened, as far as the source can know.
    pub seen: u64,
    /// Events given out by `snapshot` and `next_batch`, `Lost` events not counted.
    pub delivered: u64,
    /// Events that will never be given out, by class and reason.
    pub dropped: Vec<(EventClass, DropReason, u64)>,
    /// Events that wait to be read.
    pub held: u64,
    /// Delivered with arguments cut.
    pub truncated: u64,
    /// Times that a part of an event could not be had, at most, by the name that the part has in
    /// [`Capabilities::absent`]. The event itself is delivered without, or counted elsewhere. Under the
    /// name of a class: times that the source looked away, with seldom an event of it to see.
    pub incomplete: Vec<(&'static str, u64)>,
    /// Sequence numbers that were passed over, found by a later number from the same cpu. Losses
    /// that no counter of the source is needed to believe: once every cpu has sent something after
    /// its last loss, they equal what was dropped at the ring.
    pub sequence_gaps: u64,
    /// Exits of processes that were never announced (gone before the snapshot reached them).
    pub untracked_exits: u64,
    /// Events that the operator told the source to keep quiet about. They are not among `seen`.
    pub muted: Vec<(EventClass, u64)>,
}

impl Stats {
    /// All drops.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(|(_, _, count)| count).sum()
    }
}
