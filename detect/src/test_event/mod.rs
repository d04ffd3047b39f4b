//! The small events that rule files use as tests.

mod other;
mod process;
mod series;

use event::{
    Argv, BootId, BootTime, Bytes, Credentials, Event, EventKind, Exec, Fork, Header, ProcessKey,
    WallTime,
};
use serde::Deserialize;

use crate::catalog::Stream;
use crate::text::{basename, parse_hex};

/// What a test says about its event; the rest is as for an ordinary process.
#[derive(Deserialize, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestEvent {
    pub(crate) name: Option<String>,
    /// A test of several events has nothing else but a name.
    events: Option<Vec<TestEvent>>,
    stream: Option<String>,
    after_ms: Option<u64>,
    repeat: Option<u32>,
    pid: Option<u32>,
    exe: Option<String>,
    filename: Option<String>,
    interpreter: Option<String>,
    comm: Option<String>,
    args: Option<Vec<String>>,
    args_truncated_bytes: Option<u64>,
    cwd: Option<String>,
    environment: Option<Vec<String>>,
    uid: Option<u32>,
    gid: Option<u32>,
    euid: Option<u32>,
    egid: Option<u32>,
    user: Option<String>,
    login_uid: Option<u32>,
    session: Option<u32>,
    session_leader: Option<u32>,
    tty: Option<u32>,
    effective_caps: Option<u64>,
    file_caps: Option<bool>,
    secure_exec: Option<bool>,
    cgroup_id: Option<u64>,
    unit: Option<String>,
    container_id: Option<String>,
    container_runtime: Option<String>,
    pod_uid: Option<String>,
    namespace_pid: Option<u32>,
    mnt_ns: Option<u32>,
    pid_ns: Option<u32>,
    net_ns: Option<u32>,
    user_ns: Option<u32>,
    uts_ns: Option<u32>,
    ipc_ns: Option<u32>,
    cgroup_ns: Option<u32>,
    time_ns: Option<u32>,
    sha256: Option<String>,
    md5: Option<String>,
    sha1: Option<String>,
    imphash: Option<String>,
    original_file_name: Option<String>,
    description: Option<String>,
    product: Option<String>,
    company: Option<String>,
    file_version: Option<String>,
    integrity_level: Option<String>,
    logon_id: Option<u64>,
    exe_changed: Option<bool>,
    exe_touched: Option<bool>,
    hash_failure: Option<String>,
    memfd: Option<bool>,
    deleted: Option<bool>,
    setuid: Option<bool>,
    setgid: Option<bool>,
    file_owner: Option<u32>,
    file_inode: Option<u64>,
    file_device: Option<u32>,
    file_nlink: Option<u32>,
    file_size: Option<u64>,
    file_mtime: Option<u64>,
    file_ctime: Option<u64>,
    parent: Option<TestParent>,
    /// Above the parent, nearest first.
    ancestors: Option<Vec<TestParent>>,
    exit_code: Option<u32>,
    exit_signal: Option<u32>,
    core_dumped: Option<bool>,
    status_unknown: Option<bool>,
    run_time: Option<u64>,
    errno: Option<u32>,
    class: Option<String>,
    reason: Option<String>,
    count: Option<u64>,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(deny_unknown_fields)]
struct TestParent {
    pid: Option<u32>,
    ppid: Option<u32>,
    exe: Option<String>,
    comm: Option<String>,
    args: Option<Vec<String>>,
    euid: Option<u32>,
    user: Option<String>,
}

const TIME: BootTime = BootTime(1_000_000_000);

