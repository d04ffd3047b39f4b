//! The condition of a rule: `selection and not 1 of filter_*`.

use crate::error::ErrorKind;
use crate::sigma::expr::Expr;

/// Nested parentheses and negations.
const MAX_DEPTH: usize = 50;
/// Words of a condition.
const MAX_WORDS: usize = 2000;
/// Comparisons of a rule whose condition names the same selections again and again.
const MAX_COMPARISONS: usize = 200_000;
/// Ways in which some of many selections can hold.
const MAX_CHOICES: usize = 1000;

/// A condition as it is written, without its selections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Selection(String),
    /// So many of those whose names match; `None` is all of them.
    Of(Option<usize>, String),
}

/// The selections of a rule, in order.
pub(crate) type Selections = Vec<(String, Expr)>;

fn wrong(problem: impl Into<String>) -> ErrorKind {
    ErrorKind::Detection(format!("condition: {}", problem.into()))
}

impl Condition {
    pub(crate) fn parse(text: &str) -> Result<Self, ErrorKind> {
        if text.contains('|') {
            return Err(wrong(
                "aggregation after `|` is no longer part of Sigma; write a correlation rule",
            ));
        }
        let words = words(text);
        if words.len() > MAX_WORDS {
            return Err(ErrorKind::Limit {
                what: "condition",
                limit: format!("{MAX_WORDS} words"),
            });
        }
        let mut parser = Parser { rest: &words };
        let condition = parser.any(0)?;
        match parser.rest.first() {
            None => Ok(condition),
            Some(word) => Err(wrong(format!("`{word}` is not expected here"))),
        }
    }

    /// The parts that must all hold.
    pub(crate) fn conjuncts(self) -> Vec<Self> {
        match self {
            Self::And(parts) => parts.into_iter().flat_map(Self::conjuncts).collect(),
            other => vec![other],
        }
    }

    /// Refuses a condition that would fill memory once its selections are filled in.
    pub(crate) fn check_size(&self, selections: &Selections) -> Result<(), ErrorKind> {
        let sizes: Vec<(&str, usize)> = selections
            .iter()
            .map(|(name, expr)| (name.as_str(), expr.size()))
            .collect();
        if self.size(&sizes) <= MAX_COMPARISONS {
            return Ok(());
        }
        Err(ErrorKind::Limit {
            what: "number of comparisons that the condition asks for",
            limit: MAX_COMPARISONS.to_string(),
        })
    }

    fn size(&self, sizes: &[(&str, usize)]) -> usize {
        let sum = |sizes: &mut dyn Iterator<Item = usize>| sizes.fold(0, usize::saturating_add);
        match self {
            Self::And(parts) | Self::Or(parts) => {
                sum(&mut parts.iter().map(|part| part.size(sizes)))
            }
            Self::Not(inner) => inner.size(sizes),
            Self::Selection(wanted) => {
                let named = sizes.iter().filter(|(name, _)| name == wanted);
                sum(&mut named.map(|(_, size)| *size))
            }
            Self::Of(count, pattern) => {
                let meant = sizes.iter().filter(|(name, _)| is_meant(pattern, name));
                let meant: Vec<usize> = meant.map(|(_, size)| *size).collect();
                let others = meant.len().saturating_sub(1);
                // Each selection is in so many choices.
                let choices = count.map_or(1, |count| choices(others, count.saturating_sub(1)));
                sum(&mut meant.into_iter()).saturating_mul(choices)
            }
        }
    }

    /// The condition with its selections filled in.
    pub(crate) fn resolve(&self, selections: &Selections) -> Result<Expr, ErrorKind> {
        let all = |parts: &[Self]| -> Result<Vec<Expr>, ErrorKind> {
            parts.iter().map(|part| part.resolve(selections)).collect()
        };
        match self {
            Self::And(parts) => Ok(Expr::all(all(parts)?)),
            Self::Or(parts) => Ok(Expr::any(all(parts)?)),
            Self::Not(inner) => Ok(inner.resolve(selections)?.not()),
            Self::Selection(name) => {
                let found = selections.iter().find(|(known, _)| known == name);
                let (_, expr) = found.ok_or_else(|| unknown(name, selections))?;
                Ok(expr.clone())
            }
            Self::Of(count, pattern) => of(*count, pattern, selections),
        }
    }
}

fn unknown(name: &str, selections: &Selections) -> ErrorKind {
    let names = selections.iter().map(|(known, _)| known.as_str());
    ErrorKind::Unknown {
        what: "selection",
        name: name.to_owned(),
        nearest: crate::nearest::nearest(name, names).map(str::to_owned),
    }
}

