//! The rules in `rules/`: they compile, are embedded, and do what their tests say.

use std::collections::BTreeMap;

use detect::{RuleSet, Source, run_tests};

fn on_disk() -> BTreeMap<String, String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../rules");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn compiled() -> RuleSet {
    let files = on_disk();
    let sources: Vec<Source<'_>> = files
        .iter()
        .map(|(file, text)| Source { file, text })
        .collect();
    RuleSet::compile(&sources).unwrap_or_else(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"));
    })
}

#[test]
fn every_file_is_embedded_as_it_is() {
    let embedded: BTreeMap<String, String> = detect::shipped()
        .iter()
        .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
        .collect();
    assert_eq!(embedded, on_disk());
}

#[test]
fn every_rule_is_described_and_tested_both_ways() {
    let rules = compiled();
    assert!(rules.rules().len() >= 15);
    for rule in rules.rules() {
        assert!(
            rule.fires >= 1 && rule.silent >= 1,
            "{} lacks tests",
            rule.id
        );
        assert!(
            !rule.description.is_empty(),
            "{} lacks a description",
            rule.id
        );
        assert!(
            !rule.falsepositives.is_empty(),
            "{} lacks false positives",
            rule.id
        );
        assert!(
            rule.tags.iter().any(|tag| tag.starts_with("attack.t")),
            "{} lacks tags",
            rule.id
        );
    }
}

#[test]
fn every_rule_test_passes() {
    let failed: Vec<String> = run_tests(&compiled())
        .into_iter()
        .filter(|outcome| !outcome.passed)
        .map(|o| {
            let wanted = if o.must_fire {
                "must fire"
            } else {
                "must stay silent"
            };
            format!(
                "{}:{}: {} {wanted}: {}",
                o.file, o.line, o.rule_id, o.explanation
            )
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
