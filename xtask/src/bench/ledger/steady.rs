//! 5,000 leaves a second, durable every 100 ms.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::spread::{Quantiles, Spread};
use super::super::table::{Table, cell};
use super::goals::{Bound, Goal};
use super::{Args, Bench, Part, numbers, spread_of};
use crate::shell;

const STORES: [(&str, &str); 3] = [
    ("ledger", "ledger"),
    ("sqlite", "SQLite"),
    ("file", "bare file"),
];
const ROUNDS: u32 = 2;

pub(super) struct Steady {
    /// In the order of [`STORES`].
    runs: [Vec<Value>; STORES.len()],
}

pub(super) fn measure(bench: &Bench, args: &Args) -> Result<Steady> {
    let mut runs = std::array::from_fn(|_| Vec::new());
    for round in 0..ROUNDS {
        eprintln!("steady: round {} of {ROUNDS}", round + 1);
        for ((store, _), runs) in STORES.iter().zip(&mut runs) {
            let seconds = args.steady_seconds.to_string();
            let options = ["--rate", "5000", "--interval-ms", "100", "--store", store];
            let options = [&options[..], &["--seconds", &seconds]].concat();
            let run: Value = bench.measure_anew("steady", &options)?;
            runs.push(run);
        }
    }
    Ok(Steady { runs })
}

fn commits(runs: &[Value]) -> Option<Quantiles> {
    Quantiles::of(
        runs.iter()
            .flat_map(|run| numbers(run, "commits_ms"))
            .collect(),
    )
}

fn megabytes(runs: &[Value]) -> Option<Spread> {
    Spread::of(
        runs.iter()
            .filter_map(|run| Some(run["peak_rss"].as_f64()? / 1e6)),
    )
}

impl Part for Steady {
    fn print(&self) {
        shell::say("\n5,000 leaves a second, committed every 100 ms");
        let mut table = Table::new([
            "store",
            "CPU % of one core",
            "peak RSS MB",
            "commit ms p50",
            "p99",
            "most",
        ]);
        for ((_, name), runs) in STORES.iter().zip(&self.runs) {
            let quantile = |of: fn(Quantiles) -> f64| {
                commits(runs).map_or_else(String::new, |all| format!("{:.1}", of(all)))
            };
            table.row([
                (*name).to_owned(),
                cell(spread_of(runs, "cpu_percent"), 2),
                cell(megabytes(runs), 1),
                quantile(|all| all.p50),
                quantile(|all| all.p99),
                quantile(|all| all.most),
            ]);
        }
        table.print();
    }

    fn json(&self) -> (&'static str, Value) {
        let rows = STORES.iter().zip(&self.runs).map(|((store, _), runs)| {
            json!({
                "store": store,
                "cpu_percent": spread_of(runs, "cpu_percent").map(Spread::json),
                "peak_rss_mb": megabytes(runs).map(Spread::json),
                "commit_ms": commits(runs).map(Quantiles::json),
            })
        });
        ("steady", rows.collect())
    }

    fn goals(&self) -> Vec<Goal> {
        let ours = &self.runs[0];
        let goal = |what, found: Option<Spread>, most, unit| {
            Some(Goal::new(what, found?.median, Bound::AtMost(most), 2, unit))
        };
        let cpu = goal(
            "CPU at 5,000/s",
            spread_of(ours, "cpu_percent"),
            1.5,
            " % of a core",
        );
        let memory = goal("peak RSS at 5,000/s", megabytes(ours), 10.0, " MB");
        cpu.into_iter().chain(memory).collect()
    }
}
