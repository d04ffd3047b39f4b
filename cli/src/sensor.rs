//! Picks the source of events for this system, and says why it took the one it took. The only
//! place outside the sensors that asks which operating system this is.

use anyhow::anyhow;
use clap::ValueEnum as _;
use event::{Sensor, SensorError};
use sensor_fallback::PollSensor;
#[cfg(target_os = "linux")]
use sensor_linux::{Muted, Transport};

use crate::args::{self, SensorChoice};
#[cfg(target_os = "linux")]
use crate::args::{MuteWhat, TransportChoice};
use crate::exit::{Code, Failure, WithCode};
use crate::output::notice;

/// Opens the sensor that was asked for. With `auto`, the next best takes the place of one that
/// cannot be had.
pub(crate) fn open(args: &args::Sensor) -> Result<Box<dyn Sensor>, Failure> {
    check(args)?;
    match args.choice {
        SensorChoice::Auto => match kernel(args).or_else(|error| second(args, error)) {
            Ok(sensor) => Ok(sensor),
            Err(error) => {
                notice(format_args!("no kernel events: {error}"));
                notice("polling instead: processes that live shorter than the interval are missed");
                poll(args)
            }
        },
        SensorChoice::Poll => poll(args),
        #[cfg(target_os = "linux")]
        SensorChoice::Netlink => connector(args).code(Code::SensorUnavailable),
        named if named == KERNEL_SENSOR => kernel(args).code(Code::SensorUnavailable),
        named => Err(Failure::new(
            Code::SensorUnavailable,
            anyhow!(
                "sensor {} is not for this operating system",
                named
                    .to_possible_value()
                    .map_or_else(String::new, |value| value.get_name().to_owned())
            ),
        )),
    }
}

/// What was asked for must make sense whichever sensor it will be.
#[cfg(target_os = "linux")]
fn check(args: &args::Sensor) -> Result<(), Failure> {
    mute_list(&args.mute)
        .check()
        .map_err(SensorError::from)
        .code(Code::Usage)
}

#[cfg(not(target_os = "linux"))]
fn check(_: &args::Sensor) -> Result<(), Failure> {
    Ok(())
}

/// What only the eBPF programs can do must not be missed in silence.
fn warn_of_ebpf_flags(args: &args::Sensor) {
    let given = [
        ("--mute", !args.mute.is_empty()),
        ("--failed-exec", args.failed_exec),
        ("--env", !args.env.is_empty()),
    ];
    for (flag, _) in given.iter().filter(|(_, given)| *given) {
        notice(format_args!(
            "{flag} has no effect: only the eBPF sensor can do that"
        ));
    }
}

fn poll(args: &args::Sensor) -> Result<Box<dyn Sensor>, Failure> {
    warn_of_ebpf_flags(args);
    let sensor = PollSensor::open(args.poll_interval())
        .map_err(SensorError::from)
        .code(Code::SensorUnavailable)?;
    if let Some(hidden) = PollSensor::hidden() {
        notice(format_args!("{hidden} ({SEE_OTHERS})"));
    }
    Ok(Box::new(sensor))
}

/// What lets polling see other users' processes.
pub(crate) const SEE_OTHERS: &str = "run as root, or with CAP_SYS_PTRACE";

#[cfg(target_os = "linux")]
pub(crate) const KERNEL_SENSOR: SensorChoice = SensorChoice::Ebpf;

#[cfg(target_os = "linux")]
pub(crate) fn kernel(args: &args::Sensor) -> Result<Box<dyn Sensor>, SensorError> {
    Ok(Box::new(open_ebpf(args)?))
}

/// What is tried when the first choice cannot be had.
#[cfg(target_os = "linux")]
fn second(args: &args::Sensor, first: SensorError) -> Result<Box<dyn Sensor>, SensorError> {
    notice(format_args!("no eBPF: {first}"));
    let sensor = connector(args)?;
    notice("the process connector instead: a program that ends at once is told without arguments");
    Ok(sensor)
}

#[cfg(not(target_os = "linux"))]
fn second(_: &args::Sensor, first: SensorError) -> Result<Box<dyn Sensor>, SensorError> {
    Err(first)
}

#[cfg(target_os = "linux")]
fn connector(args: &args::Sensor) -> Result<Box<dyn Sensor>, SensorError> {
    let options = sensor_linux::NetlinkOptions {
        buffer_bytes: args.netlink_buffer << 20,
    };
    let sensor = sensor_linux::NetlinkSensor::open(&options)?;
    warn_of_ebpf_flags(args);
    Ok(Box::new(sensor))
}

/// The eBPF sensor as itself, for the counting benchmark.
#[cfg(target_os = "linux")]
pub(crate) fn open_ebpf(args: &args::Sensor) -> Result<sensor_linux::EbpfSensor, SensorError> {
    let options = sensor_linux::Options {
        ring_bytes: args.ring_bytes,
        debug: args.ebpf_debug,
        transport: match args.transport {
            TransportChoice::Auto => None,
            TransportChoice::Ring => Some(Transport::Ring),
            TransportChoice::Perf => Some(Transport::Perf),
        },
        max_processes: args.max_processes,
        mute: mute_list(&args.mute),
        failed_execs: args.failed_exec,
        environment: args.env.clone(),
    };
    Ok(sensor_linux::EbpfSensor::open(&options)?)
}

#[cfg(target_os = "linux")]
fn mute_list(entries: &[args::Mute]) -> sensor_linux::MuteList {
    let mut list = sensor_linux::MuteList::default();
    for args::Mute { what, children } in entries.iter().cloned() {
        match what {
            MuteWhat::Exe(what) => list.exes.push(Muted { what, children }),
            MuteWhat::Uid(what) => list.uids.push(Muted { what, children }),
            MuteWhat::Cgroup(what) => list.cgroups.push(Muted { what, children }),
        }
    }
    list
}

#[cfg(windows)]
pub(crate) const KERNEL_SENSOR: SensorChoice = SensorChoice::Etw;

#[cfg(windows)]
pub(crate) fn kernel(_: &args::Sensor) -> Result<Box<dyn Sensor>, SensorError> {
    Ok(Box::new(sensor_windows::EtwSensor::open()?))
}

#[cfg(target_os = "macos")]
pub(crate) const KERNEL_SENSOR: SensorChoice = SensorChoice::EndpointSecurity;

#[cfg(target_os = "macos")]
pub(crate) fn kernel(_: &args::Sensor) -> Result<Box<dyn Sensor>, SensorError> {
    Ok(Box::new(sensor_macos::EsSensor::open()?))
}

#[cfg(not(any(target_os = "linux", windows, target_os = "macos")))]
pub(crate) const KERNEL_SENSOR: SensorChoice = SensorChoice::Auto;

#[cfg(not(any(target_os = "linux", windows, target_os = "macos")))]
pub(crate) fn kernel(_: &args::Sensor) -> Result<Box<dyn Sensor>, SensorError> {
    Err(SensorError {
        message: "this system has no kernel sensor yet".into(),
        advice: None,
        source: None,
    })
}
