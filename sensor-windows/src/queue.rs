use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use event::sensor::Waker;
use event::{DropReason, Event, EventClass, QueueCounts};

use crate::decode::Record;
use crate::normalize::Normalizer;

/// Records between the callback and the reader. About 10 s of the most processes that a large
/// machine starts; 200 bytes each.
pub(crate) const CAPACITY: usize = 16 * 1024;
/// Most records taken in one batch.
const BATCH: usize = 1024;

enum Item {
    Record(Record),
    /// Ends a wait.
    Wake,
}

/// The callback's side. It never waits: what has no room is counted and gone.
#[derive(Clone)]
pub(crate) struct Inlet {
    items: Sender<Item>,
    balance: QueueCounts,
}

/// The reader's side.
pub(crate) struct Outlet {
    items: Receiver<Item>,
    wake: Sender<Item>,
    balance: QueueCounts,
}

pub(crate) fn queue(capacity: usize, balance: &QueueCounts) -> (Inlet, Outlet) {
    let (sender, receiver) = bounded(capacity);
    let inlet = Inlet {
        items: sender.clone(),
        balance: balance.clone(),
    };
    (
        inlet,
        Outlet {
            items: receiver,
            wake: sender,
            balance: balance.clone(),
        },
    )
}

impl Inlet {
    pub(crate) fn offer(&self, record: Record) {
        let classes = record.classes();
        self.balance.hold(classes);
        if self.items.try_send(Item::Record(record)).is_err() {
            self.balance.let_go(classes);
        }
    }

    /// A record that could not be decoded.
    pub(crate) fn malformed(&self, classes: &[EventClass]) {
        self.balance.lose(classes, DropReason::Malformed, 1);
    }

    pub(crate) fn wake(&self) {
        // A full queue needs no wake: nobody waits on it.
        let _ = self.items.try_send(Item::Wake);
    }
}

