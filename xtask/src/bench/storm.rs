//! The storm: what a sensor costs the workload, what it costs itself, and what it loses.
//!
//! Rounds are interleaved, so that what else the machine does falls on all modes alike, and each
//! slowdown compares runs of one round.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vm::{Daemon, Workload};

use super::spread::Spread;
use super::watched;
use crate::shell;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Execs in each run
    #[arg(long, default_value_t = 50_000)]
    execs: u64,
    /// Threads that start them
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<u32>,
    /// Runs of each mode
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Alerts whose latency is measured; a rule raises no more than 100 in a minute
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(..=100))]
    alerts: u64,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What watches while the storm runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    /// Nothing.
    None,
    /// The same programs and ring buffer; records are drained and counted.
    Floor,
    /// `daemoneye run` with its ledger and all shipped rules.
    Full,
}

const MODES: [Mode; 3] = [Mode::None, Mode::Floor, Mode::Full];

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::None => "no sensor",
            Self::Floor => "counting only",
            Self::Full => "daemoneye run",
        }
    }

    fn arguments(self) -> Option<&'static [&'static str]> {
        match self {
            Self::None => None,
            Self::Floor => Some(&["bench-count", "--sensor", "ebpf"]),
            Self::Full => Some(&["run", "--sensor", "ebpf"]),
        }
    }
}

/// One run.
struct Run {
    mode: Mode,
    threads: u32,
    round: usize,
    time: Duration,
    /// Of the sensor; absent without one.
    cost: Option<Cost>,
}

struct Cost {
    cpu: Duration,
    peak_rss: u64,
    /// Events that the sensor saw.
    seen: u64,
    /// By class and reason.
    dropped: BTreeMap<String, u64>,
}

pub(super) fn run(args: &Args) -> Result<()> {
    ensure!(
        ::vm::is_root(),
        "loading eBPF programs needs root: sudo -E cargo xtask bench storm"
    );
    ensure!(
        args.rounds > 0 && args.execs > 0,
        "--rounds and --execs are at least 1"
    );
    shell::run(&mut shell::cargo([
        "build",
        "--release",
        "-p",
        "cli",
        "-p",
        "vm",
        "--bins",
    ]))?;
    let mut runs = Vec::new();
    for &threads in &args.threads {
        for round in 0..args.rounds {
            for mode in rotated(round) {
                eprintln!(
                    "{} of {} · {threads} threads · {}",
                    round + 1,
                    args.rounds,
                    mode.name()
                );
                runs.push(run_once(args, mode, threads, round)?);
            }
        }
    }
    let latency = super::latency::measure(args.alerts)?;
    if args.json {
        shell::say(json(args, &runs, latency));
    } else {
        print(args, &runs, latency);
    }
    Ok(())
}

/// No mode comes always first.
fn rotated(round: usize) -> impl Iterator<Item = Mode> {
    (0..MODES.len()).map(move |i| MODES[(i + round) % MODES.len()])
}

fn run_once(args: &Args, mode: Mode, threads: u32, round: usize) -> Result<Run> {
    let Some(arguments) = mode.arguments() else {
        let time = storm(args.execs, threads)?;
        return Ok(Run {
            mode,
            threads,
            round,
            time,
            cost: None,
        });
    };
    let dir = tempfile::tempdir()?;
    let stats = dir.path().join("stats.json");
    let mut command = Command::new(program("daemoneye"));
    command.args(arguments).arg("--stats-json").arg(&stats);
    if mode == Mode::Full {
        command.arg("--state-dir").arg(dir.path().join("state"));
    }
    let daemon = Daemon::start_command(&mut command)?;
    let before = watched::cpu_at_rest(daemon.pid())?;
    let time = storm(args.execs, threads)?;
    let cpu = watched::cpu_at_rest(daemon.pid())? - before;
    let peak_rss = watched::peak_rss(daemon.pid())?;
    daemon.stop()?;
    let (seen, dropped) = read_stats(&stats)?;
    Ok(Run {
        mode,
        threads,
        round,
        time,
        cost: Some(Cost {
            cpu,
            peak_rss,
            seen,
            dropped,
        }),
    })
}

pub(super) fn program(name: &str) -> std::path::PathBuf {
    shell::target_dir().join("release").join(name)
}

/// The program that is executed is kept out of temporary directories: there each exec would be a
/// finding or two, and the storm would measure findings.
fn storm(execs: u64, threads: u32) -> Result<Duration> {
    let child = program("storm-child");
    vm::tiny::write(&child, 0)?;
    let mut command = Command::new(program("workload"));
    command.args(["storm", &execs.to_string(), &threads.to_string()]);
    command.arg(child);
    Ok(Duration::from_micros(
        Workload::run_command(&mut command)?.number("microseconds"),
    ))
}

fn read_stats(path: &Path) -> Result<(u64, BTreeMap<String, u64>)> {
    let text = std::fs::read(path).context("daemoneye wrote no --stats-json")?;
    let stats: Value = serde_json::from_slice(&text).context("--stats-json is no JSON")?;
    let sensor = &stats["sensor"];
    let seen = sensor["seen"]
        .as_u64()
        .context("--stats-json has no sensor.seen")?;
    let drops = sensor["dropped"]
        .as_array()
        .context("--stats-json has no sensor.dropped")?;
    let text = |drop: &Value, name: &str| drop[name].as_str().unwrap_or("?").to_owned();
    let entry = |drop: &Value| {
        let name = format!("{}/{}", text(drop, "class"), text(drop, "reason"));
        (name, drop["count"].as_u64().unwrap_or(0))
    };
    Ok((
        seen,
        drops
            .iter()
            .map(entry)
            .filter(|(_, count)| *count > 0)
            .collect(),
    ))
}

