//! No text and no bytes make this crate panic.

use std::sync::Arc;

use detect::{Matcher, RuleSet, Source};
use event::{
    Ancestor, Argv, Bytes, Container, Digest, Event, EventKind, Exec, Exit, FailedExec, Hashed,
    Header, Process, ProcessKey,
};
use proptest::prelude::*;

fn compile(text: &str) -> Result<RuleSet, Vec<detect::Error>> {
    let result = RuleSet::compile(&[Source { file: "f", text }]);
    for error in result.as_ref().err().into_iter().flatten() {
        let line = error.to_string();
        assert!(!line.contains('\n'), "more than one line: {line}");
        assert!(error.place.line >= 1 && error.place.column >= 1);
        assert!(error.place.line <= lines_of_yaml(text), "{line}");
    }
    result
}

/// With the one that begins after the last line break. A carriage return alone is one, too.
/// <https://yaml.org/spec/1.2.2/#54-line-break-characters>
fn lines_of_yaml(text: &str) -> u64 {
    text.replace("\r\n", "\n").split(['\n', '\r']).count() as u64
}

/// Words of a rule with such line breaks were told to be on a line that the text did not have, as this
/// test counted them.
#[test]
fn lines_end_at_carriage_returns() {
    let errors = compile("\r\r  sel:\n").unwrap_err();
    assert_eq!(errors[0].place.line, 3, "{}", errors[0]);
}