fn of(count: Option<usize>, pattern: &str, selections: &Selections) -> Result<Expr, ErrorKind> {
    let chosen: Vec<&Expr> = selections
        .iter()
        .filter(|(name, _)| is_meant(pattern, name))
        .map(|(_, expr)| expr)
        .collect();
    if chosen.is_empty() {
        return Err(wrong(format!("`{pattern}` is no selection's name")));
    }
    match count.unwrap_or(chosen.len()) {
        count if count == 0 || count > chosen.len() => Err(wrong(format!(
            "there are {} selections like `{pattern}`, not {count}",
            chosen.len()
        ))),
        1 => Ok(Expr::any(chosen.into_iter().cloned().collect())),
        count if count == chosen.len() => Ok(Expr::all(chosen.into_iter().cloned().collect())),
        count => some(count, &chosen),
    }
}

/// `them` are all, and patterns match, but for names that begin with `_` where it does not.
fn is_meant(pattern: &str, name: &str) -> bool {
    let pattern = if pattern == "them" { "*" } else { pattern };
    if name.starts_with('_') && !pattern.starts_with('_') {
        return false;
    }
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Number of ways to choose so many of them.
fn choices(of: usize, count: usize) -> usize {
    let next = |ways: usize, taken: usize| ways.saturating_mul(of - taken) / (taken + 1);
    (0..count.min(of)).fold(1, next)
}

/// Any choice of so many.
fn some(count: usize, of: &[&Expr]) -> Result<Expr, ErrorKind> {
    let mut choices: Vec<Vec<usize>> = vec![Vec::new()];
    for position in 0..of.len() {
        let longer = choices.iter().filter(|choice| choice.len() < count);
        let longer: Vec<_> = longer
            .map(|choice| [&choice[..], &[position]].concat())
            .collect();
        choices.extend(longer);
        if choices.len() > MAX_CHOICES {
            return Err(ErrorKind::Limit {
                what: "number of selections to choose from",
                limit: format!("{MAX_CHOICES} choices"),
            });
        }
    }
    choices.retain(|choice| choice.len() == count);
    let all = |choice: &Vec<usize>| Expr::all(choice.iter().map(|at| of[*at].clone()).collect());
    Ok(Expr::any(choices.iter().map(all).collect()))
}

/// Words, and parentheses by themselves.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        let mut rest = word;
        while let Some(at) = rest.find(['(', ')']) {
            words.extend((at > 0).then(|| &rest[..at]));
            words.push(&rest[at..=at]);
            rest = &rest[at + 1..];
        }
        words.extend((!rest.is_empty()).then_some(rest));
    }
    words
}

struct Parser<'t> {
    rest: &'t [&'t str],
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let found = self
            .rest
            .first()
            .is_some_and(|next| next.eq_ignore_ascii_case(word));
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn any(&mut self, depth: usize) -> Result<Condition, ErrorKind> {
        let mut parts = vec![self.all(depth)?];
        while self.take("or") {
            parts.push(self.all(depth)?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Condition::Or(parts),
        })
    }

    fn all(&mut self, depth: usize) -> Result<Condition, ErrorKind> {
        let mut parts = vec![self.one(depth)?];
        while self.take("and") {
            parts.push(self.one(depth)?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Condition::And(parts),
        })
    }

    fn one(&mut self, depth: usize) -> Result<Condition, ErrorKind> {
        if depth > MAX_DEPTH {
            return Err(ErrorKind::Limit {
                what: "nesting of the condition",
                limit: MAX_DEPTH.to_string(),
            });
        }
        if self.take("not") {
            return Ok(Condition::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.any(depth + 1)?;
            if !self.take(")") {
                return Err(wrong("`)` is missing"));
            }
            return Ok(inner);
        }
        self.name()
    }

    fn name(&mut self) -> Result<Condition, ErrorKind> {
        let [word, rest @ ..] = self.rest else {
            return Err(wrong("ends where a selection is expected"));
        };
        if let [of, pattern, rest @ ..] = rest
            && of.eq_ignore_ascii_case("of")
        {
            self.rest = rest;
            return Ok(Condition::Of(quantity(word)?, (*pattern).to_owned()));
        }
        let reserved = ["and", "or", "not", "of", "them", ")"];
        if reserved
            .iter()
            .any(|reserved| word.eq_ignore_ascii_case(reserved))
        {
            return Err(wrong(format!(
                "`{word}` stands where a selection is expected"
            )));
        }
        self.rest = rest;
        Ok(Condition::Selection((*word).to_owned()))
    }
}

