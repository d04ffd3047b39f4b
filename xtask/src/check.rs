//! `cargo xtask test`: everything that must hold before a change lands, as a list of steps with a
//! table at the end. Each step can be run alone: `cargo xtask test STEP`.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};

use crate::bench::ledger_bench;
use crate::tally::{Counter, Tally};
use crate::{deps, ebpf, shell, toolchain, vm};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leaves out what takes minutes: other systems, documentation and the VM
    #[arg(long)]
    fast: bool,
    /// Only these steps
    #[arg(value_parser = STEPS.map(|step| step.name))]
    steps: Vec<String>,
}

struct Step {
    name: &'static str,
    fast: bool,
    run: fn() -> Result<Outcome>,
}

const fn step(name: &'static str, run: fn() -> Result<Outcome>) -> Step {
    Step {
        name,
        fast: true,
        run,
    }
}

const fn slow(name: &'static str, run: fn() -> Result<Outcome>) -> Step {
    Step {
        name,
        fast: false,
        run,
    }
}

/// Cheap ones first: what is wrong is told soon.
const STEPS: [Step; 13] = [
    step("fmt", || cargo(&["fmt", "--all", "--check"])),
    step("deps", || deps::check().map(Outcome::noted)),
    step("clippy", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"])
    }),
    slow("clippy-windows", || clippy("sensor-windows", WINDOWS)),
    slow("clippy-macos", || clippy("sensor-macos", MACOS)),
    slow("clippy-bench", clippy_bench),
    slow("check-systems", check_systems),
    step("tests", workspace_tests),
    step("rules", rules),
    step("ebpf", || ebpf::check(shell::root()).map(Outcome::noted)),
    slow("doc", doc),
    step("kernel", kernel),
    slow("vm", in_vm),
];

const WINDOWS: &str = "x86_64-pc-windows-gnu";
const MACOS: &str = "aarch64-apple-darwin";
const FREEBSD: &str = "x86_64-unknown-freebsd";

/// What a step that did not fail has to say.
#[derive(Debug, Default)]
struct Outcome {
    tally: Tally,
    note: String,
}

impl Outcome {
    fn passed() -> Self {
        Self::noted(String::new())
    }

    fn noted(note: String) -> Self {
        Self {
            tally: Tally {
                passed: 1,
                ..Tally::default()
            },
            note,
        }
    }

    fn skipped(reason: impl std::fmt::Display) -> Self {
        let note = format!("skipped: {reason}");
        Self {
            tally: Tally {
                skipped: 1,
                ..Tally::default()
            },
            note,
        }
    }
}

/// A line of the table.
struct Row {
    name: &'static str,
    time: Duration,
    result: Result<Outcome>,
}

/// The last line is the sum, alone, for whoever reads only that.
pub(crate) fn run(args: &Args) -> ExitCode {
    let wanted = |step: &&Step| match &*args.steps {
        [] => step.fast || !args.fast,
        names => names.iter().any(|name| name == step.name),
    };
    let rows: Vec<_> = STEPS.iter().filter(wanted).map(run_step).collect();
    print_table(&rows);
    let mut sum = Tally::default();
    for row in &rows {
        sum += tally(row);
        if tally(row).failed > 0 {
            shell::say(format_args!("repeat with: cargo xtask test {}", row.name));
        }
    }
    shell::say(sum);
    ExitCode::from(u8::from(sum.failed > 0))
}

fn run_step(step: &Step) -> Row {
    eprintln!("\n== {}", step.name);
    let start = Instant::now();
    let result = (step.run)();
    if let Err(error) = &result {
        eprintln!("{} failed: {error:#}", step.name);
    }
    Row {
        name: step.name,
        time: start.elapsed(),
        result,
    }
}

/// A failed step in which no test is to blame counts as one.
fn tally(row: &Row) -> Tally {
    match &row.result {
        Ok(outcome) => outcome.tally,
        Err(error) => match error.downcast_ref::<FailedTests>() {
            Some(FailedTests(tally)) if tally.failed > 0 => *tally,
            _ => Tally {
                failed: 1,
                ..Tally::default()
            },
        },
    }
}

