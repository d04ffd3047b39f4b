//! The compiled matcher and a naive evaluator agree on random rules and events. The evaluator
//! below shares nothing with the crate: it has its own tree, its own three-valued logic and a
//! recursive `LIKE`.

use std::sync::Arc;

use detect::{Matcher, RuleSet, Source};
use event::{
    Ancestor, Argv, Bytes, Credentials, Event, EventKind, Exec, FileIdentity, Header, Process,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Cond {
    And(Vec<Cond>),
    Or(Vec<Cond>),
    Not(Box<Cond>),
    IsTrue(Box<Cond>),
    Like {
        of: Text,
        pattern: String,
        ignore_case: bool,
        negated: bool,
    },
    Equal {
        of: Text,
        text: String,
        negated: bool,
    },
    In {
        of: Text,
        texts: Vec<String>,
        negated: bool,
    },
    Function {
        name: &'static str,
        of: Text,
        part: String,
    },
    Regex {
        of: Text,
        texts: Vec<String>,
        ignore_case: bool,
    },
    AnyRegex(Vec<String>),
    AnyEqual(&'static str, String),
    AnyLike(&'static str, String),
    IsNull(Text),
    Uid(&'static str, u32),
    /// `uid * a % b = c`
    Arithmetic(u32, u32, u32),
    IsMemfd,
}

#[derive(Debug, Clone)]
enum Text {
    Column(&'static str),
    Lower(Box<Text>),
    Upper(Box<Text>),
    Basename(Box<Text>),
    Argument(usize),
    Coalesce(&'static str, String),
    Joined(Box<Text>, Box<Text>),
    From(Box<Text>, usize),
    Case(u32, Box<Text>, Option<String>),
}

const COLUMNS: [&str; 8] = [
    "process.name",
    "process.executable",
    "process.command_line",
    "process.working_directory",
    "process.user",
    "parent.name",
    "parent.command_line",
    "process.unit",
];

impl Text {
    fn sql(&self) -> String {
        match self {
            Self::Column(name) => (*name).to_owned(),
            Self::Lower(inner) => format!("lower({})", inner.sql()),
            Self::Upper(inner) => format!("upper({})", inner.sql()),
            Self::Basename(inner) => format!("basename({})", inner.sql()),
            Self::Argument(index) => format!("process.args[{index}]"),
            Self::Coalesce(name, text) => format!("coalesce({name}, '{text}')"),
            Self::Joined(left, right) => format!("({} || {})", left.sql(), right.sql()),
            Self::From(inner, from) => format!("substr({}, {from})", inner.sql()),
            Self::Case(uid, inner, otherwise) => {
                let otherwise = otherwise.as_ref().map(|text| format!(" ELSE '{text}'"));
                let otherwise = otherwise.unwrap_or_default();
                format!(
                    "CASE process.uid WHEN {uid} THEN {}{otherwise} END",
                    inner.sql()
                )
            }
        }
    }

    fn value(&self, process: &Process) -> Option<Vec<u8>> {
        match self {
            Self::Column(name) => value_of(name, process),
            Self::Lower(inner) => Some(map(&inner.value(process)?, char::to_ascii_lowercase, 'é')),
            Self::Upper(inner) => Some(map(&inner.value(process)?, char::to_ascii_uppercase, 'É')),
            Self::Basename(inner) => inner.value(process).map(|path| base(&path)),
            Self::Argument(index) => process.argv.iter().nth(index - 1).map(<[u8]>::to_vec),
            Self::Coalesce(name, text) => {
                value_of(name, process).or_else(|| Some(text.clone().into_bytes()))
            }
            Self::Joined(left, right) => {
                Some([left.value(process)?, right.value(process)?].concat())
            }
            Self::From(inner, from) => {
                let text = inner.value(process)?;
                let units = units(&text).into_iter().skip(from - 1);
                Some(units.flat_map(bytes_of).collect())
            }
            Self::Case(uid, inner, otherwise) => {
                if process.credentials.is_some_and(|ids| ids.uid == *uid) {
                    inner.value(process)
                } else {
                    otherwise.clone().map(String::into_bytes)
                }
            }
        }
    }
}

fn bytes_of(unit: u32) -> Vec<u8> {
    match char::from_u32(unit) {
        Some(c) => c.to_string().into_bytes(),
        None => vec![u8::try_from(unit - STRAY).unwrap()],
    }
}

fn base(path: &[u8]) -> Vec<u8> {
    path[path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1)..].to_vec()
}

/// The only letters beyond ASCII in these tests are é and É.
fn map(text: &[u8], ascii: fn(&char) -> char, e: char) -> Vec<u8> {
    let mut out = Vec::new();
    for unit in units(text) {
        match char::from_u32(unit) {
            Some('é' | 'É') => out.extend(e.to_string().into_bytes()),
            Some(c) => out.extend(ascii(&c).to_string().into_bytes()),
            None => out.push(u8::try_from(unit - STRAY).unwrap()),
        }
    }
    out
}

fn value_of(name: &str, process: &Process) -> Option<Vec<u8>> {
    let some = |bytes: &[u8]| (!bytes.is_empty()).then(|| bytes.to_vec());
    let joined = |argv: &Argv| (!argv.is_empty()).then(|| argv.joined());
    let parent = process.parent_process.as_ref();
    match name {
        "process.name" => some(&base(&process.exe)),
        "process.executable" => some(&process.exe),
        "process.command_line" => joined(&process.argv),
        "process.working_directory" => some(process.cwd.as_ref()?),
        "process.user" => some(process.user.as_ref()?),
        "parent.name" => some(&base(&parent?.exe)),
        "parent.command_line" => joined(&parent?.argv),
        "process.unit" => some(process.unit.as_ref()?),
        _ => unreachable!("no such column in this test"),
    }
}

/// Unlike arguments, an environment that is known may be empty.
fn elements(list: &str, process: &Process) -> Option<Argv> {
    match list {
        "process.environment" => process.environment.clone(),
        _ => (!process.argv.is_empty()).then(|| process.argv.clone()),
    }
}

const STRAY: u32 = 0x11_0000;

/// Characters, and bytes that belong to none above them.
fn units(text: &[u8]) -> Vec<u32> {
    let mut out = Vec::new();
    for chunk in text.utf8_chunks() {
        out.extend(chunk.valid().chars().map(u32::from));
        out.extend(chunk.invalid().iter().map(|byte| STRAY + u32::from(*byte)));
    }
    out
}

fn fold(unit: u32) -> u32 {
    match char::from_u32(unit) {
        Some('É') => u32::from('é'),
        Some(c) => u32::from(c.to_ascii_lowercase()),
        None => unit,
    }
}

fn like(pattern: &[char], text: &[u32], ignore_case: bool) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some(('%', rest)), _) => {
            (0..=text.len()).any(|skip| like(rest, &text[skip..], ignore_case))
        }
        (Some((want, rest)), Some((unit, more))) => {
            let same = *want == '_'
                || u32::from(*want) == *unit
                || ignore_case && fold(u32::from(*want)) == fold(*unit);
            same && like(rest, more, ignore_case)
        }
        _ => false,
    }
}

fn is_like(pattern: &str, text: &[u8], ignore_case: bool) -> bool {
    like(
        &pattern.chars().collect::<Vec<_>>(),
        &units(text),
        ignore_case,
    )
}

/// The texts occur one after the other.
fn in_order(text: &[u8], parts: &[String], ignore_case: bool) -> bool {
    let mut rest = text;
    parts.iter().all(|part| {
        let part = part.as_bytes();
        let same = |at: &usize| match rest[*at..].get(..part.len()) {
            Some(here) => here == part || ignore_case && here.eq_ignore_ascii_case(part),
            None => false,
        };
        match (0..=rest.len()).find(same) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        }
    })
}

impl Cond {
    fn sql(&self) -> String {
        let join = |parts: &[Self], word: &str| {
            let parts: Vec<String> = parts.iter().map(Self::sql).collect();
            format!("({})", parts.join(word))
        };
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match self {
            Self::And(parts) => join(parts, " AND "),
            Self::Or(parts) => join(parts, " OR "),
            Self::Not(inner) => format!("NOT ({})", inner.sql()),
            Self::IsTrue(inner) => format!("({}) IS TRUE", inner.sql()),
            Self::Like {
                of,
                pattern,
                ignore_case,
                negated,
            } => {
                let word = if *ignore_case { "ILIKE" } else { "LIKE" };
                format!("{} {}{word} '{pattern}'", of.sql(), not(negated))
            }
            Self::Equal { of, text, negated } => {
                format!(
                    "{} {} '{text}'",
                    of.sql(),
                    if *negated { "<>" } else { "=" }
                )
            }
            Self::In { of, texts, negated } => {
                format!("{} {}IN ('{}')", of.sql(), not(negated), texts.join("', '"))
            }
            Self::Function { name, of, part } => format!("{name}({}, '{part}')", of.sql()),
            Self::Regex {
                of,
                texts,
                ignore_case,
            } => {
                let flag = if *ignore_case { ", 'i'" } else { "" };
                format!("regexp_like({}, '{}'{flag})", of.sql(), texts.join(".*"))
            }
            Self::AnyRegex(texts) => {
                format!("any_regexp_like(process.args, '^({})$')", texts.join("|"))
            }
            Self::AnyEqual(list, text) => format!("'{text}' = ANY({list})"),
            Self::AnyLike(list, pattern) => format!("any_like({list}, '{pattern}')"),
            Self::IsNull(of) => format!("{} IS NULL", of.sql()),
            Self::Uid(comparison, uid) => format!("process.uid {comparison} {uid}"),
            Self::Arithmetic(a, b, c) => format!("process.uid * {a} % {b} = {c}"),
            Self::IsMemfd => "process.is_memfd".to_owned(),
        }
    }

    fn truth(&self, process: &Process) -> Option<bool> {
        let arguments = || (!process.argv.is_empty()).then(|| process.argv.iter());
        match self {
            Self::And(parts) => {
                let truths: Vec<_> = parts.iter().map(|part| part.truth(process)).collect();
                match truths {
                    t if t.contains(&Some(false)) => Some(false),
                    t if t.contains(&None) => None,
                    _ => Some(true),
                }
            }
            Self::Or(parts) => {
                let not = |part: &Self| Self::Not(Box::new(part.clone()));
                Self::And(parts.iter().map(not).collect())
                    .truth(process)
                    .map(|truth| !truth)
            }
            Self::Not(inner) => inner.truth(process).map(|truth| !truth),
            Self::IsTrue(inner) => Some(inner.truth(process) == Some(true)),
            Self::Like {
                of,
                pattern,
                ignore_case,
                negated,
            } => Some(is_like(pattern, &of.value(process)?, *ignore_case) != *negated),
            Self::Equal { of, text, negated } => {
                Some((of.value(process)? == text.as_bytes()) != *negated)
            }
            Self::In { of, texts, negated } => {
                let value = of.value(process)?;
                Some(texts.iter().any(|text| text.as_bytes() == value) != *negated)
            }
            Self::Function { name, of, part } => {
                let value = of.value(process)?;
                let part = part.as_bytes();
                Some(match *name {
                    "starts_with" => value.starts_with(part),
                    "ends_with" => value.ends_with(part),
                    _ => (0..=value.len()).any(|at| value[at..].starts_with(part)),
                })
            }
            Self::Regex {
                of,
                texts,
                ignore_case,
            } => Some(in_order(&of.value(process)?, texts, *ignore_case)),
            Self::AnyRegex(texts) => {
                Some(arguments()?.any(|a| texts.iter().any(|text| a == text.as_bytes())))
            }
            Self::AnyEqual(list, text) => Some(
                elements(list, process)?
                    .iter()
                    .any(|a| a == text.as_bytes()),
            ),
            Self::AnyLike(list, pattern) => Some(
                elements(list, process)?
                    .iter()
                    .any(|a| is_like(pattern, a, false)),
            ),
            Self::IsNull(of) => Some(of.value(process).is_none()),
            Self::Uid(comparison, uid) => {
                let mine = process.credentials?.uid;
                Some(match *comparison {
                    "<" => mine < *uid,
                    ">=" => mine >= *uid,
                    _ => mine == *uid,
                })
            }
            Self::Arithmetic(a, b, c) => {
                let product = process.credentials?.uid * a;
                (*b != 0).then(|| product % b == *c)
            }
            Self::IsMemfd => Some(process.exe_file?.memfd),
        }
    }
}

fn literal() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::collection::vec(prop_oneof![Just('a'), Just('b'), Just('A'), Just('/'),
            Just('é'), Just('É'), Just(' '), Just('k'), Just('\u{212a}')], 0..4)
            .prop_map(String::from_iter),
        1 => prop_oneof![Just("sh".to_owned()), Just("/bin/sh".to_owned()), Just("ab".to_owned())],
    ]
}

