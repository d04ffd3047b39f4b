//! Ending on a signal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event::sensor::Waker;

use crate::exit::Code;

/// Set by the first SIGINT, SIGTERM or SIGHUP (Ctrl-C on Windows).
///
/// A SIGHUP that was ignored when we were started stays ignored, as `nohup` wants it; told on Linux
/// only, elsewhere it ends us. One that does not come of the end of our terminal is a service
/// manager's or an operator's wish that settings are read anew, if there are any.
pub(crate) struct Stop {
    requested: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Stop {
    /// Listens for signals; every one calls `wake`. It starts a thread: call it after rights are
    /// given up.
    pub(crate) fn on_signal(wake: Waker) -> anyhow::Result<Self> {
        Self::or_reload(wake, None)
    }

    /// As [`Stop::on_signal`], with something to be read anew.
    pub(crate) fn or_reload(wake: Waker, reload: Option<Reload>) -> anyhow::Result<Self> {
        let stop = Self {
            requested: Arc::default(),
            over: Arc::default(),
        };
        let (requested, over) = (Arc::clone(&stop.requested), Arc::clone(&stop.over));
        listen(reload, move || {
            if over.load(Ordering::Acquire) {
                std::process::exit(Code::Failure as i32);
            }
            requested.store(true, Ordering::Release);
            wake();
        })?;
        Ok(stop)
    }

    pub(crate) fn requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Everything is safe on disk: the next signal ends the process at once, whatever still blocks
    /// it (a standard error that nobody reads).
    pub(crate) fn work_is_over(&self) {
        self.over.store(true, Ordering::Release);
    }
}

/// Reads settings anew.
pub(crate) type Reload = Box<dyn Fn() + Send>;

#[cfg(windows)]
fn listen(_: Option<Reload>, on_signal: impl FnMut() + Send + 'static) -> anyhow::Result<()> {
    use anyhow::Context;

    ctrlc::set_handler(on_signal).context("installing the signal handler")
}

#[cfg(unix)]
fn listen(
    reload: Option<Reload>,
    on_signal: impl Fn() + Send + Sync + 'static,
) -> anyhow::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

    let on_signal = Arc::new(on_signal);
    let stop = Arc::clone(&on_signal);
    on_each(&[SIGINT, SIGTERM], "signals", move || stop())?;
    if hangup_is_ignored() {
        return Ok(());
    }
    let terminal = Terminal::at_start();
    // Apart from the others: signals of one kind may become one, those of two must not.
    on_each(&[SIGHUP], "hang-ups", move || match &reload {
        Some(reload) if !terminal.is_gone() => reload(),
        _ => on_signal(),
    })
}

/// Calls `act` on each of the signals, on a thread of its own.
#[cfg(unix)]
fn on_each(signals: &[i32], name: &str, act: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    use std::io::Read;

    use anyhow::Context;

    // Not signal-hook's own iterator: it makes sockets, which are refused to us by now.
    let (mut read, written) = std::io::pipe().context("making a pipe for signals")?;
    for signal in signals {
        let end = written
            .try_clone()
            .context("sharing the pipe for signals")?;
        signal_hook::low_level::pipe::register(*signal, end)
            .context("installing the signal handler")?;
    }
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            while read.read_exact(&mut [0]).is_ok() {
                act();
            }
        })
        .context("starting the thread for signals")?;
    Ok(())
}

/// The terminal that controls us, if one did when we started.
#[cfg(unix)]
struct Terminal {
    was_there: bool,
}

#[cfg(unix)]
impl Terminal {
    fn at_start() -> Self {
        Self {
            was_there: Self::opens(),
        }
    }

    fn is_gone(&self) -> bool {
        self.was_there && !Self::opens()
    }

    /// Fails for a session without a terminal, and for one whose terminal was hung up.
    fn opens() -> bool {
        std::fs::File::open("/dev/tty").is_ok()
    }
}

/// False also where it cannot be known.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores_hangup(&status)
}

/// Reads the mask of ignored signals out of `/proc/<pid>/status`: hexadecimal, bit n−1 for signal
/// n, and SIGHUP is 1.
#[cfg(unix)]
fn ignores_hangup(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}

#[cfg(all(test, unix))]
mod tests {
    use super::ignores_hangup;

    #[test]
    fn an_inherited_ignore_of_sighup_is_read_from_the_mask() {
        let check = |status, expected| assert_eq!(ignores_hangup(status), expected, "{status}");
        check(
            "Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n",
            true,
        );
        check(
            "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n",
            false,
        );
        check("SigIgn:\tzz\n", false);
        check("", false);
    }
}
