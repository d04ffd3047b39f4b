//! What rules remember: within its bounds on any stream, and the same however events are fed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use detect::{Matcher, RuleSet, Source};
use event::{BootTime, Bytes, Event, EventKind, Exec, Finding, Header, Process};
use proptest::prelude::*;

/// Rules that remember in every way there is.
const RULES: &str = r#"
id: counted
title: Counted
level: low
sql: |
  SELECT process.user, count(*) AS n, count(DISTINCT process.name) FROM exec
  WHERE process.command_line ~ '^[a-f]+ [0-9]*$'
  GROUP BY process.user, TUMBLE(event.time, INTERVAL '20 nanoseconds')
  HAVING count(*) >= 3
---
id: hopping
title: Hopping
level: low
sql: |
  SELECT process.user, sum(process.session) AS n FROM exec
  GROUP BY process.user, HOP(event.time, INTERVAL '5 nanoseconds', INTERVAL '20 nanoseconds')
  HAVING sum(process.session) > 6
---
id: sliding
title: Sliding
level: low
sql: |
  SELECT process.user, median(process.session) AS n FROM exec
  WHERE process.name GLOB '[a-b]*'
  GROUP BY process.user, SLIDING(event.time, INTERVAL '20 nanoseconds')
  HAVING median(process.session) >= 2 AND count(*) >= 2
---
id: joined
title: Joined
level: low
sql: |
  SELECT a.process.name, b.process.name, b.process.command_line FROM exec AS a
  JOIN exec AS b ON b.process.user = a.process.user
    AND b.event.time BETWEEN a.event.time AND a.event.time + INTERVAL '10 nanoseconds'
  WHERE a.process.name ~ '^[ab]$' AND b.process.name ~* '^[BC]$'
"#;

const SIGMA: &str = r"
title: a
name: a
logsource: {category: process_creation}
detection: {sel: {CommandLine|re: '^[abc] '}, condition: sel}
---
title: b
name: b
logsource: {category: process_creation}
detection: {sel: {Image|endswith: [b, d]}, condition: sel}
---
title: inner
name: inner
correlation: {type: event_count, rules: [a], group-by: [User], timespan: 1s, condition: {gte: 2}}
---
title: outer
correlation: {type: temporal_ordered, rules: [inner, b], group-by: [User], timespan: 1s}
---
title: without
correlation: {type: temporal, rules: [a, b], timespan: 1s, condition: a and not b}
";

fn rules() -> Arc<RuleSet> {
    let source = |file, text| Source { file, text };
    let sources = [source("r.yaml", RULES), source("s.yml", SIGMA)];
    let rules = RuleSet::compile(&sources).unwrap_or_else(|errors| panic!("{}", errors[0]));
    let rejected = &rules.report().rejected;
    assert!(rejected.is_empty(), "{}", rejected[0]);
    Arc::new(rules)
}

#[derive(Debug, Clone)]
struct Row {
    step: i64,
    name: String,
    user: Option<u32>,
    session: Option<u32>,
}

fn row(users: u32) -> impl Strategy<Value = Row> {
    let step = prop_oneof![4 => 0i64..8, 1 => -5i64..0];
    let user = prop::option::weighted(0.9, 0..users);
    let session = prop::option::weighted(0.8, 0u32..4);
    (step, "[a-d]", user, session).prop_map(|(step, name, user, session)| Row {
        step,
        name,
        user,
        session,
    })
}

fn events(rows: &[Row]) -> Vec<Event> {
    let mut time = 1000;
    let event = |row: &Row| {
        time += row.step;
        let argument = row.session.unwrap_or(7).to_string();
        let process = Process {
            exe: Bytes::from(format!("/bin/{}", row.name)),
            argv: [row.name.as_str(), &argument].into_iter().collect(),
            user: row.user.map(|user| Bytes::from(user.to_string())),
            session: row.session,
            ..Process::default()
        };
        Event {
            header: Header {
                time: BootTime(u64::try_from(time).unwrap()),
                ..Header::default()
            },
            kind: EventKind::Exec(Box::new(Exec {
                process,
                old_tid: None,
            })),
        }
    };
    rows.iter().map(event).collect()
}

