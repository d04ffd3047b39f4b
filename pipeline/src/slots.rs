//! Values in numbered slots, and lists of slots in some order. A slot is in one list at a time.

/// Values that keep their number until they are removed; numbers are used again.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    previous: Option<u32>,
    next: Option<u32>,
    value: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slots<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let slot = Slot {
            previous: None,
            next: None,
            value: Some(value),
        };
        if let Some(number) = self.free.pop() {
            *self.slot(number) = slot;
            return number;
        }
        self.slots.push(slot);
        u32::try_from(self.slots.len() - 1).expect("the table's limit is far below 2^32 entries")
    }

    pub(crate) fn get(&self, number: u32) -> &T {
        self.slots[number as usize]
            .value
            .as_ref()
            .expect("numbers in use come from insert")
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> &mut T {
        self.slot(number)
            .value
            .as_mut()
            .expect("numbers in use come from insert")
    }

    /// The slot must be in no list.
    pub(crate) fn remove(&mut self, number: u32) -> T {
        self.free.push(number);
        self.slot(number)
            .value
            .take()
            .expect("numbers in use come from insert")
    }

    fn slot(&mut self, number: u32) -> &mut Slot<T> {
        &mut self.slots[number as usize]
    }
}

/// A doubly linked list: everything in constant time.
#[derive(Debug, Default)]
pub(crate) struct List {
    first: Option<u32>,
    last: Option<u32>,
}

impl List {
    pub(crate) fn front(&self) -> Option<u32> {
        self.first
    }

    pub(crate) fn push_back<T>(&mut self, number: u32, slots: &mut Slots<T>) {
        let slot = slots.slot(number);
        (slot.previous, slot.next) = (self.last, None);
        match self.last {
            Some(last) => slots.slot(last).next = Some(number),
            None => self.first = Some(number),
        }
        self.last = Some(number);
    }

    /// The slot must be in this list.
    pub(crate) fn remove<T>(&mut self, number: u32, slots: &mut Slots<T>) {
        let slot = slots.slot(number);
        let (previous, next) = (slot.previous.take(), slot.next.take());
        match previous {
            Some(previous) => slots.slot(previous).next = next,
            None => self.first = next,
        }
        match next {
            Some(next) => slots.slot(next).previous = previous,
            None => self.last = previous,
        }
    }
}
