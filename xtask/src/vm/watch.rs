//! What is read off the serial line of a VM: which tests ran, and what its kernel complains of.

use std::time::Duration;

use crate::tally::{Counter, Tally};

/// How a VM ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Success,
    Failure(String),
}

/// What a VM did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) tally: Tally,
    /// As the kernel calls itself.
    pub(crate) release: String,
    /// Kernel complaints that are no failure.
    pub(crate) warnings: usize,
    pub(crate) time: Duration,
    /// What was on the console since init started.
    pub(crate) lines: Vec<String>,
}

impl Outcome {
    /// The kernel changes code that runs (tracepoints that come and go) by way of a breakpoint, which is
    /// gone when all cpus were told. QEMU before 8.1 translates without a lock on the page, so that a
    /// cpu can come upon the breakpoint later, and the kernel knows nothing of it.
    pub(crate) fn is_emulators_fault(&self) -> bool {
        let failed = matches!(self.verdict, Verdict::Failure(_));
        failed
            && self
                .lines
                .iter()
                .any(|line| line.contains("] Oops: int3: "))
    }
}

/// What a kernel in trouble prints, what that is called, and whether the VM has failed by it.
const SYMPTOMS: [(&str, &str, bool); 9] = [
    ("Kernel panic - not syncing", "panic", true),
    ("] BUG: ", "bug", true),
    ("] kernel BUG at ", "bug", true),
    ("BUG: soft lockup", "soft lockup", true),
    ("hard LOCKUP", "hard lockup", true),
    // The kernel says `rcu_sched detected stalls` and `rcu_preempt self-detected stall`.
    ("detected stall", "RCU stall", true),
    ("blocked for more than", "hung task", true),
    ("Out of memory: Killed process", "out of memory", true),
    // The console shows none, as they would cut the lines of tests; init does, last.
    ("init: kernel warning: ", "kernel warning", false),
];

/// What was seen on a console.
#[derive(Default)]
pub(crate) struct Watch {
    lines: Vec<String>,
    counter: Counter,
    release: String,
    verdict: Option<Verdict>,
    /// The first complaint that fails the VM.
    trouble: Option<String>,
    warnings: usize,
    /// The last test that started.
    test: String,
    /// Tests that failed, by name.
    failed: Vec<String>,
}

impl Watch {
    pub(crate) fn is_over(&self) -> bool {
        self.verdict.is_some()
    }

    /// Takes a line; gives whether it is the last but for a few.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        if is_test(line) {
            self.test = line.to_owned();
        }
        self.counter.line(line);
        if let Some(release) = line.strip_prefix("init: kernel ") {
            self.release = release.to_owned();
        }
        if line.starts_with("init: ") || !self.lines.is_empty() {
            self.lines.push(line.to_owned());
        }
        self.failed.extend(failed_test(line));
        if let Some(reason) = line.strip_prefix("init: failure") {
            self.verdict = Some(Verdict::Failure(self.failure(reason)));
        } else if line == "init: success" {
            self.verdict = Some(Verdict::Success);
        }
        self.symptom(line)
    }

    fn failure(&self, reason_of_init: &str) -> String {
        if self.failed.is_empty() {
            return format!("init reports failure{reason_of_init}");
        }
        format!("failed: {}", self.failed.join(", "))
    }

    /// Notes what the kernel complains of; gives whether it is a panic.
    fn symptom(&mut self, line: &str) -> bool {
        let found = SYMPTOMS.iter().find(|(text, ..)| line.contains(text));
        let Some((_, name, fatal)) = found else {
            return false;
        };
        if !fatal {
            self.warnings += 1;
        } else if self.trouble.is_none() {
            self.trouble = Some(format!("{name}: {line}"));
        }
        *name == "panic"
    }

    /// `ended` says why there is no verdict of init.
    pub(crate) fn outcome(&mut self, ended: Option<String>, time: Duration) -> Outcome {
        let tally = self.counter.tally();
        let verdict = match (self.trouble.take(), ended, self.verdict.take()) {
            (Some(trouble), ..) => Verdict::Failure(trouble),
            (None, Some(ended), _) => Verdict::Failure(format!("{ended}{}", self.last_seen())),
            (None, None, Some(Verdict::Success)) if tally == Tally::default() => {
                Verdict::Failure("no test of that name ran".into())
            }
            (None, None, verdict) => verdict.unwrap_or(Verdict::Success),
        };
        Outcome {
            verdict,
            tally,
            release: std::mem::take(&mut self.release),
            warnings: self.warnings,
            time,
            lines: std::mem::take(&mut self.lines),
        }
    }

    fn last_seen(&self) -> String {
        match (self.lines.last(), self.test.is_empty()) {
            (None, _) => ", and init did not start".into(),
            (Some(last), true) => format!("; the last line is: {last}"),
            (Some(_), false) => format!("; the last test is: {}", self.test),
        }
    }
}

