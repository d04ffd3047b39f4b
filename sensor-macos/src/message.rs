use bytes::{BufMut, Bytes, BytesMut};
use event::{Argv, Credentials, EventClass, FileIdentity, WallTime};

/// A copy of what we use of an Endpoint Security message, so that the message can be released in
/// the callback, and so that everything after it works without macOS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) time: WallTime,
    /// Counts the messages of this kind to this client; message version 2 (macOS 10.15.4).
    pub(crate) sequence: Option<u64>,
    /// Counts all messages to this client; message version 4 (macOS 11).
    pub(crate) global_sequence: Option<u64>,
    /// The process that did it.
    pub(crate) process: Proc,
    pub(crate) body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Fork { child: Proc },
    Exec(Box<Exec>),
    Exit { wait_status: i32 },
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Exec {
    /// The process as the new program sees itself.
    pub(crate) target: Proc,
    pub(crate) argv: Argv,
    pub(crate) argv_truncated_bytes: u64,
    pub(crate) cwd: Option<Bytes>,
    /// The script, where an interpreter runs one.
    pub(crate) script: Option<Bytes>,
}

/// A process as of the message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Proc {
    pub(crate) pid: u32,
    /// From the parent's audit token, else the plain parent id; the present parent.
    pub(crate) ppid: u32,
    /// Fork time; kept by exec. Message version 3 (macOS 10.15.4).
    pub(crate) started: Option<WallTime>,
    pub(crate) credentials: Credentials,
    /// Audit login uid, all ones where never set.
    pub(crate) auid: u32,
    /// Audit session.
    pub(crate) session: u32,
    pub(crate) tty: Option<u32>,
    pub(crate) exe: Bytes,
    pub(crate) exe_file: FileIdentity,
}

/// A process that ran when the sensor started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Row {
    pub(crate) pid: u32,
    pub(crate) ppid: u32,
    pub(crate) started: WallTime,
    pub(crate) comm: Bytes,
    pub(crate) credentials: Credentials,
    pub(crate) tty: Option<u32>,
    pub(crate) exe: Bytes,
    pub(crate) argv: Argv,
    pub(crate) argv_truncated_bytes: u64,
}

impl Message {
    pub(crate) fn class(&self) -> EventClass {
        match &self.body {
            Body::Fork { .. } => EventClass::Fork,
            Body::Exec(_) => EventClass::Exec,
            Body::Exit { .. } => EventClass::Exit,
        }
    }

    /// Bytes of arguments that it holds.
    pub(crate) fn argv_len(&self) -> usize {
        match &self.body {
            Body::Exec(exec) => exec.argv.as_block().len(),
            Body::Fork { .. } | Body::Exit { .. } => 0,
        }
    }
}

/// Bytes of arguments that are kept of one process, of the 1 MiB that macOS allows.
pub(crate) const MAX_ARGV: usize = 32 * 1024;

/// The arguments as one block, and how many bytes of it were cut off.
pub(crate) fn argv<'a>(arguments: impl Iterator<Item = &'a [u8]>) -> (Argv, u64) {
    let mut block = BytesMut::new();
    let mut total = 0;
    for argument in arguments {
        total += argument.len() + 1;
        let room = MAX_ARGV - block.len();
        block.put_slice(&argument[..argument.len().min(room)]);
        if argument.len() < room {
            block.put_u8(0);
        }
    }
    let cut = total - block.len();
    (Argv::from_block(block.freeze()), cut as u64)
}

/// From macOS' encoding of a device number (8 and 24 bits) to the one of events (12 and 20).
pub(crate) fn device(dev: u32) -> u32 {
    (dev >> 24) << 20 | (dev & 0xf_ffff)
}

#[cfg(test)]
mod tests {
    use super::{MAX_ARGV, argv, device};

    fn check(arguments: &[&[u8]]) {
        let (kept, cut) = argv(arguments.iter().copied());
        let whole: Vec<u8> = arguments
            .iter()
            .flat_map(|a| [a, &b"\0"[..]].concat())
            .collect();
        assert_eq!(
            kept.as_block().as_ref(),
            &whole[..whole.len().min(MAX_ARGV)]
        );
        assert_eq!(cut as usize, whole.len().saturating_sub(MAX_ARGV));
    }

    #[test]
    fn arguments_are_kept_byte_for_byte_up_to_the_limit() {
        check(&[]);
        check(&[b"", b"a b", b"\xff\xfe", b""]);
        let long = [b'a'; MAX_ARGV];
        check(&[&long[2..], b""]);
        check(&[&long[1..]]);
        check(&[&long[1..], b""]);
        check(&[&long]);
        check(&[&long, &long, b"c"]);
        check(&[b"sh", &long[..MAX_ARGV - 4], b"x"]);
        check(&[b"sh", &long[..MAX_ARGV - 5], b"x"]);
    }

    #[test]
    fn device_numbers_are_in_the_encoding_of_events() {
        assert_eq!(device(0x0100_0004), 1 << 20 | 4);
    }
}
