//! What becomes an alert: not every repetition of a finding is worth a line, but every one that is
//! left out is counted.
//!
//! A repetition is the same rule on the same process that runs the same program file with the same
//! arguments, within [`Policy::dedup_ns`] of an alert; or that tries the same path again with the
//! same result, or whose program has the same digest. An exec of anything else is an alert of its
//! own, so one that was alerted on cannot hide what its process runs next. Arguments that were
//! captured in part only are equal to nothing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};

use event::{Argv, BootTime, Event, EventKind, FileIdentity, Finding, Level, Process, ProcessKey};

/// An alert on its way to the sinks.
#[derive(Debug)]
pub struct Alert<'a> {
    /// What fired.
    pub finding: &'a Finding,
    /// The event that completed it.
    pub evidence: &'a Event,
    /// Findings of the same rule with the same executable path that raised no alert since the last
    /// one of the two. Kept for the last 256 such pairs; findings of others are counted
    /// in [`crate::Stats`] only.
    pub folded: u64,
}

/// What an operator can set.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Findings below this level are recorded but raise no alert.
    pub min_level: Level,
    /// A rule fires once for a process and what it runs within this time.
    pub dedup_ns: u64,
    /// Alerts of one rule …
    pub rate_limit: usize,
    /// … within this time.
    pub rate_window_ns: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_level: Level::Medium,
            dedup_ns: 60_000_000_000,
            rate_limit: 100,
            rate_window_ns: 10_000_000_000,
        }
    }
}

/// What is done with a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Give it to the sinks, with the number of findings folded before it.
    Raise(u64),
    /// Its level is below the policy's.
    BelowLevel,
    /// The same rule raised an alert on the same process and program already.
    Duplicate,
    /// The rule fires too often.
    RateLimited,
}

/// Decides which findings become alerts. Time is the time of events, so that a replay decides as
/// the live run did.
#[derive(Debug)]
pub struct Gate {
    policy: Policy,
    recent: HashSet<Repetition>,
    /// The entries of `recent` by age.
    order: VecDeque<(BootTime, Repetition)>,
    rules: HashMap<String, RuleState>,
    folded: VecDeque<Folded>,
    /// Seeded, so that nobody can choose arguments that look like others.
    hasher: RandomState,
}

/// Entries of the dedup memory; the oldest go first.
const MAX_RECENT: usize = 16_384;

/// Counts of folded findings that wait for an alert; the oldest go first. Searched in line.
const MAX_FOLDED: usize = 256;

/// What makes two findings the same alert.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Repetition {
    rule: String,
    key: ProcessKey,
    /// Hash of what ran.
    program: u64,
}

/// Findings that wait to be told with the next alert of their rule and executable.
#[derive(Debug)]
struct Folded {
    rule: String,
    exe: Vec<u8>,
    count: u64,
}

#[derive(Debug, Default)]
struct RuleState {
    raised: VecDeque<BootTime>,
    limited: bool,
}

