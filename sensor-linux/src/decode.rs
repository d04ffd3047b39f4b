//! Ring bytes to records. Pure; the bytes are treated as untrusted.

use sensor_ebpf::record::{
    ABI, CgroupRecord, EnvironmentRecord, ExecRecord, ExitRecord, FailedExecRecord, RecordHeader,
    kind,
};

/// A decoded record, with its byte areas still in the ring.
#[expect(
    clippy::large_enum_variant,
    reason = "lives for one call; a box would allocate for each exec"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// A process was created.
    Fork(RecordHeader),
    /// A process replaced its program.
    Exec(Exec<'a>),
    /// The last thread of a process ended.
    Exit(ExitRecord),
    /// A process could not replace its program.
    FailedExec(FailedExec<'a>),
    /// The path of a control group; no event.
    Cgroup(Cgroup<'a>),
    /// The environment of the next exec of the process; no event.
    Environment(Environment<'a>),
}

impl Record<'_> {
    /// The header that counts as an event's.
    #[must_use]
    pub fn event_header(&self) -> Option<&RecordHeader> {
        match self {
            Self::Fork(header) => Some(header),
            Self::Exec(exec) => Some(&exec.fixed.header),
            Self::Exit(exit) => Some(&exit.header),
            Self::FailedExec(failed) => Some(&failed.fixed.header),
            Self::Cgroup(_) | Self::Environment(_) => None,
        }
    }
}

/// A failed exec and the path that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedExec<'a> {
    /// Fixed part.
    pub fixed: FailedExecRecord,
    /// Path, without its NUL.
    pub filename: &'a [u8],
}

/// A control group's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cgroup<'a> {
    /// Fixed part.
    pub fixed: CgroupRecord,
    /// Components, innermost first, each with its NUL.
    pub path: &'a [u8],
}

/// An environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Environment<'a> {
    /// Fixed part.
    pub fixed: EnvironmentRecord,
    /// `NAME=value` strings, each with its NUL.
    pub block: &'a [u8],
}

/// An exec record and its byte areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exec<'a> {
    /// Fixed part.
    pub fixed: ExecRecord,
    /// Path given to exec, without its NUL.
    pub filename: &'a [u8],
    /// Interpreter of a script as its `#!` line names it, without its NUL; empty for others.
    pub interpreter: &'a [u8],
    /// Components of the executable's path, innermost first, each with its NUL.
    pub exe: &'a [u8],
    /// Components of the working directory, in the same way.
    pub cwd: &'a [u8],
    /// Captured part of the argument block.
    pub argv: &'a [u8],
}

/// Why bytes are no record.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// Shorter than its kind.
    #[error("record of {0} bytes is cut")]
    Cut(usize),
    /// Another layout version.
    #[error("record layout {0} is not {ABI}")]
    Abi(u16),
    /// A kind that this version does not know.
    #[error("unknown record kind {0}")]
    Kind(u8),
    /// An area reaches past the end.
    #[error("record area {0} lies outside the record")]
    Area(&'static str),
}

/// Decodes one record.
///
/// # Errors
/// The bytes are no record of this layout version.
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, DecodeError> {
    let mut input = Input { bytes, at: 0 };
    let header = header(&mut input)?;
    if header.abi != ABI {
        return Err(DecodeError::Abi(header.abi));
    }
    match header.kind {
        kind::FORK => Ok(Record::Fork(header)),
        kind::EXEC => exec(header, &mut input).map(Record::Exec),
        kind::EXIT => Ok(Record::Exit(ExitRecord {
            header,
            comm: input.take()?,
            run_time: input.u64()?,
            status: input.u32()?,
            reserved: input.u32()?,
        })),
        kind::FAILED_EXEC => failed_exec(header, &mut input).map(Record::FailedExec),
        kind::CGROUP => cgroup(header, &mut input).map(Record::Cgroup),
        kind::ENVIRONMENT => environment(header, &mut input).map(Record::Environment),
        other => Err(DecodeError::Kind(other)),
    }
}

/// Fields in the order of the structure, which has no padding.
fn header(input: &mut Input<'_>) -> Result<RecordHeader, DecodeError> {
    Ok(RecordHeader {
        abi: input.u16()?,
        kind: input.u8()?,
        flags: input.u8()?,
        cpu: input.u32()?,
        sequence: input.u64()?,
        time: input.u64()?,
        start: input.u64()?,
        parent_start: input.u64()?,
        tgid: input.u32()?,
        parent_tgid: input.u32()?,
    })
}

fn exec<'a>(header: RecordHeader, input: &mut Input<'a>) -> Result<Exec<'a>, DecodeError> {
    let fixed = exec_fixed(header, input)?;
    let paths_start = size_of::<ExecRecord>();
    let (filename_end, exe_end) = (fixed.filename_end as usize, fixed.exe_end as usize);
    let interpreter_end = fixed.interpreter_end as usize;
    let filename = input.area(paths_start, filename_end, "filename")?;
    let interpreter = input.area(filename_end, interpreter_end, "interpreter")?;
    let exe = input.area(interpreter_end, exe_end, "exe")?;
    let cwd = input.area(exe_end, fixed.cwd_end as usize, "cwd")?;
    let argv_start = fixed.argv_offset as usize;
    let argv = input.area(
        argv_start,
        argv_start.saturating_add(fixed.argv_len as usize),
        "argv",
    )?;
    Ok(Exec {
        fixed,
        filename: without_nul(filename),
        interpreter: without_nul(interpreter),
        exe,
        cwd,
        argv,
    })
}

