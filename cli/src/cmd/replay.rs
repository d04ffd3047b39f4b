//! `daemoneye replay FILE`: recorded events through the same stages.

use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;
use std::sync::Arc;

use agent::reload::Reloads;
use anyhow::Context;
use event::{Sensor, SensorError};
use pipeline::Config;
use sensor_fallback::ReplaySensor;

use crate::args::Replay;
use crate::cmd;
use crate::exit::{Code, Failure, WithCode};
use crate::session::{self, Parts, Session, Wakes};
use crate::state::State;
use crate::stats::StatsFile;

pub(crate) fn replay(args: &Replay, json: bool) -> Result<ExitCode, Failure> {
    let rules = Arc::new(cmd::rules::load(&args.os.of(&args.alerts.rules))?);
    let stats_file = StatsFile::create(args.stats_json.as_deref())?;
    let mut sensor = open(args)?;
    let mut initial = Vec::new();
    sensor.snapshot(&mut initial).code(Code::BadInput)?;
    let temporary = tempfile::tempdir().context("creating a temporary state directory")?;
    let dir = args.state_dir.as_deref().unwrap_or(temporary.path());
    let state = State::create(Some(dir), None)?;
    let session = Session::start(Parts {
        sensor: Box::new(sensor),
        initial,
        ledger: session::open_ledger(&state, None)?,
        rules,
        reloads: Reloads::none(),
        config: Config {
            live: false,
            table: args.table.limits(),
            ..Config::default()
        },
        policy: session::policy(&args.alerts),
        format: session::format(json),
        wakes: Wakes::new(),
        requests: None,
    })?;
    let outcome = session.wait(None)?;
    stats_file.write(&outcome.json())?;
    outcome.report(|error| {
        Failure::new(Code::BadInput, error).context(args.file.display().to_string())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn open(args: &Replay) -> Result<ReplaySensor<BufReader<File>>, Failure> {
    let file = File::open(&args.file)
        .with_context(|| format!("recording {} cannot be opened", args.file.display()))
        .code(Code::BadInput)?;
    ReplaySensor::open(BufReader::new(file))
        .map_err(SensorError::from)
        .with_context(|| format!("{}", args.file.display()))
        .code(Code::BadInput)
}