impl TestEvent {
    /// The event, or what is wrong with its description.
    fn event(&self, stream: Stream) -> Result<Event, String> {
        if let Some(key) = self.misplaced(stream) {
            return Err(format!(
                "has `{key}`, which means nothing in stream `{stream}`"
            ));
        }
        let kind = match stream {
            Stream::Exec => EventKind::Exec(Box::new(Exec {
                process: self.process()?,
                old_tid: None,
            })),
            Stream::Fork => EventKind::Fork(Fork {
                child: self.key(),
                parent: key(self.parent_pid().unwrap_or(1)),
                parent_muted: false,
            }),
            Stream::Exit => EventKind::Exit(self.exit()?),
            Stream::FailedExec => EventKind::FailedExec(Box::new(self.failed_exec())),
            Stream::Hashed => EventKind::Hashed(Box::new(self.hashed()?)),
            Stream::Lost => EventKind::Lost(self.lost()?),
        };
        let wall = WallTime(1_700_000_000_000_000_000);
        Ok(Event {
            header: Header {
                time: TIME,
                wall,
                ..Header::default()
            },
            kind,
        })
    }

    fn misplaced(&self, stream: Stream) -> Option<&'static str> {
        use Stream::{Exec, Exit, FailedExec, Fork, Hashed, Lost};
        let exec_only = self.exec_only().map(|(key, set)| (key, set, &[Exec][..]));
        let others: [(_, _, &[Stream]); 33] = [
            (
                "pid",
                self.pid.is_some(),
                &[Exec, Fork, Exit, FailedExec, Hashed],
            ),
            (
                "parent",
                self.parent.is_some(),
                &[Exec, Fork, Exit, FailedExec],
            ),
            ("exe", self.exe.is_some(), &[Exec, Exit, FailedExec, Hashed]),
            ("comm", self.comm.is_some(), &[Exec, Exit, FailedExec]),
            ("filename", self.filename.is_some(), &[Exec, FailedExec]),
            ("uid", self.uid.is_some(), &[Exec, FailedExec]),
            ("gid", self.gid.is_some(), &[Exec, FailedExec]),
            ("euid", self.euid.is_some(), &[Exec, FailedExec]),
            ("egid", self.egid.is_some(), &[Exec, FailedExec]),
            ("sha256", self.sha256.is_some(), &[Exec, Hashed]),
            ("exe_changed", self.exe_changed.is_some(), &[Exec, Hashed]),
            ("exe_touched", self.exe_touched.is_some(), &[Exec, Hashed]),
            ("hash_failure", self.hash_failure.is_some(), &[Hashed]),
            ("memfd", self.memfd.is_some(), &[Exec, Hashed]),
            ("deleted", self.deleted.is_some(), &[Exec, Hashed]),
            ("setuid", self.setuid.is_some(), &[Exec, Hashed]),
            ("setgid", self.setgid.is_some(), &[Exec, Hashed]),
            ("file_owner", self.file_owner.is_some(), &[Exec, Hashed]),
            ("file_inode", self.file_inode.is_some(), &[Exec, Hashed]),
            ("file_device", self.file_device.is_some(), &[Exec, Hashed]),
            ("file_nlink", self.file_nlink.is_some(), &[Exec, Hashed]),
            ("file_size", self.file_size.is_some(), &[Exec, Hashed]),
            ("file_mtime", self.file_mtime.is_some(), &[Exec, Hashed]),
            ("file_ctime", self.file_ctime.is_some(), &[Exec, Hashed]),
            ("exit_code", self.exit_code.is_some(), &[Exit]),
            ("exit_signal", self.exit_signal.is_some(), &[Exit]),
            ("core_dumped", self.core_dumped.is_some(), &[Exit]),
            ("status_unknown", self.status_unknown.is_some(), &[Exit]),
            ("run_time", self.run_time.is_some(), &[Exit]),
            ("errno", self.errno.is_some(), &[FailedExec]),
            ("class", self.class.is_some(), &[Lost]),
            ("reason", self.reason.is_some(), &[Lost]),
            ("count", self.count.is_some(), &[Lost]),
        ];
        others
            .into_iter()
            .chain(exec_only)
            .find(|(_, set, on)| *set && !on.contains(&stream))
            .map(|(key, ..)| key)
    }

    /// Keys that only a program that starts has, and whether they are given.
    fn exec_only(&self) -> [(&'static str, bool); 38] {
        [
            ("ancestors", self.ancestors.is_some()),
            ("md5", self.md5.is_some()),
            ("sha1", self.sha1.is_some()),
            ("imphash", self.imphash.is_some()),
            ("original_file_name", self.original_file_name.is_some()),
            ("description", self.description.is_some()),
            ("product", self.product.is_some()),
            ("company", self.company.is_some()),
            ("file_version", self.file_version.is_some()),
            ("integrity_level", self.integrity_level.is_some()),
            ("logon_id", self.logon_id.is_some()),
            ("interpreter", self.interpreter.is_some()),
            ("args", self.args.is_some()),
            ("args_truncated_bytes", self.args_truncated_bytes.is_some()),
            ("cwd", self.cwd.is_some()),
            ("environment", self.environment.is_some()),
            ("user", self.user.is_some()),
            ("login_uid", self.login_uid.is_some()),
            ("session", self.session.is_some()),
            ("session_leader", self.session_leader.is_some()),
            ("tty", self.tty.is_some()),
            ("effective_caps", self.effective_caps.is_some()),
            ("file_caps", self.file_caps.is_some()),
            ("secure_exec", self.secure_exec.is_some()),
            ("cgroup_id", self.cgroup_id.is_some()),
            ("unit", self.unit.is_some()),
            ("container_id", self.container_id.is_some()),
            ("container_runtime", self.container_runtime.is_some()),
            ("pod_uid", self.pod_uid.is_some()),
            ("namespace_pid", self.namespace_pid.is_some()),
            ("mnt_ns", self.mnt_ns.is_some()),
            ("pid_ns", self.pid_ns.is_some()),
            ("net_ns", self.net_ns.is_some()),
            ("user_ns", self.user_ns.is_some()),
            ("uts_ns", self.uts_ns.is_some()),
            ("ipc_ns", self.ipc_ns.is_some()),
            ("cgroup_ns", self.cgroup_ns.is_some()),
            ("time_ns", self.time_ns.is_some()),
        ]
    }

    fn key(&self) -> ProcessKey {
        key(self.pid.unwrap_or(1000))
    }

    fn parent_pid(&self) -> Option<u32> {
        self.parent
            .as_ref()
            .map(|parent| parent.pid.unwrap_or(process::PARENT_PID))
    }

    /// The program's path; empty where it is not given.
    fn exe(&self) -> Bytes {
        Bytes::from(self.exe.clone().unwrap_or_default())
    }

    fn comm(&self) -> Bytes {
        comm(self.comm.as_deref(), self.exe.as_deref())
    }

    /// One given id stands for those that are not given, as after an ordinary login.
    fn credentials(&self) -> Option<Credentials> {
        let uid = self.uid.or(self.euid);
        let gid = self.gid.or(self.egid).or(uid);
        Some(Credentials {
            uid: uid.or(gid)?,
            gid: gid?,
            euid: self.euid.or(uid).or(gid)?,
            egid: self.egid.or(gid)?,
        })
    }

    fn digest(&self) -> Result<Option<[u8; 32]>, String> {
        hash("sha256", self.sha256.as_deref())
    }
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey {
        boot: BootId::default(),
        pid,
        start: TIME,
    }
}

/// A program that is known was at least called by its path.
fn arguments(given: Option<&[String]>, exe: Option<&str>) -> Argv {
    match given {
        Some(given) => given.iter().collect(),
        None => exe.into_iter().filter(|path| !path.is_empty()).collect(),
    }
}

/// The kernel keeps 15 bytes.
fn comm(given: Option<&str>, exe: Option<&str>) -> Bytes {
    let name = given.map_or_else(
        || basename(exe.unwrap_or_default().as_bytes()),
        str::as_bytes,
    );
    Bytes::copy_from_slice(&name[..name.len().min(15)])
}

fn hash<const N: usize>(key: &str, hex: Option<&str>) -> Result<Option<[u8; N]>, String> {
    let Some(hex) = hex else { return Ok(None) };
    let bytes = parse_hex(hex.as_bytes()).and_then(|bytes| bytes.try_into().ok());
    match bytes {
        Some(hash) => Ok(Some(hash)),
        None => Err(format!(
            "has a `{key}` that is not {} hexadecimal digits",
            2 * N
        )),
    }
}
