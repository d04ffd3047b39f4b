//! Rules that join events which follow each other: what they mean, and that they agree with trying
//! every combination of events.

use std::sync::Arc;

use detect::{Matcher, RuleSet, Source, run_tests};
use event::{
    BootTime, Bytes, Event, EventKind, Exec, Exit, ExitStatus, Finding, Header, Process, ProcessKey,
};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn rules(sql: &str) -> Arc<RuleSet> {
    let sql = sql.replace('\n', "\n  ");
    let text = format!("id: r\ntitle: R\nlevel: high\nsql: |\n  {sql}\n");
    let source = Source {
        file: "r",
        text: &text,
    };
    Arc::new(RuleSet::compile(&[source]).unwrap_or_else(|e| panic!("{}", e[0])))
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey {
        pid,
        ..ProcessKey::default()
    }
}

fn at(time: u64, kind: EventKind) -> Event {
    Event {
        header: Header {
            time: BootTime(time),
            ..Header::default()
        },
        kind,
    }
}

fn exec_of(time: u64, process: Process) -> Event {
    at(
        time,
        EventKind::Exec(Box::new(Exec {
            process,
            old_tid: None,
        })),
    )
}

fn exec(time: u64, pid: u32, parent: u32, name: &str) -> Event {
    let process = Process {
        key: key(pid),
        parent: Some(key(parent)),
        exe: Bytes::from(format!("/bin/{name}")),
        argv: [name].into_iter().collect(),
        ..Process::default()
    };
    exec_of(time, process)
}

fn exit(time: u64, pid: u32, signal: u32) -> Event {
    let exit = Exit {
        key: key(pid),
        status: Some(ExitStatus::from_wait_status(signal)),
        ..Exit::default()
    };
    at(time, EventKind::Exit(exit))
}

fn run(sql: &str, events: &[Event]) -> Vec<Finding> {
    let mut matcher = Matcher::new(rules(sql));
    let mut findings = Vec::new();
    for (leaf_index, event) in (0..).zip(events) {
        matcher.on_event(event, leaf_index, &mut findings);
    }
    findings
}

const CRASH: &str = "SELECT a.process.command_line, b.process.exit_signal, a.process.name AS what \
    FROM exec AS a JOIN exit AS b ON a.process.entity_id = b.process.entity_id \
    AND b.event.time BETWEEN a.event.time AND a.event.time + INTERVAL '10' SECOND \
    WHERE a.process.name = 'x' AND b.process.exit_signal = 11";

/// Evidence of all findings.
#[track_caller]
fn check(sql: &str, events: &[Event], expected: &[&[u64]]) {
    let found: Vec<Vec<u64>> = run(sql, events).into_iter().map(|f| f.evidence).collect();
    assert_eq!(found, expected, "{sql}");
}

#[test]
fn events_of_the_same_process_are_joined_within_the_time() {
    check(
        CRASH,
        &[exec(0, 1, 0, "x"), exit(10 * SECOND, 1, 11)],
        &[&[0, 1]],
    );
    check(
        CRASH,
        &[exec(0, 1, 0, "x"), exit(10 * SECOND + 1, 1, 11)],
        &[],
    );
    check(CRASH, &[exec(0, 1, 0, "x"), exit(0, 1, 11)], &[&[0, 1]]);
    check(CRASH, &[exec(0, 1, 0, "x"), exit(1, 2, 11)], &[]);
    check(CRASH, &[exec(0, 1, 0, "y"), exit(1, 1, 11)], &[]);
    check(CRASH, &[exec(0, 1, 0, "x"), exit(1, 1, 9)], &[]);
    check(CRASH, &[exit(0, 1, 11), exec(1, 1, 0, "x")], &[]);
    // It fires once, and needs all events anew.
    check(
        CRASH,
        &[
            exec(0, 1, 0, "x"),
            exit(1, 1, 11),
            exit(2, 1, 11),
            exec(3, 1, 0, "x"),
            exit(4, 1, 11),
        ],
        &[&[0, 1], &[3, 4]],
    );
    // The newest one that fits.
    check(
        CRASH,
        &[
            exec(0, 1, 0, "x"),
            exec(9 * SECOND, 1, 0, "x"),
            exit(12 * SECOND, 1, 11),
        ],
        &[&[1, 2]],
    );
}

