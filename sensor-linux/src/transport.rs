//! Drains what the programs sent, through the ring buffer or perf buffers, and decides when to look
//! again.
//!
//! The kernel wakes a reader that has caught up with the first record that follows. Under load the
//! reader therefore naps between drains instead of waiting: the records of a whole nap then cost
//! one wake-up, and a quiet host still gets each record at once.
//!
//! With the ring the reader also tells the programs that it naps, by a word in a map, and they then
//! submit without having the kernel raise an interrupt that wakes nobody. A record that was
//! submitted so must not be waited for:
//!
//! - The word is cleared before the reader waits for the ring again, and `poll` looks at the
//!   positions before it sleeps: whatever was reserved by then, submitted or not, ends the wait at
//!   once. The kernel's rule alone would not do, for it wakes only if the record stands where the
//!   reader is, so that one without a wake-up would silence all that follow.
//! - A program reserves first and reads the word then. One that read it too early has thus moved the
//!   position before, and only a cpu that had not yet shown that write to the others could hide it
//!   from `poll`. The waits of the first [`SETTLE`] after a nap therefore end by then, and the next
//!   one looks again.
//! - While the word is set the reader comes by itself, at the latest after [`NAP`].
//!
//! A record that is being filled ends a wait at once too, and cannot be read. The reader naps until
//! it is: its writer may have been preempted, even in favour of the reader.
//!
//! A quiet host pays one more wake-up at the end of each busy while, and nothing after that.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{nanoseconds, suspended_ns};
use crate::ring::{Head, Memory, Ring};
use crate::sys::{NapWord, RingMemory};
use aya::maps::MapData;
use aya::maps::perf::{PerfEvent, PerfEventArray, PerfEventArrayBuffer};
use aya::util::online_cpus;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::time::ClockId;

/// How long a busy reader naps. Bounds the latency that batching adds.
const NAP: Duration = Duration::from_millis(2);

/// How long the reader naps before a record that is being filled, which takes microseconds.
const FILLING: Duration = Duration::from_micros(200);

/// How long after a nap a wait may take at most; a cpu shows its writes to the others long before.
const SETTLE: Duration = Duration::from_millis(20);

/// Records in one batch, so that the stages after this one get going …
const MAX_BATCH: usize = 4096;

/// … and their bytes, so that a ring full of long arguments is not copied out at once.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// With the header that the kernel puts before it.
const LARGEST_RECORD: usize = sensor_ebpf::record::class::LARGE + 64;

/// How records come from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One ring buffer for all cpus; Linux 5.8.
    Ring,
    /// One perf buffer for each cpu.
    Perf,
}

/// Where records are read.
pub(crate) enum Source {
    Ring(RingBuffer),
    Perf(PerfBuffers),
}

impl Source {
    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Ring(buffer) => vec![buffer.map.fd().as_fd()],
            Self::Perf(buffers) => buffers.cpus.iter().map(AsFd::as_fd).collect(),
        }
    }

    /// Tells the programs whether records need wake the reader.
    fn set_napping(&self, napping: bool) {
        if let Self::Ring(buffer) = self {
            buffer.nap.set(napping);
        }
    }

    /// The sensor's name with this transport.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ring(_) => "ebpf",
            Self::Perf(_) => "ebpf-perf",
        }
    }

    /// What to add to a record's time to get ns since boot.
    pub(crate) fn clock_offset(&self) -> u64 {
        match self {
            Self::Ring(_) => 0,
            Self::Perf(_) => suspended_ns(),
        }
    }
}

/// The ring buffer of all cpus.
pub(crate) struct RingBuffer {
    pub(crate) map: MapData,
    pub(crate) ring: Ring<RingMemory>,
    pub(crate) nap: NapWord,
}

/// The perf buffers of the cpus that are online.
///
/// Each is in order by itself. Records of all of them are put in order up to the time at which a
/// drain began: everything older has arrived by then, and what is younger waits for the next drain.
pub(crate) struct PerfBuffers {
    cpus: Vec<PerfEventArrayBuffer<MapData>>,
    /// Records that were read and not handed out, by time.
    waiting: BTreeMap<(u64, u64), Vec<u8>>,
    waiting_bytes: usize,
    /// Everything up to this time has been read.
    until: u64,
    /// Tells records of one time apart.
    read: u64,
}

type OpenError = Box<dyn std::error::Error + Send + Sync>;

