//! `daemoneye rules try|explain|convert`: questions about rules.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use agent::rules::Wanted;
use anyhow::{Context, anyhow, bail};
use detect::sigma::{Report, sysmon, to_sql};
use detect::{Explanation, Matcher, Part};
use event::Finding;
use serde_json::{Value, json};

use super::load;
use crate::exit::{Code, Failure, WithCode};
use crate::output::{counted, line, notice};

/// Parts of one condition that are shown.
const MAX_PARTS: usize = 12;

/// Which rules each event of a file satisfies.
pub(super) fn satisfied(wanted: &Wanted, events: &Path, json: bool) -> Result<ExitCode, Failure> {
    let rules = Arc::new(load(wanted)?);
    let named = || events.display().to_string();
    let file = File::open(events)
        .with_context(named)
        .code(Code::BadInput)?;
    let mut matcher = Matcher::new(rules);
    let mut findings = Vec::new();
    for (number, text) in (1u64..).zip(BufReader::new(file).lines()) {
        let text = text.with_context(named).code(Code::BadInput)?;
        if text.trim().is_empty() {
            continue;
        }
        let event = read(&text)
            .with_context(|| format!("{}:{number}", events.display()))
            .code(Code::BadInput)?;
        findings.clear();
        matcher.on_event(&event, number, &mut findings);
        told(number, &findings, json)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(text: &str) -> anyhow::Result<event::Event> {
    let value: Value = serde_json::from_str(text)?;
    let value = value.get("event").unwrap_or(&value);
    // An event of our own has none of them, and would satisfy nothing without a word.
    let is_empty = value.as_object().is_none_or(serde_json::Map::is_empty);
    if !is_empty && !sysmon::has_fields(value) {
        bail!("none of Sysmon's fields, such as `Image`, is there");
    }
    Ok(sysmon::from_value(value)?)
}

fn told(number: u64, findings: &[Finding], json: bool) -> std::io::Result<()> {
    if json {
        let ids: Vec<&str> = findings.iter().map(|f| &*f.rule_id).collect();
        return line(json!({ "line": number, "findings": ids }));
    }
    for found in findings {
        let (level, id, title) = (found.level.name(), &found.rule_id, &found.title);
        line(format_args!("{number}: {level} {id} {title}"))?;
    }
    Ok(())
}

/// Which conditions hold, and which do not.
pub(super) fn explain(
    id: &str,
    event: &Path,
    rules: &[PathBuf],
    json: bool,
) -> Result<ExitCode, Failure> {
    let wanted = Wanted {
        paths: rules.to_vec(),
        host: None,
    };
    let rules = load(&wanted)?;
    let id = &*detect::canonical_id(id);
    let rule = rules.rules().iter().find(|rule| rule.id == id);
    let rule = rule
        .ok_or_else(|| unknown(id, rules.report()))
        .code(Code::BadInput)?;
    let named = || event.display().to_string();
    let text = fs::read_to_string(event)
        .with_context(named)
        .code(Code::BadInput)?;
    let event = detect::read_event(&text, rule)
        .map_err(|problem| anyhow!("{}: {problem}", event.display()))
        .code(Code::BadInput)?;
    let explanations = detect::explain(rule, &event);
    let many = explanations.len();
    for (number, explanation) in (1..).zip(&explanations) {
        let what = match many {
            1 if rule.is_of_one_event() => id.to_owned(),
            1 => format!("{id}, for an event that it counts:"),
            _ => format!("{id}, for event {number} of {many}:"),
        };
        if json {
            line(document(id, explanation))?;
        } else {
            tell(&what, explanation)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Why there is no rule of that id to explain.
fn unknown(id: &str, report: &Report) -> anyhow::Error {
    let component = report.components.iter().find(|other| other.rule_id == id);
    if let Some(component) = component {
        let of = &component.correlation;
        return anyhow!("{id} is only a part of the correlation {of}: ask for that");
    }
    match report.elsewhere.iter().find(|other| other.rule_id == id) {
        Some(other) => anyhow!("{id} is a rule for {}", other.os.name()),
        None => anyhow!("no rule that loads has the id {id}"),
    }
}

fn tell(what: &str, explanation: &Explanation) -> std::io::Result<()> {
    if explanation.conditions.is_empty() && !explanation.holds {
        let stream = explanation.stream;
        return line(format_args!(
            "{what} reads `{stream}`, and the event is none of it"
        ));
    }
    let verdict = if explanation.holds {
        "holds"
    } else {
        "does not hold"
    };
    line(format_args!("{what} {verdict}"))?;
    explanation
        .conditions
        .iter()
        .try_for_each(|part| tell_part(part, 1))
}

fn tell_part(part: &Part, depth: usize) -> std::io::Result<()> {
    let truth = truth(part.truth);
    let indent = "  ".repeat(depth);
    let values = if part.values.is_empty() {
        String::new()
    } else {
        format!(", with {}", part.values.join(", "))
    };
    line(format_args!("{indent}{truth:<7} {}{values}", part.text))?;
    // Those that decide come first.
    let (deciding, others): (Vec<&Part>, Vec<&Part>) = part
        .parts
        .iter()
        .partition(|inner| inner.truth == part.truth);
    let ordered: Vec<&Part> = deciding.into_iter().chain(others).collect();
    for inner in ordered.iter().take(MAX_PARTS) {
        tell_part(inner, depth + 1)?;
    }
    let rest = ordered.len().saturating_sub(MAX_PARTS);
    if rest > 0 {
        let rest = counted(rest as u64, "more", "more");
        line(format_args!("{indent}  … {rest}"))?;
    }
    Ok(())
}

fn truth(truth: Option<bool>) -> &'static str {
    match truth {
        Some(true) => "true",
        Some(false) => "false",
        None => "unknown",
    }
}

fn document(id: &str, explanation: &Explanation) -> Value {
    json!({
        "rule": id, "stream": explanation.stream, "holds": explanation.holds,
        "conditions": explanation.conditions.iter().map(part_document).collect::<Vec<_>>(),
    })
}

fn part_document(part: &Part) -> Value {
    json!({
        "text": part.text, "truth": part.truth, "values": part.values,
        "parts": part.parts.iter().map(part_document).collect::<Vec<_>>(),
    })
}

/// The rules in SQL; those without an equivalent are told on standard error.
pub(super) fn convert(wanted: &Wanted, json: bool) -> Result<ExitCode, Failure> {
    let rules = load(wanted)?;
    let mut first = true;
    for rule in rules
        .rules()
        .iter()
        .filter(|rule| rule.provenance.is_some())
    {
        let conversion = to_sql(rule);
        if json {
            line(json!({
                "id": rule.id, "file": rule.file, "yaml": conversion.yaml,
                "inexpressible": conversion.inexpressible,
            }))?;
            continue;
        }
        match conversion.yaml {
            Some(yaml) => {
                if !std::mem::take(&mut first) {
                    line("---")?;
                }
                line(yaml.trim_end())?;
            }
            None => notice(format_args!(
                "{}:{}: {} has no equivalent: {}",
                rule.file,
                rule.line,
                rule.id,
                conversion.inexpressible.join(", ")
            )),
        }
    }
    for component in &rules.report().components {
        let (file, at, id) = (&component.file, component.line, &component.rule_id);
        let of = &component.correlation;
        notice(format_args!(
            "{file}:{at}: {id} is only a part of the correlation {of}"
        ));
    }
    for error in &rules.report().rejected {
        notice(error);
    }
    Ok(ExitCode::SUCCESS)
}
