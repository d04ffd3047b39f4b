//! Entries by key within a number of bytes.

use std::collections::{BTreeMap, HashMap};

/// Memory of one rule.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// What an entry takes besides its value, about: places in two maps that are half empty after they
/// have grown, and what the allocator keeps for itself.
const ENTRY_BYTES: usize = 144;

/// What the allocator keeps for itself with each piece of memory, about.
pub(super) const ALLOCATION_BYTES: usize = 16;

/// Entries of one rule. Beyond [`MAX_BYTES`] the one that was not touched for longest goes first.
#[derive(Debug)]
pub(super) struct Store<V> {
    /// Boxed, since the map has room for twice as many.
    entries: HashMap<u64, Box<Entry<V>>>,
    /// Keys by when they were touched last; the serial makes them unique.
    order: BTreeMap<(u64, u64), u64>,
    serial: u64,
    bytes: usize,
    evicted: u64,
    last_evicted: Option<u64>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    touched: (u64, u64),
}

/// What knows how much memory it takes.
pub(super) trait Weigh {
    /// About, in bytes.
    fn bytes(&self) -> usize;
}

impl<V> Default for Store<V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            serial: 0,
            bytes: 0,
            evicted: 0,
            last_evicted: None,
        }
    }
}

impl<V: Weigh> Store<V> {
    /// Takes an entry out.
    pub(super) fn take(&mut self, key: u64) -> Option<V> {
        let entry = self.entries.remove(&key)?;
        self.order.remove(&entry.touched);
        self.bytes -= entry.bytes;
        Some(entry.value)
    }

    /// Puts an entry in the place of any other of its key.
    pub(super) fn put(&mut self, key: u64, now: u64, value: V) {
        self.take(key);
        self.serial += 1;
        let entry = Box::new(Entry {
            bytes: value.bytes() + ENTRY_BYTES,
            touched: (now, self.serial),
            value,
        });
        self.bytes += entry.bytes;
        self.order.insert(entry.touched, key);
        self.entries.insert(key, entry);
        while self.bytes > MAX_BYTES {
            self.evict(now);
        }
    }

    fn evict(&mut self, now: u64) {
        if let Some((_, &key)) = self.order.first_key_value() {
            self.take(key);
            self.count_evicted(now);
        }
    }

    /// Something was given up.
    pub(super) fn count_evicted(&mut self, now: u64) {
        self.evicted += 1;
        self.last_evicted = Some(now);
    }

    /// Forgets what was not touched since `time`.
    pub(super) fn expire(&mut self, time: u64) {
        while let Some((&(touched, _), &key)) = self.order.first_key_value()
            && touched < time
        {
            self.take(key);
        }
    }

    /// Something was evicted at `time` or after it.
    pub(super) fn evicted_since(&self, time: u64) -> bool {
        self.last_evicted.is_some_and(|last| last >= time)
    }

    pub(super) fn get(&self, key: u64) -> Option<&V> {
        self.entries.get(&key).map(|entry| &entry.value)
    }

    /// Entries, bytes, and entries evicted so far.
    pub(super) fn memory(&self) -> (usize, usize, u64) {
        (self.entries.len(), self.bytes, self.evicted)
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, Store, Weigh};

    #[derive(Debug, PartialEq)]
    struct Heavy(usize);

    impl Weigh for Heavy {
        fn bytes(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn the_entry_that_was_not_touched_for_longest_is_evicted() {
        let mut store = Store::default();
        for key in 0..4 {
            store.put(key, key, Heavy(MAX_BYTES / 5));
        }
        let touched = store.take(0).unwrap();
        store.put(0, 4, touched);
        assert_eq!(store.memory().2, 0);
        store.put(9, 5, Heavy(MAX_BYTES / 5));
        assert_eq!((store.memory().0, store.memory().2), (4, 1));
        assert!(store.evicted_since(5) && !store.evicted_since(6));
        assert_eq!(store.take(1), None);
        assert_eq!(store.take(0), Some(Heavy(MAX_BYTES / 5)));
    }

    #[test]
    fn no_entry_is_larger_than_the_bound() {
        let mut store = Store::default();
        store.put(1, 0, Heavy(MAX_BYTES + 1));
        assert_eq!(store.memory(), (0, 0, 1));
    }

    #[test]
    fn what_is_old_is_forgotten_without_being_evicted() {
        let mut store = Store::default();
        store.put(1, 10, Heavy(1));
        store.put(2, 20, Heavy(1));
        store.expire(20);
        assert_eq!((store.memory().0, store.memory().2), (1, 0));
        store.take(2);
        assert_eq!(store.memory(), (0, 0, 0));
    }
}