fn shipped() -> RuleSet {
    let sources: Vec<Source<'_>> = detect::shipped()
        .iter()
        .map(|(file, text)| Source { file, text })
        .collect();
    RuleSet::compile(&sources).unwrap()
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "SELECT",
            "*",
            "FROM",
            "exec",
            "exit",
            "WHERE",
            "AND",
            "OR",
            "NOT",
            "IN",
            "(",
            ")",
            ",",
            "LIKE",
            "ILIKE",
            "ESCAPE",
            "BETWEEN",
            "IS",
            "NULL",
            "TRUE",
            "ANY",
            "ALL",
            "=",
            "<>",
            "<",
            "~",
            "!~*",
            "::",
            "[",
            "]",
            "1",
            "-1",
            "'a'",
            "'%'",
            "'!'",
            "\"q\"",
            "E'\\n'",
            "$1",
            "process.name",
            "process.pid",
            "process.args",
            "ancestor.name",
            "ancestor.pid",
            "process",
            ".",
            "lower",
            "coalesce",
            "regexp_like",
            "any_like",
            "CASE",
            "ELSE",
            "GLOB",
            "LIST('x')",
            "+",
            "%",
            "&",
            "||",
            "-",
            "substr(",
            "INTERVAL '1' HOUR",
            "WHEN",
            "THEN",
            "END",
            "CAST",
            "AS",
            "GROUP",
            "BY",
            "TUMBLE(event.time, INTERVAL '1' MINUTE)",
            "HOP(",
            "HAVING",
            "count(*)",
            "FILTER (WHERE",
            "sum",
            "event.time",
            ">=",
            "2.5",
            "ORDER",
            "LIMIT",
            "UNION",
            "JOIN",
            "exec AS a JOIN exit AS b ON a.process.pid = b.process.pid AND",
            "a.process.name",
            "b.event.time",
            "INTERVAL '1' SECOND",
            "ON",
            "WITH",
            "EXISTS",
            "INTERVAL",
            "COLLATE",
            "DISTINCT",
            "AT",
            "TIME",
            "ZONE",
            "EXTRACT",
            "SUBSTRING",
            "TRIM",
            "POSITION",
            "ARRAY",
            "ROW",
            "--",
            "/*",
            "*/",
            ";",
            "\n",
            "{",
            "}",
            "é",
        ])
        .prop_map(str::to_owned),
        "[a-z]{1,4}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_rule_file_or_an_error(text in any::<String>()) {
        let _ = compile(&text);
    }

    #[test]
    fn any_sql_text_is_a_rule_or_an_error(text in any::<String>()) {
        let body = text.replace('\n', "\n  ");
        let _ = compile(&format!("id: x\ntitle: X\nlevel: low\nsql: |\n  {body}\n"));
    }

    #[test]
    fn any_words_are_a_rule_or_an_error(words in prop::collection::vec(word(), 0..40), start in any::<bool>()) {
        let head = if start { "SELECT * FROM exec WHERE " } else { "" };
        let body = words.join(" ").replace('\n', "\n  ");
        let _ = compile(&format!("id: x\ntitle: X\nlevel: low\nsql: |\n  {head}{body}\n"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_damage_to_a_shipped_rule_is_a_rule_or_an_error(
        file in 0..detect::shipped().len(),
        at in any::<prop::sample::Index>(),
        cut in 0usize..20,
        insert in any::<String>(),
    ) {
        let text = detect::shipped()[file].1;
        let mut chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        let end = (at + cut).min(chars.len());
        chars.splice(at..end, insert.chars());
        let _ = compile(&String::from_iter(chars));
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "/usr/bin/bash",
        "/bin/sh",
        "sh",
        "-c",
        "curl x | sh",
        "base64 -d|sh",
        "/dev/tcp/",
        "/tmp/.x",
        "/etc/shadow",
        "nc",
        "-e",
        "[kworker]",
        "/dev/shm/",
        "stratum+tcp://",
        "/usr/sbin/nginx",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        known.prop_map(|text| text.as_bytes().to_vec()),
    ]
}

#[test]
fn any_bytes_are_matched_against_the_shipped_rules() {
    let rules = Arc::new(shipped());
    let strategy = (
        bytes(),
        prop::collection::vec(bytes(), 0..6),
        bytes(),
        prop::collection::vec(any::<u8>(), 0..60),
        bytes(),
    );
    let config = ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let matcher = std::cell::RefCell::new(Matcher::new(rules));
    let result = runner.run(&strategy, |(exe, arguments, filename, block, parent)| {
        let mut findings = Vec::new();
        let process = Process {
            exe: Bytes::from(exe.clone()),
            argv: arguments.into_iter().collect(),
            filename: Bytes::from(filename.clone()),
            environment: Some(Argv::from_block(Bytes::from(block.clone()))),
            file_caps: Some(true),
            exe_changed: true,
            exe_touched: true,
            container: Some(Container {
                id: Bytes::from(filename.clone()),
                ..Container::default()
            }),
            parent_process: Some(Box::new(Ancestor {
                exe: Bytes::from(parent),
                argv: Argv::from_block(Bytes::from(block.clone())),
                ..Ancestor::default()
            })),
            ..Process::default()
        };
        let exec = |process| {
            EventKind::Exec(Box::new(Exec {
                process,
                old_tid: None,
            }))
        };
        let raw = Process {
            argv: Argv::from_block(Bytes::from(block)),
            ..process.clone()
        };
        let exit = Exit {
            exe: Bytes::from(exe.clone()),
            ..Exit::default()
        };
        let failed = FailedExec {
            exe: Bytes::from(exe.clone()),
            filename: Bytes::from(filename),
            ..FailedExec::default()
        };
        let hashed = Hashed {
            key: ProcessKey::default(),
            exe: Bytes::from(exe),
            exe_file: None,
            outcome: Ok(Digest {
                sha256: [7; 32],
                changed: true,
                touched: false,
            }),
        };
        for kind in [
            exec(process),
            exec(raw),
            EventKind::Exit(exit),
            EventKind::FailedExec(Box::new(failed)),
            EventKind::Hashed(Box::new(hashed)),
        ] {
            matcher.borrow_mut().on_event(
                &Event {
                    header: Header::default(),
                    kind,
                },
                0,
                &mut findings,
            );
        }
        Ok(())
    });
    result.unwrap();
}

fn sigma_word() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "title: T\n",
            "id: i\n",
            "logsource:\n",
            "  category: process_creation\n",
            "detection:\n",
            "  sel:\n",
            "  condition: ",
            "sel\n",
            "not ",
            "1 of ",
            "all of ",
            "them",
            "sel*",
            " and ",
            " or ",
            "(",
            ")",
            "    Image",
            "    CommandLine",
            "|contains",
            "|re",
            "|all",
            "|windash",
            "|base64offset",
            "|wide",
            "|cidr",
            "|exists",
            "|fieldref",
            "|expand",
            "|gt",
            "|hour",
            "|i",
            ": ",
            "- ",
            "'*'",
            "'a\\*?'",
            "'%x%'",
            "null",
            "7",
            "[",
            "]",
            "{",
            "}",
            "correlation:\n",
            "  type: temporal\n",
            "  rules: [i]\n",
            "  timespan: 1s\n",
            "filter:\n",
            "---\n",
            "\n",
            " ",
            ",",
        ])
        .prop_map(str::to_owned),
        ".{0,4}",
    ]
}

proptest! {
    #[test]
    fn any_words_are_a_sigma_rule_or_an_error(words in prop::collection::vec(sigma_word(), 0..40)) {
        let whole = words.concat();
        let in_a_rule = format!(
            "title: T\nlogsource: {{category: process_creation}}\ndetection:\n  sel:\n    Image|contains: x\n{whole}\n  condition: sel\n"
        );
        for text in [&whole, &in_a_rule] {
            let Ok(rules) = compile(text) else { continue };
            for error in &rules.report().rejected {
                prop_assert!(!error.to_string().contains('\n'));
                prop_assert!(error.place.line >= 1 && error.place.column >= 1);
            }
            for rule in rules.rules() {
                let _ = detect::sigma::to_sql(rule);
            }
        }
    }

    #[test]
    fn any_json_is_an_event_of_sysmon_or_an_error(text in ".{0,60}", hashes in ".{0,20}", time in "[0-9 :.-]{0,24}") {
        let _ = detect::sigma::sysmon::event(&text);
        let event = serde_json::json!({ "Image": text, "Hashes": hashes, "UtcTime": time });
        prop_assert!(detect::sigma::sysmon::from_value(&event).is_ok());
    }
}
