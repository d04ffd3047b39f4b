//! The [`Sensor`] over the eBPF programs.

use std::time::{Duration, Instant};

use event::sensor::{BatchEnd, Waker};
use event::{
    BootTime, Capabilities, Event, EventKind, Header, Lost, ProcessKey, Sensor, SensorError,
    Snapshot, Stats, WallTime,
};
use rustix::io::Errno;
use sensor_ebpf::config::Field;
use sensor_ebpf::record::{class, identity_flag};

use crate::Error;
use crate::accounts::Accounts;
use crate::cgroups::Cgroups;
use crate::clock::{boot_time, boot_wall};
use crate::decode::{Record, decode};
use crate::environment::Environments;
use crate::load::{IdentityWords, Programs, load};
use crate::loss_log::LossLog;
use crate::mute::MuteList;
use crate::normalize::{Clock, is_of_substitute, normalize};
use crate::procfs;
use crate::stats::Tally;
use crate::transport::{Transport, Waiter};

/// How often losses are looked up while records flow.
const LOSS_INTERVAL: Duration = Duration::from_millis(100);

/// `bpf_map_update_elem`: fail if the key exists.
const BPF_NOEXIST: u64 = 1;

/// What an operator can set.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size in bytes of the ring buffer, or of all perf buffers together; rounded up to a power of
    /// two of pages. [`Options::LEAST_RING_BYTES`] at least.
    pub ring_bytes: u32,
    /// How records come from the kernel. `None`: by the ring buffer if the kernel has it.
    pub transport: Option<Transport>,
    /// Live processes that the kernel keeps apart.
    pub max_processes: u32,
    /// Load the variant that logs from the kernel; with the ring buffer only.
    pub debug: bool,
    /// What to keep quiet.
    pub mute: MuteList,
    /// Report execs that failed. Every system call of the host then costs a little more.
    pub failed_execs: bool,
    /// Variables to take from the environment at exec, by name; one that ends in `*` stands for all
    /// that begin so.
    pub environment: Vec<String>,
}

impl Options {
    /// The largest record fits while the ring is nearly empty. In a smaller one it never would.
    pub const LEAST_RING_BYTES: u32 = 64 << 10;
}

const _: () = assert!(class::LARGE + 8 <= Options::LEAST_RING_BYTES as usize);

impl Default for Options {
    fn default() -> Self {
        Self {
            ring_bytes: 4 * 1024 * 1024,
            transport: None,
            max_processes: 65_536,
            debug: false,
            mute: MuteList::default(),
            failed_execs: false,
            environment: Vec::new(),
        }
    }
}

/// Process events from the kernel through eBPF.
pub struct EbpfSensor {
    programs: Programs,
    waiter: Waiter,
    clock: Clock,
    capabilities: Capabilities,
    tally: Tally,
    accounts: Accounts,
    cgroups: Cgroups,
    environments: Environments,
    loss_log: LossLog,
    losses_checked: Instant,
}

impl EbpfSensor {
    /// Loads and attaches the programs. Events are kept from here on.
    ///
    /// # Errors
    /// This process or this kernel cannot run them; [`Error::advice`] says what would help.
    pub fn open(options: &Options) -> Result<Self, Error> {
        if !procfs::in_initial_pid_namespace() {
            return Err(Error::PidNamespace);
        }
        let programs = load(options)?;
        let waiter = Waiter::new().map_err(|source| Error::System {
            call: "eventfd",
            source,
        })?;
        let boot = procfs::boot_id().ok_or(Error::System {
            call: "reading the boot id",
            source: std::io::ErrorKind::InvalidData.into(),
        })?;
        Ok(Self {
            capabilities: capabilities(&programs, options),
            tally: Tally::new(programs.counters.cpus(), boot_time()),
            clock: Clock {
                boot,
                boot_wall: boot_wall(),
                offset: programs.source.clock_offset(),
            },
            accounts: Accounts::open(),
            cgroups: Cgroups::default(),
            environments: Environments::of(&options.environment),
            loss_log: LossLog::new(options.ring_bytes, options.max_processes),
            losses_checked: Instant::now(),
            programs,
            waiter,
        })
    }