impl Outlet {
    /// Waits for a first record, a wake or the end of `timeout`, then takes what there is.
    pub(crate) fn take(
        &self,
        normalizer: &mut Normalizer,
        out: &mut Vec<Event>,
        timeout: Duration,
    ) {
        let mut next = self.items.recv_timeout(timeout).ok();
        let mut left = BATCH;
        while let Some(item) = next {
            if let Item::Record(record) = item {
                self.normalize(normalizer, record, out);
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

    fn normalize(&self, normalizer: &mut Normalizer, record: Record, out: &mut Vec<Event>) {
        let classes = record.classes();
        let before = out.len();
        normalizer.record(record, out);
        self.balance.give_held(classes, out.len() - before);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn waker(&self) -> Waker {
        let wake = self.wake.clone();
        Arc::new(move || {
            let _ = wake.try_send(Item::Wake);
        })
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use event::{BootTime, DropReason, EventClass, QueueCounts, Stats};

    use super::{BATCH, queue};
    use crate::clock::{Clock, FileTime};
    use crate::decode::{Record, Start, Stop};
    use crate::normalize::Normalizer;
    use crate::path::Devices;

    fn normalizer() -> Normalizer {
        Normalizer::new(Clock::new(FileTime(0), "host"), Devices::default())
    }

    fn start(pid: u32, ppid: u32) -> Record {
        let created = FileTime(u64::from(pid));
        Record::Start(Start {
            pid,
            ppid,
            created,
            time: created,
            ..Start::default()
        })
    }

    fn stop(pid: u32) -> Record {
        Record::Stop(Stop {
            pid,
            created: FileTime(u64::from(pid)),
            ..Stop::default()
        })
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
        let balance = QueueCounts::default();
        let (inlet, outlet) = queue(64, &balance);
        let flood = thread::spawn(move || {
            for pid in 1..20_000 {
                inlet.offer(start(pid, pid - 1));
                inlet.offer(stop(pid));
                if pid % 1000 == 0 {
                    inlet.malformed(&[EventClass::Exit]);
                }
            }
        });
        let (mut normalizer, mut out) = (normalizer(), Vec::new());
        while !flood.is_finished() || !outlet.is_empty() {
            outlet.take(&mut normalizer, &mut out, Duration::ZERO);
            assert_balanced(&balance.stats());
        }
        let stats = balance.stats();
        assert_balanced(&stats);
        assert_eq!((stats.held, stats.delivered), (0, out.len() as u64));
        let told: u64 = balance
            .announce(BootTime(1))
            .iter()
            .map(|lost| lost.count)
            .sum();
        assert_eq!(told, stats.dropped_total());
        let count = |wanted| out.iter().filter(|event| event.class() == wanted).count() as u64;
        let dropped = |wanted, why| {
            let found = stats
                .dropped
                .iter()
                .find(|(class, reason, _)| (*class, *reason) == (wanted, why));
            found.map_or(0, |(_, _, n)| *n)
        };
        let exits = count(EventClass::Exit) + dropped(EventClass::Exit, DropReason::QueueFull);
        assert_eq!(exits, 19_999);
        let execs = count(EventClass::Exec) + dropped(EventClass::Exec, DropReason::QueueFull);
        assert_eq!(execs, 19_999);
        assert_eq!(dropped(EventClass::Exit, DropReason::Malformed), 19);
    }

    #[test]
    fn full_queue_drops_by_class_and_tells_it_once() {
        let balance = QueueCounts::default();
        let (inlet, outlet) = queue(2, &balance);
        for pid in 1..=3 {
            inlet.offer(start(pid, 0));
        }
        inlet.offer(stop(1));
        let stats = balance.stats();
        assert_eq!((stats.seen, stats.held, stats.delivered), (7, 4, 0));
        let full = DropReason::QueueFull;
        assert_eq!(
            stats.dropped,
            [
                (EventClass::Fork, full, 1),
                (EventClass::Exec, full, 1),
                (EventClass::Exit, full, 1)
            ]
        );
        assert_eq!(balance.announce(BootTime(5)).len(), 3);
        assert_eq!(balance.announce(BootTime(6)), []);
        let (mut normalizer, mut out) = (normalizer(), Vec::new());
        outlet.take(&mut normalizer, &mut out, Duration::ZERO);
        assert_eq!(out.len(), 2, "one exec each, without known parents");
        assert_balanced(&balance.stats());
    }

    #[test]
    fn lost_events_span_the_time_since_the_last_announcement() {
        let balance = QueueCounts::default();
        balance.announce(BootTime(5));
        balance.lose(&[EventClass::Unknown], DropReason::SourceLost, 7);
        balance.lose(&[EventClass::Unknown], DropReason::SourceLost, 0);
        let lost = balance.announce(BootTime(9));
        assert_eq!(lost.len(), 1);
        assert_eq!(
            (lost[0].count, lost[0].from, lost[0].to),
            (7, BootTime(5), BootTime(9))
        );
        assert_balanced(&balance.stats());
    }

    #[test]
    fn wake_ends_a_wait_and_a_full_batch_leaves_the_rest() {
        let balance = QueueCounts::default();
        let (inlet, outlet) = queue(2 * BATCH, &balance);
        let waker = outlet.waker();
        let other = thread::spawn(move || waker());
        let (mut normalizer, mut out) = (normalizer(), Vec::new());
        let begin = Instant::now();
        outlet.take(&mut normalizer, &mut out, Duration::from_secs(60));
        assert!(out.is_empty() && begin.elapsed() < Duration::from_secs(30));
        other.join().unwrap();
        for pid in 1..=u32::try_from(BATCH).unwrap() + 1 {
            inlet.offer(stop(pid));
        }
        outlet.take(&mut normalizer, &mut out, Duration::ZERO);
        assert_eq!(out.len(), BATCH);
        assert_eq!(balance.stats().held, 1);
        outlet.take(&mut normalizer, &mut out, Duration::ZERO);
        assert_eq!(out.len(), BATCH + 1);
        assert_eq!(balance.stats().held, 0);
    }
}
