//! Rules and sets of them.

use std::collections::{BTreeMap, HashMap};

use event::{ColumnName, Event, Level};

use crate::catalog::{FieldSet, Stream};
use crate::dedup::Dedup;
use crate::error::{Error, ErrorKind, Place};
use crate::exception::{self, is_exceptions};
use crate::finding::RuleText;
use crate::ir::{Predicate, Scalar};
use crate::list::Lists;
use crate::program::Halves;
use crate::sigma::{self, Os, Provenance, Report, is_sigma};
use crate::trigger::Trigger;
use crate::yaml;

pub(crate) const MAX_ID_BYTES: usize = 128;

/// Whether a text can be a rule's id.
pub(crate) fn is_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.chars().all(allowed)
}

/// An id as rules are known by it: a UUID in lower case, in which it is written (RFC 9562, section
/// 4), while it may be read in either; anything else as it is.
#[must_use]
pub fn canonical_id(id: &str) -> String {
    if is_uuid(id) {
        id.to_ascii_lowercase()
    } else {
        id.to_owned()
    }
}

fn is_uuid(id: &str) -> bool {
    let groups = id.split('-').map(|group| {
        let is_hexadecimal = group.bytes().all(|b| b.is_ascii_hexdigit());
        is_hexadecimal.then_some(group.len())
    });
    groups.eq([8, 4, 4, 4, 12].map(Some))
}

/// One rule file.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Name for messages.
    pub file: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// A rule that compiled.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rule {
    /// Unique in its set.
    pub id: String,
    /// One line for alerts.
    pub title: String,
    /// Why it matters.
    pub description: String,
    /// How much a finding matters.
    pub level: Level,
    /// Such as `attack.t1059.004`.
    pub tags: Vec<String>,
    /// Links.
    pub references: Vec<String>,
    /// What else can look like this.
    pub falsepositives: Vec<String>,
    /// The columns that its conditions read.
    pub columns: Vec<&'static str>,
    /// Fields that a Sigma rule asks for and that no event here has.
    pub missing: Vec<String>,
    /// What a Sigma rule says about itself.
    pub provenance: Option<Box<Provenance>>,
    /// What is let pass: its own, then those of files of exceptions.
    pub exceptions: Vec<RuleException>,
    /// File it came from.
    pub file: String,
    /// Line of its id there.
    pub line: u64,
    /// Number of tests in which it must fire.
    pub fires: usize,
    /// Number of tests in which it must stay silent.
    pub silent: usize,
    pub(crate) select: Vec<Selected>,
    /// At least one.
    pub(crate) clauses: Vec<Clause>,
    pub(crate) trigger: Trigger,
    pub(crate) dedup: Dedup,
    pub(crate) tests: Vec<TestCase>,
}

/// Something that a rule lets pass.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleException {
    /// Its name.
    pub name: String,
    /// Where it stands: the rule's file, or one of exceptions.
    pub file: String,
    /// Line of the name there.
    pub line: u64,
}

/// One kind of event that a rule looks for.
#[derive(Debug, Clone)]
pub(crate) struct Clause {
    /// What its columns begin with where a rule has several clauses.
    pub(crate) alias: Option<String>,
    pub(crate) stream: Stream,
    /// All must hold.
    pub(crate) conditions: Vec<Condition>,
}

/// A column of a finding.
#[derive(Debug)]
pub(crate) struct Selected {
    pub(crate) name: ColumnName,
    /// The clause, or the step of a sequence, whose event it is read from. In a window it is
    /// always the last event.
    pub(crate) clause: usize,
    pub(crate) output: Output,
}

#[derive(Debug)]
pub(crate) enum Output {
    Scalar(Scalar),
    /// Of the window, by position.
    Aggregate(usize),
}

/// A part of a clause that must hold.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    /// As in the rule, for explanations.
    pub(crate) text: String,
    pub(crate) predicate: Predicate,
}

