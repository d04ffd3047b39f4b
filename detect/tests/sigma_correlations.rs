//! Random correlations on random events agree with keeping every event and counting anew at each,
//! straight from what docs/sigma.md says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use detect::sigma::sysmon;
use detect::{Matcher, RuleSet, Source};
use event::{BootTime, Event, Finding};
use proptest::prelude::*;

/// What an event has; `None` is a field that it does not have.
#[derive(Debug, Clone)]
struct Row {
    /// Time of the kernel, which events can be late by.
    time: u64,
    image: char,
    /// Of its command line.
    has_c: bool,
    user: Option<char>,
    level: Option<char>,
    number: Option<u32>,
}

/// `a` and `b` are images; an event of either may also be one of `c`.
const RULES: [char; 3] = ['a', 'b', 'c'];

impl Row {
    fn is_of(&self, rule: char) -> bool {
        match rule {
            'c' => self.has_c,
            image => self.image == image,
        }
    }

    fn field(&self, name: &str) -> Option<String> {
        match name {
            "User" => self.user.map(String::from),
            "IntegrityLevel" => self.level.map(String::from),
            _ => self.number.map(|number| number.to_string()),
        }
    }

    fn event(&self) -> Event {
        let mut fields = serde_json::json!({
            "Image": self.image,
            "CommandLine": if self.has_c { "has c" } else { "none" },
        });
        for name in ["User", "IntegrityLevel", "TerminalSessionId"] {
            if let Some(value) = self.field(name) {
                fields[name] = value.into();
            }
        }
        let mut event = sysmon::from_value(&fields).unwrap();
        event.header.time = BootTime(self.time * 500_000_000);
        event
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Events,
    Values,
    ValuesTogether,
    Sum,
    Average,
    Min,
    Max,
    Median,
    Percentile(u64),
    Temporal,
    Ordered,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Events => "event_count",
            Self::Values | Self::ValuesTogether => "value_count",
            Self::Sum => "value_sum",
            Self::Average => "value_avg",
            Self::Min => "value_min",
            Self::Max => "value_max",
            Self::Median => "value_median",
            Self::Percentile(_) => "value_percentile",
            Self::Temporal => "temporal",
            Self::Ordered => "temporal_ordered",
        }
    }

    /// What stands in its condition besides bounds.
    fn field(self) -> String {
        match self {
            Self::Events | Self::Temporal | Self::Ordered => String::new(),
            Self::ValuesTogether => "field: [TerminalSessionId, User], ".to_owned(),
            Self::Percentile(percentile) => {
                format!("field: TerminalSessionId, percentile: {percentile}, ")
            }
            _ => "field: TerminalSessionId, ".to_owned(),
        }
    }

    fn is_about_rules(self) -> bool {
        matches!(self, Self::Temporal | Self::Ordered)
    }
}

/// A condition on which rules found something.
#[derive(Debug, Clone)]
enum Found {
    Rule(usize),
    Not(Box<Found>),
    Both(Box<Found>, Box<Found>),
    Either(Box<Found>, Box<Found>),
}

impl Found {
    fn text(&self, names: &[String]) -> String {
        match self {
            Self::Rule(rule) => names[*rule].clone(),
            Self::Not(inner) => format!("not ({})", inner.text(names)),
            Self::Both(left, right) => format!("({} and {})", left.text(names), right.text(names)),
            Self::Either(left, right) => format!("({} or {})", left.text(names), right.text(names)),
        }
    }

    fn holds(&self, found: &BTreeSet<usize>) -> bool {
        match self {
            Self::Rule(rule) => found.contains(rule),
            Self::Not(inner) => !inner.holds(found),
            Self::Both(left, right) => left.holds(found) && right.holds(found),
            Self::Either(left, right) => left.holds(found) || right.holds(found),
        }
    }
}

