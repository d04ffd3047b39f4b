//! The calls into macOS beside Endpoint Security.
#![expect(unsafe_code, reason = "libproc and sysctl by way of libc")]

use std::ffi::{CStr, c_int, c_void};
use std::mem::{size_of, zeroed};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{io, ptr};

use event::{Bytes, Credentials, WallTime};

use crate::clock::Clock;
use crate::message::{Row, argv};
use crate::{Error, procargs};

/// The present time.
pub(crate) fn now() -> WallTime {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    WallTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Boot id and the start of process 1.
pub(crate) fn clock() -> Result<Clock, Error> {
    const CALL: &str = "sysctl kern.bootsessionuuid";
    let id = text(c"kern.bootsessionuuid", CALL)?;
    let id = id.parse().map_err(|_| Error::Form {
        call: CALL,
        answer: id,
    })?;
    let launchd = bsd_info(1).ok_or_else(|| Error::System {
        call: "proc_pidinfo 1",
        source: io::Error::last_os_error(),
    })?;
    Ok(Clock::new(started(&launchd), id))
}

/// Version of macOS: major, minor, patch.
pub(crate) fn version() -> Result<(u64, u64, u64), Error> {
    const CALL: &str = "sysctl kern.osproductversion";
    let version = text(c"kern.osproductversion", CALL)?;
    let mut parts = version.split('.').map(str::parse);
    match (
        parts.next(),
        parts.next().unwrap_or(Ok(0)),
        parts.next().unwrap_or(Ok(0)),
    ) {
        (Some(Ok(major)), Ok(minor), Ok(patch)) => Ok((major, minor, patch)),
        _ => Err(Error::Form {
            call: CALL,
            answer: version,
        }),
    }
}

/// All processes but the kernel's own (pid 0), which never runs a program.
pub(crate) fn processes() -> Result<Vec<Row>, Error> {
    let mut pids = pids()?;
    pids.retain(|pid| *pid > 0);
    Ok(pids.into_iter().filter_map(row).collect())
}

fn pids() -> Result<Vec<c_int>, Error> {
    // SAFETY: without a buffer it gives the number of processes.
    let count = unsafe { libc::proc_listallpids(ptr::null_mut(), 0) };
    // Room for those that start in between.
    let room = usize::try_from(count).unwrap_or(0) + 1024;
    let mut pids: Vec<c_int> = vec![0; room];
    let size = c_int::try_from(room * size_of::<c_int>()).unwrap_or(c_int::MAX);
    // SAFETY: the buffer is valid for `size` bytes, any bytes are valid pids.
    let count = unsafe { libc::proc_listallpids(pids.as_mut_ptr().cast(), size) };
    let Some(count) = usize::try_from(count).ok().filter(|count| *count > 0) else {
        return Err(Error::System {
            call: "proc_listallpids",
            source: io::Error::last_os_error(),
        });
    };
    pids.truncate(count);
    Ok(pids)
}

/// `None` for one that has ended.
fn row(pid: c_int) -> Option<Row> {
    let info = bsd_info(pid)?;
    let arguments = arguments(pid);
    let (argv, argv_truncated_bytes) = argv(procargs::parse(&arguments).into_iter());
    Some(Row {
        pid: info.pbi_pid,
        ppid: info.pbi_ppid,
        started: started(&info),
        comm: c_chars(&info.pbi_comm),
        credentials: Credentials {
            uid: info.pbi_ruid,
            gid: info.pbi_rgid,
            euid: info.pbi_uid,
            egid: info.pbi_gid,
        },
        tty: Some(info.e_tdev).filter(|device| *device != u32::MAX && *device != 0),
        exe: path(pid),
        argv,
        argv_truncated_bytes,
    })
}

fn bsd_info(pid: c_int) -> Option<libc::proc_bsdinfo> {
    let size = c_int::try_from(size_of::<libc::proc_bsdinfo>()).ok()?;
    // SAFETY: a structure of integers, for which zero is a valid value.
    let mut info: libc::proc_bsdinfo = unsafe { zeroed() };
    // SAFETY: the structure is valid for `size` bytes and belongs to this flavor.
    let filled =
        unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, 0, (&raw mut info).cast(), size) };
    (filled == size).then_some(info)
}

fn started(info: &libc::proc_bsdinfo) -> WallTime {
    let seconds = info.pbi_start_tvsec.saturating_mul(1_000_000_000);
    WallTime(seconds.saturating_add(info.pbi_start_tvusec.saturating_mul(1000)))
}

fn c_chars(text: &[libc::c_char]) -> Bytes {
    text.iter()
        .map(|char| char.cast_unsigned())
        .take_while(|byte| *byte != 0)
        .take(15)
        .collect()
}

fn path(pid: c_int) -> Bytes {
    const SIZE: u32 = libc::PROC_PIDPATHINFO_MAXSIZE.cast_unsigned();
    let mut path = vec![0_u8; SIZE as usize];
    // SAFETY: the buffer is valid for SIZE bytes.
    let length = unsafe { libc::proc_pidpath(pid, path.as_mut_ptr().cast(), SIZE) };
    path.truncate(usize::try_from(length).unwrap_or(0));
    path.into()
}

/// What `procargs` reads; empty where it cannot be had.
fn arguments(pid: c_int) -> Vec<u8> {
    let mut name = [libc::CTL_KERN, libc::KERN_PROCARGS2, pid];
    // The most that the system allows for arguments and environment, and the number before them.
    let mut buffer = vec![0_u8; 1024 * 1024 + size_of::<c_int>()];
    let mut length = buffer.len();
    // SAFETY: the name has three parts, the buffer is valid for `length` bytes.
    let code = unsafe {
        libc::sysctl(
            name.as_mut_ptr(),
            3,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
            ptr::null_mut(),
            0,
        )
    };
    buffer.truncate(if code == 0 { length } else { 0 });
    buffer
}

fn text(name: &CStr, call: &'static str) -> Result<String, Error> {
    let mut buffer = [0_u8; 256];
    let mut length = buffer.len();
    // SAFETY: the name ends with a NUL, the buffer is valid for `length` bytes.
    let code = unsafe {
        let value: *mut c_void = buffer.as_mut_ptr().cast();
        libc::sysctlbyname(name.as_ptr(), value, &raw mut length, ptr::null_mut(), 0)
    };
    if code != 0 {
        return Err(Error::System {
            call,
            source: io::Error::last_os_error(),
        });
    }
    let value = &buffer[..length.min(buffer.len())];
    Ok(String::from_utf8_lossy(value)
        .trim_end_matches('\0')
        .to_owned())
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::{clock, processes, version};

    #[test]
    fn own_process_is_in_the_list_with_path_and_arguments() {
        let rows = processes().unwrap();
        let me = rows.iter().find(|row| row.pid == process::id()).unwrap();
        let arguments: Vec<_> = env::args_os().collect();
        assert!(
            me.argv
                .iter()
                .eq(arguments.iter().map(|a| a.as_encoded_bytes())),
            "{me:?}"
        );
        assert!(me.exe.ends_with(&me.comm), "{me:?}");
        assert!(clock().unwrap().since_boot(me.started).0 > 0);
    }

    #[test]
    fn boot_id_is_stable_and_the_version_is_known() {
        assert_eq!(clock().unwrap().boot_id(), clock().unwrap().boot_id());
        assert!(version().unwrap() >= (10, 15, 0));
    }
}
