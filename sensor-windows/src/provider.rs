//! What we ask of Windows: one provider, two of its events, and their fields.
//!
//! Versions as in the provider's manifest of Windows 10 (build 18990). A later version adds
//! fields, it does not change those before; fields are found by name, so an unknown version is
//! read like the newest known one.

/// Microsoft-Windows-Kernel-Process.
pub(crate) const GUID: &str = "22fb2cd6-0e7b-422b-a0c7-2fad1fd0e716";
/// `WINEVENT_KEYWORD_PROCESS`: process starts and stops, no threads and no images.
pub(crate) const KEYWORD_PROCESS: u64 = 0x10;
/// `TRACE_LEVEL_INFORMATION`.
pub(crate) const LEVEL: u8 = 4;

pub(crate) const PROCESS_START: u16 = 1;
pub(crate) const PROCESS_STOP: u16 = 2;

/// All versions of both events.
pub(crate) const PROCESS_ID: &str = "ProcessID";
/// All versions of both events; FILETIME.
pub(crate) const CREATE_TIME: &str = "CreateTime";
/// All versions of both events; an NT path in a start, a short ANSI name in a stop.
pub(crate) const IMAGE_NAME: &str = "ImageName";
/// Start, all versions.
pub(crate) const PARENT_PROCESS_ID: &str = "ParentProcessID";
/// Start, all versions.
pub(crate) const SESSION_ID: &str = "SessionID";
/// Start since version 3, stop since version 2: counts processes since boot.
pub(crate) const PROCESS_SEQUENCE_NUMBER: &str = "ProcessSequenceNumber";
/// Start since version 3.
pub(crate) const PARENT_PROCESS_SEQUENCE_NUMBER: &str = "ParentProcessSequenceNumber";
/// Stop, all versions.
pub(crate) const EXIT_CODE: &str = "ExitCode";
