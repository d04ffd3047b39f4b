//! The clauses of a stream in two programs: one whose results are worth remembering, and the rest.

use super::build::Program;
use super::cache::{Cache, is_volatile};
use super::run::{Memo, Satisfied};
use crate::catalog::{COLUMNS, Field, FieldSet};
use crate::ir::Predicate;
use crate::view::View;

/// All clauses of one stream.
#[derive(Debug, Default)]
pub(crate) struct Halves {
    /// Clauses that look only at what is the same whenever the same program is run.
    stable: Program,
    /// All that they look at.
    key: Vec<Field>,
    volatile: Program,
    /// Columns to compute before a run.
    pub(crate) computed: FieldSet,
}

impl Halves {
    /// `clauses` with their numbers outside, each with its conditions, all of which must hold.
    pub(crate) fn build(clauses: Vec<(u32, Vec<&Predicate>)>) -> Self {
        let (volatile, stable): (Vec<_>, Vec<_>) = clauses
            .into_iter()
            .partition(|(_, conditions)| is_volatile(fields_of(conditions)));
        let (stable, volatile) = (Program::build(&stable), Program::build(&volatile));
        let looked_at = |column: &&crate::catalog::Column| stable.fields.contains(column.field);
        Self {
            key: COLUMNS.iter().filter(looked_at).map(|c| c.field).collect(),
            computed: stable.computed.union(volatile.computed),
            stable,
            volatile,
        }
    }

    /// Appends the clauses that `view` satisfies, in their order.
    pub(crate) fn run(
        &self,
        view: &View<'_>,
        memo: &mut Memo,
        cache: Option<&mut Cache>,
        satisfied: &mut Vec<Satisfied>,
    ) {
        let start = satisfied.len();
        match cache {
            Some(cache) if !self.stable.is_empty() => match cache.find(view, &self.key) {
                Some(clauses) => satisfied.extend_from_slice(clauses),
                None => {
                    self.stable.run(view, memo, satisfied);
                    cache.keep(&satisfied[start..]);
                }
            },
            _ => self.stable.run(view, memo, satisfied),
        }
        let middle = satisfied.len();
        self.volatile.run(view, memo, satisfied);
        if middle > start && satisfied.len() > middle {
            satisfied[start..].sort_unstable_by_key(|satisfied| satisfied.clause);
        }
    }
}

fn fields_of(conditions: &[&Predicate]) -> FieldSet {
    let mut fields = FieldSet::default();
    conditions
        .iter()
        .for_each(|c| c.collect_fields(&mut fields));
    fields
}
