//! A line on a terminal that tells how far the ledger's verification is.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use ledger::Progress;

/// What takes less is not told of.
const QUIET: Duration = Duration::from_millis(500);

/// Between two lines.
const PACE: Duration = Duration::from_millis(100);

const BAR_COLUMNS: u64 = 24;

/// Drawn on standard error, if that is a terminal, and taken away when dropped.
pub(crate) struct ProgressLine {
    is_terminal: bool,
    start: Instant,
    drawn: Option<Instant>,
}

impl ProgressLine {
    pub(crate) fn new() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
            start: Instant::now(),
            drawn: None,
        }
    }

    pub(crate) fn show(&mut self, progress: Progress) {
        let elapsed = self.start.elapsed();
        let is_recent = self.drawn.is_some_and(|drawn| drawn.elapsed() < PACE);
        if !self.is_terminal || elapsed < QUIET || is_recent {
            return;
        }
        self.drawn = Some(Instant::now());
        self.write(&line(progress, elapsed));
    }

    /// In place of what stands on the line.
    fn write(&self, text: &str) {
        // A closed standard error must not stop the work.
        let _ = write!(io::stderr().lock(), "\r\x1b[K{text}");
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            self.write("");
        }
    }
}

fn line(progress: Progress, elapsed: Duration) -> String {
    let Progress {
        entries,
        bytes,
        total_bytes,
        ..
    } = progress;
    let of = |whole: u64| {
        let part = u128::from(bytes) * u128::from(whole) / u128::from(total_bytes.max(1));
        u64::try_from(part).unwrap_or(whole).min(whole)
    };
    let done = usize::try_from(of(BAR_COLUMNS)).unwrap_or(0);
    let bar = "=".repeat(done);
    let percent = of(100);
    let seconds = elapsed.as_secs_f64();
    let rate = bytes as f64 / seconds / 1e6;
    let left = total_bytes.saturating_sub(bytes) as f64 / (bytes.max(1) as f64 / seconds);
    let columns = usize::try_from(BAR_COLUMNS).unwrap_or(0);
    format!("[{bar:<columns$}] {percent:>3} %, {entries} entries, {rate:.0} MB/s, {left:.0} s left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_how_far_it_is_and_how_long_it_takes() {
        let check = |bytes, expected: &str| {
            let progress = Progress {
                entries: 7,
                sealed: 0,
                bytes,
                total_bytes: 400_000_000,
            };
            assert_eq!(line(progress, Duration::from_secs(2)), expected);
        };
        check(
            100_000_000,
            "[======                  ]  25 %, 7 entries, 50 MB/s, 6 s left",
        );
        check(
            400_000_000,
            "[========================] 100 %, 7 entries, 200 MB/s, 0 s left",
        );
    }
}
