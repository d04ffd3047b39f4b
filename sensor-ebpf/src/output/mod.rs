//! Where records go: room for one is reserved, filled in place and submitted.
//!
//! Two transports behind the same calls: the ring buffer (5.8), and with the feature `perf` the
//! older perf buffers, one for each cpu.

#[cfg(feature = "perf")]
mod perf;
#[cfg(not(feature = "perf"))]
mod ring;

#[cfg(feature = "perf")]
pub(crate) use perf::reserve;
#[cfg(not(feature = "perf"))]
pub(crate) use ring::reserve;
