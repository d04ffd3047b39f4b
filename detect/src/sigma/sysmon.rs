//! Events that Sysmon recorded: the fields of its events 1 and 5 as JSON, which is what Sigma rules
//! are written for and what public collections of events hold.

use event::{
    Ancestor, Argv, BootTime, Bytes, Credentials, Event, EventKind, Exec, Exit, Header, Process,
    ProcessKey, WallTime, WindowsProcess,
};
use serde_json::{Map, Value};

use crate::civil;
use crate::eval::number;
use crate::text::{basename, is_separator, parse_hex};

/// Why a text is no event of Sysmon's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SysmonError {
    /// It is no JSON object.
    #[error("no JSON object: {0}")]
    Json(String),
    /// It is another event than a start or an end of a process.
    #[error("EventID {0} is neither 1 (process creation) nor 5 (process terminated)")]
    OtherEvent(String),
}

/// Reads an event: its fields, or an event log record (`Event.EventData`) around them. A field
/// that is not there is unknown. The whole command line is one argument: splitting it would lose
/// how it was quoted.
///
/// # Errors
/// It is no such event.
pub fn event(json: &str) -> Result<Event, SysmonError> {
    let value: Value =
        serde_json::from_str(json).map_err(|cause| SysmonError::Json(cause.to_string()))?;
    from_value(&value)
}

/// As [`event()`], of JSON that was read before.
///
/// # Errors
/// It is no such event.
pub fn from_value(value: &Value) -> Result<Event, SysmonError> {
    let record = value.get("Event");
    let data = record
        .and_then(|record| record.get("EventData"))
        .unwrap_or(value);
    let Value::Object(data) = data else {
        return Err(SysmonError::Json("fields are expected".to_owned()));
    };
    let system = record.and_then(|record| record.get("System")?.get("EventID"));
    let fields = Fields(data);
    let id = system.and_then(text_of).or_else(|| fields.text("EventID"));
    let kind = match id.as_deref() {
        None | Some("1") => EventKind::Exec(Box::new(Exec {
            process: fields.process(),
            old_tid: None,
        })),
        Some("5") => EventKind::Exit(fields.exit()),
        Some(other) => return Err(SysmonError::OtherEvent(other.to_owned())),
    };
    Ok(Event {
        header: fields.header(),
        kind,
    })
}

/// Whether it looks like such an event: Sysmon's fields are capitalized, the keys of rules' tests
/// are not.
#[must_use]
pub fn has_fields(value: &Value) -> bool {
    let mut keys = value.as_object().into_iter().flat_map(Map::keys);
    keys.any(|key| key.starts_with(|c: char| c.is_ascii_uppercase()))
}

struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn text(&self, name: &str) -> Option<String> {
        text_of(self.0.get(name)?)
    }

    fn bytes(&self, name: &str) -> Option<Bytes> {
        self.text(name).map(Bytes::from)
    }

    fn number<N: TryFrom<i128>>(&self, name: &str) -> Option<N> {
        N::try_from(number(self.text(name)?.as_bytes())?).ok()
    }

    fn header(&self) -> Header {
        let wall = self.text("UtcTime").and_then(|time| civil::parse(&time));
        let wall = wall.unwrap_or(0);
        Header {
            time: BootTime(wall),
            wall: WallTime(wall),
            ..Header::default()
        }
    }

    /// A GUID is what names the process for ever, so the key is made of it.
    fn key(&self, guid: &str, pid: &str) -> ProcessKey {
        ProcessKey {
            pid: self.number(pid).unwrap_or(0),
            start: BootTime(fnv(self.text(guid).unwrap_or_default().as_bytes())),
            ..ProcessKey::default()
        }
    }

    fn process(&self) -> Process {
        let exe = self.bytes("Image").unwrap_or_default();
        let comm = basename_of(&exe);
        let process = Process {
            key: self.key("ProcessGuid", "ProcessId"),
            parent: self.parent_key(),
            comm: Bytes::copy_from_slice(&comm[..comm.len().min(15)]),
            exe: exe.clone(),
            argv: line(self.text("CommandLine")),
            cwd: self.bytes("CurrentDirectory"),
            user: self.bytes("User"),
            session: self.number("TerminalSessionId"),
            sha256: self.digest("SHA256"),
            parent_process: self.parent(),
            ancestors: self.grandparent(),
            ..Process::default()
        };
        if exe.starts_with(b"/") {
            return Process {
                credentials: self.number("LogonId").map(same_ids),
                ..process
            };
        }
        Process {
            windows: Some(Box::new(self.windows())),
            ..process
        }
    }

    fn windows(&self) -> WindowsProcess {
        WindowsProcess {
            integrity_level: self.bytes("IntegrityLevel"),
            logon_id: self.number("LogonId"),
            original_file_name: self.bytes("OriginalFileName"),
            description: self.bytes("Description"),
            product: self.bytes("Product"),
            company: self.bytes("Company"),
            file_version: self.bytes("FileVersion"),
            md5: self.digest("MD5"),
            sha1: self.digest("SHA1"),
            imphash: self.digest("IMPHASH"),
            parent_user: self.bytes("ParentUser"),
        }
    }

    fn parent_key(&self) -> Option<ProcessKey> {
        let told = [
            "ParentProcessGuid",
            "ParentProcessId",
            "ParentImage",
            "ParentCommandLine",
        ];
        let told = told.iter().any(|name| self.0.contains_key(*name));
        told.then(|| self.key("ParentProcessGuid", "ParentProcessId"))
    }

    fn parent(&self) -> Option<Box<Ancestor>> {
        let exe = self.bytes("ParentImage").unwrap_or_default();
        Some(Box::new(Ancestor {
            key: self.parent_key()?,
            comm: Bytes::copy_from_slice(basename_of(&exe)),
            argv: line(self.text("ParentCommandLine")),
            exe,
            ..Ancestor::default()
        }))
    }

    fn grandparent(&self) -> std::sync::Arc<[Ancestor]> {
        let exe = self.bytes("GrandParentImage");
        let ancestor = |exe| Ancestor {
            exe,
            ..Ancestor::default()
        };
        exe.into_iter().map(ancestor).collect()
    }

    fn exit(&self) -> Exit {
        Exit {
            key: self.key("ProcessGuid", "ProcessId"),
            exe: self.bytes("Image").unwrap_or_default(),
            ..Exit::default()
        }
    }

    /// One of `Hashes`, or of a field of its own.
    fn digest<const N: usize>(&self, algorithm: &str) -> Option<[u8; N]> {
        let hashes = self.text("Hashes").unwrap_or_default();
        let mut named = hashes.split(',').filter_map(|hash| hash.split_once('='));
        let found = named.find(|(name, _)| name.eq_ignore_ascii_case(algorithm));
        let hex = match found {
            Some((_, hex)) => hex.to_owned(),
            None => self.text(&algorithm.to_lowercase())?,
        };
        parse_hex(hex.as_bytes())?.try_into().ok()
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn line(command_line: Option<String>) -> Argv {
    command_line.into_iter().collect()
}

fn basename_of(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| is_separator(*byte));
    end.map_or_else(|| basename(path), |end| &path[end + 1..])
}

