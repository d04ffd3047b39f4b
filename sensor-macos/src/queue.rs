use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use event::sensor::Waker;
use event::{DropReason, Event, EventClass};

use crate::message::Message;
use crate::normalize::Normalizer;
use crate::stats::Balance;

/// Messages between the callback and the reader.
pub(crate) const CAPACITY: usize = 8 * 1024;
/// Bytes of arguments in them: the queue is as long as it looks for usual ones, and long ones do
/// not let it grow.
const CAPACITY_BYTES: usize = 16 * 1024 * 1024;
/// Most messages taken in one batch.
const BATCH: usize = 1024;

enum Item {
    Message(Box<Message>),
    /// Ends a wait.
    Wake,
}

/// The callback's side. It never waits: what has no room is counted and gone.
#[derive(Clone)]
pub(crate) struct Inlet {
    items: Sender<Item>,
    bytes: Arc<AtomicUsize>,
    balance: Balance,
}

/// The reader's side.
pub(crate) struct Outlet {
    items: Receiver<Item>,
    wake: Sender<Item>,
    bytes: Arc<AtomicUsize>,
    balance: Balance,
}

pub(crate) fn queue(capacity: usize, balance: &Balance) -> (Inlet, Outlet) {
    let (sender, receiver) = bounded(capacity);
    let bytes = Arc::<AtomicUsize>::default();
    let (wake, balance) = (sender.clone(), balance.clone());
    let inlet = Inlet {
        items: sender,
        bytes: Arc::clone(&bytes),
        balance: balance.clone(),
    };
    (
        inlet,
        Outlet {
            items: receiver,
            wake,
            bytes,
            balance,
        },
    )
}

impl Inlet {
    pub(crate) fn offer(&self, message: Message) {
        let class = message.class();
        self.balance.hold(class, message.sequence);
        if !self.push(message) {
            self.balance.counts.let_go(&[class]);
        }
    }

    fn push(&self, message: Message) -> bool {
        let length = message.argv_len();
        // The reader can only make more room in the meantime.
        if self.bytes.load(Ordering::Relaxed) + length > CAPACITY_BYTES {
            return false;
        }
        self.bytes.fetch_add(length, Ordering::Relaxed);
        let sent = self
            .items
            .try_send(Item::Message(Box::new(message)))
            .is_ok();
        if !sent {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
        }
        sent
    }

    /// A message that could not be copied.
    pub(crate) fn malformed(&self) {
        let unknown = [EventClass::Unknown];
        self.balance.counts.lose(&unknown, DropReason::Malformed, 1);
    }
}

impl Outlet {
    /// Waits for a first message, a wake or the end of `timeout`, then takes what there is.
    pub(crate) fn take(
        &self,
        normalizer: &mut Normalizer,
        out: &mut Vec<Event>,
        timeout: Duration,
    ) {
        let mut next = self.items.recv_timeout(timeout).ok();
        let mut left = BATCH;
        while let Some(item) = next {
            if let Item::Message(message) = item {
                let (class, before) = (message.class(), out.len());
                self.bytes.fetch_sub(message.argv_len(), Ordering::Relaxed);
                normalizer.message(*message, out);
                let given = out.len() - before;
                self.balance.counts.give_held(&[class], given);
            }
            left -= 1;
            // Taken only if there is room for it in this batch.
            next = if left > 0 {
                self.items.try_recv().ok()
            } else {
                None
            };
        }
    }

