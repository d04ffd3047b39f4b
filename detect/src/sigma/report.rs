//! What became of every rule.

use crate::error::Error;
use crate::sigma::logsource::Os;

/// What became of the rules of a set that did not simply load.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Rules that run without some of their fields.
    pub degraded: Vec<Degraded>,
    /// What is wrong with documents that do not run: at least one error for each.
    pub rejected: Vec<Error>,
    /// Number of rules, filters and correlations that these errors are about.
    pub rejected_documents: usize,
    /// Rules for another operating system.
    pub elsewhere: Vec<Elsewhere>,
    /// Rules that only fire as parts of correlations.
    pub components: Vec<Component>,
    /// Number of filters that were applied.
    pub filters: usize,
    /// Tests in files beside the rules that are of no rule of the set, nor of one for another system.
    pub untested: Vec<Untested>,
}

/// Tests that are not run: what they are of is rejected, only a part of correlations, or not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untested {
    /// File of the tests.
    pub file: String,
    /// The rule, if they name it.
    pub rule_id: Option<String>,
    /// How many.
    pub tests: usize,
}

/// A rule that runs without some of its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Degraded {
    /// The rule.
    pub rule_id: String,
    /// Its title.
    pub title: String,
    /// Its file.
    pub file: String,
    /// Its line there.
    pub line: u64,
    /// Fields that no event here has, as the rule names them.
    pub fields: Vec<String>,
    /// Those without which it can fire where it should not: its exceptions ask for them.
    pub misfiring: Vec<String>,
    /// It cannot fire at all here.
    pub never: bool,
}

impl std::fmt::Display for Degraded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no {} here", self.fields.join(", "))?;
        if self.never {
            write!(f, "; it cannot fire")?;
        } else if !self.misfiring.is_empty() {
            let fields = self.misfiring.join(", ");
            write!(
                f,
                "; exceptions on {fields} do not hold, so it can fire wrongly"
            )?;
        }
        Ok(())
    }
}

/// A rule for another operating system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// The rule.
    pub rule_id: String,
    /// The other name that it has.
    pub name: Option<String>,
    /// Its title.
    pub title: String,
    /// Its file.
    pub file: String,
    /// Its line there.
    pub line: u64,
    /// The system.
    pub os: Os,
}

/// A rule that only fires as a part of a correlation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// The rule.
    pub rule_id: String,
    /// Its file.
    pub file: String,
    /// Its line there.
    pub line: u64,
    /// The correlation.
    pub correlation: String,
}
