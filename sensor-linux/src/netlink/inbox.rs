//! The messages that wait, moved out of the kernel's small buffer into a large one of our own.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use event::sensor::Waker;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::message::{Kind, MAX_BYTES, Message, decode};
use super::sequence::Sequences;
use super::socket::{Received, Socket};

/// Messages that are moved at most; what comes on top stays in the socket. About 16 MB.
const MAX_WAITING: usize = 1 << 18;

/// Room that is kept when nothing waits.
const KEPT_CAPACITY: usize = 4096;

/// A message that waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) message: Message,
    /// See [`Sequences::arrived`].
    pub(crate) sequence: u64,
}

pub(crate) struct Inbox {
    socket: Socket,
    wake: Arc<OwnedFd>,
    waiting: VecDeque<Waiting>,
    later: HashMap<u32, Later>,
    sequences: Sequences,
    overrun: bool,
    pub(crate) malformed: u64,
}

/// What waits about a process: procfs shows it as it is after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Later {
    pub(crate) forks: u32,
    pub(crate) execs: u32,
    /// Of the leader.
    pub(crate) exits: u32,
}

impl Inbox {
    pub(crate) fn new(socket: Socket) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            socket,
            wake: Arc::new(wake),
            waiting: VecDeque::new(),
            later: HashMap::new(),
            sequences: Sequences::default(),
            overrun: false,
            malformed: 0,
        })
    }

    /// Takes all that the socket has. Gives the kernel's answer to the subscription, if it came.
    pub(crate) fn fill(&mut self) -> io::Result<Option<u32>> {
        let mut buffer = [0; MAX_BYTES];
        let mut answer = None;
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT_CAPACITY {
            self.waiting = VecDeque::new();
            self.later = HashMap::new();
        }
        while self.waiting.len() < MAX_WAITING {
            match self.socket.receive(&mut buffer)? {
                Received::Datagram(bytes) => answer = self.take(bytes).or(answer),
                Received::Overrun => self.overrun = true,
                Received::Nothing => break,
            }
        }
        Ok(answer)
    }

    fn take(&mut self, bytes: &[u8]) -> Option<u32> {
        let message = match decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!("a message of the process connector: {error}");
                self.malformed += 1;
                return None;
            }
        };
        let sequence = message.number.map_or(0, |n| self.sequences.arrived(n));
        match message.kind {
            Kind::Acknowledged(error) => return Some(error),
            Kind::Other(_) => return None,
            _ => {}
        }
        self.count(message.kind, |count| count + 1);
        self.waiting.push_back(Waiting { message, sequence });
        None
    }

    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        // It was counted in before it was put there.
        self.count(waiting.message.kind, |count| count - 1);
        Some(waiting)
    }

    fn count(&mut self, kind: Kind, step: impl Fn(u32) -> u32) {
        let (pid, counter): (u32, fn(&mut Later) -> &mut u32) = match kind {
            Kind::Fork { child, .. } if child.is_leader() => (child.tgid, |later| &mut later.forks),
            Kind::Exec(task) => (task.tgid, |later| &mut later.execs),
            Kind::Exit { task, .. } if task.is_leader() => (task.tgid, |later| &mut later.exits),
            _ => return,
        };
        let later = self.later.entry(pid).or_default();
        let counter = counter(later);
        *counter = step(*counter);
        if *later == Later::default() {
            self.later.remove(&pid);
        }
    }

    /// What waits about a process.
    pub(crate) fn later(&self, pid: u32) -> Later {
        self.later.get(&pid).copied().unwrap_or_default()
    }

    pub(crate) fn len(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Numbers that were passed over.
    pub(crate) fn gaps(&self) -> u64 {
        self.sequences.gaps()
    }

    /// Messages that did not come. The kernel's count is there at once; the numbers prove it with
    /// the next message of each cpu, and show as well what the kernel had no memory to send.
    pub(crate) fn lost(&self) -> u64 {
        self.gaps().max(self.socket.dropped())
    }

    /// Whether the socket has told of a loss since the last call.
    pub(crate) fn take_overrun(&mut self) -> bool {
        std::mem::take(&mut self.overrun)
    }

    /// Ends the present or the next wait.
    pub(crate) fn waker(&self) -> Waker {
        let wake = Arc::clone(&self.wake);
        Arc::new(move || {
            // Fails only if the counter is full, and then the reader wakes anyway.
            let _ = rustix::io::write(&wake, &1u64.to_ne_bytes());
        })
    }

    /// Returns when something waits, when woken, or after `timeout`. There is no nap to gather
    /// messages as for records of a ring: what procfs has to say of a program is gone with it.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<()> {
        if !self.waiting.is_empty() {
            return Ok(());
        }
        let timeout = Timespec::try_from(timeout).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut fds = [
            PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !fds[0].revents().is_empty() {
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        }
        Ok(())
    }
}
