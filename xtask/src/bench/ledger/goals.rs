//! What was promised, and whether it was met.

use serde_json::{Value, json};

use super::super::table::Table;
use crate::shell;

pub(super) struct Goal {
    what: &'static str,
    /// A figure and the bound that it is held against.
    found: f64,
    bound: Bound,
    digits: usize,
    unit: &'static str,
}

#[derive(Clone, Copy)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    pub(super) fn new(
        what: &'static str,
        found: f64,
        bound: Bound,
        digits: usize,
        unit: &'static str,
    ) -> Self {
        Self {
            what,
            found,
            bound,
            digits,
            unit,
        }
    }

    fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtLeast(least) => self.found >= least,
            Bound::AtMost(most) => self.found <= most,
        }
    }

    pub(super) fn json(&self) -> Value {
        let (name, bound) = match self.bound {
            Bound::AtLeast(least) => ("at_least", least),
            Bound::AtMost(most) => ("at_most", most),
        };
        json!({ "goal": self.what, name: bound, "found": self.found, "met": self.is_met() })
    }

    fn row(&self) -> [String; 4] {
        let (sign, bound) = match self.bound {
            Bound::AtLeast(least) => ("≥", least),
            Bound::AtMost(most) => ("≤", most),
        };
        let (digits, unit) = (self.digits, self.unit);
        [
            self.what.to_owned(),
            format!("{sign} {bound}{unit}"),
            format!("{:.digits$}{unit}", self.found),
            if self.is_met() { "met" } else { "missed" }.to_owned(),
        ]
    }
}

pub(super) fn print(goals: &[Goal]) {
    shell::say("");
    let mut table = Table::new(["goal", "bound", "found", ""]);
    goals.iter().for_each(|goal| table.row(goal.row()));
    table.print();
}

#[cfg(test)]
mod tests {
    use super::{Bound, Goal};

    #[test]
    fn bounds_are_met_exactly() {
        let check = |found, bound, met| {
            assert_eq!(Goal::new("", found, bound, 1, "").is_met(), met);
        };
        check(0.7, Bound::AtLeast(0.7), true);
        check(0.69, Bound::AtLeast(0.7), false);
        check(10.0, Bound::AtMost(10.0), true);
        check(10.1, Bound::AtMost(10.0), false);
    }
}
