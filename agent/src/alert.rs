//! What becomes an alert: not every repetition of a finding is worth a line, but every one that is
//! left out is counted.
//!
//! A rule can say which of its findings are repetitions of each other, and for how long after an
//! alert. For others it is the same rule on the same process that runs the same program file with
//! the same arguments, within [`Policy::dedup_ns`] of an alert; or that tries the same path again with
//! the same result, or whose program has the same digest. An exec of anything else is an alert of its
//! own, so one that was alerted on cannot hide what its process runs next. Arguments that were
//! captured in part only are equal to nothing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use detect::{Rule, RuleSet, Sameness};
use event::{
    Argv, BootId, BootTime, Event, EventKind, FileIdentity, Finding, Header, Level, Process,
};

/// An alert on its way to the sinks.
#[derive(Debug)]
pub struct Alert<'a> {
    /// What fired.
    pub finding: &'a Finding,
    /// The event that completed it.
    pub evidence: &'a Event,
    /// Findings of the same rule with the same executable path, or whatever the rule tells its
    /// findings apart by, that raised no alert since the last one of the two. Kept for the last 256
    /// such pairs; findings of others are counted in [`crate::Observed`] only.
    pub folded: u64,
}

/// What an operator can set.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Findings below this level are recorded but raise no alert.
    pub min_level: Level,
    /// A rule fires once for a process and what it runs within this time, unless it names another.
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
    boot: BootId,
    /// Latest time of a finding: what is late counts as of then, as in rules that remember.
    now: BootTime,
    rules: HashMap<Arc<str>, RuleState>,
    /// Repetitions that all rules remember.
    remembered: usize,
    folded: VecDeque<Folded>,
    /// Seeded, so that nobody can choose arguments that look like others.
    hasher: RandomState,
}

/// Entries of the dedup memory of all rules; where there is no room, a rule's own oldest go.
const MAX_RECENT: usize = 16_384;

/// Counts of folded findings that wait for an alert; the oldest go first. Searched in line.
const MAX_FOLDED: usize = 256;

/// Findings that wait to be told with the next alert of their rule and kind.
#[derive(Debug)]
struct Folded {
    rule: Arc<str>,
    /// Hash of what they have in common: the executable, or what the rule tells them apart by.
    kind: u64,
    count: u64,
}

/// What the gate makes of a finding.
struct Subject {
    /// Stands for its repetitions; `None` for what is never one.
    repetition: Option<u64>,
    /// See [`Folded::kind`].
    kind: u64,
    window_ns: u64,
}

#[derive(Debug, Default)]
struct RuleState {
    raised: VecDeque<BootTime>,
    /// When it was last told that the rule has used its alerts up.
    limit_told: Option<BootTime>,
    /// Alerts that hide their repetitions …
    recent: HashSet<u64>,
    /// … by age.
    order: VecDeque<(BootTime, u64)>,
}

