//! `daemoneye record FILE`: the sensor's events, redacted, as a recording.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use event::sensor::BatchEnd;
use event::wire::RecordingWriter;
use event::{Event, Sensor};
use pipeline::hash::Hasher;

use crate::args::Record;
use crate::exit::{Code, Failure, WithCode};
use crate::output::notice;
use crate::privileges::Keep;
use crate::stats::{self, StatsFile};
use crate::stop::Stop;
use crate::{executables, private, privileges, sensor};

/// Longest drain after the stop …
const REST: Duration = Duration::from_millis(500);

/// … and its steps: what a sensor holds to put it in order comes a little later.
const STEP: Duration = Duration::from_millis(10);

/// Longest wait for events before the stop flag is looked at again.
const TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) fn record(args: &Record) -> Result<ExitCode, Failure> {
    let account = privileges::choose(args.user.as_deref())?;
    let file = create_new(&args.file).code(Code::Usage)?;
    let stats_file = StatsFile::create(args.stats_json.as_deref())?;
    let mut sensor = sensor::open(&args.sensor)?;
    let mut events = Vec::new();
    sensor.snapshot(&mut events)?;
    let hashing = executables::hashing(&args.hash);
    let keep = Keep::needed_by(sensor.capabilities(), hashing.is_some());
    privileges::drop(account, keep)?;
    let waker = sensor.waker();
    let hasher = hashing.map(|hashing| Hasher::start(&hashing, Some(waker)));
    let stop = Stop::on_signal(sensor.waker())?;
    notice(format_args!(
        "ready (sensor {}, recording)",
        sensor.capabilities().sensor
    ));
    let recorder = Recorder {
        out: RecordingWriter::new(BufWriter::new(file))?,
        redactor: pipeline::redact::Redactor::new(&pipeline::redact::Config::default())?,
        hasher: hasher.transpose()?,
        written: 0,
        followed: 0,
    };
    // A time that the clock never reaches is none.
    let deadline = args
        .seconds
        .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    let recorder = recorder.run(&mut *sensor, events, &stop, deadline)?;
    let counted = sensor.stats();
    let hashed = recorder.hasher.as_ref().map(Hasher::stats);
    stats_file.write(&serde_json::json!({
        "sensor": stats::sensor(&counted),
        "hashing": stats::hashing(&hashed.unwrap_or_default()),
    }))?;
    notice(format_args!(
        "{} events recorded, {} dropped",
        recorder.written + recorder.followed,
        counted.dropped_total()
    ));
    Ok(ExitCode::SUCCESS)
}

struct Recorder {
    out: RecordingWriter<BufWriter<File>>,
    redactor: pipeline::redact::Redactor,
    hasher: Option<Hasher>,
    /// Events of the sensor.
    written: u64,
    /// Digests that followed their exec.
    followed: u64,
}

impl Recorder {
    fn run(
        mut self,
        sensor: &mut dyn Sensor,
        mut events: Vec<Event>,
        stop: &Stop,
        deadline: Option<Instant>,
    ) -> Result<Self, Failure> {
        loop {
            self.write(&mut events)?;
            let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if stop.requested() || over {
                break;
            }
            let left = deadline.map_or(TIMEOUT, |d| d.saturating_duration_since(Instant::now()));
            if sensor.next_batch(&mut events, left.min(TIMEOUT))? == BatchEnd::Finished {
                break;
            }
        }
        self.drain(sensor, events)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.finish();
        }
        self.follow_up()?;
        Ok(self)
    }

    /// What happened before the stop is still in the sensor; what happens from now on is not
    /// waited for.
    fn drain(&mut self, sensor: &mut dyn Sensor, mut events: Vec<Event>) -> Result<(), Failure> {
        let held = sensor.stats().held;
        let before = self.written;
        let end = Instant::now() + REST;
        while self.written - before < held && Instant::now() < end {
            sensor.next_batch(&mut events, STEP)?;
            self.write(&mut events)?;
        }
        sensor.finish(&mut events);
        self.write(&mut events)
    }

    fn write(&mut self, events: &mut Vec<Event>) -> Result<(), Failure> {
        if let Some(hasher) = &mut self.hasher {
            events.iter_mut().for_each(|event| hasher.arrived(event));
            hasher.collect();
        }
        for mut event in events.drain(..) {
            if let Some(hasher) = &mut self.hasher {
                hasher.leaving(&mut event);
            }
            self.redactor.event(&mut event);
            self.out.write(&event)?;
            self.written += 1;
        }
        self.follow_up()
    }

    /// Writes the digests that execs were written without.
    fn follow_up(&mut self) -> Result<(), Failure> {
        while let Some(event) = self.hasher.as_mut().and_then(Hasher::next_event) {
            self.out.write(&event)?;
            self.followed += 1;
        }
        Ok(self.out.flush()?)
    }
}

fn create_new(path: &Path) -> anyhow::Result<File> {
    private::create_new(path)
        .with_context(|| format!("recording {} cannot be created", path.display()))
}
