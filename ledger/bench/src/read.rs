//! Ledgers that are there: proofs, the whole-log check, opening after a kill.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use ledger::{Checkpoint, Ledger, Options, VerifyOptions};
use serde_json::{Value, json};

use crate::process;
use crate::store::{Leaves, Signed, Store as _};

#[derive(clap::Args)]
pub(crate) struct Prove {
    #[arg(long)]
    dir: PathBuf,
    /// Proofs of each kind
    #[arg(long, default_value_t = 500)]
    count: usize,
    /// Proofs beside the writer
    #[arg(long, default_value_t = 50)]
    beside: usize,
}

pub(crate) fn prove(args: &Prove) -> Result<Value> {
    let (ledger, _) = Ledger::open(&args.dir, &Options::new("daemoneye/bench"))?;
    let kept = ledger.kept_from()..ledger.size();
    let size = kept.end;
    let checkpoint = ledger.last_checkpoint().context("nothing is signed")?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut bytes = Vec::new();
    let live = timed(args.count, || {
        let proof = ledger.prove(random.u64(kept.clone()), Some(checkpoint))?;
        bytes.push(proof.to_string().len());
        Ok(())
    })?;
    let mut hashes = Vec::new();
    let consistency = timed(args.count, || {
        let path = ledger.prove_consistency(random.u64(kept.start.max(1)..size), size)?;
        hashes.push(32 * path.len());
        Ok(())
    })?;
    let checkpoint: Checkpoint = checkpoint.clone();
    // By another process, which cannot open the index.
    let beside = timed(args.beside, || {
        ledger::prove(&args.dir, random.u64(kept.clone()), Some(&checkpoint))?;
        Ok(())
    })?;
    drop(ledger);
    let closed = timed(args.count.div_ceil(10), || {
        ledger::prove(&args.dir, random.u64(kept.clone()), Some(&checkpoint))?;
        Ok(())
    })?;
    Ok(json!({
        "size": size,
        "live_ms": live,
        "beside_ms": beside,
        "closed_ms": closed,
        "consistency_ms": consistency,
        "bytes": bytes,
        "consistency_bytes": hashes,
    }))
}

/// Milliseconds of each call.
fn timed(count: usize, mut call: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let each = std::iter::repeat_with(|| {
        let start = Instant::now();
        call()?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    });
    each.take(count).collect()
}

#[derive(clap::Args)]
pub(crate) struct Fsck {
    #[arg(long)]
    dir: PathBuf,
}

pub(crate) fn fsck(args: &Fsck) -> Result<Value> {
    let (cpu, start) = (process::cpu(), Instant::now());
    let report = ledger::verify(&args.dir, VerifyOptions::default())?;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), process::cpu() - cpu);
    Ok(json!({
        "leaves": report.entries - report.kept_from(),
        "bytes": report.bytes,
        "segments": report.segments,
        "seconds": seconds,
        "cpu_seconds": cpu.as_secs_f64(),
        "peak_rss": process::peak_rss()?,
    }))
}

#[derive(clap::Args)]
pub(crate) struct Victim {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 300)]
    leaf_bytes: usize,
    /// Leaves after which it says that it can be killed
    #[arg(long)]
    leaves: u64,
}

/// In commits of 1,000, signed as the daemon does.
pub(crate) fn append_until_killed(args: &Victim) -> Result<Value> {
    let mut store = Signed::create(&args.dir)?;
    let mut leaves = Leaves::new(args.leaf_bytes);
    for commit in 1_u64.. {
        for _ in 0..1000 {
            store.append(leaves.next())?;
        }
        store.commit()?;
        if commit == args.leaves.div_ceil(1000) {
            writeln!(std::io::stdout(), "ready")?;
        }
    }
    Ok(Value::Null)
}

#[derive(clap::Args)]
pub(crate) struct Reopen {
    #[arg(long)]
    dir: PathBuf,
}

pub(crate) fn reopen(args: &Reopen) -> Result<Value> {
    let (cpu, start) = (process::cpu(), Instant::now());
    let (ledger, recovery) = Ledger::open(&args.dir, &Options::new("daemoneye/bench"))?;
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), process::cpu() - cpu);
    drop(ledger);
    Ok(json!({
        "seconds": seconds,
        "cpu_seconds": cpu.as_secs_f64(),
        "entries": recovery.entries,
        "unsealed": recovery.unsealed,
        "replayed": recovery.replayed,
        "cut_bytes": recovery.cut_bytes,
        "index": format!("{:?}", recovery.index),
    }))
}