#[derive(Debug, Clone)]
enum Condition {
    /// All must hold.
    Bounds(Vec<(&'static str, i64)>),
    Found(Found),
    /// `temporal` and `temporal_ordered` need none.
    None,
}

#[derive(Debug, Clone)]
enum Member {
    Rule(char),
    Correlation(Box<Correlation>),
}

#[derive(Debug, Clone)]
struct Correlation {
    id: &'static str,
    kind: Kind,
    members: Vec<Member>,
    group_by: Vec<&'static str>,
    /// In halves of a second, even.
    span: u64,
    condition: Condition,
}

/// What a correlation found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fired {
    /// The event that completed it.
    at: usize,
    leaves: BTreeSet<usize>,
    /// What it counted, of those that count.
    count: Option<String>,
}

/// What a member found, and when.
#[derive(Debug, Clone)]
struct Arrival {
    member: usize,
    at: usize,
    leaves: BTreeSet<usize>,
}

impl Correlation {
    fn text(&self) -> String {
        let names = self.names();
        let condition = match &self.condition {
            Condition::None => String::new(),
            Condition::Found(found) => format!("  condition: {}\n", found.text(&names)),
            Condition::Bounds(bounds) => {
                let bounds = bounds
                    .iter()
                    .map(|(word, bound)| format!("{word}: {bound}"));
                let bounds = bounds.collect::<Vec<_>>().join(", ");
                format!("  condition: {{{}{bounds}}}\n", self.kind.field())
            }
        };
        let own = format!(
            "---\ntitle: {id}\nid: {id}\ncorrelation:\n  type: {}\n  rules: [{}]\n  group-by: [{}]\n  \
             timespan: {}s\n{condition}",
            self.kind.name(),
            names.join(", "),
            self.group_by.join(", "),
            self.span / 2,
            id = self.id,
        );
        let inner = self.members.iter().filter_map(|member| match member {
            Member::Rule(_) => None,
            Member::Correlation(inner) => Some(inner.text()),
        });
        inner.chain([own]).collect()
    }

    fn names(&self) -> Vec<String> {
        let name = |member: &Member| match member {
            Member::Rule(rule) => rule.to_string(),
            Member::Correlation(inner) => inner.id.to_owned(),
        };
        self.members.iter().map(name).collect()
    }

    /// What its members found, by event.
    fn arrivals(&self, rows: &[Row], times: &[u64]) -> Vec<Vec<Arrival>> {
        let mut arrivals = vec![Vec::new(); rows.len()];
        for (member, of) in self.members.iter().enumerate() {
            match of {
                Member::Rule(rule) => {
                    for (at, _) in rows.iter().enumerate().filter(|(_, row)| row.is_of(*rule)) {
                        let leaves = [at].into();
                        arrivals[at].push(Arrival { member, at, leaves });
                    }
                }
                Member::Correlation(inner) => {
                    for fired in inner.naive(rows, times, self.kind.is_about_rules()) {
                        let (at, leaves) = (fired.at, fired.leaves);
                        arrivals[at].push(Arrival { member, at, leaves });
                    }
                }
            }
        }
        arrivals
    }

    fn group(&self, row: &Row) -> Vec<Option<String>> {
        self.group_by.iter().map(|name| row.field(name)).collect()
    }

    /// `repeats`: it counts each time its condition holds.
    fn naive(&self, rows: &[Row], times: &[u64], repeats: bool) -> Vec<Fired> {
        let arrivals = self.arrivals(rows, times);
        match self.kind {
            Kind::Ordered => self.ordered(&arrivals, rows, times, repeats),
            _ => self.counted(&arrivals, rows, times, repeats),
        }
    }

