//! The writer, its recovery and its index on a disk that fails.
//!
//! [`disk`] simulates it, [`backend`] puts redb on it, [`runs`] does what a daemon does, thousands of
//! times, with another seed each time. Only built for tests.

pub(crate) mod backend;
pub(crate) mod disk;
mod each_call;
mod runs;
