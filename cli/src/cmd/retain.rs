//! `daemoneye ledger retain`.

use std::process::ExitCode;

use anyhow::anyhow;
use ledger::Gap;
use pipeline::resume_from;
use serde_json::{Value, json};

use super::ledger::invalid;
use crate::args;
use crate::exit::{Code, Failure};
use crate::output::{counted, line};
use crate::session;
use crate::state::State;

pub(crate) fn retain(keep: &args::Keep, mut state: State, json: bool) -> Result<ExitCode, Failure> {
    let Some(retention) = keep.retention() else {
        let error = anyhow!("say what is to be kept, with --keep-bytes or --keep-days");
        return Err(Failure::new(Code::Usage, error));
    };
    state.become_owner()?;
    let opened = session::open_existing(&state)?;
    let mut ledger = opened.map_err(|error| session::not_opened(&state, error))?;
    let gaps = ledger.retain(&retention, resume_from(&ledger));
    let gaps = gaps.map_err(invalid)?;
    let kept_from = ledger.kept_from();
    ledger.close().map_err(invalid)?;
    if json {
        let gaps: Vec<Value> = gaps.iter().map(gap_json).collect();
        line(json!({ "kept_from": kept_from, "gaps": gaps }))?;
    } else if gaps.is_empty() {
        line("nothing to drop")?;
    } else {
        for gap in &gaps {
            line(gap_text(gap))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What was dropped, in words.
pub(super) fn gap_text(gap: &Gap) -> String {
    let why = match gap.reason {
        ledger::Reason::Age => "for their age",
        ledger::Reason::Size => "to make room",
    };
    format!(
        "entries {} to {} were dropped {why}, {} freed, as entry {} states",
        gap.first,
        gap.end - 1,
        counted(gap.bytes, "byte", "bytes"),
        gap.index
    )
}

pub(super) fn gap_json(gap: &Gap) -> Value {
    json!({
        "first": gap.first, "last": gap.end - 1, "reason": gap.reason.name(),
        "bytes": gap.bytes, "entry": gap.index, "time": gap.time,
    })
}
