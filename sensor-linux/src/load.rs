//! The committed object: set its globals, load, attach.

use std::os::fd::AsFd as _;
use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapType, PerfEventArray};
use aya::programs::{Program as Loaded, ProgramError, RawTracePoint, TracePoint};
use aya::sys::is_map_supported;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use event::EventClass;
use sensor_ebpf::config::Settings;
use sensor_ebpf::drops::{SLOTS_PER_CPU, STAGING_PER_CPU};

use crate::btf::Btf;
use crate::features;
use crate::misses::{Missed, Misses, Role};
use crate::mute::Resolved;
use crate::offsets::Offsets;
use crate::ring::Ring;
use crate::stats::{CONTAINER, ENVIRONMENT, FAILED_EXEC};
use crate::sys::{Counters, NapWord, RingMemory, trim_heap};
use crate::transport::{PerfBuffers, RingBuffer, Source, Transport};
use crate::{Error, Options};

const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

static PERF_OBJECT: &[u8] = aya::include_bytes_aligned!("../ebpf/daemoneye-perf.bpf.o");
static OBJECT: &[u8] = aya::include_bytes_aligned!("../ebpf/daemoneye.bpf.o");
static DEBUG_OBJECT: &[u8] = aya::include_bytes_aligned!("../ebpf/daemoneye-debug.bpf.o");

/// A program and the tracepoint that it is attached to.
pub(crate) struct Program {
    name: &'static str,
    tracepoint: Tracepoint,
    pub(crate) missed: Missed,
    pub(crate) role: Role,
    is_wanted: fn(&Options, Preemption) -> bool,
}

enum Tracepoint {
    Raw(&'static str),
    /// One of the scheduler's, through perf.
    Scheduler(&'static str),
}

/// Whether a program can be preempted, and is then left out for other processes on that cpu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preemption {
    Never,
    Possible,
}

impl Preemption {
    /// By version, since nothing else shows it. Since 7.0 tracepoints are guarded by SRCU-fast and no
    /// longer by disabled preemption:
    /// <https://github.com/torvalds/linux/commit/a46023d5616ed3ed781e56ca93400eb9490e3646>
    fn of_release(release: &str) -> Self {
        let major = release.split('.').next().and_then(|n| n.parse().ok());
        if major.is_some_and(|major: u32| major >= 7) {
            Self::Possible
        } else {
            Self::Never
        }
    }

