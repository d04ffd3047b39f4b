//! What ordinary work raises: alerts that nobody wants.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use event::EventKind;
use event::wire::RecordingReader;
use serde_json::{Value, json};

use super::ordinary::{self, Work};
use super::table::Table;
use super::target::program;
use crate::shell;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rule file or directory, or `builtin`; may be repeated
    #[arg(long, value_name = "PATH", default_value = "builtin")]
    rules: Vec<PathBuf>,
    /// Recording of `daemoneye record`, in place of those made here; may be repeated
    #[arg(long, value_name = "FILE")]
    events: Vec<PathBuf>,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What one recording raised.
struct Noise {
    of: String,
    execs: u64,
    /// By place of the level in [`LEVELS`] and rule.
    alerts: BTreeMap<(usize, String), u64>,
}

/// Most important first.
const LEVELS: [&str; 5] = ["critical", "high", "medium", "low", "informational"];

pub(super) fn run(args: &Args) -> Result<()> {
    let mut all = Vec::new();
    for (name, file) in recordings(args)? {
        match file {
            Ok(file) => all.push(replay(args, name, &file)?),
            Err(why) => eprintln!("{name} skipped: {why}"),
        }
    }
    if args.json {
        show_json(&all);
    } else {
        print(&all);
    }
    Ok(())
}

type Recording = (String, std::result::Result<PathBuf, String>);

fn recordings(args: &Args) -> Result<Vec<Recording>> {
    if args.events.is_empty() {
        let record = |work: Work| Ok((work.name().to_owned(), ordinary::recording(work)?));
        return Work::ALL.into_iter().map(record).collect();
    }
    let given = args.events.iter();
    Ok(given
        .map(|file| (file.display().to_string(), Ok(file.clone())))
        .collect())
}

/// With the lowest level, so that the table shows what the default level keeps back.
fn replay(args: &Args, of: String, file: &Path) -> Result<Noise> {
    let mut command = Command::new(program("daemoneye"));
    command
        .arg("replay")
        .arg(file)
        .args(["--json", "--min-level", "informational"]);
    for path in &args.rules {
        command.arg("--rules").arg(path);
    }
    let mut noise = Noise {
        of,
        execs: execs(file)?,
        alerts: BTreeMap::new(),
    };
    for line in shell::text(&mut command)?.lines() {
        let alert: Value = serde_json::from_str(line).context("an alert is no JSON")?;
        let text = |path: &str| {
            alert
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let level = LEVELS
            .iter()
            .position(|level| *level == text("/rule/level"));
        let level = level.context("an alert has no known level")?;
        let rule = text("/rule/id").to_owned();
        *noise.alerts.entry((level, rule)).or_default() += 1;
    }
    Ok(noise)
}

fn execs(file: &Path) -> Result<u64> {
    let reader = RecordingReader::new(BufReader::new(File::open(file)?));
    let mut reader = reader.with_context(|| file.display().to_string())?;
    let mut execs = 0;
    while let Some(event) = reader.next().with_context(|| file.display().to_string())? {
        execs += u64::from(matches!(event.kind, EventKind::Exec(_)));
    }
    Ok(execs)
}

fn show_json(all: &[Noise]) {
    let rows = all.iter().map(|noise| {
        let alerts = noise.alerts.iter().map(|((level, rule), count)| {
            json!({ "level": LEVELS[*level], "rule": rule, "alerts": count })
        });
        json!({
            "work": noise.of, "execs": noise.execs, "alerts": alerts.collect::<Vec<_>>(),
        })
    });
    shell::say(json!({ "bench": "noise", "rows": rows.collect::<Vec<_>>() }));
}

fn print(all: &[Noise]) {
    let mut table = Table::new(["work", "execs", "level", "rule", "alerts"]);
    for noise in all {
        let of = || noise.of.clone();
        let execs = noise.execs.to_string();
        if noise.alerts.is_empty() {
            table.row([of(), execs.clone(), "–".into(), "none".into(), "0".into()]);
        }
        for ((level, rule), count) in &noise.alerts {
            let level = LEVELS[*level].to_owned();
            table.row([of(), execs.clone(), level, rule.clone(), count.to_string()]);
        }
    }
    table.print();
}