#[test]
fn findings_tell_of_every_step() {
    let findings = run(CRASH, &[exec(0, 1, 0, "x"), exit(1, 1, 11)]);
    let [finding] = findings.as_slice() else {
        panic!("{findings:?}");
    };
    let expected = [
        ("a.process.command_line", "x"),
        ("b.process.exit_signal", "11"),
        ("what", "x"),
    ];
    let expected: Vec<_> = expected.map(|(n, v)| (n.into(), v.to_owned())).into();
    assert_eq!(finding.selected, expected);
    assert_eq!((finding.leaf_index, finding.key), (1, Some(key(1))));
    let all = CRASH.replacen(
        "a.process.command_line, b.process.exit_signal, a.process.name AS what",
        "*",
        1,
    );
    let findings = run(&all, &[exec(0, 1, 0, "x"), exit(1, 1, 11)]);
    let names: Vec<&str> = findings[0]
        .selected
        .iter()
        .map(|(name, _)| &**name)
        .collect();
    assert!(
        names.contains(&"a.process.pid") && names.contains(&"b.process.exit_signal"),
        "{names:?}"
    );
}

const DESCENT: &str = "SELECT a.process.name, b.process.name, c.process.name \
    FROM exec AS a JOIN exec AS b ON b.parent.entity_id = a.process.entity_id \
    AND b.event.time BETWEEN a.event.time AND a.event.time + INTERVAL '1' MINUTE \
    JOIN exec AS c ON (c.parent.entity_id = b.process.entity_id) \
    AND c.event.time >= b.event.time AND c.event.time - b.event.time <= INTERVAL '1 minute' \
    AND c.event.time <= a.event.time + INTERVAL '90' SECOND \
    WHERE a.process.name = 'web' AND b.process.name IN ('sh', 'web')";

#[test]
fn each_step_may_be_joined_to_any_earlier_one() {
    let at = |seconds: [u64; 3]| {
        [
            exec(seconds[0] * SECOND, 1, 0, "web"),
            exec(seconds[1] * SECOND, 2, 1, "sh"),
            exec(seconds[2] * SECOND, 3, 2, "id"),
        ]
    };
    check(DESCENT, &at([0, 10, 20]), &[&[0, 1, 2]]);
    check(DESCENT, &at([0, 60, 90]), &[&[0, 1, 2]]);
    check(DESCENT, &at([0, 60, 91]), &[]);
    check(DESCENT, &at([0, 61, 62]), &[]);
    check(DESCENT, &at([0, 10, 71]), &[]);
    let mut stranger = at([0, 10, 20]);
    stranger[2] = exec(20 * SECOND, 3, 7, "id");
    check(DESCENT, &stranger, &[]);
}

#[test]
fn no_event_follows_itself() {
    let sql = "SELECT b.process.pid FROM exec AS a JOIN exec AS b \
               ON a.process.name = b.process.name \
               AND b.event.time BETWEEN a.event.time AND a.event.time + INTERVAL '1' SECOND";
    check(sql, &[exec(0, 1, 0, "x")], &[]);
    check(sql, &[exec(0, 1, 0, "x"), exec(1, 2, 0, "x")], &[&[0, 1]]);
    // What completed a sequence does not begin the next one.
    let four: Vec<Event> = (0..4).map(|n| exec(n, 1, 0, "x")).collect();
    check(sql, &four, &[&[0, 1], &[2, 3]]);
}

#[test]
fn null_equals_nothing() {
    let sql = "SELECT b.process.pid FROM exec AS a JOIN exec AS b \
               ON a.process.user = b.process.user \
               AND b.event.time BETWEEN a.event.time AND a.event.time + INTERVAL '1' SECOND";
    check(sql, &[exec(0, 1, 0, "x"), exec(1, 2, 0, "x")], &[]);
}

