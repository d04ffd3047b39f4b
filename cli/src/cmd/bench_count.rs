//! `daemoneye bench-count`: the sensor's programs and its drain, and nothing after them.

use std::process::ExitCode;

use crate::args::BenchCount;
use crate::exit::Failure;

#[cfg(target_os = "linux")]
pub(crate) fn bench_count(args: &BenchCount) -> Result<ExitCode, Failure> {
    use std::time::Duration;

    use event::Sensor;

    use crate::exit::{Code, WithCode};
    use crate::output::notice;
    use crate::stats::{self, StatsFile};
    use crate::stop::Stop;

    let file = StatsFile::create(args.stats_json.as_deref())?;
    let mut sensor = crate::sensor::open_ebpf(&args.sensor).code(Code::SensorUnavailable)?;
    let stop = Stop::on_signal(sensor.waker())?;
    notice("ready (sensor ebpf, counting only)");
    while !stop.requested() {
        sensor.count_batch(Duration::from_secs(1))?;
    }
    while sensor.count_batch(Duration::ZERO)? > 0 {}
    file.write(&serde_json::json!({ "sensor": stats::sensor(&sensor.stats()) }))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn bench_count(_: &BenchCount) -> Result<ExitCode, Failure> {
    let error = anyhow::anyhow!("counting is for the eBPF sensor");
    Err(Failure::new(crate::exit::Code::SensorUnavailable, error))
}
