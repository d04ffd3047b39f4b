//! What eBPF programs cost inside the kernel, where it is charged to whoever forks, execs and exits.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

/// Runs and their time, by program.
pub(super) type Programs = BTreeMap<String, Runs>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Runs {
    pub(super) count: u64,
    pub(super) nanoseconds: u64,
}

/// The programs that processes hold by descriptor. All zeros while nobody has the kernel count.
pub(super) fn of(pids: &[u32]) -> Result<Programs> {
    let mut texts = Vec::new();
    for dir in pids.iter().map(|pid| format!("/proc/{pid}/fdinfo")) {
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {dir}"))? {
            // A descriptor may be closed in between.
            texts.extend(fs::read_to_string(entry?.path()));
        }
    }
    let links: Vec<_> = texts.iter().filter_map(|text| link(text)).collect();
    let programs = texts.iter().filter_map(|text| program(text));
    let mut all = Programs::new();
    for (id, runs) in programs {
        let name = vm::sys::bpf_program_name(id)?;
        let tracepoint = links
            .iter()
            .find(|(of, _)| *of == id)
            .map(|(_, name)| *name);
        // Of peers several may have one name, once it is cut.
        let sum = all.entry(full_name(name, tracepoint)).or_default();
        sum.count += runs.count;
        sum.nanoseconds += runs.nanoseconds;
    }
    Ok(all)
}

/// What ran between two looks.
pub(super) fn since(now: Programs, before: &Programs) -> Programs {
    let difference = |(name, runs): (String, Runs)| {
        let earlier = before.get(&name).copied().unwrap_or_default();
        let runs = Runs {
            count: runs.count.saturating_sub(earlier.count),
            nanoseconds: runs.nanoseconds.saturating_sub(earlier.nanoseconds),
        };
        (name, runs)
    };
    now.into_iter().map(difference).collect()
}

/// The kernel cuts names; ours begin as their tracepoints do or are short.
fn full_name(name: String, tracepoint: Option<&str>) -> String {
    match tracepoint {
        Some(tracepoint) if tracepoint.starts_with(&name) => tracepoint.to_owned(),
        _ => name,
    }
}

fn program(fdinfo: &str) -> Option<(u32, Runs)> {
    let number = |name| field(fdinfo, name)?.parse().ok();
    let runs = Runs {
        count: number("run_cnt:")?,
        nanoseconds: number("run_time_ns:")?,
    };
    Some((u32::try_from(number("prog_id:")?).ok()?, runs))
}

/// The program of a link and its tracepoint.
fn link(fdinfo: &str) -> Option<(u32, &str)> {
    let id = field(fdinfo, "prog_id:")?.parse().ok()?;
    Some((id, field(fdinfo, "tp_name:")?))
}

fn field<'a>(fdinfo: &'a str, name: &str) -> Option<&'a str> {
    let line = fdinfo.lines().find_map(|line| line.strip_prefix(name));
    line.map(str::trim)
}

/// Has the kernel count while it lives. A kernel that cannot only leaves the figures out.
pub(super) fn counting() -> Option<std::os::fd::OwnedFd> {
    let counting = vm::sys::enable_bpf_stats();
    if let Err(error) = &counting {
        eprintln!("no figures of the eBPF programs: BPF_ENABLE_STATS: {error}");
    }
    counting.ok()
}

#[cfg(test)]
mod tests {
    use super::{Runs, full_name, link, program};

    #[test]
    fn programs_and_links_are_told_apart() {
        let info = "pos:\t0\nprog_type:\t17\nprog_id:\t29\nrun_time_ns:\t1200\nrun_cnt:\t3\n";
        let runs = Runs {
            count: 3,
            nanoseconds: 1200,
        };
        assert_eq!(program(info), Some((29, runs)));
        assert_eq!(link(info), None);
        let info = "link_type:\traw_tracepoint\nprog_id:\t29\ntp_name:\tsched_process_exec\n";
        assert_eq!(link(info), Some((29, "sched_process_exec")));
        assert_eq!(program(info), None);
    }

    #[test]
    fn names_that_the_kernel_cut_are_those_of_their_tracepoints() {
        let check = |name: &str, tracepoint, full: &str| {
            assert_eq!(full_name(name.into(), tracepoint), full);
        };
        check(
            "sched_process_e",
            Some("sched_process_exit"),
            "sched_process_exit",
        );
        check(
            "cgroup_of_exec",
            Some("sched_process_exec"),
            "cgroup_of_exec",
        );
        check("sched_process_e", None, "sched_process_e");
    }
}
