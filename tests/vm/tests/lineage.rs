//! Whose child a process is, and which of many with one number.

use std::sync::LazyLock;

use event::{EventKind, ProcessKey};
use vm::{Life, Scenarios, place};

static RECORDED: LazyLock<Scenarios> = LazyLock::new(|| record().expect("a recording"));

fn record() -> anyhow::Result<Scenarios> {
    Scenarios::record_in_hindsight(&[
        ("orphan", &["orphan", "init"]),
        ("adopted", &["orphan", "reaper"]),
        ("daemon", &["daemon"]),
        ("clone-parent", &["clone-parent"]),
        ("pid-twice", &["pid-twice", "30"]),
        ("pid-twice-at-once", &["pid-twice", "0"]),
        ("pid-namespace", &["pid-namespace"]),
        ("user-namespace", &["user-namespace"]),
        ("mount-namespace", &["mount-namespace"]),
        ("chroot", &["chroot"]),
    ])
}

fn key(name: &str, role: &str) -> ProcessKey {
    RECORDED.key(name, role)
}

#[test]
fn parent_of_an_orphan_is_who_forked_it_not_who_adopted_it() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for name in ["orphan", "adopted"] {
        let life = RECORDED.life(name, "child").expect("fork exec exit");
        assert_eq!(life.parent(), key(name, "parent"), "{name}");
        let parent = RECORDED.life(name, "parent").expect("fork exit");
        assert_eq!(parent.parent(), key(name, "self"), "{name}");
        let ended = parent.events()[1].header.time;
        assert!(life.events()[1].header.time > ended, "it was no orphan");
    }
}

#[test]
fn daemon_keeps_the_parent_that_is_gone() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let life = RECORDED.life("daemon", "child").expect("fork exec exit");
    let middle = RECORDED.life("daemon", "middle").expect("fork exit");
    assert_eq!(life.parent(), middle.key());
    assert_eq!(middle.parent(), key("daemon", "self"));
}

#[test]
fn parent_of_a_process_made_a_sibling_is_who_forked_it() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let life = RECORDED
        .life("clone-parent", "child")
        .expect("fork exec exit");
    assert_eq!(life.status().raw, 0, "CLONE_PARENT had no effect");
    assert_eq!(life.parent(), key("clone-parent", "forker"));
}

#[test]
fn processes_of_one_pid_have_two_keys() {
    if !place::kernel_scenarios_run() {
        return;
    }
    check_pid_twice("pid-twice");
}

/// A pid can be chosen (`clone3`, `ns_last_pid`), so it can come round within a clock tick.
#[test]
fn processes_of_one_pid_have_two_keys_also_within_a_clock_tick() {
    if !place::kernel_scenarios_run() {
        return;
    }
    check_pid_twice("pid-twice-at-once");
}

fn check_pid_twice(name: &str) {
    let pid = RECORDED.workload(name).pid("child");
    let events = RECORDED.recording.about(pid);
    let (first, second) = events.split_at(3.min(events.len()));
    let first = Life::of(first.to_vec()).expect("fork exec exit");
    let second = Life::of(second.to_vec()).expect("fork exec exit");
    assert_ne!(first.key(), second.key());
    let argument = |life: &Life<'_>| life.program().argv.iter().next().unwrap().to_vec();
    assert_eq!(argument(&first), b"first");
    assert_eq!(argument(&second), b"second");
}

#[test]
fn processes_in_a_pid_namespace_are_told_apart_by_their_outer_number() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let name = "pid-namespace";
    let workload = RECORDED.workload(name);
    for (role, number) in [("child-within", 1), ("inner-within", 2), ("last-within", 3)] {
        assert_eq!(workload.pid(role), number);
    }
    let init = RECORDED.life(name, "child").expect("fork exit");
    assert_eq!(init.parent(), key(name, "self"));
    let [inner, again] = children_of(init.key())[..] else {
        panic!("two children: {init:?}")
    };
    for (key, argument) in [(inner, "inner"), (again, "again")] {
        let life = RECORDED.recording.life(key.pid).expect("fork exec exit");
        assert_eq!(life.program().argv.joined(), argument.as_bytes());
        assert_eq!(life.program().namespace_pid, Some(2), "{argument}");
    }
    let [last] = children_of(inner)[..] else {
        panic!("one child of {inner}")
    };
    // Killed by the kernel when the first process of its namespace ended.
    let last = RECORDED.recording.life(last.pid).expect("fork exit");
    assert_eq!(last.status().signal, 9);
    assert_eq!(init.status().code, 6);
}

/// The processes that this one forked.
fn children_of(parent: ProcessKey) -> Vec<ProcessKey> {
    let forks = RECORDED.recording.events.iter();
    let forks = forks.filter_map(|event| match &event.kind {
        EventKind::Fork(fork) if fork.parent == parent => Some(fork.child),
        _ => None,
    });
    forks.collect()
}

#[test]
fn user_in_a_user_namespace_is_the_one_outside() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let workload = RECORDED.workload("user-namespace");
    let life = RECORDED.life("user-namespace", "child");
    let ids = life.expect("fork exec exit").program().credentials.unwrap();
    // Itself it only knows that it is nobody.
    assert_eq!(workload.number("uid-within"), 65534);
    assert_eq!((ids.uid, ids.euid), (12345, 12345));
    assert_eq!((ids.gid, ids.egid), (12346, 12346));
}

#[test]
fn path_in_a_mount_namespace_is_the_one_there() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let workload = RECORDED.workload("mount-namespace");
    let life = RECORDED.life("mount-namespace", "child");
    let life = life.expect("fork exec exit");
    let process = life.program();
    assert_eq!(process.exe, workload.text("program"));
    let (dir, _) = workload.text("program").rsplit_once('/').unwrap();
    assert_eq!(process.cwd.as_deref(), Some(dir.as_bytes()));
}

#[test]
fn path_below_another_root_is_the_whole_one() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let workload = RECORDED.workload("chroot");
    let life = RECORDED.life("chroot", "child").expect("fork exec exit");
    let process = life.program();
    assert_eq!(process.filename, "/tiny");
    assert_eq!(process.exe, workload.text("program"));
    let dir = workload.text("dir");
    assert_eq!(process.cwd.as_deref(), Some(dir.as_bytes()));
}
