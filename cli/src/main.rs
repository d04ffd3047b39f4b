//! The `daemoneye` binary: flags, the choice of a sensor, and what is printed. The work itself is
//! done by the libraries.

mod args;
mod cmd;
mod copies;
mod executables;
mod exit;
mod holder;
mod output;
mod private;
mod privileges;
mod progress;
mod replaced;
mod requests;
mod sensor;
mod service;
mod session;
mod state;
mod stats;
mod status;
mod stop;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use exit::Failure;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    quiet_index_panics();
    output::init_log(args.verbose, args.command.wants_kernel_log());
    match dispatch(&args) {
        Ok(code) => code,
        Err(failure) => failure.report(args.json),
    }
}

/// redb panics on some corrupt files. The ledger catches that and rebuilds or reports the index, so
/// the panic's own text would only frighten.
fn quiet_index_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let in_redb = info
            .location()
            .is_some_and(|place| place.file().contains("redb-"));
        if in_redb {
            tracing::debug!("the ledger's index is corrupt: {info}");
        } else {
            default(info);
        }
    }));
}

fn dispatch(args: &Args) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::Run(command) => cmd::run::run(command, args.json),
        Command::Replay(command) => cmd::replay::replay(command, args.json),
        Command::Record(command) => cmd::record::record(command),
        Command::Rules(command) => cmd::rules::rules(command, args.json),
        Command::Ledger(command) => cmd::ledger::ledger(command, args.json),
        Command::Status(command) => cmd::status::status(command, args.json),
        Command::Doctor => cmd::doctor::doctor(args.json),
        Command::BenchCount(command) => cmd::bench_count::bench_count(command),
    }
}
