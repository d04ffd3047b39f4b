//! Which findings of one rule are repetitions of each other.

use std::hash::RandomState;
use std::time::Duration;

use event::Event;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::catalog::{COLUMNS, Column, Field, FieldSet, Stream};
use crate::correlate::hash_of;
use crate::error::{ErrorKind, Place};
use crate::ir::Scalar;
use crate::nearest::nearest;
use crate::rule::Rule;
use crate::trigger::{Equality, Trigger};
use crate::view::{Scratch, View, stream_of};
use crate::yaml::place;

/// Most columns that repetitions are told by.
const MAX_COLUMNS: usize = 8;

/// Longest time within which a finding is a repetition.
const MAX_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// What a rule says of repetitions.
#[derive(Debug, Default)]
pub(crate) struct Dedup {
    /// They agree in these columns of the event that completed them.
    by: Option<Vec<Field>>,
    window: Option<Duration>,
}

/// By what a finding is told from others of its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sameness {
    /// The rule does not say.
    Unsaid,
    /// Those with this number are repetitions of each other.
    Values(u64),
    /// Its values are known in part only: it is no repetition of anything.
    Unlike,
}

/// The key `dedup` of a rule file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    by: Option<Vec<Spanned<String>>>,
    window: Option<Spanned<String>>,
}

impl Rule {
    /// How long a finding of this rule hides its repetitions, if the rule says so.
    #[must_use]
    pub fn dedup_window(&self) -> Option<Duration> {
        self.dedup.window
    }

    /// By what its findings are told apart: the columns that it names; else, of a rule that looks at
    /// several events, its group or what they have in common. `event` completed the finding.
    /// Numbers of the same `hasher` can be compared; `NULL`s are equal.
    #[must_use]
    pub fn sameness(&self, event: &Event, hasher: &RandomState) -> Sameness {
        let Some(values) = self.telling(event) else {
            return Sameness::Unsaid;
        };
        let mut fields = FieldSet::default();
        values.iter().for_each(|v| v.collect_fields(&mut fields));
        let mut scratch = Scratch::default();
        scratch.fill(event, fields);
        let Some(view) = View::new(event, &scratch) else {
            return Sameness::Unsaid;
        };
        let mut columns = COLUMNS.iter().filter(|c| fields.contains(c.field));
        if columns.any(|column| view.is_cut(column.field)) {
            return Sameness::Unlike;
        }
        Sameness::Values(hash_of(&values, &view, hasher))
    }

    /// Whether it says anything of repetitions.
    #[must_use]
    pub fn tells_repetitions(&self) -> bool {
        self.dedup.by.is_some()
            || self.dedup.window.is_some()
            || !matches!(self.trigger, Trigger::Each)
    }

    fn telling(&self, event: &Event) -> Option<Vec<Scalar>> {
        if let Some(by) = &self.dedup.by {
            return Some(by.iter().map(|field| Scalar::Field(*field)).collect());
        }
        match self.trigger.outermost() {
            Trigger::Each | Trigger::Chain(_) => None,
            Trigger::Threshold(threshold) => {
                let stream = stream_of(event)?;
                let keys = self.clauses.iter().zip(&threshold.keys);
                let mut keys = keys.filter(|(clause, _)| clause.stream == stream);
                let first = keys.next()?.1;
                // Clauses of one stream may name their group by different columns.
                let alike = keys.all(|(_, keys)| format!("{keys:?}") == format!("{first:?}"));
                alike.then(|| first.clone())
            }
            Trigger::Sequence(sequence) => {
                let last = sequence.steps.last()?;
                // Clauses of one step may name what they have in common by different columns.
                let alike = |equality: &&Equality| {
                    let first = format!("{:?}", equality.own.first());
                    let mut own = equality.own.iter();
                    own.all(|own| format!("{:?}", Some(own)) == first)
                };
                let equalities = last.equalities.iter();
                if !equalities.clone().all(|equality| alike(&equality)) {
                    return None;
                }
                Some(equalities.filter_map(|e| e.own.first().cloned()).collect())
            }
        }
    }
}

impl Text {
    /// `stream` is that of the events that complete the rule's findings.
    pub(crate) fn read(self, stream: Stream, errors: &mut Vec<(Place, ErrorKind)>) -> Dedup {
        let by = self.by.map(|by| columns(&by, stream, errors));
        let window = self.window.and_then(|text| {
            let window = duration(&text.value);
            if window.is_none() {
                let problem = format!(
                    "is `{}`; such as 30s, 5m or 12h is expected, up to 24h",
                    text.value
                );
                errors.push((place(text.defined), key("window", problem)));
            }
            window
        });
        Dedup { by, window }
    }
}

fn columns(
    by: &[Spanned<String>],
    stream: Stream,
    errors: &mut Vec<(Place, ErrorKind)>,
) -> Vec<Field> {
    if let Some(beyond) = by.get(MAX_COLUMNS) {
        let kind = ErrorKind::Limit {
            what: "number of columns",
            limit: MAX_COLUMNS.to_string(),
        };
        errors.push((place(beyond.defined), kind));
    }
    let mut fields = Vec::new();
    for name in by {
        match column(&name.value, stream) {
            Ok(column) => fields.push(column.field),
            Err(kind) => errors.push((place(name.defined), kind)),
        }
    }
    fields
}

