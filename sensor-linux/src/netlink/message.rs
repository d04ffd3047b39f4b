//! Datagrams of the process connector to messages. Pure; the bytes are treated as untrusted.
//!
//! One datagram is a `struct nlmsghdr`, a `struct cn_msg` and a `struct proc_event`, in the byte
//! order of the machine and without padding between them:
//! <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/cn_proc.h>

/// Longest datagram: 16 + 20 + 40 bytes, in every kernel so far.
pub const MAX_BYTES: usize = 256;

/// `CN_IDX_PROC` and `CN_VAL_PROC`: the connector's id of process events.
const PROC_ID: (u32, u32) = (1, 1);

/// `NLMSG_DONE`, the only type that the connector sends.
const NLMSG_DONE: u16 = 3;

/// Bytes of `struct nlmsghdr` and of `struct cn_msg`.
const NETLINK_HEADER: usize = 16;
const CONNECTOR_HEADER: usize = 20;

/// More cpus than Linux can be built for.
const MAX_CPUS: u32 = 1 << 16;

/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;

/// One message of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// The number that it has on its cpu; `None` for an acknowledgement of a kernel before 4.7.
    pub number: Option<Number>,
    /// `CLOCK_MONOTONIC` in ns.
    pub monotonic_ns: u64,
    /// What happened.
    pub kind: Kind,
}

/// Counts the messages of one cpu, of all kinds; wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// The cpu.
    pub cpu: u32,
    /// The number on it.
    pub sequence: u32,
}

/// A thread and the process that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Task {
    /// Thread id; the kernel's `pid`.
    pub tid: u32,
    /// Process id; the kernel's `tgid`.
    pub tgid: u32,
}

impl Task {
    /// Its id is the process's.
    #[must_use]
    pub fn is_leader(self) -> bool {
        self.tid == self.tgid
    }
}

/// The messages that tell of a process's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A task was created: a process if `child` is a leader, else a thread.
    Fork {
        /// The child's parent, which is the forker unless `CLONE_PARENT` was given.
        parent: Task,
        /// The new task.
        child: Task,
    },
    /// A process replaced its program.
    Exec(Task),
    /// A task was renamed by `prctl` or through procfs.
    Comm {
        /// Which.
        task: Task,
        /// Its new name, padded with NUL.
        comm: [u8; 16],
    },
    /// A task ended.
    Exit {
        /// Which.
        task: Task,
        /// The task's own wait status.
        status: u32,
    },
    /// The answer to [`subscription`]: an error number or 0.
    Acknowledged(u32),
    /// A change of ids, a ptrace, a core dump …
    Other(u32),
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// Shorter than its kind or than it says.
    #[error("message of {0} bytes is cut")]
    Cut(usize),
    /// Of another netlink type.
    #[error("netlink type {0} is none of the connector's")]
    Type(u16),
    /// Of another user of the connector.
    #[error("connector id {0}.{1} is not that of process events")]
    Id(u32, u32),
    /// A cpu that cannot be.
    #[error("there is no cpu {0}")]
    Cpu(u32),
}

/// The datagram that asks for all process events.
///
/// Without the event mask of Linux 6.6: the kernel numbers what a mask leaves out as well, so that
/// numbers that are passed over would no longer prove a loss.
#[must_use]
pub fn subscription() -> Vec<u8> {
    let payload = LISTEN.to_ne_bytes();
    let length = NETLINK_HEADER + CONNECTOR_HEADER + payload.len();
    let length = u32::try_from(length).expect("40 fits");
    let payload_length = u16::try_from(payload.len()).expect("4 fits");
    let mut bytes = Vec::new();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(NLMSG_DONE.to_ne_bytes());
    bytes.extend([0; 10]); // flags, sequence, port: the kernel fills in or ignores them
    bytes.extend(PROC_ID.0.to_ne_bytes());
    bytes.extend(PROC_ID.1.to_ne_bytes());
    bytes.extend([0; 8]); // sequence and ack
    bytes.extend(payload_length.to_ne_bytes());
    bytes.extend([0; 2]); // flags
    bytes.extend(payload);
    bytes
}

/// Decodes one datagram.
///
/// # Errors
/// It is no process event.
pub fn decode(bytes: &[u8]) -> Result<Message, MessageError> {
    let cut = || MessageError::Cut(bytes.len());
    let mut input = Input(bytes);
    let (length, kind) = (input.u32().ok_or_else(cut)?, input.u16().ok_or_else(cut)?);
    input.skip(10).ok_or_else(cut)?;
    if kind != NLMSG_DONE {
        return Err(MessageError::Type(kind));
    }
    if (length as usize) > bytes.len() {
        return Err(cut());
    }
    let id = input.u32().zip(input.u32()).ok_or_else(cut)?;
    if id != PROC_ID {
        return Err(MessageError::Id(id.0, id.1));
    }
    let sequence = input.u32().ok_or_else(cut)?;
    input.skip(4).ok_or_else(cut)?;
    let payload = usize::from(input.u16().ok_or_else(cut)?);
    input.skip(2).ok_or_else(cut)?;
    let event = input.0.get(..payload).ok_or_else(cut)?;
    proc_event(event, sequence)?.ok_or_else(cut)
}

