//! Other sensors on the same workload. Nothing is installed: what is absent is said.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::interrupt;
use super::storm::storm_child;
use super::target::Told;
use crate::shell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// A rule on execve; `auditd` writes its log.
    Auditd,
    /// A one-liner on two tracepoints.
    Bpftrace,
    /// Of bcc's libbpf tools.
    Execsnoop,
    /// Over the netlink process connector.
    Forkstat,
}

const PEERS: [Peer; 4] = [
    Peer::Auditd,
    Peer::Bpftrace,
    Peer::Execsnoop,
    Peer::Forkstat,
];

/// A process exit is that of its last thread, for which bpftrace has no word.
const ONE_LINER: &str = r#"
tracepoint:sched:sched_process_exec { printf("exec %d %s\n", pid, str(args->filename)) }
tracepoint:sched:sched_process_exit /pid == tid/ { printf("exit %d\n", pid) }
"#;

const AUDIT_RULE: [&str; 6] = ["-F", "arch=b64", "-S", "execve", "-k", "daemoneye-bench"];

/// How Debian sets it up, but for the place.
const AUDITD_CONF: &str = "local_events = yes\nwrite_logs = yes\nlog_format = ENRICHED\n\
    flush = INCREMENTAL_ASYNC\nfreq = 50\nmax_log_file_action = IGNORE\nname_format = NONE\n\
    space_left = 75\nspace_left_action = IGNORE\nadmin_space_left = 50\n\
    admin_space_left_action = IGNORE\ndisk_full_action = SUSPEND\ndisk_error_action = SUSPEND\nlog_file = ";

/// Long enough for what compiles its programs at start.
const START: Duration = Duration::from_secs(20);

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auditd => "auditd",
            Self::Bpftrace => "bpftrace",
            Self::Execsnoop => "execsnoop",
            Self::Forkstat => "forkstat",
        }
    }

    /// Whether a line of its output tells of an event, and of an exec.
    fn tells(self, line: &str) -> (bool, bool) {
        let exec = match self {
            Self::Auditd => line.starts_with("type=SYSCALL") && line.contains("daemoneye-bench"),
            Self::Bpftrace => line.starts_with("exec "),
            Self::Execsnoop => line.starts_with("storm-child"),
            Self::Forkstat => line.contains(" exec "),
        };
        let exit = match self {
            Self::Auditd | Self::Execsnoop => false,
            Self::Bpftrace => line.starts_with("exit "),
            Self::Forkstat => line.contains(" exit "),
        };
        (exec || exit, exec)
    }

    fn command(self, dir: &Path) -> Command {
        let mut command = Command::new(self.name());
        match self {
            Self::Auditd => command.args(["-n", "-c"]).arg(dir),
            Self::Bpftrace => command.args(["-e", ONE_LINER]),
            Self::Execsnoop => &mut command,
            Self::Forkstat => command.args(["-e", "exec,exit"]),
        };
        command
    }
}

/// Those that tell of an exec here; says of the others why they are left out.
pub(super) fn usable() -> Result<Vec<Peer>> {
    let mut usable = Vec::new();
    for peer in PEERS {
        interrupt::check()?;
        let tried = match shell::find(peer.name()) {
            None => Err(anyhow::anyhow!("not installed")),
            Some(_) => Running::start(peer).and_then(|running| running.stop(0)),
        };
        match tried {
            Ok(_) => usable.push(peer),
            Err(error) => eprintln!("without {}: {error:#}", peer.name()),
        }
    }
    Ok(usable)
}

/// A peer at work. Dropping it ends it.
pub(super) struct Running {
    peer: Peer,
    child: Child,
    output: PathBuf,
    dir: TempDir,
    _audit: Option<AuditRule>,
}

