//! The correlations of a set: those that others name come before them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use crate::error::ErrorKind;
use crate::rule::Rule;
use crate::sigma::correlation::{self, Correlation, Known};
use crate::sigma::header::{reference, scalar};
use crate::sigma::item::{Found, Items, Lists};
use crate::sigma::load::{claim, names};
use crate::sigma::logsource::Os;
use crate::sigma::node::Node;
use crate::sigma::report::{Component, Elsewhere, Report};

/// Correlations of a cycle that its message names.
const MAX_NAMED: usize = 20;

/// Documents that were rejected: what names them cannot be used, either.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// By id and by name, where it went wrong.
    places: HashMap<String, String>,
}

impl Refused {
    /// Reports the document.
    pub(crate) fn add(
        &mut self,
        document: &Node,
        file: &str,
        errors: Vec<Found>,
        report: &mut Report,
    ) {
        for name in names(document) {
            let at = errors.first().map_or(document.at, |(at, _)| *at);
            self.places.entry(name).or_insert(format!("{file}:{at}"));
        }
        report.reject(file, errors);
    }

    /// The first of the rules it names that was rejected.
    fn reason(&self, correlation: &Node) -> Option<Found> {
        references(correlation).iter().find_map(|node| {
            let place = self.places.get(&reference(node))?;
            let name = scalar(node);
            let problem = format!("names the rule `{name}`, which is rejected ({place})");
            Some((node.at, wrong(problem)))
        })
    }
}

fn wrong(problem: String) -> ErrorKind {
    ErrorKind::Key {
        key: "correlation",
        problem,
    }
}

/// The rules that fire by themselves, and the correlations.
pub(crate) fn correlations(
    read: &[(&str, Node)],
    known: Vec<Known>,
    host: Option<Os>,
    taken: &mut HashMap<String, String>,
    refused: &mut Refused,
    report: &mut Report,
) -> Vec<Rule> {
    static NO_LISTS: Lists = Lists::new();
    let items = |source| Items::new(source, host, &NO_LISTS);
    let documents = read.iter().filter(|(_, d)| d.get("correlation").is_some());
    let documents = Documents::new(
        documents.map(|(file, node)| (*file, node)).collect(),
        &known,
    );
    let mut found = Compiled::new(known);
    for position in documents.in_order() {
        let (file, document) = documents.all[position];
        if let Some(elsewhere) = elsewhere(document, file, report) {
            report.elsewhere.push(elsewhere);
            continue;
        }
        let correlation = match documents.cycle(position).or(refused.reason(document)) {
            Some(error) => Err(vec![error]),
            None => correlation::compile(document, file, &found.known, items),
        };
        let claimed = correlation.and_then(|mut correlation| {
            claim(&mut correlation.known.rule, document, taken).map_err(|error| vec![error])?;
            Ok(correlation)
        });
        match claimed {
            Ok(correlation) => found.add(position, correlation),
            Err(errors) => refused.add(document, file, errors, report),
        }
    }
    found.rules(report)
}

fn references(correlation: &Node) -> &[Node] {
    let rules = correlation.get("correlation").and_then(|c| c.get("rules"));
    rules.map(Node::items).unwrap_or_default()
}

/// The correlations as they were read.
struct Documents<'d> {
    all: Vec<(&'d str, &'d Node)>,
    /// For each, those that it names, with the place of the name.
    named: Vec<Vec<(usize, &'d Node)>>,
}

impl<'d> Documents<'d> {
    fn new(all: Vec<(&'d str, &'d Node)>, rules: &[Known]) -> Self {
        // As when they compile, a name is that of the first that has it.
        let rules: HashSet<String> = rules.iter().flat_map(correlation::names_of).collect();
        let mut positions = HashMap::new();
        for (position, (_, document)) in all.iter().enumerate() {
            for name in names(document).filter(|name| !rules.contains(name)) {
                positions.entry(name).or_insert(position);
            }
        }
        let named = |(_, document): &(&str, &'d Node)| {
            let nodes = references(document).iter();
            let named = nodes.filter_map(|node| Some((*positions.get(&reference(node))?, node)));
            named.collect()
        };
        let named = all.iter().map(named).collect();
        Self { all, named }
    }

