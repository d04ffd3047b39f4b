//! Processes that are there when the recorder starts, come or go: each is told of once.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use event::{BootTime, EventKind, ProcessKey};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::time::{ClockId, clock_gettime};
use vm::{Life, Recording, Running, Workload, fewer, place};

/// A start of the recorder amid many processes that only wait.
static CROWDED: LazyLock<Crowded> = LazyLock::new(|| record_crowd().expect("a recording"));
/// A start of the recorder while processes come and go; not at the same time as the other.
static BUSY: LazyLock<Busy> = LazyLock::new(|| {
    LazyLock::force(&CROWDED);
    record_churn().expect("a recording")
});

struct Crowded {
    recording: Recording,
    crowd: Workload,
    leaderless: u32,
    zombie: u32,
}

fn record_crowd() -> Result<Crowded> {
    let crowd = Running::start(["crowd", &fewer(10_000).to_string()], "ready")?;
    let leaderless = Running::start(["leader-leaves", "never"], "tid")?;
    let mut zombie = start_zombie()?;
    let pid = leaderless.pid();
    let (recording, crowd) = Recording::of(|| {
        leaderless.kill()?;
        zombie.wait()?;
        crowd.finish()
    })?;
    Ok(Crowded {
        recording,
        crowd,
        leaderless: pid,
        zombie: zombie.id(),
    })
}

fn start_zombie() -> Result<Child> {
    let mut command = Command::new(place::workload()?);
    let child = command.args(["exit", "0"]).stdout(Stdio::null()).spawn()?;
    let id = WaitId::Pid(Pid::from_child(&child));
    waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?.context("it has not ended")?;
    Ok(child)
}

#[test]
fn each_of_10_000_live_processes_is_in_the_snapshot_once_and_ends_once() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let Crowded {
        recording, crowd, ..
    } = &*CROWDED;
    let parent = recording.life(crowd.pid("self"));
    let parent = parent.expect("snapshot exit").key();
    let lives = recording.lives();
    let children = lives.values().filter(|life| is_child(life, parent));
    let mut pids: Vec<u64> = Vec::new();
    for life in children {
        let life = life.clone().expect("snapshot exit");
        assert_eq!(life.snapshot().process.comm, "workload");
        pids.push(life.key().pid.into());
    }
    let mut expected: Vec<u64> = crowd.all("child").collect();
    assert_eq!(expected.len(), fewer(10_000) as usize);
    expected.sort_unstable();
    pids.sort_unstable();
    assert_eq!(pids, expected);
}

fn is_child(life: &Life<'_>, parent: ProcessKey) -> bool {
    life.events().iter().any(|event| match &event.kind {
        EventKind::Snapshot(row) => row.process.parent == Some(parent),
        EventKind::Exec(exec) => exec.process.parent == Some(parent),
        EventKind::Fork(fork) => fork.parent == parent,
        EventKind::Exit(exit) => exit.parent == Some(parent),
        _ => false,
    })
}

#[test]
fn process_whose_leader_had_left_is_in_the_snapshot() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let life = CROWDED.recording.life(CROWDED.leaderless);
    assert_eq!(life.expect("snapshot exit").status().signal, 9);
}

#[test]
fn process_that_had_ended_is_no_process_any_more() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let about = CROWDED.recording.about(CROWDED.zombie);
    assert!(about.is_empty(), "{about:?}");
}

struct Busy {
    recording: Recording,
    churn: Workload,
    /// Before the recorder was started.
    before: u64,
    /// When it said that it was ready.
    ready: u64,
}

fn record_churn() -> Result<Busy> {
    let churn = Running::start(["churn"], "ready")?;
    let before = since_boot();
    let (recording, (ready, churn)) = Recording::of(|| {
        let ready = since_boot();
        // So that many come after the start; nothing depends on how many.
        thread::sleep(vm::patience(Duration::from_millis(300)));
        Ok((ready, churn.finish()?))
    })?;
    Ok(Busy {
        recording,
        churn,
        before,
        ready,
    })
}

fn since_boot() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap()
}

/// One process of the churn: it was not there before `born`, had not ended at `alive`, and was no more
/// there after `ended`.
struct Passing {
    pid: u32,
    born: u64,
    alive: u64,
    ended: u64,
}

