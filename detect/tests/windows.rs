//! Rules that count events by group and window: what they mean, and that they agree with counting
//! anew at every event.

use std::collections::BTreeMap;
use std::sync::Arc;

use detect::{Matcher, RuleSet, Source, run_tests};
use event::{
    BootId, BootTime, Bytes, Credentials, Event, EventKind, Exec, Finding, Header, Process,
};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn rules(sql: &str) -> Arc<RuleSet> {
    rules_with(sql, "")
}

/// With further lines.
fn rules_with(sql: &str, lines: &str) -> Arc<RuleSet> {
    let sql = sql.replace('\n', "\n  ");
    let text = format!("id: r\ntitle: R\nlevel: high\nsql: |\n  {sql}\n{lines}");
    let source = Source {
        file: "r",
        text: &text,
    };
    Arc::new(RuleSet::compile(&[source]).unwrap_or_else(|e| panic!("{}", e[0])))
}

fn exec(time: u64, uid: u32, name: &str) -> Event {
    let process = Process {
        exe: Bytes::from(format!("/bin/{name}")),
        argv: [name].into_iter().collect(),
        credentials: Some(Credentials {
            uid,
            euid: uid,
            ..Credentials::default()
        }),
        ..Process::default()
    };
    Event {
        header: Header {
            time: BootTime(time),
            ..Header::default()
        },
        kind: EventKind::Exec(Box::new(Exec {
            process,
            old_tid: None,
        })),
    }
}

fn run(sql: &str, events: &[Event]) -> Vec<Finding> {
    run_rules(rules(sql), events)
}

fn run_rules(rules: Arc<RuleSet>, events: &[Event]) -> Vec<Finding> {
    let mut matcher = Matcher::new(rules);
    let mut findings = Vec::new();
    for (leaf_index, event) in (0..).zip(events) {
        matcher.on_event(event, leaf_index, &mut findings);
    }
    findings
}

#[test]
fn percentiles_lie_between_values_in_proportion() {
    let check = |having: &str, uids: &[u32], fires_at: &[u64]| {
        let sql = format!(
            "SELECT median(process.uid) AS middle FROM exec \
             GROUP BY SLIDING(event.time, INTERVAL '1' MINUTE) HAVING {having}"
        );
        let events: Vec<Event> = uids.iter().map(|uid| exec(1, *uid, "a")).collect();
        let fired: Vec<u64> = run(&sql, &events).iter().map(|f| f.leaf_index).collect();
        assert_eq!(fired, fires_at, "{having} on {uids:?}");
    };
    check("median(process.uid) = 1.5", &[1, 2], &[1]);
    check("middle >= 5", &[1, 9, 8], &[1]);
    check("percentile(process.uid, 0) = 3", &[3, 9], &[0]);
    check("percentile(process.uid, 100) = 9", &[3, 9], &[1]);
    check("percentile(process.uid, 90) = 9", &[0, 5, 10], &[2]);
    check(
        "percentile(process.uid, 25) < percentile(process.uid, 75) - 3",
        &[0, 9, 9],
        &[1],
    );
    check(
        "median(process.uid) FILTER (WHERE process.uid > 5) = 8",
        &[1, 8, 1],
        &[1],
    );
    check(
        "median(process.uid) FILTER (WHERE process.uid > 50) >= 0",
        &[1, 8],
        &[],
    );
}

/// Leaf indices at which the rule fires on programs of one user at these seconds.
#[track_caller]
fn check(group_by: &str, seconds: &[u64], fires_at: &[u64]) {
    let sql = format!("SELECT count(*) AS n FROM exec GROUP BY {group_by}");
    let events: Vec<Event> = seconds.iter().map(|s| exec(s * SECOND, 0, "a")).collect();
    let fired: Vec<u64> = run(&sql, &events).iter().map(|f| f.leaf_index).collect();
    assert_eq!(fired, fires_at, "{group_by} at {seconds:?}");
}

