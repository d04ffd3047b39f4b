//! Ctrl-C ends a benchmark in order: what was started or set on this host is undone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on signals only set a flag. What we started gets them as well.
pub(super) fn watch() -> Result<()> {
    let flag = REQUESTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// An error once we were asked to end.
pub(super) fn check() -> Result<()> {
    let requested = REQUESTED.get().is_some_and(|f| f.load(Ordering::Relaxed));
    ensure!(!requested, "interrupted");
    Ok(())
}

/// Sleeps unless and until we are asked to end.
pub(super) fn sleep(duration: Duration) -> Result<()> {
    let deadline = Instant::now() + duration;
    loop {
        check()?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(200)));
    }
}