/// `None` if it is cut.
fn proc_event(bytes: &[u8], sequence: u32) -> Result<Option<Message>, MessageError> {
    let mut input = Input(bytes);
    let Some(((what, cpu), monotonic_ns)) = input.u32().zip(input.u32()).zip(input.u64()) else {
        return Ok(None);
    };
    let number = match cpu {
        // Before 4.7 the answer is given no number, and says cpu -1.
        u32::MAX if what == what::NONE => None,
        MAX_CPUS.. => return Err(MessageError::Cpu(cpu)),
        _ => Some(Number { cpu, sequence }),
    };
    Ok(kind(what, &mut input).map(|kind| Message {
        number,
        monotonic_ns,
        kind,
    }))
}

/// Values of `proc_event.what`.
mod what {
    pub(super) const NONE: u32 = 0;
    pub(super) const FORK: u32 = 1;
    pub(super) const EXEC: u32 = 2;
    pub(super) const COMM: u32 = 0x200;
    pub(super) const EXIT: u32 = 0x8000_0000;
}

fn kind(what: u32, data: &mut Input<'_>) -> Option<Kind> {
    Some(match what {
        what::NONE => Kind::Acknowledged(data.u32()?),
        what::FORK => Kind::Fork {
            parent: data.task()?,
            child: data.task()?,
        },
        what::EXEC => Kind::Exec(data.task()?),
        what::COMM => Kind::Comm {
            task: data.task()?,
            comm: data.take()?,
        },
        what::EXIT => Kind::Exit {
            task: data.task()?,
            status: data.u32()?,
        },
        other => Kind::Other(other),
    })
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }

    fn task(&mut self) -> Option<Task> {
        Some(Task {
            tid: self.u32()?,
            tgid: self.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A datagram as the kernel builds it.
    fn datagram(what: u32, cpu: u32, data: &[u32]) -> Vec<u8> {
        let mut event = Vec::new();
        event.extend(what.to_ne_bytes());
        event.extend(cpu.to_ne_bytes());
        event.extend(77u64.to_ne_bytes());
        event.extend(data.iter().flat_map(|word| word.to_ne_bytes()));
        event.resize(40, 0);
        let mut bytes = Vec::new();
        bytes.extend(76u32.to_ne_bytes());
        bytes.extend(3u16.to_ne_bytes());
        bytes.extend([0; 10]);
        for word in [1u32, 1, 9, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(40u16.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(event);
        bytes
    }

    fn check(what: u32, data: &[u32], expected: Kind) {
        let message = decode(&datagram(what, 1, data)).unwrap();
        let number = Number {
            cpu: 1,
            sequence: 9,
        };
        assert_eq!((message.number, message.monotonic_ns), (Some(number), 77));
        assert_eq!(message.kind, expected);
    }

    fn task(tid: u32, tgid: u32) -> Task {
        Task { tid, tgid }
    }

    #[test]
    fn each_kind_has_its_fields() {
        let (parent, child) = (task(5, 4), task(6, 6));
        check(1, &[5, 4, 6, 6], Kind::Fork { parent, child });
        check(2, &[6, 6], Kind::Exec(task(6, 6)));
        let exit = Kind::Exit {
            task: task(7, 6),
            status: 0x8b,
        };
        check(0x8000_0000, &[7, 6, 0x8b, 17, 5, 4], exit);
        let mut comm = [0; 16];
        comm[..4].copy_from_slice(b"name");
        let renamed = Kind::Comm {
            task: task(7, 6),
            comm,
        };
        let name = u32::from_ne_bytes(*b"name");
        check(0x200, &[7, 6, name], renamed);
        check(0, &[0], Kind::Acknowledged(0));
        check(0x4000_0000, &[7, 6], Kind::Other(0x4000_0000));
    }

    #[test]
    fn answer_of_an_old_kernel_has_no_number() {
        assert_eq!(decode(&datagram(0, u32::MAX, &[1])).unwrap().number, None);
        let fork = decode(&datagram(1, u32::MAX, &[1]));
        assert_eq!(fork, Err(MessageError::Cpu(u32::MAX)));
    }

    #[test]
    fn what_is_no_process_event_is_refused() {
        let with = |at: usize, value: u8| {
            let mut bytes = datagram(2, 0, &[6, 6]);
            bytes[at] = value;
            decode(&bytes)
        };
        assert_eq!(with(0, 77), Err(MessageError::Cut(76)));
        assert_eq!(with(4, 2), Err(MessageError::Type(2)));
        assert_eq!(with(16, 3), Err(MessageError::Id(3, 1)));
        assert_eq!(with(32, 41), Err(MessageError::Cut(76)));
        assert_eq!(with(32, 20), Err(MessageError::Cut(76)));
        for end in 0..76 {
            assert!(decode(&datagram(2, 0, &[6, 6])[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn subscription_is_a_datagram_of_40_bytes() {
        let bytes = subscription();
        assert_eq!(bytes.len(), 40);
        assert_eq!(bytes[..4], 40u32.to_ne_bytes());
        assert_eq!(bytes[36..], 1u32.to_ne_bytes());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn arbitrary_events_never_panic(
            what in prop_oneof![Just(0u32), Just(1), Just(2), Just(0x200), Just(0x8000_0000), any::<u32>()],
            cpu in any::<u32>(),
            data in proptest::collection::vec(any::<u32>(), 0..6),
            length in any::<u16>(),
        ) {
            let mut bytes = datagram(what, cpu, &data);
            bytes[32..34].copy_from_slice(&length.to_ne_bytes());
            let _ = decode(&bytes);
        }
    }
}
