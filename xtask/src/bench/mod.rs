//! Measures beside a floor, in the same run: `cargo xtask bench --help`.

mod latency;
mod spread;
mod storm;
mod watched;

use anyhow::Result;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Execs of the smallest program, as fast as they go: without a sensor, with one that only
    /// counts, and with the whole of `daemoneye run`
    Storm(storm::Args),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Storm(args) => storm::run(args),
    }
}
