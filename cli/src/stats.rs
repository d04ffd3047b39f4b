//! Counters as JSON, for `--stats-json` and `status.json`.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use agent::Observed;
use anyhow::Context;
use event::{EventClass, HashFailure, Level, Stats, WallTime};
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

/// The counters of a pipeline and of its agent, if it is known how that does.
pub(crate) fn all(stats: &pipeline::Stats, agent: Option<&Observed>) -> Value {
    json!({
        "sensor": sensor(&stats.sensor),
        "pipeline": pipeline(stats),
        "agent": agent.map(|agent| self::agent(agent, &stats.agent)),
        "ledger": ledger(stats),
    })
}

fn pipeline(stats: &pipeline::Stats) -> Value {
    let balance = stats.overall();
    json!({
        "seen": balance.seen,
        "delivered": balance.delivered,
        "dropped": balance.dropped,
        "held": balance.held,
        "classes": named(EventClass::ALL.map(EventClass::name), stats.classes),
        "balanced": stats.balanced(),
        "sensor_agrees": stats.sensor_agrees(),
        "ledger_agrees": stats.ledger_agrees(),
        "unrecorded": stats.unrecorded,
        "lost_events": stats.lost_events,
        "late": stats.late,
        "redactions": stats.redactions,
        "cut": stats.cut,
        "table": table(&stats.table),
        "hashing": hashing(&stats.hashing),
    })
}

fn ledger(stats: &pipeline::Stats) -> Value {
    json!({
        "size": stats.size,
        "durable_size": stats.durable_size,
        "commits": stats.commits,
        "checkpoints": stats.checkpoints,
        "rotations": stats.rotations,
        "gaps": stats.gaps,
        "kept_from": stats.kept_from,
        "held_up_bytes": stats.held_up,
        "drop_errors": stats.drop_errors,
        "drops_fail": stats.drops_fail,
        "last_checkpoint": stats.last_checkpoint.map(|signed| json!({
            "size": signed.size, "at_ms": ms(signed.at),
        })),
    })
}

fn agent(observed: &Observed, fed: &pipeline::AgentStats) -> Value {
    let stats = &observed.stats;
    let rules = observed.rules.iter().map(|(rule, counts)| {
        json!({
            "rule": rule, "findings": counts.findings, "raised": counts.raised,
            "folded": counts.folded,
        })
    });
    let memory = observed.memory.iter().map(|memory| {
        json!({
            "rule": memory.rule_id, "entries": memory.entries, "bytes": memory.bytes,
            "evicted": memory.evicted,
        })
    });
    json!({
        "events": stats.events,
        "findings": stats.findings,
        "levels": named(Level::ALL.map(Level::name), stats.levels),
        "alerts": stats.alerts,
        "undelivered": stats.undelivered,
        "below_level": stats.below_level,
        "duplicates": stats.duplicates,
        "rate_limited": stats.rate_limited,
        "undecodable": stats.undecodable,
        "sink_errors": stats.sink_errors,
        "closed_sinks": stats.closed_sinks,
        "from_ledger": fed.from_ledger,
        "skipped": fed.skipped,
        "rules": rules.collect::<Vec<_>>(),
        "memory": memory.collect::<Vec<_>>(),
    })
}

/// Counts by name.
fn named<const N: usize>(names: [&str; N], counts: [u64; N]) -> Value {
    let pairs = names.into_iter().zip(counts);
    Value::Object(pairs.map(|(name, n)| (name.to_owned(), n.into())).collect())
}

/// Milliseconds since 1970.
pub(crate) fn ms(time: WallTime) -> u64 {
    time.0 / 1_000_000
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
    json!({
        "cached": stats.cached,
        "in_time": stats.in_time,
        "later": {
            "seen": stats.later.seen,
            "delivered": stats.later.delivered,
            "dropped": stats.later.dropped,
            "held": stats.later.held,
        },
        "failed": named(HashFailure::ALL.map(HashFailure::name), stats.failed),
        "changed": stats.changed,
        "touched": stats.touched,
        "files_read": stats.files_read,
        "bytes_read": stats.bytes_read,
        "cache": stats.cache,
    })
}
