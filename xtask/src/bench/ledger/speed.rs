//! Durable appends a second at several batch sizes, beside SQLite and a bare file.

use anyhow::Result;
use serde_json::{Value, json};

use super::super::spread::Spread;
use super::super::table::{Table, cell};
use super::goals::{Bound, Goal};
use super::{Args, Bench, Part, number, spread_of};
use crate::shell;

const BATCHES: [u64; 5] = [1, 10, 100, 1_000, 10_000];
const STORES: [&str; 3] = ["ledger", "sqlite", "file"];

/// The batch size that goals are set for.
const GOAL_BATCH: u64 = 1_000;

pub(super) struct Speed {
    sets: Vec<Set>,
}

/// One batch size; runs are in the order of [`STORES`], round by round.
struct Set {
    batch: u64,
    runs: [Vec<Value>; STORES.len()],
}

pub(super) fn measure(bench: &Bench, args: &Args) -> Result<Speed> {
    let runs = || std::array::from_fn(|_| Vec::new());
    let new = |batch| Set {
        batch,
        runs: runs(),
    };
    let mut sets = BATCHES.map(new);
    for round in 0..args.rounds as usize {
        eprintln!("appends: round {} of {}", round + 1, args.rounds);
        for set in &mut sets {
            // Another one goes first each time.
            for turn in 0..STORES.len() {
                let store = (round + turn) % STORES.len();
                set.runs[store].push(append(bench, args, STORES[store], set.batch)?);
            }
        }
    }
    Ok(Speed { sets: sets.into() })
}

fn append(bench: &Bench, args: &Args, store: &str, batch: u64) -> Result<Value> {
    let (batch, seconds) = (batch.to_string(), args.seconds.to_string());
    let options = ["--store", store, "--batch", &batch, "--seconds", &seconds];
    bench.measure_anew("append", &options)
}

impl Set {
    fn of(&self, store: &str) -> &[Value] {
        let position = STORES.iter().position(|name| *name == store);
        &self.runs[position.expect("one of the stores")]
    }

    fn rate(&self, store: &str) -> Option<Spread> {
        spread_of(self.of(store), "per_second")
    }

    /// How many times as many leaves a second the ledger takes, round by round.
    fn times(&self, store: &str) -> Option<Spread> {
        let rate = |run: &Value| number(run, "per_second").ok();
        let pairs = self.of("ledger").iter().zip(self.of(store));
        Spread::of(pairs.filter_map(|(ours, other)| Some(rate(ours)? / rate(other)?)))
    }

    fn cpu_us(&self, store: &str) -> Option<Spread> {
        let runs = self.of(store).iter();
        Spread::of(runs.filter_map(|run| Some(number(run, "cpu_ns_per_leaf").ok()? / 1e3)))
    }

    fn json(&self) -> Value {
        let json = |spread: Option<Spread>| spread.map(Spread::json);
        json!({
            "batch": self.batch,
            "per_second": STORES.map(|store| json(self.rate(store))),
            "cpu_us_per_leaf": STORES.map(|store| json(self.cpu_us(store))),
            "over_file": json(self.times("file")),
            "over_sqlite": json(self.times("sqlite")),
        })
    }
}

impl Part for Speed {
    fn print(&self) {
        shell::say("\ndurable leaves of 300 bytes a second");
        let mut table = Table::new([
            "leaves in a commit",
            "ledger",
            "SQLite",
            "bare file",
            "ledger over SQLite",
            "ledger over file",
            "CPU µs/leaf: ledger",
            "SQLite",
            "bare file",
        ]);
        for set in &self.sets {
            let cpu_digits = if set.batch < 100 { 0 } else { 2 };
            let [ours, sqlite, file] = STORES.map(|store| set.cpu_us(store));
            table.row([
                set.batch.to_string(),
                cell(set.rate("ledger"), 0),
                cell(set.rate("sqlite"), 0),
                cell(set.rate("file"), 0),
                cell(set.times("sqlite"), 2),
                cell(set.times("file"), 2),
                cell(ours, cpu_digits),
                cell(sqlite, cpu_digits),
                cell(file, cpu_digits),
            ]);
        }
        table.print();
    }

    fn json(&self) -> (&'static str, Value) {
        let sets = self.sets.iter().map(Set::json);
        let sets: Vec<Value> = sets.collect();
        ("append", json!({ "stores": STORES, "sets": sets }))
    }

    fn goals(&self) -> Vec<Goal> {
        let set = self.sets.iter().find(|set| set.batch == GOAL_BATCH);
        let Some(set) = set else { return Vec::new() };
        let goal = |what, times: Option<Spread>, least| {
            Some(Goal::new(what, times?.median, Bound::AtLeast(least), 2, ""))
        };
        let file = goal(
            "over a bare file, 1,000 in a commit",
            set.times("file"),
            0.7,
        );
        let sqlite = goal("over SQLite, 1,000 in a commit", set.times("sqlite"), 2.0);
        file.into_iter().chain(sqlite).collect()
    }
}