#[test]
fn a_tumbling_window_begins_at_multiples_of_its_size_and_fires_once() {
    let by = "TUMBLE(event.time, INTERVAL '10' SECOND) HAVING count(*) >= 3";
    check(by, &[0, 1, 2, 3, 4, 9], &[2]);
    check(by, &[8, 9, 10, 11, 12, 13], &[4]);
    check(by, &[0, 1, 9, 10, 19], &[2]);
    check(by, &[0, 9, 10, 19, 20], &[]);
}

#[test]
fn a_hopping_window_finds_what_a_boundary_would_split_and_is_quiet_while_one_lasts() {
    let by = "HOP(event.time, INTERVAL '5' SECOND, INTERVAL '10' SECOND) HAVING count(*) >= 3";
    check(by, &[8, 9, 10], &[2]);
    // The window from 5 to 15 fired: 11 to 14 are in it, 15 begins anew.
    check(by, &[8, 9, 10, 11, 12, 14, 15, 16, 17], &[2, 8]);
    check(by, &[8, 9, 15], &[]);
}

#[test]
fn a_sliding_window_ends_with_each_event() {
    let by = "SLIDING(event.time, INTERVAL '10' SECOND) HAVING count(*) >= 3";
    check(by, &[7, 12, 17], &[2]);
    check(by, &[7, 12, 18], &[]);
    // Quiet until 17 has passed.
    check(by, &[7, 8, 9, 10, 17, 18], &[2, 5]);
}

#[test]
fn without_having_each_group_and_window_fires_at_its_first_event() {
    let sql = "SELECT process.euid FROM exec GROUP BY process.euid, \
               TUMBLE(event.time, INTERVAL '1 hour')";
    let events = [
        exec(1, 1, "a"),
        exec(2, 2, "a"),
        exec(3, 1, "a"),
        exec(3600 * SECOND, 1, "a"),
    ];
    let fired: Vec<u64> = run(sql, &events).iter().map(|f| f.leaf_index).collect();
    assert_eq!(fired, [0, 1, 3]);
}

#[test]
fn findings_name_the_group_the_values_and_the_evidence() {
    let sql = "SELECT count(*) AS n, count(DISTINCT process.name) AS names, avg(process.pid), \
               any_value(process.name) AS last, sum(process.args_count), min(process.euid), max(process.euid) \
               FROM exec WHERE process.name <> 'x' \
               GROUP BY process.euid, TUMBLE(event.time, INTERVAL '1' MINUTE) HAVING n = 3";
    let events = [
        exec(1, 7, "a"),
        exec(2, 7, "x"),
        exec(3, 8, "a"),
        exec(4, 7, "b"),
        exec(5, 7, "a"),
    ];
    let findings = run(sql, &events);
    let [finding] = findings.as_slice() else {
        panic!("{findings:?}");
    };
    assert_eq!(finding.evidence, [0, 3, 4]);
    assert_eq!((finding.leaf_index, finding.incomplete.len()), (4, 0));
    let expected = [
        ("n", "3"),
        ("names", "2"),
        ("avg", "0"),
        ("last", "a"),
        ("sum", "3"),
        ("min", "7"),
        ("max", "7"),
        ("process.euid", "7"),
    ];
    let expected: Vec<_> = expected.map(|(n, v)| (n.into(), v.to_owned())).into();
    assert_eq!(finding.selected, expected);
}

#[test]
fn having_combines_aggregates_without_rounding() {
    let check = |having: &str, fires: bool| {
        let sql = format!(
            "SELECT count(*) FROM exec GROUP BY TUMBLE(event.time, INTERVAL '1' MINUTE) \
             HAVING count(*) = 4 AND ({having})"
        );
        let events = ["a", "b", "b", "c"].map(|name| exec(1, u32::from(name != "a"), name));
        assert_eq!(!run(&sql, &events).is_empty(), fires, "{having}");
    };
    check("avg(process.uid) = 0.75", true);
    check("avg(process.uid) > 0.75", false);
    check("avg(process.uid) BETWEEN 0.7 AND 0.8", true);
    check(
        "count(*) FILTER (WHERE process.name = 'b') * 2 >= count(*)",
        true,
    );
    check(
        "count(*) FILTER (WHERE process.name = 'c') * 2 >= count(*)",
        false,
    );
    check("sum(process.uid) = 3 OR count(process.user) = 9", true);
    check("NOT count(process.user) = 0", false);
    check("count(DISTINCT process.name) >= 3", true);
    check("min(process.uid) = 0 AND max(process.uid) - 1 = 0", true);
    // Over no values there is no sum: unknown, and neither true nor false.
    check("sum(process.login_uid) = 0", false);
    check("NOT sum(process.login_uid) = 0", false);
    check("count(*) / count(process.login_uid) > 1", false);
}

