//! What an event must show for a condition to be true, as texts that can be looked for.

use std::cmp::Reverse;

use crate::catalog::Field;
use crate::ir::{Comparison, Function, Pattern, Predicate, Scalar};
use crate::like::{Like, Token};
use crate::regex_literals::{required_chars, required_texts};
use crate::text::{SEPARATORS, fold_text, parse_hex};
use crate::view::DIGESTS;

/// Facts are looked for in so many independent groups: of each, one must be seen.
pub(crate) const GROUPS: usize = 3;

/// A group that is seen in most events anyway is not worth looking for.
const MAX_EXPECTED_HITS: u32 = 5000;

/// Something about one column. Letter case is folded away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fact {
    pub(crate) field: Field,
    pub(crate) kind: Kind,
    pub(crate) text: Box<[u8]>,
}

/// How the column relates to the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// It is the text.
    Equal,
    /// Its last separator and what follows are the text.
    Base,
    /// It contains the text.
    Contains,
    /// It is the digest of which the text is the bytes.
    Digest,
}

/// Facts of which at least one holds whenever the condition is true.
pub(crate) type Group = Vec<Fact>;

/// At most [`GROUPS`] groups, the least likely to be seen first.
pub(crate) fn groups<'p>(conditions: impl Iterator<Item = &'p Predicate>) -> Vec<Group> {
    let mut all = best(conditions.flat_map(of).collect());
    all.retain(|group| expected_hits(group) < MAX_EXPECTED_HITS);
    all
}

/// The facts of a leaf, if it is false wherever its one column is known and none of them is seen.
pub(crate) fn of_leaf(leaf: &Predicate) -> Option<(Field, Group)> {
    let (Predicate::Matches(value, _)
    | Predicate::TextIn(value, _)
    | Predicate::Compare(value, Comparison::Equal, _)) = leaf
    else {
        return None;
    };
    let field = sole_field(value)?;
    let group = of(leaf).into_iter().next()?;
    Some((field, group))
}

/// The column that such an expression is known with.
fn sole_field(value: &Scalar) -> Option<Field> {
    match value {
        Scalar::Field(field) => Some(*field),
        Scalar::Call(
            Function::Lower | Function::Upper | Function::Basename | Function::Dirname,
            arguments,
        ) => sole_field(arguments.first()?),
        _ => None,
    }
}

fn best(mut groups: Vec<Group>) -> Vec<Group> {
    groups.sort_by_cached_key(expected_hits);
    groups.dedup();
    groups.truncate(GROUPS);
    groups
}

/// Any one set of texts will do: the one least likely to be seen.
pub(crate) fn rarest(sets: impl Iterator<Item = Vec<Box<[u8]>>>) -> Option<Vec<Box<[u8]>>> {
    sets.min_by_key(|set| set.iter().map(|text| hits(text)).sum::<u32>())
}

fn expected_hits(group: &Group) -> u32 {
    let one = |fact: &Fact| match (fact.kind, fact.field) {
        (Kind::Contains, _) => hits(&fact.text),
        // Few values that many events share.
        (_, Field::IntegrityLevel) => 300,
        (_, Field::Company | Field::Product | Field::User) => 100,
        (Kind::Equal | Kind::Base | Kind::Digest, _) => 1,
    };
    group.iter().map(one).fold(0, u32::saturating_add)
}

/// Whatever is part of these occurs in most events of Windows.
const EVERYWHERE: [&[u8]; 3] = [
    br"c:\windows\system32\",
    br#".exe" "#,
    br"nt authority\system",
];

/// Such a text is not worth looking for.
fn is_everywhere(text: &[u8]) -> bool {
    let mut all = EVERYWHERE.iter();
    all.any(|ordinary| memchr::memmem::find(ordinary, text).is_some())
}

/// Rough, in thousandths of events: short texts occur by chance, scripts other than Latin hardly.
fn hits(text: &[u8]) -> u32 {
    if !text.is_ascii() {
        return 1;
    }
    if is_everywhere(text) {
        return MAX_EXPECTED_HITS;
    }
    match text.len() {
        0..=1 => 1000,
        2 => 300,
        3 => 80,
        4 => 30,
        5..=6 => 10,
        7..=9 => 4,
        _ => 2,
    }
}

fn of(predicate: &Predicate) -> Vec<Group> {
    match predicate {
        Predicate::And(parts) => best(parts.iter().flat_map(of).collect()),
        Predicate::Or(parts) => of_any(parts),
        Predicate::Is(inner, Some(true)) => of(inner),
        leaf => {
            let group = group(leaf).into_iter();
            let worthwhile = |group: &Group| expected_hits(group) < MAX_EXPECTED_HITS;
            group.filter(worthwhile).collect()
        }
    }
}

