//! Processes that run already when `daemoneye` starts: how long until it knows them all.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vm::follow::Follow;

use super::interrupt;
use super::spread::Spread;
use super::table::{Table, cell};
use super::target::{Mode, Sensor, program};
use crate::shell;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Processes beside those that run anyway
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    processes: u32,
    /// Runs of each mode, with and without them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

const TARGETS: [(Mode, &str); 3] = [
    (Mode::Collector, "ebpf"),
    (Mode::Full, "ebpf"),
    (Mode::Collector, "poll"),
];

struct Run {
    target: (Mode, &'static str),
    crowded: bool,
    /// From the start of the program.
    ready_ms: f64,
    /// Until the last row was in the file; where there is a file.
    last_row_ms: Option<f64>,
    rows: u64,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let mut runs = Vec::new();
    for round in 0..args.rounds {
        eprintln!("{} of {}", round + 1, args.rounds);
        runs.extend(run_all(false, 0)?);
        let _crowd = Crowd::gather(args.processes)?;
        runs.extend(run_all(true, args.processes.into())?);
    }
    if args.json {
        show_json(args, &runs);
    } else {
        print(args, &runs);
    }
    Ok(())
}

fn run_all(crowded: bool, least_rows: u64) -> Result<Vec<Run>> {
    let run = |target| {
        interrupt::check()?;
        let run = run_once(target, crowded)?;
        let rows = run.rows;
        ensure!(
            rows >= least_rows,
            "{target:?} knows {rows} of {least_rows} processes"
        );
        Ok(run)
    };
    TARGETS.into_iter().map(run).collect()
}

fn run_once(target: (Mode, &'static str), crowded: bool) -> Result<Run> {
    let (mode, source) = target;
    let start = Instant::now();
    let sensor = Sensor::start(mode, ["--sensor", source])?;
    let ready_ms = milliseconds(start);
    let (rows, last_row_ms) = match mode {
        Mode::Collector => {
            let (rows, at) = last_row(&sensor)?;
            (rows, Some((at - start).as_secs_f64() * 1e3))
        }
        _ => (0, None),
    };
    let told = sensor.stop()?;
    Ok(Run {
        target,
        crowded,
        ready_ms,
        last_row_ms,
        rows: if rows > 0 { rows } else { told.seen },
    })
}

/// How many rows the recording begins with, and when the last of them could be read. An event must
/// follow: that of a process that is started for it.
fn last_row(sensor: &Sensor) -> Result<(u64, Instant)> {
    // Lives until the polling sensor has had time to see it.
    let _marker = Crowd::gather(1)?;
    let mut follow = Follow::open(&sensor.recording())?;
    let mut last = (0, Instant::now());
    while let Some(event) = follow.next_event()? {
        if vm::kind_name(&event) != "snapshot" {
            break;
        }
        last = (last.0 + 1, Instant::now());
    }
    Ok(last)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Processes that wait. Dropping it ends them.
struct Crowd(Child);

impl Crowd {
    /// Returns when all are there.
    fn gather(count: u32) -> Result<Self> {
        let mut command = Command::new(program("load"));
        command.args(["crowd", &count.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut crowd = Self(command.spawn()?);
        let output = crowd.0.stdout.take().context("the crowd has no pipe")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(
            line == format!("children {count}\n"),
            "{count} processes cannot be had here"
        );
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Fails only where it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Row {
    ready: Option<Spread>,
    last_row: Option<Spread>,
    processes: Option<Spread>,
}

fn row(runs: &[Run], target: (Mode, &str), crowded: bool) -> Row {
    let wanted = |run: &&Run| run.target == target && run.crowded == crowded;
    let runs: Vec<_> = runs.iter().filter(wanted).collect();
    Row {
        ready: Spread::of(runs.iter().map(|run| run.ready_ms)),
        last_row: Spread::of(runs.iter().filter_map(|run| run.last_row_ms)),
        processes: Spread::of(runs.iter().map(|run| run.rows as f64)),
    }
}

fn rows(runs: &[Run]) -> impl Iterator<Item = (String, Row)> + '_ {
    TARGETS.into_iter().flat_map(move |target| {
        [false, true].map(|crowded| {
            let name = format!("{}, {}", target.0.name(), target.1);
            (name, row(runs, target, crowded))
        })
    })
}

fn show_json(args: &Args, runs: &[Run]) {
    let spread = |spread: Option<Spread>| spread.map(Spread::json);
    let rows = rows(runs).map(|(mode, row)| {
        json!({
            "mode": mode,
            "processes": spread(row.processes),
            "ready_ms": spread(row.ready),
            "last_row_ms": spread(row.last_row),
        })
    });
    shell::say(json!({
        "bench": "enumerate", "processes": args.processes, "rounds": args.rounds,
        "rows": rows.collect::<Vec<_>>(),
    }));
}

fn print(args: &Args, runs: &[Run]) {
    shell::say(format_args!(
        "{} interleaved rounds: median (least–most), ms from the start of the program",
        args.rounds
    ));
    let mut table = Table::new(["mode", "processes known", "ready", "last row in the file"]);
    for (mode, row) in rows(runs) {
        table.row([
            mode,
            cell(row.processes, 0),
            cell(row.ready, 0),
            cell(row.last_row, 0),
        ]);
    }
    table.print();
}
