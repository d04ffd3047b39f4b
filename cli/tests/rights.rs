//! What the running daemon has given up, as the kernel tells it.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use rustix::thread::{CapabilitySet, capabilities};
use tempfile::TempDir;

/// The account of the tests: not one that exists.
const ACCOUNT: &str = "54322";

/// `daemoneye run`, ended with the test.
struct Daemon {
    process: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Daemon {
    fn start(sensor: &str, state: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daemoneye"));
        command
            .args(["run", "--sensor", sensor, "--user", ACCOUNT, "--state-dir"])
            .arg(state);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut process = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        Self {
            process,
            stderr,
            said: String::new(),
        }
    }

    /// Waits until it works; false if it ended instead.
    fn is_ready(&mut self) -> bool {
        loop {
            let before = self.said.len();
            if self.stderr.read_line(&mut self.said).unwrap() == 0 {
                return false;
            }
            if self.said[before..].contains("ready (sensor") {
                return true;
            }
        }
    }

    fn stop(&mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::TERM).unwrap();
        self.stderr.read_to_string(&mut self.said).unwrap();
        self.process.wait().unwrap()
    }

    /// One text of `/proc/PID/task/TID/status` for each thread.
    fn threads(&self) -> Vec<String> {
        let tasks = format!("/proc/{}/task", self.process.id());
        let texts: Vec<String> = fs::read_dir(tasks)
            .unwrap()
            .map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap())
            .collect();
        assert!(texts.len() > 1, "{texts:?}");
        texts
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.strip_prefix(':')).unwrap().trim()
}

fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// Every thread has this set, cannot gain rights and is filtered.
fn check(daemon: &Daemon, kept: CapabilitySet) {
    for status in daemon.threads() {
        for set in ["CapEff", "CapPrm"] {
            let bits = u64::from_str_radix(field(&status, set), 16).unwrap();
            assert_eq!(bits, kept.bits(), "{status}");
        }
        assert_eq!(field(&status, "CapInh"), "0000000000000000", "{status}");
        assert_eq!(field(&status, "NoNewPrivs"), "1", "{status}");
        assert_eq!(field(&status, "Seccomp"), "2", "{status}");
        if geteuid().is_root() {
            assert_eq!(field(&status, "Uid"), [ACCOUNT; 4].join("\t"), "{status}");
            assert_eq!(field(&status, "Gid"), [ACCOUNT; 4].join("\t"), "{status}");
            assert_eq!(field(&status, "Groups"), "", "{status}");
        }
    }
}

fn reading_others() -> CapabilitySet {
    CapabilitySet::DAC_READ_SEARCH | CapabilitySet::SYS_PTRACE
}

fn permitted() -> CapabilitySet {
    capabilities(None).unwrap().permitted
}

/// Whoever runs as the daemon's account could read the ledger's keys out of its memory, and a core
/// dump held them, unless the daemon had been root before.
#[test]
fn the_memory_of_a_daemon_that_never_was_root_is_its_own() {
    use std::os::unix::process::CommandExt;

    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_daemoneye"));
    command
        .args(["run", "--sensor", "poll", "--state-dir"])
        .arg(&state);
    let mut user = geteuid().as_raw();
    if user == 0 {
        user = ACCOUNT.parse().unwrap();
        for dir in [dir.path(), &state] {
            std::os::unix::fs::chown(dir, Some(user), Some(user)).unwrap();
        }
        command.uid(user).gid(user);
    }
    let mut daemon = Daemon::spawn(command);
    assert!(daemon.is_ready(), "{}", daemon.said);
    // What belongs to a process that can be dumped is its user's.
    let memory = fs::metadata(format!("/proc/{}/mem", daemon.process.id())).unwrap();
    assert_eq!((memory.uid(), state.metadata().unwrap().uid()), (0, user));
    assert!(daemon.stop().success(), "{}", daemon.said);
}

#[test]
fn polling_keeps_what_reads_other_processes_and_no_more() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    let mut daemon = Daemon::start("poll", &state);
    assert!(daemon.is_ready(), "{}", daemon.said);
    if !geteuid().is_root() {
        skip("user and groups are those of the test: it is not root");
    }
    check(&daemon, permitted() & reading_others());
    assert!(daemon.stop().success(), "{}", daemon.said);
    // A second run finds its own directory.
    let mut daemon = Daemon::start("poll", &state);
    assert!(daemon.is_ready(), "{}", daemon.said);
    assert!(daemon.stop().success(), "{}", daemon.said);
}

/// With these flags, of which the rights depend.
fn check_ebpf(flags: &[&str], kept: CapabilitySet) {
    let dir = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_daemoneye"));
    command
        .args(["run", "--sensor", "ebpf", "--user", ACCOUNT])
        .args(flags)
        .arg("--state-dir")
        .arg(dir.path().join("state"));
    let mut daemon = Daemon::spawn(command);
    if !daemon.is_ready() {
        assert_eq!(daemon.process.wait().unwrap().code(), Some(6));
        return skip(&format!("no eBPF here: {}", daemon.said));
    }
    check(&daemon, kept);
    assert!(daemon.stop().success(), "{}", daemon.said);
}

#[test]
fn kernel_events_alone_need_no_capability_at_all() {
    check_ebpf(&["--no-hash"], CapabilitySet::empty());
}

