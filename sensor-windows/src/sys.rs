//! The calls into Windows that ferrisetw does not make.
#![expect(unsafe_code, reason = "Windows calls by way of windows-sys")]

use std::ffi::c_void;
use std::mem::size_of;
use std::{env, iter};

use windows_sys::Wdk::System::SystemInformation::{
    NtQuerySystemInformation, SYSTEM_INFORMATION_CLASS, SystemProcessInformation,
    SystemTimeOfDayInformation,
};
use windows_sys::Win32::Foundation::{CloseHandle, FILETIME, STATUS_INFO_LENGTH_MISMATCH};
use windows_sys::Win32::Storage::FileSystem::QueryDosDeviceW;
use windows_sys::Win32::System::Diagnostics::Etw::{
    CONTROLTRACE_HANDLE, ControlTraceW, EVENT_TRACE_CONTROL_QUERY, EVENT_TRACE_PROPERTIES,
};
use windows_sys::Win32::System::SystemInformation::GetSystemTimePreciseAsFileTime;
use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_NAME_WIN32, PROCESS_QUERY_LIMITED_INFORMATION, QueryFullProcessImageNameW,
};

use crate::Error;
use crate::clock::{Clock, FileTime};
use crate::path::Devices;
use crate::processes::{self, Row};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the layouts in processes.rs are those of 64-bit Windows");

const NT_QUERY: &str = "NtQuerySystemInformation";

/// The present time.
pub(crate) fn now() -> FileTime {
    let mut time = FILETIME::default();
    // SAFETY: writes one FILETIME to a valid place.
    unsafe { GetSystemTimePreciseAsFileTime(&raw mut time) };
    FileTime(u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime))
}

/// What the clock showed at boot, without the corrections made to it since: the kernel adds each
/// correction both to its boot time and to a bias.
pub(crate) fn clock() -> Result<Clock, Error> {
    const BOOT_TIME: usize = 0;
    const BOOT_TIME_BIAS: usize = 4;
    // SYSTEM_TIMEOFDAY_INFORMATION: boot time, current time, zone bias, zone id and a reserved
    // word, boot time bias, sleep time bias.
    let mut information = [0_u64; 6];
    let length = query(SystemTimeOfDayInformation, &mut information).map_err(nt_refused)?;
    if length <= BOOT_TIME_BIAS * size_of::<u64>() {
        return Err(Error::Form { call: NT_QUERY });
    }
    let boot = information[BOOT_TIME].wrapping_sub(information[BOOT_TIME_BIAS]);
    Ok(Clock::new(
        FileTime(boot),
        &env::var("COMPUTERNAME").unwrap_or_default(),
    ))
}

/// All processes.
pub(crate) fn processes() -> Result<Vec<Row>, Error> {
    let mut buffer = vec![0_u64; 64 * 1024];
    // The list grows between two calls: ask again with room to spare, a few times.
    for _ in 0..8 {
        match query(SystemProcessInformation, &mut buffer) {
            Ok(length) => {
                let bytes: Vec<u8> = buffer
                    .iter()
                    .flat_map(|word| word.to_le_bytes())
                    .take(length)
                    .collect();
                return Ok(processes::parse(&bytes, buffer.as_ptr().addr() as u64));
            }
            Err(STATUS_INFO_LENGTH_MISMATCH) => buffer.resize(buffer.len() * 2, 0),
            Err(status) => return Err(nt_refused(status)),
        }
    }
    Err(nt_refused(STATUS_INFO_LENGTH_MISMATCH))
}

fn nt_refused(status: i32) -> Error {
    Error::Refused {
        call: NT_QUERY,
        code: status.cast_unsigned(),
    }
}

/// Fills `buffer` and gives the length in bytes, or the status.
fn query(class: SYSTEM_INFORMATION_CLASS, buffer: &mut [u64]) -> Result<usize, i32> {
    let size = u32::try_from(size_of_val(buffer)).unwrap_or(u32::MAX);
    let mut length = 0_u32;
    // SAFETY: the buffer is valid for `size` bytes and aligned for both classes, whose largest
    // fields are 8 bytes wide; any bytes are valid u64.
    let status = unsafe {
        NtQuerySystemInformation(class, buffer.as_mut_ptr().cast(), size, &raw mut length)
    };
    if status < 0 {
        Err(status)
    } else {
        Ok(length.min(size) as usize)
    }
}

/// Path of a running executable. `None` for a protected process, and for one that has ended.
pub(crate) fn image_path(pid: u32) -> Option<String> {
    let mut path = [0_u16; 32 * 1024];
    let mut length = u32::try_from(path.len()).ok()?;
    // SAFETY: no pointers; the handle is closed below.
    let process = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid) };
    if process.is_null() {
        return None;
    }
    // SAFETY: the handle is open, the buffer is valid for `length` units.
    let done = unsafe {
        QueryFullProcessImageNameW(
            process,
            PROCESS_NAME_WIN32,
            path.as_mut_ptr(),
            &raw mut length,
        )
    };
    // SAFETY: the handle is open and not used any more.
    unsafe { CloseHandle(process) };
    let path = path.get(..length as usize).filter(|_| done != 0)?;
    Some(String::from_utf16_lossy(path))
}

