//! Proofs, the whole-log check, and opening after a kill.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::super::interrupt;
use super::super::spread::{Quantiles, Spread};
use super::super::table::Table;
use super::goals::{Bound, Goal};
use super::{Bench, Part, number, numbers, spread_of};
use crate::shell;

const FSCK_ROUNDS: u32 = 3;
const REOPEN_ROUNDS: u32 = 5;
const REOPEN_LEAVES: &str = "1000000";

pub(super) struct Reading {
    proofs: Value,
    /// The first is cold, if the page cache did not hold it all.
    fsck: Vec<Value>,
}

/// Proofs from, and whole checks of, the ledger called `name`.
pub(super) fn measure(bench: &Bench, name: &str) -> Result<Reading> {
    eprintln!("proofs");
    let proofs = bench.measure("prove", name, &[])?;
    let mut fsck = Vec::new();
    for round in 0..=FSCK_ROUNDS {
        eprintln!("fsck: {round} of {FSCK_ROUNDS}");
        fsck.push(bench.measure("fsck", name, &[])?);
    }
    Ok(Reading { proofs, fsck })
}

impl Reading {
    /// Those of which the page cache holds as much as it can.
    fn warm(&self) -> &[Value] {
        &self.fsck[1..]
    }

    fn rate(&self, of: fn(&Value) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.warm().iter().filter_map(of))
    }

    fn proof(&self, name: &str) -> Option<Quantiles> {
        Quantiles::of(numbers(&self.proofs, name))
    }

    pub(super) fn print(&self) {
        shell::say("\nproofs from it");
        let mut table = Table::new(["proof", "ms p50", "p99", "bytes, most"]);
        for (name, times, bytes) in [
            ("inclusion, by the writer", "live_ms", "bytes"),
            ("inclusion, beside a writer", "beside_ms", "bytes"),
            ("inclusion, without a writer", "closed_ms", "bytes"),
            ("consistency", "consistency_ms", "consistency_bytes"),
        ] {
            let time = |of: fn(Quantiles) -> f64| {
                let all = self.proof(times);
                all.map_or_else(String::new, |all| format!("{:.2}", of(all)))
            };
            let most = self.proof(bytes).map_or(0.0, |all| all.most);
            let (p50, p99) = (time(|all| all.p50), time(|all| all.p99));
            table.row([name.to_owned(), p50, p99, format!("{most:.0}")]);
        }
        table.print();
        shell::say("\nfsck of it");
        let mut table = Table::new([
            "run",
            "leaves/s",
            "leaves/s per core",
            "MB/s",
            "peak RSS MB",
        ]);
        for (name, runs) in [("first", &self.fsck[..1]), ("again", self.warm())] {
            let figure = |of: fn(&Value) -> Option<f64>, digits: usize| {
                let spread = Spread::of(runs.iter().filter_map(of));
                super::super::table::cell(spread, digits)
            };
            table.row([
                name.to_owned(),
                figure(per_second, 0),
                figure(per_core_second, 0),
                figure(megabytes_per_second, 0),
                figure(|run| Some(run["peak_rss"].as_f64()? / 1e6), 1),
            ]);
        }
        table.print();
    }

    pub(super) fn json(&self) -> Value {
        let times = |name| self.proof(name).map(Quantiles::json);
        json!({
            "proof_live_ms": times("live_ms"),
            "proof_beside_ms": times("beside_ms"),
            "proof_closed_ms": times("closed_ms"),
            "proof_bytes": times("bytes"),
            "consistency_ms": times("consistency_ms"),
            "consistency_bytes": times("consistency_bytes"),
            "fsck": self.fsck,
        })
    }

    pub(super) fn goals(&self) -> Vec<Goal> {
        let goal = |what, found: Option<f64>, bound, digits, unit| {
            found.map(|found| Goal::new(what, found, bound, digits, unit))
        };
        let p99 = self.proof("live_ms").map(|all| all.p99);
        let bytes = self.proof("bytes").map(|all| all.most);
        let rate = self.rate(per_core_second).map(|rate| rate.median / 1e6);
        let goals = [
            goal("inclusion proof, p99", p99, Bound::AtMost(1.0), 2, " ms"),
            goal("inclusion proof", bytes, Bound::AtMost(2048.0), 0, " bytes"),
            goal("fsck per core", rate, Bound::AtLeast(1.0), 2, " M leaves/s"),
        ];
        goals.into_iter().flatten().collect()
    }
}

fn per_second(run: &Value) -> Option<f64> {
    Some(number(run, "leaves").ok()? / number(run, "seconds").ok()?)
}

fn per_core_second(run: &Value) -> Option<f64> {
    Some(number(run, "leaves").ok()? / number(run, "cpu_seconds").ok()?)
}

fn megabytes_per_second(run: &Value) -> Option<f64> {
    Some(number(run, "bytes").ok()? / number(run, "seconds").ok()? / 1e6)
}

pub(super) struct Reopen {
    runs: Vec<Value>,
}

/// Kills a writer at a million leaves, and opens what it left.
pub(super) fn measure_reopen(bench: &Bench) -> Result<Reopen> {
    let mut runs = Vec::new();
    for round in 1..=REOPEN_ROUNDS {
        eprintln!("reopen: {round} of {REOPEN_ROUNDS}");
        kill_at(bench, REOPEN_LEAVES)?;
        runs.push(bench.measure("reopen", "killed", &[])?);
        bench.remove("killed")?;
    }
    Ok(Reopen { runs })
}

fn kill_at(bench: &Bench, leaves: &str) -> Result<()> {
    interrupt::check()?;
    let mut command = bench.command("victim", &bench.path("killed"));
    let command = command.args(["--leaves", leaves]).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start the writer")?;
    let mut line = String::new();
    let told = BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line);
    child.kill()?;
    child.wait()?;
    told?;
    ensure!(line.trim() == "ready", "the writer ended by itself");
    Ok(())
}

impl Part for Reopen {
    fn print(&self) {
        shell::say("\nopening after kill -9 at 1,000,000 leaves of 300 bytes");
        let mut table = Table::new(["ms", "CPU ms", "leaves not sealed", "not in the index"]);
        let cell = |name, unit: f64| {
            let runs = self.runs.iter().filter_map(|run| run[name].as_f64());
            super::super::table::cell(Spread::of(runs.map(|value| value / unit)), 0)
        };
        table.row([
            cell("seconds", 1e-3),
            cell("cpu_seconds", 1e-3),
            cell("unsealed", 1.0),
            cell("replayed", 1.0),
        ]);
        table.print();
    }

    fn json(&self) -> (&'static str, Value) {
        ("reopen", json!(self.runs))
    }

    fn goals(&self) -> Vec<Goal> {
        let seconds = spread_of(&self.runs, "seconds").map(|all| all.median);
        let goal = |found| Goal::new("reopen after kill -9", found, Bound::AtMost(0.2), 3, " s");
        seconds.map(goal).into_iter().collect()
    }
}
