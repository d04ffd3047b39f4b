//! Runs the tests that rules carry.

use event::Event;

use crate::catalog::{COLUMNS, FieldSet};
use crate::correlate::State;
use crate::eval;
use crate::finding::show;
use crate::matcher::Buffers;
use crate::rule::{Clause, Condition, Rule, RuleSet, TestCase};
use crate::trigger::Trigger;
use crate::view::{Scratch, View, stream_of};

/// How a test of a rule ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestOutcome {
    /// The rule.
    pub rule_id: String,
    /// File of the test: the rule's, or one beside it.
    pub file: String,
    /// Line of the test in that file.
    pub line: u64,
    /// The test's `name`, if it has one.
    pub name: Option<String>,
    /// The rule had to fire; otherwise it had to stay silent.
    pub must_fire: bool,
    /// It did what it had to.
    pub passed: bool,
    /// Why it fired or did not, for a test that did not pass.
    pub explanation: String,
}

/// Runs all tests of all rules, in their order, each against the whole set as in service.
#[must_use]
pub fn run_tests(rules: &RuleSet) -> Vec<TestOutcome> {
    let mut buffers = Buffers::default();
    let cases = rules
        .rules()
        .iter()
        .flat_map(|rule| rule.tests.iter().map(move |test| (rule, test)));
    cases
        .map(|(rule, test)| run(rules, &mut buffers, rule, test))
        .collect()
}

fn run(rules: &RuleSet, buffers: &mut Buffers, rule: &Rule, test: &TestCase) -> TestOutcome {
    let mut findings = Vec::new();
    buffers.state = State::default();
    for (leaf_index, event) in (0..).zip(&test.events) {
        buffers.on_event(rules, event, leaf_index, &mut findings);
    }
    let fired = findings.iter().any(|finding| *finding.rule_id == *rule.id);
    let passed = fired == test.must_fire;
    TestOutcome {
        rule_id: rule.id.clone(),
        file: test.file.clone().unwrap_or_else(|| rule.file.clone()),
        line: test.line,
        name: test.name.clone(),
        must_fire: test.must_fire,
        passed,
        explanation: if passed {
            String::new()
        } else {
            explain(rule, test)
        },
    }
}

fn explain(rule: &Rule, test: &TestCase) -> String {
    if !test.must_fire {
        return match rule.trigger {
            Trigger::Each => "every condition is true".to_owned(),
            _ => "the events satisfy it".to_owned(),
        };
    }
    let mut scratch = Scratch::default();
    let unsatisfied = rule.clauses.iter().find_map(|clause| {
        let missed = |event| first_failed(clause, event, &mut scratch);
        let missed: Option<Vec<String>> = test.events.iter().map(missed).collect();
        missed?.pop()
    });
    unsatisfied.unwrap_or_else(|| match rule.trigger.outermost() {
        Trigger::Each | Trigger::Chain(_) => {
            "every condition is true, but the index missed the rule".to_owned()
        }
        Trigger::Threshold(_) => "there are events that satisfy its WHERE, but no window of any \
                                  group has enough of them for its HAVING"
            .to_owned(),
        Trigger::Sequence(_) => "each step has an event, but none in this order that are equal in \
                                 what is compared and follow in time"
            .to_owned(),
    })
}

/// The first condition of the clause that the event does not satisfy, in words.
fn first_failed(clause: &Clause, event: &Event, scratch: &mut Scratch) -> Option<String> {
    if stream_of(event) != Some(clause.stream) {
        return Some(format!("no event of its stream `{}`", clause.stream));
    }
    scratch.fill(event, clause.condition_fields());
    let view = View::new(event, scratch)?;
    clause.conditions.iter().find_map(|condition| {
        let truth = eval::predicate(&condition.predicate, &view);
        (truth != Some(true)).then(|| explain_condition(condition, truth, &view))
    })
}

fn explain_condition(condition: &Condition, truth: Option<bool>, view: &View<'_>) -> String {
    let truth = if truth == Some(false) {
        "false"
    } else {
        "unknown"
    };
    let mut fields = FieldSet::default();
    condition.predicate.collect_fields(&mut fields);
    let columns = COLUMNS
        .iter()
        .filter(|column| fields.contains(column.field));
    let values: Vec<String> = columns.map(|column| show(column.field, view)).collect();
    format!("`{}` is {truth} with {}", condition.text, values.join(", "))
}
