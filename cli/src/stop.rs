//! Ending on a signal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use event::sensor::Waker;

/// Set by the first SIGINT, SIGTERM or SIGHUP (Ctrl-C on Windows).
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Installs the handler, which also calls `wake`. It starts a thread: call it after rights are
    /// given up.
    pub(crate) fn on_signal(wake: Waker) -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        let set = Arc::clone(&flag);
        ctrlc::set_handler(move || {
            set.store(true, Ordering::Release);
            wake();
        })
        .context("installing the signal handler")?;
        Ok(Self(flag))
    }

    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
