//! The process connector: the same lives as from eBPF, under the same keys, without its fields
//! where a program ended first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use event::{BootTime, Event, EventKind, Exec, Exit, ProcessKey};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use vm::{Daemon, Recording, Workload, expect_kinds, place};

/// One recording, in which every workload of this file runs once.
static RECORDED: LazyLock<Recorded> = LazyLock::new(|| record().expect("a recording"));

struct Recorded {
    recording: Recording,
    workloads: HashMap<&'static str, Workload>,
    /// Was there before the recorder, and ended under it.
    early: ProcessKey,
    /// Began and ended under the recorder, and lived long in between.
    lasting: ProcessKey,
}

fn record() -> Result<Recorded> {
    let early = Waiter::start(&[])?;
    let early_key = key_from_procfs(early.0.id());
    let (recording, (workloads, lasting)) = Recording::by("netlink", &[], |_| {
        early.end()?;
        let lasting = Waiter::start(&["a b", ""])?;
        let lasting_key = key_from_procfs(lasting.0.id());
        let workloads = run_workloads()?;
        // Long after the others, so that its exec has been handled.
        thread::sleep(vm::patience(Duration::from_millis(500)));
        lasting.end()?;
        // The kernel tells of an end only after it has woken whoever waited for it.
        Workload::run(["every-cpu"])?;
        Ok((workloads, lasting_key))
    })?;
    Ok(Recorded {
        recording,
        workloads,
        early: early_key,
        lasting,
    })
}

fn run_workloads() -> Result<HashMap<&'static str, Workload>> {
    let workload = place::workload()?;
    let us = workload.to_str().context("a path in UTF-8")?;
    let all: [(&str, &[&str]); 9] = [
        ("shell", &["run", "/bin/sh", "-c", "exec true"]),
        ("killed", &["kill"]),
        ("forked", &["fork"]),
        ("threads", &["run", us, "threads"]),
        ("exit-from-thread", &["run", us, "exit-from-thread"]),
        ("leader-leaves", &["run", us, "leader-leaves", "group"]),
        ("exit-0", &["run", us, "exit", "0"]),
        ("exit-42", &["run", us, "exit", "42"]),
        ("exit-255", &["run", us, "exit", "255"]),
    ];
    all.into_iter()
        .map(|(name, arguments)| Ok((name, Workload::run(arguments)?)))
        .collect()
}

/// A workload that runs until it is told to end.
struct Waiter(Child);

impl Waiter {
    fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_program(&place::workload()?, arguments)
    }

    fn start_program(program: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        let command = command.arg("wait").args(arguments);
        let mut child = vm::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        // Its first line shows that its exec is over.
        let pipe = child.stdout.as_mut().context("a pipe was asked for")?;
        BufReader::new(pipe).read_line(&mut String::new())?;
        Ok(Self(child))
    }

    fn end(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        self.0.wait()?;
        Ok(())
    }
}

/// The key that any reader of procfs would give it.
fn key_from_procfs(pid: u32) -> ProcessKey {
    let read = |path: String| std::fs::read_to_string(path).expect("procfs");
    let stat = read(format!("/proc/{pid}/stat"));
    let fields = stat.rsplit_once(')').expect("a name in brackets").1;
    // Field 22 of proc_pid_stat(5); the first one behind the name is field 3.
    let ticks = fields.split_ascii_whitespace().nth(22 - 3);
    let ticks: u64 = ticks.expect("22 fields").parse().expect("a number");
    let boot = read("/proc/sys/kernel/random/boot_id".into());
    ProcessKey {
        boot: boot.parse().expect("a boot id"),
        pid,
        start: BootTime(ticks * 10_000_000),
    }
}

fn child_of(name: &str) -> Vec<&'static Event> {
    let workload = &RECORDED.workloads[name];
    RECORDED.recording.about(workload.pid("child"))
}

fn exec(event: &Event) -> &Exec {
    let EventKind::Exec(exec) = &event.kind else {
        panic!("no exec: {event:?}")
    };
    exec
}

fn exit(event: &Event) -> &Exit {
    let EventKind::Exit(exit) = &event.kind else {
        panic!("no exit: {event:?}")
    };
    exit
}

/// The whole life of a workload's child, under one key, and the raw status of its end.
fn check_life(name: &str, kinds: &str, status: Option<u32>) {
    let events = child_of(name);
    expect_kinds(&events, kinds);
    let key = events[0].key();
    assert!(events.iter().all(|event| event.key() == key), "{events:?}");
    let end = exit(events[events.len() - 1]);
    assert_eq!(end.status.map(|status| status.raw), status, "{end:?}");
    assert!(end.run_time.is_some_and(|time| !time.is_zero()), "{end:?}");
    let forker = RECORDED.workloads[name].pid("self");
    assert_eq!(end.parent.map(|parent| parent.pid), Some(forker));
}

