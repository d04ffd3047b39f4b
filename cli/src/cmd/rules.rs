//! `daemoneye rules check|test|list|export`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use detect::{RuleSet, TestOutcome};
use serde_json::json;

use crate::args::Rules;
use crate::exit::{Code, Failure, WithCode};
use crate::output::{counted, line};

pub(crate) fn rules(command: &Rules, json: bool) -> Result<ExitCode, Failure> {
    match command {
        Rules::Check { paths } => check(paths, json),
        Rules::Test { paths } => test(paths, json),
        Rules::List { paths } => list(paths, json),
        Rules::Export { dir } => export(dir, json),
    }
}

/// Loads rules; errors in them are bad input.
pub(crate) fn load(paths: &[PathBuf]) -> Result<RuleSet, Failure> {
    agent::rules::load(paths).code(Code::BadInput)
}

fn check(paths: &[PathBuf], json: bool) -> Result<ExitCode, Failure> {
    let rules = load(paths)?;
    let count = rules.rules().len() as u64;
    if json {
        line(json!({ "rules": count }))?;
    } else {
        let verb = if count == 1 { "is" } else { "are" };
        line(format_args!(
            "{} {verb} valid",
            counted(count, "rule", "rules")
        ))?;
    }
    Ok(ExitCode::SUCCESS)
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

fn list(paths: &[PathBuf], json: bool) -> Result<ExitCode, Failure> {
    for rule in load(paths)?.rules() {
        if json {
            line(json!({
                "id": rule.id, "title": rule.title, "level": rule.level.name(),
                "tags": rule.tags, "file": rule.file, "line": rule.line,
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

fn test(paths: &[PathBuf], json: bool) -> Result<ExitCode, Failure> {
    let rules = load(paths)?;
    let outcomes = detect::run_tests(&rules);
    for outcome in outcomes.iter().filter(|outcome| json || !outcome.passed) {
        report(outcome, json)?;
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    let passed = outcomes.len() - failed;
    if !json {
        line(format_args!("{passed} passed, {failed} failed"))?;
    }
    if failed > 0 {
        let error = anyhow!("{failed} of {} rule tests failed", outcomes.len());
        return Err(Failure::new(Code::BadInput, error));
    }
    Ok(ExitCode::SUCCESS)
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
