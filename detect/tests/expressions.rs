//! Regular expressions of both languages, with all that decides about them before they are searched
//! for, agree with the simplest engine there is on the text that stands for them.

use std::sync::Arc;

use detect::{Matcher, RuleSet, Source};
use event::{Bytes, Event, EventKind, Exec, Header, Process};
use proptest::prelude::*;
use regex_automata::nfa::thompson::{self, pikevm::PikeVM};
use regex_automata::util::syntax;

/// What a pattern of a rule consists of, and what that is for the engine.
type Unit = (&'static str, &'static str);

fn same(units: &[&'static str]) -> Vec<Unit> {
    units.iter().map(|unit| (*unit, *unit)).collect()
}

/// What means the same to PCRE and to the engine.
const PLAIN: &[&str] = &[
    "a",
    "ab",
    "k",
    "sK",
    "\u{e9}",
    ".",
    ".*",
    "a+",
    "[ab]",
    "[^a]",
    "[a-f]{17}",
    "a?",
    "(?:ab|k)",
    "(b|\u{e9}){2}",
    r"\b",
    "^",
    r"\A",
    r"\z",
    r"\w",
    r"\S{2,3}",
    r"\x{FFFD}",
    r"[\x{80}-\x{10FFFF}]{3}",
    r"[^\x00-\x7F]",
    "",
];

/// What is translated, by hand: docs of PCRE's pattern syntax on the left, the engine's on the right.
const TRANSLATED: &[Unit] = &[
    ("$", r"(?:\n?\z)"),
    (r"\Z", r"(?:\n?\z)"),
    (
        r"\h",
        r"[\t \u{A0}\u{1680}\u{180E}\u{2000}-\u{200A}\u{202F}\u{205F}\u{3000}]",
    ),
    (r"\R", r"(?:\r\n|\n|\x0B|\x0C|\r|\u{85}|\u{2028}|\u{2029})"),
    (r"\N", r"[^\n]"),
    (r"\<", "<"),
    ("a{,2}", r"a\{,2\}"),
    ("b{x}", r"b\{x\}"),
    ("[[a]", r"[\[a]"),
    ("[a&&b]", r"[ab\&]"),
    ("[]a]", r"[\]a]"),
    (r"\Qa.*\E", r"a\.\*"),
    ("(?#b)", ""),
    (r"\e?", r"(?:\x1B)?"),
    (r"\0", r"\x00"),
];

fn pattern(units: Vec<Unit>) -> impl Strategy<Value = (String, String)> {
    let units = prop::collection::vec(prop::sample::select(units), 1..5);
    units.prop_map(|units| {
        let text = |of: fn(&Unit) -> &'static str| units.iter().map(of).collect();
        (text(|unit| unit.0), text(|unit| unit.1))
    })
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        &b"a"[..],
        b"b",
        b"ab",
        b"k",
        b"S",
        b"K",
        b" ",
        b"\n",
        b"\r\n",
        b"<",
        b"[",
        b"{x}",
        b"{,2}",
        b"a.*",
        b"\x1b",
        b"\0",
        b"\xff",
        b"\xff\xff\xff",
        b"\xe2\x82",
        "\u{e9}".as_bytes(),
        "\u{212a}".as_bytes(),
        "\u{17f}".as_bytes(),
        "\u{2028}".as_bytes(),
        b"abcdefabcdefabcdefab",
    ]);
    prop::collection::vec(part, 1..6).prop_map(|parts| parts.concat())
}

fn exec(exe: &[u8]) -> Event {
    Event {
        header: Header::default(),
        kind: EventKind::Exec(Box::new(Exec {
            process: Process {
                exe: Bytes::from(exe.to_vec()),
                ..Process::default()
            },
            old_tid: None,
        })),
    }
}

