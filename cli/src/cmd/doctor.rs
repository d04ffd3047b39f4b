//! `daemoneye doctor`: what this host offers to the sensor.

use std::process::ExitCode;

use sensor_fallback::PollSensor;
use serde_json::json;

use crate::exit::Failure;
use crate::output::line;
use crate::sensor::SEE_OTHERS;

/// One line of the report.
struct Finding {
    name: &'static str,
    ok: bool,
    found: String,
    fix: String,
}

pub(crate) fn doctor(json: bool) -> Result<ExitCode, Failure> {
    let findings = findings();
    let second = second();
    for finding in findings.iter().chain(&second) {
        print(finding, json)?;
    }
    let all_ok = findings.iter().all(|finding| finding.ok);
    let second_ok = second.is_some_and(|second| second.ok);
    if !all_ok && !second_ok {
        print(&polling(), json)?;
    }
    if !json {
        line(verdict(all_ok, second_ok))?;
    }
    Ok(if all_ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(crate::exit::Code::SensorUnavailable as u8)
    })
}

fn verdict(first: bool, second: bool) -> &'static str {
    match (first, second) {
        (true, _) => "`daemoneye run` will use the kernel's events",
        (false, true) => {
            "`daemoneye run` will use the process connector until what is marked `no` is mended"
        }
        (false, false) => {
            "`daemoneye run` will fall back to polling until what is marked `no` is mended"
        }
    }
}

/// What `run` would see instead.
fn polling() -> Finding {
    let hidden = PollSensor::hidden();
    Finding {
        name: "polling",
        ok: hidden.is_none(),
        found: hidden
            .unwrap_or("works; short-lived processes are missed")
            .into(),
        fix: hidden.map_or("", |_| SEE_OTHERS).into(),
    }
}

fn print(finding: &Finding, json: bool) -> std::io::Result<()> {
    if json {
        return line(json!({
            "check": finding.name, "ok": finding.ok, "found": finding.found, "fix": finding.fix,
        }));
    }
    let mark = if finding.ok { "ok" } else { "no" };
    line(format_args!(
        "{mark}  {:<20} {}",
        finding.name, finding.found
    ))?;
    if !finding.fix.is_empty() {
        line(format_args!("    {:<20} fix: {}", "", finding.fix))?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn findings() -> Vec<Finding> {
    let probes = sensor_linux::probe().into_iter().map(Finding::from);
    probes.chain([trial(), hashing()]).collect()
}

/// What hashing can read with these rights; without them it reads less, and nothing else suffers.
#[cfg(target_os = "linux")]
fn hashing() -> Finding {
    let lacking = crate::privileges::lacking_to_read_others();
    let found = if lacking.is_empty() {
        "on; keeps CAP_DAC_READ_SEARCH and CAP_SYS_PTRACE after start, and with them may read every \
         file and process (--no-hash: keeps nothing)"
            .to_owned()
    } else {
        format!(
            "on, without {}: executables that only others may read, and of others' processes \
             deleted ones, memfds and those in containers, are told as `unreadable`",
            lacking.join(" and ")
        )
    };
    Finding {
        name: "executable hashes",
        ok: true,
        found,
        fix: String::new(),
    }
}

#[cfg(target_os = "linux")]
impl From<sensor_linux::Probe> for Finding {
    fn from(probe: sensor_linux::Probe) -> Self {
        Self {
            name: probe.name,
            ok: probe.ok,
            found: probe.found,
            fix: probe.fix.to_owned(),
        }
    }
}

/// The source that is tried next; nothing is wrong if it is not needed.
#[cfg(target_os = "linux")]
fn second() -> Option<Finding> {
    Some(sensor_linux::probe_connector().into())
}

#[cfg(not(target_os = "linux"))]
fn second() -> Option<Finding> {
    None
}

/// The surest probe: load and attach the programs, and let go of them again.
#[cfg(target_os = "linux")]
fn trial() -> Finding {
    match sensor_linux::EbpfSensor::open(&sensor_linux::Options::default()) {
        Ok(_) => Finding {
            name: "eBPF programs",
            ok: true,
            found: "loaded, attached and detached again".into(),
            fix: String::new(),
        },
        Err(error) => Finding {
            name: "eBPF programs",
            ok: false,
            found: error.to_string(),
            fix: error.advice().unwrap_or_default().to_owned(),
        },
    }
}

#[cfg(not(target_os = "linux"))]
fn findings() -> Vec<Finding> {
    let arguments = crate::args::Sensor::default();
    let (ok, found) = match crate::sensor::kernel(&arguments) {
        Ok(sensor) => (
            true,
            format!("{} started and stopped again", sensor.capabilities().sensor),
        ),
        Err(error) => (false, error.to_string()),
    };
    vec![Finding {
        name: "kernel sensor",
        ok,
        found,
        fix: String::new(),
    }]
}