    pub(crate) fn waker(&self) -> Waker {
        let wake = self.wake.clone();
        Arc::new(move || {
            // A full queue needs no wake: nobody waits on it.
            let _ = wake.try_send(Item::Wake);
        })
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use event::{BootId, BootTime, DropReason, EventClass, Stats, WallTime};

    use super::{BATCH, CAPACITY, CAPACITY_BYTES, queue};
    use crate::clock::Clock;
    use crate::message::{Body, Exec, MAX_ARGV, Message, Proc, argv};
    use crate::normalize::Normalizer;
    use crate::stats::Balance;

    fn normalizer() -> Normalizer {
        Normalizer::new(Clock::new(WallTime(0), BootId::default()))
    }

    fn fork(pid: u32, sequence: u64) -> Message {
        let child = Proc {
            pid,
            started: Some(WallTime(u64::from(pid))),
            ..Proc::default()
        };
        message(Body::Fork { child }, sequence)
    }

    fn exit(sequence: u64) -> Message {
        message(Body::Exit { wait_status: 0 }, sequence)
    }

    fn message(body: Body, sequence: u64) -> Message {
        let (time, process) = (
            WallTime(1),
            Proc {
                pid: 7,
                ..Proc::default()
            },
        );
        Message {
            time,
            sequence: Some(sequence),
            global_sequence: None,
            process,
            body,
        }
    }

    fn assert_balanced(stats: &Stats) {
        assert_eq!(
            stats.seen,
            stats.delivered + stats.dropped_total() + stats.held,
            "{stats:?}"
        );
    }

    #[test]
    fn nothing_is_lost_without_being_counted_under_a_flood() {
        const COUNT: u32 = 20_000;
        let balance = Balance::default();
        let (inlet, outlet) = queue(64, &balance);
        let flood = thread::spawn(move || {
            // Every hundredth fork is lost by macOS.
            for number in (0..COUNT).filter(|number| number % 100 != 50) {
                inlet.offer(fork(number, u64::from(number)));
            }
        });
        let (mut normalizer, mut out) = (normalizer(), Vec::new());
        loop {
            let finished = flood.is_finished();
            outlet.take(&mut normalizer, &mut out, Duration::ZERO);
            assert_balanced(&balance.stats());
            if finished && balance.stats().held == 0 {
                break;
            }
        }
        let stats = balance.stats();
        assert_eq!(
            (stats.delivered, stats.seen),
            (out.len() as u64, u64::from(COUNT))
        );
        assert_eq!(stats.sequence_gaps, u64::from(COUNT / 100));
        let told: u64 = balance
            .counts
            .announce(BootTime(1))
            .iter()
            .map(|lost| lost.count)
            .sum();
        assert_eq!(told, stats.dropped_total());
        assert_eq!(told + out.len() as u64, u64::from(COUNT));
    }

    #[test]
    fn gaps_are_counted_by_kind_and_not_where_the_queue_was_full() {
        let balance = Balance::default();
        let (inlet, _outlet) = queue(2, &balance);
        [
            fork(1, 0),
            fork(2, 1),
            fork(3, 2),
            fork(4, 5),
            exit(0),
            exit(2),
        ]
        .into_iter()
        .for_each(|message| inlet.offer(message));
        let stats = balance.stats();
        assert_eq!(
            stats.dropped,
            [
                (EventClass::Fork, DropReason::SourceLost, 2),
                (EventClass::Fork, DropReason::QueueFull, 2),
                (EventClass::Exit, DropReason::SourceLost, 1),
                (EventClass::Exit, DropReason::QueueFull, 2),
            ]
        );
        assert_eq!((stats.seen, stats.held, stats.sequence_gaps), (9, 2, 3));
        assert_balanced(&stats);
        assert_eq!(balance.counts.announce(BootTime(5)).len(), 4);
        assert_eq!(balance.counts.announce(BootTime(6)), []);
    }

    #[test]
    fn long_arguments_do_not_let_the_queue_grow() {
        let balance = Balance::default();
        let (inlet, outlet) = queue(CAPACITY, &balance);
        let long = [b'a'; MAX_ARGV];
        let exec = |number| {
            let argv = argv([&long[..]].into_iter()).0;
            message(
                Body::Exec(Box::new(Exec {
                    argv,
                    ..Exec::default()
                })),
                number,
            )
        };
        let fitting = (CAPACITY_BYTES / MAX_ARGV) as u64;
        (0..fitting + 5).for_each(|number| inlet.offer(exec(number)));
        inlet.offer(exit(0));
        let stats = balance.stats();
        assert_eq!(stats.held, fitting + 1);
        assert_eq!(
            stats.dropped,
            [(EventClass::Exec, DropReason::QueueFull, 5)]
        );
        outlet.take(&mut normalizer(), &mut Vec::new(), Duration::ZERO);
        inlet.offer(exec(fitting + 5));
        assert_eq!(balance.stats().held, 1);
        assert_balanced(&balance.stats());
    }

    #[test]
    fn a_sequence_that_starts_anew_is_no_gap() {
        let balance = Balance::default();
        let (inlet, _outlet) = queue(8, &balance);
        [exit(9), exit(10), exit(0), exit(1)]
            .into_iter()
            .for_each(|m| inlet.offer(m));
        inlet.malformed();
        let stats = balance.stats();
        assert_eq!(
            stats.dropped,
            [(EventClass::Unknown, DropReason::Malformed, 1)]
        );
        assert_eq!((stats.seen, stats.sequence_gaps), (5, 0));
    }

    #[test]
    fn wake_ends_a_wait_and_a_full_batch_leaves_the_rest() {
        let balance = Balance::default();
        let (inlet, outlet) = queue(2 * BATCH, &balance);
        let waker = outlet.waker();
        let other = thread::spawn(move || waker());
        let (mut normalizer, mut out) = (normalizer(), Vec::new());
        let begin = Instant::now();
        outlet.take(&mut normalizer, &mut out, Duration::from_secs(60));
        assert!(out.is_empty() && begin.elapsed() < Duration::from_secs(30));
        other.join().unwrap();
        for number in 0..=BATCH as u64 {
            inlet.offer(exit(number));
        }
        outlet.take(&mut normalizer, &mut out, Duration::ZERO);
        assert_eq!((out.len(), balance.stats().held), (BATCH, 1));
        outlet.take(&mut normalizer, &mut out, Duration::ZERO);
        assert_eq!((out.len(), balance.stats().held), (BATCH + 1, 0));
        assert_balanced(&balance.stats());
    }
}
