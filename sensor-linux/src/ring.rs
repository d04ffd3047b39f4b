//! The user side of the kernel's ring buffer. Pure: the memory is behind a trait.
//!
//! Two positions only ever grow; their remainder by the ring's size is a place in it. Each record
//! begins with a word that holds its length, a bit while it is being filled and a bit if it was given
//! up, then 4 bytes of the kernel's own, then its bytes, up to the next multiple of 8.
//! <https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/ringbuf.c#L399>
//!
//! libbpf and aya map the data twice, one after the other, so that a record that wraps is whole. Linux
//! counts pages as often as they are mapped. Here they are mapped once, and a record that wraps is put
//! together in a buffer: with records of about a KiB that is one in thousands.

/// Before each record.
const HEADER: usize = 8;

/// A bit of the length: the record is being filled.
const BUSY: u32 = 1 << 31;

/// A bit of the length: the record was given up.
const DISCARDED: u32 = 1 << 30;

/// The memory of a ring.
pub(crate) trait Memory {
    /// Bytes of data, a power of two.
    fn size(&self) -> usize;

    /// Up to where room was reserved. Lengths of the records before it are seen after this.
    fn reserved(&self) -> u64;

    /// The first word of a record's header, at a multiple of 8; 0 outside the ring. What the kernel
    /// wrote before it is seen after this.
    fn length_word(&self, at: usize) -> u32;

    /// Bytes of a record that is filled and was not released; none where they are not all in the ring.
    fn bytes(&self, at: usize, len: usize) -> &[u8];

    /// Gives everything before the position back.
    fn release(&self, position: u64);
}

/// Reads a ring.
pub(crate) struct Ring<M> {
    memory: M,
    position: u64,
    /// A record that wraps. Grows to the longest.
    joined: Vec<u8>,
}

/// What stands at the head of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// A record, which was handed out.
    Record,
    /// One that is being filled. The kernel counts it among what there is to read.
    Busy,
    /// Nothing.
    Empty,
}

/// A record's header, as far as it can be true.
enum Header {
    Filled {
        len: usize,
    },
    Discarded {
        len: usize,
    },
    Busy,
    /// The record would reach beyond what was reserved.
    Impossible,
}

impl<M: Memory> Ring<M> {
    /// Reads on from a position, 0 in a new ring.
    pub(crate) fn new(memory: M, position: u64) -> Self {
        Self {
            memory,
            position,
            joined: Vec::new(),
        }
    }

    /// Hands the oldest record to `each` and gives its room back, if it is complete.
    ///
    /// A length that cannot be is the end of all that is in the ring, since nobody knows where the
    /// next record begins; for it `each` gets an empty record, which none is.
    pub(crate) fn read(&mut self, each: impl FnOnce(&[u8])) -> Head {
        loop {
            let reserved = self.memory.reserved();
            if reserved == self.position {
                return Head::Empty;
            }
            match self.header(reserved) {
                Header::Busy => return Head::Busy,
                Header::Discarded { len } => self.release(self.after(len)),
                Header::Filled { len } => {
                    let after = self.after(len);
                    each(self.record(len));
                    self.release(after);
                    return Head::Record;
                }
                Header::Impossible => {
                    each(&[]);
                    self.release(reserved);
                    return Head::Record;
                }
            }
        }
    }

    fn header(&self, reserved: u64) -> Header {
        let word = self.memory.length_word(self.place(self.position));
        if word & BUSY != 0 {
            return Header::Busy;
        }
        let len = (word & !DISCARDED) as usize;
        let there = reserved.wrapping_sub(self.position);
        if there > self.memory.size() as u64 || room(len) > there {
            Header::Impossible
        } else if word & DISCARDED != 0 {
            Header::Discarded { len }
        } else {
            Header::Filled { len }
        }
    }

    /// The bytes of the record at the position, whose length was checked.
    fn record(&mut self, len: usize) -> &[u8] {
        let at = self.place(self.position.wrapping_add(HEADER as u64));
        let first = len.min(self.memory.size() - at);
        if first == len {
            return self.memory.bytes(at, len);
        }
        self.joined.clear();
        self.joined.extend_from_slice(self.memory.bytes(at, first));
        self.joined
            .extend_from_slice(self.memory.bytes(0, len - first));
        &self.joined
    }