impl Running {
    /// Starts it and waits until it has told of an exec.
    pub(super) fn start(peer: Peer) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let output = dir.path().join("output");
        let mut command = peer.command(dir.path());
        let stdout = private(&output)?;
        command.stdin(Stdio::null()).stdout(stdout);
        command.stderr(File::create(dir.path().join("errors"))?);
        if peer == Peer::Auditd {
            ensure!(
                audit_status("pid")? == 0,
                "it runs already and has a log of its own"
            );
            let conf = format!("{AUDITD_CONF}{}\n", output.display());
            fs::write(dir.path().join("auditd.conf"), conf)?;
        }
        let child = command.spawn().context("cannot be started")?;
        let mut running = Self {
            peer,
            child,
            output,
            dir,
            _audit: None,
        };
        if peer == Peer::Auditd {
            running._audit = Some(AuditRule::add()?);
        }
        running.await_exec()?;
        Ok(running)
    }

    /// Runs the storm's program until the peer tells of it; some print only by the block.
    fn await_exec(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        while self.told()?.1 == 0 {
            interrupt::check()?;
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status}: {}", self.complaint());
            }
            if Instant::now() > deadline {
                bail!("tells of no exec here: {}", self.complaint());
            }
            for _ in 0..50 {
                Command::new(storm_child()?).status()?;
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn complaint(&self) -> String {
        let errors = fs::read(self.dir.path().join("errors")).unwrap_or_default();
        let errors = String::from_utf8_lossy(&errors).into_owned();
        let lines: Vec<&str> = errors.lines().map(str::trim).take(3).collect();
        lines.join(" / ")
    }

    /// Events and execs that its output tells of.
    fn told(&self) -> Result<(u64, u64)> {
        let output = fs::read(&self.output).unwrap_or_default();
        let lines = output.split(|byte| *byte == b'\n');
        let mut told = (0, 0);
        for line in lines {
            let (event, exec) = self.peer.tells(&String::from_utf8_lossy(line));
            told = (told.0 + u64::from(event), told.1 + u64::from(exec));
        }
        Ok(told)
    }

    /// The kernel's thread that sends audit records works for auditd alone.
    pub(super) fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        if self.peer == Peer::Auditd {
            pids.extend(kernel_thread("kauditd"));
        }
        pids
    }

    pub(super) fn stop(mut self, execs: u64) -> Result<Told> {
        self.end();
        let (seen, told) = self.told()?;
        // Execs of others may stand in for lost ones: these are lost at the least.
        let lost = execs.saturating_sub(told);
        let dropped = (lost > 0).then(|| ("exec/untold".to_owned(), lost));
        Ok(Told {
            seen,
            dropped: dropped.into_iter().collect(),
        })
    }

    fn end(&mut self) {
        let signal = match self.peer {
            Peer::Auditd => Signal::TERM,
            _ => Signal::INT,
        };
        // Fails only where it has ended.
        let _ = kill_process(Pid::from_child(&self.child), signal);
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// A new file of which auditd accepts that it is its log.
fn private(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    Ok(options.open(path)?)
}

/// Our rule in the kernel's audit rules. Dropping it restores what was.
struct AuditRule {
    enabled: u64,
    backlog: u64,
}

impl AuditRule {
    fn add() -> Result<Self> {
        let before = Self {
            enabled: audit_status("enabled")?,
            backlog: audit_status("backlog_limit")?,
        };
        // As in Debian's rules.
        auditctl(["-e", "1", "-b", "8192"])?;
        auditctl(["-a", "always,exit"].into_iter().chain(AUDIT_RULE))?;
        Ok(before)
    }
}

impl Drop for AuditRule {
    fn drop(&mut self) {
        let (enabled, backlog) = (self.enabled.to_string(), self.backlog.to_string());
        let rule = ["-d", "always,exit"].into_iter().chain(AUDIT_RULE);
        let settings = ["-e", &enabled, "-b", &backlog];
        for undone in [auditctl(rule), auditctl(settings)] {
            if let Err(error) = undone {
                eprintln!("the audit settings are not restored: {error:#}");
            }
        }
    }
}

fn auditctl<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<()> {
    shell::output(Command::new("auditctl").args(arguments)).map(drop)
}

fn audit_status(name: &str) -> Result<u64> {
    let status = shell::text(Command::new("auditctl").arg("-s"))?;
    let words = status.lines().filter_map(|line| line.split_once(' '));
    let mut value = words
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    let number = value.next().and_then(|value| value.trim().parse().ok());
    number.with_context(|| format!("auditctl -s does not say {name}"))
}

fn kernel_thread(name: &str) -> Option<u32> {
    let pids = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| super::watched::read(*pid, "comm").is_ok_and(|comm| comm.trim() == name))
}

#[cfg(test)]
mod tests {
    use super::Peer;

    #[test]
    fn lines_of_peers_are_counted_as_what_they_tell() {
        let check = |peer: Peer, line: &str, told| assert_eq!(peer.tells(line), told, "{line}");
        let audit = r#"type=SYSCALL msg=audit(1.2:3): syscall=59 key="daemoneye-bench""#;
        check(Peer::Auditd, audit, (true, true));
        check(
            Peer::Auditd,
            "type=EXECVE msg=audit(1.2:3): argc=1",
            (false, false),
        );
        check(Peer::Bpftrace, "Attaching 2 probes...", (false, false));
        check(Peer::Bpftrace, "exit 12", (true, false));
        check(
            Peer::Execsnoop,
            "storm-child      7      1      0 x",
            (true, true),
        );
        check(
            Peer::Execsnoop,
            "PCOMM            PID    PPID   RET ARGS",
            (false, false),
        );
        check(
            Peer::Forkstat,
            "06:21:03 exec   4220              x",
            (true, true),
        );
        check(
            Peer::Forkstat,
            "06:21:03 exit   4220      0   1.3s x",
            (true, false),
        );
    }
}