/// Whether the line is about one test.
pub(crate) fn is_test(line: &str) -> bool {
    line.starts_with("test ") && !line.starts_with("test result")
}

fn failed_test(line: &str) -> Option<String> {
    let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Outcome, Verdict, Watch};

    /// What a console with these lines says, and why it stopped without a verdict.
    fn watch(lines: &[&str], ended: Option<&str>) -> Outcome {
        let mut watch = Watch::default();
        for line in lines {
            watch.line(line);
        }
        watch.outcome(ended.map(str::to_owned), Duration::ZERO)
    }

    const PASSED: &str =
        "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";

    #[test]
    fn verdict_of_init_counts_where_the_kernel_is_well() {
        let outcome = watch(&["init: kernel 6.1", PASSED, "init: success"], None);
        assert_eq!(outcome.verdict, Verdict::Success);
        assert_eq!((outcome.tally.passed, outcome.release.as_str()), (3, "6.1"));
        let outcome = watch(&["init: kernel 6.1", PASSED, "init: failure: why"], None);
        assert_eq!(
            outcome.verdict,
            Verdict::Failure("init reports failure: why".into())
        );
    }

    #[test]
    fn breakpoint_that_was_gone_is_the_emulators_fault_and_another_oops_is_not() {
        let panic = "[  158.8] Kernel panic - not syncing: Fatal exception in interrupt";
        let check = |oops: &str, expected| {
            let outcome = watch(&["init: kernel 6.12", oops, panic], Some("the VM ended"));
            assert_eq!(outcome.is_emulators_fault(), expected, "{oops}");
        };
        check(
            "test x ... [  158.8] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI",
            true,
        );
        check(
            "[  158.8] Oops: general protection fault: 0000 [#1] SMP",
            false,
        );
    }

    #[test]
    fn failed_tests_are_the_reason() {
        let lines = [
            "init: ",
            "test a ... ok",
            "test b ... FAILED",
            "init: failure",
        ];
        let outcome = watch(&lines, None);
        assert_eq!(outcome.verdict, Verdict::Failure("failed: b".into()));
    }

    #[test]
    fn trouble_of_the_kernel_is_named_whatever_init_says() {
        let check = |line: &str, name: &str| {
            let outcome = watch(&["init: kernel 6.1", line, PASSED, "init: success"], None);
            assert_eq!(outcome.verdict, Verdict::Failure(format!("{name}: {line}")));
        };
        check(
            "[    9.1] Kernel panic - not syncing: Attempted to kill init!",
            "panic",
        );
        check(
            "[   30.2] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [x:1]",
            "soft lockup",
        );
        check(
            "[   30.2] rcu: INFO: rcu_sched detected stalls on CPUs/tasks:",
            "RCU stall",
        );
        check(
            "[   30.2] rcu: INFO: rcu_preempt self-detected stall on CPU",
            "RCU stall",
        );
        check(
            "[  140.2] INFO: task x:1 blocked for more than 120 seconds.",
            "hung task",
        );
        check(
            "[    1.2] BUG: unable to handle page fault for address: 0",
            "bug",
        );
        let warned = watch(
            &[
                "init: ",
                "init: kernel warning: WARNING: CPU: 0 PID: 1",
                PASSED,
                "init: success",
            ],
            None,
        );
        assert_eq!((warned.verdict, warned.warnings), (Verdict::Success, 1));
    }

    #[test]
    fn vm_that_hangs_names_the_test_that_it_hangs_in() {
        let check = |lines: &[&str], expected: &str| {
            let outcome = watch(lines, Some("no verdict within 1 s"));
            assert_eq!(outcome.verdict, Verdict::Failure(expected.into()));
        };
        check(
            &["[ 0.0] Booting"],
            "no verdict within 1 s, and init did not start",
        );
        check(
            &["init: kernel"],
            "no verdict within 1 s; the last line is: init: kernel",
        );
        check(
            &["init: kernel", "test a ... ok", "test b ... "],
            "no verdict within 1 s; the last test is: test b ... ",
        );
    }

    #[test]
    fn filter_that_fits_no_test_is_a_failure() {
        let outcome = watch(&["init: kernel", "init: success"], None);
        assert_eq!(
            outcome.verdict,
            Verdict::Failure("no test of that name ran".into())
        );
    }
}