/// The first groups of all parts make one, so do the second ones, …
fn of_any(parts: &[Predicate]) -> Vec<Group> {
    let parts: Vec<Vec<Group>> = parts.iter().map(of).collect();
    if parts.iter().any(Vec::is_empty) {
        return Vec::new();
    }
    let most = parts.iter().map(Vec::len).max().unwrap_or(0);
    (0..most)
        .map(|position| {
            let of_part = |groups: &Vec<Group>| groups[position.min(groups.len() - 1)].clone();
            let mut group: Group = parts.iter().flat_map(of_part).collect();
            group.sort_unstable();
            group.dedup();
            group
        })
        .collect()
}

fn group(leaf: &Predicate) -> Option<Group> {
    match leaf {
        Predicate::TextIn(value, texts) => texts.iter().map(|text| equal(value, text)).collect(),
        Predicate::Compare(value, Comparison::Equal, Scalar::Text(text)) => {
            Some(vec![equal(value, text)?])
        }
        Predicate::Matches(value, Pattern::Like(like)) => Some(vec![of_like(value, like)?]),
        Predicate::Matches(value, Pattern::Regex(regex)) => required_texts(regex.as_str())?
            .iter()
            .map(|text| part(value, text))
            .collect(),
        Predicate::Matches(value, Pattern::Chars(regex)) => required_chars(regex.as_str())?
            .iter()
            .map(|text| part(value, text))
            .collect(),
        Predicate::AnyEquals(array, Scalar::Text(text)) => {
            Some(vec![contains(line_of(array)?, text)?])
        }
        Predicate::AnyMatches(array, Pattern::Like(like)) => Some(vec![contains(
            line_of(array)?,
            rarest_literal(like).as_bytes(),
        )?]),
        Predicate::AnyMatches(array, Pattern::Regex(regex)) => {
            let line = line_of(array)?;
            let texts = required_texts(regex.as_str())?;
            texts.iter().map(|text| contains(line, text)).collect()
        }
        _ => None,
    }
}

/// The fact that says exactly what the pattern says of the column, if there is one.
pub(crate) fn exact(field: Field, like: &Like) -> Option<Fact> {
    let literal = literal(like)?;
    let text = literal.text.as_bytes();
    let fact = match (literal.open_start, literal.open_end) {
        (false, false) => equal_to(field, text),
        (true, true) => contains(field, text)?,
        (true, false) if base_of(text).is_some_and(|base| base.len() == text.len()) => {
            Fact::new(field, Kind::Base, text)
        }
        _ => return None,
    };
    (like.ignore_case() && !text.is_empty()).then_some(fact)
}

/// A pattern that is one run of characters.
pub(super) struct Literal {
    pub(super) open_start: bool,
    pub(super) text: String,
    pub(super) open_end: bool,
}

/// `None` if wildcards stand elsewhere than at its ends.
pub(super) fn literal(like: &Like) -> Option<Literal> {
    let tokens = like.tokens();
    let inner = tokens.strip_prefix(&[Token::Many]).unwrap_or(tokens);
    let inner = inner.strip_suffix(&[Token::Many]).unwrap_or(inner);
    let text = inner.iter().map(|token| match token {
        Token::Char(c) => Some(*c),
        Token::One | Token::Many => None,
    });
    Some(Literal {
        open_start: tokens.first() == Some(&Token::Many),
        text: text.collect::<Option<String>>()?,
        open_end: tokens.last() == Some(&Token::Many),
    })
}

/// The run of characters that fewest events hold and every match contains, but for their case.
fn rarest_literal(like: &Like) -> String {
    let mut runs = vec![String::new()];
    for token in like.tokens() {
        match (token, runs.last_mut()) {
            (Token::Char(c), Some(run)) => run.push(*c),
            _ => runs.push(String::new()),
        }
    }
    let rarest = |run: &String| {
        (
            hits(run.to_ascii_lowercase().as_bytes()),
            Reverse(run.len()),
        )
    };
    let runs = runs.into_iter().filter(|run| !run.is_empty());
    runs.min_by_key(rarest).unwrap_or_default()
}

fn of_like(value: &Scalar, like: &Like) -> Option<Fact> {
    match literal(like) {
        Some(Literal {
            open_start: false,
            text,
            open_end: false,
        }) => equal(value, text.as_bytes()),
        Some(Literal {
            open_start: true,
            text,
            open_end: false,
        }) => suffix(value, text.as_bytes()),
        _ => part(value, rarest_literal(like).as_bytes()),
    }
}

