use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use event::{Argv, BootId, BootTime, Process, ProcessKey, WallTime};
use sysinfo::{
    ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, ThreadKind, UpdateKind,
};

use crate::Error;
use crate::diff::runs_another_program;
use crate::scan::{Scan, Seen};

/// Lists processes with sysinfo, whose start times are whole seconds of wall time: two processes
/// that had the same pid within one second are taken for one.
pub(crate) struct Procs {
    system: System,
    boot: BootId,
    boot_wall_ns: u64,
}

const SECOND_NS: u64 = 1_000_000_000;

impl Procs {
    pub(crate) fn open() -> Result<Self, Error> {
        let boot_s = System::boot_time().map_err(list_error)?;
        let host = System::host_name().unwrap_or_default();
        Ok(Self {
            system: System::new().map_err(list_error)?,
            boot: boot_id(boot_s, &host),
            boot_wall_ns: boot_s.saturating_mul(SECOND_NS),
        })
    }

    pub(crate) fn absent() -> Vec<(&'static str, String)> {
        let unix = "sysinfo does not tell";
        let linux = "exists on Linux only";
        let mut absent = vec![
            ("filename", unix.to_owned()),
            ("tty", unix.to_owned()),
            ("exe_file", unix.to_owned()),
            ("login_uid", linux.to_owned()),
            ("effective_caps", linux.to_owned()),
            ("cgroup_id", linux.to_owned()),
            ("container_id", linux.to_owned()),
        ];
        absent.push(if cfg!(windows) {
            (
                "credentials",
                "Windows has security ids instead: see user".to_owned(),
            )
        } else {
            ("session", unix.to_owned())
        });
        absent
    }

    /// Not known here: what is hidden is empty.
    #[cfg_attr(test, expect(dead_code, reason = "on Linux, only procfs is asked"))]
    pub(crate) fn hidden() -> Option<&'static str> {
        None
    }

    /// Lists all processes. What did not change since `before` is shared with it.
    pub(crate) fn scan(&mut self, before: &Scan) -> Result<Scan, Error> {
        self.system
            .refresh_processes_specifics(ProcessesToUpdate::All, true, what_to_read());
        let mut scan = Scan {
            boot: self.boot,
            boot_wall: WallTime(self.boot_wall_ns),
            ..Scan::default()
        };
        for (pid, found) in self.system.processes() {
            if is_process(found) {
                scan.processes
                    .insert(pid.as_u32(), self.seen(pid.as_u32(), found, before));
            }
        }
        if scan.processes.is_empty() {
            return Err(Error::List("the list is empty".into()));
        }
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos();
        scan.at = self.since_boot(u64::try_from(wall).unwrap_or(u64::MAX));
        scan.link_parents(before);
        Ok(scan)
    }

    fn seen(&self, pid: u32, found: &sysinfo::Process, before: &Scan) -> Seen {
        // 0 where Windows does not let us open the process.
        let start = self.since_boot(found.start_time().saturating_mul(SECOND_NS));
        let key = ProcessKey {
            boot: self.boot,
            pid,
            start,
        };
        let mut seen = Seen {
            process: Arc::new(process(key, found)),
            ppid: found.parent().map_or(0, sysinfo::Pid::as_u32),
            parent: None,
            image: None,
            kernel_thread: found.thread_kind() == Some(ThreadKind::Kernel),
        };
        if let Some(old) = before
            .get(key)
            .filter(|old| !runs_another_program(old, &seen))
        {
            seen.process = Arc::clone(&old.process);
        }
        seen
    }

    fn since_boot(&self, wall_ns: u64) -> BootTime {
        BootTime(wall_ns.saturating_sub(self.boot_wall_ns))
    }
}

fn list_error(error: sysinfo::Error) -> Error {
    Error::List(Box::new(error))
}

/// Boot time in seconds and a hash of the host name, since these systems have no boot id that
/// could be read without `unsafe`. It differs from the id that the system's own sensor reports,
/// and changes within a boot where the system corrects its boot time along with the clock.
fn boot_id(boot_s: u64, host: &str) -> BootId {
    let fnv1a = host.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    BootId((u128::from(boot_s) << 64 | u128::from(fnv1a)).to_be_bytes())
}