#[test]
fn memory_is_bounded_and_what_is_forgotten_is_told() {
    let mut matcher = Matcher::new(rules(&CRASH.replace("'10' SECOND", "'1' HOUR")));
    let mut findings = Vec::new();
    for pid in 0..20_000 {
        matcher.on_event(
            &exec(u64::from(pid), pid, 0, "x"),
            u64::from(pid),
            &mut findings,
        );
    }
    let memory = matcher.memory();
    assert!(
        memory[0].bytes <= 1 << 20 && memory[0].entries > 1000,
        "{memory:?}"
    );
    assert_eq!(memory[0].entries as u64 + memory[0].evicted, 20_000);
    matcher.on_event(&exit(30_000, 0, 11), 30_000, &mut findings);
    assert!(findings.is_empty());
    matcher.on_event(&exit(30_000, 19_999, 11), 30_001, &mut findings);
    assert_eq!(
        findings[0].incomplete,
        ["sequences were forgotten for want of memory"]
    );
}

#[test]
fn tests_of_rules_name_their_streams() {
    let body = CRASH.replace('\n', "\n  ");
    let text = format!(
        "id: r\ntitle: R\nlevel: low\nsql: |\n  {body}\ntests:\n  fires:\n    - events:\n        \
         - {{exe: /bin/x, pid: 5}}\n        - {{stream: exit, pid: 5, exit_signal: 11, after_ms: 10000}}\n  \
         silent:\n    - events:\n        - {{exe: /bin/x, pid: 5}}\n        \
         - {{stream: exit, pid: 5, exit_signal: 11, after_ms: 10001}}\n    - {{exe: /bin/x}}\n"
    );
    let source = Source {
        file: "r",
        text: &text,
    };
    let rules = RuleSet::compile(&[source]).unwrap_or_else(|e| panic!("{}", e[0]));
    for outcome in run_tests(&rules) {
        assert!(outcome.passed, "{outcome:?}");
    }
}

/// A random sequence rule: for each step the programs it takes, what it is joined by to which
/// earlier step, and bounds on the time after earlier steps.
#[derive(Debug, Clone)]
struct Spec {
    steps: Vec<SpecStep>,
}

#[derive(Debug, Clone)]
struct SpecStep {
    names: Vec<char>,
    /// (own column, earlier step, its column)
    equal: (usize, usize, usize),
    within: u64,
    /// Also after the first step.
    within_first: Option<u64>,
}

const COLUMNS: [&str; 2] = ["process.session", "process.login_uid"];
const ALIASES: [&str; 4] = ["s0", "s1", "s2", "s3"];

impl Spec {
    fn sql(&self) -> String {
        let mut sql = "SELECT s0.process.pid FROM exec AS s0".to_owned();
        let mut conditions = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            let alias = ALIASES[index];
            let names: Vec<String> = step.names.iter().map(|name| format!("'{name}'")).collect();
            conditions.push(format!("{alias}.process.name IN ({})", names.join(", ")));
            if index == 0 {
                continue;
            }
            let before = ALIASES[index - 1];
            let (own, earlier, other) = step.equal;
            sql += &format!(
                " JOIN exec AS {alias} ON {alias}.{} = {}.{} AND {alias}.event.time BETWEEN \
                 {before}.event.time AND {before}.event.time + INTERVAL '{} nanoseconds'",
                COLUMNS[own], ALIASES[earlier], COLUMNS[other], step.within
            );
            if let Some(bound) = step.within_first {
                sql += &format!(
                    " AND {alias}.event.time <= s0.event.time + INTERVAL '{bound} nanoseconds'"
                );
            }
        }
        format!("{sql} WHERE {}", conditions.join(" AND "))
    }

    /// Whether the last of these events can be the step after the others.
    fn fits(&self, rows: &[Row], chain: &[usize], next: usize) -> bool {
        let step = &self.steps[chain.len()];
        let row = &rows[next];
        if !step.names.contains(&row.name) {
            return false;
        }
        let (Some(first), Some(last)) = (chain.first(), chain.last()) else {
            return true;
        };
        let (own, earlier, other) = step.equal;
        row.ids[own].is_some()
            && row.ids[own] == rows[chain[earlier]].ids[other]
            && row.time - rows[*last].time <= step.within
            && step
                .within_first
                .is_none_or(|bound| row.time - rows[*first].time <= bound)
    }

    /// What the step after this chain must equal.
    fn wanted(&self, rows: &[Row], chain: &[usize]) -> Option<u32> {
        let (_, earlier, other) = self.steps[chain.len()].equal;
        rows[chain[earlier]].ids[other]
    }

    /// Keeps every chain of events there is. Each event completes at most one, the one whose last
    /// events are the newest; with it, all chains go that wait where it waited.
    fn naive(&self, rows: &[Row]) -> Vec<Vec<u64>> {
        let mut chains: Vec<Vec<usize>> = Vec::new();
        let mut found = Vec::new();
        for next in 0..rows.len() {
            let mut longer = Vec::new();
            for chain in chains.iter().chain([&Vec::new()]) {
                if self.fits(rows, chain, next) {
                    longer.push([chain.as_slice(), &[next]].concat());
                }
            }
            let complete = longer
                .iter()
                .filter(|chain| chain.len() == self.steps.len());
            let newest_first =
                |chain: &&Vec<usize>| chain.iter().rev().copied().collect::<Vec<_>>();
            if let Some(newest) = complete.max_by_key(newest_first) {
                found.push(newest.iter().map(|index| *index as u64).collect());
                let newest = newest.clone();
                chains.retain(|chain| {
                    let prefix = &newest[..chain.len()];
                    self.wanted(rows, chain) != self.wanted(rows, prefix)
                });
            } else {
                chains.extend(longer);
            }
        }
        found
    }
}

