use std::collections::VecDeque;
use std::time::Duration;

use event::{BootId, BootTime, Event, EventKind};

use crate::clock::after;
use crate::queue;

/// How long events wait for ones that happened before them on another cpu.
#[derive(Debug, Clone, Copy)]
pub struct HoldPolicy {
    /// Disorder that the source can have. Records of one ring are in order but for what happens
    /// between taking the time and reserving the space: microseconds, a preemption at worst.
    pub hold: Duration,
    /// The longest wait while more is queued.
    pub hold_max: Duration,
    /// Most events held.
    pub events: usize,
    /// Most bytes held, about.
    pub bytes: usize,
}

impl Default for HoldPolicy {
    fn default() -> Self {
        Self {
            hold: Duration::from_millis(1),
            hold_max: Duration::from_millis(5),
            events: 10_000,
            bytes: 4 << 20,
        }
    }
}

/// Puts events in kernel-time order.
///
/// An event is released when one at least `hold` younger has come (whatever was before it has come
/// too, since sources give near order), or when it is old enough by the clock. From 90 % of its
/// limits on, the oldest go at once.
///
/// A `Lost` event carries the time at which the loss was noticed, a `Hashed` one (of a recording)
/// that at which the digest was there: ahead of all that still waits in the ring. So it says nothing
/// about how far time is, and goes out where it came in.
#[derive(Debug)]
pub(crate) struct Order {
    policy: HoldPolicy,
    /// Sorted by [`Place`]. Near order makes most insertions a push.
    held: VecDeque<(Place, Event)>,
    bytes: usize,
    boots: u32,
    boot: Option<BootId>,
    newest: BootTime,
    released: Option<Place>,
    late: u64,
}

/// Where an event belongs. Boots (in a recording of several) stay in the order they came.
type Place = (u32, BootTime, u32, u64);

impl Order {
    pub(crate) fn new(policy: HoldPolicy) -> Self {
        Self {
            policy,
            held: VecDeque::new(),
            bytes: 0,
            boots: 0,
            boot: None,
            newest: BootTime(0),
            released: None,
            late: 0,
        }
    }

    /// Takes an event; equal ones keep the order in which they came.
    pub(crate) fn push(&mut self, event: Event) {
        let place = self.place(&event);
        self.late += u64::from(!runs_ahead(&event) && self.is_late(place));
        self.bytes += queue::weight(&event);
        let behind = self
            .held
            .iter()
            .rev()
            .take_while(|(other, _)| *other > place)
            .count();
        self.held.insert(self.held.len() - behind, (place, event));
    }

    /// The next event in order whose wait is over. `caught_up`: nothing more is queued. `None` for
    /// `now`: time is that of the events alone (a recording).
    pub(crate) fn pop(&mut self, now: Option<BootTime>, caught_up: bool) -> Option<Event> {
        let (place, _) = self.held.front()?;
        if self.is_due(*place, now, caught_up) {
            self.pop_first()
        } else {
            None
        }
    }

    /// The next event in order, due or not.
    pub(crate) fn pop_first(&mut self) -> Option<Event> {
        let (place, event) = self.held.pop_front()?;
        self.bytes -= queue::weight(&event);
        if !runs_ahead(&event) {
            self.released = self.released.max(Some(place));
        }
        Some(event)
    }

    /// How long until the first event is due, if nothing more comes.
    pub(crate) fn wait(&self, now: BootTime) -> Option<Duration> {
        let ((_, time, ..), _) = self.held.front()?;
        let due = after(*time, self.policy.hold);
        Some(Duration::from_nanos(due.0.saturating_sub(now.0)))
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Events that came after younger ones were released.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    fn place(&mut self, event: &Event) -> Place {
        let header = &event.header;
        if self.boot != Some(header.boot) {
            self.boot = Some(header.boot);
            self.boots += 1;
            self.newest = BootTime(0);
        }
        if runs_ahead(event) && header.time > self.newest {
            return (self.boots, self.newest, u32::MAX, u64::MAX);
        }
        self.newest = self.newest.max(header.time);
        (self.boots, header.time, header.cpu, header.sequence)
    }

    fn is_late(&self, (boots, time, ..): Place) -> bool {
        self.released
            .is_some_and(|released| (boots, time) < (released.0, released.1))
    }

    fn is_due(&self, (boots, time, ..): Place, now: Option<BootTime>, caught_up: bool) -> bool {
        let hold = if caught_up {
            self.policy.hold
        } else {
            self.policy.hold_max
        };
        boots < self.boots
            || after(time, self.policy.hold) <= self.newest
            || now.is_some_and(|now| after(time, hold) <= now)
            || self.is_nearly_full()
    }

    /// From here on the oldest go without waiting.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.held.len() > self.policy.events / 10 * 9 || self.bytes > self.policy.bytes / 10 * 9
    }
}

