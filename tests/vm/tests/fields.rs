//! What an event says of a process beside who it is and what it runs, compared with what the process
//! finds out about itself.

use std::sync::LazyLock;

use event::{EventKind, FailedExec, Process};
use vm::scenarios::run_all;
use vm::{Recording, Running, Scenarios, Workload, place};

static RECORDED: LazyLock<Recorded> = LazyLock::new(|| record().expect("a recording"));

struct Recorded {
    scenarios: Scenarios,
    /// There before the recorder.
    early: Workload,
}

fn record() -> anyhow::Result<Recorded> {
    let early = Running::start(["facts-wait"], "audit-session")?;
    let options = ["--failed-exec", "--env", "DEYE_*,NONE"];
    let (recording, (early, workloads)) = Recording::in_hindsight(&options, || {
        let workloads = run_all(&[
            ("plain", &["facts", "plain"]),
            ("unshared", &["facts", "unshared"]),
            ("session", &["facts", "session"]),
            ("terminal", &["facts", "terminal"]),
            ("cgroup", &["cgroup"]),
            ("environment", &["environment", "0"]),
            ("full-environment", &["environment", "32000"]),
            ("big-environment", &["environment", "100000"]),
            ("failing", &["failing"]),
            ("lifetime", &["lifetime"]),
            ("account-root", &["account", "root"]),
            ("account-plain", &["account", "plain"]),
            ("account-mount", &["account", "mount"]),
            ("account-user", &["account", "user"]),
        ])?;
        Ok((early.finish()?, workloads))
    })?;
    Ok(Recorded {
        scenarios: Scenarios::of(recording, workloads),
        early,
    })
}

fn workload(name: &str) -> &'static Workload {
    RECORDED.scenarios.workload(name)
}

/// The program that the workload's child ran.
fn program(name: &str) -> &'static Process {
    let life = RECORDED.scenarios.life(name, "child");
    life.expect("fork exec exit").program()
}

/// The row of the process that was there before.
fn row() -> &'static Process {
    let recording = &RECORDED.scenarios.recording;
    let life = recording.life(RECORDED.early.pid("self"));
    &life.expect("snapshot exit").snapshot().process
}

fn check_namespaces(process: &Process, said: &Workload) {
    let of = process.namespaces.expect("namespaces are known");
    let told = [
        ("ns-mnt", of.mnt),
        ("ns-pid", of.pid),
        ("ns-net", of.net),
        ("ns-user", of.user),
        ("ns-uts", of.uts),
        ("ns-ipc", of.ipc),
        ("ns-cgroup", of.cgroup),
        ("ns-time", of.time),
    ];
    for (name, inode) in told {
        assert_eq!(u64::from(inode), said.number(name), "{name}");
    }
}

#[test]
fn namespaces_are_those_of_the_links_in_procfs() {
    if !place::kernel_scenarios_run() {
        return;
    }
    check_namespaces(row(), &RECORDED.early);
    for name in ["plain", "unshared"] {
        check_namespaces(program(name), workload(name));
    }
    for name in ["mnt", "pid", "net", "user", "uts", "ipc", "cgroup", "time"] {
        let name = format!("ns-{name}");
        let plain = workload("plain").number(&name);
        assert_ne!(plain, workload("unshared").number(&name), "{name}");
    }
}

#[test]
fn pid_in_a_namespace_is_told_only_there() {
    if !place::kernel_scenarios_run() {
        return;
    }
    assert_eq!(program("plain").namespace_pid, None);
    assert_eq!(row().namespace_pid, None);
    assert_eq!(program("unshared").namespace_pid, Some(1));
}

#[test]
fn session_leader_is_the_one_in_procfs_by_its_outer_number() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let known = |leader: u32| (leader != 0).then_some(leader);
    for name in ["plain", "unshared"] {
        let inherited = known(workload(name).pid("session-outside"));
        assert_eq!(program(name).session_leader, inherited, "{name}");
    }
    for name in ["session", "terminal"] {
        let child = workload(name).pid("child");
        assert_eq!(program(name).session_leader, Some(child), "{name}");
    }
    let early = known(RECORDED.early.pid("session"));
    assert_eq!(row().session_leader, early);
}

#[test]
fn terminal_is_told_where_there_is_one() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for name in ["session", "plain"] {
        let said = workload(name).number("tty");
        let told = program(name).tty.map_or(0, u64::from);
        assert_eq!(told, said, "{name}");
    }
    assert_eq!(program("session").tty, None);
    let terminal = workload("terminal").number("tty");
    assert_ne!(terminal, 0);
    assert_eq!(program("terminal").tty.map(u64::from), Some(terminal));
}