    /// Reads the records that are there and counts them by kind without making events of them:
    /// what the programs themselves cost, for measurements.
    ///
    /// # Errors
    /// Waiting does not work.
    pub fn count_batch(&mut self, timeout: Duration) -> Result<u64, SensorError> {
        self.wait(timeout)?;
        let before = self.tally.delivered;
        let tally = &mut self.tally;
        self.waiter
            .drain(&mut self.programs.source, |bytes| match decode(bytes) {
                Ok(record) => count(tally, &record),
                Err(_) => tally.malformed += 1,
            });
        Ok(self.tally.delivered - before)
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), Error> {
        self.waiter
            .wait(&self.programs.source, timeout)
            .map_err(|source| Error::System {
                call: "waiting for records",
                source,
            })
    }

    fn drain(&mut self, out: &mut Vec<Event>) {
        let Self {
            waiter,
            programs,
            tally,
            clock,
            cgroups,
            environments,
            ..
        } = self;
        clock.offset = programs.source.clock_offset();
        waiter.drain(&mut programs.source, |bytes| match decode(bytes) {
            Ok(Record::Cgroup(cgroup)) => cgroups.learn(cgroup.fixed.id, cgroup.path),
            Ok(Record::Environment(environment)) => environments.note(&environment),
            Ok(record) => {
                count(tally, &record);
                let Some(mut event) = normalize(&record, clock) else {
                    return;
                };
                tally.truncated += u64::from(is_truncated(&event));
                let exec_id = match &record {
                    Record::Exec(exec) => exec.fixed.exec_id,
                    _ => 0,
                };
                complete(&mut event, exec_id, cgroups, environments);
                out.push(event);
            }
            Err(error) => {
                tally.malformed += 1;
                tracing::warn!("record of {} bytes does not decode: {error}", bytes.len());
            }
        });
        if let Some(logger) = &mut programs.logger {
            logger.flush();
        }
    }

    /// Tells of losses, at most every [`LOSS_INTERVAL`].
    fn announce_losses(&mut self, out: &mut Vec<Event>) {
        if self.losses_checked.elapsed() >= LOSS_INTERVAL {
            self.announce_losses_now(out);
        }
    }

    fn announce_losses_now(&mut self, out: &mut Vec<Event>) {
        self.losses_checked = Instant::now();
        self.clock.boot_wall = boot_wall();
        let now = boot_time();
        for lost in self
            .tally
            .announce(&self.programs.counters, &self.programs.misses, now)
        {
            self.loss_log.note(&lost);
            out.push(self.lost_event(lost));
        }
        for message in self.loss_log.due(self.losses_checked) {
            tracing::warn!("{message}");
        }
    }

    fn lost_event(&self, lost: Lost) -> Event {
        Event {
            header: self.header(lost.to),
            kind: EventKind::Lost(lost),
        }
    }

    fn header(&self, time: BootTime) -> Header {
        Header {
            boot: self.clock.boot,
            time,
            wall: WallTime::at(self.clock.boot_wall, time),
            ..Header::default()
        }
    }

    /// Enters a process into the kernel's map, unless the programs have told of it already.
    fn adopt(&mut self, pid: u32, stat: procfs::Stat) -> Result<Option<Adopted>, Error> {
        let parent = self.known(stat.ppid);
        let boot = self.clock.boot;
        let key = |start| ProcessKey { boot, pid, start };
        let flags = self.flags_of(key(procfs::start(&stat)), &stat);
        let Some(start) = self.enter(pid, procfs::start(&stat), parent, flags)? else {
            return Ok(None);
        };
        let key = key(start);
        Ok(Some(Adopted { key, parent, stat }))
    }

    /// What the mute list says of a process that runs already.
    fn flags_of(&self, key: ProcessKey, stat: &procfs::Stat) -> u32 {
        if self.programs.muted.is_empty() {
            return 0;
        }
        let process = procfs::process(key, None, stat);
        self.programs.muted.flags_of(&process)
    }

    /// The row of a process that was entered; `None` if it had ended before that. One that ended
    /// after it has a row even so, since its exit will be reported.
    fn row(&mut self, adopted: Adopted) -> Option<Snapshot> {
        let Adopted { key, parent, stat } = adopted;
        let process = procfs::process(key, parent, &stat);
        let lives = procfs::stat(key.pid)
            .is_some_and(|now| !now.ended && now.start_ticks == stat.start_ticks);
        if !lives && self.withdraw(key) {
            return None;
        }
        Some(Snapshot { process })
    }