/// A test of a rule.
#[derive(Debug)]
pub(crate) struct TestCase {
    pub(crate) name: Option<String>,
    /// Where it is in another file than the rule.
    pub(crate) file: Option<String>,
    pub(crate) line: u64,
    pub(crate) must_fire: bool,
    /// Not empty, in the order of their times.
    pub(crate) events: Vec<Event>,
}

impl Clause {
    pub(crate) fn condition_fields(&self) -> FieldSet {
        let mut fields = FieldSet::default();
        self.conditions
            .iter()
            .for_each(|c| c.predicate.collect_fields(&mut fields));
        fields
    }
}

impl Rule {
    /// What decides whether an event of the clause counts, and for what.
    pub(crate) fn deciding_fields(&self, clause: usize) -> FieldSet {
        let mut fields = self.clauses[clause].condition_fields();
        self.trigger.collect_fields(clause, &mut fields);
        fields
    }

    /// Whether what one of them remembers fits the other.
    pub(crate) fn means_the_same(&self, other: &Self) -> bool {
        let meaning =
            |rule: &Self| format!("{:?}{:?}{:?}", rule.clauses, rule.trigger, rule.select);
        !matches!(self.trigger, Trigger::Each) && meaning(self) == meaning(other)
    }

    /// Whether one event decides, so that the rule fires where its conditions hold. Others count or
    /// join events that satisfy them.
    #[must_use]
    pub fn is_of_one_event(&self) -> bool {
        matches!(self.trigger, Trigger::Each)
    }

    pub(crate) fn add_test(&mut self, test: TestCase) {
        if test.must_fire {
            self.fires += 1;
        } else {
            self.silent += 1;
        }
        self.tests.push(test);
    }

    /// Of all clauses.
    pub(crate) fn all_deciding_fields(&self) -> FieldSet {
        let of = (0..self.clauses.len()).map(|clause| self.deciding_fields(clause));
        of.fold(FieldSet::default(), FieldSet::union)
    }

    /// What is read of an event that satisfies the clause.
    pub(crate) fn match_fields(&self, clause: usize) -> FieldSet {
        let mut fields = self.deciding_fields(clause);
        let is_read = |selected: &&Selected| match self.trigger.outermost() {
            Trigger::Sequence(sequence) => sequence.step(clause).0 == selected.clause,
            _ => true,
        };
        for selected in self.select.iter().filter(is_read) {
            if let Output::Scalar(value) = &selected.output {
                value.collect_fields(&mut fields);
            }
        }
        fields
    }
}

/// Rules that are matched together.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// By rule.
    texts: Vec<RuleText>,
    /// The clauses of all rules one after the other.
    clauses: Vec<Position>,
    programs: [Halves; Stream::ALL.len()],
    report: Report,
}

/// A clause among all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    /// Of its rule.
    pub(crate) rule: usize,
    /// Of it in the rule.
    pub(crate) clause: usize,
    /// What decides about it.
    pub(crate) deciding: FieldSet,
    /// What is read of an event that satisfies it.
    pub(crate) read: FieldSet,
}

/// For whom a set is compiled.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The system that the rules are to run on; `None`: on events of all of them.
    pub host: Option<Os>,
    /// Values of named lists, for `IN LIST('name')` and the placeholders of Sigma rules; see
    /// [`read_list`](crate::read_list).
    pub lists: BTreeMap<String, Vec<String>>,
}

