//! Human and JSON printing. Standard output carries results, standard error everything else;
//! `println!` would panic on a closed pipe.

use std::env::VarError;
use std::fmt;
use std::io::{self, IsTerminal, Write};

use tracing_subscriber::filter::{LevelFilter, ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Prints one line of a result.
pub(crate) fn line(text: impl fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Tells the operator something that is no result.
pub(crate) fn notice(text: impl fmt::Display) {
    // A closed standard error must not stop the work.
    let _ = writeln!(io::stderr().lock(), "daemoneye: {text}");
}

/// A number with its noun.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Standard error as a formatter that never fails the caller.
pub(crate) struct Stderr;

impl fmt::Write for Stderr {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        io::stderr()
            .write_all(text.as_bytes())
            .map_err(|_| fmt::Error)
    }
}

/// Beginnings of the names of our crates, as the log has them.
const OURS: [&str; 7] = [
    "agent",
    "daemoneye",
    "detect",
    "event",
    "ledger",
    "pipeline",
    "sensor_",
];

/// Overrides what is logged: `LEVEL` or `CRATE=LEVEL`, several with commas between them.
const LOG_VARIABLE: &str = "DAEMONEYE_LOG";

/// Sends the log to standard error: warnings, and with `-v` more from our own crates.
/// [`LOG_VARIABLE`] overrides.
pub(crate) fn init_log(verbose: u8, kernel_log: bool) {
    let level = [
        LevelFilter::WARN,
        LevelFilter::INFO,
        LevelFilter::DEBUG,
        LevelFilter::TRACE,
    ][usize::from(verbose).min(3)];
    let ours = OURS.map(|name| (name, level));
    let kernel = kernel_log.then_some(("sensor_ebpf", LevelFilter::DEBUG));
    let standard = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_targets(ours)
        .with_targets(kernel);
    let chosen = match std::env::var(LOG_VARIABLE) {
        Ok(chosen) => chosen
            .parse()
            .map_err(|error: ParseError| error.to_string()),
        Err(VarError::NotPresent) => Ok(standard.clone()),
        Err(error) => Err(error.to_string()),
    };
    let targets = chosen.unwrap_or_else(|error| {
        notice(format_args!("{LOG_VARIABLE} does not count: {error}"));
        standard
    });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // It would tell of a closed standard error there, and panic.
        .log_internal_errors(false);
    tracing_subscriber::registry()
        .with(lines)
        .with(targets)
        .init();
}
