use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};
use endpoint_sec::sys::{NewClientError, es_event_type_t};
use endpoint_sec::{Client, Event as EsEvent, EventExec, File, Process};
use event::sensor::{BatchEnd, Waker};
use event::{
    Bytes, Capabilities, Credentials, Event, FileIdentity, Sensor, SensorError, Stats, WallTime,
};

use crate::message::{Body, Exec, Message, Proc, argv, device};
use crate::normalize::Normalizer;
use crate::queue::{CAPACITY, Inlet, Outlet, queue};
use crate::stats::Balance;
use crate::{Error, Refusal, sys};

/// Process events from Endpoint Security, as an observer; the client ends when this is dropped.
///
/// Needs macOS 11 or later, root, the entitlement `com.apple.developer.endpoint-security.client`
/// and Full Disk Access.
pub struct EsSensor {
    outlet: Outlet,
    normalizer: Normalizer,
    balance: Balance,
    capabilities: Capabilities,
    /// Held for its `Drop`.
    _client: ClientThread,
}

impl EsSensor {
    /// Subscribes: from here on, messages are kept for `next_batch`.
    ///
    /// # Errors
    /// macOS refuses; the error says why and what would help.
    pub fn open() -> Result<Self, Error> {
        let (major, minor, patch) = sys::version()?;
        if major < 11 {
            return Err(Error::Version(format!("{major}.{minor}.{patch}")));
        }
        endpoint_sec::version::set_runtime_version(major, minor, patch);
        let normalizer = Normalizer::new(sys::clock()?);
        let balance = Balance::default();
        let (inlet, outlet) = queue(CAPACITY, &balance);
        balance.counts.announce(normalizer.since_boot(sys::now()));
        Ok(Self {
            outlet,
            normalizer,
            balance,
            capabilities: capabilities(),
            _client: ClientThread::start(inlet)?,
        })
    }
}

fn capabilities() -> Capabilities {
    let linux = "exists on Linux only";
    let absent = [
        (
            "filename",
            "known where a script is run, else only the resolved path is",
        ),
        ("effective_caps", linux),
        ("cgroup_id", linux),
        ("container_id", linux),
    ];
    Capabilities {
        sensor: "endpoint-security",
        event_driven: true,
        forks: true,
        exit_status: true,
        absent: absent
            .map(|(field, reason)| (field, reason.to_owned()))
            .into(),
    }
}

impl Sensor for EsSensor {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn snapshot(&mut self, out: &mut Vec<Event>) -> Result<(), SensorError> {
        let begun = sys::now();
        let before = out.len();
        self.normalizer.snapshot(sys::processes()?, begun, out);
        self.balance.counts.give(out.len() - before);
        Ok(())
    }

    fn next_batch(
        &mut self,
        out: &mut Vec<Event>,
        timeout: Duration,
    ) -> Result<BatchEnd, SensorError> {
        self.outlet.take(&mut self.normalizer, out, timeout);
        let now = sys::now();
        for lost in self
            .balance
            .counts
            .announce(self.normalizer.since_boot(now))
        {
            out.push(self.normalizer.lost(lost, now));
        }
        Ok(BatchEnd::Open)
    }

    fn stats(&self) -> Stats {
        Stats {
            untracked_exits: self.normalizer.untracked_exits,
            truncated: self.normalizer.truncated,
            ..self.balance.stats()
        }
    }

    fn waker(&self) -> Waker {
        self.outlet.waker()
    }
}