#[test]
fn windows_know_event_time_only_and_nothing_of_another_boot() {
    let sql = "SELECT count(*) FROM exec GROUP BY TUMBLE(event.time, INTERVAL '10' SECOND) \
               HAVING count(*) >= 2";
    // The second is late: it counts as of the latest time seen.
    let late = [exec(11 * SECOND, 0, "a"), exec(9 * SECOND, 0, "a")];
    assert_eq!(run(sql, &late).len(), 1);
    let mut other_boot = exec(12 * SECOND, 0, "a");
    other_boot.header.boot = BootId([1; 16]);
    assert_eq!(run(sql, &[exec(11 * SECOND, 0, "a"), other_boot]).len(), 0);
}

#[test]
fn memory_is_bounded_and_what_is_forgotten_is_told() {
    let sql = "SELECT count(*) FROM exec \
               GROUP BY process.euid, SLIDING(event.time, INTERVAL '1' HOUR) HAVING count(*) >= 2";
    let mut matcher = Matcher::new(rules(sql));
    let mut findings = Vec::new();
    for uid in 0..20_000 {
        matcher.on_event(
            &exec(u64::from(uid), uid, "a"),
            u64::from(uid),
            &mut findings,
        );
    }
    let memory = matcher.memory();
    assert!(memory[0].bytes <= 1 << 20, "{memory:?}");
    assert!(memory[0].entries > 1000, "{memory:?}");
    assert_eq!(memory[0].entries as u64 + memory[0].evicted, 20_000);
    assert!(findings.is_empty());
    // The first one was forgotten; the last one was not, but others were.
    matcher.on_event(&exec(30_000, 0, "a"), 30_000, &mut findings);
    assert!(findings.is_empty());
    matcher.on_event(&exec(30_000, 19_999, "a"), 30_001, &mut findings);
    assert_eq!(
        findings[0].incomplete,
        ["groups were forgotten for want of memory"]
    );
}

#[test]
fn rules_that_did_not_change_remember_across_a_reload() {
    let sql = |size: u32| {
        format!(
            "SELECT count(*) FROM exec GROUP BY TUMBLE(event.time, INTERVAL '{size}' HOUR) \
             HAVING count(*) >= 2"
        )
    };
    let check = |before: u32, after: u32, fires: bool| {
        let mut matcher = Matcher::new(rules(&sql(before)));
        let mut findings = Vec::new();
        matcher.on_event(&exec(1, 0, "a"), 0, &mut findings);
        matcher.replace_rules(rules(&sql(after)));
        matcher.on_event(&exec(2, 0, "a"), 1, &mut findings);
        assert_eq!(!findings.is_empty(), fires, "{before} {after}");
    };
    check(1, 1, true);
    check(1, 2, false);
}

#[test]
fn values_beyond_the_bound_are_told() {
    let sql = "SELECT count(DISTINCT process.name) AS n FROM exec \
               GROUP BY TUMBLE(event.time, INTERVAL '1' HOUR) \
               HAVING count(DISTINCT process.name) >= 4096 AND count(*) >= 5000";
    let events: Vec<Event> = (0..5000).map(|i| exec(i, 0, &i.to_string())).collect();
    let findings = run(sql, &events);
    assert_eq!(findings[0].selected[0].1, "4096");
    assert_eq!(
        findings[0].incomplete,
        ["more was seen than one group counts"]
    );
    assert_eq!(findings[0].evidence.len(), 32);
    assert_eq!(findings[0].evidence.last(), Some(&4999));
}

