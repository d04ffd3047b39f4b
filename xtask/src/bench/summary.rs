//! What the runs of a storm come to, as tables and as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::latency::Latency;
use super::programs::Runs;
use super::spread::{Quantiles, Spread};
use super::storm::{Args, Cost, Load, Run, loads};
use super::table::{Table, cell};
use super::target::Mode;
use crate::shell;

/// The runs of one mode and load, put together.
struct Summary {
    load: Load,
    mode: Mode,
    execs_per_second: Option<Spread>,
    slowdown: Option<Spread>,
    over_floor: Option<Spread>,
    cpu_us_per_event: Option<Spread>,
    user_us_per_event: Option<Spread>,
    system_us_per_event: Option<Spread>,
    cpu_us_per_exec: Option<Spread>,
    peak_rss_mb: Option<Spread>,
    told: Option<Spread>,
    dropped: BTreeMap<String, u64>,
    /// In the kernel, charged to the workload.
    programs: BTreeMap<String, Program>,
    kernel_us_per_exec: Option<Spread>,
}

struct Program {
    ns_per_run: Spread,
    runs: Spread,
}

impl Summary {
    fn of(all: &[Run], mode: Mode, load: Load) -> Self {
        let runs: Vec<_> = all
            .iter()
            .filter(|r| r.mode == mode && r.load == load)
            .collect();
        let against = |other: Mode| {
            let base = |run: &&Run| {
                let same = |r: &&Run| r.mode == other && r.load == load && r.round == run.round;
                all.iter().find(same).map(|base| slowdown(run, base))
            };
            Spread::of(runs.iter().filter_map(base))
        };
        let costs: Vec<_> = runs.iter().filter_map(|run| run.cost.as_ref()).collect();
        let of = |value: &dyn Fn(&Cost) -> f64| Spread::of(costs.iter().map(|cost| value(cost)));
        let execs = f64::from(load.execs);
        let events = |cost: &Cost| cost.told.seen.max(1) as f64;
        let mut dropped = BTreeMap::new();
        for (name, count) in costs.iter().flat_map(|cost| &cost.told.dropped) {
            *dropped.entry(name.clone()).or_default() += count;
        }
        Self {
            load,
            mode,
            execs_per_second: Spread::of(runs.iter().map(|r| execs / r.time.as_secs_f64())),
            slowdown: against(Mode::None),
            over_floor: (!matches!(mode, Mode::None | Mode::Floor))
                .then(|| against(Mode::Floor))
                .flatten(),
            cpu_us_per_event: of(&|c| c.cpu.total().as_secs_f64() * 1e6 / events(c)),
            user_us_per_event: of(&|c| c.cpu.user.as_secs_f64() * 1e6 / events(c)),
            system_us_per_event: of(&|c| c.cpu.system.as_secs_f64() * 1e6 / events(c)),
            cpu_us_per_exec: of(&|c| c.cpu.total().as_secs_f64() * 1e6 / execs),
            peak_rss_mb: of(&|c| c.peak_rss as f64 / 1e6),
            told: of(&|c| c.told.seen as f64),
            dropped,
            programs: programs(&costs),
            kernel_us_per_exec: Spread::of(costs.iter().filter_map(|c| kernel_us(c, execs))),
        }
    }

    fn lost(&self) -> String {
        let parts = self
            .dropped
            .iter()
            .map(|(name, count)| format!("{name} {count}"));
        match (self.mode, parts.collect::<Vec<_>>().join(", ")) {
            (Mode::None, _) => "–".into(),
            (_, text) if text.is_empty() => "0".into(),
            (_, text) => text,
        }
    }

    fn json(&self) -> Value {
        let spread = |spread: Option<Spread>| spread.map(Spread::json);
        let programs = self.programs.iter().map(|(name, program)| {
            let Program { ns_per_run, runs } = program;
            (
                name.clone(),
                json!({ "ns_per_run": ns_per_run.json(), "runs": runs.json() }),
            )
        });
        json!({
            "threads": self.load.threads,
            "pace": self.load.pace,
            "execs": self.load.execs,
            "mode": self.mode.name(),
            "execs_per_second": spread(self.execs_per_second),
            "slowdown": spread(self.slowdown),
            "slowdown_over_floor": spread(self.over_floor),
            "cpu_us_per_event": spread(self.cpu_us_per_event),
            "user_us_per_event": spread(self.user_us_per_event),
            "system_us_per_event": spread(self.system_us_per_event),
            "cpu_us_per_exec": spread(self.cpu_us_per_exec),
            "peak_rss_mb": spread(self.peak_rss_mb),
            "events": spread(self.told),
            "dropped": self.dropped,
            "programs": programs.collect::<serde_json::Map<_, _>>(),
            "kernel_us_per_exec": spread(self.kernel_us_per_exec),
        })
    }
}