impl Gate {
    /// A gate without memory yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            boot: BootId::default(),
            now: BootTime::default(),
            rules: HashMap::new(),
            remembered: 0,
            folded: VecDeque::new(),
            hasher: RandomState::new(),
        }
    }

    /// Decides on one finding of `rule`; `evidence` is the event that completed it.
    pub fn decide(&mut self, finding: &Finding, evidence: &Event, rule: Option<&Rule>) -> Verdict {
        if finding.level < self.policy.min_level {
            return Verdict::BelowLevel;
        }
        let now = self.advance(&finding.header);
        let subject = self.subject(finding, evidence, rule);
        if self.is_repetition(finding, &subject, now) {
            self.fold(finding, &subject);
            return Verdict::Duplicate;
        }
        if !self.within_rate(finding, now) {
            self.fold(finding, &subject);
            return Verdict::RateLimited;
        }
        // Only now: what raised no alert must not hide the next one.
        if let Some(repetition) = subject.repetition {
            self.remember(finding, repetition, now);
        }
        Verdict::Raise(self.take_folded(finding, &subject))
    }

    /// Forgets rules that are not in this set.
    pub fn keep_rules(&mut self, rules: &RuleSet) {
        let known: HashSet<&str> = rules.rules().iter().map(|rule| rule.id.as_str()).collect();
        self.rules.retain(|rule, _| known.contains(&**rule));
        self.folded.retain(|f| known.contains(&*f.rule));
        self.remembered = self.rules.values().map(|rule| rule.order.len()).sum();
    }

    /// Takes the time of a finding. No alert hides what comes after a reboot.
    fn advance(&mut self, header: &Header) -> BootTime {
        if header.boot != self.boot {
            self.boot = header.boot;
            self.now = BootTime::default();
            self.rules.clear();
            self.remembered = 0;
        }
        self.now = self.now.max(header.time);
        self.now
    }

    fn subject(&self, finding: &Finding, evidence: &Event, rule: Option<&Rule>) -> Subject {
        let said = rule.map_or(Sameness::Unsaid, |r| r.sameness(evidence, &self.hasher));
        let window = rule.and_then(Rule::dedup_window);
        let window_ns = window.map(|window| u64::try_from(window.as_nanos()).unwrap_or(u64::MAX));
        let (repetition, kind) = match said {
            Sameness::Values(values) => (Some(values), values),
            Sameness::Unlike => (None, self.hasher.hash_one(&finding.exe)),
            Sameness::Unsaid => {
                let repetition = self.usual(finding, evidence);
                (repetition, self.hasher.hash_one(&finding.exe))
            }
        };
        Subject {
            repetition,
            kind,
            window_ns: window_ns.unwrap_or(self.policy.dedup_ns),
        }
    }

    /// What makes findings the same of which their rule says nothing.
    fn usual(&self, finding: &Finding, evidence: &Event) -> Option<u64> {
        let what = (finding.key?, &finding.exe, what(&evidence.kind)?);
        Some(self.hasher.hash_one(what))
    }

    fn is_repetition(&mut self, finding: &Finding, subject: &Subject, now: BootTime) -> bool {
        let Some(rule) = self.rules.get_mut(&*finding.rule_id) else {
            return false;
        };
        self.remembered -= rule.forget(now, subject.window_ns);
        let repetition = subject.repetition.as_ref();
        repetition.is_some_and(|repetition| rule.recent.contains(repetition))
    }

    fn remember(&mut self, finding: &Finding, repetition: u64, now: BootTime) {
        if self.remembered >= MAX_RECENT {
            self.make_room(&finding.rule_id);
        }
        let rule = self.rules.entry(finding.rule_id.clone()).or_default();
        rule.order.push_back((now, repetition));
        rule.recent.insert(repetition);
        self.remembered += 1;
    }

    /// Takes from the rule itself, so that one that fires often does not spoil it for others; of
    /// one that has nothing, from that with most.
    fn make_room(&mut self, rule: &str) {
        let own = self.rules.get_mut(rule).filter(|own| !own.order.is_empty());
        let from = match own {
            Some(own) => Some(own),
            None => self.rules.values_mut().max_by_key(|rule| rule.order.len()),
        };
        if let Some(from) = from
            && from.forget_oldest()
        {
            self.remembered -= 1;
        }
    }

    fn within_rate(&mut self, finding: &Finding, now: BootTime) -> bool {
        let (limit, window) = (self.policy.rate_limit, self.policy.rate_window_ns);
        let rule = self.rules.entry(finding.rule_id.clone()).or_default();
        let within = rule.raise(now, limit, window);
        if !within && rule.is_limit_news(now, window) {
            tracing::warn!(
                "rule {} raises over {limit} alerts in {} s; more are recorded only",
                finding.rule_id,
                window / 1_000_000_000
            );
        }
        within
    }

    fn fold(&mut self, finding: &Finding, subject: &Subject) {
        let mut waiting = self.folded.iter_mut();
        if let Some(folded) = waiting.find(|f| f.is_of(finding, subject)) {
            folded.count += 1;
            return;
        }
        if self.folded.len() == MAX_FOLDED {
            self.folded.pop_front();
        }
        self.folded.push_back(Folded {
            rule: finding.rule_id.clone(),
            kind: subject.kind,
            count: 1,
        });
    }

    fn take_folded(&mut self, finding: &Finding, subject: &Subject) -> u64 {
        let place = self.folded.iter().position(|f| f.is_of(finding, subject));
        place
            .and_then(|place| self.folded.remove(place))
            .map_or(0, |folded| folded.count)
    }
}