#[test]
fn tests_of_rules_can_be_of_several_events() {
    let rule = "id: r\ntitle: R\nlevel: low\nsql: |\n  SELECT count(*) FROM exec\n  \
                GROUP BY process.uid, TUMBLE(event.time, INTERVAL '1' MINUTE) HAVING count(*) >= 3\n";
    let check = |tests: &str, passed: &[bool]| {
        let text = format!("{rule}tests:\n{tests}");
        let source = Source {
            file: "r",
            text: &text,
        };
        let rules = RuleSet::compile(&[source]).unwrap_or_else(|e| panic!("{}", e[0]));
        let outcomes: Vec<bool> = run_tests(&rules).iter().map(|o| o.passed).collect();
        assert_eq!(outcomes, passed, "{tests}");
    };
    check(
        "  fires:\n    - events: [{exe: /a, uid: 1, repeat: 3}]\n    - {exe: /a, uid: 1, repeat: 3}\n",
        &[true, true],
    );
    check(
        "  silent:\n    - events:\n        - {exe: /a, uid: 1, repeat: 2}\n        - {exe: /a, uid: 2}\n    \
         - {name: too slow, exe: /a, uid: 1, repeat: 3, after_ms: 60000}\n    - {exe: /a, uid: 1}\n",
        &[true, true, true],
    );
    check(
        "  fires:\n    - name: each test begins anew\n      exe: /a\n      uid: 1\n      repeat: 2\n",
        &[false],
    );
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Tumble,
    Hop,
    Sliding,
}

#[derive(Debug, Clone)]
struct Spec {
    kind: Kind,
    slide: u64,
    size: u64,
    having: usize,
    /// Lets the events of user `y` pass, and not those of nobody knows whom.
    exception: bool,
}