/// At a set pace the time is given, so what counts is how long each single exec took.
fn slowdown(run: &Run, base: &Run) -> f64 {
    match run.load.pace {
        None => run.time.as_secs_f64() / base.time.as_secs_f64(),
        Some(_) => run.busy.as_secs_f64() / base.busy.as_secs_f64(),
    }
}

fn programs(costs: &[&Cost]) -> BTreeMap<String, Program> {
    let names: BTreeSet<&String> = costs.iter().flat_map(|c| c.programs.keys()).collect();
    let of = |name: &String| {
        let ran = || {
            let all = costs.iter().filter_map(|cost| cost.programs.get(name));
            all.filter(|runs| runs.count > 0)
        };
        let each = |runs: &Runs| runs.nanoseconds as f64 / runs.count as f64;
        Some(Program {
            ns_per_run: Spread::of(ran().map(each))?,
            runs: Spread::of(ran().map(|runs| runs.count as f64))?,
        })
    };
    let named = names
        .into_iter()
        .map(|name| Some((name.clone(), of(name)?)));
    named.flatten().collect()
}

fn kernel_us(cost: &Cost, execs: f64) -> Option<f64> {
    let nanoseconds: u64 = cost.programs.values().map(|runs| runs.nanoseconds).sum();
    (nanoseconds > 0).then(|| nanoseconds as f64 / 1e3 / execs)
}

pub(super) fn show(
    args: &Args,
    modes: &[Mode],
    runs: &[Run],
    latency: Option<&Latency>,
    as_json: bool,
) {
    let of = |load| modes.iter().map(move |&mode| Summary::of(runs, mode, load));
    let rows: Vec<Summary> = loads(args).flat_map(of).collect();
    if as_json {
        shell::say(json(args, &rows, latency));
        return;
    }
    shell::say(format_args!(
        "{} interleaved rounds: median (least–most)",
        args.rounds
    ));
    table(&rows).print();
    shell::say("\neBPF programs, which run on the time of whoever forks, execs and exits");
    program_table(&rows).print();
    if let Some(latency) = latency {
        shell::say("\nmilliseconds after the exec");
        latency_table(latency).print();
    }
}

fn json(args: &Args, rows: &[Summary], latency: Option<&Latency>) -> Value {
    let quantiles = |quantiles: Option<Quantiles>| quantiles.map(Quantiles::json);
    json!({
        "bench": "storm", "rounds": args.rounds, "transport": args.transport,
        "rows": rows.iter().map(Summary::json).collect::<Vec<_>>(),
        "latency_ms": latency.map(|latency| json!({
            "alert_at_rest": quantiles(latency.alert_at_rest),
            "alert_under_load": quantiles(latency.alert_under_load),
            "event_under_load": quantiles(latency.event_under_load),
        })),
    })
}

fn load_name(load: Load) -> String {
    match load.pace {
        None => format!("{} × {}", load.threads, load.execs),
        Some(pace) => format!("{pace}/s"),
    }
}

fn table(rows: &[Summary]) -> Table {
    let mut table = Table::new([
        "load",
        "mode",
        "execs/s",
        "slowdown",
        "over counting",
        "CPU µs/event",
        "user",
        "system",
        "CPU µs/exec",
        "events",
        "peak RSS MB",
        "lost, all rounds",
    ]);
    for row in rows {
        table.row([
            load_name(row.load),
            row.mode.name().into(),
            cell(row.execs_per_second, 0),
            cell(row.slowdown, 2),
            cell(row.over_floor, 2),
            cell(row.cpu_us_per_event, 2),
            cell(row.user_us_per_event, 2),
            cell(row.system_us_per_event, 2),
            cell(row.cpu_us_per_exec, 1),
            row.told
                .map_or_else(|| "–".into(), |told| format!("{:.0}", told.median)),
            cell(row.peak_rss_mb, 1),
            row.lost(),
        ]);
    }
    table
}

fn program_table(rows: &[Summary]) -> Table {
    let mut table = Table::new(["load", "mode", "program", "ns/run", "runs", "all, µs/exec"]);
    for row in rows {
        for (name, program) in &row.programs {
            table.row([
                load_name(row.load),
                row.mode.name().into(),
                name.clone(),
                format!("{:.0}", program.ns_per_run),
                format!("{:.0}", program.runs.median),
                cell(row.kernel_us_per_exec, 2),
            ]);
        }
    }
    table
}

fn latency_table(latency: &Latency) -> Table {
    let mut table = Table::new(["to", "p50", "p99", "most", "of"]);
    let rows = [
        ("alert line, otherwise at rest", latency.alert_at_rest),
        ("alert line, under the set pace", latency.alert_under_load),
        (
            "event in the recording, under the set pace",
            latency.event_under_load,
        ),
    ];
    for (name, quantiles) in rows {
        let Some(q) = quantiles else { continue };
        let [p50, p99, most] = [q.p50, q.p99, q.most].map(|ms| format!("{ms:.2}"));
        table.row([name.into(), p50, p99, most, q.count.to_string()]);
    }
    table
}
