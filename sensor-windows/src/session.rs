use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use event::sensor::{BatchEnd, Waker};
use event::{Capabilities, DropReason, Event, EventClass, QueueCounts, Sensor, SensorError, Stats};
use ferrisetw::native::EvntraceNativeError;
use ferrisetw::parser::Parser;
use ferrisetw::provider::{EventFilter, Provider};
use ferrisetw::trace::{TraceError, TraceProperties, TraceTrait, stop_trace_by_name};
use ferrisetw::{EventRecord, SchemaLocator, UserTrace};

use crate::clock::FileTime;
use crate::decode::{Props, classes, decode};
use crate::normalize::Normalizer;
use crate::queue::{CAPACITY, Inlet, Outlet, queue};
use crate::{Error, provider, sys};

/// Process events from an ETW session, which ends when this is dropped.
///
/// Needs Windows 8.1 or later, and to be Administrator or a member of Performance Log Users.
/// Windows hands records over in buffers, after a second at the latest. A record carries neither
/// the command line nor the account: see [`Sensor::capabilities`].
pub struct EtwSensor {
    session: Session,
    outlet: Outlet,
    normalizer: Normalizer,
    balance: QueueCounts,
    losses: Losses,
    capabilities: Capabilities,
}

/// A session outlives its process: one of this name was left behind by a crash of ours.
const NAME: &str = "DaemonEye-Process";
/// How often Windows is asked what it lost.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);

impl EtwSensor {
    /// Starts the session: from here on, records are kept for `next_batch`.
    ///
    /// # Errors
    /// Windows refuses; the error says which call, why, and what would help.
    pub fn open() -> Result<Self, Error> {
        let normalizer = Normalizer::new(sys::clock()?, sys::devices());
        let balance = QueueCounts::default();
        let (inlet, outlet) = queue(CAPACITY, &balance);
        balance.announce(normalizer.since_boot(sys::now()));
        Ok(Self {
            session: Session::start(&inlet)?,
            outlet,
            normalizer,
            balance,
            losses: Losses {
                told: 0,
                asked: Instant::now(),
            },
            capabilities: capabilities(),
        })
    }

    fn announce_losses(&mut self, out: &mut Vec<Event>) {
        self.losses.ask(&self.balance);
        let now = sys::now();
        for lost in self.balance.announce(self.normalizer.since_boot(now)) {
            out.push(self.normalizer.lost(lost, now));
        }
    }
}

fn capabilities() -> Capabilities {
    let provider = "Microsoft-Windows-Kernel-Process does not carry it";
    let unix = "exists on Unix only";
    let racy = "would have to be read from the live process, which may be gone";
    let absent = [
        ("argv", racy),
        ("cwd", racy),
        ("user", racy),
        ("filename", provider),
        ("exe_file", provider),
        ("credentials", unix),
        ("login_uid", unix),
        ("tty", unix),
        ("effective_caps", unix),
        ("cgroup_id", unix),
        ("container_id", unix),
    ];
    Capabilities {
        sensor: "etw",
        event_driven: true,
        forks: true,
        exit_status: true,
        absent: absent
            .map(|(field, reason)| (field, reason.to_owned()))
            .into(),
    }
}

impl Sensor for EtwSensor {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn snapshot(&mut self, out: &mut Vec<Event>) -> Result<(), SensorError> {
        let rows = sys::processes()?;
        let before = out.len();
        self.normalizer
            .snapshot(&rows, sys::now(), sys::image_path, out);
        self.balance.give(out.len() - before);
        Ok(())
    }

    fn next_batch(
        &mut self,
        out: &mut Vec<Event>,
        timeout: Duration,
    ) -> Result<BatchEnd, SensorError> {
        self.outlet.take(&mut self.normalizer, out, timeout);
        self.announce_losses(out);
        match self.session.ended() {
            Some(cause) if self.outlet.is_empty() => Err(Error::Ended { cause }.into()),
            _ => Ok(BatchEnd::Open),
        }
    }

    fn stats(&self) -> Stats {
        Stats {
            untracked_exits: self.normalizer.untracked_exits,
            ..self.balance.stats()
        }
    }

    fn waker(&self) -> Waker {
        self.outlet.waker()
    }
}

/// What Windows says it lost, and how much of it is counted.
struct Losses {
    told: u64,
    asked: Instant,
}

