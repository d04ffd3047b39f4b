//! Scenarios on real kernels: what the built `daemoneye` says about processes that really ran.
//!
//! The scenarios are the ordinary tests under `tests/`. They run natively with `cargo test -p vm`
//! as root, and unchanged inside a VM, where [`bin/init`](../init/index.html) starts the very same
//! test binaries: `cargo xtask vm-test`. This library knows `daemoneye` as a program only, by its
//! arguments, output and signals, and knows of our other crates nothing but the events.
//!
//! Start with [`Scenarios::record`], which runs workloads under `daemoneye record`; [`Daemon`] drives
//! the program, [`Workload`] is the other side: a process that does one precise thing and says
//! which pids took part.

mod daemon;
pub mod follow;
mod life;
pub mod place;
mod recording;
pub mod scenarios;
mod spawn;
pub mod sys;
pub mod tiny;
mod workload;

pub use daemon::{Daemon, Ended, SLOW_VARIABLE, fewer, patience};
pub use life::Life;
pub use recording::{Recording, expect_kinds, kind_name};
pub use scenarios::Scenarios;
pub use spawn::spawn;
pub use workload::{Running, Workload};

/// Whether this process may do what only root may.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// So many bytes of numbers, as the kernel keeps arguments of [`LONGEST_ARGUMENT`] bytes at most:
/// each ends with NUL.
#[must_use]
pub fn numbered_arguments(bytes: usize) -> Vec<u8> {
    let numbers = (0u64..).flat_map(|number| format!("{number:09} ").into_bytes());
    let mut block: Vec<u8> = numbers.take(bytes).collect();
    for argument in block.chunks_mut(LONGEST_ARGUMENT) {
        if let Some(last) = argument.last_mut() {
            *last = 0;
        }
    }
    block
}

/// Most bytes of one argument, NUL included, on machines with pages of 4 KiB.
pub const LONGEST_ARGUMENT: usize = 128 << 10;