fn suffix(value: &Scalar, text: &[u8]) -> Option<Fact> {
    match (value, base_of(text)) {
        (Scalar::Field(field), Some(base)) => Some(Fact::new(*field, Kind::Base, base)),
        _ => part(value, text),
    }
}

/// From the last separator on; `None` without one.
pub(crate) fn base_of(text: &[u8]) -> Option<&[u8]> {
    let [slash, backslash] = SEPARATORS;
    let at = memchr::memrchr2(slash, backslash, text)?;
    Some(&text[at..])
}

fn equal(value: &Scalar, text: &[u8]) -> Option<Fact> {
    match value {
        Scalar::Field(field) => Some(equal_to(*field, text)),
        _ => part(value, text),
    }
}

/// The empty text is no column's value, but an array's joined form can be.
fn equal_to(field: Field, text: &[u8]) -> Fact {
    digest(field, text).unwrap_or_else(|| Fact::new(field, Kind::Equal, text))
}

/// `value` contains `text`.
fn part(value: &Scalar, text: &[u8]) -> Option<Fact> {
    match value {
        Scalar::Field(field) => contains(*field, text),
        Scalar::Element(array, _) => contains(line_of(array)?, text),
        // Only ASCII is sure to come through a change of case as itself.
        Scalar::Call(Function::Lower | Function::Upper, arguments) => {
            part(arguments.first()?, longest_ascii(text))
        }
        Scalar::Call(Function::Basename | Function::Dirname, arguments) => {
            part(arguments.first()?, text)
        }
        _ => None,
    }
}

fn contains(field: Field, text: &[u8]) -> Option<Fact> {
    if field == Field::Hashes
        && let Some(fact) = named_digest(text)
    {
        return Some(fact);
    }
    // Half a character may belong to one whose case is folded.
    let whole = std::str::from_utf8(text).is_ok();
    let text = if whole { text } else { longest_ascii(text) };
    (!text.is_empty()).then(|| Fact::new(field, Kind::Contains, text))
}

/// The fact that a column is the text of this digest: hexadecimal digits need not be written down
/// to compare it. `None` for another column, and for what is no digest as long as those there.
fn digest(field: Field, hex: &[u8]) -> Option<Fact> {
    let of = DIGESTS.iter().find(|digest| digest.field == field)?;
    let bytes = parse_hex(hex)?;
    (bytes.len() == of.bytes).then(|| Fact {
        field,
        kind: Kind::Digest,
        text: bytes.into(),
    })
}

/// Of `MD5=…`, which the text of all digests contains if it is that digest, and only then.
fn named_digest(text: &[u8]) -> Option<Fact> {
    let at = memchr::memchr(b'=', text)?;
    let (name, hex) = (&text[..at], &text[at + 1..]);
    let mut digests = DIGESTS.iter();
    let of = digests.find(|digest| digest.name.eq_ignore_ascii_case(name))?;
    digest(of.field, hex)
}

fn longest_ascii(text: &[u8]) -> &[u8] {
    text.split(|byte| !byte.is_ascii())
        .max_by_key(|run| run.len())
        .unwrap_or_default()
}

/// The column in which an array's elements stand one after the other.
fn line_of(array: &Scalar) -> Option<Field> {
    match array {
        Scalar::Field(Field::Args) => Some(Field::CommandLine),
        Scalar::Field(Field::ParentArgs) => Some(Field::ParentCommandLine),
        Scalar::Field(Field::Environment) => Some(Field::Environment),
        _ => None,
    }
}