/// A client must be released by the thread that created it, so it has one of its own.
struct ClientThread {
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ClientThread {
    fn start(inlet: Inlet) -> Result<Self, Error> {
        let (opened, result) = bounded(1);
        let (stop, stopped) = bounded(0);
        let run = move || hold_client(&inlet, &opened, &stopped);
        let thread = thread::Builder::new()
            .name("endpoint-security".to_owned())
            .spawn(run);
        let client = Self {
            stop: Some(stop),
            thread: Some(thread.map_err(Error::Thread)?),
        };
        match result.recv() {
            Ok(result) => result.map(|()| client),
            Err(_) => Err(Error::Thread(io::Error::other("it ended at once"))),
        }
    }
}

impl Drop for ClientThread {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn hold_client(inlet: &Inlet, opened: &Sender<Result<(), Error>>, stopped: &Receiver<()>) {
    let client = open_client(inlet);
    let (client, result) = match client {
        Ok(client) => (Some(client), Ok(())),
        Err(error) => (None, Err(error)),
    };
    let is_open = client.is_some();
    if opened.send(result).is_ok() && is_open {
        // Ends with an error when the other side is dropped: that is the sign to stop.
        let _ = stopped.recv();
    }
    drop(client);
}

fn open_client(inlet: &Inlet) -> Result<Client<'_>, Error> {
    // The queue and the counts behind the inlet stay whole where a panic passes through.
    let inlet = AssertUnwindSafe(inlet);
    let mut client = Client::new(move |_, message| receive(&message, &inlet))
        .map_err(|error| Error::Refused(refusal(&error)))?;
    let events = [
        es_event_type_t::ES_EVENT_TYPE_NOTIFY_FORK,
        es_event_type_t::ES_EVENT_TYPE_NOTIFY_EXEC,
        es_event_type_t::ES_EVENT_TYPE_NOTIFY_EXIT,
    ];
    client.subscribe(&events).map_err(|_| Error::Subscribe)?;
    Ok(client)
}

fn refusal(error: &NewClientError) -> Refusal {
    match error {
        NewClientError::NotEntitled => Refusal::NotEntitled,
        NewClientError::NotPermitted => Refusal::NotPermitted,
        NewClientError::NotPrivileged => Refusal::NotPrivileged,
        NewClientError::TooManyClients => Refusal::TooManyClients,
        NewClientError::InvalidArgument => Refusal::InvalidArgument,
        NewClientError::Internal => Refusal::Internal,
        _ => Refusal::Unknown,
    }
}

/// Runs on a queue of Apple's. endpoint-sec would swallow a panic: the message would be lost
/// uncounted.
fn receive(message: &endpoint_sec::Message, inlet: &Inlet) {
    match catch_unwind(AssertUnwindSafe(|| copy(message))) {
        Ok(Some(message)) => inlet.offer(message),
        Ok(None) | Err(_) => inlet.malformed(),
    }
}

/// `None` for a kind of message that we did not ask for.
fn copy(message: &endpoint_sec::Message) -> Option<Message> {
    let body = match message.event()? {
        EsEvent::NotifyFork(fork) => Body::Fork {
            child: copy_process(&fork.child()),
        },
        EsEvent::NotifyExec(exec) => Body::Exec(Box::new(copy_exec(&exec))),
        EsEvent::NotifyExit(exit) => Body::Exit {
            wait_status: exit.stat(),
        },
        _ => return None,
    };
    Some(Message {
        time: wall(message.time()),
        sequence: message.seq_num(),
        global_sequence: message.global_seq_num(),
        process: copy_process(&message.process()),
        body,
    })
}

fn copy_exec(exec: &EventExec<'_>) -> Exec {
    let (argv, argv_truncated_bytes) = argv(exec.args().map(OsStr::as_bytes));
    Exec {
        target: copy_process(&exec.target()),
        argv,
        argv_truncated_bytes,
        cwd: exec.cwd().map(path),
        script: exec.script().map(path),
    }
}

fn copy_process(process: &Process<'_>) -> Proc {
    let token = process.audit_token();
    let ppid = process
        .parent_audit_token()
        .map_or(process.ppid(), |token| token.pid());
    let executable = process.executable();
    Proc {
        pid: token.pid().cast_unsigned(),
        ppid: ppid.cast_unsigned(),
        started: process.start_time().map(wall),
        credentials: Credentials {
            uid: token.ruid(),
            gid: token.rgid(),
            euid: token.euid(),
            egid: token.egid(),
        },
        auid: token.auid(),
        session: token.asid().cast_unsigned(),
        tty: process.tty().map(|tty| tty.stat().st_rdev.cast_unsigned()),
        exe_file: identity(&executable),
        exe: path(executable),
    }
}

fn identity(file: &File<'_>) -> FileIdentity {
    let stat = file.stat();
    FileIdentity {
        inode: stat.st_ino,
        device: device(stat.st_dev.cast_unsigned()),
        nlink: u32::from(stat.st_nlink),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: FileIdentity::time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: FileIdentity::time(stat.st_ctime, stat.st_ctime_nsec),
        mode: u32::from(stat.st_mode),
        uid: stat.st_uid,
        memfd: false,
    }
}

fn path(file: File<'_>) -> Bytes {
    Bytes::copy_from_slice(file.path().as_bytes())
}

fn wall(time: SystemTime) -> WallTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
