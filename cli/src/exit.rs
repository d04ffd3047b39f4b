//! Exit codes, and the one line that says why. `docs/exit-codes.md` has them for users.

use std::fmt;
use std::io;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::state;

/// Exit codes. 0 is success; 2 comes from the flag parser as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Something failed that is none of the others: I/O, a stage of the pipeline.
    Failure = 1,
    /// A flag is wrong, or names what cannot be: an account, a file to be written.
    Usage = 2,
    /// What is to be read cannot be, or is invalid: rules, a recording, a key, a checkpoint.
    BadInput = 3,
    /// The ledger is damaged, or a proof does not hold.
    LedgerInvalid = 4,
    /// The state directory cannot be used.
    StateUnusable = 5,
    /// The kernel's events cannot be had here.
    SensorUnavailable = 6,
    /// No such ledger entry, or nothing that covers it yet; no daemon to tell its status.
    NotThere = 7,
}

impl Code {
    /// Every code but success: its number, its name in JSON, what it means.
    const ALL: [(Self, &str, &str); 7] = [
        (
            Self::Failure,
            "failure",
            "failure while at work (I/O, an internal stage, alerts that nobody took)",
        ),
        (
            Self::Usage,
            "usage",
            "wrong usage: a flag, or what it names (an account, a file to be written)",
        ),
        (
            Self::BadInput,
            "bad_input",
            "input that is missing, unreadable or invalid (rules, a recording, a key, a\n     checkpoint), or a failed rule test",
        ),
        (
            Self::LedgerInvalid,
            "ledger_invalid",
            "the ledger is damaged or a proof does not hold",
        ),
        (
            Self::StateUnusable,
            "state_unusable",
            "the state directory cannot be used",
        ),
        (
            Self::SensorUnavailable,
            "sensor_unavailable",
            "the kernel's events cannot be had here (a named sensor, `doctor`)",
        ),
        (
            Self::NotThere,
            "not_there",
            "no such ledger entry, or no checkpoint covers it yet; no daemon runs there (`status`)",
        ),
    ];

    fn name(self) -> &'static str {
        let row = Self::ALL.iter().find(|(code, ..)| *code == self);
        row.expect("every code is in the table").1
    }
}

/// Printed by `daemoneye --help`.
pub(crate) fn table() -> String {
    let rows = Code::ALL.map(|(code, _, meaning)| format!("\n  {}  {meaning}", code as u8));
    format!("Exit codes:\n  0  success{}", rows.concat())
}

/// The flag parser's refusal, in the form that was asked for as far as that can be known.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let first = text.split("\n\n").next().unwrap_or(text);
        return Failure::new(Code::Usage, anyhow::anyhow!("{}", first.trim())).report(true);
    }
    error.exit()
}

/// An error on its way out.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    error: anyhow::Error,
    /// Of a ledger that is damaged: so many of the first entries are those that were signed for.
    intact: u64,
}

impl Failure {
    pub(crate) fn new(code: Code, error: impl Into<anyhow::Error>) -> Self {
        Self {
            code,
            error: error.into(),
            intact: 0,
        }
    }

    /// Says how many of a ledger's first entries are those that a checkpoint signed for.
    pub(crate) fn intact(self, entries: u64) -> Self {
        let is_damaged = self.code == Code::LedgerInvalid;
        Self {
            intact: if is_damaged { entries } else { 0 },
            ..self
        }
    }

    /// Says what came before what went wrong.
    pub(crate) fn context(self, context: String) -> Self {
        Self {
            error: self.error.context(context),
            ..self
        }
    }

    /// Prints the line, or the document. A reader that closed the pipe has seen what it wanted.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        if self.is_closed_pipe() {
            return ExitCode::SUCCESS;
        }
        let text = if json {
            event::json::line(&json!({ "error": self.document() }))
        } else {
            format!("daemoneye: error: {}", self.line())
        };
        // Nothing is left to be told if standard error is closed, too.
        let _ = fmt::Write::write_fmt(&mut crate::output::Stderr, format_args!("{text}\n"));
        ExitCode::from(self.code as u8)
    }

    fn line(&self) -> String {
        let line = state::with_real_paths(line(&self.error));
        match self.intact {
            0 => line,
            entries => format!("{line}; the first {entries} entries are intact, as signed"),
        }
    }

    fn document(&self) -> Value {
        let mut document = json!({
            "exit_code": self.code as u8, "kind": self.code.name(), "message": self.line(),
        });
        if let Some(damage) = self.cause().and_then(damage) {
            document["damage"] = damage;
        }
        if self.intact > 0 {
            document["intact"] = self.intact.into();
        }
        if let Some(agent::Error::RulesInvalid(errors)) = self.cause() {
            document["rules"] = errors.iter().map(rule_error).collect();
        }
        document
    }

    /// The first cause of this type.
    fn cause<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.error.chain().find_map(|cause| cause.downcast_ref())
    }

    fn is_closed_pipe(&self) -> bool {
        self.error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn damage(error: &ledger::Error) -> Option<Value> {
    let ledger::Error::Damaged(damage) = error else {
        return None;
    };
    let leaves = &damage.leaves;
    Some(json!({
        "file": state::with_real_paths(damage.file.display().to_string()),
        "offset": damage.offset,
        "leaves": (!leaves.is_empty()).then(|| [leaves.start, leaves.end - 1]),
        "cause": damage.cause.to_string(),
    }))
}

/// A rule's error with its place.
pub(crate) fn rule_error(error: &detect::Error) -> Value {
    json!({
        "file": error.file, "line": error.place.line, "column": error.place.column,
        "message": error.kind.to_string(),
    })
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

    #[test]
    fn what_is_intact_is_told_of_a_damaged_ledger() {
        let check = |code, entries, expected| {
            let failure = Failure::new(code, anyhow::anyhow!("bad")).intact(entries);
            assert_eq!(failure.line(), expected);
            let told = failure.document()["intact"].as_u64();
            assert_eq!(told.is_some(), expected != "bad");
        };
        let intact = "bad; the first 9 entries are intact, as signed";
        check(Code::LedgerInvalid, 9, intact);
        check(Code::LedgerInvalid, 0, "bad");
        check(Code::StateUnusable, 9, "bad");
    }

    #[test]
    fn every_code_is_documented() {
        let page = include_str!("../../docs/exit-codes.md");
        for (code, name, _) in Code::ALL {
            let row = format!("| {} | `{name}` |", code as u8);
            assert!(page.contains(&row), "{row} is not in docs/exit-codes.md");
        }
    }
}