#[test]
fn audit_ids_are_those_of_procfs_where_they_are_set() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let set = |id: u64| (id != u64::from(u32::MAX)).then_some(id);
    for (process, said) in [
        (program("plain"), workload("plain")),
        (row(), &RECORDED.early),
    ] {
        assert_eq!(
            process.login_uid.map(u64::from),
            set(said.number("login-uid"))
        );
        assert_eq!(
            process.session.map(u64::from),
            set(said.number("audit-session"))
        );
    }
}

/// Numbers of users mean something else in a container.
#[test]
fn users_have_names_where_the_accounts_are_and_nowhere_else() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for name in ["account-root", "account-plain"] {
        let said = workload(name).text("name");
        assert_eq!(
            program(name).user.as_deref(),
            Some(said.as_bytes()),
            "{name}"
        );
    }
    assert_eq!(
        row().user.as_deref(),
        Some(workload("account-root").text("name").as_bytes())
    );
    for name in ["account-mount", "account-user"] {
        assert_eq!(program(name).user, None, "{name}");
    }
    for name in ["account-plain", "account-mount", "account-user"] {
        let ids = program(name).credentials.expect("ids");
        assert_eq!(u64::from(ids.euid), workload(name).number("user"), "{name}");
    }
}

#[test]
fn control_group_is_told_by_its_inode_and_its_container_by_its_name() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let (process, said) = (program("cgroup"), workload("cgroup"));
    assert_eq!(process.cgroup_id, Some(said.number("cgroup")));
    let container = process.container.as_ref().expect("a container");
    assert_eq!(container.id, said.text("container"));
    assert_eq!(container.runtime, "docker");
    assert_eq!(container.pod_uid, None);
    assert_ne!(program("plain").cgroup_id, process.cgroup_id);
    assert_eq!(program("plain").container, None);
}

#[test]
fn of_the_environment_only_the_variables_asked_for_are_told() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for name in ["environment", "full-environment"] {
        let environment = program(name).environment.as_ref();
        let variables: Vec<_> = environment.expect("variables").iter().collect();
        assert_eq!(variables, [&b"DEYE_ONE=1"[..], b"DEYE_TWO=b c"], "{name}");
    }
    let none = program("plain").environment.as_ref();
    assert!(none.is_none_or(|variables| variables.iter().next().is_none()));
}

/// Who pads the environment hid variables without a mark.
#[test]
fn variables_behind_32_kib_of_others_are_said_to_be_missing() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let process = program("big-environment");
    assert!(process.environment.is_some());
    let missing = process.environment_truncated_bytes;
    assert!((60_000..100_000).contains(&missing), "{missing}");
    assert_eq!(program("environment").environment_truncated_bytes, 0);
}

#[test]
fn exec_that_fails_is_told_with_its_path_and_error() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let life = RECORDED.scenarios.life("failing", "child");
    let life = life.expect("fork failed_exec failed_exec failed_exec exit");
    let failed: Vec<&FailedExec> = life
        .events()
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::FailedExec(failed) => Some(&**failed),
            _ => None,
        })
        .collect();
    // ENOENT, EACCES, ENOEXEC.
    let expected = [("missing", 2), ("plain", 13), ("empty", 8)];
    for (failed, (file, errno)) in failed.into_iter().zip(expected) {
        assert_eq!(failed.filename, workload("failing").text(file));
        assert_eq!(failed.errno, errno, "{file}");
        assert_eq!(failed.comm, "workload", "{file}");
        let ids = failed.credentials.expect("ids");
        assert_eq!((ids.uid, ids.euid, ids.gid, ids.egid), (0, 0, 0, 0));
    }
    assert_eq!(life.parent(), RECORDED.scenarios.key("failing", "self"));
}

#[test]
fn run_time_is_from_fork_to_exit() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let life = RECORDED
        .scenarios
        .life("lifetime", "child")
        .expect("fork exit");
    let told = life
        .exit()
        .run_time
        .expect("the run time is known")
        .as_nanos();
    let said = |name| u128::from(workload("lifetime").number(name));
    assert!(told >= said("at-least"), "{told} of {}", said("at-least"));
    assert!(told <= said("at-most"), "{told} of {}", said("at-most"));
    // Also of one that was there before.
    let recording = &RECORDED.scenarios.recording;
    let early = recording.life(RECORDED.early.pid("self"));
    let ran = early.exit().run_time.expect("the run time is known");
    let shown = early.exit();
    assert!(ran.as_nanos() > told, "{shown:?}");
}