/// On each of the texts, whether the one rule fires; nothing where there is none.
fn fires(file: &str, rule: &str, texts: &[Vec<u8>]) -> Option<Vec<bool>> {
    let source = Source { file, text: rule };
    let rules = RuleSet::compile(&[source]).ok()?;
    if rules.rules().is_empty() {
        return None;
    }
    let mut matcher = Matcher::new(Arc::new(rules));
    let fires = texts.iter().map(|text| {
        let mut findings = Vec::new();
        matcher.on_event(&exec(text), 0, &mut findings);
        !findings.is_empty()
    });
    Some(fires.collect())
}

/// Nothing but the automaton, one step a byte.
fn simplest(pattern: &str, syntax: syntax::Config, texts: &[Vec<u8>]) -> Option<Vec<bool>> {
    let engine = PikeVM::builder()
        .syntax(syntax.utf8(false))
        .thompson(thompson::Config::new().utf8(false))
        .build(pattern)
        .ok()?;
    let mut cache = engine.create_cache();
    Some(
        texts
            .iter()
            .map(|text| engine.is_match(&mut cache, text))
            .collect(),
    )
}

/// In YAML, and there in SQL.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// It counted as many bytes as the least character of the class, and the text was too short.
#[test]
fn a_byte_that_is_no_character_is_as_long_as_one() {
    let rule = |pattern: &str| {
        format!(
            "title: T\nlogsource: {{category: process_creation}}\ndetection:\n  sel:\n    \
             Image|re: {}\n  condition: sel\n",
            quoted(pattern)
        )
    };
    for pattern in [r"[\x{80}-\x{10FFFF}]{3}", r"\x{FFFD}+", r"^\P{L}{3}$"] {
        let texts = [b"\xff\xff\xff".to_vec()];
        assert_eq!(
            fires("r.yml", &rule(pattern), &texts),
            Some(vec![true]),
            "{pattern}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 700, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn expressions_of_sigma_agree_with_the_simplest_engine(
        (pcre, translated) in pattern([same(PLAIN), TRANSLATED.to_vec()].concat()),
        ignores_case in any::<bool>(),
        texts in prop::collection::vec(text(), 1..8),
    ) {
        let flag = if ignores_case { "|i" } else { "" };
        let rule = format!(
            "title: T\nlogsource: {{category: process_creation}}\ndetection:\n  sel:\n    \
             Image|re{flag}: {}\n  condition: sel\n",
            quoted(&pcre)
        );
        let syntax = syntax::Config::new().case_insensitive(ignores_case);
        // A byte that belongs to no character counts as one.
        let lossy = texts.iter().map(|text| String::from_utf8_lossy(text).into_owned().into_bytes());
        let lossy: Vec<Vec<u8>> = lossy.collect();
        let fires = fires("r.yml", &rule, &texts);
        let expected = simplest(&translated, syntax, &lossy);
        prop_assert_eq!(fires, expected, "{} as {} on {:?}", pcre, translated, texts);
    }

    #[test]
    fn expressions_of_sql_agree_with_the_simplest_engine(
        (pattern, _) in pattern(same(PLAIN)),
        ignores_case in any::<bool>(),
        negated in any::<bool>(),
        texts in prop::collection::vec(text(), 1..8),
    ) {
        let operator = match (negated, ignores_case) {
            (false, false) => "~",
            (false, true) => "~*",
            (true, false) => "!~",
            (true, true) => "!~*",
        };
        let sql = format!("SELECT process.pid FROM exec WHERE process.executable {operator} '{pattern}'");
        let rule = format!("id: r\ntitle: T\nlevel: low\nsql: {}\n", quoted(&sql));
        let syntax = syntax::Config::new()
            .unicode(false)
            .dot_matches_new_line(true)
            .case_insensitive(ignores_case);
        let fires = fires("r.yaml", &rule, &texts);
        let expected = simplest(&pattern, syntax, &texts);
        let expected: Option<Vec<bool>> =
            expected.map(|found| found.into_iter().map(|found| found != negated).collect());
        prop_assert_eq!(fires, expected, "{} on {:?}", sql, texts);
    }
}
