//! A snapshot in Prometheus' text format: one table of what is told under which name.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::fmt::Write;

use serde_json::Value;

/// Names of metrics begin so.
const PREFIX: &str = "daemoneye_";

/// Longest value of a label.
const MAX_LABEL_CHARS: usize = 200;

/// What a metric is called and where its value is in a snapshot.
struct Metric {
    /// Without [`PREFIX`]; that of a counter ends in `_total`.
    name: &'static str,
    help: &'static str,
    from: From,
}

enum From {
    /// A number, or a truth as 1 and 0.
    Value(&'static str),
    /// A time in milliseconds, told in seconds.
    Time(&'static str),
    /// An object: its names are values of this label.
    Named(&'static str, &'static str),
    /// A list of objects: the labels, and the member that is the value; always 1 where it is empty.
    List(&'static str, &'static [&'static str], &'static str),
    /// The same, of one object.
    Labels(&'static str, &'static [&'static str]),
}

use From::{Labels, List, Named, Time, Value as Number};

const fn metric(name: &'static str, from: From, help: &'static str) -> Metric {
    Metric { name, help, from }
}

const METRICS: &[Metric] = &[
    metric("build", Labels("", &["version"]), "Version of the daemon."),
    metric(
        "sensor",
        Labels("/source", &["sensor"]),
        "Where events come from.",
    ),
    metric(
        "running",
        Number("/running"),
        "Whether the daemon had not come to its end when this was written.",
    ),
    metric("start_time_seconds", Time("/started_ms"), "Start."),
    metric(
        "snapshot_time_seconds",
        Time("/written_ms"),
        "When this was written: every 10 seconds while the daemon runs.",
    ),
    metric(
        "sensor_seen_total",
        Number("/sensor/seen"),
        "Events that happened, as far as the sensor knows.",
    ),
    metric(
        "sensor_delivered_total",
        Number("/sensor/delivered"),
        "Events that the sensor gave out.",
    ),
    metric(
        "sensor_dropped_total",
        List("/sensor/dropped", &["class", "reason"], "count"),
        "Events that the sensor could not give out.",
    ),
    metric(
        "sensor_held",
        Number("/sensor/held"),
        "Events that wait in the sensor.",
    ),
    metric(
        "sensor_truncated_total",
        Number("/sensor/truncated"),
        "Events with arguments cut.",
    ),
    metric(
        "sensor_incomplete_total",
        List("/sensor/incomplete", &["part"], "count"),
        "Times that a part of an event could not be had, at most.",
    ),
    metric(
        "sensor_sequence_gaps_total",
        Number("/sensor/sequence_gaps"),
        "Sequence numbers of the kernel side that were passed over.",
    ),
    metric(
        "sensor_muted_total",
        List("/sensor/muted", &["class"], "count"),
        "Events that the operator muted.",
    ),
    metric(
        "events_total",
        Named("/pipeline/classes", "class"),
        "Events seen, by kind.",
    ),
    metric(
        "pipeline_seen_total",
        Number("/pipeline/seen"),
        "Events that came into the pipeline.",
    ),
    metric(
        "pipeline_delivered_total",
        Number("/pipeline/delivered"),
        "Events that are durable in the ledger.",
    ),
    metric(
        "pipeline_dropped_total",
        Number("/pipeline/dropped"),
        "Events given up on the way to the ledger.",
    ),
    metric(
        "pipeline_held",
        Number("/pipeline/held"),
        "Events on the way to the ledger.",
    ),
    metric(
        "pipeline_balanced",
        Number("/pipeline/balanced"),
        "Whether every event is accounted for.",
    ),
    metric(
        "pipeline_late_total",
        Number("/pipeline/late"),
        "Events that came too late for their place in the order.",
    ),
    metric(
        "pipeline_redactions_total",
        Number("/pipeline/redactions"),
        "Secrets taken out of arguments.",
    ),
    metric(
        "pipeline_cut_total",
        Number("/pipeline/cut"),
        "Events and findings cut to fit a leaf.",
    ),
    metric(
        "process_table_entries",
        Number("/pipeline/table/entries"),
        "Processes known.",
    ),
    metric(
        "process_table_bytes",
        Number("/pipeline/table/bytes"),
        "Memory of the process table.",
    ),
    metric(
        "process_table_expired_total",
        Number("/pipeline/table/expired"),
        "Processes forgotten some time after their end.",
    ),
    metric(
        "process_table_evicted_dead_total",
        Number("/pipeline/table/evicted_dead"),
        "Ended processes forgotten sooner, for want of room.",
    ),
    metric(
        "process_table_evicted_live_total",
        Number("/pipeline/table/evicted_live"),
        "Live processes forgotten for want of room.",
    ),
    metric(
        "hashing_cached_total",
        Number("/pipeline/hashing/cached"),
        "Execs whose digest was known.",
    ),
    metric(
        "hashing_in_time_total",
        Number("/pipeline/hashing/in_time"),
        "Execs whose file was read before they left.",
    ),
    metric(
        "hashing_later_total",
        Number("/pipeline/hashing/later/delivered"),
        "Digests that followed their exec.",
    ),
    metric(
        "hashing_waiting",
        Number("/pipeline/hashing/later/held"),
        "Execs that wait for their digest.",
    ),
    metric(
        "hashing_failed_total",
        Named("/pipeline/hashing/failed", "reason"),
        "Execs without a digest.",
    ),
    metric(
        "hashing_files_read_total",
        Number("/pipeline/hashing/files_read"),
        "Executables read.",
    ),
    metric(
        "hashing_bytes_read_total",
        Number("/pipeline/hashing/bytes_read"),
        "Bytes of executables read.",
    ),
    metric(
        "ledger_size",
        Number("/ledger/size"),
        "Leaves that have an index.",
    ),
    metric(
        "ledger_durable_size",
        Number("/ledger/durable_size"),
        "Leaves that survive a power loss.",
    ),
    metric(
        "ledger_unrecorded_total",
        Number("/pipeline/unrecorded"),
        "Leaves that are not in the ledger because the disk was full.",
    ),
    metric(
        "ledger_commits_total",
        Number("/ledger/commits"),
        "Commits.",
    ),
    metric(
        "ledger_kept_from",
        Number("/ledger/kept_from"),
        "The first leaf that is kept.",
    ),
    metric(
        "ledger_held_up_bytes",
        Number("/ledger/held_up_bytes"),
        "Bytes that would be dropped and are kept: the agent has not matched them.",
    ),
    metric(
        "ledger_drop_errors_total",
        Number("/ledger/drop_errors"),
        "Times that the oldest leaves could not be dropped.",
    ),
    metric(
        "ledger_drops_failing",
        Number("/ledger/drops_fail"),
        "Whether the last time was one of these.",
    ),
    metric(
        "ledger_checkpoints_total",
        Number("/ledger/checkpoints"),
        "Checkpoints signed.",
    ),
    metric(
        "ledger_checkpoint_size",
        Number("/ledger/last_checkpoint/size"),
        "Leaves that the last checkpoint covers.",
    ),
    metric(
        "ledger_checkpoint_time_seconds",
        Time("/ledger/last_checkpoint/at_ms"),
        "When it was signed.",
    ),
    metric(
        "checkpoint_copies_ok",
        Number("/copies/ok"),
        "Whether --checkpoint-dir takes the checkpoints.",
    ),
    metric(
        "checkpoint_copies_size",
        Number("/copies/last_checkpoint/size"),
        "Leaves that the newest checkpoint there covers.",
    ),
    metric(
        "checkpoint_copies_time_seconds",
        Time("/copies/last_checkpoint/at_ms"),
        "When that was signed.",
    ),
    metric(
        "agent_position",
        Number("/agent/position"),
        "Index of the next leaf that is matched.",
    ),
    metric(
        "agent_lag",
        Number("/agent/lag"),
        "Leaves that are not matched yet.",
    ),
    metric(
        "agent_events_total",
        Number("/agent/events"),
        "Events matched.",
    ),
    metric(
        "agent_from_ledger_total",
        Number("/agent/from_ledger"),
        "Leaves read back from the ledger, because the agent was behind.",
    ),
    metric(
        "agent_skipped_total",
        Number("/agent/skipped"),
        "Leaves never matched: the agent was behind while the ledger was suspended.",
    ),
    metric(
        "findings_total",
        Named("/agent/levels", "level"),
        "Findings.",
    ),
    metric(
        "findings_below_level_total",
        Number("/agent/below_level"),
        "Findings below the level that raises alerts.",
    ),
    metric(
        "findings_duplicate_total",
        Number("/agent/duplicates"),
        "Findings folded as repetitions.",
    ),
    metric(
        "findings_rate_limited_total",
        Number("/agent/rate_limited"),
        "Findings folded because their rule fired too often.",
    ),
    metric(
        "alerts_total",
        Number("/agent/alerts"),
        "Alerts that a sink took.",
    ),
    metric(
        "alerts_undelivered_total",
        Number("/agent/undelivered"),
        "Alerts that no sink took.",
    ),
    metric(
        "sink_errors_total",
        Number("/agent/sink_errors"),
        "Failed deliveries of alerts.",
    ),
    metric(
        "rule_findings_total",
        List("/agent/rules", &["rule"], "findings"),
        "Findings of each rule that fired.",
    ),
    metric(
        "rule_alerts_total",
        List("/agent/rules", &["rule"], "raised"),
        "Alerts of each rule that fired.",
    ),
    metric(
        "rule_folded_total",
        List("/agent/rules", &["rule"], "folded"),
        "Findings of each rule that raised no alert because of others of it.",
    ),
    metric(
        "rule_memory_bytes",
        List("/agent/memory", &["rule"], "bytes"),
        "Memory of each rule that looks at several events.",
    ),
    metric(
        "rule_memory_entries",
        List("/agent/memory", &["rule"], "entries"),
        "Groups or sequences that it keeps.",
    ),
    metric(
        "rule_memory_evicted_total",
        List("/agent/memory", &["rule"], "evicted"),
        "Groups or sequences that it forgot for want of room.",
    ),
    metric("rules", Number("/rules/count"), "Rules loaded."),
    metric("rules_sql", Number("/rules/sql"), "Rules in SQL."),
    metric("rules_sigma", Number("/rules/sigma"), "Rules in Sigma."),
    metric(
        "rules_degraded",
        Number("/rules/degraded"),
        "Rules that run without some of their fields.",
    ),
    metric(
        "rules_rejected",
        Number("/rules/rejected"),
        "Rules that do not run for an error in them.",
    ),
    metric(
        "rules_elsewhere",
        Number("/rules/elsewhere"),
        "Rules for other systems.",
    ),
    metric(
        "rules_loaded_time_seconds",
        Time("/rules/loaded_ms"),
        "When the rules were loaded.",
    ),
    metric(
        "rules_reloads_total",
        Number("/rules/reloads"),
        "Times that new rules took the place of the old.",
    ),
    metric(
        "rules_failed_reloads_total",
        Number("/rules/failed_reloads"),
        "Times that the old rules stayed for an error in the new.",
    ),
    metric(
        "rules_last_reload_ok",
        Number("/rules/last_reload/ok"),
        "Whether the last attempt to load the rules anew went well.",
    ),
    metric(
        "rules_last_reload_error",
        List(
            "/rules/last_reload/errors",
            &["file", "line", "column", "message"],
            "",
        ),
        "What was wrong then.",
    ),
];

/// The metrics of a snapshot. What it does not have is left out.
pub(super) fn text(snapshot: &Value) -> String {
    let mut snapshot = snapshot.clone();
    snapshot["running"] = (snapshot["phase"] != "ended").into();
    let mut out = String::new();
    for metric in METRICS {
        let samples = samples(&metric.from, &snapshot);
        if samples.is_empty() {
            continue;
        }
        let name = format!("{PREFIX}{}", metric.name);
        let kind = if metric.name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", metric.help);
        for (labels, value) in samples {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    }
    out
}

/// Labels in braces, if there are any, and values.
fn samples(from: &From, snapshot: &Value) -> Vec<(String, String)> {
    let at = |path: &str| snapshot.pointer(path).unwrap_or(&Value::Null);
    let unlabelled = |value: Option<String>| value.map(|value| (String::new(), value));
    match from {
        Number(path) => unlabelled(number(at(path))).into_iter().collect(),
        Time(path) => {
            let ms = at(path).as_f64();
            let seconds = ms.map(|ms| (ms / 1000.0).to_string());
            unlabelled(seconds).into_iter().collect()
        }
        Named(path, label) => {
            let members = at(path).as_object().into_iter().flatten();
            let sample = |(name, value): (&String, &Value)| {
                Some((braces([(*label, name.clone())]), number(value)?))
            };
            members.filter_map(sample).collect()
        }
        List(path, labels, value) => {
            let rows = at(path).as_array().into_iter().flatten();
            rows.filter_map(|row| labelled(row, labels, value))
                .collect()
        }
        Labels(path, labels) => labelled(at(path), labels, "").into_iter().collect(),
    }
}

fn labelled(row: &Value, labels: &[&str], value: &str) -> Option<(String, String)> {
    let value = if value.is_empty() {
        "1".to_owned()
    } else {
        number(&row[value])?
    };
    let labels: Vec<(&str, String)> = labels
        .iter()
        .map(|name| (*name, plain(&row[*name])))
        .collect();
    Some((braces(labels), value))
}

fn number(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(u8::from(*truth).to_string()),
        _ => None,
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn braces<'l>(labels: impl IntoIterator<Item = (&'l str, String)>) -> String {
    let labels = labels
        .into_iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(&value)));
    format!("{{{}}}", labels.collect::<Vec<_>>().join(","))
}

/// Backslash, quote and line feed are all that the format wants escaped.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars().take(MAX_LABEL_CHARS) {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_told_with_their_labels_and_what_is_missing_is_not() {
        let text = text(&json!({
            "version": "1.2.3", "phase": "running", "written_ms": 1_500,
            "source": { "sensor": "ebpf" },
            "sensor": {
                "seen": 7,
                "dropped": [
                    { "class": "exec", "reason": "ring_full", "count": 2 },
                    { "class": "fork", "reason": "ring_full", "count": 1 },
                ],
            },
            "pipeline": { "balanced": true, "classes": { "exec": 5, "fork": 2 } },
            "rules": { "last_reload": { "ok": false, "errors": [
                { "file": "a\"b\\c\nd", "line": 3, "column": 9, "message": "x" },
            ] } },
        }));
        let check = |line: &str| {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        };
        check("# TYPE daemoneye_sensor_seen_total counter");
        check("daemoneye_sensor_seen_total 7");
        check("daemoneye_build{version=\"1.2.3\"} 1");
        check("daemoneye_sensor{sensor=\"ebpf\"} 1");
        check("daemoneye_running 1");
        check("# TYPE daemoneye_snapshot_time_seconds gauge");
        check("daemoneye_snapshot_time_seconds 1.5");
        check("daemoneye_sensor_dropped_total{class=\"exec\",reason=\"ring_full\"} 2");
        check("daemoneye_sensor_dropped_total{class=\"fork\",reason=\"ring_full\"} 1");
        check("daemoneye_events_total{class=\"exec\"} 5");
        check("daemoneye_pipeline_balanced 1");
        check("daemoneye_rules_last_reload_ok 0");
        check(
            "daemoneye_rules_last_reload_error{file=\"a\\\"b\\\\c\\nd\",line=\"3\",column=\"9\",\
             message=\"x\"} 1",
        );
        assert!(!text.contains("ledger"), "{text}");
        assert!(!text.contains("findings"), "{text}");
    }

    #[test]
    fn every_metric_is_documented_and_has_a_name_of_its_own() {
        let page = include_str!("../../../docs/status.md");
        let mut names = HashSet::new();
        for metric in METRICS {
            assert!(names.insert(metric.name), "{} is there twice", metric.name);
            let row = format!("| `{PREFIX}{}", metric.name);
            assert!(
                page.contains(&row),
                "{} is not in docs/status.md",
                metric.name
            );
        }
    }
}
