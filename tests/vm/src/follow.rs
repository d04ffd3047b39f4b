//! Reads a recording while it is written: what comes when.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use event::Event;
use event::wire::RecordingReader;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::time::{ClockId, clock_gettime};

/// The events of a recording, each as soon as it is in the file.
#[derive(Debug)]
pub struct Follow(RecordingReader<BufReader<Tail>>);

impl Follow {
    /// From the first event on.
    ///
    /// # Errors
    /// It cannot be read or watched, or is no recording.
    pub fn open(path: &Path) -> Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC)?;
        inotify::add_watch(&inotify, path, WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE)?;
        let file = File::open(path).with_context(|| format!("no {}", path.display()))?;
        let tail = Tail {
            file,
            inotify,
            closed: false,
        };
        Ok(Self(RecordingReader::new(BufReader::new(tail))?))
    }

    /// The next event, waiting for it; `None` once the writer has closed the file.
    ///
    /// # Errors
    /// The recording is damaged or cut.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        Ok(self.0.next()?)
    }
}

/// How long ago an event happened.
#[must_use]
pub fn age(event: &Event) -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let now = Duration::try_from(now).unwrap_or_default();
    now.saturating_sub(Duration::from_nanos(event.header.time.0))
}

/// A file whose end is where its writer closes it.
#[derive(Debug)]
struct Tail {
    file: File,
    inotify: OwnedFd,
    closed: bool,
}

impl Read for Tail {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // What was written before the file was closed is there to read afterwards.
            let closed = self.closed;
            let count = self.file.read(buffer)?;
            if count > 0 || closed {
                return Ok(count);
            }
            self.wait()?;
        }
    }
}

impl Tail {
    fn wait(&mut self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 512];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = reader.next()?;
            self.closed |= event.events().contains(ReadFlags::CLOSE_WRITE);
            if reader.is_buffer_empty() {
                return Ok(());
            }
        }
    }
}
