//! Runs the tests that rules carry.

use crate::catalog::{COLUMNS, FieldSet};
use crate::eval;
use crate::finding::show;
use crate::matcher::Buffers;
use crate::rule::{Condition, Rule, RuleSet, TestCase};
use crate::view::{Scratch, View};

/// How a test of a rule ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestOutcome {
    /// The rule.
    pub rule_id: String,
    /// File of the rule.
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
    buffers.on_event(rules, &test.event, 0, &mut findings);
    let fired = findings.iter().any(|finding| finding.rule_id == rule.id);
    let passed = fired == test.must_fire;
    TestOutcome {
        rule_id: rule.id.clone(),
        file: rule.file.clone(),
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
    let clause = &rule.clauses[0];
    let mut scratch = Scratch::default();
    scratch.fill(&test.event, clause.condition_fields());
    let Some(view) = View::new(&test.event, &scratch) else {
        return String::new();
    };
    if !test.must_fire {
        return "every condition is true".to_owned();
    }
    let failed = clause.conditions.iter().find_map(|condition| {
        let truth = eval::predicate(&condition.predicate, &view);
        (truth != Some(true)).then(|| explain_condition(condition, truth, &view))
    });
    failed.unwrap_or_else(|| "every condition is true, but the index missed the rule".to_owned())
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