    /// Each after those that it names, except where that is a cycle.
    fn in_order(&self) -> Vec<usize> {
        let mut named_by = vec![Vec::new(); self.all.len()];
        let mut missing: Vec<usize> = self.named.iter().map(Vec::len).collect();
        for (position, named) in self.named.iter().enumerate() {
            named
                .iter()
                .for_each(|(other, _)| named_by[*other].push(position));
        }
        let ready = (0..self.all.len()).filter(|position| missing[*position] == 0);
        let (mut ready, mut order): (BTreeSet<usize>, _) = (ready.collect(), Vec::new());
        let mut seen: HashSet<usize> = ready.iter().copied().collect();
        loop {
            while let Some(position) = ready.pop_first() {
                order.push(position);
                for other in &named_by[position] {
                    missing[*other] -= 1;
                    if missing[*other] == 0 && seen.insert(*other) {
                        ready.insert(*other);
                    }
                }
            }
            let rest = (0..self.all.len()).filter(|position| !seen.contains(position));
            ready.extend(rest.filter(|position| self.cycle(*position).is_some()));
            seen.extend(&ready);
            if ready.is_empty() {
                return order;
            }
        }
    }

    /// That the correlation is on itself, and how.
    fn cycle(&self, start: usize) -> Option<Found> {
        // How each was reached.
        let mut from: HashMap<usize, usize> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(position) = queue.pop_front() {
            for (other, _) in &self.named[position] {
                if *other == start {
                    return Some(self.cyclic(start, position, &from));
                }
                if !from.contains_key(other) {
                    from.insert(*other, position);
                    queue.push_back(*other);
                }
            }
        }
        None
    }

    fn cyclic(&self, start: usize, last: usize, from: &HashMap<usize, usize>) -> Found {
        let (mut path, mut at) = (vec![start], last);
        while at != start {
            path.push(at);
            at = from.get(&at).copied().unwrap_or(start);
        }
        path.push(start);
        path.reverse();
        let next = path[1];
        let node = self.named[start].iter().find(|(other, _)| *other == next);
        let at = node.map_or(self.all[start].1.at, |(_, node)| node.at);
        let name = |position: &usize| {
            let mut names = names(self.all[*position].1);
            names.next().unwrap_or_default()
        };
        let mut path: Vec<String> = path.iter().map(name).collect();
        if path.len() > MAX_NAMED {
            path.splice(MAX_NAMED - 1..path.len() - 1, ["…".to_owned()]);
        }
        (at, wrong(format!("is on itself: {}", path.join(" -> "))))
    }
}

/// What compiled.
struct Compiled {
    /// Rules, then correlations.
    known: Vec<Known>,
    rules: usize,
    /// Of each correlation, the position of its document.
    documents: Vec<usize>,
    /// What does not fire by itself, with the correlation that it is for.
    silent: BTreeMap<usize, String>,
    loud: HashSet<usize>,
}

impl Compiled {
    fn new(known: Vec<Known>) -> Self {
        Self {
            rules: known.len(),
            known,
            documents: Vec::new(),
            silent: BTreeMap::new(),
            loud: HashSet::new(),
        }
    }

    fn add(&mut self, document: usize, correlation: Correlation) {
        let Correlation {
            known,
            of,
            generate,
        } = correlation;
        if generate {
            self.loud.extend(of);
        } else {
            let of = of.into_iter().map(|rule| (rule, known.rule.id.clone()));
            self.silent.extend(of);
        }
        self.documents.push(document);
        self.known.push(known);
    }

    /// Those that fire by themselves; correlations in the order of their documents.
    fn rules(mut self, report: &mut Report) -> Vec<Rule> {
        let (mut rules, mut correlations) = (Vec::new(), BTreeMap::new());
        for (position, Known { rule, .. }) in self.known.into_iter().enumerate() {
            let silent = self.silent.remove(&position);
            match silent.filter(|_| !self.loud.contains(&position)) {
                Some(correlation) => report.components.push(Component {
                    rule_id: rule.id,
                    file: rule.file,
                    line: rule.line,
                    correlation,
                }),
                None if position < self.rules => rules.push(rule),
                None => {
                    correlations.insert(self.documents[position - self.rules], rule);
                }
            }
        }
        rules.extend(correlations.into_values());
        rules
    }
}

/// A correlation of rules for another system is for that system.
fn elsewhere(document: &Node, file: &str, report: &Report) -> Option<Elsewhere> {
    let of = |node: &Node| {
        let name = reference(node);
        let named = |e: &&Elsewhere| e.rule_id == name || e.name.as_ref() == Some(&name);
        report.elsewhere.iter().find(named)
    };
    let os = references(document).iter().find_map(of)?.os;
    let name = |key| document.get(key).map(reference);
    Some(Elsewhere {
        rule_id: name("id").or_else(|| name("name")).unwrap_or_default(),
        name: name("name"),
        title: document.get("title").map(scalar).unwrap_or_default(),
        file: file.to_owned(),
        line: document.at.line,
        os,
    })
}
