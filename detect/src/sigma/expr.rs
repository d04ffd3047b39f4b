//! The condition of a rule while it is put together, with what is known of its fields.

use crate::ir::{Predicate, Scalar};

/// A condition in two-valued logic: what asks for a missing field is false.
#[derive(Debug, Clone)]
pub(crate) enum Expr {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Leaf(Leaf),
}

/// One comparison.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) predicate: Predicate,
    /// The field that no event here has, if the leaf reads one.
    pub(crate) missing: Option<Missing>,
}

/// A field that no event here has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) field: String,
    /// What the leaf is without it.
    pub(crate) truth: bool,
}

/// What missing fields do to a condition.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Gaps {
    /// Names of the fields, in order, each once.
    pub(crate) fields: Vec<String>,
    /// Those whose absence can make the condition true where it should be false.
    pub(crate) misfiring: Vec<String>,
}

impl Expr {
    pub(crate) fn leaf(predicate: Predicate) -> Self {
        Self::Leaf(Leaf {
            predicate,
            missing: None,
        })
    }

    /// A leaf on a field that no event here has.
    pub(crate) fn missing(field: &str, truth: bool, predicate: Option<Predicate>) -> Self {
        let constant = || Predicate::Truth(Scalar::Bool(truth));
        Self::Leaf(Leaf {
            predicate: predicate.unwrap_or_else(constant),
            missing: Some(Missing {
                field: field.to_owned(),
                truth,
            }),
        })
    }

    pub(crate) fn all(mut parts: Vec<Self>) -> Self {
        match parts.len() {
            1 => parts.remove(0),
            _ => Self::And(parts),
        }
    }

    pub(crate) fn any(mut parts: Vec<Self>) -> Self {
        match parts.len() {
            1 => parts.remove(0),
            _ => Self::Or(parts),
        }
    }

    pub(crate) fn not(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// In the engine's three-valued logic. Unknown and false only differ below a negation, so that
    /// is where unknown becomes false.
    pub(crate) fn predicate(&self) -> Predicate {
        match self {
            Self::And(parts) => Predicate::And(parts.iter().map(Self::predicate).collect()),
            Self::Or(parts) => Predicate::Or(parts.iter().map(Self::predicate).collect()),
            Self::Not(inner) => {
                let known = Predicate::Is(Box::new(inner.predicate()), Some(true));
                Predicate::Not(Box::new(known))
            }
            Self::Leaf(leaf) => leaf.predicate.clone(),
        }
    }

    /// The one truth that the condition can have here, if there is only one.
    pub(crate) fn constant(&self) -> Option<bool> {
        match self {
            Self::And(parts) => {
                let mut truths = parts.iter().map(Self::constant);
                if truths.clone().any(|truth| truth == Some(false)) {
                    return Some(false);
                }
                truths.all(|truth| truth == Some(true)).then_some(true)
            }
            Self::Or(parts) => {
                let mut truths = parts.iter().map(Self::constant);
                if truths.clone().any(|truth| truth == Some(true)) {
                    return Some(true);
                }
                truths.all(|truth| truth == Some(false)).then_some(false)
            }
            Self::Not(inner) => inner.constant().map(|truth| !truth),
            Self::Leaf(leaf) => leaf.missing.as_ref().map(|missing| missing.truth),
        }
    }

    /// Number of comparisons.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::size).sum(),
            Self::Not(inner) => inner.size(),
            Self::Leaf(_) => 1,
        }
    }

    pub(crate) fn gaps(&self) -> Gaps {
        let mut gaps = Gaps::default();
        self.collect_gaps(true, &mut gaps);
        gaps
    }

    /// `positive`: the condition becomes true with this part.
    fn collect_gaps(&self, positive: bool, gaps: &mut Gaps) {
        match self {
            Self::And(parts) | Self::Or(parts) => {
                parts
                    .iter()
                    .for_each(|part| part.collect_gaps(positive, gaps));
            }
            Self::Not(inner) => inner.collect_gaps(!positive, gaps),
            Self::Leaf(leaf) => {
                let Some(missing) = &leaf.missing else { return };
                insert(&mut gaps.fields, &missing.field);
                if missing.truth == positive {
                    insert(&mut gaps.misfiring, &missing.field);
                }
            }
        }
    }
}

fn insert(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::{Expr, Gaps};
    use crate::ir::{Predicate, Scalar};

    fn known() -> Expr {
        Expr::leaf(Predicate::Truth(Scalar::Bool(true)))
    }

    fn missing(name: &str) -> Expr {
        Expr::missing(name, false, None)
    }

    #[test]
    fn a_condition_that_needs_a_missing_field_has_one_truth() {
        let check = |expr: Expr, truth| assert_eq!(expr.constant(), truth, "{expr:?}");
        check(known(), None);
        check(missing("A"), Some(false));
        check(missing("A").not(), Some(true));
        check(Expr::And(vec![known(), missing("A")]), Some(false));
        check(Expr::Or(vec![known(), missing("A")]), None);
        check(Expr::Or(vec![missing("B"), missing("A")]), Some(false));
        check(Expr::And(vec![known(), missing("A").not()]), None);
        check(Expr::missing("A", true, None), Some(true));
    }

    #[test]
    fn what_is_missing_under_a_not_can_misfire() {
        let check = |expr: Expr, fields: &[&str], misfiring: &[&str]| {
            let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
            let (fields, misfiring) = (names(fields), names(misfiring));
            assert_eq!(expr.gaps(), Gaps { fields, misfiring });
        };
        check(Expr::Or(vec![missing("A"), missing("A")]), &["A"], &[]);
        check(
            Expr::And(vec![missing("B"), missing("A").not()]),
            &["B", "A"],
            &["A"],
        );
        check(missing("A").not().not(), &["A"], &[]);
        check(Expr::missing("A", true, None), &["A"], &["A"]);
        check(Expr::missing("A", true, None).not(), &["A"], &[]);
    }
}
