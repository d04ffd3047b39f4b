//! Counters as a JSON file, for `--stats-json`.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use event::{HashFailure, Stats};
use pipeline::TableStats;
use pipeline::hash::HashStats;
use serde_json::{Value, json};

use crate::exit::{Code, Failure, WithCode};

/// The file that the counters go to, opened before rights are given up.
pub(crate) struct StatsFile(Option<File>);

impl StatsFile {
    pub(crate) fn create(path: Option<&Path>) -> Result<Self, Failure> {
        let file = path
            .map(|path| {
                File::create(path).with_context(|| format!("{} cannot be created", path.display()))
            })
            .transpose()
            .code(Code::Usage)?;
        Ok(Self(file))
    }

    pub(crate) fn write(self, counters: &Value) -> Result<(), Failure> {
        let Some(mut file) = self.0 else {
            return Ok(());
        };
        writeln!(file, "{counters:#}").context("writing the counters")?;
        Ok(())
    }
}

/// A sensor's counters.
pub(crate) fn sensor(stats: &Stats) -> Value {
    let dropped: Vec<Value> = stats
        .dropped
        .iter()
        .map(|(class, reason, count)| {
            json!({ "class": class.name(), "reason": reason.name(), "count": count })
        })
        .collect();
    let muted: Vec<Value> = stats
        .muted
        .iter()
        .map(|(class, count)| json!({ "class": class.name(), "count": count }))
        .collect();
    let incomplete: Vec<Value> = stats
        .incomplete
        .iter()
        .map(|(part, count)| json!({ "part": part, "count": count }))
        .collect();
    json!({
        "seen": stats.seen,
        "delivered": stats.delivered,
        "dropped": dropped,
        "dropped_total": stats.dropped_total(),
        "held": stats.held,
        "truncated": stats.truncated,
        "incomplete": incomplete,
        "sequence_gaps": stats.sequence_gaps,
        "untracked_exits": stats.untracked_exits,
        "muted": muted,
    })
}

/// The process table's counters.
pub(crate) fn table(stats: &TableStats) -> Value {
    json!({
        "entries": stats.entries,
        "bytes": stats.bytes,
        "expired": stats.expired,
        "evicted_dead": stats.evicted_dead,
        "evicted_live": stats.evicted_live,
        "chains_built": stats.chains_built,
    })
}

/// The counters of hashing; all zero where it is off.
pub(crate) fn hashing(stats: &HashStats) -> Value {
    let failed = HashFailure::ALL.iter().zip(stats.failed);
    let failed = failed.map(|(failure, count)| (failure.name().to_owned(), count.into()));
    json!({
        "cached": stats.cached,
        "in_time": stats.in_time,
        "later": {
            "seen": stats.later.seen,
            "delivered": stats.later.delivered,
            "dropped": stats.later.dropped,
            "held": stats.later.held,
        },
        "failed": Value::Object(failed.collect()),
        "changed": stats.changed,
        "touched": stats.touched,
        "files_read": stats.files_read,
        "bytes_read": stats.bytes_read,
        "cache": stats.cache,
    })
}