impl RuleSet {
    /// Compiles the rules of all files for every system, without lists.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn compile(sources: &[Source<'_>]) -> Result<Self, Vec<Error>> {
        Self::load(sources, &Options::default())
    }

    /// Compiles the rules of all files. Sigma rules that do not compile are left out and told by
    /// [`Self::report`]: sets of them are large and others' work.
    ///
    /// # Errors
    /// Every error in every file of SQL rules; they are all there or the set is not.
    pub fn load(sources: &[Source<'_>], options: &Options) -> Result<Self, Vec<Error>> {
        let (exceptions, sources): (Vec<_>, Vec<_>) =
            sources.iter().partition(|s| is_exceptions(s.file));
        let (sigma, sql): (Vec<_>, Vec<_>) = sources
            .into_iter()
            .partition(|s: &&Source<'_>| is_sigma(s.file, s.text));
        let mut rules = sql_rules(&sql, &options.lists)?;
        let places = rules
            .iter()
            .map(|(rule, at)| (rule.id.clone(), format!("{}:{at}", rule.file)));
        let mut taken = places.collect();
        let (of_sigma, report) = sigma::load(&sigma, options.host, &options.lists, &mut taken);
        let rules = rules.drain(..).map(|(rule, _)| rule);
        let mut rules: Vec<Rule> = rules.chain(of_sigma).collect();
        let apply = |source| exception::apply(source, &options.lists, &mut rules, &report);
        let errors: Vec<Error> = exceptions.into_iter().flat_map(apply).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        let clauses = positions(&rules);
        let programs = programs(&rules);
        Ok(Self {
            texts: rules.iter().map(RuleText::of).collect(),
            rules,
            clauses,
            programs,
            report,
        })
    }

    /// What became of the rules that are not simply in [`Self::rules`].
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Adds what is wrong with a file of Sigma rules that is no text, so that its rules could not be
    /// among the sources, to the report.
    pub fn reject(&mut self, error: Error) {
        self.report.rejected_documents += 1;
        self.report.rejected.push(error);
    }

    /// The rules: those in SQL, then those in Sigma, each in the order of the files.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What all findings of the rule at this position say.
    pub(crate) fn text(&self, rule: usize) -> &RuleText {
        &self.texts[rule]
    }

    pub(crate) fn program(&self, stream: Stream) -> &Halves {
        &self.programs[stream as usize]
    }

    /// A clause by its number among all.
    pub(crate) fn position(&self, clause: usize) -> Position {
        self.clauses[clause]
    }
}

fn sql_rules(sources: &[&Source<'_>], lists: &Lists) -> Result<Vec<(Rule, Place)>, Vec<Error>> {
    let (mut rules, mut errors) = (Vec::new(), Vec::new());
    for source in sources {
        match yaml::read(source, lists) {
            Ok(found) => rules.extend(found),
            Err(found) => errors.extend(found),
        }
    }
    errors.extend(duplicate_ids(&rules));
    if errors.is_empty() {
        Ok(rules)
    } else {
        Err(errors)
    }
}

fn programs(rules: &[Rule]) -> [Halves; Stream::ALL.len()] {
    let clauses: Vec<&Clause> = rules.iter().flat_map(|rule| &rule.clauses).collect();
    Stream::ALL.map(|stream| {
        let mine = (0u32..).zip(&clauses).filter(|(_, c)| c.stream == stream);
        let mine: Vec<_> = mine
            .map(|(position, clause)| {
                let conditions = clause.conditions.iter().map(|c| &c.predicate);
                (position, conditions.collect())
            })
            .collect();
        Halves::build(mine)
    })
}

fn positions(rules: &[Rule]) -> Vec<Position> {
    let of_rule = |(position, rule): (usize, &Rule)| {
        let of_clause = |clause| Position {
            rule: position,
            clause,
            deciding: rule.deciding_fields(clause),
            read: rule.match_fields(clause),
        };
        (0..rule.clauses.len()).map(of_clause).collect::<Vec<_>>()
    };
    rules.iter().enumerate().flat_map(of_rule).collect()
}

fn duplicate_ids(rules: &[(Rule, Place)]) -> Vec<Error> {
    let mut seen: HashMap<&str, String> = HashMap::new();
    let mut errors = Vec::new();
    for (rule, place) in rules {
        if let Some(first) = seen.get(rule.id.as_str()) {
            errors.push(Error {
                file: rule.file.clone(),
                place: *place,
                kind: ErrorKind::DuplicateId {
                    id: rule.id.clone(),
                    first: first.clone(),
                },
            });
        } else {
            seen.insert(&rule.id, format!("{}:{place}", rule.file));
        }
    }
    errors
}

pub(crate) fn column_names(fields: FieldSet) -> Vec<&'static str> {
    fields.columns().map(|column| column.name).collect()
}