fn failed_exec<'a>(
    header: RecordHeader,
    input: &mut Input<'a>,
) -> Result<FailedExec<'a>, DecodeError> {
    let fixed = FailedExecRecord {
        header,
        comm: input.take()?,
        errno: input.u32()?,
        uid: input.u32()?,
        gid: input.u32()?,
        euid: input.u32()?,
        egid: input.u32()?,
        filename_len: input.u32()?,
    };
    let filename = input.following(fixed.filename_len, "filename")?;
    Ok(FailedExec {
        fixed,
        filename: without_nul(filename),
    })
}

fn cgroup<'a>(header: RecordHeader, input: &mut Input<'a>) -> Result<Cgroup<'a>, DecodeError> {
    let fixed = CgroupRecord {
        header,
        id: input.u64()?,
        path_end: input.u32()?,
        cut: input.u32()?,
    };
    let path = input.area(input.at, fixed.path_end as usize, "cgroup path")?;
    Ok(Cgroup { fixed, path })
}

fn environment<'a>(
    header: RecordHeader,
    input: &mut Input<'a>,
) -> Result<Environment<'a>, DecodeError> {
    let fixed = EnvironmentRecord {
        header,
        total: input.u64()?,
        len: input.u32()?,
        unreadable: input.u32()?,
    };
    let block = input.following(fixed.len, "environment")?;
    Ok(Environment { fixed, block })
}

fn without_nul(text: &[u8]) -> &[u8] {
    text.strip_suffix(&[0]).unwrap_or(text)
}

fn exec_fixed(header: RecordHeader, input: &mut Input<'_>) -> Result<ExecRecord, DecodeError> {
    Ok(ExecRecord {
        header,
        comm: input.take()?,
        cap_effective: input.u64()?,
        cgroup_id: input.u64()?,
        inode: input.u64()?,
        size: input.u64()?,
        mtime_seconds: input.u64()?.cast_signed(),
        ctime_seconds: input.u64()?.cast_signed(),
        argv_total: input.u64()?,
        namespaces: input.words()?,
        mtime_nanos: input.u32()?,
        ctime_nanos: input.u32()?,
        device: input.u32()?,
        nlink: input.u32()?,
        mode: input.u32()?,
        file_uid: input.u32()?,
        old_tid: input.u32()?,
        uid: input.u32()?,
        gid: input.u32()?,
        euid: input.u32()?,
        egid: input.u32()?,
        login_uid: input.u32()?,
        session: input.u32()?,
        session_leader: input.u32()?,
        namespace_pid: input.u32()?,
        tty: input.u32()?,
        filename_end: input.u32()?,
        interpreter_end: input.u32()?,
        exe_end: input.u32()?,
        cwd_end: input.u32()?,
        argv_offset: input.u32()?,
        argv_len: input.u32()?,
        flags: input.u32()?,
        exec_id: input.u32()?,
    })
}

/// A cursor over the record.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let value = self
            .bytes
            .get(self.at..self.at + N)
            .and_then(|b| b.try_into().ok())
            .ok_or(DecodeError::Cut(self.bytes.len()))?;
        self.at += N;
        Ok(value)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.take().map(u8::from_le_bytes)
    }

    fn words<const N: usize>(&mut self) -> Result<[u32; N], DecodeError> {
        let mut words = [0; N];
        for word in &mut words {
            *word = self.u32()?;
        }
        Ok(words)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.take().map(u64::from_le_bytes)
    }

    /// `len` bytes after what was read.
    fn following(&self, len: u32, name: &'static str) -> Result<&'a [u8], DecodeError> {
        self.area(self.at, self.at.saturating_add(len as usize), name)
    }

    fn area(&self, start: usize, end: usize, name: &'static str) -> Result<&'a [u8], DecodeError> {
        self.bytes.get(start..end).ok_or(DecodeError::Area(name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sensor_ebpf::record::class;

    use super::{ABI, DecodeError, Record, decode, kind};

    fn exec_record(filename_end: u32, argv_offset: u32, argv_len: u32) -> Vec<u8> {
        let mut bytes = vec![0u8; class::SMALL];
        bytes[..2].copy_from_slice(&ABI.to_le_bytes());
        bytes[2] = kind::EXEC;
        let ends = [216, 220, 224, 228].map(|at| (at, filename_end));
        for (at, value) in ends
            .into_iter()
            .chain([(232, argv_offset), (236, argv_len)])
        {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes[248..256].copy_from_slice(b"/bin/sh\0");
        bytes[704..709].copy_from_slice(b"sh\0x\0");
        bytes
    }

    #[test]
    fn areas_are_where_the_record_says() {
        let bytes = exec_record(256, 704, 5);
        let Ok(Record::Exec(exec)) = decode(&bytes) else {
            panic!("no exec")
        };
        assert_eq!(
            (exec.filename, exec.argv),
            (&b"/bin/sh"[..], &b"sh\0x\0"[..])
        );
    }

    #[test]
    fn areas_outside_the_record_are_refused() {
        let check = |bytes: Vec<u8>, area| assert_eq!(decode(&bytes), Err(DecodeError::Area(area)));
        check(exec_record(u32::MAX, 704, 5), "filename");
        check(exec_record(256, 1084, 5), "argv");
        check(exec_record(256, u32::MAX, u32::MAX), "argv");
    }

    #[test]
    fn other_layouts_and_kinds_are_refused() {
        let mut bytes = exec_record(256, 704, 5);
        bytes[2] = 9;
        assert_eq!(decode(&bytes), Err(DecodeError::Kind(9)));
        bytes[0] = 7;
        assert_eq!(decode(&bytes), Err(DecodeError::Abi(7)));
        assert_eq!(decode(&bytes[..40]), Err(DecodeError::Cut(40)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), k in 0u8..9) {
            if bytes.len() > 4 {
                bytes[..2].copy_from_slice(&ABI.to_le_bytes());
                bytes[2] = k;
            }
            let _ = decode(&bytes);
        }
    }
}
