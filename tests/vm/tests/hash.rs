//! Digests of what really ran, against what the files hold.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use event::{Digest, EventKind, HashFailure, Process};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use vm::{Daemon, Recording, place, tiny};

fn sha256_of(path: &Path) -> [u8; 32] {
    Sha256::digest(fs::read(path).unwrap()).into()
}

/// A process that runs as long as this lives: the recorder ends before it.
struct Waiting(Child);

impl Waiting {
    /// The workload under another path or descriptor.
    fn start(program: impl AsRef<Path>) -> Result<Self> {
        Self::of(Command::new(program.as_ref()).arg("wait"))
    }

    fn of(command: &mut Command) -> Result<Self> {
        let mut child = vm::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        // Its first line shows that its exec is over.
        let pipe = child.stdout.as_mut().context("a pipe was asked for")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(pipe), &mut String::new())?;
        Ok(Self(child))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn run_to_end(program: &Path, arguments: &[&str]) -> Result<u32> {
    let mut child = vm::spawn(Command::new(program).args(arguments))?;
    let pid = child.id();
    child.wait()?;
    Ok(pid)
}

/// What happens meanwhile, the recorder sees afterwards.
fn while_it_is_frozen<T>(daemon: &Daemon, work: impl FnOnce() -> Result<T>) -> Result<T> {
    daemon.signal(Signal::STOP)?;
    let done = work();
    daemon.signal(Signal::CONT)?;
    done
}

/// The last exec of a process.
fn exec_of(recording: &Recording, pid: u32) -> &Process {
    let events = recording.about(pid);
    let exec = events.iter().rev().find_map(|event| match &event.kind {
        EventKind::Exec(exec) => Some(&exec.process),
        _ => None,
    });
    exec.unwrap_or_else(|| panic!("no exec of {pid} in {events:?}"))
}

/// What is told of the digest of a process's last program, with its exec or after it, but once.
fn told(recording: &Recording, pid: u32) -> Result<Digest, HashFailure> {
    let exec = exec_of(recording, pid);
    let events = recording.about(pid);
    let later = events.iter().filter_map(|event| match &event.kind {
        EventKind::Hashed(hashed) if hashed.exe_file == exec.exe_file => Some(hashed.outcome),
        _ => None,
    });
    let inline = exec.sha256.map(|sha256| Digest {
        sha256,
        changed: exec.exe_changed,
        touched: exec.exe_touched,
    });
    let all: Vec<_> = later.chain(inline.map(Ok)).collect();
    assert_eq!(all.len(), 1, "{events:?}");
    all[0]
}

fn expect(recording: &Recording, pid: u32, sha256: [u8; 32], changed: bool) {
    let touched = false;
    let digest = Digest {
        sha256,
        changed,
        touched,
    };
    assert_eq!(told(recording, pid), Ok(digest));
}

#[test]
fn digest_is_that_of_the_file_and_later_execs_have_it_inline() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let shell = fs::canonicalize("/bin/sh").unwrap();
    let (recording, pids) = Recording::hashed("ebpf", &[], |_| {
        (0..100)
            .map(|_| run_to_end(&shell, &["-c", "exit 0"]))
            .collect::<Result<Vec<u32>>>()
    })
    .unwrap();
    for pid in &pids {
        expect(&recording, *pid, sha256_of(&shell), false);
    }
    let last = pids.last().unwrap();
    assert!(exec_of(&recording, *last).sha256.is_some(), "inline");
    assert!(recording.counter("/hashing/cached") > 0);
    assert_eq!(recording.counter("/hashing/later/held"), 0);
}

#[test]
fn memfd_and_deleted_file_are_hashed_while_their_process_lives() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let workload = place::workload().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    let (recording, (memfd, deleted)) = Recording::hashed("ebpf", &[], |_| {
        let memfd = memfd_create("program", MemfdFlags::CLOEXEC)?;
        let mut writable = File::from(memfd);
        writable.write_all(&fs::read(&workload)?)?;
        let read_only = File::open(format!("/proc/self/fd/{}", writable.as_raw_fd()))?;
        drop(writable);
        let memfd = Waiting::start(format!("/proc/self/fd/{}", read_only.as_raw_fd()))?;

        fs::copy(&workload, &copy)?;
        let file = File::open(&copy)?;
        fs::remove_file(&copy)?;
        let deleted = Waiting::start(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        Ok((memfd, deleted))
    })
    .unwrap();
    for process in [&memfd, &deleted] {
        let file = exec_of(&recording, process.pid()).exe_file.unwrap();
        assert_eq!(file.nlink, 0);
        expect(&recording, process.pid(), sha256_of(&workload), false);
    }
}

