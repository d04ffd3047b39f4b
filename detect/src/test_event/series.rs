//! Tests of several events.

use event::Event;

use super::TestEvent;
use crate::catalog::Stream;
use crate::nearest::nearest;

/// Events in one test.
const MAX_EVENTS: usize = 10_000;

impl TestEvent {
    /// The events of a test in the order of their times, or what is wrong with their description.
    /// Each is of `stream` unless it says otherwise.
    pub(crate) fn into_events(mut self, stream: Stream) -> Result<Vec<Event>, String> {
        let all = match self.events.take() {
            None => vec![self],
            Some(all) if all.is_empty() => return Err("has no events".to_owned()),
            Some(_) if !self.is_only_named() => {
                return Err("has `events` and describes one beside them".to_owned());
            }
            Some(all) => all,
        };
        let (mut events, mut after_ns) = (Vec::new(), 0u64);
        for one in all {
            if one.events.is_some() {
                return Err("has events in an event".to_owned());
            }
            let count = one.repeat.unwrap_or(1) as usize;
            if count == 0 || events.len() + count > MAX_EVENTS {
                return Err(format!("has no event or more than {MAX_EVENTS}"));
            }
            let event = one.event(one.stream_or(stream)?)?;
            let step_ns = one.after_ms.unwrap_or(0).checked_mul(1_000_000);
            for _ in 0..count {
                let later = step_ns.and_then(|step| after_ns.checked_add(step));
                after_ns = later.ok_or("lasts too long")?;
                events.push(at(&event, after_ns));
            }
        }
        Ok(events)
    }

    fn is_only_named(&self) -> bool {
        let name = self.name.clone();
        *self
            == Self {
                name,
                ..Self::default()
            }
    }

    fn stream_or(&self, stream: Stream) -> Result<Stream, String> {
        let Some(name) = &self.stream else {
            return Ok(stream);
        };
        Stream::from_name(name).ok_or_else(|| {
            let names = Stream::ALL.into_iter().map(Stream::name);
            match nearest(name, names) {
                Some(nearest) => {
                    format!("has the unknown stream `{name}` (did you mean `{nearest}`?)")
                }
                None => format!("has the unknown stream `{name}`"),
            }
        })
    }
}

fn at(event: &Event, after_ns: u64) -> Event {
    let mut event = event.clone();
    let header = &mut event.header;
    header.time.0 = header.time.0.saturating_add(after_ns);
    header.wall.0 = header.wall.0.saturating_add(after_ns);
    event
}