impl Fact {
    fn new(field: Field, kind: Kind, text: &[u8]) -> Self {
        let mut folded = Vec::with_capacity(text.len());
        fold_text(text, &mut folded);
        Self {
            field,
            kind,
            text: folded.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fact, Group, Kind, groups};
    use crate::catalog::Field;
    use crate::{RuleSet, Source};

    fn check(condition: &str, expected: &[&[Fact]]) {
        let sql = format!("SELECT * FROM exec WHERE {condition}");
        let text = format!("id: r\ntitle: R\nlevel: low\nsql: |\n  {sql}\n");
        let rules = RuleSet::compile(&[Source {
            file: "r",
            text: &text,
        }])
        .unwrap();
        let conditions = &rules.rules()[0].clauses[0].conditions;
        let found: Vec<Group> = groups(conditions.iter().map(|c| &c.predicate));
        assert_eq!(found, expected, "{condition}");
    }

    fn fact(field: Field, kind: Kind, text: &str) -> Fact {
        let text = text.as_bytes().into();
        Fact { field, kind, text }
    }

    #[test]
    fn the_rarest_of_what_must_hold_come_first() {
        use Field::{CommandLine, Environment, Executable, Name};
        use Kind::{Base, Contains, Equal};
        check("process.name = 'Sh'", &[&[fact(Name, Equal, "sh")]]);
        check(
            "process.name LIKE '%sh' AND process.uid = 0",
            &[&[fact(Name, Contains, "sh")]],
        );
        check(
            "process.command_line LIKE '%/dev/tcp/%' AND process.name IN ('sh', 'bash')",
            &[
                &[fact(Name, Equal, "bash"), fact(Name, Equal, "sh")],
                &[fact(CommandLine, Contains, "/dev/tcp/")],
            ],
        );
        check(
            "process.executable ILIKE '%/bin/NC'",
            &[&[fact(Executable, Base, "/nc")]],
        );
        check(
            "any_regexp_like(process.args, '^--exec=', 'i') OR process.name = 'nc'",
            &[&[
                fact(Name, Equal, "nc"),
                fact(CommandLine, Contains, "--exec="),
            ]],
        );
        check(
            "'a b' = ANY(process.args)",
            &[&[fact(CommandLine, Contains, "a b")]],
        );
        check(
            "any_like(process.environment, 'TZ=/tmp/%')",
            &[&[fact(Environment, Contains, "tz=/tmp/")]],
        );
    }

    #[test]
    fn alternatives_keep_what_each_of_them_needs() {
        use Field::{CommandLine, Name};
        use Kind::{Contains, Equal};
        check(
            "(process.name = 'a' AND process.command_line LIKE '%--long-one%')
               OR (process.name = 'b' AND process.command_line LIKE '%--long-two%')
               OR process.name = 'c'",
            &[
                &[
                    fact(Name, Equal, "a"),
                    fact(Name, Equal, "b"),
                    fact(Name, Equal, "c"),
                ],
                &[
                    fact(Name, Equal, "c"),
                    fact(CommandLine, Contains, "--long-one"),
                    fact(CommandLine, Contains, "--long-two"),
                ],
            ],
        );
    }

    #[test]
    fn whole_digests_are_bytes() {
        let digest = |field, byte, bytes| Fact {
            field,
            kind: Kind::Digest,
            text: vec![byte; bytes].into(),
        };
        let hex = "aB".repeat(16);
        check(
            &format!("process.hashes ILIKE '%imphash={hex}%'"),
            &[&[digest(Field::Imphash, 0xab, 16)]],
        );
        check(
            &format!("process.md5 = '{hex}'"),
            &[&[digest(Field::Md5, 0xab, 16)]],
        );
        let text = |field, kind, text: &str| fact(field, kind, text);
        check(
            "process.hashes LIKE '%MD5=AB%'",
            &[&[text(Field::Hashes, Kind::Contains, "md5=ab")]],
        );
        check(
            &format!("process.hashes LIKE '%SHA1={hex}%'"),
            &[&[text(
                Field::Hashes,
                Kind::Contains,
                &format!("sha1={}", hex.to_lowercase()),
            )]],
        );
        check(
            "process.md5 = 'ab'",
            &[&[text(Field::Md5, Kind::Equal, "ab")]],
        );
    }

    #[test]
    fn letter_case_is_folded() {
        let name = |text| fact(Field::Name, Kind::Contains, text);
        check("lower(process.name) = 'éab'", &[&[name("ab")]]);
        check("process.name ILIKE 'ÉABé%'", &[&[name("éabé")]]);
        check("process.name LIKE '%É%'", &[&[name("é")]]);
    }

    #[test]
    fn what_most_events_hold_is_no_fact() {
        let name = |text| fact(Field::Name, Kind::Contains, text);
        check(r"process.name ILIKE '%\SYSTEM32\%'", &[]);
        check("process.name ILIKE '7z%.exe'", &[&[name("7z")]]);
        check(
            "process.name LIKE '%.exe' AND process.name LIKE '%abc%'",
            &[&[name("abc")]],
        );
    }

    #[test]
    fn what_need_not_hold_is_no_fact() {
        check("process.name <> 'sh'", &[]);
        check("NOT process.name = 'sh'", &[]);
        check("process.name = 'sh' OR process.uid = 0", &[]);
        check("coalesce(process.name, 'sh') = 'sh'", &[]);
        check("(process.name = 'sh') IS NOT TRUE", &[]);
        check("'' = ANY(process.args)", &[]);
    }
}