/// What tells two events of one process and executable apart.
#[derive(Hash)]
enum What<'e> {
    Program(&'e Argv, Option<File>),
    Attempt(&'e [u8], u32),
    Digest(Option<[u8; 32]>, Option<File>),
    Process,
}

/// Inode and device.
type File = (u64, u32);

/// `None` for what equals nothing.
fn what(kind: &EventKind) -> Option<What<'_>> {
    match kind {
        EventKind::Exec(exec) => program(&exec.process),
        EventKind::Snapshot(row) => program(&row.process),
        EventKind::FailedExec(failed) => Some(What::Attempt(&failed.filename, failed.errno)),
        EventKind::Hashed(hashed) => Some(What::Digest(
            hashed.outcome.ok().map(|digest| digest.sha256),
            hashed.exe_file.map(file),
        )),
        _ => Some(What::Process),
    }
}

fn program(process: &Process) -> Option<What<'_>> {
    let whole = process.argv_truncated_bytes == 0;
    whole.then(|| What::Program(&process.argv, process.exe_file.map(file)))
}

fn file(file: FileIdentity) -> File {
    (file.inode, file.device)
}

impl Folded {
    fn is_of(&self, finding: &Finding, subject: &Subject) -> bool {
        self.kind == subject.kind && self.rule == finding.rule_id
    }
}

impl RuleState {
    /// What is older than the window; how many that were.
    fn forget(&mut self, now: BootTime, window_ns: u64) -> usize {
        let before = self.order.len();
        while let Some((time, _)) = self.order.front()
            && now.0.saturating_sub(time.0) > window_ns
        {
            self.forget_oldest();
        }
        before - self.order.len()
    }

    /// False if there is none.
    fn forget_oldest(&mut self) -> bool {
        let oldest = self.order.pop_front();
        oldest.is_some_and(|(_, repetition)| self.recent.remove(&repetition))
    }

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