#[test]
fn each_life_is_told_once_with_its_end() {
    if !place::connector_scenarios_run() {
        return;
    }
    check_life("shell", "fork exec exec exit", Some(0));
    check_life("killed", "fork exec exit", Some(9));
    check_life("forked", "fork exit", Some(3 << 8));
    check_life("exit-0", "fork exec exit", Some(0));
    check_life("exit-42", "fork exec exit", Some(42 << 8));
    check_life("exit-255", "fork exec exit", Some(255 << 8));
}

#[test]
fn threads_are_no_processes_and_their_ends_no_exits() {
    if !place::connector_scenarios_run() {
        return;
    }
    check_life("threads", "fork exec exit", Some(0));
    check_life("exit-from-thread", "fork exec exit", Some(7 << 8));
}

/// The messages do not say whether the leader's status counts or the last thread's.
#[test]
fn status_of_a_process_whose_leader_left_first_is_not_guessed() {
    if !place::connector_scenarios_run() {
        return;
    }
    check_life("leader-leaves", "fork exec exit", None);
}

#[test]
fn keys_are_those_of_procfs() {
    if !place::connector_scenarios_run() {
        return;
    }
    let us = key_from_procfs(std::process::id());
    let early = RECORDED.recording.about(RECORDED.early.pid);
    expect_kinds(&early, "snapshot exit");
    assert!(
        early
            .iter()
            .all(|event| event.key() == Some(RECORDED.early))
    );
    let lasting = RECORDED.recording.about(RECORDED.lasting.pid);
    expect_kinds(&lasting, "fork exec exit");
    assert!(
        lasting
            .iter()
            .all(|event| event.key() == Some(RECORDED.lasting))
    );
    let EventKind::Fork(fork) = &lasting[0].kind else {
        panic!("{lasting:?}")
    };
    assert_eq!(fork.parent, us);
    assert_eq!(exec(lasting[1]).process.parent, Some(us));
    assert_eq!(exit(lasting[2]).parent, Some(us));
}

#[test]
fn program_that_lives_on_is_told_with_all_its_fields() {
    if !place::connector_scenarios_run() {
        return;
    }
    let events = RECORDED.recording.about(RECORDED.lasting.pid);
    let process = &exec(events[1]).process;
    let workload = place::workload().unwrap().into_os_string();
    let program = workload.as_encoded_bytes();
    let arguments: Vec<&[u8]> = process.argv.iter().collect();
    assert_eq!(arguments, [program, b"wait", b"a b", b""]);
    assert_eq!((&*process.exe, &*process.comm), (program, &b"workload"[..]));
    let here = std::env::current_dir().unwrap().into_os_string();
    assert_eq!(process.cwd.as_deref(), Some(here.as_encoded_bytes()));
    assert_eq!(
        process.credentials.map(|ids| (ids.uid, ids.egid)),
        Some((0, 0))
    );
    assert!(process.exe_file.is_some_and(|file| file.inode > 0));
}

const EXECS: u64 = 5_000;

fn storm() -> Result<Workload> {
    Workload::run(["storm", &EXECS.to_string(), "2"])
}

#[test]
fn flood_is_delivered_to_the_last_fork_exec_and_exit() {
    if !place::connector_scenarios_run() {
        return;
    }
    let (recording, workload) =
        Recording::by("netlink", &["--netlink-buffer", "256"], |_| storm()).unwrap();
    let storm = recording.about(workload.pid("self"));
    let storm = storm.first().and_then(|event| event.key());
    let of_storm = lives_below(&recording, storm.expect("the storm itself is told"));
    let lost = recording.dropped(|_, reason| reason == "source_lost");
    assert_eq!(lost, 0, "{}", recording.stats);
    assert_eq!(of_storm.len() as u64, EXECS);
    for (key, kinds) in of_storm {
        assert_eq!(kinds, "fork exec exit", "{key}");
    }
    check_books(&recording);
}

/// What was told of each child of a process, as `fork exec exit`.
fn lives_below(recording: &Recording, forker: ProcessKey) -> HashMap<ProcessKey, String> {
    let mut lives: HashMap<ProcessKey, String> = HashMap::new();
    for event in &recording.events {
        let (key, parent) = match &event.kind {
            EventKind::Fork(fork) => (fork.child, Some(fork.parent)),
            EventKind::Exec(exec) => (exec.process.key, exec.process.parent),
            EventKind::Exit(exit) => (exit.key, exit.parent),
            _ => continue,
        };
        if parent.is_some_and(|parent| parent.pid == forker.pid) {
            assert_eq!(parent, Some(forker), "{event:?}");
            let kinds = lives.entry(key).or_default();
            let space = if kinds.is_empty() { "" } else { " " };
            *kinds += space;
            *kinds += vm::kind_name(event);
        }
    }
    lives
}

