//! What this host offers to the sensor, probed and not guessed from a version where it can be. Shown by
//! `doctor`.

use std::fs;
use std::io;
use std::path::Path;

use aya::maps::MapType;
use aya::sys::is_map_supported;

use crate::error::{LOCKDOWN, PRIVILEGES};
use crate::load::{Preemption, kernel_offsets};
use crate::procfs;
use crate::{NetlinkOptions, NetlinkSensor};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What.
    pub name: &'static str,
    /// It is as the sensor needs it.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if nothing is wrong.
    pub fix: &'static str,
}

/// Capability numbers: <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/capability.h>
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Looks at everything. Loads nothing and changes nothing.
#[must_use]
pub fn probe() -> Vec<Probe> {
    let mut probes = vec![
        kernel(),
        privileges(),
        pid_namespace(),
        lockdown(),
        btf(),
        ring_buffer(),
    ];
    if Preemption::of_this_kernel() == Preemption::Possible {
        probes.push(tracefs());
    }
    probes
}

/// Subscribes to the process connector, which takes the place of the programs where they cannot
/// run, and lets go of it again.
#[must_use]
pub fn probe_connector() -> Probe {
    let (ok, found, fix) = match NetlinkSensor::open(&NetlinkOptions::default()) {
        Ok(_) => (true, "it answers".to_owned(), ""),
        Err(error) => {
            let fix = error.advice().unwrap_or_default();
            (false, error.to_string(), fix)
        }
    };
    Probe {
        name: "process connector",
        ok,
        found,
        fix,
    }
}

fn kernel() -> Probe {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Probe {
        name: "kernel",
        ok: true,
        found: release.trim().into(),
        fix: "",
    }
}

fn privileges() -> Probe {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let caps = effective_capabilities(&status);
    let has = |cap: u32| caps >> cap & 1 == 1;
    let ok = has(CAP_SYS_ADMIN) || has(CAP_BPF) && has(CAP_PERFMON);
    Probe {
        name: "privileges",
        ok,
        found: format!("effective capabilities {caps:#x}"),
        fix: if ok { "" } else { PRIVILEGES },
    }
}

fn effective_capabilities(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

fn pid_namespace() -> Probe {
    let ok = procfs::in_initial_pid_namespace();
    Probe {
        name: "pid namespace",
        ok,
        found: if ok { "the host's" } else { "not the host's" }.into(),
        fix: if ok {
            ""
        } else {
            "start it in the host's, for a container with --pid=host"
        },
    }
}

/// Confidentiality mode refuses the reads of kernel memory that the programs live on.
pub(crate) fn is_locked_down() -> bool {
    lockdown_state().contains("[confidentiality]")
}

fn lockdown_state() -> String {
    fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default()
}

fn lockdown() -> Probe {
    let state = lockdown_state();
    let ok = !is_locked_down();
    let found = if state.is_empty() {
        "none"
    } else {
        state.trim()
    };
    Probe {
        name: "lockdown",
        ok,
        found: found.into(),
        fix: if ok { "" } else { LOCKDOWN },
    }
}

fn btf() -> Probe {
    match kernel_offsets() {
        Ok(offsets) => {
            let absent: Vec<&str> = offsets.absent().map(|field| field.paths()[0]).collect();
            let found = if absent.is_empty() {
                "every field resolves".into()
            } else {
                format!("fields that this kernel lacks: {}", absent.join(", "))
            };
            Probe {
                name: "kernel types (BTF)",
                ok: true,
                found,
                fix: "",
            }
        }
        Err(error) => Probe {
            name: "kernel types (BTF)",
            ok: false,
            found: error.to_string(),
            fix: error.advice().unwrap_or_default(),
        },
    }
}

fn ring_buffer() -> Probe {
    let (ok, found, fix) = match is_map_supported(MapType::RingBuf) {
        Ok(true) => (true, "available".to_owned(), ""),
        Ok(false) => (
            true,
            "not in this kernel: perf buffers take its place".to_owned(),
            "",
        ),
        // Of a kernel that refuses the question nothing is known.
        Err(error) => (false, format!("cannot be probed: {error}"), PRIVILEGES),
    };
    Probe {
        name: "BPF ring buffer",
        ok,
        found,
        fix,
    }
}

/// The places where it is looked for when programs are attached through perf.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Without it there are no substitutes for programs that this kernel leaves out.
fn tracefs() -> Probe {
    let readable = |place: &&str| Path::new(place).join("events/sched").exists();
    let place = TRACEFS.into_iter().find(readable);
    // Its directory is root's alone.
    let is_mounted = TRACEFS.into_iter().any(is_hidden);
    let (found, fix) = match place {
        Some(place) => (place, ""),
        None if is_mounted => (
            "not readable with these rights",
            "add CAP_DAC_READ_SEARCH; without it execs can be lost in storms, which is told",
        ),
        None => (
            "not mounted",
            "mount -t tracefs none /sys/kernel/tracing; without it execs can be lost in storms, which \
             is told",
        ),
    };
    Probe {
        name: "tracefs",
        // The sensor works without.
        ok: true,
        found: found.into(),
        fix,
    }
}

fn is_hidden(place: &str) -> bool {
    let denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    fs::read_dir(place).err().is_some_and(denied)
}
