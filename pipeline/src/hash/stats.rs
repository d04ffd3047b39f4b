use event::{Digest, HashFailure};

use crate::Balance;

/// Counters of hashing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HashStats {
    /// Execs that took their digest from the cache.
    pub cached: u64,
    /// Execs whose file was read while they waited for their place in the order.
    pub in_time: u64,
    /// [`event::Hashed`] events: seen are the execs that left without a digest, held those that
    /// wait for theirs, delivered the events that followed.
    pub later: Balance,
    /// Failures among those events, by [`HashFailure::ALL`].
    pub failed: [u64; HashFailure::ALL.len()],
    /// Digests of files that had changed since their exec.
    pub changed: u64,
    /// … and of files of which only the ctime had moved.
    pub touched: u64,
    /// Files read to their end.
    pub files_read: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Digests in the cache.
    pub cache: u64,
}

impl HashStats {
    pub(super) fn mark(&mut self, digest: &Digest) {
        self.changed += u64::from(digest.changed);
        self.touched += u64::from(digest.touched);
    }

    pub(super) fn fail(&mut self, failure: HashFailure) {
        let place = HashFailure::ALL.iter().position(|known| *known == failure);
        if let Some(place) = place {
            self.failed[place] += 1;
        }
    }
}
