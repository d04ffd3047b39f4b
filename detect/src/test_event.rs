//! The small events that rule files use as tests.

use event::{
    Ancestor, Argv, BootId, BootTime, Bytes, Container, Credentials, DropReason, Event, EventClass,
    EventKind, Exec, Exit, ExitStatus, FileIdentity, Fork, Header, Lost, Process, ProcessKey,
    WallTime,
};
use serde::Deserialize;

use crate::catalog::Stream;
use crate::text::basename;

/// What a test says about its event; the rest is as for an ordinary process.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestEvent {
    pub(crate) name: Option<String>,
    pid: Option<u32>,
    exe: Option<String>,
    filename: Option<String>,
    comm: Option<String>,
    args: Option<Vec<String>>,
    args_truncated_bytes: Option<u64>,
    cwd: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    euid: Option<u32>,
    egid: Option<u32>,
    user: Option<String>,
    login_uid: Option<u32>,
    session: Option<u32>,
    tty: Option<u32>,
    effective_caps: Option<u64>,
    cgroup_id: Option<u64>,
    container_id: Option<String>,
    sha256: Option<String>,
    memfd: Option<bool>,
    deleted: Option<bool>,
    setuid: Option<bool>,
    setgid: Option<bool>,
    file_owner: Option<u32>,
    file_mtime: Option<u64>,
    parent: Option<TestParent>,
    exit_code: Option<u32>,
    exit_signal: Option<u32>,
    core_dumped: Option<bool>,
    class: Option<String>,
    reason: Option<String>,
    count: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct TestParent {
    pid: Option<u32>,
    ppid: Option<u32>,
    exe: Option<String>,
    comm: Option<String>,
    args: Option<Vec<String>>,
    euid: Option<u32>,
}

const TIME: BootTime = BootTime(1_000_000_000);