fn passing() -> Vec<Passing> {
    let churn = &BUSY.churn;
    let times = churn.all("alive").zip(churn.all("ended"));
    let times = churn.all("born").zip(times);
    let each = churn.all("child").zip(times);
    each.map(|(pid, (born, (alive, ended)))| Passing {
        pid: u32::try_from(pid).unwrap(),
        born,
        alive,
        ended,
    })
    .collect()
}

impl Passing {
    /// Its events; others of the same pid lived at another time.
    fn life(&self) -> Life<'static> {
        let lived = (self.born - START_TICK)..=self.ended;
        let lives = LIVES.get(&self.pid).into_iter().flatten();
        let mut lives = lives.filter(|life| lived.contains(&life.key().start.0));
        let life = lives.next().cloned().unwrap_or(Life::of(Vec::new()));
        assert!(lives.next().is_none(), "{} has two keys", self.pid);
        life
    }
}

/// Starts of processes are told in steps of so many ns.
const START_TICK: u64 = 10_000_000;

static LIVES: LazyLock<HashMap<u32, Vec<Life<'static>>>> = LazyLock::new(|| {
    let mut lives: HashMap<u32, Vec<_>> = HashMap::new();
    for (key, life) in BUSY.recording.lives() {
        lives.entry(key.pid).or_default().push(life);
    }
    lives
});

/// Forks are told of from here on, and execs and exits as well: these programs are attached first.
fn attached() -> BootTime {
    let forks = BUSY.recording.events.iter();
    let mut forks = forks.filter(|event| matches!(event.kind, EventKind::Fork(_)));
    forks.next().expect("a fork").header.time
}

/// The only way in which it can go on after its beginning.
fn rest_of(life: &Life<'_>) -> &'static str {
    match life.status().code {
        7 => "exit",
        _ => "exec exit",
    }
}

#[test]
fn process_that_comes_after_the_start_is_told_of_by_fork_exec_and_exit() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (mut count, churn) = (0, churn_itself());
    let attached = attached();
    for process in passing() {
        if process.born > attached.0 {
            let life = process.life();
            let expected = format!("fork {}", rest_of(&life));
            assert_eq!(life.expect(&expected).parent(), churn);
            count += 1;
        }
    }
    assert!(count > fewer(100), "only {count} came after the start");
}

fn churn_itself() -> ProcessKey {
    BUSY.recording.life(BUSY.churn.pid("self")).key()
}

#[test]
fn process_that_lives_across_the_start_is_told_of_once() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (mut in_snapshot, churn) = (0, churn_itself());
    let attached = attached();
    for process in passing() {
        if process.born < attached.0 && process.alive > BUSY.ready {
            let life = process.life();
            let kinds = life.kinds();
            let life = life.expect(&kinds);
            let (beginning, rest) = kinds.split_once(' ').unwrap_or((&kinds, ""));
            // Until its fork is told of, its exec is enough to know it.
            let known_by_exec = kinds == "exec exit";
            let program_before = beginning == "snapshot" && rest == "exit";
            let whole = rest == rest_of(&life) && ["fork", "snapshot"].contains(&beginning);
            assert!(known_by_exec || program_before || whole, "{life:?}");
            assert_eq!(life.parent(), churn);
            in_snapshot += u32::from(beginning == "snapshot");
        }
    }
    assert!(in_snapshot > 10, "only {in_snapshot} were in the snapshot");
}

/// What can be told of a process that ends amid the start: nothing, or all of it from where it was
/// first met.
const WHOLE: [&str; 6] = [
    "",
    "snapshot exit",
    "snapshot exec exit",
    "fork exit",
    "fork exec exit",
    "exec exit",
];

#[test]
fn process_that_ends_during_the_start_is_told_of_with_its_end_or_counted() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let mut silent = 0;
    let attached = attached();
    for process in passing() {
        let life = process.life();
        let kinds = life.kinds();
        if process.ended < BUSY.before {
            assert_eq!(kinds, "", "{life:?}");
        } else if process.alive <= BUSY.ready && process.born < attached.0 {
            assert!(WHOLE.contains(&kinds.as_str()), "{life:?}");
            // Its parent may have been late to notice that it had ended before.
            silent += u64::from(kinds.is_empty() && process.alive > attached.0);
        }
    }
    let untracked = BUSY.recording.counter("/sensor/untracked_exits");
    assert!(silent <= untracked, "{silent} of {untracked}");
}