    /// The start under which the kernel now knows the process; `None` if its fork or exec record
    /// tells of it.
    fn enter(
        &mut self,
        pid: u32,
        start: BootTime,
        parent: Option<ProcessKey>,
        flags: u32,
    ) -> Result<Option<BootTime>, Error> {
        match self
            .programs
            .processes
            .insert(pid, identity_words(start, parent, flags), BPF_NOEXIST)
        {
            Ok(()) => Ok(Some(start)),
            Err(error) if has_errno(&error, Errno::EXIST) => Ok(self.entered_by_kernel(pid)),
            Err(error) if has_errno(&error, Errno::TOOBIG) => Ok(Some(start)),
            Err(error) => Err(Error::Load {
                what: "process map".into(),
                source: Box::new(error),
            }),
        }
    }

    /// A process that the programs met as the parent of a fork has an entry but no record.
    fn entered_by_kernel(&self, pid: u32) -> Option<BootTime> {
        let [start, _, parent_and_flags] = self.programs.processes.get(&pid, 0).ok()?;
        let announced = parent_and_flags >> 32 & u64::from(identity_flag::ANNOUNCED) != 0;
        (!announced).then_some(BootTime(start))
    }

    /// Takes back an entry of a process that ended before it was entered. False if its exit was
    /// reported after all.
    fn withdraw(&mut self, key: ProcessKey) -> bool {
        let same = self
            .programs
            .processes
            .get(&key.pid, 0)
            .is_ok_and(|w| w[0] == key.start.0);
        same && self.programs.processes.remove(&key.pid).is_ok()
    }

    fn known(&self, pid: u32) -> Option<ProcessKey> {
        let [start, ..] = self.programs.processes.get(&pid, 0).ok()?;
        Some(ProcessKey {
            boot: self.clock.boot,
            pid,
            start: BootTime(start),
        })
    }
}

/// A process that already ran and is now in the kernel's map.
struct Adopted {
    key: ProcessKey,
    parent: Option<ProcessKey>,
    stat: procfs::Stat,
}

impl Sensor for EbpfSensor {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn snapshot(&mut self, out: &mut Vec<Event>) -> Result<(), SensorError> {
        let mut stats: Vec<(u32, procfs::Stat)> = procfs::pids()
            .map_err(|source| Error::System {
                call: "listing /proc",
                source,
            })?
            .into_iter()
            .filter_map(|pid| Some((pid, procfs::stat(pid).filter(|stat| !stat.ended)?)))
            .collect();
        // A parent is older than its children, and so is known when they are entered.
        stats.sort_unstable_by_key(|(pid, stat)| (stat.start_ticks, *pid));
        // Before any is entered: from then on what it does has records, which are younger.
        let header = self.header(boot_time());
        let mut adopted = Vec::with_capacity(stats.len());
        for (pid, stat) in stats {
            adopted.extend(self.adopt(pid, stat)?);
        }
        let first = out.len();
        for row in adopted {
            let Some(row) = self.row(row) else { continue };
            self.tally.snapshot += 1;
            out.push(Event {
                header,
                kind: EventKind::Snapshot(Box::new(row)),
            });
        }
        self.accounts.name_all(&mut out[first..]);
        self.tally.snapshot_done(&self.programs.counters);
        Ok(())
    }

    fn next_batch(
        &mut self,
        out: &mut Vec<Event>,
        timeout: Duration,
    ) -> Result<BatchEnd, SensorError> {
        self.wait(timeout)?;
        let first = out.len();
        self.drain(out);
        self.accounts.name_all(&mut out[first..]);
        self.announce_losses(out);
        Ok(BatchEnd::Open)
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        self.announce_losses_now(out);
    }

    fn stats(&self) -> Stats {
        self.tally.stats(&self.programs.counters)
    }

    fn waker(&self) -> Waker {
        self.waiter.waker()
    }
}

fn count(tally: &mut Tally, record: &Record<'_>) {
    if let Some(header) = record.event_header() {
        tally.arrived(header.cpu, header.sequence);
        if is_of_substitute(header) {
            match record {
                Record::Exec(_) => tally.substituted.0 += 1,
                _ => tally.substituted.1 += 1,
            }
        }
    }
}

