use std::io::Read;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use event::sensor::{BatchEnd, Waker};
use event::wire::RecordingReader;
use event::{Capabilities, Event, EventKind, Sensor, SensorError, Stats};

use crate::Error;

/// A recording as a sensor: events as they were recorded, with their times, without waiting.
///
/// A damaged recording gives every whole event before the damage, then an error that names the
/// place and the cause, then nothing more.
pub struct ReplaySensor<R: Read + Send> {
    reader: RecordingReader<R>,
    /// Read ahead, to find where the snapshot ends.
    ahead: Option<Event>,
    end: Option<End>,
    capabilities: Capabilities,
    stats: Stats,
}

enum End {
    Clean,
    Broken(Error),
}

/// Events in one batch.
const BATCH: usize = 1024;

impl<R: Read + Send> ReplaySensor<R> {
    /// Reads the head of the recording.
    ///
    /// # Errors
    /// It is no recording, or one of a newer version.
    pub fn open(reader: R) -> Result<Self, Error> {
        Ok(Self {
            reader: RecordingReader::new(reader)?,
            ahead: None,
            end: None,
            capabilities: Capabilities {
                sensor: "replay",
                event_driven: true,
                forks: true,
                exit_status: true,
                absent: Vec::new(),
            },
            stats: Stats::default(),
        })
    }

    fn next(&mut self) -> Option<Event> {
        self.ahead.take().or_else(|| self.read())
    }

    fn read(&mut self) -> Option<Event> {
        if self.end.is_some() {
            return None;
        }
        match self.reader.next() {
            Ok(Some(event)) => {
                self.stats.seen += counted(&event);
                return Some(event);
            }
            Ok(None) => self.end = Some(End::Clean),
            Err(error) => self.end = Some(End::Broken(error.into())),
        }
        None
    }

    fn deliver(&mut self, event: Event, out: &mut Vec<Event>) {
        self.stats.delivered += counted(&event);
        out.push(event);
    }
}

/// `Lost` events are not counted, as for every sensor.
fn counted(event: &Event) -> u64 {
    u64::from(!matches!(event.kind, EventKind::Lost(_)))
}

impl<R: Read + Send> Sensor for ReplaySensor<R> {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The rows at the head of the recording. Damage found here is reported by `next_batch`.
    fn snapshot(&mut self, out: &mut Vec<Event>) -> Result<(), SensorError> {
        while let Some(event) = self.next() {
            if !matches!(event.kind, EventKind::Snapshot(_)) {
                self.ahead = Some(event);
                break;
            }
            self.deliver(event, out);
        }
        Ok(())
    }

    /// Waits as long as the reader does, whatever `timeout` is.
    fn next_batch(
        &mut self,
        out: &mut Vec<Event>,
        _timeout: Duration,
    ) -> Result<BatchEnd, SensorError> {
        for _ in 0..BATCH {
            let Some(event) = self.next() else { break };
            self.deliver(event, out);
        }
        match &mut self.end {
            None => Ok(BatchEnd::Open),
            Some(end) => match mem::replace(end, End::Clean) {
                End::Clean => Ok(BatchEnd::Finished),
                End::Broken(error) => Err(error.into()),
            },
        }
    }

    fn stats(&self) -> Stats {
        let held = self.ahead.as_ref().map_or(0, counted);
        Stats {
            held,
            ..self.stats.clone()
        }
    }

    /// Does nothing: a recording never waits for events.
    fn waker(&self) -> Waker {
        Arc::new(|| ())
    }
}

#[cfg(test)]
mod tests;
