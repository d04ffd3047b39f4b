use event::EventClass;

use crate::clock::FileTime;
use crate::provider::{
    CREATE_TIME, EXIT_CODE, IMAGE_NAME, PARENT_PROCESS_ID, PARENT_PROCESS_SEQUENCE_NUMBER,
    PROCESS_ID, PROCESS_SEQUENCE_NUMBER, PROCESS_START, PROCESS_STOP, SESSION_ID,
};

/// The fields of one ETW record, by name. `None` where this version has no such field or it has
/// another type.
pub(crate) trait Props {
    fn u32(&self, name: &str) -> Option<u32>;
    /// Also for FILETIME.
    fn u64(&self, name: &str) -> Option<u64>;
    fn text(&self, name: &str) -> Option<String>;
}

/// What a record of the provider says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Start(Start),
    Stop(Stop),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Start {
    pub(crate) time: FileTime,
    pub(crate) pid: u32,
    pub(crate) created: FileTime,
    pub(crate) sequence: Option<u64>,
    pub(crate) ppid: u32,
    pub(crate) parent_sequence: Option<u64>,
    pub(crate) session: Option<u32>,
    /// NT path.
    pub(crate) image: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stop {
    pub(crate) time: FileTime,
    pub(crate) pid: u32,
    pub(crate) created: FileTime,
    pub(crate) exit_code: u32,
    /// Name without a path, cut by Windows.
    pub(crate) image: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("event {0} is not one we asked for")]
    Event(u16),
    #[error("event {event} has no field {field}")]
    Field { event: u16, field: &'static str },
}

impl Record {
    /// The events that it becomes at most.
    pub(crate) fn classes(&self) -> &'static [EventClass] {
        match self {
            Self::Start(_) => classes(PROCESS_START),
            Self::Stop(_) => classes(PROCESS_STOP),
        }
    }
}

/// The events that a record of this id stands for.
pub(crate) fn classes(event: u16) -> &'static [EventClass] {
    match event {
        PROCESS_START => &[EventClass::Fork, EventClass::Exec],
        PROCESS_STOP => &[EventClass::Exit],
        _ => &[EventClass::Unknown],
    }
}