    pub(crate) fn of_this_kernel() -> Self {
        Self::of_release(&rustix::system::uname().release().to_string_lossy())
    }
}

/// Attached in this order: an exit of a process that no fork announced is only counted, while a
/// fork whose exit is missed would leave its entry in the process map for ever. Raw programs of one
/// tracepoint run in the order in which they were attached; one that is attached through perf runs after
/// them, unless others used the tracepoint through perf before.
///
/// Where programs can be preempted, more of them wait for what one is left out for, at worst at a place
/// where nothing preempts; only what all of them missed is lost.
pub(crate) const PROGRAMS: [Program; 11] = [
    Program {
        name: "sched_process_free",
        tracepoint: Tracepoint::Raw("sched_process_free"),
        missed: Missed::Event(EventClass::Exit),
        role: Role::Release,
        is_wanted: |_, preemption| preemption == Preemption::Possible,
    },
    Program {
        name: "sched_process_exit",
        tracepoint: Tracepoint::Raw("sched_process_exit"),
        missed: Missed::Event(EventClass::Exit),
        role: Role::First,
        is_wanted: |_, _| true,
    },
    Program {
        name: "exit_substitute",
        tracepoint: Tracepoint::Scheduler("sched_process_exit"),
        missed: Missed::Event(EventClass::Exit),
        role: Role::Substitute,
        is_wanted: |_, preemption| preemption == Preemption::Possible,
    },
    Program {
        name: "cgroup_of_exec",
        tracepoint: Tracepoint::Raw("sched_process_exec"),
        missed: Missed::Part(CONTAINER),
        role: Role::First,
        is_wanted: |_, _| true,
    },
    Program {
        name: "environment_of_exec",
        tracepoint: Tracepoint::Raw("sched_process_exec"),
        missed: Missed::Part(ENVIRONMENT),
        role: Role::First,
        is_wanted: |options, _| !options.environment.is_empty(),
    },
    Program {
        name: "sched_process_exec",
        tracepoint: Tracepoint::Raw("sched_process_exec"),
        missed: Missed::Event(EventClass::Exec),
        role: Role::First,
        is_wanted: |_, _| true,
    },
    Program {
        name: "sched_process_exec_again",
        tracepoint: Tracepoint::Raw("sched_process_exec"),
        missed: Missed::Event(EventClass::Exec),
        role: Role::Again,
        is_wanted: |_, preemption| preemption == Preemption::Possible,
    },
    Program {
        name: "exec_substitute",
        tracepoint: Tracepoint::Scheduler("sched_process_exec"),
        missed: Missed::Event(EventClass::Exec),
        role: Role::Substitute,
        is_wanted: |_, preemption| preemption == Preemption::Possible,
    },
    Program {
        name: "sched_process_fork",
        tracepoint: Tracepoint::Raw("sched_process_fork"),
        missed: Missed::Event(EventClass::Fork),
        role: Role::First,
        is_wanted: |_, preemption| preemption == Preemption::Never,
    },
    Program {
        name: "sched_wakeup_new",
        tracepoint: Tracepoint::Raw("sched_wakeup_new"),
        missed: Missed::Event(EventClass::Fork),
        role: Role::First,
        is_wanted: |_, preemption| preemption == Preemption::Possible,
    },
    Program {
        name: "failed_exec",
        tracepoint: Tracepoint::Raw("sys_exit"),
        missed: Missed::Part(FAILED_EXEC),
        role: Role::First,
        is_wanted: |options, _| options.failed_execs,
    },
];

/// A process in the kernel's map, as three words; see `sensor_ebpf::record::Identity`.
pub(crate) type IdentityWords = [u64; 3];

/// The running programs and their maps. Dropping it detaches them.
pub(crate) struct Programs {
    pub(crate) source: Source,
    pub(crate) processes: HashMap<MapData, u32, IdentityWords>,
    pub(crate) counters: Counters,
    pub(crate) misses: Misses,
    pub(crate) offsets: Offsets,
    pub(crate) muted: Resolved,
    pub(crate) logger: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
    _ebpf: Ebpf,
}

/// Loads and attaches the programs.
pub(crate) fn load(options: &Options) -> Result<Programs, Error> {
    let offsets = kernel_offsets()?;
    let cpus = possible_cpus()?;
    let muted = options.mute.resolve()?;
    let preemption = Preemption::of_this_kernel();
    let settings = settings(&muted, preemption);
    let mut loader = EbpfLoader::new();
    loader
        // The object has no CO-RE relocations.
        .btf(None)
        .override_global("OFFSETS", &offsets.values[..], true)
        .override_global("SETTINGS", &settings[..], true)
        .map_max_entries("PROCESSES", options.max_processes)
        .map_max_entries("COUNTERS", cpus * SLOTS_PER_CPU)
        .verifier_log_level(VerifierLogLevel::STATS);
    let transport = options.transport.unwrap_or_else(best_transport);
    let object = match transport {
        Transport::Ring if options.debug => DEBUG_OBJECT,
        Transport::Ring => OBJECT,
        Transport::Perf => PERF_OBJECT,
    };
    match transport {
        Transport::Ring => loader.map_max_entries("EVENTS", options.ring_bytes),
        Transport::Perf => loader
            .map_max_entries("EVENTS", cpus)
            .map_max_entries("STAGING", cpus * STAGING_PER_CPU)
            .map_max_entries("STAGING_OWNERS", cpus * STAGING_PER_CPU),
    };
    let mut ebpf = loader
        .load(object)
        .map_err(|source| load_error("object", source))?;
    let counters =
        Counters::map(array(&ebpf, "COUNTERS")?.fd(), cpus).map_err(|source| Error::System {
            call: "mmap of the counter map",
            source,
        })?;
    let source = source(&mut ebpf, transport, options.ring_bytes)?;
    let processes = take(&mut ebpf, "PROCESSES", HashMap::try_from)?;
    let logger = (options.debug && transport == Transport::Ring)
        .then(|| init_log(&mut ebpf))
        .transpose()?;
    let mut misses = Misses::default();
    fill_mute_lists(&mut ebpf, &muted)?;
    let wanted = PROGRAMS.iter();
    let wanted = wanted.filter(|program| (program.is_wanted)(options, preemption));
    // All before the first is attached: while the kernel verifies, nobody reads what that one sends.
    for program in wanted.clone() {
        verify(&mut ebpf, program)?;
    }
    for program in wanted {
        attach(&mut ebpf, program, &mut misses)?;
    }
    trim_heap();
    Ok(Programs {
        source,
        processes,
        counters,
        misses,
        offsets,
        muted,
        logger,
        _ebpf: ebpf,
    })
}

/// Asks the kernel; where it does not answer, loading says why.
fn best_transport() -> Transport {
    match is_map_supported(MapType::RingBuf) {
        Ok(false) => Transport::Perf,
        Ok(true) | Err(_) => Transport::Ring,
    }
}

/// Opens the user side of the transport.
fn source(ebpf: &mut Ebpf, transport: Transport, bytes: u32) -> Result<Source, Error> {
    match transport {
        Transport::Ring => ring_buffer(ebpf).map(Source::Ring),
        Transport::Perf => {
            let map = take(ebpf, "EVENTS", PerfEventArray::try_from)?;
            PerfBuffers::open(map, bytes)
                .map(Source::Perf)
                .map_err(|source| Error::Load {
                    what: "perf buffers".into(),
                    source,
                })
        }
    }
}

fn ring_buffer(ebpf: &mut Ebpf) -> Result<RingBuffer, Error> {
    let nap = NapWord::map(array(ebpf, "NAPPING")?.fd()).map_err(|source| Error::System {
        call: "mmap of the reader's word",
        source,
    })?;
    let Some(Map::RingBuf(map)) = ebpf.take_map("EVENTS") else {
        return Err(missing("EVENTS"));
    };
    // Rounded up by the loader.
    let info = map.info().map_err(|source| load_error("EVENTS", source))?;
    let memory =
        RingMemory::map(map.fd(), info.max_entries() as usize).map_err(|source| Error::System {
            call: "mmap of the ring buffer",
            source,
        })?;
    let position = memory.position();
    let ring = Ring::new(memory, position);
    Ok(RingBuffer { map, ring, nap })
}

/// Where the running kernel keeps the fields that the programs read.
pub(crate) fn kernel_offsets() -> Result<Offsets, Error> {
    let bytes = std::fs::read(KERNEL_BTF).map_err(|source| Error::BtfUnreadable {
        path: Path::new(KERNEL_BTF).to_owned(),
        source,
    })?;
    Offsets::resolve(&Btf::parse(&bytes)?)
}

/// Cpu ids that can ever appear, not only those online now.
fn possible_cpus() -> Result<u32, Error> {
    let cpus = aya::util::nr_cpus().map_err(|(_, source)| Error::System {
        call: "reading the possible cpus",
        source,
    })?;
    u32::try_from(cpus).map_err(|_| Error::System {
        call: "counting the possible cpus",
        source: std::io::ErrorKind::InvalidData.into(),
    })
}

/// Has the kernel verify a program.
fn verify(ebpf: &mut Ebpf, wanted: &Program) -> Result<(), Error> {
    let name = wanted.name;
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    match program {
        Loaded::RawTracePoint(program) => program.load(),
        Loaded::TracePoint(program) => program.load(),
        _ => return Err(missing(name)),
    }
    .map_err(|source| load_error(name, source))
}

fn attach(ebpf: &mut Ebpf, wanted: &Program, misses: &mut Misses) -> Result<(), Error> {
    let name = wanted.name;
    match wanted.tracepoint {
        Tracepoint::Raw(tracepoint) => {
            let program: &mut RawTracePoint = program(ebpf, name)?;
            let attached = program.attach(tracepoint);
            attached.map_err(|source| load_error(name, source))?;
        }
        // Only a substitute is attached that way, and it needs tracefs.
        Tracepoint::Scheduler(tracepoint) => {
            let program: &mut TracePoint = program(ebpf, name)?;
            if let Err(error) = program.attach("sched", tracepoint) {
                tracing::warn!("events that the kernel hides from us may be lost: {name}: {error}");
                return Ok(());
            }
        }
    }
    let descriptor = ebpf.program(name).and_then(|program| program.fd().ok());
    if let Some(descriptor) = descriptor {
        misses.watch(wanted.missed, wanted.role, descriptor.as_fd());
    }
    Ok(())
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<P, Error>
where
    P: TryFrom<&'a mut Loaded, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or_else(|| missing(name))?
        .try_into()
        .map_err(|source| load_error(name, source))
}

/// The words of [`Settings`].
fn settings(muted: &Resolved, preemption: Preemption) -> [u32; 5] {
    let [execve, execveat] = EXEC_SYSCALLS;
    let settings = Settings {
        muting: u32::from(!muted.is_empty()),
        exec_syscalls: [execve, execveat],
        compat_mask: COMPAT_MASK,
        preemptible: u32::from(preemption == Preemption::Possible),
    };
    [
        settings.muting,
        execve,
        execveat,
        settings.compat_mask,
        settings.preemptible,
    ]
}

/// `TS_COMPAT`: <https://github.com/torvalds/linux/blob/v6.12/arch/x86/include/asm/thread_info.h#L226>
#[cfg(target_arch = "x86_64")]
const COMPAT_MASK: u32 = 2;
#[cfg(target_arch = "x86_64")]
const EXEC_SYSCALLS: [u32; 2] = [59, 322];

/// `TIF_32BIT`: <https://github.com/torvalds/linux/blob/v6.12/arch/arm64/include/asm/thread_info.h#L79>
#[cfg(target_arch = "aarch64")]
const COMPAT_MASK: u32 = 1 << 22;
#[cfg(target_arch = "aarch64")]
const EXEC_SYSCALLS: [u32; 2] = [221, 281];

fn fill_mute_lists(ebpf: &mut Ebpf, muted: &Resolved) -> Result<(), Error> {
    let exes = muted.exes.iter().map(|exe| {
        let key = [exe.inode, exe.device.into()];
        (key, exe.bits)
    });
    fill(ebpf, "MUTED_EXES", exes)?;
    fill(ebpf, "MUTED_UIDS", muted.uids.iter().copied())?;
    fill(ebpf, "MUTED_CGROUPS", muted.cgroups.iter().copied())
}

fn fill<K: aya::Pod>(
    ebpf: &mut Ebpf,
    name: &str,
    entries: impl Iterator<Item = (K, u32)>,
) -> Result<(), Error> {
    let map = ebpf.map_mut(name).ok_or_else(|| missing(name))?;
    let mut map: HashMap<&mut MapData, K, u32> =
        HashMap::try_from(map).map_err(|source| load_error(name, source))?;
    for (key, bits) in entries {
        map.insert(key, bits, 0)
            .map_err(|source| load_error(name, source))?;
    }
    Ok(())
}

fn init_log(ebpf: &mut Ebpf) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>, Error> {
    aya_log::EbpfLogger::init(ebpf).map_err(|source| load_error("log map", source))
}

fn take<T, E>(
    ebpf: &mut Ebpf,
    name: &str,
    convert: impl FnOnce(Map) -> Result<T, E>,
) -> Result<T, Error>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let map = ebpf.take_map(name).ok_or_else(|| missing(name))?;
    convert(map).map_err(|source| load_error(name, source))
}

