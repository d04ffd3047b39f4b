//! Events a second with Sigma rules, beside `rsigma-eval` on the same events in the same process.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::ordinary::{self, Work};
use super::spread::Spread;
use super::table::{Table, cell};
use crate::shell;

/// Numbers of rules to measure with; 0 stands for all.
const COUNTS: &str = "1,10,100,1000,0";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Directory with `rules/linux`, `rules/windows` and `events/windows.ndjson`: Sigma rules, and
    /// events with a line `{"event": {fields of Sysmon's event 1}}` each
    #[arg(long, value_name = "DIR")]
    sigma: PathBuf,
    /// Recording of `daemoneye record` for the Linux rules, in place of a Rust build recorded here
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Interleaved rounds
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Rules and events of one system.
struct Part {
    name: &'static str,
    rules: PathBuf,
    events: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let mut results = Vec::new();
    for part in parts(args)? {
        let rounds = args.rounds.to_string();
        let speed = bench(&part, &["--counts", COUNTS, "--rounds", &rounds])?;
        let ours = bench(&part, &["--memory", "ours"])?;
        let rsigma = bench(&part, &["--memory", "rsigma"])?;
        results.push((part.name, speed, ours, rsigma));
    }
    if args.json {
        let parts = results.iter().map(|(system, speed, ours, rsigma)| {
            json!({ "system": system, "speed": speed, "memory": ours, "rsigma_memory": rsigma })
        });
        shell::say(json!({ "bench": "detect", "parts": parts.collect::<Vec<_>>() }));
        return Ok(());
    }
    shell::say(format_args!(
        "{} interleaved rounds: median (least–most), processor time of one thread, without cache",
        args.rounds
    ));
    for (system, speed, ours, rsigma) in &results {
        print(system, speed, ours, rsigma);
    }
    Ok(())
}

fn parts(args: &Args) -> Result<Vec<Part>> {
    let recording = match &args.events {
        Some(file) => Ok(file.clone()),
        None => ordinary::recording(Work::RustBuild)?,
    };
    let windows = Part {
        name: "windows",
        rules: args.sigma.join("rules/windows"),
        events: args.sigma.join("events/windows.ndjson"),
    };
    let mut parts = vec![windows];
    match recording {
        Ok(events) => parts.push(Part {
            name: "linux",
            rules: args.sigma.join("rules/linux"),
            events,
        }),
        Err(why) => eprintln!("linux skipped: {why}"),
    }
    for part in &parts {
        ensure!(part.rules.is_dir(), "no rules in {}", part.rules.display());
    }
    Ok(parts)
}

fn bench(part: &Part, options: &[&str]) -> Result<Value> {
    let mut command = shell::cargo(["bench", "--quiet", "-p", "detect", "--bench", "sigma", "--"]);
    command.args(options);
    let absolute = |path: &Path| std::path::absolute(path);
    command.arg("--rules").arg(absolute(&part.rules)?);
    command.arg("--events").arg(absolute(&part.events)?);
    let text = shell::text(&mut command)?;
    serde_json::from_str(&text).context("the benchmark printed no JSON")
}

fn print(system: &str, speed: &Value, ours: &Value, rsigma: &Value) {
    let megabytes = |memory: &Value| memory["bytes"].as_f64().unwrap_or(0.0) / 1e6;
    shell::say(format_args!(
        "\n{system}: {} events; all rules take {:.0} MB, rsigma-eval's {:.0} MB",
        speed["events"],
        megabytes(ours),
        megabytes(rsigma)
    ));
    let mut table = Table::new([
        "rules",
        "findings",
        "differ",
        "compile ms",
        "ns/event",
        "rsigma-eval ns/event",
        "times faster",
        "ns/event with cache",
        "ns/event without findings",
    ]);
    for set in speed["sets"].as_array().into_iter().flatten() {
        let differ = |name: &str| set[name].as_array().map_or(0, Vec::len);
        table.row([
            set["rules"].to_string(),
            set["findings"].to_string(),
            (differ("only_ours") + differ("only_rsigma")).to_string(),
            format!("{:.0}", set["compile_ms"].as_f64().unwrap_or(0.0)),
            cell(of_rounds(set, |r| r["ours_ns"].as_f64()), 0),
            cell(of_rounds(set, |r| r["rsigma_ns"].as_f64()), 0),
            cell(of_rounds(set, times_faster), 2),
            cell(of_rounds(set, |r| r["cached_ns"].as_f64()), 0),
            cell(of_rounds(set, |r| r["quiet_ns"].as_f64()), 0),
        ]);
    }
    table.print();
    print_growth(speed);
}

/// What more rules cost, for all events and for those that no rule matches.
fn print_growth(speed: &Value) {
    let with = |rules: u64| {
        let mut sets = speed["sets"].as_array().into_iter().flatten();
        sets.find(|set| set["rules"].as_u64() == Some(rules))
    };
    let (Some(few), Some(many)) = (with(10), with(1000)) else {
        return;
    };
    let times = |name: &str| {
        let median = |set| of_rounds(set, |round| round[name].as_f64());
        Some(median(many)?.median / median(few)?.median)
    };
    if let (Some(all), Some(quiet)) = (times("ours_ns"), times("quiet_ns")) {
        shell::say(format_args!(
            "1,000 rules cost {all:.1} times what 10 cost; {quiet:.1} times on the {} events \
             without findings",
            speed["quiet_events"]
        ));
    }
}

fn times_faster(round: &Value) -> Option<f64> {
    Some(round["rsigma_ns"].as_f64()? / round["ours_ns"].as_f64()?)
}

fn of_rounds(set: &Value, value: impl Fn(&Value) -> Option<f64>) -> Option<Spread> {
    let rounds = set["rounds"].as_array()?;
    Spread::of(rounds.iter().filter_map(value))
}