fn pattern() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof![literal(), Just("%".to_owned()), Just("_".to_owned())],
        0..4,
    )
    .prop_map(|parts| parts.concat())
}

fn column() -> impl Strategy<Value = Text> {
    prop::sample::select(COLUMNS.to_vec()).prop_map(Text::Column)
}

fn separated() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["/sh", "/AB", "a/sh", "/a/b", "/"]).prop_map(str::to_owned)
}

fn of() -> impl Strategy<Value = Text> {
    let leaf = prop_oneof![
        6 => column(),
        1 => (1usize..4).prop_map(Text::Argument),
        1 => (prop::sample::select(COLUMNS.to_vec()), literal())
            .prop_map(|(name, text)| Text::Coalesce(name, text)),
    ];
    leaf.prop_recursive(2, 4, 1, |inner| {
        prop_oneof![
            inner.clone().prop_map(|of| Text::Lower(Box::new(of))),
            inner.clone().prop_map(|of| Text::Upper(Box::new(of))),
            (inner.clone(), inner.clone())
                .prop_map(|(left, right)| Text::Joined(Box::new(left), Box::new(right))),
            (inner.clone(), 1usize..4).prop_map(|(of, from)| Text::From(Box::new(of), from)),
            (0u32..3, inner.clone(), prop::option::of(literal()))
                .prop_map(|(uid, of, otherwise)| Text::Case(uid, Box::new(of), otherwise)),
            inner.prop_map(|of| Text::Basename(Box::new(of))),
        ]
    })
}

