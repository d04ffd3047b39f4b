//! How soon after an exec something can be read of it: the alert's line of `daemoneye run`, and the
//! event in the file of `daemoneye record`. No mode prints every event as a line.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use vm::follow::{Follow, age};
use vm::tiny;

use super::interrupt;
use super::spread::Quantiles;
use super::storm::paced;
use super::target::{Mode, Sensor};

/// Between two alerts, so that they meet the load at different moments.
const GAP: Duration = Duration::from_millis(20);

/// Milliseconds each.
pub(super) struct Latency {
    pub(super) alert_at_rest: Option<Quantiles>,
    pub(super) alert_under_load: Option<Quantiles>,
    pub(super) event_under_load: Option<Quantiles>,
}

/// Over so many alerts one by one, and over all execs of a load of so many a second.
pub(super) fn measure(alerts: u64, rate: u32, options: &[&str]) -> Result<Latency> {
    let seconds = u32::try_from(alerts).unwrap_or(100) / 10 + 30;
    let under_load = || {
        let _load = Load::start(rate * seconds, rate)?;
        alert(alerts, options)
    };
    Ok(Latency {
        alert_at_rest: alert(alerts, options)?,
        alert_under_load: under_load()?,
        event_under_load: if alerts > 0 {
            event(rate, options)?
        } else {
            None
        },
    })
}

/// From before the spawn to the alert's line, which the reading thread stamps.
fn alert(alerts: u64, options: &[&str]) -> Result<Option<Quantiles>> {
    let mut sensor = Sensor::start(Mode::Full, options)?;
    let shm = tempfile::tempdir_in("/dev/shm").context("no /dev/shm to start a program from")?;
    let mut times = Vec::new();
    for number in 0..alerts {
        interrupt::sleep(GAP)?;
        let path = shm.path().join(format!("alert-{number}"));
        tiny::write(&path, 0)?;
        let start = Instant::now();
        Command::new(&path).status()?;
        let name = format!("{}\"", path.to_string_lossy());
        let wanted = |line: &str| line.contains(&name);
        let (at, _) = sensor.daemon.line(Duration::from_secs(5), wanted)?;
        times.push(at.duration_since(start).as_secs_f64() * 1e3);
    }
    sensor.stop()?;
    Ok(Quantiles::of(times))
}

/// From the kernel's time of each exec to when the event could be read from the file.
fn event(rate: u32, options: &[&str]) -> Result<Option<Quantiles>> {
    let sensor = Sensor::start(Mode::Collector, options)?;
    let mut follow = Follow::open(&sensor.recording())?;
    let reader = thread::spawn(move || {
        let mut times = Vec::new();
        while let Some(event) = follow.next_event()? {
            if vm::kind_name(&event) == "exec" {
                times.push(age(&event).as_secs_f64() * 1e3);
            }
        }
        anyhow::Ok(times)
    });
    paced(rate * 5, 1, rate)?;
    sensor.stop()?;
    let times = reader.join().map_err(|_| anyhow!("the reader panicked"))?;
    Ok(Quantiles::of(times?))
}

/// Execs in the background. Dropping it ends them.
struct Load(Child);

impl Load {
    fn start(execs: u32, rate: u32) -> Result<Self> {
        let mut command = super::storm::load("paced", execs, 1)?;
        command.arg(rate.to_string()).stdout(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Fails only where it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