fn print_table(rows: &[Row]) {
    let head = ["step", "result", "seconds", "passed", "failed", "skipped"];
    let [a, b, c, d, e, f] = head;
    shell::say(format_args!("\n{a:<16}{b:<9}{c:>7}{d:>8}{e:>8}{f:>9}"));
    for row in rows {
        let Tally {
            passed,
            failed,
            skipped,
        } = tally(row);
        let result = match (failed, passed) {
            (0, 0) => "skipped",
            (0, _) => "ok",
            _ => "FAILED",
        };
        let seconds = row.time.as_secs_f64();
        let note = row.result.as_ref().map_or("", |outcome| &outcome.note);
        let name = row.name;
        let counts = format!("{passed:>8}{failed:>8}{skipped:>9}");
        shell::say(format_args!(
            "{name:<16}{result:<9}{seconds:>7.1}{counts}  {note}"
        ));
    }
}

/// Test programs ran, and these are their counts.
#[derive(Debug)]
struct FailedTests(Tally);

impl std::fmt::Display for FailedTests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for FailedTests {}

fn cargo(arguments: &[&str]) -> Result<Outcome> {
    shell::run(&mut shell::cargo(arguments))?;
    Ok(Outcome::passed())
}

fn clippy(package: &str, target: &str) -> Result<Outcome> {
    if let Err(error) = toolchain::rust_target(target) {
        return Ok(Outcome::skipped(error));
    }
    cargo(&[
        "clippy",
        "-p",
        package,
        "--all-targets",
        "--target",
        target,
        "--",
        "-Dwarnings",
    ])
}

/// What `bench ledger` runs is outside of the workspace: it compiles C.
fn clippy_bench() -> Result<Outcome> {
    if shell::find("cc").is_none() {
        return Ok(Outcome::skipped("no C compiler"));
    }
    let (manifest, target) = ledger_bench();
    let mut command = shell::cargo(["clippy", "--locked", "--manifest-path"]);
    command.arg(manifest).arg("--target-dir").arg(target);
    shell::run(command.args(["--", "-Dwarnings"]))?;
    Ok(Outcome::passed())
}

/// The binary type-checks where we cannot run it.
fn check_systems() -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for target in [WINDOWS, MACOS, FREEBSD] {
        let one = match toolchain::rust_target(target) {
            Ok(()) => cargo(&["check", "-p", "cli", "--target", target])?,
            Err(error) => Outcome::skipped(format!("{target}: {error}")),
        };
        outcome.tally += one.tally;
        outcome.note.push_str(&one.note);
    }
    Ok(outcome)
}

/// Where there is no network for Python's packages, the tests that need them skip themselves.
fn workspace_tests() -> Result<Outcome> {
    let mut command = shell::cargo(["test", "--workspace", "--exclude", "vm"]);
    command.args(["--features", "detect/full-dfa"]);
    match toolchain::python() {
        Ok(python) => {
            command.env("DAEMONEYE_PYTHON", python);
        }
        Err(error) => eprintln!("no Python for docs/verify_evidence.py: {error:#}"),
    }
    tests(command)
}

fn tests(command: Command) -> Result<Outcome> {
    let mut counter = Counter::default();
    let mut command = command;
    let ended = shell::watch(&mut command, |line| counter.line(line));
    let tally = counter.tally();
    match ended {
        Ok(()) => Ok(Outcome {
            tally,
            note: String::new(),
        }),
        Err(error) => Err(Error::new(FailedTests(tally)).context(error)),
    }
}

fn rules() -> Result<Outcome> {
    shell::run(&mut shell::cargo(["build", "-p", "cli"]))?;
    let mut command = Command::new(shell::target_dir().join("debug/daemoneye"));
    command
        .args(["rules", "test", "rules"])
        .current_dir(shell::root());
    tests(command)
}

fn doc() -> Result<Outcome> {
    let mut command = shell::cargo(["doc", "--workspace", "--no-deps"]);
    shell::run(command.env("RUSTDOCFLAGS", "-Dwarnings"))?;
    Ok(Outcome::passed())
}

/// The scenarios on the kernel that runs here; they skip themselves where they cannot run.
fn kernel() -> Result<Outcome> {
    shell::run(&mut shell::cargo(["build", "-p", "cli"]))?;
    let mut command = shell::cargo(["test", "-p", "vm"]);
    command.env(
        ::vm::place::BIN_VARIABLE,
        shell::target_dir().join("debug/daemoneye"),
    );
    tests(command)
}

fn in_vm() -> Result<Outcome> {
    let tally = vm::run_cells(&vm::Args::default())?;
    if tally.failed > 0 {
        return Err(Error::new(FailedTests(tally)));
    }
    Ok(Outcome {
        tally,
        note: String::new(),
    })
}