fn cond() -> impl Strategy<Value = Cond> {
    let function = prop::sample::select(vec!["starts_with", "ends_with", "contains"]);
    let comparison = prop::sample::select(vec!["=", "<", ">="]);
    let list = || prop::sample::select(vec!["process.args", "process.environment"]);
    let leaf = prop_oneof![
        4 => (of(), pattern(), any::<bool>(), any::<bool>()).prop_map(
            |(of, pattern, ignore_case, negated)| Cond::Like { of, pattern, ignore_case, negated }),
        3 => (of(), literal(), any::<bool>())
            .prop_map(|(of, text, negated)| Cond::Equal { of, text, negated }),
        2 => (of(), prop::collection::vec(literal(), 1..4), any::<bool>())
            .prop_map(|(of, texts, negated)| Cond::In { of, texts, negated }),
        2 => (function, of(), literal())
            .prop_map(|(name, of, part)| Cond::Function { name, of, part }),
        2 => (of(), prop::collection::vec(literal(), 1..3), any::<bool>())
            .prop_map(|(of, texts, ignore_case)| Cond::Regex { of, texts, ignore_case }),
        1 => prop::collection::vec(literal(), 1..3).prop_map(Cond::AnyRegex),
        2 => (list(), literal()).prop_map(|(list, text)| Cond::AnyEqual(list, text)),
        2 => (list(), pattern()).prop_map(|(list, pattern)| Cond::AnyLike(list, pattern)),
        1 => of().prop_map(Cond::IsNull),
        1 => (comparison, 0u32..3).prop_map(|(comparison, uid)| Cond::Uid(comparison, uid)),
        1 => (0u32..3, 0u32..3, 0u32..2).prop_map(|(a, b, c)| Cond::Arithmetic(a, b, c)),
        1 => Just(Cond::IsMemfd),
        1 => (column(), prop::collection::vec(literal(), 4..8)).prop_map(any_contains),
        1 => (column(), separated()).prop_map(|(of, end)| Cond::Like {
            of,
            pattern: format!("%{end}"),
            ignore_case: true,
            negated: false,
        }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            2 => prop::collection::vec(inner.clone(), 2..4).prop_map(Cond::And),
            2 => prop::collection::vec(inner.clone(), 2..4).prop_map(Cond::Or),
            1 => inner.clone().prop_map(|c| Cond::Not(Box::new(c))),
            1 => inner.prop_map(|c| Cond::IsTrue(Box::new(c))),
        ]
    })
}