fn same_ids(id: u32) -> Credentials {
    Credentials {
        uid: id,
        gid: id,
        euid: id,
        egid: id,
    }
}

/// <http://www.isthe.com/chongo/tech/comp/fnv/>
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use event::EventKind;

    use super::{SysmonError, event};

    #[test]
    fn fields_become_an_exec() {
        let json = r#"{"EventID": 1, "UtcTime": "2025-11-28 07:59:01.337", "ProcessId": "8752",
            "Image": "C:\\Windows\\System32\\cmd.exe", "CommandLine": "cmd  /c \"a b\"",
            "LogonId": "0x3e7", "IntegrityLevel": "High", "OriginalFileName": "Cmd.Exe",
            "Hashes": "MD5=45B78461F85D75C970567895A3A2DAE5,SHA256=no",
            "ParentProcessId": 1, "ParentImage": "C:\\p.exe", "ParentCommandLine": "",
            "ParentUser": "WS\\a", "TerminalSessionId": 1}"#;
        let event = event(json).unwrap();
        assert_eq!(
            event.header.wall.to_string(),
            "2025-11-28T07:59:01.337000000Z"
        );
        let EventKind::Exec(exec) = event.kind else {
            panic!()
        };
        let process = exec.process;
        assert_eq!((process.key.pid, process.session), (8752, Some(1)));
        assert_eq!(process.comm, "cmd.exe");
        assert_eq!(process.argv.joined(), br#"cmd  /c "a b""#);
        assert_eq!((process.sha256, process.credentials), (None, None));
        let parent = process.parent_process.unwrap();
        assert_eq!((parent.key.pid, &parent.exe[..]), (1, &b"C:\\p.exe"[..]));
        assert_eq!(parent.argv.len(), 1);
        let windows = process.windows.unwrap();
        assert_eq!(windows.logon_id, Some(999));
        assert_eq!(windows.md5.unwrap()[..2], [0x45, 0xb7]);
        assert_eq!(windows.parent_user.unwrap(), "WS\\a");
        assert_eq!(windows.company, None);
    }

    #[test]
    fn a_record_of_linux_has_ids_and_nothing_of_windows() {
        let json = r#"{"Event": {"System": {"EventID": 1},
            "EventData": {"Image": "/bin/sh", "LogonId": "0", "User": "root"}}}"#;
        let EventKind::Exec(exec) = event(json).unwrap().kind else {
            panic!()
        };
        assert_eq!(exec.process.credentials.unwrap().euid, 0);
        assert_eq!(exec.process.windows, None);
    }

    #[test]
    fn an_end_becomes_an_exit_and_the_rest_is_refused() {
        let exit = event(r#"{"EventID": 5, "Image": "C:\\a.exe"}"#).unwrap();
        assert!(matches!(exit.kind, EventKind::Exit(exit) if exit.exe == "C:\\a.exe"));
        let other = event(r#"{"EventID": 3}"#);
        assert_eq!(other, Err(SysmonError::OtherEvent("3".to_owned())));
        assert!(matches!(event("[]"), Err(SysmonError::Json(_))));
        assert!(matches!(event("{"), Err(SysmonError::Json(_))));
    }
}
