//! Digests by file.

use std::collections::HashMap;

use event::{Digest, FileIdentity};

use crate::slots::{List, Slots};

/// Names the content of a file: whatever is written to it changes its ctime, which nobody can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileKey {
    device: u32,
    inode: u64,
    size: u64,
    mtime: u64,
    ctime: u64,
}

impl FileKey {
    pub(super) fn of(file: &FileIdentity) -> Self {
        Self {
            device: file.device,
            inode: file.inode,
            size: file.size,
            mtime: file.mtime,
            ctime: file.ctime,
        }
    }

    /// Whether it says enough to be relied on: a mtime alone can be set back.
    pub(super) fn is_complete(&self) -> bool {
        self.ctime != 0 && self.size != 0
    }

    /// What became of it, as far as this one tells; `now` is a complete one.
    pub(super) fn change(&self, now: &Self) -> Change {
        let known = |told: u64, now: u64| told == 0 || told == now;
        let same = (self.device, self.inode, self.mtime) == (now.device, now.inode, now.mtime);
        match (same && known(self.size, now.size), self.ctime) {
            (false, _) => Change::Written,
            (true, ctime) if known(ctime, now.ctime) => Change::None,
            (true, _) => Change::Touched,
        }
    }
}

/// What became of a file between two looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    None,
    /// Only its ctime moved: chmod, chown and links do that, and a write whose mtime was set back.
    Touched,
    Written,
}

impl Change {
    pub(super) fn digest(self, sha256: [u8; 32]) -> Digest {
        Digest {
            sha256,
            changed: self == Self::Written,
            touched: self == Self::Touched,
        }
    }
}

/// Bounded by count: those longest unused go first.
#[derive(Debug)]
pub(super) struct Cache {
    limit: usize,
    index: HashMap<FileKey, u32>,
    slots: Slots<(FileKey, [u8; 32])>,
    /// Least recently used first.
    used: List,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            index: HashMap::new(),
            slots: Slots::default(),
            used: List::default(),
        }
    }

    pub(super) fn get(&mut self, key: &FileKey) -> Option<[u8; 32]> {
        let slot = *self.index.get(key)?;
        self.used.remove(slot, &mut self.slots);
        self.used.push_back(slot, &mut self.slots);
        Some(self.slots.get(slot).1)
    }

    pub(super) fn insert(&mut self, key: FileKey, sha256: [u8; 32]) {
        if let Some(slot) = self.index.get(&key) {
            self.slots.get_mut(*slot).1 = sha256;
            return;
        }
        let slot = self.slots.insert((key, sha256));
        self.used.push_back(slot, &mut self.slots);
        self.index.insert(key, slot);
        while self.index.len() > self.limit
            && let Some(oldest) = self.used.front()
        {
            self.used.remove(oldest, &mut self.slots);
            let (key, _) = self.slots.remove(oldest);
            self.index.remove(&key);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(inode: u64) -> FileKey {
        FileKey::of(&FileIdentity {
            inode,
            size: 1,
            ctime: 1,
            ..FileIdentity::default()
        })
    }

    #[test]
    fn longest_unused_digest_goes_first() {
        let mut cache = Cache::new(2);
        cache.insert(key(1), [1; 32]);
        cache.insert(key(2), [2; 32]);
        assert_eq!(cache.get(&key(1)), Some([1; 32]));
        cache.insert(key(3), [3; 32]);
        assert_eq!(cache.get(&key(2)), None);
        assert_eq!(cache.get(&key(1)), Some([1; 32]));
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn file_with_its_mtime_set_back_is_another_one() {
        let was = FileIdentity {
            inode: 1,
            size: 10,
            mtime: 5,
            ctime: 7,
            ..FileIdentity::default()
        };
        let now = FileIdentity { ctime: 8, ..was };
        let mut cache = Cache::new(2);
        cache.insert(FileKey::of(&was), [1; 32]);
        assert_eq!(cache.get(&FileKey::of(&now)), None);
        let change = FileKey::of(&was).change(&FileKey::of(&now));
        assert_eq!(change, Change::Touched);
    }

    #[test]
    fn what_the_source_cannot_tell_fits_anything() {
        let now = FileIdentity {
            inode: 1,
            size: 10,
            mtime: 5,
            ctime: 7,
            ..FileIdentity::default()
        };
        let told = FileIdentity {
            size: 0,
            ctime: 0,
            ..now
        };
        let change = |told| FileKey::of(told).change(&FileKey::of(&now));
        assert_eq!(change(&told), Change::None);
        assert!(!FileKey::of(&told).is_complete());
        let other = FileIdentity { mtime: 6, ..told };
        assert_eq!(change(&other), Change::Written);
    }
}
