//! The Linux sensor: loads the eBPF programs of `sensor-ebpf`, drains their ring buffer and turns
//! records into events. Linux 5.10.10 or newer with BTF; `CAP_BPF`, `CAP_PERFMON` and, for reading
//! other users' processes at the start, `CAP_SYS_PTRACE` (or root).
//!
//! Read in the order of the work: [`features`](crate::EbpfSensor) probes, `btf` and `offsets` find
//! where this kernel keeps each field, `load` loads and attaches, `procfs` lists what already runs,
//! `transport` drains through `ring` or perf buffers, [`decode`] and [`normalize`] are pure and
//! build on every target. `accounts` gives users their names, as they are when the event is taken, so
//! that a recording has them. Rules, order and other enrichment are not known here.
//!
//! Where BPF cannot be had, [`netlink`] is a source of the same events from the process connector;
//! it needs neither BPF nor BTF, and knows less.

pub mod btf;
pub mod cgroup;
pub mod decode;
mod error;
pub mod netlink;
pub mod normalize;
pub mod offsets;

#[cfg(target_os = "linux")]
mod accounts;
#[cfg(target_os = "linux")]
mod cgroups;
#[cfg(target_os = "linux")]
mod clock;
#[cfg(target_os = "linux")]
mod environment;
#[cfg(target_os = "linux")]
mod executables;
#[cfg(target_os = "linux")]
mod features;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod loss_log;
#[cfg(target_os = "linux")]
mod misses;
#[cfg(target_os = "linux")]
mod mute;
#[cfg(target_os = "linux")]
mod procfs;
#[cfg(target_os = "linux")]
mod ring;
#[cfg(target_os = "linux")]
mod sensor;
#[cfg(target_os = "linux")]
mod stats;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(target_os = "linux")]
mod transport;

pub use error::Error;
#[cfg(target_os = "linux")]
pub use executables::ExecutableFile;
#[cfg(target_os = "linux")]
pub use features::{Probe, probe, probe_connector};
#[cfg(target_os = "linux")]
pub use mute::{MuteList, Muted};
#[cfg(target_os = "linux")]
pub use netlink::{NetlinkOptions, NetlinkSensor};
#[cfg(target_os = "linux")]
pub use sensor::{EbpfSensor, Options};
#[cfg(target_os = "linux")]
pub use transport::Transport;