fn column(name: &str, stream: Stream) -> Result<&'static Column, ErrorKind> {
    let Some(column) = Column::find(name) else {
        let here = COLUMNS.iter().filter(|c| c.streams.contains(&stream));
        return Err(ErrorKind::Unknown {
            what: "column",
            name: name.to_owned(),
            nearest: nearest(name, here.map(|c| c.name)).map(str::to_owned),
        });
    };
    if column.streams.contains(&stream) {
        return Ok(column);
    }
    let only_in: Vec<_> = column.streams.iter().map(|stream| stream.name()).collect();
    Err(ErrorKind::NotInStream {
        column: column.name,
        stream: stream.name(),
        only_in: only_in.join(", "),
    })
}

/// A number and one of `s`, `m` and `h`.
fn duration(text: &str) -> Option<Duration> {
    let unit = text.char_indices().next_back()?;
    let seconds = match unit.1 {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let digits = &text[..unit.0];
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    let duration = Duration::from_secs(count.checked_mul(seconds)?);
    (Duration::from_secs(1)..=MAX_WINDOW)
        .contains(&duration)
        .then_some(duration)
}

fn key(key: &'static str, problem: String) -> ErrorKind {
    ErrorKind::Key { key, problem }
}

#[cfg(test)]
mod tests {
    use event::{Argv, EventKind, Exec, Header, Process};

    use super::*;
    use crate::{RuleSet, Source};

    fn compile(lines: &str) -> Result<RuleSet, Vec<crate::Error>> {
        let text =
            format!("id: r\ntitle: R\nlevel: low\n{lines}\nsql: SELECT process.pid FROM exec\n");
        RuleSet::compile(&[Source {
            file: "r.yaml",
            text: &text,
        }])
    }

    fn exec(arguments: &[&str], cut: u64) -> Event {
        let process = Process {
            exe: "/bin/x".into(),
            argv: Argv::from_iter(arguments),
            argv_truncated_bytes: cut,
            ..Process::default()
        };
        Event {
            header: Header::default(),
            kind: EventKind::Exec(Box::new(Exec {
                process,
                old_tid: None,
            })),
        }
    }

    #[test]
    fn findings_are_told_apart_by_the_columns_that_the_rule_names() {
        let hasher = RandomState::new();
        let check = |lines: &str, other: &Event, same: bool| {
            let rules = compile(lines).unwrap();
            let of = |event: &Event| rules.rules()[0].sameness(event, &hasher);
            assert!(matches!(of(&exec(&["a", "b"], 0)), Sameness::Values(_)));
            assert_eq!(of(&exec(&["a", "b"], 0)) == of(other), same, "{lines}");
        };
        check("dedup: {by: [process.args]}", &exec(&["a", "b"], 0), true);
        check("dedup: {by: [process.args]}", &exec(&["a b"], 0), false);
        check(
            "dedup: {by: [process.command_line]}",
            &exec(&["a b"], 0),
            true,
        );
        check("dedup: {by: [process.executable]}", &exec(&["c"], 7), true);
        check("dedup: {by: [process.args]}", &exec(&["a", "b"], 7), false);
        check(
            "dedup: {by: [process.user, process.name]}",
            &exec(&["c"], 0),
            true,
        );
        check("dedup: {by: []}", &exec(&["c"], 0), true);
    }

    #[test]
    fn a_rule_that_names_no_columns_leaves_it_to_others() {
        let hasher = RandomState::new();
        for (lines, window) in [("", None), ("dedup: {window: 5m}", Some(300))] {
            let rules = compile(lines).unwrap();
            let rule = &rules.rules()[0];
            assert_eq!(rule.sameness(&exec(&[], 0), &hasher), Sameness::Unsaid);
            assert_eq!(rule.dedup_window(), window.map(Duration::from_secs));
            assert_eq!(rule.tells_repetitions(), window.is_some());
        }
    }

    #[test]
    fn a_rule_that_counts_is_told_by_its_group() {
        let text = "id: r\ntitle: R\nlevel: low\nsql: |\n  SELECT process.name, count(*) FROM exec \
                    GROUP BY process.name, TUMBLE(event.time, INTERVAL '1' MINUTE)\n";
        let rules = RuleSet::compile(&[Source {
            file: "r.yaml",
            text,
        }]);
        let rules = rules.unwrap();
        let hasher = RandomState::new();
        let of = |event: &Event| rules.rules()[0].sameness(event, &hasher);
        assert_eq!(of(&exec(&["a"], 0)), of(&exec(&["b"], 7)));
        assert!(matches!(of(&exec(&["a"], 0)), Sameness::Values(_)));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let check = |lines: &str, message: &str| {
            let errors = compile(lines).err().unwrap();
            let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(text, [message], "{lines}");
        };
        check(
            "dedup: {by: [process.nam]}",
            "r.yaml:4:14: unknown column `process.nam` (did you mean `process.name`?)",
        );
        check(
            "dedup: {by: [process.exit_code]}",
            "r.yaml:4:14: column `process.exit_code` does not exist in stream `exec` (only in exit)",
        );
        for window in [
            "5",
            "m",
            "5d",
            "0s",
            "25h",
            "+5m",
            "5 m",
            "99999999999999999999h",
        ] {
            check(
                &format!("dedup: {{window: {window}}}"),
                &format!(
                    "r.yaml:4:17: `window` is `{window}`; such as 30s, 5m or 12h is expected, up \
                     to 24h"
                ),
            );
        }
        check(
            "dedup: {by: [process.pid, process.pid, process.pid, process.pid, process.pid, \
             process.pid, process.pid, process.pid, process.pid]}",
            "r.yaml:4:118: number of columns exceeds the limit of 8",
        );
    }
}
