//! The ledger beside SQLite and a bare file, how it grows, and what reading it takes.
//!
//! Each measurement is a process of its own: the program in `ledger/bench`, which is outside of the
//! workspace because it compiles SQLite.

mod goals;
mod reading;
mod sizes;
mod speed;
mod steady;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::interrupt;
use super::spread::Spread;
use crate::shell;
use goals::Goal;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Interleaved rounds of the appends
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each append and batch size
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Size that the log grows to, such as 1e7; told at each power of ten from 1e5 on
    #[arg(long, default_value = "1e7", value_parser = count)]
    leaves: u64,
    /// Bytes in a leaf of the log that grows; small ones show a large log on a small disk
    #[arg(long, default_value_t = 300)]
    leaf_bytes: u64,
    /// GB that the log that grows may take at most, and half of what is free; beyond, its oldest
    /// entries are dropped
    #[arg(long, default_value_t = 8.0)]
    disk_gb: f64,
    /// Seconds at the steady rate
    #[arg(long, default_value_t = 10)]
    steady_seconds: u32,
    /// Where to measure, on the disk that matters; a directory is made there and removed
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Only these parts
    #[arg(long, value_delimiter = ',', default_values = PARTS, value_parser = PARTS)]
    parts: Vec<String>,
    /// Prints JSON instead of tables
    #[arg(long)]
    json: bool,
}

const PARTS: [&str; 4] = ["append", "steady", "grow", "reopen"];

/// `1e7` as well as `10000000`.
fn count(text: &str) -> Result<u64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let in_range = (1e5..=1e12).contains(&number) && number.fract() == 0.0;
    // In that range each whole number is exact.
    in_range
        .then_some(number as u64)
        .ok_or_else(|| "a whole number from 1e5 to 1e12".to_owned())
}

/// The manifest of the measuring program, and where it is built.
pub(crate) fn ledger_bench() -> (PathBuf, PathBuf) {
    let manifest = shell::root().join("ledger/bench/Cargo.toml");
    (manifest, shell::target_dir().join("ledger-bench"))
}

/// The measuring program and where it measures.
struct Bench {
    program: PathBuf,
    dir: TempDir,
}

impl Bench {
    fn build(args: &Args) -> Result<Self> {
        let (manifest, target) = ledger_bench();
        let mut build = shell::cargo(["build", "--release", "--locked", "--manifest-path"]);
        build.arg(manifest).arg("--target-dir").arg(&target);
        shell::run(&mut build)?;
        let within = args.dir.clone().unwrap_or_else(|| target.clone());
        std::fs::create_dir_all(&within)?;
        let dir = tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(&within);
        Ok(Self {
            program: target.join("release/ledger-bench"),
            dir: dir.with_context(|| format!("no directory in {}", within.display()))?,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, what: &str, store: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(what).arg("--dir").arg(store);
        command
    }

    /// Measures in the directory called `name` and gives what the program told.
    fn measure(&self, what: &str, name: &str, options: &[&str]) -> Result<Value> {
        interrupt::check()?;
        let mut command = self.command(what, &self.path(name));
        let text = shell::text(command.args(options))?;
        serde_json::from_str(&text).context("the measuring program told no JSON")
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// Measures in a directory that is there for this alone.
    fn measure_anew(&self, what: &str, options: &[&str]) -> Result<Value> {
        let found = self.measure(what, "new", options)?;
        self.remove("new")?;
        Ok(found)
    }
}

/// A part of the benchmark that was measured.
trait Part {
    fn print(&self);
    fn json(&self) -> (&'static str, Value);
    fn goals(&self) -> Vec<Goal>;
}

pub(super) fn run(args: &Args) -> Result<()> {
    let bench = Bench::build(args)?;
    let load_before = load()?;
    let mut parts: Vec<Box<dyn Part>> = Vec::new();
    for part in &args.parts {
        parts.push(match part.as_str() {
            "append" => Box::new(speed::measure(&bench, args)?),
            "steady" => Box::new(steady::measure(&bench, args)?),
            "grow" => Box::new(sizes::measure(&bench, args)?),
            _ => Box::new(reading::measure_reopen(&bench)?),
        });
    }
    let load = format!("load {load_before} before, {} after", self::load()?);
    let goals: Vec<Goal> = parts.iter().flat_map(|part| part.goals()).collect();
    if args.json {
        let mut told = json!({ "bench": "ledger", "load": load });
        for (name, value) in parts.iter().map(|part| part.json()) {
            told[name] = value;
        }
        told["goals"] = goals.iter().map(Goal::json).collect();
        shell::say(told);
        return Ok(());
    }
    shell::say(format_args!(
        "median (least–most) of interleaved rounds; {load}"
    ));
    parts.iter().for_each(|part| part.print());
    goals::print(&goals);
    Ok(())
}

/// Of the last minute, five and fifteen.
fn load() -> Result<String> {
    let load = std::fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
    Ok(load.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

/// A number that the measuring program told.
fn number(value: &Value, name: &str) -> Result<f64> {
    let number = value[name].as_f64();
    number.with_context(|| format!("the measuring program told no {name}"))
}

/// Numbers that it told.
fn numbers(value: &Value, name: &str) -> Vec<f64> {
    let numbers = value[name].as_array().into_iter().flatten();
    numbers.filter_map(Value::as_f64).collect()
}

fn spread_of(runs: &[Value], name: &str) -> Option<Spread> {
    Spread::of(runs.iter().filter_map(|run| run[name].as_f64()))
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counts_are_whole_and_in_range() {
        let check = |text, expected| assert_eq!(count(text).ok(), expected, "{text}");
        check("1e8", Some(100_000_000));
        check("250000", Some(250_000));
        check("1e3", None);
        check("123456.5", None);
        check("many", None);
    }
}
