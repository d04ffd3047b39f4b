use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use event::sensor::Waker;

/// A wait that can be cut short from another thread. A wake without a waiter is kept for the next.
#[derive(Default)]
pub(crate) struct Wake {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    /// Waits until `until` or a wake, and tells whether it was a wake.
    pub(crate) fn wait_until(&self, until: Instant) -> bool {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        while !*woken {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(woken, left);
            woken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *woken = false;
        true
    }

    fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}

pub(crate) fn waker(wake: &Arc<Wake>) -> Waker {
    let wake = Arc::clone(wake);
    Arc::new(move || wake.wake())
}
