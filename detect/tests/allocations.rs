//! An event that no rule matches allocates nothing once the buffers have grown.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use detect::sigma::sysmon;
use detect::{Matcher, Options, RuleSet, Source};
use event::{
    Ancestor, Argv, Credentials, Event, EventKind, Exec, FailedExec, FileIdentity, Fork, Header,
    Process, ProcessKey,
};
use serde_json::Value;

/// All matchers there are, over all events.
fn check(rules: RuleSet, events: &[Event]) {
    let rules = Arc::new(rules);
    for matcher in [Matcher::without_cache, Matcher::new] {
        let mut matcher = matcher(Arc::clone(&rules));
        let mut findings = Vec::new();
        let mut quiet = Vec::new();
        let grown = allocation_counter::measure(|| {
            quiet.extend(events.iter().filter(|event| {
                matcher.on_event(event, 0, &mut findings);
                findings.drain(..).count() == 0
            }));
        });
        assert_ne!(grown.count_total, 0);
        assert!(quiet.len() > 30, "{} quiet events", quiet.len());
        let mut match_all = || {
            for event in &quiet {
                matcher.on_event(event, 0, &mut findings);
            }
        };
        match_all();
        let allocated = allocation_counter::measure(match_all);
        assert_eq!(allocated.count_total, 0, "{} events", quiet.len());
        assert!(findings.is_empty());
    }
}

fn sigma_rules(dir: &Path) -> RuleSet {
    let files = std::fs::read_dir(dir).unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    let rules: Vec<(PathBuf, String)> = paths
        .filter(|path| path.extension().is_some_and(|e| e == "yml"))
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    let sources = rules.iter().map(|(file, text)| Source {
        file: file.to_str().unwrap(),
        text,
    });
    RuleSet::load(&sources.collect::<Vec<_>>(), &Options::default()).unwrap()
}

fn sysmon_events(path: &Path) -> Vec<Event> {
    let text = std::fs::read_to_string(path).unwrap();
    let events = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        sysmon::from_value(&line["event"]).unwrap()
    });
    events.collect()
}

#[test]
fn events_that_no_sigma_rule_matches_allocate_nothing() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/sigma");
    let events = sysmon_events(&own.join("events.ndjson"));
    check(sigma_rules(&own.join("rules")), &events);
}

/// The data is too large for the repository: `DAEMONEYE_SIGMA_DATA`, or `shared/sigma` beside it.
#[test]
fn events_that_no_published_rule_matches_allocate_nothing() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/sigma");
    let data = std::env::var_os("DAEMONEYE_SIGMA_DATA").map_or_else(beside, PathBuf::from);
    if !data.join("rules").is_dir() {
        eprintln!("skipped: no Sigma rules at {}", data.display());
        return;
    }
    let events = sysmon_events(&data.join("events/windows.ndjson"));
    check(sigma_rules(&data.join("rules/windows")), &events);
}

#[test]
fn events_that_no_shipped_rule_matches_allocate_nothing() {
    let sources = detect::shipped()
        .iter()
        .map(|(file, text)| Source { file, text });
    let rules = RuleSet::compile(&sources.collect::<Vec<_>>()).unwrap();
    check(rules, &(0..200).flat_map(ordinary).collect::<Vec<_>>());
}

/// What a process of a build does.
fn ordinary(pid: u32) -> Vec<Event> {
    let key = |pid: u32| ProcessKey {
        pid,
        ..ProcessKey::default()
    };
    let argv: Argv = ["cc", "-O2", "-c", "main.c", "é"].into_iter().collect();
    let parent = Ancestor {
        key: key(pid + 1),
        exe: "/usr/bin/make".into(),
        argv: ["make", "-j8"].into_iter().collect(),
        ..Ancestor::default()
    };
    let process = Process {
        key: key(pid),
        parent: Some(parent.key),
        exe: "/usr/bin/cc".into(),
        filename: "/usr/bin/cc".into(),
        argv,
        cwd: Some("/home/u/project".into()),
        credentials: Some(Credentials::default()),
        exe_file: Some(FileIdentity {
            nlink: 1,
            size: 1000,
            mode: 0o100_755,
            ..FileIdentity::default()
        }),
        parent_process: Some(Box::new(parent)),
        ..Process::default()
    };
    let fork = Fork {
        parent: key(pid + 1),
        child: key(pid),
        ..Fork::default()
    };
    let failed = FailedExec {
        key: key(pid),
        exe: "/usr/bin/make".into(),
        ..FailedExec::default()
    };
    let kinds = [
        EventKind::Fork(fork),
        EventKind::FailedExec(Box::new(failed)),
        EventKind::Exec(Box::new(Exec {
            process,
            old_tid: None,
        })),
    ];
    let header = Header::default();
    kinds.map(|kind| Event { header, kind }).into()
}
