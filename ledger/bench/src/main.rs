//! One measurement in a process of its own, told as a line of JSON: `cargo xtask bench ledger` runs
//! them in turns and puts them together.

mod append;
mod grow;
mod process;
mod read;
mod steady;
mod store;

use std::io::Write as _;

use anyhow::Result;
use clap::Parser;

#[derive(Parser)]
enum Measure {
    /// Leaves a second at one batch size
    Append(append::Args),
    /// What a leaf costs as the log grows
    Grow(grow::Args),
    /// A set rate, with a commit at a set interval
    Steady(steady::Args),
    /// Inclusion and consistency proofs of a ledger that is there
    Prove(read::Prove),
    /// The whole-log check of a ledger that is there
    Fsck(read::Fsck),
    /// Appends for ever, to be killed
    Victim(read::Victim),
    /// Opens a ledger that is there
    Reopen(read::Reopen),
}

fn main() -> Result<()> {
    let found = match Measure::parse() {
        Measure::Append(args) => append::run(&args)?,
        Measure::Grow(args) => grow::run(&args)?,
        Measure::Steady(args) => steady::run(&args)?,
        Measure::Prove(args) => read::prove(&args)?,
        Measure::Fsck(args) => read::fsck(&args)?,
        Measure::Victim(args) => read::append_until_killed(&args)?,
        Measure::Reopen(args) => read::reopen(&args)?,
    };
    writeln!(std::io::stdout(), "{found}")?;
    Ok(())
}
