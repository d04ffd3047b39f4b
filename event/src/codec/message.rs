//! The protobuf messages, one struct per message of `docs/event-format.md`.

// Field documentation is in docs/event-format.md and on the normalized types.
#![allow(missing_docs)]

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Leaf {
    #[prost(uint32, tag = "1")]
    pub schema_version: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub boot_id: Bytes,
    #[prost(uint64, tag = "3")]
    pub sequence: u64,
    #[prost(uint32, tag = "4")]
    pub cpu: u32,
    #[prost(fixed64, tag = "5")]
    pub time: u64,
    #[prost(fixed64, tag = "6")]
    pub wall: u64,
    #[prost(oneof = "Body", tags = "10, 11, 12, 13, 14, 15, 16, 17")]
    pub body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Body {
    #[prost(message, tag = "10")]
    Exec(Exec),
    #[prost(message, tag = "11")]
    Fork(Fork),
    #[prost(message, tag = "12")]
    Exit(Exit),
    #[prost(message, tag = "13")]
    Lost(Lost),
    #[prost(message, tag = "14")]
    Snapshot(Snapshot),
    #[prost(message, tag = "15")]
    Finding(Finding),
    #[prost(message, tag = "16")]
    Hashed(Hashed),
    #[prost(message, tag = "17")]
    FailedExec(FailedExec),
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Key {
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    #[prost(fixed64, tag = "2")]
    pub start: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Exec {
    #[prost(message, optional, tag = "1")]
    pub process: Option<Process>,
    #[prost(uint32, optional, tag = "2")]
    pub old_tid: Option<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Snapshot {
    #[prost(message, optional, tag = "1")]
    pub process: Option<Process>,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Fork {
    #[prost(message, optional, tag = "1")]
    pub child: Option<Key>,
    #[prost(message, optional, tag = "2")]
    pub parent: Option<Key>,
    #[prost(bool, tag = "3")]
    pub parent_muted: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Exit {
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    #[prost(message, optional, tag = "2")]
    pub parent: Option<Key>,
    #[prost(uint32, tag = "3")]
    pub raw_status: u32,
    #[prost(uint32, tag = "4")]
    pub code: u32,
    #[prost(uint32, tag = "5")]
    pub signal: u32,
    #[prost(bool, tag = "6")]
    pub core_dumped: bool,
    #[prost(bytes = "bytes", tag = "7")]
    pub comm: Bytes,
    #[prost(bytes = "bytes", tag = "8")]
    pub exe: Bytes,
    #[prost(bool, tag = "9")]
    pub status_unknown: bool,
    #[prost(uint64, optional, tag = "10")]
    pub run_time: Option<u64>,
    #[prost(bool, tag = "11")]
    pub muted: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Hashed {
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    #[prost(bytes = "bytes", tag = "2")]
    pub exe: Bytes,
    #[prost(message, optional, tag = "3")]
    pub exe_file: Option<FileIdentity>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub sha256: Option<Bytes>,
    #[prost(bool, tag = "5")]
    pub exe_changed: bool,
    #[prost(uint32, tag = "6")]
    pub failure: u32,
    #[prost(bool, tag = "7")]
    pub exe_touched: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FailedExec {
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    #[prost(message, optional, tag = "2")]
    pub parent: Option<Key>,
    #[prost(bytes = "bytes", tag = "3")]
    pub comm: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub exe: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub filename: Bytes,
    #[prost(uint32, tag = "6")]
    pub errno: u32,
    #[prost(message, optional, tag = "7")]
    pub credentials: Option<Credentials>,
    #[prost(bool, tag = "8")]
    pub muted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Lost {
    #[prost(uint32, tag = "1")]
    pub class: u32,
    #[prost(uint32, tag = "2")]
    pub reason: u32,
    #[prost(uint64, tag = "3")]
    pub count: u64,
    #[prost(fixed64, tag = "4")]
    pub from: u64,
    #[prost(fixed64, tag = "5")]
    pub to: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Process {
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    #[prost(message, optional, tag = "2")]
    pub parent: Option<Key>,
    #[prost(bytes = "bytes", tag = "3")]
    pub comm: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub exe: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub filename: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub args: Vec<Bytes>,
    #[prost(uint64, tag = "7")]
    pub argv_truncated_bytes: u64,
    #[prost(bytes = "bytes", optional, tag = "8")]
    pub cwd: Option<Bytes>,
    #[prost(message, optional, tag = "9")]
    pub credentials: Option<Credentials>,
    #[prost(bytes = "bytes", optional, tag = "10")]
    pub user: Option<Bytes>,
    #[prost(uint32, optional, tag = "11")]
    pub login_uid: Option<u32>,
    #[prost(uint32, optional, tag = "12")]
    pub session: Option<u32>,
    #[prost(uint32, optional, tag = "13")]
    pub tty: Option<u32>,
    #[prost(uint64, optional, tag = "14")]
    pub effective_caps: Option<u64>,
    #[prost(uint64, optional, tag = "15")]
    pub cgroup_id: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "16")]
    pub container_id: Option<Bytes>,
    #[prost(message, optional, tag = "17")]
    pub exe_file: Option<FileIdentity>,
    #[prost(bytes = "bytes", optional, tag = "18")]
    pub sha256: Option<Bytes>,
    #[prost(message, optional, tag = "19")]
    pub parent_process: Option<Ancestor>,
    #[prost(uint32, tag = "20")]
    pub redactions: u32,
    #[prost(bool, tag = "21")]
    pub args_cut: bool,
    #[prost(bytes = "bytes", optional, tag = "22")]
    pub interpreter: Option<Bytes>,
    #[prost(uint32, optional, tag = "23")]
    pub session_leader: Option<u32>,
    #[prost(message, optional, tag = "24")]
    pub namespaces: Option<Namespaces>,
    #[prost(uint32, optional, tag = "25")]
    pub namespace_pid: Option<u32>,
    #[prost(bytes = "bytes", tag = "26")]
    pub container_runtime: Bytes,
    #[prost(bytes = "bytes", optional, tag = "27")]
    pub pod_uid: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "28")]
    pub unit: Option<Bytes>,
    #[prost(bool, optional, tag = "29")]
    pub secure_exec: Option<bool>,
    #[prost(bool, optional, tag = "30")]
    pub file_caps: Option<bool>,
    #[prost(message, optional, tag = "31")]
    pub environment: Option<Environment>,
    #[prost(bool, tag = "32")]
    pub exe_changed: bool,
    #[prost(message, repeated, tag = "33")]
    pub ancestors: Vec<Ancestor>,
    #[prost(uint64, tag = "34")]
    pub environment_truncated_bytes: u64,
    #[prost(message, optional, tag = "35")]
    pub windows: Option<WindowsProcess>,
    #[prost(bool, tag = "36")]
    pub exe_touched: bool,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WindowsProcess {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub integrity_level: Option<Bytes>,
    #[prost(uint64, optional, tag = "2")]
    pub logon_id: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub original_file_name: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub description: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub product: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub company: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub file_version: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "8")]
    pub md5: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub sha1: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "10")]
    pub imphash: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "11")]
    pub parent_user: Option<Bytes>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Environment {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub entries: Vec<Bytes>,
    #[prost(bool, tag = "2")]
    pub cut: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Namespaces {
    #[prost(uint32, tag = "1")]
    pub mnt: u32,
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    #[prost(uint32, tag = "3")]
    pub net: u32,
    #[prost(uint32, tag = "4")]
    pub user: u32,
    #[prost(uint32, tag = "5")]
    pub uts: u32,
    #[prost(uint32, tag = "6")]
    pub ipc: u32,
    #[prost(uint32, tag = "7")]
    pub cgroup: u32,
    #[prost(uint32, tag = "8")]
    pub time: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Ancestor {
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    #[prost(bytes = "bytes", tag = "2")]
    pub comm: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub exe: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub args: Vec<Bytes>,
    #[prost(message, optional, tag = "5")]
    pub parent: Option<Key>,
    #[prost(uint32, optional, tag = "6")]
    pub euid: Option<u32>,
    #[prost(bool, tag = "7")]
    pub args_cut: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Credentials {
    #[prost(uint32, tag = "1")]
    pub uid: u32,
    #[prost(uint32, tag = "2")]
    pub gid: u32,
    #[prost(uint32, tag = "3")]
    pub euid: u32,
    #[prost(uint32, tag = "4")]
    pub egid: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct FileIdentity {
    #[prost(uint64, tag = "1")]
    pub inode: u64,
    #[prost(uint32, tag = "2")]
    pub device: u32,
    #[prost(uint32, tag = "3")]
    pub nlink: u32,
    #[prost(fixed64, tag = "4")]
    pub mtime: u64,
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    #[prost(uint32, tag = "6")]
    pub uid: u32,
    #[prost(bool, tag = "7")]
    pub memfd: bool,
    #[prost(uint64, tag = "8")]
    pub size: u64,
    #[prost(fixed64, tag = "9")]
    pub ctime: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Finding {
    #[prost(string, tag = "1")]
    pub rule_id: String,
    #[prost(string, tag = "2")]
    pub title: String,
    #[prost(uint32, tag = "3")]
    pub level: u32,
    #[prost(string, repeated, tag = "4")]
    pub tags: Vec<String>,
    #[prost(uint64, tag = "5")]
    pub leaf_index: u64,
    #[prost(message, optional, tag = "6")]
    pub key: Option<Key>,
    #[prost(bytes = "bytes", tag = "7")]
    pub exe: Bytes,
    #[prost(message, repeated, tag = "8")]
    pub selected: Vec<Selected>,
    #[prost(string, repeated, tag = "9")]
    pub absent: Vec<String>,
    #[prost(uint64, repeated, tag = "10")]
    pub evidence: Vec<u64>,
    #[prost(string, repeated, tag = "11")]
    pub incomplete: Vec<String>,
    #[prost(string, tag = "12")]
    pub author: String,
    #[prost(string, tag = "13")]
    pub license: String,
    #[prost(message, repeated, tag = "14")]
    pub matched: Vec<Selected>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Selected {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}
