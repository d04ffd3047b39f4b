//! A set rate, with a commit at a set interval: what the daemon does all day.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::process;
use crate::store::{self, Kind, Leaves};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    store: Kind,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 300)]
    leaf_bytes: usize,
    /// Leaves a second
    #[arg(long)]
    rate: u64,
    /// Milliseconds between commits
    #[arg(long)]
    interval_ms: u64,
    #[arg(long)]
    seconds: u64,
}

pub(crate) fn run(args: &Args) -> Result<Value> {
    let mut store = store::create(args.store, &args.dir)?;
    let mut leaves = Leaves::new(args.leaf_bytes);
    let interval = Duration::from_millis(args.interval_ms);
    let batch = args.rate * args.interval_ms / 1000;
    let (cpu, start) = (process::cpu(), Instant::now());
    let mut commits_ms = Vec::new();
    for commit in 1..=args.seconds * 1000 / args.interval_ms {
        let due = start + interval * u32::try_from(commit)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        for _ in 0..batch {
            store.append(leaves.next())?;
        }
        let begun = Instant::now();
        store.commit()?;
        commits_ms.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), process::cpu() - cpu);
    Ok(json!({
        "cpu_percent": cpu.as_secs_f64() / seconds * 100.0,
        "rss": process::rss()?,
        "peak_rss": process::peak_rss()?,
        "commits_ms": commits_ms,
    }))
}
