//! Measures beside a floor, in the same run: `cargo xtask bench --help`. `docs/performance.md` says
//! what each figure means.

mod detect;
mod enumerate;
mod idle;
mod interrupt;
mod latency;
mod ledger;
mod noise;
mod ordinary;
mod peers;
mod programs;
mod spread;
mod storm;
mod summary;
mod table;
mod target;
mod watched;

use anyhow::{Result, ensure};

use crate::shell;

pub(crate) use ledger::ledger_bench;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Execs of the smallest program, as fast as they go and at a set pace: without a sensor, with
    /// one that only counts, with `daemoneye record` and with the whole of `daemoneye run`
    Storm(storm::Args),
    /// What `daemoneye` costs a host on which nothing happens
    Idle(idle::Args),
    /// How long `daemoneye` takes to know the processes that run already
    Enumerate(enumerate::Args),
    /// Events a second with Sigma rules, beside rsigma-eval
    Detect(detect::Args),
    /// The ledger beside SQLite and a bare file, how it grows, proofs, fsck, opening after a kill
    Ledger(ledger::Args),
    /// Alerts that ordinary work raises: a Rust build, a C build, an installation of packages
    Noise(noise::Args),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !matches!(args.what, What::Ledger(_)) {
        build_release()?;
    }
    interrupt::watch()?;
    match &args.what {
        What::Storm(args) => storm::run(args),
        What::Idle(args) => idle::run(args),
        What::Enumerate(args) => enumerate::run(args),
        What::Detect(args) => detect::run(args),
        What::Noise(args) => noise::run(args),
        What::Ledger(args) => ledger::run(args),
    }
}

/// The daemon and what it is measured with.
fn build_release() -> Result<()> {
    ensure!(
        ::vm::is_root(),
        "loading eBPF programs needs root: sudo -E cargo xtask bench …"
    );
    let build = ["build", "--release", "-p", "cli", "-p", "vm", "--bins"];
    shell::run(&mut shell::cargo(build))
}
