//! `docs/rules.md` lists exactly the columns, functions and streams that exist.

use std::fmt::Write as _;

use detect::catalog::{COLUMNS, Stream};
use detect::{AGGREGATES, FUNCTIONS, RuleSet, Source, run_tests};

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rules.md");
    std::fs::read_to_string(path).unwrap()
}

fn columns() -> String {
    let mut table = "| column | type | streams | |\n|---|---|---|---|\n".to_owned();
    for column in COLUMNS {
        let streams: Vec<&str> = column.streams.iter().map(|stream| stream.name()).collect();
        let streams = if streams.len() == Stream::ALL.len() {
            "all"
        } else {
            &streams.join(", ")
        };
        let star = if column.is_default() { " *" } else { "" };
        let (name, ty, doc) = (column.name, column.ty.name(), column.doc);
        writeln!(table, "| `{name}`{star} | {ty} | {streams} | {doc} |").unwrap();
    }
    table
}

fn functions() -> String {
    let mut table = "| function | |\n|---|---|\n".to_owned();
    for function in FUNCTIONS {
        writeln!(table, "| `{}` | {} |", function.usage, function.doc).unwrap();
    }
    table
}

fn aggregates() -> String {
    let mut table = "| aggregate | |\n|---|---|\n".to_owned();
    for aggregate in AGGREGATES {
        writeln!(table, "| `{}` | {} |", aggregate.usage, aggregate.doc).unwrap();
    }
    table
}

#[test]
fn tables_are_those_of_the_code() {
    let text = document();
    for table in [columns(), functions(), aggregates()] {
        assert!(
            text.contains(&table),
            "docs/rules.md must contain:\n{table}"
        );
    }
}

#[test]
fn statements_in_the_text_are_valid() {
    let text = document();
    let statements: Vec<&str> = text
        .split("```sql\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(!statements.is_empty());
    for statement in statements {
        let body = statement.replace('\n', "\n  ");
        let text = format!("id: x\ntitle: X\nlevel: low\nsql: |\n  {body}\n");
        let source = Source {
            file: "example",
            text: &text,
        };
        let errors = RuleSet::compile(&[source]).err().unwrap_or_default();
        assert!(errors.is_empty(), "{}", errors[0]);
    }
}

#[test]
fn the_example_is_a_rule_and_passes_its_tests() {
    let text = document();
    let example = text
        .split("```")
        .nth(1)
        .unwrap()
        .strip_prefix("yaml")
        .unwrap();
    let rules = RuleSet::compile(&[Source {
        file: "example",
        text: example,
    }])
    .unwrap();
    let outcomes = run_tests(&rules);
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().all(|outcome| outcome.passed));
}

#[test]
fn the_fields_of_sigma_are_those_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sigma.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut table = "| field | column |\n|---|---|\n".to_owned();
    for (name, column) in detect::sigma::fields(Stream::Exec) {
        let column = match (name, column) {
            ("EventID", _) => "1".to_owned(),
            (_, Some(column)) => format!("`{column}`"),
            (_, None) => "none".to_owned(),
        };
        writeln!(table, "| `{name}` | {column} |").unwrap();
    }
    assert!(
        text.contains(&table),
        "docs/sigma.md must contain:\n{table}"
    );
}