/// So many alternatives that they are searched for together.
fn any_contains((of, texts): (Text, Vec<String>)) -> Cond {
    let like = |text| Cond::Like {
        of: of.clone(),
        pattern: format!("%{text}%"),
        ignore_case: true,
        negated: false,
    };
    Cond::Or(texts.into_iter().map(like).collect())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let stray = prop_oneof![Just(vec![0xff]), Just(vec![0xc3]), Just(vec![0xe2, 0x84])];
    prop::collection::vec(
        prop_oneof![5 => literal().prop_map(String::into_bytes), 1 => stray],
        0..4,
    )
    .prop_map(|parts| parts.concat())
}

fn argv() -> impl Strategy<Value = Argv> {
    prop::collection::vec(bytes(), 0..4).prop_map(|arguments| arguments.into_iter().collect())
}

fn process() -> impl Strategy<Value = Process> {
    let optional = || prop::option::of(bytes().prop_map(Bytes::from));
    let parent = prop::option::of((bytes(), argv()));
    (
        bytes(),
        argv(),
        optional(),
        optional(),
        prop::option::of(0u32..3),
        any::<bool>(),
        parent,
        (optional(), prop::option::of(argv())),
    )
        .prop_map(
            |(exe, argv, cwd, user, uid, memfd, parent, (unit, environment))| Process {
                unit,
                environment,
                exe: Bytes::from(exe),
                argv,
                cwd,
                user,
                credentials: uid.map(|uid| Credentials {
                    uid,
                    ..Credentials::default()
                }),
                exe_file: Some(FileIdentity {
                    memfd,
                    ..FileIdentity::default()
                }),
                parent_process: parent.map(|(exe, argv)| {
                    Box::new(Ancestor {
                        exe: Bytes::from(exe),
                        argv,
                        ..Ancestor::default()
                    })
                }),
                ..Process::default()
            },
        )
}

