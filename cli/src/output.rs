//! Human and JSON printing. Standard output carries results, standard error everything else;
//! `println!` would panic on a closed pipe.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

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

/// Sends the log to standard error: warnings, with `-v` more. `DAEMONEYE_LOG` overrides.
pub(crate) fn init_log(verbose: u8, kernel_log: bool) {
    let level = ["warn", "info", "debug", "trace"][usize::from(verbose).min(3)];
    let kernel = if kernel_log { ",sensor_ebpf=debug" } else { "" };
    let filter = EnvFilter::try_from_env("DAEMONEYE_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level}{kernel}")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // It would tell of a closed standard error there, and panic.
        .log_internal_errors(false)
        .init();
}