/// The devices behind the drive letters.
pub(crate) fn devices() -> Devices {
    let drives = ('A'..='Z').map(|letter| format!("{letter}:"));
    let drives = drives.filter_map(|drive| dos_device(&drive).map(|device| (drive, device)));
    let windows_dir = env::var("SystemRoot").unwrap_or_else(|_| r"C:\Windows".to_owned());
    Devices::new(drives.collect(), windows_dir)
}

fn dos_device(drive: &str) -> Option<String> {
    let name = wide(drive);
    let mut target = [0_u16; 1024];
    // SAFETY: the name ends with a NUL, the target is valid for its length.
    let length = unsafe {
        QueryDosDeviceW(
            name.as_ptr(),
            target.as_mut_ptr(),
            u32::try_from(target.len()).ok()?,
        )
    };
    // A list of names, the present one first; each ends with a NUL.
    let first = target
        .get(..length as usize)?
        .split(|unit| *unit == 0)
        .next()?;
    (!first.is_empty()).then(|| String::from_utf16_lossy(first))
}

/// Events that the session lost since its start, where a buffer that was lost counts as one: how
/// many events it held is not known.
pub(crate) fn session_losses(session: &str) -> Result<u64, Error> {
    /// Room for the names of the session and of a log file behind the structure.
    #[repr(C)]
    struct Query {
        properties: EVENT_TRACE_PROPERTIES,
        names: [u16; 2 * NAME],
    }
    const NAME: usize = 1024;

    let mut query = Query {
        properties: EVENT_TRACE_PROPERTIES::default(),
        names: [0; 2 * NAME],
    };
    let offset = size_of::<EVENT_TRACE_PROPERTIES>();
    let u32 = |size: usize| u32::try_from(size).expect("a few kilobytes");
    query.properties.Wnode.BufferSize = u32(size_of::<Query>());
    query.properties.LoggerNameOffset = u32(offset);
    query.properties.LogFileNameOffset = u32(offset + NAME * size_of::<u16>());
    let name = wide(session);
    // SAFETY: the name ends with a NUL; `query` is as long as BufferSize says, has room for both
    // names at their offsets, and the pointer is to all of it.
    let code = unsafe {
        let query: *mut c_void = (&raw mut query).cast();
        ControlTraceW(
            CONTROLTRACE_HANDLE { Value: 0 },
            name.as_ptr(),
            query.cast(),
            EVENT_TRACE_CONTROL_QUERY,
        )
    };
    if code != 0 {
        return Err(Error::Refused {
            call: "ControlTraceW",
            code,
        });
    }
    let lost = &query.properties;
    Ok(u64::from(lost.EventsLost) + u64::from(lost.RealTimeBuffersLost))
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain(iter::once(0)).collect()
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::{clock, devices, image_path, now, processes, session_losses};
    use crate::clock::FileTime;
    use crate::path::file_name;

    #[test]
    fn own_process_is_in_the_list_with_its_path() {
        let exe = env::current_exe().unwrap();
        let exe = exe.to_str().unwrap();
        let rows = processes().unwrap();
        let me = rows.iter().find(|row| row.pid == process::id()).unwrap();
        assert!(me.name.eq_ignore_ascii_case(file_name(exe)), "{me:?}");
        assert!(FileTime(me.created) < now());
        let path = image_path(process::id()).unwrap();
        assert!(path.eq_ignore_ascii_case(exe), "{path}");
        assert_eq!(image_path(u32::MAX), None);
    }

    #[test]
    fn boot_was_before_this_process_and_its_id_is_stable() {
        let clock = clock().unwrap();
        let rows = processes().unwrap();
        let me = rows.iter().find(|row| row.pid == process::id()).unwrap();
        assert!(clock.since_boot(FileTime(me.created)).0 > 0);
        assert!(clock.since_boot(now()) > clock.since_boot(FileTime(me.created)));
        assert_eq!(clock.boot_id(), super::clock().unwrap().boot_id());
    }

    #[test]
    fn drives_have_devices() {
        let shown = format!("{:?}", devices());
        assert!(shown.contains("C:"), "{shown}");
    }

    #[test]
    fn losses_of_no_session_are_none_or_an_error_that_names_the_call() {
        match session_losses("daemoneye-no-such-session") {
            // Wine answers without having sessions.
            Ok(lost) => assert_eq!(lost, 0),
            Err(error) => assert!(
                error.to_string().starts_with("ControlTraceW refused"),
                "{error}"
            ),
        }
    }
}