impl PerfBuffers {
    /// Opens buffers of `bytes` in all, each with room for the largest record at least.
    pub(crate) fn open(mut map: PerfEventArray<MapData>, bytes: u32) -> Result<Self, OpenError> {
        let online = online_cpus().map_err(|(_, source)| source)?;
        let pages = bytes as usize / rustix::param::page_size() / online.len().max(1);
        let least = LARGEST_RECORD.div_ceil(rustix::param::page_size());
        let pages = pages.max(least).next_power_of_two();
        let mut cpus = Vec::with_capacity(online.len());
        for cpu in online {
            cpus.push(map.open(cpu, Some(pages))?);
        }
        Ok(Self {
            cpus,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            until: 0,
            read: 0,
        })
    }

    /// Takes what lies in the buffers, unless a batch of it waits already.
    fn read(&mut self) {
        let Self {
            cpus,
            waiting,
            waiting_bytes,
            until,
            read,
        } = self;
        if *waiting_bytes >= MAX_BATCH_BYTES {
            return;
        }
        *until = nanoseconds(ClockId::Monotonic);
        for cpu in cpus {
            cpu.for_each(|event| {
                // The programs count what finds no room, by class; so the kernel's count is not
                // needed.
                if let PerfEvent::Sample { head, tail } = event {
                    *read += 1;
                    let record = [head, tail].concat();
                    *waiting_bytes += record.len();
                    waiting.insert((record_time(&record), *read), record);
                }
            });
        }
    }

    /// Hands out the oldest record, if everything older has been read.
    fn next(&mut self) -> Option<Vec<u8>> {
        let first = self.waiting.first_entry()?;
        let record = (first.key().0 <= self.until).then(|| first.remove())?;
        self.waiting_bytes -= record.len();
        Some(record)
    }
}

/// The time in a record's header; one without comes first and does not decode.
fn record_time(record: &[u8]) -> u64 {
    let at = std::mem::offset_of!(sensor_ebpf::record::RecordHeader, time);
    let bytes = record.get(at..at + 8).and_then(|b| b.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

/// Waits for records, and hands them out.
pub(crate) struct Waiter {
    wake: Arc<OwnedFd>,
    rest: Rest,
    /// The last drain left records in the ring.
    behind: bool,
}

/// How to pass the time until the next drain.
#[derive(Debug, Default)]
struct Rest {
    /// When the last drain that found something was over, and whether the one before it was shortly
    /// before.
    last_record: Option<Instant>,
    busy: bool,
    /// The record that is next is being filled.
    filling: bool,
    /// The programs have been told of a nap and of nothing since.
    napping: bool,
    /// When they were told that the last nap was over, if that was lately.
    woke: Option<Instant>,
}

/// What [`Rest`] decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Not for records.
    Nap(Duration),
    /// For records.
    Records(Duration),
}

impl Rest {
    /// Decides on the next wait, of no more than `timeout`, and tells where the programs have to
    /// know of it.
    fn next(&mut self, now: Instant, timeout: Duration, mut tell: impl FnMut(bool)) -> Wait {
        if self.busy != self.napping {
            tell(self.busy);
            self.napping = self.busy;
            self.woke = Some(now);
        }
        if self.busy {
            return Wait::Nap(timeout.min(NAP));
        }
        if self.filling {
            return Wait::Nap(timeout.min(FILLING));
        }
        self.woke = self.woke.filter(|woke| now - *woke < SETTLE);
        Wait::Records(self.woke.map_or(timeout, |_| timeout.min(SETTLE)))
    }

    /// Two drains in a row with records between them mean that more are on their way; an empty one
    /// after a nap means that they are not.
    fn note(&mut self, now: Instant, count: usize) {
        let recent = self.last_record.is_some_and(|last| now - last < NAP + NAP);
        self.busy = count > 0 && recent;
        if count > 0 {
            self.last_record = Some(now);
        }
    }
}

/// What a drain handed out.
#[derive(Default)]
struct Batch {
    records: usize,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, record: &[u8]) {
        self.records += 1;
        self.bytes += record.len();
    }

    fn is_full(&self) -> bool {
        self.records >= MAX_BATCH || self.bytes >= MAX_BATCH_BYTES
    }
}

impl Waiter {
    pub(crate) fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            wake: Arc::new(wake),
            rest: Rest::default(),
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
    pub(crate) fn wait(&mut self, source: &Source, timeout: Duration) -> io::Result<()> {
        if self.behind {
            return Ok(());
        }
        let tell = |napping| source.set_napping(napping);
        match self.rest.next(Instant::now(), timeout, tell) {
            Wait::Nap(time) => self.poll(None, time),
            Wait::Records(time) => self.poll(Some(source), time),
        }
    }

