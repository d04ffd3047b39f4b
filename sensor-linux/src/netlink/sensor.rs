//! The [`Sensor`] over the process connector.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use event::sensor::{BatchEnd, Waker};
use event::{
    BootTime, Capabilities, Event, EventKind, Header, ProcessKey, Sensor, SensorError, Snapshot,
    Stats,
};

use super::books::{Books, Inflow};
use super::clock::Clock;
use super::inbox::{Inbox, Waiting};
use super::lives::Lives;
use super::message::Kind;
use super::priority;
use super::socket::Socket;
use super::survey::{is_alive, survey};
use crate::Error;
use crate::accounts::Accounts;
use crate::clock::boot_time;
use crate::loss_log::LossLog;
use crate::procfs;

/// Events in one batch: reading procfs for so many programs takes some 20 ms.
const MAX_BATCH: usize = 256;

/// How often the clocks are compared.
const CLOCK_INTERVAL: Duration = Duration::from_millis(100);

/// Surveys after losses are at least so far apart, and take at most a twentieth of the time.
const SURVEY_INTERVAL: Duration = Duration::from_secs(1);
const SURVEY_SHARE: u32 = 20;

/// What an operator can set.
#[derive(Debug, Clone, Copy)]
pub struct NetlinkOptions {
    /// Size of the socket's receive buffer as the kernel counts it: about 830 bytes a message. The
    /// memory is taken only while messages wait. Without `CAP_NET_ADMIN` the host limits it
    /// (`net.core.rmem_max`).
    pub buffer_bytes: u32,
}

impl Default for NetlinkOptions {
    fn default() -> Self {
        Self {
            buffer_bytes: 32 << 20,
        }
    }
}

/// Process events from the kernel through the process connector.
pub struct NetlinkSensor {
    /// Looking at the counters reads the socket, so that they say how much waits.
    pub(super) inbox: RefCell<Inbox>,
    pub(super) lives: Lives,
    pub(super) clock: Clock,
    clock_checked: Instant,
    capabilities: Capabilities,
    accounts: Accounts,
    pub(super) books: Books,
    loss_log: LossLog,
    /// When every process that lived was known.
    pub(super) complete: BootTime,
    pub(super) doubt: Doubt,
    /// The thread that reads has its priority.
    hurries: bool,
}

/// After a loss, what is known of the living may be wrong.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) is_open: bool,
    /// Losses that were known when it was last opened.
    pub(super) lost: u64,
    next_survey: Instant,
    /// Were not there in the last survey.
    gone: Vec<ProcessKey>,
}

impl NetlinkSensor {
    /// Subscribes. Messages are kept from here on.
    ///
    /// # Errors
    /// This process or this kernel does not get them; [`Error::advice`] says what would help.
    pub fn open(options: &NetlinkOptions) -> Result<Self, Error> {
        if !procfs::in_initial_pid_namespace() {
            return Err(Error::PidNamespace);
        }
        let boot = procfs::boot_id().ok_or(Error::System {
            call: "reading the boot id",
            source: std::io::ErrorKind::InvalidData.into(),
        })?;
        let now = Instant::now();
        priority::permit();
        Ok(Self {
            inbox: RefCell::new(subscribe(options)?),
            lives: Lives::default(),
            clock: Clock::new(boot),
            clock_checked: now,
            capabilities: capabilities(),
            accounts: Accounts::open(),
            books: Books::new(boot_time()),
            loss_log: LossLog::new(options.buffer_bytes, 0),
            complete: BootTime::default(),
            doubt: Doubt {
                is_open: false,
                lost: 0,
                next_survey: now,
                gone: Vec::new(),
            },
            hurries: false,
        })
    }

    pub(super) fn fill(&mut self) -> Result<(), Error> {
        let inbox = self.inbox.get_mut();
        inbox.fill().map_err(Error::reading_messages)?;
        let lost = inbox.lost();
        self.doubt.is_open |= inbox.take_overrun() || lost > self.doubt.lost;
        self.doubt.lost = lost;
        Ok(())
    }

    fn handle(&mut self, waiting: Waiting, out: &mut Vec<Event>) -> Result<(), Error> {
        let message = waiting.message;
        let at = self.clock.boot_time(message.monotonic_ns);
        let kind = match message.kind {
            Kind::Fork { parent, child } => self.fork(parent, child, at),
            Kind::Exec(task) => self.exec(task.tgid, at)?,
            Kind::Exit { task, status } => self.exit(task, status, at),
            Kind::Comm { task, comm } => {
                self.rename(task, &comm);
                None
            }
            Kind::Acknowledged(_) | Kind::Other(_) => None,
        };
        if let Some(kind) = kind {
            let cpu = message.number.map_or(0, |number| number.cpu);
            let header = self.clock.header(at, cpu, waiting.sequence);
            self.deliver(header, kind, out);
        }
        Ok(())
    }

    fn deliver(&mut self, header: Header, kind: EventKind, out: &mut Vec<Event>) {
        self.books.delivered += 1;
        self.books.truncated += u64::from(is_truncated(&kind));
        out.push(Event { header, kind });
    }