/// Condition and the same over (uid, pid-like number, name) of the events of a window.
type Condition = (&'static str, fn(&[Row]) -> bool);

#[derive(Debug, Clone)]
struct Row {
    /// Which events can be late by.
    time: u64,
    /// Of two columns that are grouped by.
    group: (Option<u32>, Option<char>),
    name: char,
    number: Option<u32>,
}

/// Sorted, without `NULL`s.
fn numbers(rows: &[Row]) -> Vec<u32> {
    let mut numbers: Vec<u32> = rows.iter().filter_map(|row| row.number).collect();
    numbers.sort_unstable();
    numbers
}

/// Twice the median, if there is one.
fn median_twice(rows: &[Row]) -> Option<u32> {
    let numbers = numbers(rows);
    let (middle, last) = (numbers.len() / 2, numbers.len().checked_sub(1)?);
    Some(numbers[middle] + numbers[last / 2])
}

/// The last of the conditions: those that need all values.
const SLIDING_ONLY: usize = 2;

fn distinct(rows: &[Row]) -> usize {
    let mut names: Vec<char> = rows.iter().map(|row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    names.len()
}

/// Over no values there is none.
fn sum(rows: &[Row]) -> Option<u32> {
    let numbers = numbers(rows);
    (!numbers.is_empty()).then(|| numbers.iter().sum())
}

const CONDITIONS: &[Condition] = &[
    ("count(*) >= 3", |rows| rows.len() >= 3),
    ("count(*) = 2", |rows| rows.len() == 2),
    ("count(*) < 3", |rows| rows.len() < 3),
    ("count(process.session) = 2", |rows| {
        numbers(rows).len() == 2
    }),
    ("count(DISTINCT process.name) >= 3", |rows| {
        distinct(rows) >= 3
    }),
    ("count(DISTINCT process.session) = 2", |rows| {
        let mut numbers = numbers(rows);
        numbers.dedup();
        numbers.len() == 2
    }),
    (
        "count(DISTINCT process.name) = 1 AND count(*) > 1",
        |rows| distinct(rows) == 1 && rows.len() > 1,
    ),
    ("sum(process.session) > 6", |rows| sum(rows) > Some(6)),
    ("sum(process.session) <> 3", |rows| {
        sum(rows).is_some_and(|sum| sum != 3)
    }),
    ("avg(process.session) >= 2.5 AND count(*) >= 2", |rows| {
        let count = u32::try_from(numbers(rows).len()).unwrap();
        sum(rows).is_some_and(|sum| 2 * sum >= 5 * count) && rows.len() >= 2
    }),
    (
        "min(process.session) = max(process.session) AND count(*) >= 3",
        |rows| {
            rows.len() >= 3
                && numbers(rows)
                    .first()
                    .is_some_and(|n| Some(n) == numbers(rows).last())
        },
    ),
    ("count(*) FILTER (WHERE process.name = 'a') >= 2", |rows| {
        rows.iter().filter(|row| row.name == 'a').count() >= 2
    }),
    (
        "max(process.session) FILTER (WHERE process.name <> 'a') = 4",
        |rows| {
            let others: Vec<Row> = rows.iter().filter(|row| row.name != 'a').cloned().collect();
            numbers(&others).last() == Some(&4)
        },
    ),
    ("NOT (min(process.session) < 2 OR count(*) < 2)", |rows| {
        rows.len() >= 2 && numbers(rows).first().is_some_and(|least| *least >= 2)
    }),
    ("median(process.session) > 1.5 AND count(*) > 1", |rows| {
        rows.len() > 1 && median_twice(rows) > Some(3)
    }),
    (
        "percentile(process.session, 50) = median(process.session) \
         AND percentile(process.session, 100) >= 4",
        |rows| numbers(rows).last() >= Some(&4),
    ),
];

impl Spec {
    fn sql(&self) -> String {
        let interval = |ns: u64| format!("INTERVAL '{ns} nanoseconds'");
        let window = match self.kind {
            Kind::Tumble => format!("TUMBLE(event.time, {})", interval(self.size)),
            Kind::Hop => format!(
                "HOP(event.time, {}, {})",
                interval(self.slide),
                interval(self.size)
            ),
            Kind::Sliding => format!("SLIDING(event.time, {})", interval(self.size)),
        };
        let having = CONDITIONS[self.having].0;
        format!(
            "SELECT count(*) AS n FROM exec GROUP BY process.login_uid, process.user, {window} \
             HAVING {having}"
        )
    }

    fn rules(&self) -> Arc<RuleSet> {
        let exceptions = match self.exception {
            true => "exceptions: [{name: y, when: process.user = 'y'}]\n",
            false => "",
        };
        rules_with(&self.sql(), exceptions)
    }

    /// Starts and ends (exclusive) of the windows that an event is in, the first one first.
    fn windows(&self, rows: &[Row], time: u64) -> Vec<(u64, u64)> {
        let slide = match self.kind {
            Kind::Tumble => self.size,
            Kind::Hop => self.slide,
            Kind::Sliding => {
                let start = time.saturating_sub(self.size);
                let first = rows.iter().map(|row| row.time).find(|t| *t >= start);
                return vec![(first.unwrap_or(time), first.unwrap_or(time) + self.size + 1)];
            }
        };
        let starts = (0..=time).step_by(usize::try_from(slide).unwrap());
        let windows = starts.map(|start| (start, start + self.size));
        windows.filter(|(_, end)| *end > time).collect()
    }

    /// The findings, by counting anew at every event.
    fn naive(&self, rows: &[Row]) -> Vec<Fired> {
        let mut fired = Vec::new();
        let mut quiet_until: BTreeMap<_, u64> = BTreeMap::new();
        for (position, row) in rows.iter().enumerate() {
            let counts = |row: &Row| !(self.exception && row.group.1 == Some('y'));
            if !counts(row) {
                continue;
            }
            let of_group: Vec<(u64, Row)> = (0..)
                .zip(&rows[..=position])
                .filter(|(_, other)| other.group == row.group)
                .map(|(position, row)| (position, row.clone()))
                .collect();
            let times: Vec<Row> = of_group.iter().map(|(_, row)| row.clone()).collect();
            let quiet = quiet_until.entry(row.group).or_default();
            let inside = |(start, end): (u64, u64)| {
                let inside = |(_, row): &&(u64, Row)| (start..end).contains(&row.time);
                of_group.iter().filter(inside).cloned().unzip()
            };
            let holds = |window: &(u64, u64)| {
                let (_, inside): (Vec<u64>, Vec<Row>) = inside(*window);
                let allowed = match self.kind {
                    Kind::Sliding => row.time >= *quiet,
                    _ => window.0 >= *quiet,
                };
                allowed && CONDITIONS[self.having].1(&inside)
            };
            if let Some(window) = self.windows(&times, row.time).into_iter().find(holds) {
                *quiet = window.1;
                let (mut evidence, inside) = inside(window);
                // The first ones and the last.
                evidence.splice(31.min(evidence.len() - 1)..evidence.len() - 1, []);
                fired.push(Fired {
                    count: inside.len().to_string(),
                    evidence,
                });
            }
        }
        fired
    }
}

/// What a finding says.
#[derive(Debug, PartialEq, Eq)]
struct Fired {
    count: String,
    /// The last one is the event that completed it.
    evidence: Vec<u64>,
}

impl Fired {
    fn of(finding: Finding) -> Self {
        assert_eq!(finding.evidence.last(), Some(&finding.leaf_index));
        assert!(finding.incomplete.is_empty());
        let (name, count) = &finding.selected[0];
        assert_eq!(&**name, "n");
        Self {
            count: count.clone(),
            evidence: finding.evidence,
        }
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let kind = prop_oneof![Just(Kind::Tumble), Just(Kind::Hop), Just(Kind::Sliding)];
    let slides_only = |having: usize| having + SLIDING_ONLY >= CONDITIONS.len();
    let parts = (kind, 1u64..6, 1u64..5, 0..CONDITIONS.len(), any::<bool>());
    parts.prop_map(move |(kind, slide, times, having, exception)| Spec {
        kind: if slides_only(having) {
            Kind::Sliding
        } else {
            kind
        },
        slide,
        size: slide * times,
        having,
        exception,
    })
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let group = (
        prop::sample::select(vec![None, Some(0), Some(0), Some(1)]),
        prop::sample::select(vec![None, Some('x'), Some('x'), Some('x'), Some('y')]),
    );
    let row = (
        prop_oneof![4 => 0i64..4, 1 => -3i64..0],
        group,
        prop::sample::select(vec!['a', 'b', 'c', 'd']),
        prop::option::weighted(0.8, 0u32..5),
    );
    let dense = prop::bool::weighted(0.1);
    (dense, prop::collection::vec(row, 0..60)).prop_map(|(dense, rows)| {
        let mut time = 20;
        let row = |(step, group, name, number)| {
            time += if dense { 0 } else { step };
            Row {
                time: u64::try_from(time).unwrap_or(0),
                group: if dense { (None, None) } else { group },
                name,
                number,
            }
        };
        rows.into_iter().map(row).collect()
    })
}

impl Row {
    fn event(&self) -> Event {
        let mut event = exec(self.time, 0, &self.name.to_string());
        if let EventKind::Exec(exec) = &mut event.kind {
            exec.process.session = self.number;
            exec.process.login_uid = self.group.0;
            exec.process.user = self.group.1.map(|user| Bytes::from(user.to_string()));
        }
        event
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
    fn windows_agree_with_counting_anew_at_every_event(spec in spec(), rows in rows()) {
        let events: Vec<Event> = rows.iter().map(Row::event).collect();
        let findings = run_rules(spec.rules(), &events);
        let fired: Vec<Fired> = findings.into_iter().map(Fired::of).collect();
        prop_assert_eq!(fired, spec.naive(&as_counted(&rows)), "{} on {:?}", spec.sql(), rows);
    }
}