    /// Hands the records that are there to `each`, one batch of them at most.
    pub(crate) fn drain(&mut self, source: &mut Source, each: impl FnMut(&[u8])) {
        match source {
            Source::Ring(buffer) => self.drain_ring(&mut buffer.ring, each),
            Source::Perf(buffers) => self.drain_perf(buffers, each),
        }
    }

    fn drain_ring(&mut self, ring: &mut Ring<impl Memory>, mut each: impl FnMut(&[u8])) {
        let mut batch = Batch::default();
        let mut head = Head::Record;
        while head == Head::Record && !batch.is_full() {
            head = ring.read(|record| {
                each(record);
                batch.add(record);
            });
        }
        self.behind = head == Head::Record;
        self.rest.filling = head == Head::Busy;
        self.rest.note(Instant::now(), batch.records);
    }

    fn drain_perf(&mut self, buffers: &mut PerfBuffers, mut each: impl FnMut(&[u8])) {
        buffers.read();
        let mut batch = Batch::default();
        while !batch.is_full()
            && let Some(record) = buffers.next()
        {
            each(&record);
            batch.add(&record);
        }
        // What came while the buffers were read would otherwise wait for the next record.
        self.behind = !buffers.waiting.is_empty();
        self.rest.note(Instant::now(), batch.records);
    }

    fn poll(&self, source: Option<&Source>, timeout: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(timeout).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut fds = vec![PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN)];
        let sources = source.map(Source::fds).unwrap_or_default();
        fds.extend(
            sources
                .into_iter()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
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

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(9);

    /// Drains at these ms, each with that many records; what was told to the programs and how the
    /// reader waits after each.
    fn check<const N: usize>(drains: [(u64, usize); N], expected: [(Option<bool>, Wait); N]) {
        let (start, mut rest) = (Instant::now(), Rest::default());
        let waits = drains.map(|(ms, count)| {
            let (now, mut told) = (start + Duration::from_millis(ms), None);
            rest.note(now, count);
            let wait = rest.next(now, LONG, |napping| told = Some(napping));
            (told, wait)
        });
        assert_eq!(waits, expected);
    }

    #[test]
    fn programs_know_when_the_reader_naps() {
        let (nap, settling) = (Wait::Nap(NAP), Wait::Records(SETTLE));
        check(
            [(0, 1), (1, 1), (3, 9), (5, 0)],
            [
                (None, Wait::Records(LONG)),
                (Some(true), nap),
                (None, nap),
                (Some(false), settling),
            ],
        );
    }

    /// A ring in which one record is being filled.
    struct Filling;

    impl Memory for Filling {
        fn size(&self) -> usize {
            64
        }

        fn reserved(&self) -> u64 {
            16
        }

        fn length_word(&self, _: usize) -> u32 {
            1 << 31
        }

        fn bytes(&self, _: usize, _: usize) -> &[u8] {
            unreachable!("nobody reads what is being filled")
        }

        fn release(&self, _: u64) {}
    }

    /// `poll` counts it as there, so that the reader span until its writer was scheduled.
    #[test]
    fn record_that_is_being_filled_is_not_waited_for_by_its_being_there() {
        let mut waiter = Waiter::new().unwrap();
        let mut next = |ring: &mut Ring<_>| {
            waiter.drain_ring(ring, |_| ());
            assert!(!waiter.behind);
            let tell = |napping| panic!("a short nap is told to nobody: {napping}");
            waiter.rest.next(Instant::now(), LONG, tell)
        };
        assert_eq!(next(&mut Ring::new(Filling, 0)), Wait::Nap(FILLING));
        let empty = &mut Ring::new(Filling, 16);
        assert_eq!(next(empty), Wait::Records(LONG));
    }

    #[test]
    fn waits_soon_after_a_nap_are_short() {
        let settling = Wait::Records(SETTLE);
        check(
            [(0, 1), (1, 1), (3, 0), (22, 0), (23, 0), (99, 1)],
            [
                (None, Wait::Records(LONG)),
                (Some(true), Wait::Nap(NAP)),
                (Some(false), settling),
                (None, settling),
                (None, Wait::Records(LONG)),
                (None, Wait::Records(LONG)),
            ],
        );
    }
}
