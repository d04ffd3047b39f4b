//! Counting tests by what their programs print.

use std::ops::AddAssign;

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Counts the lines of test programs.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    summaries: Tally,
    /// Skips of our own, which libtest counts as passes.
    skips: u64,
}

impl Counter {
    pub(crate) fn line(&mut self, line: &str) {
        // One test at a time, libtest names it before it runs: `test a ... skipped: why`.
        if line.starts_with("skipped: ") || line.contains(" ... skipped: ") {
            self.skips += 1;
        } else if let Some(summary) = line.strip_prefix("test result: ") {
            let counts = summary.split_once(". ").map_or("", |(_, counts)| counts);
            self.summaries += counts_in(counts.split(';'));
        } else if is_plain_summary(line) {
            self.summaries += counts_in(line.split(','));
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            passed: self.summaries.passed.saturating_sub(self.skips),
            skipped: self.summaries.skipped + self.skips,
            ..self.summaries
        }
    }
}

/// `3 passed, 0 failed` alone on a line, as `daemoneye rules test` ends.
fn is_plain_summary(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    matches!(words[..], [_, "passed,", _, "failed"])
}

fn counts_in<'a>(parts: impl Iterator<Item = &'a str> + Clone) -> Tally {
    let count = |name: &str| {
        let number = |part: &str| part.trim().strip_suffix(name)?.trim().parse().ok();
        parts.clone().find_map(number).unwrap_or(0)
    };
    Tally {
        passed: count("passed"),
        failed: count("failed"),
        skipped: count("ignored"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Counter, Tally};

    #[test]
    fn summaries_add_up_and_skips_are_not_passes() {
        let mut counter = Counter::default();
        for line in [
            "skipped: tests/process.rs:9: not root",
            "test b ... skipped: tests/process.rs:12: not root",
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished",
            "12 passed, 1 failed",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            counter.line(line);
        }
        assert_eq!(
            counter.tally(),
            Tally {
                passed: 14,
                failed: 3,
                skipped: 3
            }
        );
    }
}
