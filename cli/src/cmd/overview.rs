//! `daemoneye ledger stats`.

use std::path::Path;
use std::process::ExitCode;

use event::{Leaf, codec};
use ledger::{Overview, Reader};
use serde_json::{Value, json};

use super::ledger::{ago, invalid};
use super::retain::{gap_json, gap_text};
use crate::exit::Failure;
use crate::holder::Holder;
use crate::output::{counted, line};
use crate::state::State;

pub(crate) fn stats(state: &State, json: bool) -> Result<ExitCode, Failure> {
    let dir = state.ledger();
    let overview = ledger::overview(&dir).map_err(invalid)?;
    let span = Span::of(&dir, &overview)?;
    let (holder, free) = (Holder::of(&dir), free_bytes(&dir));
    if json {
        line(stats_json(&overview, &span, holder, free))?;
        return Ok(ExitCode::SUCCESS);
    }
    let kept = overview.entries - overview.kept_from;
    let last = &overview.last_checkpoint;
    line(format_args!("ledger {}", dir.display()))?;
    line(format_args!("  origin       {}", overview.keys.name()))?;
    line(format_args!(
        "  entries      {}, of which {kept} are kept: from {} on",
        overview.entries, overview.kept_from
    ))?;
    line(format_args!(
        "  times        {} to {}",
        span.oldest.as_deref().unwrap_or("unknown"),
        span.newest.as_deref().unwrap_or("unknown")
    ))?;
    line(format_args!(
        "  bytes        {} in {}, {} per entry",
        overview.bytes,
        counted(overview.segments, "segment", "segments"),
        per_entry(overview.bytes, kept)
    ))?;
    line(format_args!(
        "  beside them  index {}, checkpoints {}, hashes of dropped entries {} bytes",
        overview.index_bytes, overview.checkpoint_bytes, overview.remains_bytes
    ))?;
    line(format_args!(
        "  checkpoint   {} entries, signed {}; {} not signed for yet",
        last.size(),
        ago(last.time()),
        overview.entries.saturating_sub(last.size())
    ))?;
    line(format_args!("  key epoch    {}", overview.keys.epoch()))?;
    if let Some(newest) = overview.gaps.last() {
        let gaps = counted(overview.gaps.len() as u64, "gap", "gaps");
        line(format_args!(
            "  dropped      {gaps}; the newest: {}",
            gap_text(newest)
        ))?;
    }
    if let Some(free) = free {
        line(format_args!("  disk free    {free} bytes"))?;
    }
    match holder {
        Some(holder) => line(format_args!("  written by   {holder}"))?,
        None => line("  written by   nobody now")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn stats_json(
    overview: &Overview,
    span: &Span,
    holder: Option<Holder>,
    free: Option<u64>,
) -> Value {
    let last = &overview.last_checkpoint;
    let gaps: Vec<Value> = overview.gaps.iter().map(gap_json).collect();
    json!({
        "origin": overview.keys.name(),
        "hash": overview.hash.name(),
        "entries": overview.entries,
        "kept_from": overview.kept_from,
        "segments": overview.segments,
        "bytes": overview.bytes,
        "index_bytes": overview.index_bytes,
        "checkpoint_bytes": overview.checkpoint_bytes,
        "remains_bytes": overview.remains_bytes,
        "oldest": span.oldest,
        "newest": span.newest,
        "checkpoint": { "size": last.size(), "signed_at": last.time() },
        "key_epoch": overview.keys.epoch(),
        "gaps": gaps,
        "disk_free": free,
        "is_written": holder.is_some(),
        "writer_pid": holder.and_then(Holder::pid),
    })
}

fn per_entry(bytes: u64, entries: u64) -> String {
    match entries {
        0 => "-".into(),
        _ => (bytes / entries).to_string(),
    }
}

/// When the oldest and the newest kept entries are from, as these say themselves.
struct Span {
    oldest: Option<String>,
    newest: Option<String>,
}

/// The ledger's own entries have no such time; where so many stand together, it is left out.
const LOOKS: u64 = 16;

impl Span {
    fn of(dir: &Path, overview: &Overview) -> Result<Span, Failure> {
        let mut reader = Reader::open(dir).map_err(invalid)?;
        let (from, end) = (overview.kept_from, overview.entries);
        // An entry that was dropped meanwhile is no reason to fail.
        let mut time_of = |index| time(&reader.read(index).ok()??);
        let newest = (from.max(end.saturating_sub(LOOKS))..end)
            .rev()
            .find_map(&mut time_of);
        let oldest = (from..end.min(from + LOOKS)).find_map(time_of);
        Ok(Span { oldest, newest })
    }
}

fn time(leaf: &[u8]) -> Option<String> {
    match codec::decode(leaf.to_vec().into()).ok()? {
        Leaf::Event(event) => Some(event.header.wall.to_string()),
        Leaf::Finding(finding) => Some(finding.header.wall.to_string()),
        _ => None,
    }
}

#[cfg(unix)]
fn free_bytes(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}
