//! Normalized process events, and the contract every sensor keeps.
//!
//! Every source (eBPF, ETW, Endpoint Security, polling, a recording) is turned into the types of
//! this crate, and everything downstream (pipeline, rules, ledger, output) knows only these. The
//! crate opens nothing: readers and writers are handed in by the caller.
//!
//! Start with [`Event`] and [`process`] for what is reported, [`sensor`] for the contract,
//! [`codec`] for the bytes that go into the ledger, [`wire`] for frames and recordings and
//! [`json`] for what operators read.
//!
//! Words: `pid` is always the process id (the kernel's tgid), `tid` a thread id, `ppid` the pid of
//! the process that forked. Bytes from the kernel stay bytes ([`bytes::Bytes`]): nothing here
//! assumes UTF-8.

mod announced;
pub mod codec;
mod error;
mod finding;
mod id;
pub mod json;
pub mod process;
mod queue_counts;
pub mod sensor;
mod time;
pub mod wire;

pub use announced::AnnouncedLosses;
pub use bytes::Bytes;
pub use error::Error;
pub use finding::{ColumnName, Finding, Leaf, Level};
pub use id::BootId;
pub use process::{
    Ancestor, Argv, Container, Credentials, Digest, Event, EventKind, Exec, Exit, ExitStatus,
    FailedExec, FileIdentity, Fork, HashFailure, Hashed, Header, Lost, Namespaces, Process,
    ProcessKey, Snapshot, WindowsProcess,
};
pub use queue_counts::QueueCounts;
pub use sensor::{Capabilities, DropReason, EventClass, Sensor, SensorError, Stats};
pub use time::{BootTime, WallTime};