/// The map stays with `ebpf`: programs that are loaded later refer to it by its descriptor.
fn array<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a MapData, Error> {
    match ebpf.map(name) {
        Some(Map::Array(data)) => Ok(data),
        _ => Err(missing(name)),
    }
}

fn missing(what: &str) -> Error {
    Error::Load {
        what: what.to_owned(),
        source: "it is not in the object".into(),
    }
}

fn load_error(what: &str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    if is_permission(&source) {
        Error::NotPermitted {
            source: Box::new(source),
        }
    } else if features::is_locked_down() {
        Error::Lockdown {
            source: Box::new(source),
        }
    } else {
        Error::Load {
            what: what.to_owned(),
            source: Box::new(source),
        }
    }
}

/// EPERM alone: EACCES is how the verifier refuses a program.
fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    let eperm = rustix::io::Errno::PERM.raw_os_error();
    std::iter::successors(Some(error), |e| e.source())
        .filter_map(|e| e.downcast_ref::<std::io::Error>())
        .any(|e| e.raw_os_error() == Some(eperm))
}

#[cfg(test)]
mod tests {
    use super::Preemption;

    #[test]
    fn programs_can_be_preempted_since_7_0() {
        for (release, preemption) in [
            ("5.10.0-35-cloud-amd64", Preemption::Never),
            ("6.18.44", Preemption::Never),
            ("7.0.0-rc1", Preemption::Possible),
            ("10.1", Preemption::Possible),
            ("", Preemption::Never),
        ] {
            assert_eq!(Preemption::of_release(release), preemption, "{release}");
        }
    }
}
