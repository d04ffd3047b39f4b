//! Which findings become alerts agrees with looking at all alerts before, on random findings.

use agent::alert::{Gate, Policy, Verdict};
use detect::{RuleSet, Source};
use event::{
    Argv, BootId, BootTime, Event, EventKind, Exec, Finding, Header, Level, Process, ProcessKey,
};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

/// One that says what its repetitions are, and one that does not.
const RULES: &str = "\
id: says
title: T
level: high
dedup: {by: [process.args], window: 5s}
sql: SELECT process.pid FROM exec
---
id: silent
title: T
level: high
sql: SELECT process.pid FROM exec
";

const POLICY: Policy = Policy {
    min_level: Level::Medium,
    dedup_ns: 3 * SECOND,
    rate_limit: 3,
    rate_window_ns: 2 * SECOND,
};

#[derive(Debug, Clone)]
struct Row {
    boot: u8,
    /// In seconds; it can be late.
    time: u64,
    says: bool,
    pid: u32,
    argument: char,
}

impl Row {
    fn event(&self) -> Event {
        let process = Process {
            argv: Argv::from_iter([self.argument.to_string()]),
            ..Process::default()
        };
        Event {
            header: self.header(),
            kind: EventKind::Exec(Box::new(Exec {
                process,
                old_tid: None,
            })),
        }
    }

    fn header(&self) -> Header {
        Header {
            boot: BootId([self.boot; 16]),
            time: BootTime(self.time * SECOND),
            ..Header::default()
        }
    }

    fn finding(&self) -> Finding {
        Finding {
            header: self.header(),
            rule_id: if self.says { "says" } else { "silent" }.into(),
            level: Level::High,
            key: Some(ProcessKey {
                pid: self.pid,
                ..ProcessKey::default()
            }),
            ..Finding::default()
        }
    }

    fn repeats(&self, alert: &Row) -> bool {
        self.says == alert.says
            && self.argument == alert.argument
            && (self.says || self.pid == alert.pid)
    }

    /// Whether what was folded of the other is told with an alert on this.
    fn is_of_the_kind_of(&self, other: &Row) -> bool {
        self.says == other.says && (!self.says || self.argument == other.argument)
    }
}

fn naive(rows: &[Row]) -> Vec<Verdict> {
    let (mut verdicts, mut alerts, mut folded) = (Vec::new(), Vec::new(), Vec::new());
    let (mut boot, mut now) = (0, 0);
    for row in rows {
        if row.boot != boot {
            (boot, now) = (row.boot, 0);
            alerts.clear();
        }
        now = now.max(row.time);
        let window = if row.says { 5 } else { 3 };
        let is_repetition =
            |(time, alert): &(u64, &Row)| row.repeats(alert) && now - time <= window;
        let recent = |(time, alert): &&(u64, &Row)| alert.says == row.says && now - time <= 2;
        let verdict = if alerts.iter().any(is_repetition) {
            Verdict::Duplicate
        } else if alerts.iter().filter(recent).count() >= POLICY.rate_limit {
            Verdict::RateLimited
        } else {
            let before = folded.len();
            folded.retain(|other: &&Row| !row.is_of_the_kind_of(other));
            Verdict::Raise((before - folded.len()) as u64)
        };
        match verdict {
            Verdict::Raise(_) => alerts.push((now, row)),
            _ => folded.push(row),
        }
        verdicts.push(verdict);
    }
    verdicts
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        prop_oneof![5 => 0i64..3, 1 => -4i64..0],
        prop::bool::weighted(0.05),
        any::<bool>(),
        0u32..3,
        prop::sample::select(vec!['a', 'b', 'c']),
    );
    prop::collection::vec(row, 0..60).prop_map(|rows| {
        let (mut boot, mut time) = (0, 100);
        let row = |(step, reboots, says, pid, argument)| {
            if reboots {
                (boot, time) = (boot + 1, 5);
            }
            time = i64::max(time + step, 0);
            Row {
                boot,
                time: u64::try_from(time).unwrap(),
                says,
                pid,
                argument,
            }
        };
        rows.into_iter().map(row).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn alerts_agree_with_looking_at_all_before(rows in rows()) {
        let source = Source { file: "r.yaml", text: RULES };
        let rules = RuleSet::compile(&[source]).unwrap();
        let mut gate = Gate::new(POLICY);
        let verdict = |row: &Row| {
            let rule = rules.rules().iter().find(|rule| (rule.id == "says") == row.says);
            gate.decide(&row.finding(), &row.event(), rule)
        };
        let verdicts: Vec<Verdict> = rows.iter().map(verdict).collect();
        prop_assert_eq!(verdicts, naive(&rows));
    }
}