/// Joins what came in records of its own.
fn complete(
    event: &mut Event,
    exec_id: u32,
    cgroups: &mut Cgroups,
    environments: &mut Environments,
) {
    let EventKind::Exec(exec) = &mut event.kind else {
        return;
    };
    let process = &mut exec.process;
    let pid = process.key.pid;
    if let Some(id) = process.cgroup_id
        && let Some(of) = cgroups.of(id, || procfs::cgroup_path(pid))
    {
        process.container.clone_from(&of.container);
        process.unit.clone_from(&of.unit);
    }
    if let Some(chosen) = environments.take(pid, exec_id) {
        process.environment = Some(chosen.variables);
        process.environment_truncated_bytes = chosen.truncated_bytes;
    }
}

fn is_truncated(event: &Event) -> bool {
    matches!(&event.kind, EventKind::Exec(exec) if exec.process.argv_truncated_bytes > 0)
}

/// See `sensor_ebpf::record::Identity`; eBPF objects are little-endian here.
fn identity_words(start: BootTime, parent: Option<ProcessKey>, flags: u32) -> IdentityWords {
    let (parent_start, parent_tgid) = parent.map_or((0, 0), |p| (p.start.0, p.pid));
    let parent_and_flags = u64::from(flags) << 32 | u64::from(parent_tgid);
    [start.0, parent_start, parent_and_flags]
}

fn has_errno(error: &aya::maps::MapError, errno: Errno) -> bool {
    matches!(error, aya::maps::MapError::SyscallError(call)
        if call.io_error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Fields of an event that hang on a kernel field that may be absent.
fn capabilities(programs: &Programs, options: &Options) -> Capabilities {
    let offsets = &programs.offsets;
    let hangs_on: [(&'static str, &[Field]); 15] = [
        (
            "executable",
            &[
                Field::BprmFile,
                Field::FilePath,
                Field::DentryName,
                Field::MountVfsmount,
            ],
        ),
        ("args", &[Field::TaskMm, Field::MmArgStart, Field::MmArgEnd]),
        ("working_directory", &[Field::TaskFs, Field::FsPwd]),
        (
            "credentials",
            &[
                Field::TaskCred,
                Field::CredUid,
                Field::CredGid,
                Field::CredEuid,
                Field::CredEgid,
            ],
        ),
        (
            "effective_caps",
            &[Field::TaskCred, Field::CredCapEffective],
        ),
        ("login_uid", &[Field::TaskLoginUid]),
        ("session", &[Field::TaskSessionId]),
        (
            "exe_file",
            &[Field::FileInode, Field::InodeNumber, Field::InodeNlink],
        ),
        (
            "exe_file times and size",
            &[
                Field::InodeSize,
                Field::InodeMtimeSeconds,
                Field::InodeCtimeSeconds,
            ],
        ),
        ("interpreter", &[Field::BprmInterp]),
        ("secure_exec", &[Field::BprmSecureExec]),
        (
            "file_caps",
            &[Field::CredCapPermitted, Field::CredCapAmbient],
        ),
        (
            "namespaces",
            &[
                Field::TaskNsproxy,
                Field::MntInum,
                Field::PidInum,
                Field::UserInum,
            ],
        ),
        ("session_leader", &[Field::SignalSession, Field::PidNumbers]),
        ("tty", &[Field::SignalTty, Field::TtyDriver]),
    ];
    let mut absent: Vec<(&'static str, String)> = hangs_on
        .into_iter()
        .filter_map(|(name, fields)| {
            let missing = fields.iter().find(|field| offsets.of(**field).is_none())?;
            Some((name, format!("this kernel has no {}", missing.paths()[0])))
        })
        .collect();
    if offsets.of(Field::NodeId).is_none() || offsets.of(Field::TaskCgroups).is_none() {
        absent.push((
            "container",
            "this kernel does not show control groups".into(),
        ));
    }
    if options.environment.is_empty() {
        absent.push(("environment", "no variable was asked for".into()));
    }
    Capabilities {
        sensor: programs.source.name(),
        event_driven: true,
        forks: true,
        exit_status: true,
        absent,
    }
}