impl Gate {
    /// A gate without memory yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            recent: HashSet::new(),
            order: VecDeque::new(),
            rules: HashMap::new(),
            folded: VecDeque::new(),
            hasher: RandomState::new(),
        }
    }

    /// Decides on one finding; `evidence` is the event that completed it.
    pub fn decide(&mut self, finding: &Finding, evidence: &Event) -> Verdict {
        if finding.level < self.policy.min_level {
            return Verdict::BelowLevel;
        }
        let now = finding.header.time;
        self.forget(now);
        let repetition = self.repetition(finding, evidence);
        if repetition.as_ref().is_some_and(|r| self.recent.contains(r)) {
            self.fold(finding);
            return Verdict::Duplicate;
        }
        if !self.within_rate(finding, now) {
            self.fold(finding);
            return Verdict::RateLimited;
        }
        // Only now: what raised no alert must not hide the next one.
        if let Some(repetition) = repetition {
            self.order.push_back((now, repetition.clone()));
            self.recent.insert(repetition);
        }
        Verdict::Raise(self.take_folded(finding))
    }

    /// `None` for what is never a repetition.
    fn repetition(&self, finding: &Finding, evidence: &Event) -> Option<Repetition> {
        Some(Repetition {
            rule: finding.rule_id.clone(),
            key: finding.key?,
            program: self
                .hasher
                .hash_one((&finding.exe, subject(&evidence.kind)?)),
        })
    }

    fn within_rate(&mut self, finding: &Finding, now: BootTime) -> bool {
        let (limit, window) = (self.policy.rate_limit, self.policy.rate_window_ns);
        let rule = self.rules.entry(finding.rule_id.clone()).or_default();
        let first = !rule.limited;
        rule.limited = !rule.raise(now, limit, window);
        if rule.limited && first {
            tracing::warn!(
                "rule {} raises over {limit} alerts in {} s; more are recorded only",
                finding.rule_id,
                window / 1_000_000_000
            );
        }
        !rule.limited
    }

    fn forget(&mut self, now: BootTime) {
        while let Some((time, _)) = self.order.front() {
            let expired = now.0.saturating_sub(time.0) > self.policy.dedup_ns;
            if !expired && self.order.len() < MAX_RECENT {
                return;
            }
            if let Some((_, repetition)) = self.order.pop_front() {
                self.recent.remove(&repetition);
            }
        }
    }

    fn fold(&mut self, finding: &Finding) {
        if let Some(folded) = self.folded.iter_mut().find(|f| f.is_of(finding)) {
            folded.count += 1;
            return;
        }
        if self.folded.len() == MAX_FOLDED {
            self.folded.pop_front();
        }
        self.folded.push_back(Folded {
            rule: finding.rule_id.clone(),
            exe: finding.exe.to_vec(),
            count: 1,
        });
    }

    fn take_folded(&mut self, finding: &Finding) -> u64 {
        let place = self.folded.iter().position(|f| f.is_of(finding));
        place
            .and_then(|place| self.folded.remove(place))
            .map_or(0, |folded| folded.count)
    }
}

/// What tells two events of one process and executable apart.
#[derive(Hash)]
enum Subject<'e> {
    Program(&'e Argv, Option<File>),
    Attempt(&'e [u8], u32),
    Digest(Option<[u8; 32]>, Option<File>),
    Process,
}

/// Inode and device.
type File = (u64, u32);

/// `None` for what equals nothing.
fn subject(kind: &EventKind) -> Option<Subject<'_>> {
    match kind {
        EventKind::Exec(exec) => program(&exec.process),
        EventKind::Snapshot(row) => program(&row.process),
        EventKind::FailedExec(failed) => Some(Subject::Attempt(&failed.filename, failed.errno)),
        EventKind::Hashed(hashed) => Some(Subject::Digest(
            hashed.outcome.ok().map(|digest| digest.sha256),
            hashed.exe_file.map(file),
        )),
        _ => Some(Subject::Process),
    }
}

fn program(process: &Process) -> Option<Subject<'_>> {
    let whole = process.argv_truncated_bytes == 0;
    whole.then(|| Subject::Program(&process.argv, process.exe_file.map(file)))
}

fn file(file: FileIdentity) -> File {
    (file.inode, file.device)
}

impl Folded {
    fn is_of(&self, finding: &Finding) -> bool {
        self.rule == finding.rule_id && self.exe == finding.exe
    }
}