    /// Where the record after one of `len` bytes begins.
    fn after(&self, len: usize) -> u64 {
        self.position.wrapping_add(room(len))
    }

    fn release(&mut self, position: u64) {
        self.position = position;
        self.memory.release(position);
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "less than the size, which is a usize"
    )]
    fn place(&self, position: u64) -> usize {
        (position & (self.memory.size() as u64 - 1)) as usize
    }
}

/// What a record of `len` bytes takes up.
fn room(len: usize) -> u64 {
    (len as u64 + HEADER as u64).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = 64;

    /// A ring in memory, and what the kernel does with it.
    struct Simulated {
        data: [u8; SIZE],
        reserved: u64,
        released: Cell<u64>,
    }

    impl Memory for Simulated {
        fn size(&self) -> usize {
            SIZE
        }

        fn reserved(&self) -> u64 {
            self.reserved
        }

        fn length_word(&self, at: usize) -> u32 {
            u32::from_le_bytes(self.data[at..at + 4].try_into().unwrap())
        }

        fn bytes(&self, at: usize, len: usize) -> &[u8] {
            &self.data[at..at + len]
        }

        fn release(&self, position: u64) {
            self.released.set(position);
        }
    }

    /// An empty ring whose next record begins at a position.
    fn ring(position: u64) -> Ring<Simulated> {
        let memory = Simulated {
            data: [0xee; SIZE],
            reserved: position,
            released: Cell::new(position),
        };
        Ring::new(memory, position)
    }

    impl Ring<Simulated> {
        fn put(&mut self, at: u64, bytes: &[u8]) {
            for (i, byte) in bytes.iter().enumerate() {
                let place = self.place(at.wrapping_add(i as u64));
                self.memory.data[place] = *byte;
            }
        }

        /// Sets the length word of the record at a position.
        fn mark(&mut self, at: u64, word: usize, bits: u32) {
            let word = u32::try_from(word).unwrap() | bits;
            self.put(at, &word.to_le_bytes());
        }

        /// Reserves and fills a record; its position. `None` if there is no room.
        fn write(&mut self, bytes: &[u8], bits: u32) -> Option<u64> {
            let at = self.memory.reserved;
            let after = at.wrapping_add(room(bytes.len()));
            if after.wrapping_sub(self.memory.released.get()) >= SIZE as u64 {
                return None;
            }
            self.mark(at, bytes.len(), bits);
            self.put(at.wrapping_add(HEADER as u64), bytes);
            self.memory.reserved = after;
            Some(at)
        }

        fn take(&mut self) -> Option<Vec<u8>> {
            let mut taken = None;
            let head = self.read(|record| taken = Some(record.to_vec()));
            assert_eq!(head == Head::Record, taken.is_some());
            taken
        }

        fn is_empty(&self) -> bool {
            self.memory.released.get() == self.memory.reserved
        }
    }

    #[test]
    fn a_record_is_whole_wherever_it_wraps() {
        // Also where the positions themselves begin anew.
        for start in (0..SIZE as u64)
            .chain(u64::MAX - SIZE as u64..=u64::MAX)
            .filter(|start| start % 8 == 0)
        {
            for len in 0..=SIZE - 2 * HEADER {
                let bytes: Vec<u8> = (1..).take(len).collect();
                let mut ring = ring(start);
                ring.write(&bytes, 0).expect("room");
                assert_eq!(ring.take(), Some(bytes), "{len} bytes at {start}");
                assert!(ring.is_empty());
                assert_eq!(ring.take(), None);
            }
        }
    }

    #[test]
    fn room_is_given_back_once_the_record_was_read() {
        let mut ring = ring(0);
        ring.write(b"first", 0).expect("room");
        ring.write(b"second", 0).expect("room");
        let before = ring.memory.released.get();
        assert_eq!(ring.take().as_deref(), Some(&b"first"[..]));
        assert_eq!(ring.memory.released.get() - before, 16);
        assert_eq!(ring.take().as_deref(), Some(&b"second"[..]));
    }

    #[test]
    fn nothing_overtakes_a_record_that_is_being_filled() {
        let mut ring = ring(40);
        let busy = ring.write(b"slow", BUSY).expect("room");
        ring.write(b"fast", 0).expect("room");
        assert_eq!(ring.read(|_| ()), Head::Busy);
        assert_eq!(ring.memory.released.get(), 40);
        ring.mark(busy, 4, 0);
        assert_eq!(ring.take().as_deref(), Some(&b"slow"[..]));
        assert_eq!(ring.take().as_deref(), Some(&b"fast"[..]));
        assert_eq!(ring.read(|_| ()), Head::Empty);
    }

    #[test]
    fn what_was_given_up_is_passed_over_and_its_room_given_back() {
        let mut ring = ring(48);
        ring.write(b"none", DISCARDED).expect("room");
        ring.write(b"nor this", DISCARDED).expect("room");
        assert_eq!(ring.take(), None);
        assert!(ring.is_empty());
        ring.write(b"none", DISCARDED).expect("room");
        ring.write(b"one", 0).expect("room");
        assert_eq!(ring.take().as_deref(), Some(&b"one"[..]));
    }

    #[test]
    fn a_length_that_cannot_be_ends_what_is_there_and_not_what_follows() {
        let check = |word: usize, bits: u32| {
            let mut ring = ring(16);
            let at = ring.write(b"record", 0).expect("room");
            ring.write(b"behind it", 0).expect("room");
            ring.mark(at, word, bits);
            assert_eq!(ring.take().as_deref(), Some(&b""[..]), "{word}");
            assert!(ring.is_empty());
            ring.write(b"later", 0).expect("room");
            assert_eq!(ring.take().as_deref(), Some(&b"later"[..]));
        };
        // Beyond what was reserved by a byte, beyond the ring, the longest.
        for word in [33, SIZE, SIZE * 2, (1 << 30) - 1] {
            check(word, 0);
            check(word, DISCARDED);
        }
    }

    #[test]
    fn positions_that_cannot_be_read_nothing_outside() {
        for reserved in [0, 8, 200, 1 << 40, u64::MAX] {
            let mut ring = ring(96);
            ring.memory.reserved = reserved;
            ring.mark(96, 5, 0);
            assert_eq!(ring.take().as_deref(), Some(&b""[..]), "{reserved}");
            assert_eq!(ring.take(), None);
        }
    }

    proptest! {
        #[test]
        fn records_come_out_as_they_went_in(
            start in 0u64..SIZE as u64 / 8,
            records in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 0..40), any::<bool>(), 0usize..3),
                0..40,
            ),
        ) {
            let mut ring = ring(start * 8);
            let mut inside = std::collections::VecDeque::new();
            for (bytes, discarded, reads) in records {
                let bits = if discarded { DISCARDED } else { 0 };
                if ring.write(&bytes, bits).is_some() && !discarded {
                    inside.push_back(bytes);
                }
                for _ in 0..reads {
                    prop_assert_eq!(ring.take(), inside.pop_front());
                }
            }
            while let Some(bytes) = inside.pop_front() {
                prop_assert_eq!(ring.take(), Some(bytes));
            }
            prop_assert_eq!(ring.take(), None);
        }

        #[test]
        fn arbitrary_memory_is_read_to_its_end(
            data in any::<[[u8; 32]; SIZE / 32]>(),
            position in any::<u64>(),
            ahead in 0u64..SIZE as u64 * 2,
        ) {
            let mut ring = ring(position & !7);
            ring.memory.data.copy_from_slice(data.as_flattened());
            ring.memory.reserved = (position & !7).wrapping_add(ahead & !7);
            // Each step goes on by a header at least, or stands before a record that is busy.
            for _ in 0..=SIZE / HEADER {
                ring.take();
            }
            prop_assert_eq!(ring.take(), None);
        }
    }
}
