//! Compiles the clauses of one stream.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::atom::{self, Atom, AtomId, Test};
use super::digests::Digests;
use super::fact::{self, Fact, GROUPS, Group, Kind};
use super::lookup::{FactId, Lookup, Search, Speed, Wanted};
use super::node::{Children, Node, NodeId};
use super::row::Slot;
use crate::catalog::{Field, FieldSet};
use crate::ir::Predicate;

/// So many texts that one column may contain are looked for together.
const MIN_TOGETHER: usize = 4;

/// The clauses of one stream.
#[derive(Debug, Default)]
pub(crate) struct Program {
    /// Columns that decide.
    pub(crate) fields: FieldSet,
    /// Of these, the ones to compute before a run.
    pub(crate) computed: FieldSet,
    /// Columns of which it matters whether they are known, …
    pub(super) slots: Vec<Field>,
    /// … and a bit for each whose text is looked at.
    pub(super) read: u128,
    pub(super) lookups: Vec<SlotLookup>,
    pub(super) digests: Digests,
    pub(super) fact_count: usize,
    pub(super) marks: Marks,
    /// Words of a set of clauses.
    pub(super) words: usize,
    /// Group after group: clauses that need no fact there.
    pub(super) preset: Vec<u64>,
    /// Group after group: clauses with a fact there that is not looked for at first.
    pub(super) open: Vec<u64>,
    pub(super) clauses: Vec<Clause>,
    /// By clause, a bit for each lookup: facts of it matter that are not looked for at first.
    pub(super) needs: Vec<u128>,
    pub(super) nodes: Vec<Node>,
    /// By node: the columns that its atoms read.
    pub(super) fields_below: Vec<FieldSet>,
    pub(super) children: Vec<NodeId>,
    pub(super) atoms: Vec<Atom>,
}

#[derive(Debug)]
pub(super) struct SlotLookup {
    pub(super) slot: Slot,
    pub(super) of: Lookup,
}

/// A clause of the program.
#[derive(Debug)]
pub(super) struct Clause {
    /// Its number outside.
    pub(super) clause: u32,
    pub(super) root: NodeId,
}

/// What each fact sets when it is seen: words of the sets of all groups, and bits in them.
#[derive(Debug, Default)]
pub(super) struct Marks {
    starts: Vec<u32>,
    words: Vec<(u32, u64)>,
}

impl Marks {
    pub(super) fn of(&self, fact: FactId) -> &[(u32, u64)] {
        let fact = fact as usize;
        &self.words[self.starts[fact] as usize..self.starts[fact + 1] as usize]
    }
}

impl Program {
    /// `clauses` with their numbers outside, each with its conditions, all of which must hold.
    pub(crate) fn build(clauses: &[(u32, Vec<&Predicate>)]) -> Self {
        let mut builder = Builder::default();
        builder.find_facts(clauses);
        builder.compile(clauses);
        builder.find_needs();
        builder.program
    }

    pub(super) fn is_empty(&self) -> bool {
        self.clauses.is_empty()
    }

    pub(super) fn children_of(&self, range: Children) -> &[NodeId] {
        let first = range.first as usize;
        &self.children[first..first + range.count as usize]
    }
}

/// A column, and whether a condition on it is false where the column is not known.
type Searched = (Field, bool);

#[derive(Default)]
struct Builder {
    program: Program,
    facts: HashMap<Fact, FactId>,
    /// Facts to look for in every event.
    first: HashSet<FactId>,
    /// The others, with the place of their lookup.
    later: HashMap<FactId, usize>,
    slots: HashMap<Field, Slot>,
    atoms: HashMap<String, AtomId>,
    nodes: HashMap<(Node, Vec<NodeId>), NodeId>,
}

impl Builder {
    /// Decides what to look for, and which clauses each fact speaks for.
    fn find_facts(&mut self, clauses: &[(u32, Vec<&Predicate>)]) {
        let groups: Vec<Vec<Group>> = clauses
            .iter()
            .map(|(_, conditions)| fact::groups(conditions.iter().copied()))
            .collect();
        self.program.words = groups.len().div_ceil(64);
        self.program.needs = vec![0; groups.len()];
        let sought = self.number(groups.iter().flatten().flatten());
        self.first = self.first_facts(&groups);
        let unsearchable = self.build_lookups(&sought);
        self.facts.retain(|_, id| !unsearchable.contains(id));
        self.mark(&groups);
    }

