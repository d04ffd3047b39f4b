//! Sensors that need no privileges and no kernel events, on any operating system.
//!
//! [`PollSensor`] lists the processes again and again and reports what changed: it cannot see
//! what starts and ends between two lists, nor how a process ended, and says so in its
//! [`event::Capabilities`]. [`ReplaySensor`] gives a recording as if it happened now.
//!
//! This crate decides nothing about when to fall back: the caller does.
//!
//! Start with `diff.rs` for what two lists tell, then `procs/` for where a list comes from.

mod diff;
mod error;
mod poll;
mod procs;
mod replay;
mod scan;
mod wake;

pub use error::Error;
pub use poll::PollSensor;
pub use replay::ReplaySensor;
