//! Findings of published rules on recorded events equal the labels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use detect::sigma::{Os, sysmon};
use detect::{Matcher, Options, RuleSet, Source};
use serde_json::Value;

/// The data is too large for the repository: `DAEMONEYE_SIGMA_DATA`, or `shared/sigma` beside it.
fn data() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/sigma");
    let path = std::env::var_os("DAEMONEYE_SIGMA_DATA").map_or_else(beside, PathBuf::from);
    let found = path.join("rules").is_dir();
    if !found {
        eprintln!("skipped: no Sigma rules at {}", path.display());
    }
    found.then_some(path)
}

fn files(dir: &Path) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yml"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                text,
            )
        })
        .collect();
    files.sort();
    files
}

fn load(files: &[(String, String)], host: Option<Os>) -> RuleSet {
    let sources: Vec<Source<'_>> = files
        .iter()
        .map(|(file, text)| Source { file, text })
        .collect();
    let options = Options {
        host,
        ..Options::default()
    };
    RuleSet::load(&sources, &options).unwrap()
}

#[test]
fn findings_equal_the_labels() {
    let Some(data) = data() else { return };
    check_labels(
        &data.join("rules/windows"),
        &data.join("events/windows.ndjson"),
    );
}

/// Every rule has events that satisfy it and events that nearly do; see the README there.
#[test]
fn findings_equal_those_of_another_engine() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/sigma");
    check_labels(&own.join("rules"), &own.join("events.ndjson"));
}

#[track_caller]
fn check_labels(rules: &Path, events: &Path) {
    let rules = load(&files(rules), None);
    assert!(rules.report().rejected.is_empty());
    let mut matcher = Matcher::new(Arc::new(rules));
    let events = std::fs::read_to_string(events).unwrap();
    let mut wrong = BTreeMap::new();
    let mut labels = 0;
    for (number, line) in events.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let event = sysmon::from_value(&line["event"]).unwrap();
        let mut findings = Vec::new();
        matcher.on_event(&event, number as u64, &mut findings);
        let found: BTreeSet<String> = findings
            .into_iter()
            .map(|f| f.rule_id.to_string())
            .collect();
        let expected: BTreeSet<String> = serde_json::from_value(line["expect"].clone()).unwrap();
        labels += expected.len();
        if found != expected {
            let missing: Vec<_> = expected.difference(&found).cloned().collect();
            let extra: Vec<_> = found.difference(&expected).cloned().collect();
            wrong.insert(number + 1, (missing, extra));
        }
    }
    assert!(labels > 0);
    assert!(wrong.is_empty(), "line: (missing, extra): {wrong:#?}");
}

#[test]
fn every_rule_loads_or_says_why_not() {
    let Some(data) = data() else { return };
    for os in Os::ALL {
        let files = files(&data.join("rules").join(os.name()));
        let rules = load(&files, Some(os));
        let report = rules.report();
        let (loaded, rejected) = (rules.rules().len(), report.rejected_documents);
        let degraded = report.degraded.len();
        let never = report.degraded.iter().filter(|rule| rule.never).count();
        eprintln!(
            "{}: {} files, {loaded} rules, {degraded} degraded ({never} never), {rejected} rejected",
            os.name(),
            files.len()
        );
        for error in &report.rejected {
            eprintln!("  {error}");
        }
        assert_eq!(loaded + rejected, files.len(), "{}", os.name());
        assert!(report.elsewhere.is_empty());
    }
}

/// Rules that can be said in SQL find the same there.
#[test]
fn converted_rules_find_the_same() {
    let Some(data) = data() else { return };
    let rules = load(&files(&data.join("rules/windows")), None);
    let converted: Vec<(String, String)> = rules
        .rules()
        .iter()
        .filter_map(|rule| Some((rule.id.clone(), detect::sigma::to_sql(rule).yaml?)))
        .collect();
    // Some are longer than SQL rules may be.
    let fits = |(id, yaml): &&(String, String)| {
        let source = Source {
            file: id,
            text: yaml,
        };
        match RuleSet::compile(&[source]) {
            Ok(_) => true,
            Err(errors) => {
                let error = errors[0].to_string();
                assert!(error.contains("exceeds the limit"), "{error}\n{yaml}");
                false
            }
        }
    };
    let fitting: Vec<&(String, String)> = converted.iter().filter(fits).collect();
    let sources: Vec<Source<'_>> = fitting
        .iter()
        .map(|(id, yaml)| Source {
            file: id,
            text: yaml,
        })
        .collect();
    let sql = RuleSet::compile(&sources).unwrap();
    eprintln!(
        "{} of {} rules have an equivalent, {} of which fit",
        converted.len(),
        rules.rules().len(),
        fitting.len()
    );
    assert!(fitting.len() * 10 > rules.rules().len() * 9);
    let ids: BTreeSet<&str> = fitting.iter().map(|(id, _)| id.as_str()).collect();
    let (mut sigma, mut sql) = (Matcher::new(Arc::new(rules)), Matcher::new(Arc::new(sql)));
    let events = std::fs::read_to_string(data.join("events/windows.ndjson")).unwrap();
    for (number, line) in events.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let event = sysmon::from_value(&line["event"]).unwrap();
        let found = |matcher: &mut Matcher| {
            let mut findings = Vec::new();
            matcher.on_event(&event, number as u64, &mut findings);
            let found = findings.into_iter().map(|finding| finding.rule_id);
            found
                .filter(|id| ids.contains(&**id))
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(found(&mut sigma), found(&mut sql), "line {}", number + 1);
    }
}