    /// Once in a window: at the limit, each alert that ages makes room for one and no more.
    fn is_limit_news(&mut self, now: BootTime, window_ns: u64) -> bool {
        let recent = |told: BootTime| now.0.saturating_sub(told.0) <= window_ns;
        let is_news = !self.limit_told.is_some_and(recent);
        if is_news {
            self.limit_told = Some(now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use event::{Digest, Exec, Exit, FailedExec, HashFailure, Hashed, Header, ProcessKey};

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
        gate.decide(finding, &exec(running(&["x"])), None)
    }

    #[test]
    fn a_rule_that_stays_at_its_limit_is_told_once_in_a_window() {
        let mut rule = RuleState::default();
        let mut told = Vec::new();
        for step in 0..40 {
            let now = BootTime(step * 1_000_000_000);
            for _ in 0..20 {
                if !rule.raise(now, 30, 10_000_000_000) && rule.is_limit_news(now, 10_000_000_000) {
                    told.push(step);
                }
            }
        }
        assert_eq!(told, [1, 12, 23, 34]);
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
            assert_eq!(
                gate.decide(&finding("r", 1, 0), &exec(process), None),
                verdict
            );
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
        assert_eq!(
            gate.decide(&finding("r", 1, 0), &exit, None),
            Verdict::Raise(0)
        );
        assert_eq!(
            gate.decide(&finding("r", 1, 0), &exit, None),
            Verdict::Duplicate
        );
        let nobody = Finding {
            key: None,
            ..finding("r", 1, 0)
        };
        assert_eq!(gate.decide(&nobody, &exit, None), Verdict::Raise(1));
        assert_eq!(gate.decide(&nobody, &exit, None), Verdict::Raise(0));
    }

    #[test]
    fn another_attempt_and_another_digest_are_alerts_of_their_own() {
        // What followed the first one was folded, whatever it was.
        let mut gate = Gate::new(Policy::default());
        let mut check = |kind, verdict| {
            assert_eq!(
                gate.decide(&finding("r", 1, 0), &event(kind), None),
                verdict
            );
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

    /// A rule of these lines that fires on everything.
    fn rule(lines: &str) -> RuleSet {
        let text =
            format!("id: r\ntitle: R\nlevel: high\nsql: SELECT process.pid FROM exec\n{lines}");
        let source = detect::Source {
            file: "r.yaml",
            text: &text,
        };
        RuleSet::compile(&[source]).unwrap()
    }

    #[test]
    fn a_rule_says_what_its_repetitions_are_and_for_how_long() {
        let rules = rule("dedup: {by: [process.args], window: 5m}\n");
        let mut gate = Gate::new(Policy::default());
        let mut check = |argument, pid, seconds, verdict| {
            let finding = finding("r", pid, seconds);
            let event = exec(running(&[argument]));
            let rule = rules.rules().first();
            assert_eq!(gate.decide(&finding, &event, rule), verdict);
        };
        check("a", 1, 0, Verdict::Raise(0));
        check("a", 2, 100, Verdict::Duplicate);
        check("b", 1, 100, Verdict::Raise(0));
        check("a", 3, 300, Verdict::Duplicate);
        // The count is told with what it is of.
        check("b", 3, 401, Verdict::Raise(0));
        check("a", 4, 402, Verdict::Raise(2));
        check("a", 4, 403, Verdict::Duplicate);
    }

    #[test]
    fn a_rule_may_set_the_time_alone() {
        let rules = rule("dedup: {window: 2s}\n");
        let mut gate = Gate::new(Policy::default());
        let mut check = |pid, seconds, verdict| {
            let event = exec(running(&["x"]));
            let rule = rules.rules().first();
            assert_eq!(
                gate.decide(&finding("r", pid, seconds), &event, rule),
                verdict
            );
        };
        check(1, 0, Verdict::Raise(0));
        check(1, 2, Verdict::Duplicate);
        check(2, 2, Verdict::Raise(1));
        check(1, 3, Verdict::Raise(0));
    }

    #[test]
    fn a_rule_that_fires_often_does_not_make_another_forget() {
        let mut gate = Gate::new(Policy {
            rate_limit: usize::MAX,
            ..Policy::default()
        });
        assert_eq!(
            decide(&mut gate, &finding("quiet", 1, 0)),
            Verdict::Raise(0)
        );
        for pid in 0..40_000 {
            decide(&mut gate, &finding("loud", pid, 0));
        }
        assert_eq!(
            decide(&mut gate, &finding("quiet", 1, 0)),
            Verdict::Duplicate
        );
        // One that is new finds room.
        assert_eq!(decide(&mut gate, &finding("new", 1, 0)), Verdict::Raise(0));
        assert_eq!(decide(&mut gate, &finding("new", 1, 0)), Verdict::Duplicate);
        assert!(gate.remembered <= MAX_RECENT);
    }

    #[test]
    fn a_rule_that_stays_keeps_its_memory_through_a_reload() {
        let mut gate = Gate::new(Policy::default());
        for id in ["r", "s"] {
            decide(&mut gate, &finding(id, 1, 0));
        }
        gate.keep_rules(&rule(""));
        assert_eq!(gate.remembered, 1);
        assert_eq!(decide(&mut gate, &finding("r", 1, 0)), Verdict::Duplicate);
        assert_eq!(decide(&mut gate, &finding("s", 1, 0)), Verdict::Raise(0));
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
        assert!(gate.remembered <= MAX_RECENT);
        let rule = &gate.rules["r"];
        assert_eq!(rule.order.len(), gate.remembered);
        assert_eq!(rule.recent.len(), gate.remembered);
        assert_eq!(gate.folded.len(), MAX_FOLDED);
    }
}
