//! A queue between two threads, bounded in bytes.
//!
//! Drop policy: none. [`Sender::send`] waits for room; [`Sender::try_send`] hands the item back.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use event::{Event, EventKind, Process};

/// A queue that holds items of `limit` bytes together; a larger single item passes alone.
pub(crate) fn bounded<T>(limit: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let credit = Arc::new(Credit {
        limit,
        state: Mutex::default(),
        freed: Condvar::new(),
    });
    (
        Sender {
            channel: sender,
            credit: Arc::clone(&credit),
        },
        Receiver {
            channel: receiver,
            credit,
        },
    )
}

/// Bytes that an event takes in memory, about.
pub(crate) fn weight(event: &Event) -> usize {
    let process = match &event.kind {
        EventKind::Exec(exec) => &exec.process,
        EventKind::Snapshot(row) => &row.process,
        _ => return size_of::<Event>(),
    };
    let bytes = process.argv.as_block().len()
        + process.exe.len()
        + process.filename.len()
        + process.cwd.as_ref().map_or(0, |cwd| cwd.len());
    size_of::<Event>() + size_of::<Process>() + bytes
}

/// An item and the bytes it was charged with.
pub(crate) struct Charged<T> {
    item: T,
    bytes: usize,
}

pub(crate) struct Sender<T> {
    channel: crossbeam_channel::Sender<Charged<T>>,
    credit: Arc<Credit>,
}

/// The other side is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TrySendError {
    Full,
    Closed,
}

impl<T> Sender<T> {
    /// Waits until there is room.
    pub(crate) fn send(&self, item: T, bytes: usize) -> Result<(), Closed> {
        self.credit.acquire(bytes)?;
        self.channel
            .send(Charged { item, bytes })
            .map_err(|_| Closed)
    }

    /// Sends if there is room now.
    pub(crate) fn try_send(&self, item: T, bytes: usize) -> Result<(), TrySendError> {
        if !self
            .credit
            .try_acquire(bytes)
            .map_err(|Closed| TrySendError::Closed)?
        {
            return Err(TrySendError::Full);
        }
        self.channel
            .send(Charged { item, bytes })
            .map_err(|_| TrySendError::Closed)
    }
}

pub(crate) struct Receiver<T> {
    channel: crossbeam_channel::Receiver<Charged<T>>,
    credit: Arc<Credit>,
}

impl<T> Receiver<T> {
    /// To wait on; what comes out goes through [`Receiver::accept`].
    pub(crate) fn channel(&self) -> &crossbeam_channel::Receiver<Charged<T>> {
        &self.channel
    }

    /// Takes the item and makes room for others.
    pub(crate) fn accept(&self, charged: Charged<T>) -> T {
        self.credit.release(charged.bytes);
        charged.item
    }

    /// What is there without waiting.
    pub(crate) fn try_accept(&self) -> Option<T> {
        let charged = self.channel.try_recv().ok()?;
        Some(self.accept(charged))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.channel.is_empty()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.credit.close();
    }
}

struct Credit {
    limit: usize,
    state: Mutex<CreditState>,
    freed: Condvar,
}

#[derive(Default)]
struct CreditState {
    used: usize,
    closed: bool,
    /// Senders that wait for room. Notifying is a system call even where nobody does.
    waiting: usize,
}

impl Credit {
    fn acquire(&self, bytes: usize) -> Result<(), Closed> {
        let mut state = self.lock();
        while !state.closed && !self.has_room(&state, bytes) {
            state.waiting += 1;
            state = self
                .freed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        charge(&mut state, bytes)
    }

    fn try_acquire(&self, bytes: usize) -> Result<bool, Closed> {
        let mut state = self.lock();
        if !state.closed && !self.has_room(&state, bytes) {
            return Ok(false);
        }
        charge(&mut state, bytes).map(|()| true)
    }

    fn has_room(&self, state: &CreditState, bytes: usize) -> bool {
        state.used == 0 || state.used.saturating_add(bytes) <= self.limit
    }

    fn release(&self, bytes: usize) {
        let mut state = self.lock();
        state.used -= bytes;
        let awaited = state.waiting > 0;
        drop(state);
        if awaited {
            self.freed.notify_one();
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.freed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, CreditState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn charge(state: &mut CreditState, bytes: usize) -> Result<(), Closed> {
    if state.closed {
        return Err(Closed);
    }
    state.used += bytes;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Closed, TrySendError, bounded};

    #[test]
    fn queue_is_full_by_bytes_and_has_room_again_after_accept() {
        let (sender, receiver) = bounded(100);
        sender.try_send("a", 60).unwrap();
        assert_eq!(sender.try_send("b", 41), Err(TrySendError::Full));
        sender.try_send("c", 40).unwrap();
        let first = receiver.channel().recv().unwrap();
        assert_eq!(receiver.accept(first), "a");
        sender.try_send("b", 41).unwrap();
    }

    #[test]
    fn item_over_the_limit_passes_alone() {
        let (sender, receiver) = bounded(10);
        sender.send(1, 1_000).unwrap();
        assert_eq!(sender.try_send(2, 1), Err(TrySendError::Full));
        receiver.accept(receiver.channel().recv().unwrap());
        sender.try_send(2, 1).unwrap();
    }

    #[test]
    fn sender_that_waits_for_room_learns_that_the_receiver_is_gone() {
        let (sender, receiver) = bounded(10);
        sender.send(1, 10).unwrap();
        let waiting = std::thread::spawn(move || sender.send(2, 10));
        drop(receiver);
        assert_eq!(waiting.join().unwrap(), Err(Closed));
    }
}
