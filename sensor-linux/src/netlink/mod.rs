//! The process connector (`cn_proc`) as a source: every fork, exec and exit of the host as a
//! netlink message, without BPF. `CONFIG_PROC_EVENTS`, `CAP_NET_ADMIN` before Linux 6.6; the host's
//! network, user and pid namespaces.
//!
//! A message holds ids and a time, no more. The start of a process, and what it runs, are read from
//! procfs when its message is handled, so they are missing where it was faster: a process that has
//! ended by then has its identity by the time of its fork (rounded down, which is one tick late if
//! the fork was just on the edge of one or was interrupted), and an exec without path and arguments.
//!
//! Read in the order of the work: [`message`] decodes, `sequence` finds what is missing, `inbox`
//! keeps what waits, `lives` makes one exit of those of all threads, `lifecycle` makes events,
//! `survey` lists procfs at the start and after a loss, `sensor` puts it together.

pub mod message;

#[cfg(target_os = "linux")]
mod books;
#[cfg(target_os = "linux")]
mod clock;
#[cfg(target_os = "linux")]
mod inbox;
#[cfg(target_os = "linux")]
mod lifecycle;
#[cfg(target_os = "linux")]
mod lives;
#[cfg(target_os = "linux")]
mod priority;
#[cfg(target_os = "linux")]
mod sensor;
#[cfg(target_os = "linux")]
mod sequence;
#[cfg(target_os = "linux")]
mod socket;
#[cfg(target_os = "linux")]
mod survey;

#[cfg(target_os = "linux")]
pub use sensor::{NetlinkOptions, NetlinkSensor};