#[test]
fn program_that_only_its_mount_namespace_has_is_hashed() {
    if !place::kernel_scenarios_run() {
        return;
    }
    if Command::new("unshare").arg("--version").output().is_err() {
        return eprintln!("skipped: there is no unshare");
    }
    let workload = place::workload().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs none $0 && cp $1 $0/program && exec $0/program wait";
    let (recording, process) = Recording::hashed("ebpf", &[], |_| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]);
        Waiting::of(command.arg(dir.path()).arg(&workload))
    })
    .unwrap();
    assert!(!dir.path().join("program").exists());
    assert!(
        exec_of(&recording, process.pid())
            .exe
            .ends_with(b"/program")
    );
    expect(&recording, process.pid(), sha256_of(&workload), false);
}

#[test]
fn file_written_between_exec_and_hash_is_marked_and_a_replaced_one_gone() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let names = ["written", "replaced", "other", "closed"];
    let [written, replaced, other, closed] = names.map(|name| {
        let path = dir.path().join(name);
        tiny::write(&path, 0).unwrap();
        path
    });
    let (recording, (first, second, third)) = Recording::hashed("ebpf", &[], |daemon| {
        while_it_is_frozen(daemon, || {
            let first = run_to_end(&written, &[])?;
            fs::write(&written, "what did not run")?;
            let second = run_to_end(&replaced, &[])?;
            fs::rename(&other, &replaced)?;
            let third = run_to_end(&closed, &[])?;
            fs::set_permissions(&closed, Permissions::from_mode(0o700))?;
            Ok((first, second, third))
        })
    })
    .unwrap();
    expect(
        &recording,
        first,
        Sha256::digest("what did not run").into(),
        true,
    );
    assert_eq!(told(&recording, second), Err(HashFailure::Gone));
    let touched = Digest {
        sha256: sha256_of(&closed),
        changed: false,
        touched: true,
    };
    assert_eq!(told(&recording, third), Ok(touched));
}

#[test]
fn file_that_is_too_large_is_told_and_not_read() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    tiny::write(&path, 0).unwrap();
    // Sparse: the smallest program ends where the zeros begin.
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(2 << 20)
        .unwrap();
    let options = ["--hash-max-bytes", "1048576"];
    let (recording, pid) = Recording::hashed("ebpf", &options, |_| run_to_end(&path, &[])).unwrap();
    assert_eq!(told(&recording, pid), Err(HashFailure::TooLarge));
}

#[test]
fn alert_names_the_processes_above_up_to_the_first() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let start = ["run", "--sensor", "ebpf", "--json", "--state-dir"].map(Path::new);
    let mut daemon = Daemon::start(start.into_iter().chain([state.path()])).unwrap();
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("provoke");
    tiny::write(&path, 0).unwrap();
    let pid = u64::from(run_to_end(&path, &[]).unwrap());
    let (_, line) = daemon
        .line(Duration::from_secs(60), |line| is_alert_about(line, pid))
        .unwrap();
    let alert: Value = serde_json::from_str(&line).unwrap();
    let above = alert["daemoneye"]["ancestors"].as_array().unwrap();
    let mut pids: Vec<_> = above
        .iter()
        .map(|process| process["pid"].as_u64())
        .collect();
    pids.insert(0, alert["process"]["parent"]["pid"].as_u64());
    assert_eq!(pids, lineage(), "{alert}");
    daemon.stop().unwrap();
}

fn is_alert_about(line: &str, pid: u64) -> bool {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    value["event"]["kind"] == "alert" && value["process"]["pid"].as_u64() == Some(pid)
}

/// This process and those above it, as procfs has them.
fn lineage() -> Vec<Option<u64>> {
    let mut pids = vec![Some(u64::from(std::process::id()))];
    while let Some(Some(pid)) = pids.last().filter(|pid| **pid != Some(1)) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        pids.push(parent.and_then(|text| text.trim().parse().ok()));
    }
    pids
}