    /// After a loss, once nothing waits: finds out who lives, and gives rows of those whose start
    /// was lost.
    fn recover(&mut self, out: &mut Vec<Event>) -> Result<(), Error> {
        let started = Instant::now();
        if self.inbox.get_mut().len() > 0 || started < self.doubt.next_survey {
            return Ok(());
        }
        // Messages of their ends, if there were any, have come since.
        for key in std::mem::take(&mut self.doubt.gone) {
            if !is_alive(key) {
                self.lives.forget(key);
            }
        }
        if self.doubt.is_open {
            self.doubt.is_open = false;
            self.doubt.gone = self.survey(out)?;
            let pause = (started.elapsed() * SURVEY_SHARE).max(SURVEY_INTERVAL);
            self.doubt.next_survey = started + pause;
        }
        Ok(())
    }

    /// Gives those that are gone.
    fn survey(&mut self, out: &mut Vec<Event>) -> Result<Vec<ProcessKey>, Error> {
        let found = survey(&mut self.lives, self.inbox.get_mut(), self.clock.boot)?;
        for process in found.rows {
            let header = self.clock.header(boot_time(), 0, 0);
            let row = EventKind::Snapshot(Box::new(Snapshot { process }));
            self.deliver(header, row, out);
        }
        Ok(found.gone)
    }

    fn announce_losses(&mut self, out: &mut Vec<Event>) {
        let now = boot_time();
        let inflow = inflow(self.inbox.get_mut());
        for lost in self.books.announce(inflow, now) {
            self.loss_log.note(&lost);
            out.push(Event {
                header: self.clock.header(lost.to, 0, 0),
                kind: EventKind::Lost(lost),
            });
        }
        for message in self.loss_log.due(Instant::now()) {
            tracing::warn!("{message}");
        }
    }

    fn refresh_clock(&mut self) {
        if self.clock_checked.elapsed() >= CLOCK_INTERVAL {
            self.clock_checked = Instant::now();
            self.clock.refresh();
        }
    }
}

impl Sensor for NetlinkSensor {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn snapshot(&mut self, out: &mut Vec<Event>) -> Result<(), SensorError> {
        let first = out.len();
        self.survey(out)?;
        self.accounts.name_all(&mut out[first..]);
        self.complete = boot_time();
        Ok(())
    }

    fn next_batch(
        &mut self,
        out: &mut Vec<Event>,
        timeout: Duration,
    ) -> Result<BatchEnd, SensorError> {
        if !std::mem::replace(&mut self.hurries, true) {
            priority::raise();
        }
        let waited = self.inbox.get_mut().wait(timeout);
        waited.map_err(Error::reading_messages)?;
        self.fill()?;
        self.refresh_clock();
        let first = out.len();
        let full = first + MAX_BATCH;
        while out.len() < full
            && let Some(waiting) = self.inbox.get_mut().pop()
        {
            self.handle(waiting, out)?;
        }
        self.recover(out)?;
        self.accounts.name_all(&mut out[first..]);
        self.announce_losses(out);
        Ok(BatchEnd::Open)
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        self.announce_losses(out);
    }

    fn stats(&self) -> Stats {
        let mut inbox = self.inbox.borrow_mut();
        // A broken socket shows in the next batch.
        let _ = inbox.fill();
        self.books.stats(inflow(&inbox))
    }

    fn waker(&self) -> Waker {
        self.inbox.borrow().waker()
    }
}

/// The kernel answers while the call that subscribes runs.
fn subscribe(options: &NetlinkOptions) -> Result<Inbox, Error> {
    let socket = Socket::subscribe(options.buffer_bytes)?;
    let failed = |source| Error::Connector {
        call: "reading",
        source,
    };
    let mut inbox = Inbox::new(socket).map_err(failed)?;
    match inbox.fill().map_err(failed)? {
        Some(0) => Ok(inbox),
        Some(errno) => Err(Error::Connector {
            call: "subscribing",
            source: std::io::Error::from_raw_os_error(errno.cast_signed()),
        }),
        None => Err(Error::ConnectorSilent),
    }
}

fn inflow(inbox: &Inbox) -> Inflow {
    Inflow {
        lost: inbox.lost(),
        malformed: inbox.malformed,
        gaps: inbox.gaps(),
        waiting: inbox.len(),
    }
}

fn is_truncated(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Exec(exec) if exec.process.argv_truncated_bytes > 0)
}

fn capabilities() -> Capabilities {
    let never = [
        ("filename", "procfs keeps the resolved path only"),
        ("interpreter", "procfs keeps the resolved path only"),
        ("secure_exec", "not in procfs"),
    ];
    let raced = [
        "executable",
        "args",
        "working_directory",
        "credentials",
        "exe_file",
    ]
    .map(|field| {
        (
            field,
            "read from procfs: missing where the program ended first",
        )
    });
    Capabilities {
        sensor: "netlink",
        event_driven: true,
        forks: true,
        exit_status: true,
        absent: never
            .into_iter()
            .chain(raced)
            .map(|(field, reason)| (field, reason.to_owned()))
            .collect(),
    }
}
