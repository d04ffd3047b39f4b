//! Builds, tests and measures: `cargo xtask --help`.
//!
//! Everything a developer or CI does beyond plain cargo is a subcommand here, so that a failure
//! anywhere is repeated at a desk with the command that it prints. Start with [`check`] for what
//! `cargo xtask test` runs, [`ebpf`] for the kernel object and [`vm`] for kernels under QEMU.

mod bench;
mod check;
mod deps;
mod ebpf;
mod run;
mod shell;
mod stamp;
mod tally;
mod toolchain;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Build, test and measure"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the release and starts `daemoneye run`, through sudo where that is needed
    Run(run::Args),
    /// Runs every check and test
    Test(check::Args),
    /// Builds the eBPF objects that are committed under sensor-linux/ebpf
    Ebpf(ebpf::Args),
    /// Measures
    Bench(bench::Args),
    /// Boots kernels under QEMU and runs the scenarios of tests/vm on them
    VmTest(vm::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Test(args) => return check::run(&args),
        Command::Ebpf(args) => ebpf::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::VmTest(args) => vm::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            eprintln!("repeat with: {}", repeat_line());
            ExitCode::FAILURE
        }
    }
}

/// The command that repeats this run.
fn repeat_line() -> String {
    let arguments = std::env::args()
        .skip(1)
        .map(|argument| shell::quote(&argument));
    std::iter::once("cargo xtask".to_owned())
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}
