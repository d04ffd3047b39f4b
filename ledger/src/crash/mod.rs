//! The writer, its recovery and its index on a disk that fails.
//!
//! [`disk`] simulates it, [`backend`] puts redb on it, [`each_call`] lets each call fail in turn. Only
//! built for tests.

pub(crate) mod backend;
pub(crate) mod disk;
mod each_call;
mod random;