fn exec(process: Process) -> Event {
    let kind = EventKind::Exec(Box::new(Exec {
        process,
        old_tid: None,
    }));
    Event {
        header: Header::default(),
        kind,
    }
}

fn rule(index: usize, condition: &str) -> String {
    format!(
        "id: r{index}\ntitle: R\nlevel: low\nsql: |\n  SELECT * FROM exec WHERE {condition}\n---\n"
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn matcher_agrees_with_a_naive_evaluator(
        conditions in prop_oneof![
            200 => prop::collection::vec(cond(), 1..8),
            1 => prop::collection::vec(cond(), 60..140),
        ],
        processes in prop::collection::vec(process(), 1..6),
    ) {
        let text: String =
            conditions.iter().enumerate().map(|(index, c)| rule(index, &c.sql())).collect();
        let rules = RuleSet::compile(&[Source { file: "r", text: &text }])
            .map_err(|errors| TestCaseError::fail(errors[0].to_string()))?;
        let mut matcher = Matcher::new(Arc::new(rules));
        // Twice: the second time results are remembered.
        let again = processes.clone();
        for process in processes.into_iter().chain(again) {
            let expected: Vec<String> = conditions
                .iter()
                .enumerate()
                .filter(|(_, condition)| condition.truth(&process) == Some(true))
                .map(|(index, _)| format!("r{index}"))
                .collect();
            let mut findings = Vec::new();
            matcher.on_event(&exec(process.clone()), 7, &mut findings);
            let found: Vec<String> = findings.into_iter().map(|f| f.rule_id.to_string()).collect();
            prop_assert_eq!(found, expected, "{} on {:?}", text, process);
        }
    }
}