fn what_to_read() -> ProcessRefreshKind {
    ProcessRefreshKind::nothing()
        .without_tasks()
        .with_exe(UpdateKind::Always)
        .with_cmd(UpdateKind::Always)
        .with_cwd(UpdateKind::Always)
        .with_user(UpdateKind::Always)
}

fn is_process(found: &sysinfo::Process) -> bool {
    let ended = matches!(found.status(), ProcessStatus::Zombie | ProcessStatus::Dead);
    // Pid 0 is Windows' idle process: an account of unused time.
    !ended && found.pid().as_u32() != 0 && found.thread_kind() != Some(ThreadKind::Userland)
}

fn process(key: ProcessKey, found: &sysinfo::Process) -> Process {
    let mut comm = bytes(found.name());
    comm.truncate(15);
    let process = Process {
        key,
        comm,
        exe: found
            .exe()
            .map(|path| bytes(path.as_os_str()))
            .unwrap_or_default(),
        argv: found
            .cmd()
            .iter()
            .map(|argument| argument.as_encoded_bytes())
            .collect::<Argv>(),
        cwd: found
            .cwd()
            .map(|path| bytes(path.as_os_str()))
            .filter(|path| !path.is_empty()),
        ..Process::default()
    };
    with_account(process, found)
}

#[cfg(not(windows))]
fn with_account(process: Process, found: &sysinfo::Process) -> Process {
    let credentials = found
        .user_id()
        .zip(found.group_id())
        .map(|(uid, gid)| event::Credentials {
            uid: **uid,
            gid: *gid,
            euid: found.effective_user_id().map_or(**uid, |euid| **euid),
            egid: found.effective_group_id().map_or(*gid, |egid| *egid),
        });
    Process {
        credentials,
        ..process
    }
}

#[cfg(windows)]
fn with_account(process: Process, found: &sysinfo::Process) -> Process {
    Process {
        user: found
            .user_id()
            .map(|sid| sid.to_string().into_bytes().into()),
        session: found.session_id().map(sysinfo::Pid::as_u32),
        ..process
    }
}

/// On Unix the bytes as they are, on Windows UTF-8 (WTF-8 where the text is not valid UTF-16).
fn bytes(text: &OsStr) -> Bytes {
    Bytes::copy_from_slice(text.as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::{Procs, boot_id};
    use crate::scan::Scan;

    #[test]
    fn own_process_is_listed_with_its_parent_and_arguments() {
        let scan = Procs::open().unwrap().scan(&Scan::default()).unwrap();
        let me = &scan.processes[&process::id()];
        let arguments: Vec<_> = std::env::args_os().collect();
        assert!(
            me.process
                .argv
                .iter()
                .eq(arguments.iter().map(|a| a.as_encoded_bytes()))
        );
        assert_eq!(
            me.process.exe.as_ref(),
            std::env::current_exe()
                .unwrap()
                .as_os_str()
                .as_encoded_bytes()
        );
        assert!(me.process.key.start <= scan.at);
        assert!(me.process.key.start.0 > 0);
        #[cfg(unix)]
        assert_eq!(me.parent.unwrap().pid, std::os::unix::process::parent_id());
    }

    #[test]
    fn a_second_scan_shares_what_did_not_change() {
        let mut procs = Procs::open().unwrap();
        let first = procs.scan(&Scan::default()).unwrap();
        let second = procs.scan(&first).unwrap();
        let [a, b] = [&first, &second].map(|scan| &scan.processes[&process::id()].process);
        assert!(std::sync::Arc::ptr_eq(a, b));
    }

    #[test]
    fn every_absent_field_has_a_reason() {
        assert!(
            Procs::absent()
                .iter()
                .any(|(field, _)| *field == "filename")
        );
        assert!(Procs::absent().iter().all(|(_, reason)| !reason.is_empty()));
    }

    #[test]
    fn boot_ids_differ_by_boot_and_by_host() {
        let ids = [boot_id(1, "a"), boot_id(2, "a"), boot_id(1, "b")];
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
        assert_eq!(
            boot_id(0x0102, "").to_string(),
            "0000000000000102cbf29ce484222325"
        );
    }
}
