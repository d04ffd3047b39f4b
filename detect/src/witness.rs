//! What an event must show for a clause to be true, as texts that can be searched for.

use crate::catalog::Field;
use crate::ir::{Function, Pattern, Predicate, Scalar};
use crate::like::{Like, Shape, longest_literal};
use crate::regex_literals::required_texts;
use crate::rule::Clause;

/// A fact about one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Witness {
    /// The column is this text.
    Exact(Field, Box<[u8]>),
    /// The column contains this text, ASCII letters in either case.
    Contains(Field, Box<[u8]>),
}

/// Facts of which at least one holds whenever the clause is true; `None` if no such set is known.
pub(crate) fn witnesses(clause: &Clause) -> Option<Vec<Witness>> {
    best(
        clause
            .conditions
            .iter()
            .filter_map(|condition| of_predicate(&condition.predicate)),
    )
}

/// Any one set will do: the one least likely to be seen in an event.
fn best(sets: impl Iterator<Item = Vec<Witness>>) -> Option<Vec<Witness>> {
    sets.min_by_key(|set| set.iter().map(expected_hits).sum::<u32>())
}

/// Any one set of texts will do, too.
pub(crate) fn rarest(sets: impl Iterator<Item = Vec<Box<[u8]>>>) -> Option<Vec<Box<[u8]>>> {
    sets.min_by_key(|set| {
        set.iter()
            .map(|text| hits_by_length(text.len()))
            .sum::<u32>()
    })
}

/// Rough: short texts occur by chance.
fn expected_hits(witness: &Witness) -> u32 {
    match witness {
        Witness::Exact(_, text) => hits_by_length(text.len() + 1),
        Witness::Contains(_, text) => hits_by_length(text.len()),
    }
}

fn hits_by_length(length: usize) -> u32 {
    match length {
        0..=1 => 1000,
        2 => 200,
        3 => 50,
        4 => 20,
        5..=6 => 5,
        7..=9 => 2,
        _ => 1,
    }
}

fn of_predicate(predicate: &Predicate) -> Option<Vec<Witness>> {
    match predicate {
        Predicate::And(parts) => best(parts.iter().filter_map(of_predicate)),
        Predicate::Or(parts) => {
            let sets: Option<Vec<_>> = parts.iter().map(of_predicate).collect();
            Some(sets?.concat())
        }
        Predicate::Is(inner, Some(true)) => of_predicate(inner),
        Predicate::TextIn(value, texts) => texts.iter().map(|text| equal(value, text)).collect(),
        Predicate::Matches(value, Pattern::Like(like)) => {
            of_like(value, like).map(|witness| vec![witness])
        }
        Predicate::Matches(value, Pattern::Regex(regex)) => required_texts(regex.as_str())?
            .iter()
            .map(|text| part(value, text))
            .collect(),
        Predicate::AnyEquals(array, Scalar::Text(text)) => {
            contains(line_of(array)?, text).map(|witness| vec![witness])
        }
        Predicate::AnyMatches(array, pattern) => {
            let line = line_of(array)?;
            match pattern {
                Pattern::Like(like) => {
                    contains(line, longest_literal(like).as_bytes()).map(|witness| vec![witness])
                }
                Pattern::Regex(regex) => {
                    let texts = required_texts(regex.as_str())?;
                    texts.iter().map(|text| contains(line, text)).collect()
                }
            }
        }
        _ => None,
    }
}

fn of_like(value: &Scalar, like: &Like) -> Option<Witness> {
    match (like.shape(), like.ignore_case()) {
        (Shape::Equal(text), false) => equal(value, text),
        _ => part(value, longest_literal(like).as_bytes()),
    }
}

/// `value` is `text`.
fn equal(value: &Scalar, text: &[u8]) -> Option<Witness> {
    match value {
        Scalar::Field(field) => Some(Witness::Exact(*field, text.into())),
        _ => part(value, text),
    }
}

/// `value` contains `text`, but for the case of ASCII letters.
fn part(value: &Scalar, text: &[u8]) -> Option<Witness> {
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

fn contains(field: Field, text: &[u8]) -> Option<Witness> {
    (!text.is_empty()).then(|| Witness::Contains(field, text.into()))
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

#[cfg(test)]
mod tests {
    use super::{Witness, witnesses};
    use crate::catalog::Field;
    use crate::{RuleSet, Source};

    fn check(condition: &str, expected: Option<&[Witness]>) {
        let sql = format!("SELECT * FROM exec WHERE {condition}");
        let text = format!("id: r\ntitle: R\nlevel: low\nsql: |\n  {sql}\n");
        let rules = RuleSet::compile(&[Source {
            file: "r",
            text: &text,
        }])
        .unwrap();
        assert_eq!(
            witnesses(&rules.rules()[0].clauses[0]).as_deref(),
            expected,
            "{condition}"
        );
    }

    fn exact(field: Field, text: &str) -> Witness {
        Witness::Exact(field, text.as_bytes().into())
    }

    fn part(field: Field, text: &str) -> Witness {
        Witness::Contains(field, text.as_bytes().into())
    }

    #[test]
    fn the_rarest_of_what_must_hold_is_searched_for() {
        use Field::{CommandLine, Environment, Name};
        check("process.name = 'sh'", Some(&[exact(Name, "sh")]));
        check(
            "process.name LIKE '%sh' AND process.uid = 0",
            Some(&[part(Name, "sh")]),
        );
        check(
            "process.name IN ('sh', 'bash') AND process.command_line LIKE '%/dev/tcp/%'",
            Some(&[part(CommandLine, "/dev/tcp/")]),
        );
        check(
            "process.name = 'nc' OR any_regexp_like(process.args, '^--exec=', 'i')",
            Some(&[exact(Name, "nc"), part(CommandLine, "--exec=")]),
        );
        check(
            "'a b' = ANY(process.args)",
            Some(&[part(CommandLine, "a b")]),
        );
        check(
            "any_like(process.environment, 'TZ=/tmp/%')",
            Some(&[part(Environment, "TZ=/tmp/")]),
        );
    }

    #[test]
    fn letter_case_is_only_trusted_within_ascii() {
        check(
            "lower(process.name) = 'éab'",
            Some(&[part(Field::Name, "ab")]),
        );
        check(
            "process.name ILIKE 'ÉABé%'",
            Some(&[part(Field::Name, "ab")]),
        );
        check("process.name ILIKE 'É'", None);
    }

    #[test]
    fn what_need_not_hold_is_no_witness() {
        check("process.name <> 'sh'", None);
        check("NOT process.name = 'sh'", None);
        check("process.name = 'sh' OR process.uid = 0", None);
        check("coalesce(process.name, 'sh') = 'sh'", None);
        check("(process.name = 'sh') IS NOT TRUE", None);
        check("'' = ANY(process.args)", None);
    }
}