    fn counted(
        &self,
        arrivals: &[Vec<Arrival>],
        rows: &[Row],
        times: &[u64],
        repeats: bool,
    ) -> Vec<Fired> {
        let mut quiet_until = BTreeMap::new();
        let mut fired = Vec::new();
        for at in 0..rows.len() {
            if arrivals[at].is_empty() {
                continue;
            }
            let (now, group) = (times[at], self.group(&rows[at]));
            let before = (0..=at).filter(|other| {
                now - times[*other] <= self.span && self.group(&rows[*other]) == group
            });
            let window: Vec<&Arrival> = before.flat_map(|other| &arrivals[other]).collect();
            let quiet = quiet_until.entry(group).or_default();
            if (now < *quiet && !repeats) || !self.holds(&window, rows) {
                continue;
            }
            // Until the first of these events is older than the time span.
            *quiet = times[window[0].at] + self.span + 1;
            fired.push(Fired {
                at,
                leaves: window
                    .iter()
                    .flat_map(|arrival| arrival.leaves.clone())
                    .collect(),
                count: self.count(&window, rows).map(|count| count.to_string()),
            });
        }
        fired
    }

    fn count(&self, window: &[&Arrival], rows: &[Row]) -> Option<usize> {
        let values = |fields: &[&str]| {
            let value = |arrival: &&Arrival| {
                let fields = fields.iter().map(|name| rows[arrival.at].field(name));
                fields.collect::<Option<Vec<_>>>()
            };
            window
                .iter()
                .filter_map(value)
                .collect::<BTreeSet<_>>()
                .len()
        };
        let members = window.iter().map(|arrival| arrival.member);
        match self.kind {
            Kind::Events => Some(window.len()),
            Kind::Values => Some(values(&["TerminalSessionId"])),
            Kind::ValuesTogether => Some(values(&["TerminalSessionId", "User"])),
            Kind::Temporal => Some(members.collect::<BTreeSet<_>>().len()),
            _ => None,
        }
    }

    fn holds(&self, window: &[&Arrival], rows: &[Row]) -> bool {
        let members: BTreeSet<usize> = window.iter().map(|arrival| arrival.member).collect();
        let bounds = match &self.condition {
            Condition::None => return members.len() == self.members.len(),
            Condition::Found(found) => return found.holds(&members),
            Condition::Bounds(bounds) => bounds,
        };
        let Some((numerator, denominator)) = self.value(window, rows) else {
            return false;
        };
        bounds.iter().all(|(word, bound)| {
            let bound = bound * denominator;
            match *word {
                "gt" => numerator > bound,
                "gte" => numerator >= bound,
                "lt" => numerator < bound,
                "lte" => numerator <= bound,
                "eq" => numerator == bound,
                _ => numerator != bound,
            }
        })
    }

    /// As a fraction; over no values there is none.
    fn value(&self, window: &[&Arrival], rows: &[Row]) -> Option<(i64, i64)> {
        if let Some(count) = self.count(window, rows) {
            return Some((i64::try_from(count).unwrap(), 1));
        }
        let numbers = window.iter().filter_map(|arrival| rows[arrival.at].number);
        let mut numbers: Vec<i64> = numbers.map(i64::from).collect();
        numbers.sort_unstable();
        let (first, last) = (*numbers.first()?, *numbers.last()?);
        let percentile = |percentile: u64| {
            let rank = usize::try_from(percentile).unwrap() * (numbers.len() - 1);
            let (low, high) = (numbers[rank / 100], numbers[rank.div_ceil(100)]);
            let part = i64::try_from(rank % 100).unwrap();
            (low * 100 + (high - low) * part, 100)
        };
        let sum = numbers.iter().sum();
        Some(match self.kind {
            Kind::Sum => (sum, 1),
            Kind::Average => (sum, i64::try_from(numbers.len()).unwrap()),
            Kind::Min => (first, 1),
            Kind::Max => (last, 1),
            Kind::Percentile(of) => percentile(of),
            _ => percentile(50),
        })
    }

