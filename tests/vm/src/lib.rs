//! Scenarios on real kernels: what the built `daemoneye` says about processes that really ran.
//!
//! The scenarios are the ordinary tests under `tests/`. They run natively with `cargo test -p vm`
//! as root, and unchanged inside a VM, where [`bin/init`](../init/index.html) starts the very same
//! test binaries: `cargo xtask vm-test`. This library knows `daemoneye` as a program only, by its
//! arguments, output and signals, and knows of our other crates nothing but the events.
//!
//! Start with [`Recording::of`], which runs workloads under `daemoneye record`; [`Daemon`] drives
//! the program, [`Workload`] is the other side: a process that does one precise thing and says
//! which pids took part.

mod daemon;
pub mod place;
mod recording;
pub mod sys;
pub mod tiny;
mod workload;

pub use daemon::{Daemon, Ended, SLOW_VARIABLE, patience};
pub use recording::{Recording, expect_kinds, kind_name};
pub use workload::Workload;

/// Whether this process may do what only root may.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