/// Feeds the events; before each of these places, `between` does what changes nothing.
fn findings(
    mut matcher: Matcher,
    events: &[Event],
    places: &[usize],
    between: impl Fn(&mut Matcher),
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, event) in events.iter().enumerate() {
        if places.contains(&index) {
            between(&mut matcher);
        }
        matcher.on_event(event, index as u64, &mut findings);
    }
    findings
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// A recording is fed without the pauses of the live run, and rules may have been read anew.
    #[test]
    fn findings_do_not_depend_on_how_events_are_fed(
        rows in prop::collection::vec(row(3), 0..40),
        places in prop::collection::vec(0usize..40, 0..5),
    ) {
        let (rules, events) = (rules(), events(&rows));
        let expected = findings(Matcher::new(Arc::clone(&rules)), &events, &[], |_| {});
        let uncached = Matcher::without_cache(Arc::clone(&rules));
        prop_assert_eq!(&findings(uncached, &events, &[], |_| {}), &expected);
        let asked = findings(Matcher::new(Arc::clone(&rules)), &events, &places, |matcher| {
            let _ = matcher.memory();
        });
        prop_assert_eq!(&asked, &expected);
        let reloaded = findings(Matcher::new(rules), &events, &places, |matcher| {
            matcher.replace_rules(self::rules());
        });
        prop_assert_eq!(&reloaded, &expected);
    }
}

/// What a rule of these may remember, in bytes.
fn bound(rule_id: &str) -> usize {
    let correlations = if rule_id == "outer" { 2 } else { 1 };
    correlations << 20
}

/// By rule, what was forgotten.
fn evicted(matcher: &Matcher) -> Result<BTreeMap<String, u64>, TestCaseError> {
    let mut evicted = BTreeMap::new();
    for memory in matcher.memory() {
        prop_assert!(memory.bytes <= bound(&memory.rule_id), "{:?}", memory);
        evicted.insert(memory.rule_id, memory.evicted);
    }
    Ok(evicted)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_within_its_bound_and_what_is_forgotten_is_counted_and_told(
        rows in prop::collection::vec(row(1_000_000), 5_000..6_000),
    ) {
        // Every tenth is by one of few.
        let few = |(at, row): (usize, &Row)| Row {
            user: if at % 10 == 0 { row.user.map(|user| user % 3) } else { row.user },
            ..row.clone()
        };
        let rows: Vec<Row> = rows.iter().enumerate().map(few).collect();
        let mut events = events(&rows);
        // Nothing is forgotten for its age.
        events.iter_mut().for_each(|event| event.header.time = BootTime(5));
        let mut matcher = Matcher::new(rules());
        let mut before = BTreeMap::new();
        for (index, event) in (0..).zip(&events) {
            let mut findings = Vec::new();
            matcher.on_event(event, index, &mut findings);
            // What the inner one of `outer` forgets after it found something does not matter to that.
            for finding in findings.iter().filter(|f| *f.rule_id != *"outer") {
                let forgotten = before.get(&*finding.rule_id).is_some_and(|count| *count > 0);
                let told = finding.incomplete.iter().any(|reason| reason.contains("forgotten"));
                prop_assert!(told || !forgotten, "{:?}", finding);
            }
            if index % 50 == 0 {
                before = evicted(&matcher)?;
            }
        }
        let users: BTreeSet<Option<u32>> = rows.iter().map(|row| row.user).collect();
        for memory in matcher.memory() {
            if memory.rule_id == "hopping" {
                // A group that comes again after it was forgotten is another one.
                let groups = memory.entries as u64 + memory.evicted;
                prop_assert!((users.len() as u64..=rows.len() as u64).contains(&groups));
                prop_assert!(memory.evicted > 0, "{:?}", memory);
            }
        }
    }

    #[test]
    fn what_is_forgotten_for_its_age_was_not_evicted(
        rows in prop::collection::vec(row(1_000_000), 5_000..6_000),
    ) {
        let mut matcher = Matcher::new(rules());
        for (index, event) in (0..).zip(&events(&rows)) {
            matcher.on_event(event, index, &mut Vec::new());
        }
        let evicted = evicted(&matcher)?;
        for rule in ["counted", "hopping", "sliding", "joined"] {
            prop_assert_eq!(evicted[rule], 0, "{}", rule);
        }
        let entries = matcher.memory().iter().find(|m| m.rule_id == "hopping").unwrap().entries;
        prop_assert!(entries < 60, "{}", entries);
    }
}