impl RuleState {
    /// False if the rule has used its alerts up.
    fn raise(&mut self, now: BootTime, limit: usize, window_ns: u64) -> bool {
        while self
            .raised
            .front()
            .is_some_and(|t| now.0.saturating_sub(t.0) > window_ns)
        {
            self.raised.pop_front();
        }
        let room = self.raised.len() < limit;
        if room {
            self.raised.push_back(now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use event::{Digest, Exec, Exit, FailedExec, HashFailure, Hashed, Header};

    use super::*;

    fn finding(rule: &str, pid: u32, seconds: u64) -> Finding {
        Finding {
            header: Header {
                time: BootTime(seconds * 1_000_000_000),
                ..Header::default()
            },
            rule_id: rule.into(),
            level: Level::High,
            key: Some(ProcessKey {
                pid,
                ..ProcessKey::default()
            }),
            ..Finding::default()
        }
    }

    fn event(kind: EventKind) -> Event {
        Event {
            header: Header::default(),
            kind,
        }
    }

    fn exec(process: Process) -> Event {
        event(EventKind::Exec(Box::new(Exec {
            process,
            old_tid: None,
        })))
    }

    fn running(arguments: &[&str]) -> Process {
        Process {
            argv: Argv::from_iter(arguments),
            ..Process::default()
        }
    }

    fn decide(gate: &mut Gate, finding: &Finding) -> Verdict {
        gate.decide(finding, &exec(running(&["x"])))
    }

    #[test]
    fn a_rule_fires_once_for_a_process_within_the_window() {
        let mut gate = Gate::new(Policy::default());
        let mut check = |rule, pid, seconds, verdict| {
            assert_eq!(decide(&mut gate, &finding(rule, pid, seconds)), verdict);
        };
        check("r", 1, 0, Verdict::Raise(0));
        check("r", 1, 30, Verdict::Duplicate);
        check("s", 1, 30, Verdict::Raise(0));
        check("r", 2, 30, Verdict::Raise(1));
        check("r", 1, 61, Verdict::Raise(0));
    }

    #[test]
    fn another_program_of_the_same_process_is_an_alert_of_its_own() {
        // A process that was alerted on could exec anything for a minute unseen.
        let mut gate = Gate::new(Policy::default());
        let file = |inode| Process {
            exe_file: Some(FileIdentity {
                inode,
                ..FileIdentity::default()
            }),
            ..running(&["a"])
        };
        let cut = || Process {
            argv_truncated_bytes: 1,
            ..running(&["a"])
        };
        let mut check = |process, verdict| {
            assert_eq!(gate.decide(&finding("r", 1, 0), &exec(process)), verdict);
        };
        check(running(&["a"]), Verdict::Raise(0));
        check(running(&["a"]), Verdict::Duplicate);
        check(running(&["a", "b"]), Verdict::Raise(1));
        check(running(&["ab"]), Verdict::Raise(0));
        check(file(1), Verdict::Raise(0));
        check(file(2), Verdict::Raise(0));
        check(file(2), Verdict::Duplicate);
        check(cut(), Verdict::Raise(1));
        check(cut(), Verdict::Raise(0));

        let other_exe = Finding {
            exe: "/other".into(),
            ..finding("r", 1, 0)
        };
        assert_eq!(decide(&mut gate, &other_exe), Verdict::Raise(0));
    }

    #[test]
    fn events_without_a_program_are_told_apart_by_process() {
        let mut gate = Gate::new(Policy::default());
        let exit = event(EventKind::Exit(Exit::default()));
        assert_eq!(gate.decide(&finding("r", 1, 0), &exit), Verdict::Raise(0));
        assert_eq!(gate.decide(&finding("r", 1, 0), &exit), Verdict::Duplicate);
        let nobody = Finding {
            key: None,
            ..finding("r", 1, 0)
        };
        assert_eq!(gate.decide(&nobody, &exit), Verdict::Raise(1));
        assert_eq!(gate.decide(&nobody, &exit), Verdict::Raise(0));
    }

    #[test]
    fn another_attempt_and_another_digest_are_alerts_of_their_own() {
        // What followed the first one was folded, whatever it was.
        let mut gate = Gate::new(Policy::default());
        let mut check = |kind, verdict| {
            assert_eq!(gate.decide(&finding("r", 1, 0), &event(kind)), verdict);
        };
        let failed = |filename: &'static str, errno| {
            EventKind::FailedExec(Box::new(FailedExec {
                filename: filename.into(),
                errno,
                ..FailedExec::default()
            }))
        };
        check(failed("/tmp/a", 13), Verdict::Raise(0));
        check(failed("/tmp/a", 13), Verdict::Duplicate);
        check(failed("/tmp/b", 13), Verdict::Raise(1));
        check(failed("/tmp/a", 8), Verdict::Raise(0));
        let hashed = |outcome| {
            EventKind::Hashed(Box::new(Hashed {
                key: ProcessKey::default(),
                exe: "/tmp/a".into(),
                exe_file: None,
                outcome,
            }))
        };
        let digest = |byte, changed| {
            hashed(Ok(Digest {
                sha256: [byte; 32],
                changed,
                touched: false,
            }))
        };
        check(digest(1, true), Verdict::Raise(0));
        check(digest(1, true), Verdict::Duplicate);
        check(digest(2, true), Verdict::Raise(1));
        check(hashed(Err(HashFailure::Gone)), Verdict::Raise(0));
        check(hashed(Err(HashFailure::Gone)), Verdict::Duplicate);
    }

    #[test]
    fn a_count_is_told_with_the_same_rule_and_executable_only() {
        let mut gate = Gate::new(Policy::default());
        let of = |exe: &'static str, pid| Finding {
            exe: exe.into(),
            ..finding("r", pid, 0)
        };
        assert_eq!(decide(&mut gate, &of("/a", 1)), Verdict::Raise(0));
        assert_eq!(decide(&mut gate, &of("/a", 1)), Verdict::Duplicate);
        assert_eq!(decide(&mut gate, &of("/b", 2)), Verdict::Raise(0));
        assert_eq!(decide(&mut gate, &of("/a", 3)), Verdict::Raise(1));
        assert_eq!(decide(&mut gate, &of("/a", 4)), Verdict::Raise(0));
    }

    #[test]
    fn what_the_rate_limit_folds_is_counted_and_hides_no_later_alert() {
        let mut gate = Gate::new(Policy {
            rate_limit: 2,
            ..Policy::default()
        });
        let mut check = |pid, seconds, verdict| {
            assert_eq!(decide(&mut gate, &finding("r", pid, seconds)), verdict);
        };
        for pid in 0..2 {
            check(pid, 0, Verdict::Raise(0));
        }
        for pid in 2..5 {
            check(pid, 1, Verdict::RateLimited);
        }
        check(9, 12, Verdict::Raise(3));
        // It raised nothing so far, so this is no repetition.
        check(2, 12, Verdict::Raise(0));
    }

    #[test]
    fn medium_is_the_lowest_level_that_raises_an_alert_by_default() {
        let mut gate = Gate::new(Policy::default());
        let mut check = |level, verdict| {
            let finding = Finding {
                level,
                ..finding(level.name(), 1, 0)
            };
            assert_eq!(decide(&mut gate, &finding), verdict);
        };
        check(Level::Informational, Verdict::BelowLevel);
        check(Level::Low, Verdict::BelowLevel);
        check(Level::Medium, Verdict::Raise(0));
    }

    #[test]
    fn levels_below_the_policy_raise_nothing() {
        let mut gate = Gate::new(Policy {
            min_level: Level::Critical,
            ..Policy::default()
        });
        assert_eq!(decide(&mut gate, &finding("r", 1, 0)), Verdict::BelowLevel);
    }

    #[test]
    fn memory_is_bounded() {
        let mut gate = Gate::new(Policy {
            rate_limit: usize::MAX,
            ..Policy::default()
        });
        for pid in 0..40_000 {
            let finding = Finding {
                exe: pid.to_string().into(),
                ..finding("r", pid, 0)
            };
            decide(&mut gate, &finding);
            decide(&mut gate, &finding);
        }
        assert!(gate.recent.len() <= MAX_RECENT);
        assert_eq!(gate.order.len(), gate.recent.len());
        assert_eq!(gate.folded.len(), MAX_FOLDED);
    }
}
