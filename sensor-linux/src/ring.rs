//! Drains the ring buffer and decides when to look again.
//!
//! The kernel wakes a reader that has caught up with the first record that follows. Under load the
//! reader therefore naps between drains instead of waiting: the records of a whole nap then cost
//! one wake-up, and a quiet host still gets each record at once.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// How long a busy reader naps. Bounds the latency that batching adds.
const NAP: Duration = Duration::from_millis(2);

/// Records in one batch, so that the stages after this one get going …
const MAX_BATCH: usize = 4096;

/// … and their bytes, so that a ring full of long arguments is not copied out at once.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Decides how to wait.
pub(crate) struct Waiter {
    wake: Arc<OwnedFd>,
    /// When the last drain that found something was over, and whether the one before it was shortly
    /// before.
    last_record: Option<Instant>,
    busy: bool,
    /// The last drain left records in the ring.
    behind: bool,
}

impl Waiter {
    pub(crate) fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            wake: Arc::new(wake),
            last_record: None,
            busy: false,
            behind: false,
        })
    }

    /// Ends the present or the next wait.
    pub(crate) fn waker(&self) -> event::sensor::Waker {
        let wake = Arc::clone(&self.wake);
        Arc::new(move || {
            // Fails only if the counter is full, and then the reader wakes anyway.
            let _ = rustix::io::write(&wake, &1u64.to_ne_bytes());
        })
    }

    /// Returns when there is something to drain, when woken, or after `timeout`.
    pub(crate) fn wait(&mut self, ring: &RingBuf<MapData>, timeout: Duration) -> io::Result<()> {
        if self.behind {
            return Ok(());
        }
        if self.busy {
            return self.poll(None, NAP.min(timeout));
        }
        self.poll(Some(ring), timeout)
    }

    /// Hands the records in the ring to `each`, one batch of them at most.
    pub(crate) fn drain(&mut self, ring: &mut RingBuf<MapData>, mut each: impl FnMut(&[u8])) {
        let (mut count, mut bytes) = (0, 0);
        self.behind = true;
        while count < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            let Some(record) = ring.next() else {
                self.behind = false;
                break;
            };
            each(&record);
            count += 1;
            bytes += record.len();
        }
        self.note(count);
    }

    /// Two drains in a row with records between them mean that more are on their way; an empty one
    /// after a nap means that they are not.
    fn note(&mut self, count: usize) {
        let now = Instant::now();
        let recent = self.last_record.is_some_and(|last| now - last < NAP + NAP);
        self.busy = count > 0 && recent;
        if count > 0 {
            self.last_record = Some(now);
        }
    }

    fn poll(&self, ring: Option<&RingBuf<MapData>>, timeout: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(timeout).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut fds = vec![PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN)];
        fds.extend(ring.map(|ring| PollFd::from_borrowed_fd(ring.as_fd(), PollFlags::IN)));
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