/// The runs of one mode and thread count, put together.
struct Summary {
    execs_per_second: Option<Spread>,
    slowdown: Option<Spread>,
    over_floor: Option<Spread>,
    cpu_us_per_event: Option<Spread>,
    cpu_us_per_exec: Option<Spread>,
    peak_rss_mb: Option<Spread>,
    dropped: BTreeMap<String, u64>,
}

impl Summary {
    fn of(execs: u64, all: &[Run], mode: Mode, threads: u32) -> Self {
        let runs: Vec<_> = all
            .iter()
            .filter(|r| r.mode == mode && r.threads == threads)
            .collect();
        let against = |other: Mode| {
            let base = |run: &&Run| {
                let same =
                    |r: &&Run| r.mode == other && r.threads == threads && r.round == run.round;
                all.iter()
                    .find(same)
                    .map(|base| run.time.as_secs_f64() / base.time.as_secs_f64())
            };
            Spread::of(runs.iter().filter_map(base))
        };
        let costs: Vec<_> = runs.iter().filter_map(|run| run.cost.as_ref()).collect();
        let micros = |cost: &Cost| cost.cpu.as_secs_f64() * 1e6;
        let mut dropped = BTreeMap::new();
        for (name, count) in costs.iter().flat_map(|cost| &cost.dropped) {
            *dropped.entry(name.clone()).or_default() += count;
        }
        Self {
            execs_per_second: Spread::of(runs.iter().map(|r| execs as f64 / r.time.as_secs_f64())),
            slowdown: against(Mode::None),
            over_floor: (mode == Mode::Full).then(|| against(Mode::Floor)).flatten(),
            cpu_us_per_event: Spread::of(costs.iter().map(|c| micros(c) / c.seen.max(1) as f64)),
            cpu_us_per_exec: Spread::of(costs.iter().map(|c| micros(c) / execs as f64)),
            peak_rss_mb: Spread::of(costs.iter().map(|c| c.peak_rss as f64 / 1e6)),
            dropped,
        }
    }

    fn lost(&self) -> String {
        let parts = self
            .dropped
            .iter()
            .map(|(name, count)| format!("{name} {count}"));
        let text = parts.collect::<Vec<_>>().join(", ");
        if text.is_empty() { "0".into() } else { text }
    }
}

fn summaries<'a>(
    args: &'a Args,
    runs: &'a [Run],
) -> impl Iterator<Item = (u32, Mode, Summary)> + 'a {
    let of = move |threads, mode| (threads, mode, Summary::of(args.execs, runs, mode, threads));
    args.threads
        .iter()
        .flat_map(move |&threads| MODES.map(|mode| of(threads, mode)))
}

fn print(args: &Args, runs: &[Run], latency: Option<Spread>) {
    let Args { execs, rounds, .. } = args;
    shell::say(format_args!(
        "{execs} execs a run, {rounds} interleaved rounds: median (least–most)"
    ));
    shell::say(format_args!(
        "{:<8}{:<15}{:<24}{:<19}{:<19}{:<21}{:<24}{:<20}lost in all rounds",
        "threads",
        "mode",
        "execs/s",
        "slowdown",
        "against counting",
        "CPU µs per event",
        "CPU µs per exec",
        "peak RSS MB"
    ));
    let cell = |spread: Option<Spread>, digits: usize| {
        spread.map_or_else(|| "–".to_owned(), |spread| format!("{spread:.digits$}"))
    };
    for (threads, mode, row) in summaries(args, runs) {
        let lost = if mode == Mode::None {
            "–".to_owned()
        } else {
            row.lost()
        };
        shell::say(format_args!(
            "{threads:<8}{:<15}{:<24}{:<19}{:<19}{:<21}{:<24}{:<20}{lost}",
            mode.name(),
            cell(row.execs_per_second, 0),
            cell(row.slowdown, 2),
            cell(row.over_floor, 2),
            cell(row.cpu_us_per_event, 2),
            cell(row.cpu_us_per_exec, 2),
            cell(row.peak_rss_mb, 1),
        ));
    }
    if let Some(latency) = latency {
        shell::say(format_args!(
            "exec to alert line: {latency:.2} ms, {} alerts",
            args.alerts
        ));
    }
}

fn json(args: &Args, runs: &[Run], latency: Option<Spread>) -> Value {
    let spread = |spread: Option<Spread>| spread.map(Spread::json);
    let rows = summaries(args, runs).map(|(threads, mode, row)| {
        json!({
            "threads": threads, "mode": mode.name(), "execs_per_second": spread(row.execs_per_second),
            "slowdown": spread(row.slowdown), "slowdown_over_floor": spread(row.over_floor),
            "cpu_us_per_event": spread(row.cpu_us_per_event),
            "cpu_us_per_exec": spread(row.cpu_us_per_exec),
            "peak_rss_mb": spread(row.peak_rss_mb), "dropped": row.dropped,
        })
    });
    json!({
        "bench": "storm", "execs": args.execs, "rounds": args.rounds,
        "rows": rows.collect::<Vec<_>>(), "alert_latency_ms": spread(latency),
    })
}
