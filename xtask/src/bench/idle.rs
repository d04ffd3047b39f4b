//! A host on which nothing happens: processor time, wake-ups, memory.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::interrupt;
use super::spread::Spread;
use super::table::{Table, cell};
use super::target::{Mode, Sensor};
use super::watched::{self, Resident};
use crate::shell;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds of each run
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Runs of each mode
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How records come from the eBPF programs: auto, ring or perf
    #[arg(long, default_value = "auto", value_parser = ["auto", "ring", "perf"])]
    transport: String,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

const MODES: [Mode; 2] = [Mode::Collector, Mode::Full];

/// After the start, until what it brought is done.
const SETTLE: Duration = Duration::from_secs(3);

struct Run {
    mode: Mode,
    /// Of one processor.
    cpu_percent: f64,
    waits_per_second: f64,
    resident: Resident,
    /// In the whole run: what else the host did.
    events: u64,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let mut runs = Vec::new();
    for round in 0..args.rounds {
        for mode in MODES {
            eprintln!("{} of {} · {}", round + 1, args.rounds, mode.name());
            runs.push(run_once(args, mode)?);
        }
    }
    if args.json {
        let rows = MODES.map(|mode| row_json(&runs, mode));
        shell::say(json!({
            "bench": "idle", "seconds": args.seconds, "rounds": args.rounds, "rows": rows,
        }));
    } else {
        print(args, &runs);
    }
    Ok(())
}

fn run_once(args: &Args, mode: Mode) -> Result<Run> {
    let options = ["--sensor", "ebpf", "--transport", &args.transport];
    let sensor = Sensor::start(mode, options)?;
    let pid = sensor.daemon.pid();
    interrupt::sleep(SETTLE)?;
    let (start, before) = (Instant::now(), watched::threads(pid)?);
    interrupt::sleep(Duration::from_secs(args.seconds.into()))?;
    let (seconds, after) = (start.elapsed().as_secs_f64(), watched::threads(pid)?);
    let resident = watched::resident(pid)?;
    Ok(Run {
        mode,
        cpu_percent: (after.cpu.saturating_sub(before.cpu)).as_secs_f64() / seconds * 100.0,
        waits_per_second: after.waits.saturating_sub(before.waits) as f64 / seconds,
        resident,
        events: sensor.stop()?.seen,
    })
}

fn spread(runs: &[Run], mode: Mode, value: impl Fn(&Run) -> f64) -> Option<Spread> {
    let of_mode = runs.iter().filter(|run| run.mode == mode);
    Spread::of(of_mode.map(value))
}

fn megabytes(runs: &[Run], mode: Mode, of: impl Fn(&Resident) -> u64) -> Option<Spread> {
    spread(runs, mode, |run| of(&run.resident) as f64 / 1e6)
}

fn row_json(runs: &[Run], mode: Mode) -> Value {
    let json = |spread: Option<Spread>| spread.map(Spread::json);
    json!({
        "mode": mode.name(),
        "cpu_percent": json(spread(runs, mode, |run| run.cpu_percent)),
        "waits_per_second": json(spread(runs, mode, |run| run.waits_per_second)),
        "events": json(spread(runs, mode, |run| run.events as f64)),
        "rss_mb": json(megabytes(runs, mode, |r| r.total)),
        "rss_anonymous_mb": json(megabytes(runs, mode, |r| r.anonymous)),
        "rss_file_mb": json(megabytes(runs, mode, |r| r.file)),
        "rss_rings_mb": json(megabytes(runs, mode, |r| r.rings)),
    })
}

fn print(args: &Args, runs: &[Run]) {
    shell::say(format_args!(
        "{} s, {} interleaved rounds: median (least–most)",
        args.seconds, args.rounds
    ));
    let mut table = Table::new([
        "mode",
        "CPU %",
        "wake-ups/s",
        "RSS MB",
        "of it anonymous",
        "program file",
        "mapped maps and rings",
        "events meanwhile",
    ]);
    for mode in MODES {
        table.row([
            mode.name().into(),
            cell(spread(runs, mode, |run| run.cpu_percent), 3),
            cell(spread(runs, mode, |run| run.waits_per_second), 2),
            cell(megabytes(runs, mode, |r| r.total), 1),
            cell(megabytes(runs, mode, |r| r.anonymous), 1),
            cell(megabytes(runs, mode, |r| r.file), 1),
            cell(megabytes(runs, mode, |r| r.rings), 1),
            cell(spread(runs, mode, |run| run.events as f64), 0),
        ]);
    }
    table.print();
}
