//! The collector's stages: what a sensor reports becomes ordered, enriched, redacted leaves that
//! the ledger keeps and the agent gets.
//!
//! Three threads joined by bounded queues, which [`Pipeline::start`] starts: `sensor` reads the
//! source, `stages` orders, redacts, enriches, encodes and numbers, `ledger` appends, commits and
//! signs. A fourth, `hash`, reads executables beside them. Nothing is dropped here: a slow ledger makes the source wait, which counts what it loses
//! itself; a slow agent is served from the ledger. A full disk suspends the ledger, not detection:
//! what is then unrecorded, or skipped by a slow agent, is counted. No thread wakes while nothing
//! happens, but for the sensor's once a second.
//!
//! The crate names no sensor, calls no operating system and knows no rules: findings come back
//! through [`Findings`] as more leaves.
//!
//! Start with `run.rs`, the loop through which every event goes, then [`Handle`] and
//! [`Subscription`] for what callers hold.

mod clock;
mod commit;
mod deliver;
mod enrich;
mod error;
mod handle;
pub mod hash;
mod intake;
mod order;
mod pace;
mod process_table;
mod queue;
pub mod redact;
mod run;
mod slots;
mod stats;

pub use commit::CommitPolicy;
pub use deliver::{Delivery, Findings, Next, Subscription};
pub use error::Error;
pub use handle::{Config, Finished, Handle, Pipeline, RotationPolicy, resume_from};
pub use order::HoldPolicy;
pub use process_table::{TableLimits, TableStats};
pub use stats::{AgentStats, Balance, Signed, Stats};
