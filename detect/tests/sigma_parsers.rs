//! What another Sigma parser, rsigma's, takes and ours refuses, and the other way round, each with
//! the reason. What both take alike is also held against each other by what it finds, in
//! `sigma_agreement.rs` and `sigma_labelled.rs`.

use std::path::Path;

use detect::{Options, RuleSet, Source};
use rsigma_parser::{SigmaCollection, parse_sigma_yaml};

/// Number of documents of the text.
fn documents(text: &str) -> usize {
    text.matches("\n---\n").count() + 1
}

/// Why ours refuses the text, with its place.
fn refusal(text: &str) -> Option<String> {
    let source = Source {
        file: "r.yml",
        text,
    };
    let options = Options {
        lists: [("tools".to_owned(), vec!["nc".to_owned()])].into(),
        ..Options::default()
    };
    match RuleSet::load(&[source], &options) {
        Ok(rules) => rules.report().rejected.first().map(ToString::to_string),
        Err(errors) => Some(errors[0].to_string()),
    }
}

/// Whether theirs has every document of the text, whatever it remarks.
fn is_taken(text: &str) -> bool {
    let collection = parse_sigma_yaml(text).unwrap_or_else(|_| SigmaCollection::new());
    let found = collection.rules.len() + collection.correlations.len() + collection.filters.len();
    found == documents(text)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Both,
    Neither,
    /// Theirs does not take it.
    Ours,
    /// Ours refuses it.
    Theirs,
}

#[track_caller]
fn check(text: &str, taken: By, why: &str) {
    let (refusal, theirs) = (refusal(text), is_taken(text));
    let found = match (refusal.is_none(), theirs) {
        (true, true) => By::Both,
        (false, false) => By::Neither,
        (true, false) => By::Ours,
        (false, true) => By::Theirs,
    };
    assert_eq!(found, taken, "{why}: {refusal:?}\n{text}");
    assert_eq!(why.is_empty(), matches!(taken, By::Both), "{text}");
    if let Some(refusal) = refusal {
        let place = refusal.strip_prefix("r.yml:").unwrap();
        let line = place.split(':').next().unwrap().parse::<usize>().unwrap();
        assert!(line <= text.lines().count() + 1, "{refusal}");
    }
}

const HEAD: &str = "title: R\nid: r\nlogsource: {category: process_creation, product: windows}\n";

fn rule(detection: &str) -> String {
    format!("{HEAD}detection:\n{detection}")
}

fn item(item: &str) -> String {
    rule(&format!("  sel:\n    {item}\n  condition: sel\n"))
}

#[test]
fn modifiers_and_values() {
    let both = [
        "Image|contains: a",
        "Image|windash|contains|all: [' -a', ' -b']",
        "Image|utf16le|base64offset|contains: a b",
        "Image|wide|base64: cmd",
        "Image|re|i|m|s: a",
        "Image|cidr: 10.0.0.0/8",
        "Image|fieldref|endswith: User",
        "Image|exists: true",
        "Image|expand: '%tools%'",
        "Image|contains|cased: A",
        "Image|neq: a",
        "ProcessId|lte: 5",
        "UtcTime|hour|gte: 20",
        "Image: null",
        "Image: ''",
        "Image: [1, a, null]",
    ];
    for text in both {
        check(&item(text), By::Both, "");
    }
    for text in ["Image|endwith: a", "Image|: a", "Image|not: a"] {
        check(&item(text), By::Neither, "no such modifier");
    }
    let evaluator = "theirs leaves it to the evaluator, which has no place to tell";
    for text in [
        "Image|contains|re: a",
        "Image|dotall: a",
        "Image|re: '(?=a)'",
        "Image|cidr: 10.0.0/8",
        "ProcessId|gt: a",
        "Image|fieldref: 'a*'",
    ] {
        check(&item(text), By::Theirs, evaluator);
    }
    let silent =
        "theirs takes it without a word, as something that never matches or as another value";
    for text in [
        "Image|base64: 'a*'",
        "Image|exists: maybe",
        "Image|contains: null",
        "Image: {a: b}",
        "Image: [[a]]",
        "Image: []",
        "Image|utf16le: a",
        "Image|expand: '%nolist%'",
    ] {
        check(&item(text), By::Theirs, silent);
    }
    check(
        &item("Image|re: 'a++'"),
        By::Theirs,
        "possessive in PCRE, not in regex",
    );
    check(
        &item("Foo: a"),
        By::Theirs,
        "theirs knows no events, and so no fields",
    );
    check(
        &item("ProcessId: 99999999999999999999"),
        By::Ours,
        "theirs reads 64 bits",
    );
}

#[test]
fn conditions() {
    let of = |condition: &str| {
        rule(&format!(
            "  sel: {{Image: x}}\n  other: {{User: y}}\n  condition: {condition}\n"
        ))
    };
    for condition in [
        "sel and not other",
        "1 of them",
        "all of sel*",
        "any of them",
        "2 of them",
        "(sel or other) and not (sel and other)",
        "[sel, other]",
    ] {
        check(&of(condition), By::Both, "");
    }
    for condition in ["sel and", "''", "5", "sel near other", "sel | count() > 5"] {
        check(&of(condition), By::Neither, "no condition");
    }
    for condition in ["sell", "1 of x*", "0 of them"] {
        check(
            &of(condition),
            By::Theirs,
            "theirs does not look whether there are such selections",
        );
    }
    check(
        &of("sel AND other"),
        By::Ours,
        "the specification does not say that words mind case",
    );
}

