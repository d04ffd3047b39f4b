//! `daemoneye rules …`: check, test, list and export; `asked.rs` has the rest.

mod asked;

use std::path::Path;
use std::process::ExitCode;

use agent::rules::{Wanted, summary};
use anyhow::anyhow;
use detect::sigma::Untested;
use detect::{Rule, RuleSet, TestOutcome};
use serde_json::{Value, json};

use crate::args::Rules;
use crate::exit::{Code, Failure, WithCode};
use crate::output::{counted, line, notice};

pub(crate) fn rules(command: &Rules, json: bool) -> Result<ExitCode, Failure> {
    match command {
        Rules::Check { paths, os, strict } => check(&os.of(paths), *strict, json),
        Rules::Test { paths, os } => test(&os.of(paths), json),
        Rules::List { paths, os } => list(&os.of(paths), json),
        Rules::Export { dir } => export(dir, json),
        Rules::Try { rules, events, os } => {
            asked::satisfied(&os.of(std::slice::from_ref(rules)), events, json)
        }
        Rules::Explain { rule, event, rules } => asked::explain(rule, event, rules, json),
        Rules::Convert { paths, os } => asked::convert(&os.of(paths), json),
    }
}

/// Loads rules; errors in them are bad input.
pub(crate) fn load(wanted: &Wanted) -> Result<RuleSet, Failure> {
    agent::rules::load(wanted).code(Code::BadInput)
}

fn check(wanted: &Wanted, strict: bool, json: bool) -> Result<ExitCode, Failure> {
    let rules = load(wanted)?;
    if json {
        line(outcomes(&rules))?;
    } else {
        tell(&rules)?;
    }
    if strict && !rules.report().rejected.is_empty() {
        let rejected = rules.report().rejected.clone();
        return Err(agent::Error::RulesInvalid(rejected)).code(Code::BadInput);
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each rule, and the counts.
fn tell(rules: &RuleSet) -> std::io::Result<()> {
    let report = rules.report();
    let degraded = |rule: &Rule| report.degraded.iter().find(|d| d.rule_id == rule.id);
    for rule in rules.rules() {
        let (file, at, id) = (&rule.file, rule.line, &rule.id);
        match degraded(rule) {
            None => line(format_args!("loaded    {file}:{at}: {id}"))?,
            Some(degraded) => line(format_args!("degraded  {file}:{at}: {id}: {degraded}"))?,
        }
    }
    for rule in &report.components {
        let (file, at, id, of) = (&rule.file, rule.line, &rule.rule_id, &rule.correlation);
        line(format_args!("component {file}:{at}: {id}: of {of} alone"))?;
    }
    for rule in &report.elsewhere {
        let (file, at, id) = (&rule.file, rule.line, &rule.rule_id);
        let os = rule.os.name();
        line(format_args!("elsewhere {file}:{at}: {id}: for {os}"))?;
    }
    for error in &report.rejected {
        line(format_args!("rejected  {error}"))?;
    }
    line(summary(rules))
}

/// The same as a document.
fn outcomes(rules: &RuleSet) -> Value {
    let report = rules.report();
    let loaded = rules
        .rules()
        .iter()
        .map(|rule| json!({ "id": rule.id, "file": rule.file, "line": rule.line }));
    let degraded = report.degraded.iter().map(|rule| {
        json!({
            "id": rule.rule_id, "file": rule.file, "line": rule.line, "fields": rule.fields,
            "misfiring": rule.misfiring, "never": rule.never,
        })
    });
    let elsewhere = report.elsewhere.iter().map(|rule| {
        json!({ "id": rule.rule_id, "file": rule.file, "line": rule.line, "os": rule.os.name() })
    });
    let components = report.components.iter().map(|rule| {
        json!({
            "id": rule.rule_id, "file": rule.file, "line": rule.line, "of": rule.correlation,
        })
    });
    let rejected = report.rejected.iter().map(|error| {
        json!({
            "file": error.file, "line": error.place.line, "column": error.place.column,
            "message": error.kind.to_string(),
        })
    });
    json!({
        "rules": rules.rules().len(), "loaded": loaded.collect::<Vec<_>>(),
        "degraded": degraded.collect::<Vec<_>>(), "rejected": rejected.collect::<Vec<_>>(),
        "elsewhere": elsewhere.collect::<Vec<_>>(), "filters": report.filters,
        "components": components.collect::<Vec<_>>(),
    })
}

fn export(dir: &Path, json: bool) -> Result<ExitCode, Failure> {
    let files = agent::rules::export(dir).code(Code::Usage)? as u64;
    if json {
        line(json!({ "files": files, "directory": dir }))?;
    } else {
        let files = counted(files, "file", "files");
        line(format_args!("{files} written to {}", dir.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(wanted: &Wanted, json: bool) -> Result<ExitCode, Failure> {
    for rule in load(wanted)?.rules() {
        if json {
            let exceptions = rule.exceptions.iter().map(|exception| {
                json!({
                    "name": exception.name, "file": exception.file, "line": exception.line,
                })
            });
            line(json!({
                "id": rule.id, "title": rule.title, "level": rule.level.name(),
                "tags": rule.tags, "file": rule.file, "line": rule.line,
                "exceptions": exceptions.collect::<Vec<_>>(),
            }))?;
        } else {
            line(format_args!(
                "{:<13} {:<40} {}",
                rule.level.name(),
                rule.id,
                rule.title
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn test(wanted: &Wanted, json: bool) -> Result<ExitCode, Failure> {
    let rules = load(wanted)?;
    let outcomes = detect::run_tests(&rules);
    for outcome in outcomes.iter().filter(|outcome| json || !outcome.passed) {
        report(outcome, json)?;
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    let passed = outcomes.len() - failed;
    if !json {
        line(format_args!("{passed} passed, {failed} failed"))?;
    }
    for untested in &rules.report().untested {
        notice(not_run(untested));
    }
    if failed > 0 {
        let error = anyhow!("{failed} of {} rule tests failed", outcomes.len());
        return Err(Failure::new(Code::BadInput, error));
    }
    Ok(ExitCode::SUCCESS)
}

fn not_run(untested: &Untested) -> String {
    let Untested {
        file,
        rule_id,
        tests,
        ..
    } = untested;
    let tests = counted(*tests as u64, "test", "tests");
    let of = match rule_id {
        Some(id) => format!("the rule `{id}`"),
        None => "the rule beside them".to_owned(),
    };
    format!("{file}: {tests} not run: {of} is not there or does not fire by itself (`rules check`)")
}

fn report(outcome: &TestOutcome, json: bool) -> std::io::Result<()> {
    let wanted = if outcome.must_fire { "fires" } else { "silent" };
    if json {
        return line(json!({
            "rule": outcome.rule_id, "file": outcome.file, "line": outcome.line,
            "test": outcome.name, "expected": wanted, "passed": outcome.passed,
            "explanation": outcome.explanation,
        }));
    }
    line(format_args!(
        "{}:{}: rule {}, test that {}{}: {}",
        outcome.file,
        outcome.line,
        outcome.rule_id,
        if outcome.must_fire {
            "must fire"
        } else {
            "must stay silent"
        },
        outcome
            .name
            .as_ref()
            .map(|name| format!(" ({name})"))
            .unwrap_or_default(),
        outcome.explanation,
    ))
}
