//! `daemoneye run`: watch this host until interrupted.

use std::process::ExitCode;
use std::sync::Arc;

use agent::reload::Reloader;
use agent::rules::{Wanted, summary};
use anyhow::Context;
use detect::RuleSet;
use event::Capabilities;
use pipeline::Config;

use crate::args::Run;
use crate::copies::Copies;
use crate::exit::{Code, Failure, WithCode};
use crate::output::notice;
use crate::privileges::Keep;
use crate::requests::Requests;
use crate::service::Manager;
use crate::session::{self, Parts, Session, Wakes};
use crate::state::State;
use crate::stats::StatsFile;
use crate::status::{MetricsFile, Publisher, RulesState};
use crate::stop::Stop;
use crate::{cmd, executables, privileges, sensor};

pub(crate) fn run(args: &Run, json: bool) -> Result<ExitCode, Failure> {
    // What runs unprivileged works in the state directory.
    let wanted = Wanted::here(&args.alerts.rules).absolute();
    let wanted = wanted
        .context("finding the working directory")
        .code(Code::Usage)?;
    let checkpoint_dir = args.checkpoint_dir.as_deref().map(std::path::absolute);
    let checkpoint_dir = checkpoint_dir.transpose().code(Code::Usage)?;
    let stamp = agent::rules::stamp(&wanted);
    let rules = Arc::new(cmd::rules::load(&wanted)?);
    let account = privileges::choose(args.user.as_deref())?;
    let mut state = State::create(args.state.state_dir.as_deref(), account)?;
    let stats_file = StatsFile::create(args.stats_json.as_deref())?;
    let metrics_file = MetricsFile::open(args.metrics_file.as_deref())?;
    let mut sensor = sensor::open(&args.sensor)?;
    let manager = Manager::connect();
    let mut initial = Vec::new();
    sensor.snapshot(&mut initial)?;

    // From here on without rights, and only now with more than one thread.
    state.hand_over(account)?;
    let hashing = executables::hashing(&args.hash);
    let keep = Keep::needed_by(sensor.capabilities(), hashing.is_some());
    privileges::drop(account, keep)?;
    let mut ledger = session::open_ledger(&state, args.keep.segment_bytes())?;
    let copies = checkpoint_dir
        .map(|dir| Copies::start(&dir, &state, &mut ledger))
        .transpose()?;
    let rotation = session::rotation(args.rotate_keys, &ledger)?;
    let ready = format!(
        "ready (sensor {}{}, {}, {} processes, state {})",
        sensor.capabilities().sensor,
        blind_spot(sensor.capabilities()),
        summary(&rules),
        initial.len(),
        state.dir().display()
    );
    let (told, wakes) = (Arc::new(RulesState::new(&rules)), Wakes::new());
    let capabilities = sensor.capabilities();
    let doing = copies.as_ref().map(Copies::doing);
    let rules_state = Arc::clone(&told);
    let mut publisher = Publisher::start(&state, metrics_file, capabilities, rules_state, doing)?;
    let news = wakes.news();
    let reloaded = move |outcome: Result<&RuleSet, &agent::Error>| {
        tell(outcome);
        told.attempted(outcome);
        news();
    };
    let (reloader, reloads) = Reloader::start(wanted, stamp, Arc::clone(&rules), reloaded)
        .context("starting the thread that watches the rules")?;
    let session = Session::start(Parts {
        sensor,
        initial,
        ledger,
        rules,
        reloads,
        config: Config {
            hashing,
            rotation,
            retention: args.keep.retention(),
            copies: copies.as_ref().map(Copies::sender),
            table: args.table.limits(),
            ..Config::default()
        },
        policy: session::policy(&args.alerts),
        format: session::format(json),
        wakes,
        requests: Some(Requests::open(&state)),
    })?;
    let stop = Stop::or_reload(session.stopper(), Some(Box::new(reloader.ask())))?;
    publisher.running(session.counters());
    manager.ready(&ready);
    notice(ready);

    let outcome = session.wait(Some(&mut publisher))?;
    if let Some(copies) = copies {
        copies.finish();
    }
    let counters = outcome.json();
    publisher.ended(counters.clone());
    stats_file.write(&counters)?;
    stop.work_is_over();
    outcome
        .report(|error| Failure::new(Code::Failure, error).context("the sensor stopped".into()))?;
    Ok(ExitCode::SUCCESS)
}

/// Says what became of changed rules.
fn tell(outcome: Result<&RuleSet, &agent::Error>) {
    match outcome {
        Ok(rules) => notice(format_args!("rules read anew: {}", summary(rules))),
        Err(error) => tracing::error!("{error}; the rules stay as they were"),
    }
}

/// That most rules see but our own processes belongs where the operator looks first.
fn blind_spot(sensor: &Capabilities) -> &'static str {
    let no_exe = sensor.absent.iter().any(|(field, _)| *field == "exe");
    if no_exe && !sensor.event_driven {
        " without other users' executables"
    } else {
        ""
    }
}
