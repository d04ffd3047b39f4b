//! What a run of VMs says: a line as each ends, a table, and for each failure how to repeat it.

use anyhow::Error;

use super::console::log_path;
use super::matrix::{self, Cell, DEFAULT};
use super::watch::{Outcome, Verdict};
use crate::shell;
use crate::tally::Tally;

/// A line of the table.
pub(crate) struct Row {
    pub(crate) cell: Cell,
    pub(crate) ran: Ran,
}

pub(crate) enum Ran {
    Booted(Outcome),
    /// What it needs cannot be had here.
    Skipped(String),
    /// It should have been started.
    Failed(String),
}

impl Row {
    pub(crate) fn skipped(cell: Cell, error: &Error) -> Self {
        let ran = Ran::Skipped(format!("{error:#}"));
        Self { cell, ran }
    }

    pub(crate) fn failed(cell: Cell, error: &Error) -> Self {
        let ran = Ran::Failed(format!("{error:#}"));
        Self { cell, ran }
    }

    /// A VM that failed without a failed test counts as one; one that was not started as skipped.
    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        match &self.ran {
            Ran::Booted(outcome) => {
                tally = outcome.tally;
                if outcome.verdict != Verdict::Success {
                    tally.failed = tally.failed.max(1);
                }
            }
            Ran::Skipped(_) => tally.skipped = 1,
            Ran::Failed(_) => tally.failed = 1,
        }
        tally
    }

    /// Why it failed or did not run.
    fn reason(&self) -> Option<&str> {
        match &self.ran {
            Ran::Booted(outcome) => match &outcome.verdict {
                Verdict::Success => None,
                Verdict::Failure(reason) => Some(reason),
            },
            Ran::Skipped(reason) | Ran::Failed(reason) => Some(reason),
        }
    }
}

/// Tells as a VM ends, with its console if it failed and nobody saw it yet.
pub(crate) fn say_end(cell: Cell, outcome: &Outcome, verbose: bool) {
    let seconds = outcome.time.as_secs();
    let (tally, release) = (outcome.tally, &outcome.release);
    let Verdict::Failure(reason) = &outcome.verdict else {
        shell::say(format_args!("{cell} ({release}): {tally} in {seconds} s"));
        return;
    };
    let mut text = String::new();
    if !verbose {
        // At once, so that the console of another VM does not come between.
        text = outcome
            .lines
            .iter()
            .map(|line| format!("{cell}: {line}\n"))
            .collect();
    }
    shell::say(format_args!(
        "{text}{cell} ({release}): {reason} after {seconds} s: {tally}"
    ));
}

/// Shows the table and the sum, which it gives.
pub(crate) fn show(rows: &[Row], tests: &[String]) -> Tally {
    shell::say(format_args!(
        "\n{:<8}{:<9}{:<10}{:<11}{:<28}{:>7}{:>8}{:>8}{:>9}",
        "kernel",
        "arch",
        "variant",
        "transport",
        "release",
        "seconds",
        "passed",
        "failed",
        "skipped"
    ));
    let mut sum = Tally::default();
    for row in rows {
        shell::say(line(row));
        sum += row.tally();
    }
    for row in rows {
        explain(row, tests);
    }
    shell::say(sum);
    sum
}

fn line(row: &Row) -> String {
    let Cell {
        kernel,
        arch,
        variant,
        transport,
    } = row.cell;
    let [kernel, arch] = [kernel.name(), arch.name()];
    let [variant, transport] = [variant.name(), transport.name()];
    let Tally {
        passed,
        failed,
        skipped,
    } = row.tally();
    let (release, seconds, note) = match &row.ran {
        Ran::Booted(outcome) => (
            &*outcome.release,
            outcome.time.as_secs().to_string(),
            warnings(outcome),
        ),
        Ran::Skipped(_) => ("", "-".into(), "not started".into()),
        Ran::Failed(_) => ("", "-".into(), "not started".into()),
    };
    let name = format!("{kernel:<8}{arch:<9}{variant:<10}{transport:<11}{release:<28}");
    format!("{name}{seconds:>7}{passed:>8}{failed:>8}{skipped:>9}  {note}")
        .trim_end()
        .to_owned()
}

fn warnings(outcome: &Outcome) -> String {
    match outcome.warnings {
        0 => String::new(),
        count => format!("{count} kernel warnings"),
    }
}

fn explain(row: &Row, tests: &[String]) {
    let Some(reason) = row.reason() else { return };
    let cell = row.cell;
    shell::say(format_args!("\n{cell}: {reason}"));
    if matches!(row.ran, Ran::Booted(_)) {
        shell::say(format_args!("console: {}", log_path(&cell).display()));
    }
    if row.tally().failed > 0 {
        shell::say(format_args!("repeat with: {}", repeat(&cell, tests)));
    }
}

fn repeat(cell: &Cell, tests: &[String]) -> String {
    let mut command = format!("cargo xtask vm-test {}", cell.options());
    if !tests.is_empty() {
        command.push_str(" --");
    }
    for test in tests {
        command.push(' ');
        command.push_str(&shell::quote(test));
    }
    command
}

/// Shows every cell, and which of them run where nothing is chosen.
pub(crate) fn list() {
    for cell in matrix::all() {
        let Cell {
            kernel,
            arch,
            variant,
            transport: _,
        } = cell;
        let suite = kernel.suite();
        let [kernel, arch, variant] = [kernel.name(), arch.name(), variant.name()];
        let mark = if DEFAULT.contains(&cell) {
            "default"
        } else {
            ""
        };
        let line = format!("{kernel:<8}{arch:<9}{variant:<10}{suite:<10}{mark}");
        shell::say(line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::{Row, line, repeat};
    use crate::vm::matrix::DEFAULT;

    #[test]
    fn failure_is_repeated_with_the_cell_and_the_tests() {
        let expected =
            "cargo xtask vm-test --kernel 6.1 --arch x86_64 --variant maxcpus1 -- shell_";
        assert_eq!(repeat(&DEFAULT[1], &["shell_".into()]), expected);
    }

    #[test]
    fn vm_that_cannot_be_had_is_skipped_and_one_that_should_run_is_not() {
        let error = anyhow!("no mirror");
        let skipped = Row::skipped(DEFAULT[0], &error);
        assert_eq!((skipped.tally().skipped, skipped.tally().failed), (1, 0));
        let failed = Row::failed(DEFAULT[0], &error);
        assert_eq!((failed.tally().skipped, failed.tally().failed), (0, 1));
        assert_eq!(failed.reason(), Some("no mirror"));
        assert!(line(&failed).ends_with("not started"));
    }
}