impl TestEvent {
    /// The event, or what is wrong with its description.
    pub(crate) fn into_event(self, stream: Stream) -> Result<Event, String> {
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
                child: key(self.pid.unwrap_or(1000)),
                parent: key(self.parent_pid().unwrap_or(1)),
            }),
            Stream::Exit => EventKind::Exit(self.exit()),
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
        use Stream::{Exec, Exit, Fork, Lost};
        let keys: &[(&'static str, bool, &[Stream])] = &[
            ("pid", self.pid.is_some(), &[Exec, Fork, Exit]),
            ("parent", self.parent.is_some(), &[Exec, Fork, Exit]),
            ("exe", self.exe.is_some(), &[Exec, Exit]),
            ("comm", self.comm.is_some(), &[Exec, Exit]),
            ("exit_code", self.exit_code.is_some(), &[Exit]),
            ("exit_signal", self.exit_signal.is_some(), &[Exit]),
            ("core_dumped", self.core_dumped.is_some(), &[Exit]),
            ("class", self.class.is_some(), &[Lost]),
            ("reason", self.reason.is_some(), &[Lost]),
            ("count", self.count.is_some(), &[Lost]),
            ("filename", self.filename.is_some(), &[Exec]),
            ("args", self.args.is_some(), &[Exec]),
            (
                "args_truncated_bytes",
                self.args_truncated_bytes.is_some(),
                &[Exec],
            ),
            ("cwd", self.cwd.is_some(), &[Exec]),
            ("uid", self.uid.is_some(), &[Exec]),
            ("gid", self.gid.is_some(), &[Exec]),
            ("euid", self.euid.is_some(), &[Exec]),
            ("egid", self.egid.is_some(), &[Exec]),
            ("user", self.user.is_some(), &[Exec]),
            ("login_uid", self.login_uid.is_some(), &[Exec]),
            ("session", self.session.is_some(), &[Exec]),
            ("tty", self.tty.is_some(), &[Exec]),
            ("effective_caps", self.effective_caps.is_some(), &[Exec]),
            ("cgroup_id", self.cgroup_id.is_some(), &[Exec]),
            ("container_id", self.container_id.is_some(), &[Exec]),
            ("sha256", self.sha256.is_some(), &[Exec]),
            ("memfd", self.memfd.is_some(), &[Exec]),
            ("deleted", self.deleted.is_some(), &[Exec]),
            ("setuid", self.setuid.is_some(), &[Exec]),
            ("setgid", self.setgid.is_some(), &[Exec]),
            ("file_owner", self.file_owner.is_some(), &[Exec]),
            ("file_mtime", self.file_mtime.is_some(), &[Exec]),
        ];
        keys.iter()
            .find(|(_, set, on)| *set && !on.contains(&stream))
            .map(|(key, ..)| *key)
    }

    fn parent_pid(&self) -> Option<u32> {
        self.parent.as_ref().map(|parent| parent.pid.unwrap_or(999))
    }

    fn process(self) -> Result<Process, String> {
        let exe = self.exe.clone().unwrap_or_default();
        Ok(Process {
            key: key(self.pid.unwrap_or(1000)),
            parent: self.parent_pid().map(key),
            comm: comm(self.comm.as_ref(), &exe),
            filename: Bytes::from(self.filename.clone().unwrap_or_else(|| exe.clone())),
            argv: arguments(self.args.clone(), &exe),
            argv_truncated_bytes: self.args_truncated_bytes.unwrap_or(0),
            cwd: self.cwd.clone().map(Bytes::from),
            credentials: self.credentials(),
            user: self.user.clone().map(Bytes::from),
            login_uid: self.login_uid,
            session: self.session,
            tty: self.tty,
            effective_caps: self.effective_caps,
            cgroup_id: self.cgroup_id,
            container: self.container_id.clone().map(|id| Container {
                id: Bytes::from(id),
                ..Container::default()
            }),
            exe_file: Some(self.file()),
            sha256: self.sha256.as_deref().map(hash).transpose()?,
            redactions: 0,
            parent_process: self.parent.map(|parent| Box::new(parent.into_ancestor())),
            exe: Bytes::from(exe),
            ..Process::default()
        })
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

    fn file(&self) -> FileIdentity {
        let set = |flag: Option<bool>, bit| if flag == Some(true) { bit } else { 0 };
        let nameless = self.memfd == Some(true) || self.deleted == Some(true);
        FileIdentity {
            nlink: u32::from(!nameless),
            mtime: self.file_mtime.unwrap_or(0),
            mode: 0o100_755 | set(self.setuid, 0o4000) | set(self.setgid, 0o2000),
            uid: self.file_owner.unwrap_or(0),
            memfd: self.memfd == Some(true),
            ..FileIdentity::default()
        }
    }

    fn exit(&self) -> Exit {
        let exe = self.exe.clone().unwrap_or_default();
        let (code, signal) = (self.exit_code.unwrap_or(0), self.exit_signal.unwrap_or(0));
        let core_dumped = self.core_dumped == Some(true);
        let raw = (code & 0xff) << 8 | u32::from(core_dumped) << 7 | signal & 0x7f;
        Exit {
            key: key(self.pid.unwrap_or(1000)),
            parent: self.parent_pid().map(key),
            status: Some(ExitStatus {
                raw,
                code,
                signal,
                core_dumped,
            }),
            run_time: None,
            comm: comm(self.comm.as_ref(), &exe),
            exe: Bytes::from(exe),
        }
    }

    fn lost(&self) -> Result<Lost, String> {
        let class = self.class.as_deref().unwrap_or("exec");
        let reason = self.reason.as_deref().unwrap_or("ring_full");
        Ok(Lost {
            class: EventClass::ALL
                .into_iter()
                .find(|c| c.name() == class)
                .ok_or_else(|| format!("has the unknown class `{class}`"))?,
            reason: DropReason::ALL
                .into_iter()
                .find(|r| r.name() == reason)
                .ok_or_else(|| format!("has the unknown reason `{reason}`"))?,
            count: self.count.unwrap_or(1),
            from: TIME,
            to: TIME,
        })
    }
}

impl TestParent {
    fn into_ancestor(self) -> Ancestor {
        let exe = self.exe.unwrap_or_default();
        Ancestor {
            key: key(self.pid.unwrap_or(999)),
            comm: comm(self.comm.as_ref(), &exe),
            argv: arguments(self.args, &exe),
            parent: self.ppid.map(key),
            euid: self.euid,
            exe: Bytes::from(exe),
        }
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
fn arguments(given: Option<Vec<String>>, exe: &str) -> Argv {
    let path = (!exe.is_empty()).then(|| exe.to_owned());
    given
        .unwrap_or_else(|| path.into_iter().collect())
        .iter()
        .collect()
}

/// The kernel keeps 15 bytes.
fn comm(given: Option<&String>, exe: &str) -> Bytes {
    let name = given.map_or_else(|| basename(exe.as_bytes()), String::as_bytes);
    Bytes::copy_from_slice(&name[..name.len().min(15)])
}

fn hash(hex: &str) -> Result<[u8; 32], String> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let digits: Option<Vec<u8>> = hex.bytes().map(digit).collect();
    let mut hash = [0; 32];
    match digits {
        Some(digits) if digits.len() == 64 => {
            for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
                *byte = pair[0] << 4 | pair[1];
            }
            Ok(hash)
        }
        _ => Err("has a `sha256` that is not 64 hexadecimal digits".to_owned()),
    }
}