/// Its time is not that of the source's records.
pub(crate) fn runs_ahead(event: &Event) -> bool {
    matches!(event.kind, EventKind::Lost(_) | EventKind::Hashed(_))
}

#[cfg(test)]
mod tests {
    use event::{DropReason, EventClass, Fork, Header, Lost};
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn event(time: u64, cpu: u32, sequence: u64) -> Event {
        let header = Header {
            time: BootTime(time),
            cpu,
            sequence,
            ..Header::default()
        };
        Event {
            header,
            kind: EventKind::Fork(Fork::default()),
        }
    }

    fn times(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.header.time.0).collect()
    }

    fn pop_all(order: &mut Order, now: Option<u64>, caught_up: bool) -> Vec<u64> {
        let mut out = Vec::new();
        while let Some(event) = order.pop(now.map(BootTime), caught_up) {
            out.push(event);
        }
        times(&out)
    }

    #[test]
    fn quiet_event_waits_for_hold_by_the_clock() {
        let mut order = Order::new(HoldPolicy::default());
        order.push(event(10 * MS, 0, 1));
        assert_eq!(
            order.wait(BootTime(10 * MS + MS / 4)),
            Some(Duration::from_micros(750))
        );
        assert!(pop_all(&mut order, Some(11 * MS - 1), true).is_empty());
        assert_eq!(pop_all(&mut order, Some(11 * MS), true), [10 * MS]);
        assert_eq!(order.wait(BootTime(0)), None);
    }

    #[test]
    fn queued_events_wait_longer_by_the_clock_but_not_by_event_time() {
        let mut order = Order::new(HoldPolicy::default());
        order.push(event(10 * MS, 0, 1));
        assert!(pop_all(&mut order, Some(12 * MS), false).is_empty());
        order.push(event(11 * MS, 0, 2));
        assert_eq!(pop_all(&mut order, Some(11 * MS), false), [10 * MS]);
        assert_eq!(pop_all(&mut order, Some(16 * MS), false), [11 * MS]);
    }

    #[test]
    fn recording_is_released_by_event_time_alone() {
        let mut order = Order::new(HoldPolicy::default());
        order.push(event(10 * MS, 0, 1));
        order.push(event(10 * MS + MS / 2, 1, 1));
        assert!(pop_all(&mut order, None, true).is_empty());
        order.push(event(11 * MS, 0, 2));
        assert_eq!(pop_all(&mut order, None, true), [10 * MS]);
    }

    #[test]
    fn late_event_is_counted_and_passed_on() {
        let mut order = Order::new(HoldPolicy::default());
        order.push(event(10 * MS, 0, 1));
        order.push(event(20 * MS, 0, 2));
        assert_eq!(pop_all(&mut order, None, true), [10 * MS]);
        order.push(event(9 * MS, 1, 1));
        assert_eq!(pop_all(&mut order, None, true), [9 * MS]);
        assert_eq!(order.late(), 1);
    }

    fn lost(time: u64) -> Event {
        let kind = EventKind::Lost(Lost {
            class: EventClass::Exec,
            reason: DropReason::RingFull,
            count: 1,
            from: BootTime(0),
            to: BootTime(time),
        });
        Event {
            kind,
            ..event(time, 0, 0)
        }
    }

    /// A loss noticed now while the ring still held older records made all of them late.
    #[test]
    fn loss_noticed_ahead_of_the_backlog_goes_out_in_place_and_makes_nothing_late() {
        let mut order = Order::new(HoldPolicy::default());
        order.push(event(10 * MS, 0, 1));
        order.push(lost(5_000 * MS));
        assert!(pop_all(&mut order, None, true).is_empty());
        order.push(event(10 * MS - 1, 1, 1));
        order.push(event(11 * MS, 0, 2));
        assert_eq!(
            pop_all(&mut order, None, true),
            [10 * MS - 1, 10 * MS, 5_000 * MS]
        );
        order.push(lost(5_001 * MS));
        assert_eq!(
            pop_all(&mut order, Some(12 * MS), true),
            [11 * MS, 5_001 * MS]
        );
        order.push(event(11 * MS, 1, 2));
        assert_eq!(order.late(), 0);
    }

    #[test]
    fn loss_behind_the_events_is_not_late() {
        let mut order = Order::new(HoldPolicy::default());
        order.push(event(10 * MS, 0, 1));
        order.push(event(30 * MS, 0, 2));
        assert_eq!(pop_all(&mut order, None, true), [10 * MS]);
        order.push(lost(9 * MS));
        order.push(lost(20 * MS));
        assert_eq!(pop_all(&mut order, None, true), [9 * MS, 20 * MS]);
        order.push(event(15 * MS, 1, 1));
        assert_eq!(order.late(), 0);
    }

    #[test]
    fn loss_before_any_event_waits_for_none() {
        let mut order = Order::new(HoldPolicy::default());
        order.push(lost(5_000 * MS));
        assert_eq!(pop_all(&mut order, Some(MS), true), [5_000 * MS]);
    }

    #[test]
    fn nearly_full_buffer_lets_the_oldest_go() {
        let policy = HoldPolicy {
            events: 100,
            ..HoldPolicy::default()
        };
        let mut order = Order::new(policy);
        (0..100)
            .rev()
            .for_each(|time| order.push(event(time, 0, time)));
        assert_eq!(
            pop_all(&mut order, Some(0), false),
            (0..10).collect::<Vec<_>>()
        );
        assert_eq!(order.len(), 90);
    }

    #[test]
    fn bytes_fill_the_buffer_too() {
        let policy = HoldPolicy {
            bytes: 10 * size_of::<Event>(),
            ..HoldPolicy::default()
        };
        let mut order = Order::new(policy);
        (0..20).for_each(|time| order.push(event(time, 0, time)));
        assert_eq!(pop_all(&mut order, Some(0), false).len(), 11);
    }

    #[test]
    fn another_boot_does_not_mix_with_the_one_before() {
        let mut order = Order::new(HoldPolicy::default());
        order.push(event(10 * MS, 0, 1));
        let mut second = event(5 * MS, 0, 1);
        second.header.boot = BootId([1; 16]);
        order.push(second);
        assert_eq!(pop_all(&mut order, None, true), [10 * MS]);
        assert_eq!(
            order.pop_first().map(|event| event.header.time),
            Some(BootTime(5 * MS))
        );
        assert_eq!(order.late(), 0);
    }

    proptest! {
        /// Disorder below the hold time is undone, and every event comes out once.
        #[test]
        fn output_is_sorted_when_disorder_is_below_hold(
            steps in proptest::collection::vec((0..200_000_u64, 0..999_000_u64, 0..4_u32), 1..300),
            batch in 1..50_usize,
        ) {
            // Each event happens at `time` and arrives in the order of `time + delay`.
            let mut time = MS;
            let mut arrivals = Vec::new();
            for (i, (step, delay, cpu)) in steps.iter().enumerate() {
                time += step;
                arrivals.push((time + delay, event(time, *cpu, i as u64)));
            }
            arrivals.sort_by_key(|(arrival, _)| *arrival);
            let mut order = Order::new(HoldPolicy::default());
            let mut out = Vec::new();
            for chunk in arrivals.chunks(batch) {
                chunk.iter().for_each(|(_, event)| order.push(event.clone()));
                let now = chunk.last().map(|(arrival, _)| BootTime(*arrival));
                while let Some(event) = order.pop(now, true) {
                    out.push(event);
                }
            }
            while let Some(event) = order.pop_first() {
                out.push(event);
            }
            prop_assert!(times(&out).is_sorted());
            prop_assert_eq!(order.late(), 0);
            let mut sequences: Vec<u64> = out.iter().map(|event| event.header.sequence).collect();
            sequences.sort_unstable();
            prop_assert_eq!(sequences, (0..steps.len() as u64).collect::<Vec<_>>());
        }

        /// Whatever comes, nothing is lost or doubled, and equal places keep their order.
        #[test]
        fn nothing_is_lost_or_doubled(
            input in proptest::collection::vec((0..50_u64, any::<bool>()), 0..300),
            events in 1..100_usize,
        ) {
            let mut order = Order::new(HoldPolicy { events, ..HoldPolicy::default() });
            let mut out = Vec::new();
            for (i, (time, pop)) in input.iter().enumerate() {
                let mut event = event(*time, 0, 0);
                event.header.wall.0 = i as u64;
                order.push(event);
                while *pop && let Some(event) = order.pop(Some(BootTime(*time)), false) {
                    out.push(event);
                }
            }
            let released = out.len();
            while let Some(event) = order.pop_first() {
                out.push(event);
            }
            prop_assert_eq!(order.len(), 0);
            prop_assert_eq!(order.bytes, 0);
            prop_assert!(
                out[released..].is_sorted_by_key(|event| (event.header.time, event.header.wall))
            );
            let mut ids: Vec<u64> = out.iter().map(|event| event.header.wall.0).collect();
            ids.sort_unstable();
            prop_assert_eq!(ids, (0..input.len() as u64).collect::<Vec<_>>());
        }
    }
}