/// Reads a record of any version. `time` is the time stamp of its header.
pub(crate) fn decode(
    event: u16,
    time: FileTime,
    props: &impl Props,
) -> Result<Record, DecodeError> {
    let u32 = |field| props.u32(field).ok_or(DecodeError::Field { event, field });
    let file_time = |field| {
        props
            .u64(field)
            .map(FileTime)
            .ok_or(DecodeError::Field { event, field })
    };
    match event {
        PROCESS_START => Ok(Record::Start(Start {
            time,
            pid: u32(PROCESS_ID)?,
            created: file_time(CREATE_TIME)?,
            sequence: props.u64(PROCESS_SEQUENCE_NUMBER),
            ppid: u32(PARENT_PROCESS_ID)?,
            parent_sequence: props.u64(PARENT_PROCESS_SEQUENCE_NUMBER),
            session: props.u32(SESSION_ID),
            image: props.text(IMAGE_NAME).ok_or(DecodeError::Field {
                event,
                field: IMAGE_NAME,
            })?,
        })),
        PROCESS_STOP => Ok(Record::Stop(Stop {
            time,
            pid: u32(PROCESS_ID)?,
            created: file_time(CREATE_TIME)?,
            exit_code: u32(EXIT_CODE)?,
            // In the system's code page, which need not be readable: a name is all it is.
            image: props.text(IMAGE_NAME).unwrap_or_default(),
        })),
        other => Err(DecodeError::Event(other)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;

    use super::{DecodeError, Props, Record, Start, Stop, decode};
    use crate::clock::FileTime;

    #[derive(Clone)]
    pub(crate) enum Value {
        U32(u32),
        U64(u64),
        Text(&'static str),
    }

    use Value::{Text, U32, U64};

    /// A record as the manifest describes it.
    #[derive(Clone, Default)]
    pub(crate) struct Map(HashMap<&'static str, Value>);

    impl Map {
        pub(crate) fn with(mut self, name: &'static str, value: Value) -> Self {
            self.0.insert(name, value);
            self
        }

        fn without(mut self, name: &str) -> Self {
            self.0.remove(name);
            self
        }
    }

    impl Props for Map {
        fn u32(&self, name: &str) -> Option<u32> {
            match self.0.get(name)? {
                U32(value) => Some(*value),
                _ => None,
            }
        }

        fn u64(&self, name: &str) -> Option<u64> {
            match self.0.get(name)? {
                U64(value) => Some(*value),
                _ => None,
            }
        }

        fn text(&self, name: &str) -> Option<String> {
            match self.0.get(name)? {
                Text(value) => Some((*value).to_owned()),
                _ => None,
            }
        }
    }

    pub(crate) fn start_v0() -> Map {
        Map::default()
            .with("ProcessID", U32(4321))
            .with("CreateTime", U64(5000))
            .with("ParentProcessID", U32(1234))
            .with("SessionID", U32(2))
            .with("ImageName", Text(r"\Device\HarddiskVolume3\a.exe"))
    }

    fn start_v3() -> Map {
        start_v0()
            .with("ProcessSequenceNumber", U64(77))
            .with("ParentProcessSequenceNumber", U64(66))
            .with("Flags", U32(0))
            .with("ProcessTokenElevationType", U32(1))
            .with("ProcessTokenIsElevated", U32(0))
            .with("ImageChecksum", U32(1))
            .with("PackageFullName", Text(""))
    }

    fn stop_v2() -> Map {
        Map::default()
            .with("ProcessID", U32(4321))
            .with("ProcessSequenceNumber", U64(77))
            .with("CreateTime", U64(5000))
            .with("ExitTime", U64(6000))
            .with("ExitCode", U32(0xc000_0005))
            .with("ImageName", Text("a.exe"))
    }

    #[test]
    fn start_of_the_first_version_has_no_sequence_numbers() {
        let start = Start {
            time: FileTime(5001),
            pid: 4321,
            created: FileTime(5000),
            sequence: None,
            ppid: 1234,
            parent_sequence: None,
            session: Some(2),
            image: r"\Device\HarddiskVolume3\a.exe".to_owned(),
        };
        assert_eq!(
            decode(1, FileTime(5001), &start_v0()),
            Ok(Record::Start(start))
        );
    }

    #[test]
    fn start_of_version_three_has_sequence_numbers() {
        let Ok(Record::Start(start)) = decode(1, FileTime(5001), &start_v3()) else {
            panic!()
        };
        assert_eq!(
            (start.sequence, start.parent_sequence),
            (Some(77), Some(66))
        );
    }

    #[test]
    fn stop_carries_the_raw_exit_code() {
        let stop = Stop {
            time: FileTime(6001),
            pid: 4321,
            created: FileTime(5000),
            exit_code: 0xc000_0005,
            image: "a.exe".to_owned(),
        };
        assert_eq!(
            decode(2, FileTime(6001), &stop_v2()),
            Ok(Record::Stop(stop.clone()))
        );
        let unreadable_name = decode(2, FileTime(6001), &stop_v2().without("ImageName"));
        assert_eq!(
            unreadable_name,
            Ok(Record::Stop(Stop {
                image: String::new(),
                ..stop
            }))
        );
    }

    #[test]
    fn record_without_identity_is_refused_by_field() {
        for field in ["ProcessID", "CreateTime", "ParentProcessID", "ImageName"] {
            let result = decode(1, FileTime(0), &start_v3().without(field));
            assert_eq!(result, Err(DecodeError::Field { event: 1, field }));
        }
        for field in ["ProcessID", "CreateTime", "ExitCode"] {
            let result = decode(2, FileTime(0), &stop_v2().without(field));
            assert_eq!(result, Err(DecodeError::Field { event: 2, field }));
        }
        let wrong_type = start_v0().with("ProcessID", Text("4321"));
        assert!(decode(1, FileTime(0), &wrong_type).is_err());
        assert_eq!(
            decode(5, FileTime(0), &start_v0()),
            Err(DecodeError::Event(5))
        );
    }
}