#[test]
fn documents_and_their_heads() {
    let sound = item("Image: a");
    let without = |line: &str| sound.replace(line, "");
    check(&sound.replace('\n', "\r\n"), By::Both, "");
    check(
        &rule("  x: &x {Image: a}\n  sel: {<<: *x, User: b}\n  condition: sel\n"),
        By::Both,
        "",
    );
    check(
        &format!("\u{feff}{sound}"),
        By::Ours,
        "a byte order mark is none of the text",
    );
    check(
        &sound.replace("title: R", "title: 7"),
        By::Ours,
        "a number is a title all the same",
    );
    check(&without("title: R\n"), By::Neither, "a title must be there");
    check(
        &without("  condition: sel\n"),
        By::Neither,
        "a condition must be there",
    );
    check(
        &format!("title: Q\n{sound}"),
        By::Neither,
        "a key is there once",
    );
    check(
        &format!("action: x\n{sound}"),
        By::Neither,
        "no such action",
    );
    check("- a\n- b\n", By::Neither, "no rule");
    check(
        &format!("{sound}---\ntitle: [\n"),
        By::Neither,
        "the second is no YAML",
    );
    for (head, why) in [
        ("level: HIGH\n", "theirs remarks it and forgets the level"),
        ("status: done\n", "theirs remarks it and forgets the status"),
        (
            "status: unsupported\n",
            "its author says that it cannot be used",
        ),
        ("taxonomy: ecs\n", "its fields are others than ours"),
    ] {
        check(&format!("{head}{sound}"), By::Theirs, why);
    }
    check(
        &sound.replace("id: r", "id: a b"),
        By::Theirs,
        "ids stand in commands and alerts",
    );
    check(
        &format!("{sound}---\n{sound}"),
        By::Theirs,
        "an alert's id must say which rule it was",
    );
    check(
        &without("logsource: {category: process_creation, product: windows}\n"),
        By::Theirs,
        "theirs asks it of all events",
    );
    check(
        &sound.replace("process_creation", "dns_query"),
        By::Theirs,
        "there are no such events",
    );
    check(
        &format!("{sound}  timeframe: 5m\n"),
        By::Theirs,
        "theirs keeps it and does nothing with it",
    );
    for selection in ["{}", "[]", ""] {
        check(
            &rule(&format!("  sel: {selection}\n  condition: sel\n")),
            By::Theirs,
            "matches everything or nothing; theirs leaves it to the evaluator",
        );
    }
}

#[test]
fn correlations_and_filters() {
    let on = |correlation: &str| {
        let first = item("Image: a").replace("id: r", "id: a\nname: a");
        format!(
            "{first}---\ntitle: C\nid: c\ncorrelation:\n  rules: [a]\n  timespan: 1m\n{correlation}"
        )
    };
    let count = |more: &str| on(&format!("  type: event_count\n{more}"));
    check(
        &count("  group-by: [User]\n  condition: {gte: 3}\n"),
        By::Both,
        "",
    );
    check(&on("  type: temporal\n  condition: a\n"), By::Both, "");
    let ignored = "theirs passes over it, which makes another correlation of it";
    for text in [
        count("  group_by: [User]\n  condition: {gte: 3}\n"),
        count("  condition: {gte: 3, gtee: 4}\n"),
        on("  type: temporal\n  aliases: {x: {zz: User}}\n"),
        count("  condition: {gte: 3}\n").replace("[a]", "[a, a]"),
    ] {
        check(&text, By::Theirs, ignored);
    }
    check(
        &count("  condition: {gte: 3}\n  window: tumbling\n"),
        By::Theirs,
        "an extension of theirs",
    );
    check(
        &count("  condition: {gte: 3}\n").replace("[a]", "[zz]"),
        By::Theirs,
        "theirs leaves it to the evaluator",
    );
    check(
        &count("  condition: {gte: 3}\n").replace("1m", "90"),
        By::Neither,
        "a unit must be there",
    );
    for (kind, bound, why) in [
        (
            "value_max",
            "gte: 3",
            "of the schema of the specification, in no release yet",
        ),
        ("value_avg", "gte: 3.5", "an average need not be whole"),
    ] {
        let text = format!("  type: {kind}\n  condition: {{{bound}, field: ProcessId}}\n");
        check(&on(&text), By::Ours, why);
    }
    let filter = |filter: &str| format!("{}---\ntitle: F\n{filter}", item("Image: a"));
    let rest = "  sel: {User: a}\n  condition: not sel\n";
    let source = "logsource: {category: process_creation}\n";
    check(
        &filter(&format!("{source}filter:\n  rules: any\n{rest}")),
        By::Both,
        "",
    );
    check(
        &filter(&format!("{source}filter:\n{rest}")),
        By::Theirs,
        "theirs takes it for all rules; the specification asks for `rules`",
    );
    check(
        &filter(&format!("filter:\n  rules: any\n{rest}")),
        By::Theirs,
        "theirs takes it for all log sources; the specification asks for one",
    );
    check(
        &filter(&format!("{source}filter:\n  rules: [zz]\n{rest}")),
        By::Theirs,
        "it would do nothing",
    );
}

/// The data is too large for the repository: `DAEMONEYE_SIGMA_DATA`, or `shared/sigma` beside it.
#[test]
fn published_rules_are_taken_by_both() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/sigma");
    let data = std::env::var_os("DAEMONEYE_SIGMA_DATA").map_or(beside, Into::into);
    for os in ["linux", "macos", "windows"] {
        let Ok(entries) = std::fs::read_dir(data.join("rules").join(os)) else {
            eprintln!("skipped: no Sigma rules at {}", data.display());
            return;
        };
        for entry in entries {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            check(&text, By::Both, "");
        }
    }
}