    /// Different events, one for each member in their order, all within the time span after the
    /// first: of those that an event completes, the newest. With it, all go that wait where it
    /// waited.
    fn ordered(
        &self,
        arrivals: &[Vec<Arrival>],
        rows: &[Row],
        times: &[u64],
        repeats: bool,
    ) -> Vec<Fired> {
        let mut chains: Vec<Vec<&Arrival>> = Vec::new();
        let mut found = Vec::new();
        for at in 0..rows.len() {
            let mut longer = Vec::new();
            for chain in chains.iter().chain([&Vec::new()]) {
                let next = arrivals[at].iter().find(|a| a.member == chain.len());
                let fits = chain.first().is_none_or(|first| {
                    self.group(&rows[first.at]) == self.group(&rows[at])
                        && times[at] - times[first.at] <= self.span
                });
                if let Some(next) = next.filter(|_| fits) {
                    longer.push([chain.as_slice(), &[next]].concat());
                }
            }
            let complete = longer.iter().filter(|c| c.len() == self.members.len());
            let newest = |c: &&Vec<&Arrival>| c.iter().rev().map(|a| a.at).collect::<Vec<_>>();
            let Some(newest) = complete.max_by_key(newest) else {
                chains.extend(longer);
                continue;
            };
            found.push(Fired {
                at,
                leaves: newest
                    .iter()
                    .flat_map(|arrival| arrival.leaves.clone())
                    .collect(),
                count: None,
            });
            if !repeats {
                let group = self.group(&rows[at]);
                chains.retain(|chain| self.group(&rows[chain[0].at]) != group);
            }
        }
        found
    }
}

fn rules(correlation: &Correlation) -> Arc<RuleSet> {
    let rule = |id: char| {
        let selection = match id {
            'c' => "CommandLine|contains: has c".to_owned(),
            image => format!("Image: {image}"),
        };
        format!(
            "---\ntitle: {id}\nid: {id}\nlogsource: {{category: process_creation, product: \
             windows}}\ndetection:\n  sel:\n    {selection}\n  condition: sel\n"
        )
    };
    let text: String = RULES.into_iter().map(rule).collect();
    let text = format!("{text}{}", correlation.text());
    let source = Source {
        file: "c.yml",
        text: &text,
    };
    let rules = RuleSet::compile(&[source]).unwrap();
    let rejected = &rules.report().rejected;
    assert!(rejected.is_empty(), "{}\n{text}", rejected[0]);
    Arc::new(rules)
}

fn findings(rules: &Arc<RuleSet>, rows: &[Row]) -> Vec<Finding> {
    let mut matcher = Matcher::new(Arc::clone(rules));
    let mut findings = Vec::new();
    for (leaf_index, row) in (0..).zip(rows) {
        matcher.on_event(&row.event(), leaf_index, &mut findings);
    }
    let memory = matcher.memory();
    assert!(
        memory.iter().all(|memory| memory.evicted == 0),
        "{memory:?}"
    );
    findings.retain(|finding| *finding.rule_id == *"top");
    findings
}

fn fired(correlation: &Correlation, rows: &[Row]) -> Vec<Fired> {
    let counts = matches!(
        correlation.kind,
        Kind::Events | Kind::Values | Kind::ValuesTogether | Kind::Temporal
    );
    let index = |leaf: u64| usize::try_from(leaf).unwrap();
    let fired = |finding: Finding| {
        let count = finding.selected.iter().find(|(name, _)| &**name == "count");
        Fired {
            at: index(finding.leaf_index),
            leaves: finding.evidence.iter().map(|leaf| index(*leaf)).collect(),
            count: count.filter(|_| counts).map(|(_, count)| count.clone()),
        }
    };
    let findings = findings(&rules(correlation), rows);
    findings.into_iter().map(fired).collect()
}

fn found(members: usize) -> impl Strategy<Value = Found> {
    let pair = |left, right, both| {
        let (left, right) = (Box::new(left), Box::new(right));
        match both {
            true => Found::Both(left, right),
            false => Found::Either(left, right),
        }
    };
    let signs = prop::collection::vec(any::<bool>(), members * 2);
    signs.prop_map(move |signs| {
        // Each of its rules must be named.
        let one = |rule: usize| match signs[rule] {
            true => Found::Rule(rule),
            false => Found::Not(Box::new(Found::Rule(rule))),
        };
        (1..members).fold(one(0), |whole, rule| {
            pair(whole, one(rule), signs[members + rule])
        })
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        2 => Just(Kind::Events),
        1 => Just(Kind::Values),
        1 => Just(Kind::ValuesTogether),
        1 => Just(Kind::Sum),
        1 => Just(Kind::Average),
        1 => Just(Kind::Min),
        1 => Just(Kind::Max),
        1 => Just(Kind::Median),
        1 => (0u64..=100).prop_map(Kind::Percentile),
        3 => Just(Kind::Temporal),
        3 => Just(Kind::Ordered),
    ]
}

fn condition(kind: Kind, members: usize) -> BoxedStrategy<Condition> {
    let words = prop::sample::select(vec!["gt", "gte", "lt", "lte", "eq", "neq"]);
    let bounds = prop::collection::btree_map(words, 0i64..4, 1..3);
    let bounds = bounds.prop_map(|bounds| Condition::Bounds(bounds.into_iter().collect()));
    match kind {
        Kind::Ordered => Just(Condition::None).boxed(),
        Kind::Temporal => prop_oneof![
            Just(Condition::None),
            bounds,
            found(members).prop_map(Condition::Found)
        ]
        .boxed(),
        _ => bounds.boxed(),
    }
}

fn correlation(
    id: &'static str,
    members: impl Strategy<Value = Vec<Member>>,
) -> impl Strategy<Value = Correlation> {
    let group_by = prop::sample::subsequence(vec!["User", "IntegrityLevel"], 0..=2);
    (kind(), members, group_by, 1u64..6).prop_flat_map(move |(kind, members, group_by, span)| {
        condition(kind, members.len()).prop_map(move |condition| Correlation {
            id,
            kind,
            members: members.clone(),
            group_by: group_by.clone(),
            span: span * 2,
            condition,
        })
    })
}

fn some_rules() -> impl Strategy<Value = Vec<Member>> {
    let rules = prop::sample::subsequence(RULES.to_vec(), 1..=3).prop_shuffle();
    rules.prop_map(|rules| rules.into_iter().map(Member::Rule).collect())
}

fn on_a_correlation() -> impl Strategy<Value = Vec<Member>> {
    let inner = correlation("inner", some_rules());
    (inner, some_rules(), any::<bool>()).prop_map(|(inner, mut members, first)| {
        members.truncate(2);
        let at = if first { 0 } else { members.len() };
        members.insert(at, Member::Correlation(Box::new(inner)));
        members
    })
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        -2i64..5,
        prop::sample::select(vec!['a', 'b', 'z']),
        prop::bool::weighted(0.3),
        prop::sample::select(vec![None, Some('x'), Some('x'), Some('y')]),
        prop::sample::select(vec![None, Some('h'), Some('h')]),
        prop::sample::select(vec![None, Some(0), Some(1), Some(2), Some(5)]),
    );
    prop::collection::vec(row, 0..16).prop_map(|rows| {
        let mut time = 100;
        let row = |(step, image, has_c, user, level, number): (i64, _, _, _, _, _)| {
            time += step;
            Row {
                time: u64::try_from(time).unwrap(),
                image,
                has_c,
                user,
                level,
                number,
            }
        };
        rows.into_iter().map(row).collect()
    })
}

/// What is late counts as of the latest time seen.
fn times(rows: &[Row]) -> Vec<u64> {
    let mut latest = 0;
    let times = rows.iter().map(|row| {
        latest = latest.max(row.time);
        latest
    });
    times.collect()
}

fn check(correlation: &Correlation, rows: &[Row]) -> Result<(), TestCaseError> {
    let expected = correlation.naive(rows, &times(rows), false);
    prop_assert_eq!(fired(correlation, rows), expected, "{}", correlation.text());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn correlations_agree_with_counting_anew(
        correlation in correlation("top", some_rules()),
        rows in rows(),
    ) {
        check(&correlation, &rows)?;
    }

    #[test]
    fn correlations_of_correlations_agree_with_counting_anew(
        correlation in correlation("top", on_a_correlation()),
        rows in rows(),
    ) {
        check(&correlation, &rows)?;
    }
}