    /// Gives each fact a number, and returns them in that order.
    fn number<'f>(&mut self, facts: impl Iterator<Item = &'f Fact>) -> Vec<&'f Fact> {
        let mut numbered = Vec::new();
        for fact in facts {
            let next = FactId::try_from(numbered.len()).expect("facts fit memory");
            if !self.facts.contains_key(fact) {
                self.facts.insert(fact.clone(), next);
                numbered.push(fact);
            }
        }
        numbered
    }

    /// Texts to look for in every event: those of clauses that no lookup by hash can rule out.
    fn first_facts(&self, groups: &[Vec<Group>]) -> HashSet<FactId> {
        let is_cheap = |group: &Group| group.iter().all(|fact| fact.kind != Kind::Contains);
        let costly = groups.iter().filter(|groups| !groups.iter().any(is_cheap));
        let first = costly.filter_map(|groups| groups.first()).flatten();
        first.map(|fact| self.facts[fact]).collect()
    }

    fn is_first(&self, id: FactId, kind: Kind) -> bool {
        kind != Kind::Contains || self.first.contains(&id)
    }

    fn build_lookups(&mut self, sought: &[&Fact]) -> HashSet<FactId> {
        let mut by_field: BTreeMap<Field, Vec<Wanted<'_>>> = BTreeMap::new();
        for (id, fact) in (0..).zip(sought) {
            let first = self.is_first(id, fact.kind);
            let wanted = Wanted { id, fact, first };
            by_field.entry(fact.field).or_default().push(wanted);
        }
        self.program.fact_count = sought.len();
        let mut unsearchable = HashSet::new();
        for (field, mut facts) in by_field {
            self.program.digests.add(&facts);
            facts.retain(|wanted| wanted.fact.kind != Kind::Digest);
            if facts.is_empty() {
                continue;
            }
            let (of, failed) = Lookup::build(&facts);
            unsearchable.extend(failed);
            let slot = self.read_slot(field);
            let later = facts.iter().filter(|wanted| !wanted.first);
            self.later
                .extend(later.map(|wanted| (wanted.id, self.program.lookups.len())));
            self.program.lookups.push(SlotLookup { slot, of });
        }
        unsearchable
    }

    /// A group with a fact that cannot be looked for is none.
    fn mark(&mut self, groups: &[Vec<Group>]) {
        let words = self.program.words;
        let mut preset = vec![u64::MAX; words * GROUPS];
        clear_beyond(&mut preset, words, groups.len());
        let mut open = vec![0; words * GROUPS];
        let mut marks: Vec<HashMap<u32, u64>> = vec![HashMap::new(); self.program.fact_count];
        for (position, groups) in groups.iter().enumerate() {
            let (word, bit) = (position / 64, 1u64 << (position % 64));
            for (number, group) in groups.iter().enumerate() {
                let ids = group.iter().map(|fact| self.facts.get(fact).copied());
                let ids: Option<Vec<FactId>> = ids.collect();
                let Some(ids) = ids else { continue };
                let at = number * words + word;
                preset[at] &= !bit;
                if ids.iter().any(|id| self.later.contains_key(id)) {
                    open[at] |= bit;
                }
                let at = u32::try_from(at).expect("clauses fit memory");
                for id in ids {
                    self.need(id, position);
                    *marks[id as usize].entry(at).or_default() |= bit;
                }
            }
        }
        self.program.preset = preset;
        self.program.open = open;
        self.program.marks = flatten(marks);
    }

    fn compile(&mut self, clauses: &[(u32, Vec<&Predicate>)]) {
        for (clause, conditions) in clauses {
            let parts = conditions.iter().map(|c| self.node(c)).collect();
            let root = self.all(parts);
            self.program.clauses.push(Clause {
                clause: *clause,
                root,
            });
            for condition in conditions {
                condition.collect_fields(&mut self.program.fields);
            }
        }
    }

    /// A clause needs the facts that decide its atoms, too.
    fn find_needs(&mut self) {
        for position in 0..self.program.clauses.len() {
            let mut needed = Vec::new();
            let root = self.program.clauses[position].root;
            self.facts_below(root, &mut |fact| needed.push(fact));
            needed
                .into_iter()
                .for_each(|fact| self.need(fact, position));
        }
    }

    fn need(&mut self, fact: FactId, position: usize) {
        if let Some(lookup) = self.later.get(&fact) {
            self.program.needs[position] |= 1 << lookup;
        }
    }

    fn facts_below(&self, node: NodeId, note: &mut impl FnMut(FactId)) {
        match self.program.nodes[node as usize] {
            Node::Seen(_, fact) => note(fact),
            Node::Atom(atom) => match &self.program.atoms[atom as usize] {
                Atom::Guarded { facts, .. } => facts.iter().copied().for_each(note),
                Atom::Test(_) => {}
            },
            Node::Not(inner) | Node::Is(inner, _) => self.facts_below(inner, note),
            Node::And(children) | Node::Or(children) => {
                let children = self.program.children_of(children).iter();
                children.for_each(|child| self.facts_below(*child, note));
            }
        }
    }

    fn node(&mut self, predicate: &Predicate) -> NodeId {
        match predicate {
            Predicate::And(parts) => {
                let parts = parts.iter().map(|part| self.node(part)).collect();
                self.all(parts)
            }
            Predicate::Or(parts) => self.any(parts),
            Predicate::Not(inner) => {
                let inner = self.node(inner);
                self.above(inner, Node::Not(inner))
            }
            Predicate::Is(inner, truth) => {
                let inner = self.node(inner);
                self.above(inner, Node::Is(inner, *truth))
            }
            leaf => {
                let node = self.leaf(leaf);
                let mut fields = FieldSet::default();
                leaf.collect_fields(&mut fields);
                self.add(node, fields)
            }
        }
    }

    fn all(&mut self, parts: Vec<NodeId>) -> NodeId {
        self.list(parts, Node::And)
    }

    /// Texts that the same column may contain become one search, unless they are facts.
    fn any(&mut self, parts: &[Predicate]) -> NodeId {
        let mut together: HashMap<Searched, Vec<Box<[u8]>>> = HashMap::new();
        for part in parts {
            if let Some((key, text)) = self.searchable(part) {
                together.entry(key).or_default().push(text);
            }
        }
        together.retain(|_, texts| texts.len() >= MIN_TOGETHER);
        let mut nodes: Vec<NodeId> = Vec::new();
        for part in parts {
            let grouped = self
                .searchable(part)
                .is_some_and(|(key, _)| together.contains_key(&key));
            if !grouped {
                nodes.push(self.node(part));
            }
        }
        let mut together: Vec<_> = together.into_iter().collect();
        together.sort();
        for ((field, sure), texts) in together {
            nodes.push(self.search(field, sure, texts));
        }
        self.list(nodes, Node::Or)
    }

    /// The column and text of a part that asks whether the one contains the other.
    fn searchable(&self, part: &Predicate) -> Option<(Searched, Box<[u8]>)> {
        let (leaf, sure) = match part {
            Predicate::Is(leaf, Some(true)) => (&**leaf, true),
            leaf => (leaf, false),
        };
        let (field, text) = atom::contained(leaf)?;
        let is_fact = atom::as_fact(leaf).is_some_and(|(_, fact)| self.facts.contains_key(&fact));
        (!is_fact).then_some(((field, sure), text))
    }

    fn search(&mut self, field: Field, sure: bool, mut texts: Vec<Box<[u8]>>) -> NodeId {
        texts.sort();
        texts.dedup();
        let name = format!("any of {field:?} {texts:?}");
        let slot = self.read_slot(field);
        let next = self.next_atom();
        let id = *self.atoms.entry(name).or_insert(next);
        if id == next {
            let numbered = texts.iter().map(|text| (0, &**text)).collect();
            let search = Search::build(numbered, Vec::new(), Speed::Small)
                .ok()
                .flatten();
            let search = search.expect("the texts of one list make an automaton");
            let search = Box::new(search);
            self.program
                .atoms
                .push(Atom::Test(Test::AnyOf { slot, search }));
        }
        let mut fields = FieldSet::default();
        fields.insert(field);
        let node = self.add(Node::Atom(id), fields);
        if sure {
            self.above(node, Node::Is(node, Some(true)))
        } else {
            node
        }
    }

    /// The cheapest first; their order does not matter for the truth.
    fn list(&mut self, mut parts: Vec<NodeId>, node: fn(Children) -> Node) -> NodeId {
        parts.sort_by_key(|part| (self.cost(*part), *part));
        parts.dedup();
        if let [only] = *parts {
            return only;
        }
        let first = u32::try_from(self.program.children.len()).expect("nodes fit memory");
        let count = u32::try_from(parts.len()).expect("nodes fit memory");
        let shape = node(Children { first: 0, count });
        if let Some(id) = self.nodes.get(&(shape, parts.clone())) {
            return *id;
        }
        self.program.children.extend_from_slice(&parts);
        let of_part = |part: &NodeId| self.program.fields_below[*part as usize];
        let fields = parts.iter().map(of_part);
        let fields = fields.fold(FieldSet::default(), FieldSet::union);
        let id = self.push(node(Children { first, count }), fields);
        self.nodes.insert((shape, parts), id);
        id
    }

    /// A node that reads what the other one does.
    fn above(&mut self, below: NodeId, node: Node) -> NodeId {
        self.add(node, self.program.fields_below[below as usize])
    }

    fn add(&mut self, node: Node, fields: FieldSet) -> NodeId {
        if let Some(id) = self.nodes.get(&(node, Vec::new())) {
            return *id;
        }
        let id = self.push(node, fields);
        self.nodes.insert((node, Vec::new()), id);
        id
    }

    fn push(&mut self, node: Node, fields: FieldSet) -> NodeId {
        let id = NodeId::try_from(self.program.nodes.len()).expect("nodes fit memory");
        self.program.nodes.push(node);
        self.program.fields_below.push(fields);
        id
    }

    fn cost(&self, node: NodeId) -> u32 {
        match self.program.nodes[node as usize] {
            Node::Seen(..) => 1,
            Node::Atom(atom) => self.program.atoms[atom as usize].cost(),
            Node::Not(inner) | Node::Is(inner, _) => self.cost(inner),
            Node::And(children) | Node::Or(children) => {
                let children = self.program.children_of(children).iter();
                children
                    .map(|child| self.cost(*child))
                    .fold(1, u32::saturating_add)
            }
        }
    }

    fn next_atom(&self) -> AtomId {
        AtomId::try_from(self.program.atoms.len()).expect("atoms fit memory")
    }

    fn leaf(&mut self, leaf: &Predicate) -> Node {
        if let Some((field, fact)) = atom::as_fact(leaf)
            && let Some(id) = self.facts.get(&fact).copied()
        {
            return Node::Seen(self.slot(field), id);
        }
        Node::Atom(self.atom(leaf))
    }

    fn atom(&mut self, leaf: &Predicate) -> AtomId {
        let name = format!("{leaf:?}");
        if let Some(id) = self.atoms.get(&name) {
            return *id;
        }
        let id = self.next_atom();
        let atom = self.decider(leaf);
        self.program.atoms.push(atom);
        self.atoms.insert(name, id);
        id
    }

    fn decider(&mut self, leaf: &Predicate) -> Atom {
        let test = self.test(leaf);
        match self.guard(leaf) {
            Some((field, facts)) => {
                let slot = self.slot(field);
                Atom::Guarded { slot, facts, test }
            }
            None => Atom::Test(test),
        }
    }

    fn test(&mut self, leaf: &Predicate) -> Test {
        if let Some((field, shape)) = atom::folded(leaf) {
            let slot = self.read_slot(field);
            return Test::Folded { slot, shape };
        }
        if let Some((left, right)) = atom::same(leaf) {
            return Test::Same(self.read_slot(left), self.read_slot(right));
        }
        leaf.collect_fields(&mut self.program.computed);
        let whole = Box::new(leaf.clone());
        match atom::needs(leaf) {
            Some((field, needs)) => Test::Regex {
                field,
                needs: Box::new(needs),
                leaf: whole,
            },
            None => Test::Leaf(whole),
        }
    }

    /// Facts without which the leaf is false wherever its column is known, if all are looked for.
    fn guard(&self, leaf: &Predicate) -> Option<(Field, Box<[FactId]>)> {
        let (field, group) = fact::of_leaf(leaf)?;
        let facts = group.iter().map(|fact| self.facts.get(fact).copied());
        Some((field, facts.collect::<Option<_>>()?))
    }

    /// For a column of which it matters whether it is known.
    fn slot(&mut self, field: Field) -> Slot {
        let fields = &mut self.program.slots;
        *self.slots.entry(field).or_insert_with(|| {
            fields.push(field);
            Slot::try_from(fields.len() - 1).expect("there are fewer than 128 columns")
        })
    }

    /// For a column whose text is looked at.
    fn read_slot(&mut self, field: Field) -> Slot {
        let slot = self.slot(field);
        self.program.read |= 1 << slot;
        self.program.computed.insert(field);
        slot
    }
}

/// Bits that stand for no clause.
fn clear_beyond(preset: &mut [u64], words: usize, clauses: usize) {
    if !clauses.is_multiple_of(64) {
        for group in preset.chunks_exact_mut(words) {
            group[words - 1] = (1 << (clauses % 64)) - 1;
        }
    }
}

fn flatten(marks: Vec<HashMap<u32, u64>>) -> Marks {
    let mut flat = Marks::default();
    let end = |words: &Vec<(u32, u64)>| u32::try_from(words.len()).expect("marks fit memory");
    for mark in marks {
        flat.starts.push(end(&flat.words));
        let mut words: Vec<(u32, u64)> = mark.into_iter().collect();
        words.sort_unstable();
        flat.words.extend(words);
    }
    flat.starts.push(end(&flat.words));
    flat
}