#[derive(Debug, Clone)]
struct Row {
    /// Which events can be late by.
    time: u64,
    name: char,
    ids: [Option<u32>; 2],
}

fn spec() -> impl Strategy<Value = Spec> {
    let names = || prop::sample::subsequence(vec!['a', 'b', 'c'], 1..3);
    let step = (
        names(),
        0usize..2,
        any::<prop::sample::Index>(),
        0usize..2,
        1u64..12,
        prop::option::of(1u64..16),
    );
    (names(), prop::collection::vec(step, 1..4)).prop_map(|(first, rest)| {
        let mut steps = vec![SpecStep {
            names: first,
            equal: (0, 0, 0),
            within: 0,
            within_first: None,
        }];
        for (names, own, earlier, other, within, within_first) in rest {
            let equal = (own, earlier.index(steps.len()), other);
            steps.push(SpecStep {
                names,
                equal,
                within,
                within_first,
            });
        }
        Spec { steps }
    })
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let id = || prop::sample::select(vec![None, Some(0), Some(0), Some(1), Some(1)]);
    let row = (
        prop_oneof![4 => 0i64..4, 1 => -3i64..0],
        prop::sample::select(vec!['a', 'b', 'c']),
        id(),
        id(),
    );
    prop::collection::vec(row, 0..16).prop_map(|rows| {
        let mut time = 20;
        let row = |(step, name, session, login)| {
            time += step;
            Row {
                time: u64::try_from(time).unwrap_or(0),
                name,
                ids: [session, login],
            }
        };
        rows.into_iter().map(row).collect()
    })
}

impl Row {
    fn event(&self) -> Event {
        let process = Process {
            exe: Bytes::from(self.name.to_string()),
            session: self.ids[0],
            login_uid: self.ids[1],
            ..Process::default()
        };
        exec_of(self.time, process)
    }
}

/// What is late counts as of the latest time seen.
fn as_counted(rows: &[Row]) -> Vec<Row> {
    let mut latest = 0;
    let row = |row: &Row| {
        latest = latest.max(row.time);
        Row {
            time: latest,
            ..row.clone()
        }
    };
    rows.iter().map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sequences_agree_with_trying_every_combination(spec in spec(), rows in rows()) {
        let events: Vec<Event> = rows.iter().map(Row::event).collect();
        let found: Vec<Vec<u64>> =
            run(&spec.sql(), &events).into_iter().map(|f| f.evidence).collect();
        prop_assert_eq!(found, spec.naive(&as_counted(&rows)), "{} on {:?}", spec.sql(), rows);
    }
}
