//! The SQL rule that finds what a Sigma rule finds.

use std::fmt::Write as _;

use crate::rule::{Output, Rule};
use crate::sql_text::{condition, value};
use crate::trigger::Trigger;

/// A rule in the other language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversion {
    /// The rule file, if there is an equivalent.
    pub yaml: Option<String>,
    /// What SQL rules have no words for.
    pub inexpressible: Vec<String>,
}

/// The equivalent of a rule on single events.
#[must_use]
pub fn to_sql(rule: &Rule) -> Conversion {
    let [clause] = rule.clauses.as_slice() else {
        return without(vec!["a correlation".to_owned()]);
    };
    if !matches!(rule.trigger, Trigger::Each) {
        return without(vec!["a correlation".to_owned()]);
    }
    let mut inexpressible: Vec<String> = Vec::new();
    let mut conditions = Vec::new();
    for part in &clause.conditions {
        let sql = condition(&part.predicate);
        inexpressible.extend(sql.inexpressible.iter().map(ToString::to_string));
        conditions.push(format!("({})", sql.text));
    }
    inexpressible.sort_unstable();
    inexpressible.dedup();
    if !inexpressible.is_empty() {
        return without(inexpressible);
    }
    let columns = rule
        .select
        .iter()
        .filter_map(|selected| match &selected.output {
            Output::Scalar(scalar) => Some(value(scalar).text),
            Output::Aggregate(_) => None,
        });
    let columns: Vec<String> = columns.collect();
    let sql = format!(
        "SELECT {}\nFROM {}\nWHERE {}",
        columns.join(", "),
        clause.stream,
        conditions.join("\n  AND ")
    );
    Conversion {
        yaml: Some(document(rule, &sql)),
        inexpressible,
    }
}

fn without(inexpressible: Vec<String>) -> Conversion {
    Conversion {
        yaml: None,
        inexpressible,
    }
}

fn document(rule: &Rule, sql: &str) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{text}");
    };
    if let Some(of) = &rule.provenance {
        let told = [
            ("author", &of.author),
            ("license", &of.license),
            ("date", &of.date),
        ];
        for (key, text) in told.iter().filter(|(_, text)| !text.is_empty()) {
            line(format!("# {key}: {}", text.replace(['\n', '\r'], " ")));
        }
    }
    line(format!("id: {}", quoted(&rule.id)));
    line(format!("title: {}", quoted(&rule.title)));
    line(format!("description: {}", quoted(&rule.description)));
    line(format!("level: {}", rule.level.name()));
    let lists = [
        ("tags", &rule.tags),
        ("references", &rule.references),
        ("falsepositives", &rule.falsepositives),
    ];
    for (key, texts) in lists.iter().filter(|(_, texts)| !texts.is_empty()) {
        let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
        line(format!("{key}: [{}]", texts.join(", ")));
    }
    // A line break or a tab in a text would be lost in a block.
    if sql.contains(|c: char| c.is_control() && c != '\n') || has_lines_in_texts(sql) {
        line(format!("sql: {}", quoted(sql)));
    } else {
        line("sql: |".to_owned());
        sql.lines().for_each(|text| line(format!("  {text}")));
    }
    out
}

/// A line that ends within quotes.
fn has_lines_in_texts(sql: &str) -> bool {
    let mut inside = false;
    sql.chars().any(|c| {
        inside ^= c == '\'';
        inside && c == '\n'
    })
}

/// JSON's texts are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
