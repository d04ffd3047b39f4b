//! Leaves a second at one batch size.

use std::path::PathBuf;
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
    /// Leaves in a commit
    #[arg(long)]
    batch: u64,
    #[arg(long, default_value_t = 300)]
    leaf_bytes: usize,
    /// As long as this
    #[arg(long)]
    seconds: f64,
}

pub(crate) fn run(args: &Args) -> Result<Value> {
    let mut store = store::create(args.store, &args.dir)?;
    let mut leaves = Leaves::new(args.leaf_bytes);
    let (cpu, start) = (process::cpu(), Instant::now());
    let end = start + Duration::from_secs_f64(args.seconds);
    let mut appended = 0_u64;
    while Instant::now() < end {
        for _ in 0..args.batch {
            store.append(leaves.next())?;
        }
        store.commit()?;
        appended += args.batch;
    }
    store.finish()?;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), process::cpu() - cpu);
    Ok(json!({
        "leaves": appended,
        "per_second": appended as f64 / seconds,
        "cpu_ns_per_leaf": cpu.as_nanos() as f64 / appended as f64,
        "peak_rss": process::peak_rss()?,
    }))
}
