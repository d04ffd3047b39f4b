//! Exit codes, and the one line that says why.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Exit codes. 0 is success, 2 comes from the flag parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Something failed that is none of the others: I/O, a stage of the pipeline.
    Failure = 1,
    /// Rules or a recording are invalid, or a rule's test failed.
    BadInput = 3,
    /// The ledger is damaged, or a proof does not hold.
    LedgerInvalid = 4,
    /// The state directory cannot be used.
    StateUnusable = 5,
    /// The sensor that was asked for is not available here.
    SensorUnavailable = 6,
}

/// Printed by `daemoneye --help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  failure (I/O, an internal stage)
  2  wrong usage
  3  invalid input: a rule, a failed rule test, a damaged recording
  4  the ledger is damaged or a proof does not hold
  5  the state directory cannot be used
  6  the sensor that was asked for is not available";

/// An error on its way out.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    error: anyhow::Error,
}

impl Failure {
    pub(crate) fn new(code: Code, error: impl Into<anyhow::Error>) -> Self {
        Self {
            code,
            error: error.into(),
        }
    }

    /// Prints the line. A reader that closed the pipe has seen what it wanted.
    pub(crate) fn report(&self) -> ExitCode {
        if self.is_closed_pipe() {
            return ExitCode::SUCCESS;
        }
        // Nothing is left to be told if standard error is closed, too.
        let _ = fmt::Write::write_fmt(
            &mut crate::output::Stderr,
            format_args!("daemoneye: error: {}\n", line(&self.error)),
        );
        ExitCode::from(self.code as u8)
    }

    fn is_closed_pipe(&self) -> bool {
        self.error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The error and its causes. Many an error's text ends with its cause's: that is not said twice.
fn line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    let mut last = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line.clone_from(&cause);
        } else if !last.contains(&cause) {
            line.push_str(": ");
            line.push_str(&cause);
        } else {
            continue;
        }
        last = cause;
    }
    line
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Code::Failure, error)
    }
}

/// Gives an error its exit code.
pub(crate) trait WithCode<T> {
    fn code(self, code: Code) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> WithCode<T> for Result<T, E> {
    fn code(self, code: Code) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(code, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_was_named_is_not_named_again() {
        let check = |error: anyhow::Error, expected| assert_eq!(line(&error), expected);
        let cause = || anyhow::anyhow!("disk full");
        check(cause(), "disk full");
        check(cause().context("writing x"), "writing x: disk full");
        check(cause().context("write x: disk full"), "write x: disk full");
        check(
            cause().context("io: disk full").context("stopped"),
            "stopped: io: disk full",
        );
    }
}