fn check_books(recording: &Recording) {
    let counter = |name: &str| recording.counter(&format!("/sensor/{name}"));
    let dropped = recording.dropped(|_, _| true);
    let sum = counter("delivered") + dropped + counter("held");
    assert_eq!(counter("seen"), sum, "{}", recording.stats);
    let lost = recording.events.iter().map(|event| match &event.kind {
        EventKind::Lost(lost) => lost.count,
        _ => 0,
    });
    assert_eq!(
        lost.sum::<u64>(),
        dropped,
        "the stream tells of other losses"
    );
}

/// Two recorders, of which one is frozen during the storm: the kernel numbers its messages for both
/// alike, so what the other one got is what happened.
#[test]
fn what_a_frozen_reader_lost_is_announced_to_the_last_message() {
    if !place::connector_scenarios_run() {
        return;
    }
    let (all, (small, ())) = Recording::by("netlink", &["--netlink-buffer", "256"], |_| {
        Recording::by("netlink", &["--netlink-buffer", "1"], overflow)
    })
    .unwrap();
    let lost = all.dropped(|_, reason| reason == "source_lost");
    assert_eq!(lost, 0, "{}", all.stats);
    check_books(&small);
    let dropped = small.dropped(|_, _| true);
    assert!(dropped > 2 * EXECS, "{}", small.stats);

    let (told, happened) = (numbers(&small), numbers(&all));
    let (mut missing, mut others) = (0, 0);
    for (cpu, told) in &told {
        let (first, last) = (told.iter().min().unwrap(), told.iter().max().unwrap());
        let happened = happened[cpu].iter().filter(|n| (first..=last).contains(n));
        let happened: HashSet<u64> = happened.copied().collect();
        assert!(told.is_subset(&happened));
        missing += (happened.len() - told.len()) as u64;
        // Of threads, renamings and the like: no events, but they can be lost as well.
        others += last - first + 1 - happened.len() as u64;
    }
    assert!(
        (missing..=missing + others).contains(&dropped),
        "{dropped} announced; {missing} events are missing, and of {others} other messages some"
    );
}

fn overflow(daemon: &Daemon) -> Result<()> {
    daemon.signal(Signal::STOP)?;
    storm()?;
    daemon.signal(Signal::CONT)?;
    // A gap shows with the next message of its cpu, once there is room for one.
    thread::sleep(vm::patience(Duration::from_millis(500)));
    Workload::run(["every-cpu"])?;
    Ok(())
}

/// The kernel's numbers of the events, by cpu.
fn numbers(recording: &Recording) -> BTreeMap<u32, HashSet<u64>> {
    let mut numbers: BTreeMap<u32, HashSet<u64>> = BTreeMap::new();
    for event in &recording.events {
        if !matches!(event.kind, EventKind::Snapshot(_) | EventKind::Lost(_)) {
            let of_cpu = numbers.entry(event.header.cpu).or_default();
            assert!(of_cpu.insert(event.header.sequence), "twice: {event:?}");
        }
    }
    numbers
}

#[test]
fn rules_see_what_procfs_tells_after_rights_are_gone() {
    if !place::connector_scenarios_run() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let start = ["run", "--sensor", "netlink", "--json", "--state-dir"].map(Path::new);
    let mut daemon = Daemon::start(start.into_iter().chain([state.path()])).unwrap();
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let program = dir.path().join("provoke");
    std::fs::copy(place::workload().unwrap(), &program).unwrap();
    let waiter = Waiter::start_program(&program, &[]).unwrap();
    let pid = format!("\"pid\":{}", waiter.0.id());
    let is_alert = |line: &str| line.contains("linux-shm-exec") && line.contains(&pid);
    let alert = daemon.line(Duration::from_secs(60), is_alert);
    waiter.end().unwrap();
    assert!(alert.unwrap().1.contains("/provoke"));
    daemon.stop().unwrap();
}

#[test]
fn connector_takes_the_place_of_ebpf_and_says_why() {
    if !place::connector_scenarios_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.rec");
    let start = move || {
        // Of this thread, and so of what it starts.
        for right in [
            CapabilitySet::SYS_ADMIN,
            CapabilitySet::BPF,
            CapabilitySet::PERFMON,
        ] {
            remove_capability_from_bounding_set(right).unwrap();
        }
        Daemon::start([Path::new("record"), &file]).unwrap().stop()
    };
    let said = thread::spawn(start).join().unwrap().unwrap().stderr;
    assert!(said.contains("no eBPF: bpf(2) is refused"), "{said}");
    assert!(said.contains("ready (sensor netlink"), "{said}");
}