/// `None` is all.
fn quantity(word: &str) -> Result<Option<usize>, ErrorKind> {
    match word.to_ascii_lowercase().as_str() {
        "all" => Ok(None),
        "any" => Ok(Some(1)),
        number => number.parse().map(Some).map_err(|_| {
            wrong(format!(
                "`{word} of` is neither a number, `any of` nor `all of`"
            ))
        }),
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let join = |parts: &[Self], word: &str| {
            let parts = parts.iter().map(|part| match part {
                Self::And(_) | Self::Or(_) => format!("({part})"),
                _ => part.to_string(),
            });
            parts.collect::<Vec<_>>().join(word)
        };
        match self {
            Self::And(parts) => f.write_str(&join(parts, " and ")),
            Self::Or(parts) => f.write_str(&join(parts, " or ")),
            Self::Not(inner) => match **inner {
                Self::And(_) | Self::Or(_) => write!(f, "not ({inner})"),
                _ => write!(f, "not {inner}"),
            },
            Self::Selection(name) => f.write_str(name),
            Self::Of(None, pattern) => write!(f, "all of {pattern}"),
            Self::Of(Some(count), pattern) => write!(f, "{count} of {pattern}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Condition, Selections, choices, is_meant};
    use crate::ir::{Predicate, Scalar};
    use crate::sigma::expr::Expr;

    #[test]
    fn not_binds_closest_then_and_then_or() {
        let check = |text: &str, shown: &str| {
            assert_eq!(Condition::parse(text).unwrap().to_string(), shown, "{text}");
        };
        check("a", "a");
        check("a or b and not c", "a or (b and not c)");
        check("(a or b) and c", "(a or b) and c");
        check("not(a and b)or c", "not (a and b) or c");
        check("selection AND NOT filter", "selection and not filter");
        check(
            "1 of sel_* and not all of them",
            "1 of sel_* and not all of them",
        );
        check("any of a*", "1 of a*");
    }

    #[test]
    fn broken_conditions_say_what_is_wrong() {
        let check = |text: &str, message: &str| {
            let error = Condition::parse(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        };
        check("", "ends where a selection is expected");
        check("a and", "ends where");
        check("a b", "`b` is not expected");
        check("(a", "`)` is missing");
        check("a)", "`)` is not expected");
        check("and a", "`and` stands where");
        check("some of a*", "`some of`");
        check("a | count() > 5", "correlation");
        check(&"(".repeat(99), "nesting");
    }

    #[test]
    fn patterns_choose_names_by_wildcards() {
        let check = |pattern, name, meant| assert_eq!(is_meant(pattern, name), meant, "{name}");
        check("them", "a", true);
        check("them", "_a", false);
        check("sel*", "selection_1", true);
        check("sel*", "_sel", false);
        check("_*", "_sel", true);
        check("*_1", "sel_1", true);
        check("a*c*e", "abcde", true);
        check("a*c*e", "abde", false);
        check("a*a", "a", false);
        check("sel", "selection", false);
    }

    #[test]
    fn a_condition_cannot_multiply_its_selections_without_end() {
        let leaf = Expr::leaf(Predicate::Truth(Scalar::Bool(true)));
        let selections: Selections = vec![("s".to_owned(), Expr::Or(vec![leaf; 10_000]))];
        let check = |times: usize| {
            let condition = vec!["s"; times].join(" or ");
            Condition::parse(&condition)
                .unwrap()
                .check_size(&selections)
        };
        assert!(check(20).is_ok());
        assert!(check(21).is_err());
        assert_eq!([choices(2, 1), choices(5, 2), choices(3, 3)], [2, 10, 1]);
    }

    #[test]
    fn so_many_of_some_are_every_choice_of_them() {
        let truth = |truth| Expr::missing("x", truth, None);
        let check = |text: &str, truths: &[bool], expected: Option<bool>| {
            let selections: Selections = (0..)
                .zip(truths)
                .map(|(i, t)| (format!("s{i}"), truth(*t)))
                .collect();
            let resolved = Condition::parse(text).unwrap().resolve(&selections);
            assert_eq!(resolved.ok().and_then(|e| e.constant()), expected, "{text}");
        };
        check("2 of s*", &[true, false, true], Some(true));
        check("2 of s*", &[true, false, false], Some(false));
        check("3 of s*", &[true, true, true], Some(true));
        check("4 of s*", &[true, true, true], None);
        check("0 of s*", &[true], None);
        check("all of t*", &[true], None);
        check("not 1 of them", &[false, false], Some(true));
        let known = Expr::leaf(Predicate::Truth(Scalar::Bool(true)));
        let many: Selections = (0..30).map(|i| (format!("s{i}"), known.clone())).collect();
        assert!(
            Condition::parse("15 of them")
                .unwrap()
                .resolve(&many)
                .is_err()
        );
    }
}
