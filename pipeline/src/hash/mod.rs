//! SHA-256 of executables: by a worker of its own, within a budget, never at an event's expense.
//!
//! [`Hasher`] is what the stages and a recorder hold. An exec is shown to it when it comes
//! ([`Hasher::arrived`]) and again when it goes on ([`Hasher::leaving`]): between the two the
//! worker may have read the file, or it is in the cache. An exec that goes on without a digest is
//! followed by one [`event::Hashed`] from [`Hasher::next_event`].
//!
//! A file whose server hangs holds its worker for ever: after a while another one takes its place.
//!
//! Files are opened and read through [`ExecutableFiles`], since this crate calls no operating
//! system.

mod budget;
mod cache;
mod files;
mod hasher;
mod stats;
#[cfg(test)]
mod tests;
mod worker;
mod workers;

pub use files::{Executable, ExecutableFiles, Wanted};
pub use hasher::{Hasher, Hashing};
pub use stats::HashStats;
pub(crate) use worker::Done;

use std::time::Duration;

/// How much is hashed, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct HashPolicy {
    /// Longest file that is hashed.
    pub max_bytes: u64,
    /// Bytes read in a second, over all files.
    pub rate: u64,
    /// Digests kept; those longest unused go first.
    pub cache: usize,
    /// Files that wait for the worker.
    pub queue: usize,
    /// Execs that left without their digest and wait for it.
    pub waiting: usize,
    /// At the end, digests under way are waited for at most so long.
    pub patience: Duration,
    /// A worker that hears nothing of a file for so long is given up, and another one goes on. Time in
    /// which this process was stopped does not count.
    pub stall: Duration,
}

impl Default for HashPolicy {
    fn default() -> Self {
        Self {
            max_bytes: 256 << 20,
            rate: 64 << 20,
            cache: 8192,
            queue: 256,
            waiting: 4096,
            patience: Duration::from_secs(1),
            stall: Duration::from_secs(10),
        }
    }
}
