//! What a running daemon tells of itself: `status.json` in its state directory, for `daemoneye
//! status`, and a file for Prometheus. `docs/status.md` has every field.

mod metrics;
mod rates;
mod rules;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use event::{Capabilities, WallTime};
use serde_json::{Value, json};

use crate::copies::Doing;
use crate::exit::{Code, Failure, WithCode};
use crate::privileges;
use crate::replaced::{Access, Replaced};
use crate::state::State;
use crate::stats::{self, ms};
use rates::Rates;

pub(crate) use rules::RulesState;

/// Time between two snapshots, if nothing else causes one.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// Time after the snapshot that says that all is at work.
const FIRST_INTERVAL: Duration = Duration::from_secs(1);

/// Its name in the state directory.
pub(crate) const FILE: &str = "status.json";

/// The file for Prometheus, whose directory was opened before rights were given up.
pub(crate) struct MetricsFile(Option<Output>);

impl MetricsFile {
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let file = path.map(|path| {
            let name = format!("metrics file {}", path.display());
            let file = Replaced::open(path, Access::Public).with_context(|| name.clone())?;
            Ok(Output::new(name, file))
        });
        let file: anyhow::Result<_> = file.transpose();
        Ok(Self(file.code(Code::Usage)?))
    }
}

/// Writes snapshots of the daemon's state.
pub(crate) struct Publisher {
    status: Output,
    metrics: Option<Output>,
    sensor: Value,
    started: WallTime,
    rules: Arc<RulesState>,
    copies: Option<Doing>,
    rates: Rates,
    due: Instant,
    /// The next snapshot of a running daemon is the first: it can hold no figures yet.
    soon: bool,
}

/// A file, and how it does.
struct Output {
    name: String,
    file: Replaced,
    /// The last version was not written, and the log says so.
    fails: bool,
}

/// How far the daemon is.
#[derive(Clone, Copy)]
enum Phase {
    Starting,
    Running,
    Ended,
}

impl Publisher {
    /// Writes the first snapshot, of a daemon that starts.
    pub(crate) fn start(
        state: &State,
        metrics: MetricsFile,
        sensor: &Capabilities,
        rules: Arc<RulesState>,
        copies: Option<Doing>,
    ) -> Result<Self, Failure> {
        let status = Replaced::open(&state.place().join(FILE), Access::Private)
            .with_context(|| format!("state directory {}", state.dir().display()))
            .code(Code::StateUnusable)?;
        let mut publisher = Self {
            status: Output::new(FILE.into(), status),
            metrics: metrics.0,
            sensor: described(sensor),
            started: now(),
            rules,
            copies,
            rates: Rates::default(),
            due: Instant::now(),
            soon: true,
        };
        publisher.first().map(|()| publisher)
    }

    /// A file that cannot be written now never will be.
    fn first(&mut self) -> Result<(), Failure> {
        let nothing = stats::all(&pipeline::Stats::default(), None);
        let document = self.document(nothing, Phase::Starting);
        self.status
            .write(&event::json::line(&document))
            .code(Code::StateUnusable)?;
        if let Some(output) = &mut self.metrics {
            output
                .write(&metrics::text(&document))
                .context(privileges::writer())
                .code(Code::Usage)?;
        }
        Ok(())
    }

    /// When the next snapshot is due.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Writes a snapshot; what fails is logged.
    pub(crate) fn running(&mut self, counters: Value) {
        self.publish(counters, Phase::Running);
    }

    /// Writes the last snapshot.
    pub(crate) fn ended(&mut self, counters: Value) {
        self.publish(counters, Phase::Ended);
    }

    fn publish(&mut self, counters: Value, phase: Phase) {
        let soon = std::mem::take(&mut self.soon);
        self.due = Instant::now() + if soon { FIRST_INTERVAL } else { INTERVAL };
        let document = self.document(counters, phase);
        // In this order: who sees the snapshot sees the metrics that belong to it.
        if let Some(output) = &mut self.metrics {
            output.try_write(&metrics::text(&document));
        }
        self.status.try_write(&event::json::line(&document));
    }

    fn document(&mut self, counters: Value, phase: Phase) -> Value {
        let mut document = counters;
        let rates = self.rates.since_last(&document, Instant::now());
        document["schema"] = 1.into();
        document["version"] = env!("CARGO_PKG_VERSION").into();
        document["pid"] = std::process::id().into();
        document["phase"] = phase.name().into();
        document["started_ms"] = ms(self.started).into();
        document["written_ms"] = ms(now()).into();
        document["interval_ms"] = (INTERVAL.as_millis() as u64).into();
        document["rates"] = rates;
        document["rules"] = self.rules.document();
        document["copies"] = self.copies.as_ref().map(Doing::document).into();
        document["source"] = self.sensor.clone();
        document
    }
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ended => "ended",
        }
    }
}

impl Output {
    fn new(name: String, file: Replaced) -> Self {
        Self {
            name,
            file,
            fails: false,
        }
    }

    fn write(&self, text: &str) -> anyhow::Result<()> {
        let name = &self.name;
        self.file
            .replace(text)
            .with_context(|| format!("{name} cannot be written"))
    }

    /// A file that stays unwritable must not flood the log.
    fn try_write(&mut self, text: &str) {
        let written = self.write(text);
        match &written {
            Err(error) if !self.fails => tracing::error!("{error:#}; tried again each time"),
            Ok(()) if self.fails => tracing::warn!("{} is written again", self.name),
            _ => {}
        }
        self.fails = written.is_err();
    }
}

fn described(sensor: &Capabilities) -> Value {
    let absent = sensor
        .absent
        .iter()
        .map(|(field, why)| json!({ "field": field, "reason": why }));
    json!({
        "sensor": sensor.sensor, "event_driven": sensor.event_driven,
        "absent": absent.collect::<Vec<_>>(),
    })
}

/// The wall clock.
pub(crate) fn now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let ns = since.unwrap_or_default().as_nanos();
    WallTime(u64::try_from(ns).unwrap_or(u64::MAX))
}