impl Losses {
    fn ask(&mut self, balance: &QueueCounts) {
        if self.asked.elapsed() < LOSS_INTERVAL {
            return;
        }
        self.asked = Instant::now();
        // Without an answer the counts stay; that the session ended shows in its thread.
        if let Ok(total) = sys::session_losses(NAME) {
            let new = total.saturating_sub(self.told);
            balance.lose(&[EventClass::Unknown], DropReason::SourceLost, new);
            self.told = self.told.max(total);
        }
    }
}

/// The running session and the thread in which Windows calls us.
struct Session {
    trace: Option<UserTrace>,
    thread: Option<JoinHandle<()>>,
    /// Set by the thread when the session ends, with the reason.
    ended: Arc<Mutex<Option<String>>>,
}

const START: &str = "ETW session start (StartTraceW, EnableTraceEx2, OpenTraceW)";

impl Session {
    fn start(inlet: &Inlet) -> Result<Self, Error> {
        let (trace, handle) = match start_trace(inlet.clone()) {
            Err(TraceError::EtwNativeError(EvntraceNativeError::AlreadyExist)) => {
                stop_trace_by_name(NAME).map_err(|_| Error::SessionExists { name: NAME })?;
                start_trace(inlet.clone())
            }
            other => other,
        }
        .map_err(|error| {
            // ferrisetw leaves the session behind where a later call than the first was refused.
            let _ = stop_trace_by_name(NAME);
            refused(error)
        })?;
        let ended: Arc<Mutex<Option<String>>> = Arc::default();
        let run = {
            let (ended, inlet) = (Arc::clone(&ended), inlet.clone());
            move || {
                let result = UserTrace::process_from_handle(handle);
                let cause = result.map_or_else(|e| refused(e).to_string(), |()| "stopped".into());
                *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
                inlet.wake();
            }
        };
        let thread = thread::Builder::new().name("etw".to_owned()).spawn(run);
        let thread = thread.map_err(Error::Thread)?;
        Ok(Self {
            trace: Some(trace),
            thread: Some(thread),
            ended,
        })
    }

    fn ended(&self) -> Option<String> {
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closes and stops it; then `ProcessTrace` returns. The callback never waits for us.
        self.trace.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn start_trace(inlet: Inlet) -> Result<(UserTrace, ferrisetw::native::TraceHandle), TraceError> {
    let provider = Provider::by_guid(provider::GUID)
        .any(provider::KEYWORD_PROCESS)
        .level(provider::LEVEL)
        .add_filter(EventFilter::ByEventIds(vec![
            provider::PROCESS_START,
            provider::PROCESS_STOP,
        ]))
        .add_callback(move |record, schemas| receive(record, schemas, &inlet))
        .build();
    let properties = TraceProperties {
        buffer_size: 64,
        min_buffer: 8,
        max_buffer: 64,
        ..TraceProperties::default()
    };
    UserTrace::new()
        .named(NAME.to_owned())
        .set_trace_properties(properties)
        .enable(provider)
        .start()
}

fn refused(error: TraceError) -> Error {
    match error {
        TraceError::EtwNativeError(EvntraceNativeError::IoError(error)) => {
            Error::refused(START, error.raw_os_error().unwrap_or_default())
        }
        TraceError::EtwNativeError(EvntraceNativeError::AlreadyExist) => {
            Error::SessionExists { name: NAME }
        }
        TraceError::EtwNativeError(EvntraceNativeError::InvalidHandle)
        | TraceError::InvalidTraceName => Error::InvalidHandle { call: START },
    }
}

/// Runs in the thread of the session. ferrisetw ends the process where this panics.
fn receive(record: &EventRecord, schemas: &SchemaLocator, inlet: &Inlet) {
    let event = record.event_id();
    // The keyword lets other events of the provider through where Windows ignores the filter.
    if !matches!(event, provider::PROCESS_START | provider::PROCESS_STOP) {
        return;
    }
    let time = FileTime(u64::try_from(record.raw_timestamp()).unwrap_or(0));
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let schema = schemas.event_schema(record).ok()?;
        decode(event, time, &Fields(Parser::create(record, &schema))).ok()
    }));
    match decoded {
        Ok(Some(record)) => inlet.offer(record),
        Ok(None) | Err(_) => inlet.malformed(classes(event)),
    }
}

struct Fields<'s, 'r>(Parser<'s, 'r>);

impl Props for Fields<'_, '_> {
    fn u32(&self, name: &str) -> Option<u32> {
        self.0.try_parse(name).ok()
    }

    fn u64(&self, name: &str) -> Option<u64> {
        self.0.try_parse(name).ok()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.0.try_parse(name).ok()
    }
}
