//! The storm: what a sensor costs the workload, what it costs itself, and what it loses.
//!
//! Rounds are interleaved, so that what else the machine does falls on all modes alike, and each
//! slowdown compares runs of one round.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use vm::Workload;

use super::latency::{self, Latency};
use super::programs::{self, Programs};
use super::target::{Mode, Told, Watcher, program};
use super::watched::{self, Cpu};
use super::{interrupt, peers, summary};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Execs in each run that goes as fast as it can
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    execs: u32,
    /// Threads that start them
    #[arg(long, value_delimiter = ',', default_value = "1,2,4", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Vec<u32>,
    /// Execs a second of the runs at a set pace, from one thread; 0 leaves these out
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pace: u32,
    /// Seconds that a run at a set pace takes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    paced_seconds: u32,
    /// Runs of each mode
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: u32,
    /// Alerts whose latency is measured, 0 for no latencies; a rule raises no more than 100 in a minute
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(..=100))]
    alerts: u64,
    /// How records come from the eBPF programs: auto, ring or perf
    #[arg(long, default_value = "auto", value_parser = ["auto", "ring", "perf"])]
    pub(super) transport: String,
    /// Runs other sensors that are installed on the same workload: auditd, bpftrace, execsnoop of
    /// libbpf-tools, forkstat
    #[arg(long)]
    peers: bool,
    /// Prints JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// How execs come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) threads: u32,
    /// A second; `None`: as many as can be.
    pub(super) pace: Option<u32>,
    pub(super) execs: u32,
}

/// One run.
pub(super) struct Run {
    pub(super) mode: Mode,
    pub(super) load: Load,
    pub(super) round: u32,
    /// From the first exec to the last.
    pub(super) time: Duration,
    /// The sum of what single runs took, from before the spawn to after the wait.
    pub(super) busy: Duration,
    /// Of the sensor; absent without one.
    pub(super) cost: Option<Cost>,
}

pub(super) struct Cost {
    pub(super) cpu: Cpu,
    pub(super) peak_rss: u64,
    pub(super) told: Told,
    pub(super) programs: Programs,
}

pub(super) fn run(args: &Args) -> Result<()> {
    ensure!(!args.threads.is_empty(), "--threads names none");
    vm::tiny::write(&storm_child()?, 0)?;
    let peers = if args.peers {
        peers::usable()?
    } else {
        Vec::new()
    };
    let modes: Vec<Mode> = [Mode::None, Mode::Floor, Mode::Collector, Mode::Full]
        .into_iter()
        .chain(peers.into_iter().map(Mode::Peer))
        .collect();
    let counting = programs::counting();
    let mut runs = Vec::new();
    for load in loads(args) {
        for round in 0..args.rounds {
            for mode in rotated(&modes, round as usize) {
                interrupt::check()?;
                let Load { threads, .. } = load;
                eprintln!(
                    "{} of {} · {threads} threads{} · {}",
                    round + 1,
                    args.rounds,
                    load.pace
                        .map_or_else(String::new, |pace| format!(" · {pace}/s")),
                    mode.name()
                );
                runs.push(run_once(args, mode, load, round)?);
            }
        }
    }
    // From here on what is measured is time alone.
    drop(counting);
    let latency = measure_latency(args)?;
    summary::show(args, &modes, &runs, latency.as_ref(), args.json);
    Ok(())
}

fn measure_latency(args: &Args) -> Result<Option<Latency>> {
    if args.alerts == 0 || args.pace == 0 {
        return Ok(None);
    }
    let options = ["--sensor", "ebpf", "--transport", &args.transport];
    latency::measure(args.alerts, args.pace, &options).map(Some)
}

pub(super) fn loads(args: &Args) -> impl Iterator<Item = Load> + '_ {
    let storms = args.threads.iter().map(|&threads| Load {
        threads,
        pace: None,
        execs: args.execs,
    });
    let paced = (args.pace > 0).then(|| Load {
        threads: 1,
        pace: Some(args.pace),
        execs: args.pace * args.paced_seconds,
    });
    storms.chain(paced)
}

/// No mode comes always first.
fn rotated(modes: &[Mode], round: usize) -> impl Iterator<Item = Mode> + '_ {
    (0..modes.len()).map(move |i| modes[(i + round) % modes.len()])
}

fn run_once(args: &Args, mode: Mode, load: Load, round: u32) -> Result<Run> {
    let watcher = Watcher::start(mode, &args.transport)?;
    let pids = watcher.as_ref().map(Watcher::pids).unwrap_or_default();
    let before = (watched::cpu_at_rest(&pids)?, programs::of(&pids)?);
    let (time, busy) = match load.pace {
        None => execs(&mut self::load("storm", load.execs, load.threads)?)?,
        Some(pace) => paced(load.execs, load.threads, pace)?,
    };
    let cost = watcher.map(|watcher| cost(watcher, &before, load.execs));
    Ok(Run {
        mode,
        load,
        round,
        time,
        busy,
        cost: cost.transpose()?,
    })
}

fn cost(watcher: Watcher, before: &(Cpu, Programs), execs: u32) -> Result<Cost> {
    let pids = watcher.pids();
    let cpu = watched::cpu_at_rest(&pids)?.since(before.0);
    let programs = programs::since(programs::of(&pids)?, &before.1);
    let peak_rss = pids.iter().filter_map(|pid| watched::peak_rss(*pid).ok());
    Ok(Cost {
        cpu,
        peak_rss: peak_rss.sum(),
        told: watcher.stop(execs.into())?,
        programs,
    })
}

/// The program that is executed is kept out of temporary directories: there each exec would be a
/// finding or two, and the storm would measure findings.
pub(super) fn storm_child() -> Result<PathBuf> {
    let child = program("storm-child");
    ensure!(child.is_absolute(), "the target directory is not absolute");
    Ok(child)
}

/// The program that makes the load; what more it needs is for the caller to add.
pub(super) fn load(kind: &str, execs: u32, threads: u32) -> Result<Command> {
    let mut command = Command::new(program("load"));
    command.args([kind, &execs.to_string(), &threads.to_string()]);
    command.arg(storm_child()?);
    Ok(command)
}

pub(super) fn paced(count: u32, threads: u32, rate: u32) -> Result<(Duration, Duration)> {
    execs(load("paced", count, threads)?.arg(rate.to_string()))
}

fn execs(command: &mut Command) -> Result<(Duration, Duration)> {
    let done = Workload::run_command(command)?;
    let micros = |name| Duration::from_micros(done.number(name));
    Ok((micros("microseconds"), micros("busy")))
}