#[test]
fn hashing_keeps_what_reads_executables_and_no_more() {
    check_ebpf(&[], permitted() & reading_others());
}

/// The root of a container is not given CAP_SYS_PTRACE, and the daemon did not start.
#[test]
fn root_with_fewer_capabilities_can_start() {
    if !geteuid().is_root() {
        return skip("only root can start as a smaller root");
    }
    let dir = TempDir::new().unwrap();
    for removed in ["-sys_ptrace", "-sys_ptrace,-setpcap"] {
        let mut command = Command::new("setpriv");
        command
            .args(["--bounding-set", removed, "--inh-caps", "-all"])
            .arg(env!("CARGO_BIN_EXE_daemoneye"))
            .args(["run", "--sensor", "poll", "--user", ACCOUNT, "--state-dir"])
            .arg(dir.path().join(removed));
        if Command::new("setpriv").arg("--version").output().is_err() {
            return skip("there is no setpriv");
        }
        let mut daemon = Daemon::spawn(command);
        assert!(daemon.is_ready(), "{}", daemon.said);
        check(&daemon, permitted() & CapabilitySet::DAC_READ_SEARCH);
        assert!(daemon.stop().success(), "{}", daemon.said);
    }
}

#[test]
fn a_directory_of_roots_is_handed_over_but_not_what_it_shares() {
    if !geteuid().is_root() {
        return skip("only root has something to hand over");
    }
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    fs::create_dir_all(state.join("ledger/entries")).unwrap();
    fs::write(state.join("ledger/lock"), "").unwrap();
    let outside = dir.path().join("outside");
    fs::write(&outside, "precious").unwrap();
    std::os::unix::fs::symlink(&outside, state.join("ledger/link")).unwrap();
    let uid = |path: &Path| fs::symlink_metadata(path).unwrap().uid().to_string();

    let mut daemon = Daemon::start("poll", &state);
    assert!(daemon.is_ready(), "{}", daemon.said);
    assert!(daemon.stop().success(), "{}", daemon.said);
    for owned in ["", "ledger", "ledger/lock", "ledger/entries"] {
        assert_eq!(uid(&state.join(owned)), ACCOUNT, "{owned}");
    }
    assert_eq!(uid(&outside), "0");

    // A second name, and the directory root's again.
    let state = dir.path().join("shared");
    fs::create_dir_all(state.join("ledger")).unwrap();
    fs::write(state.join("ledger/lock"), "").unwrap();
    fs::hard_link(&outside, state.join("ledger/ledger.pub")).unwrap();
    let mut daemon = Daemon::start("poll", &state);
    assert!(!daemon.is_ready(), "{}", daemon.said);
    assert_eq!(daemon.process.wait().unwrap().code(), Some(5));
    assert!(daemon.said.contains("not ours alone"), "{}", daemon.said);
    assert_eq!(uid(&outside), "0");
    assert_eq!(uid(&state), "0");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_told_in_one_line() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    let mut daemon = Daemon::start("poll", &state);
    assert!(daemon.is_ready(), "{}", daemon.said);
    assert!(daemon.stop().success(), "{}", daemon.said);
    let sealed = std::os::unix::fs::PermissionsExt::from_mode(0o500);
    fs::set_permissions(state.join("ledger"), sealed).unwrap();
    fs::remove_file(state.join("ledger/lock")).unwrap_or_default();

    let mut daemon = Daemon::start("poll", &state);
    if geteuid().is_root() {
        assert!(!daemon.is_ready(), "{}", daemon.said);
        assert_eq!(daemon.process.wait().unwrap().code(), Some(5));
        let error = daemon.said.lines().last().unwrap();
        assert!(error.contains(state.to_str().unwrap()), "{error}");
        assert!(error.contains("Permission denied"), "{error}");
    } else {
        skip("the lock file cannot be taken away without root");
    }
}

/// From the index it was taken for damage (exit 4). 8 KiB do not hold a segment, 40 not the index.
#[test]
fn a_full_disk_is_no_damage() {
    if !geteuid().is_root() {
        return skip("only root can mount a small disk");
    }
    let dir = TempDir::new().unwrap();
    for size in ["8k", "40k"] {
        let script = "mount -t tmpfs -o mode=0700,size=$0 none $1 || exit 99; \
                      exec $2 run --sensor poll --state-dir $1";
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, size])
            .arg(dir.path())
            .arg(env!("CARGO_BIN_EXE_daemoneye"))
            .output();
        let Ok(output) = output else {
            return skip("there is no unshare");
        };
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(99) || stderr.starts_with("unshare:") {
            return skip(&format!("nothing can be mounted here: {stderr}"));
        }
        assert_eq!(output.status.code(), Some(5), "{stderr}");
        let cause = "No space left on device";
        assert_eq!(stderr.matches(cause).count(), 1, "{stderr}");
    }
}

/// A deadline was added to the clock, which panics where it does not fit.
#[test]
fn a_recording_longer_than_the_clock_lasts_is_no_panic() {
    let dir = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_daemoneye"));
    command
        .arg("record")
        .arg(dir.path().join("long.rec"))
        .args(["--sensor", "poll", "--seconds", &u64::MAX.to_string()]);
    let mut daemon = Daemon::spawn(command);
    assert!(daemon.is_ready(), "{}", daemon.said);
    assert!(daemon.stop().success(), "{}", daemon.said);
}
