//! What a leaf costs, and how much memory the writer takes, as the log grows.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::process;
use crate::store::{Leaves, Signed, Store as _};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    dir: PathBuf,
    /// Sizes at which to tell, ascending
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<u64>,
    #[arg(long, default_value_t = 300)]
    leaf_bytes: usize,
    /// Bytes of entries to keep; beyond, the oldest segments are dropped
    #[arg(long)]
    keep_bytes: Option<u64>,
    /// Leaves in a commit
    #[arg(long, default_value_t = 1000)]
    batch: u64,
}

/// Where a stretch of the log begins.
struct Mark {
    leaves: u64,
    cpu: Duration,
    at: Instant,
}

impl Mark {
    fn now(leaves: u64) -> Self {
        Self {
            leaves,
            cpu: process::cpu(),
            at: Instant::now(),
        }
    }

    /// From here to `leaves`.
    fn told(&self, leaves: u64) -> Result<Value> {
        let count = (leaves - self.leaves) as f64;
        Ok(json!({
            "leaves": leaves,
            "ns_per_leaf": self.at.elapsed().as_nanos() as f64 / count,
            "cpu_ns_per_leaf": (process::cpu() - self.cpu).as_nanos() as f64 / count,
            "rss": process::rss()?,
            "peak_rss": process::peak_rss()?,
        }))
    }
}

pub(crate) fn run(args: &Args) -> Result<Value> {
    let mut store = Signed::create(&args.dir)?.keep(args.keep_bytes);
    let mut leaves = Leaves::new(args.leaf_bytes);
    let (mut appended, mut told) = (0, Vec::new());
    for &size in &args.sizes {
        // What a leaf costs at a size is measured on the half before it.
        let mut mark = Mark::now(appended);
        while appended < size {
            if appended < size / 2 {
                mark = Mark::now(appended);
            }
            let batch = args.batch.min(size - appended);
            for _ in 0..batch {
                store.append(leaves.next())?;
            }
            store.commit()?;
            appended += batch;
        }
        told.push(mark.told(size)?);
    }
    store.finish()?;
    let kept_from = store.ledger.kept_from();
    drop(store);
    Ok(json!({
        "sizes": told,
        "kept_from": kept_from,
        "disk_bytes": process::disk_bytes(&args.dir)?,
    }))
}
