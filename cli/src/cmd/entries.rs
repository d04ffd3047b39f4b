//! `daemoneye ledger tail|show`: entries as they are, also while a daemon appends more. Nothing here
//! takes the ledger's lock or opens its index.

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use event::{Leaf, codec};
use ledger::{Error, Reader};
use serde_json::{Value, json};

use super::ledger::invalid;
use crate::exit::{Code, Failure};
use crate::output::{line, notice};
use crate::state::State;

/// Longest line for people.
const LINE_CHARS: usize = 300;

/// How often to look for entries that came. A commit brings some every 200 ms.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) fn tail(
    state: &State,
    count: u64,
    follow: bool,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut reader = Reader::open(&state.ledger()).map_err(invalid)?;
    let size = reader.size().map_err(invalid)?;
    let oldest = reader.oldest().map_err(invalid)?;
    let mut next = size.saturating_sub(count).max(oldest);
    loop {
        match reader.read(next) {
            Ok(Some(leaf)) => {
                print(next, leaf, json)?;
                next += 1;
            }
            Ok(None) if follow => thread::sleep(PAUSE),
            Ok(None) => break,
            // Dropped while nobody read them.
            Err(Error::NotKept { index, oldest }) => {
                tell_dropped(index, oldest);
                next = oldest;
            }
            Err(error) => return Err(invalid(error)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn tell_dropped(index: u64, oldest: u64) {
    let last = oldest - 1;
    notice(format_args!("entries {index} to {last} are no longer kept"));
}

pub(crate) fn show(
    state: &State,
    (first, last): (u64, u64),
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut reader = Reader::open(&state.ledger()).map_err(invalid)?;
    let mut next = first;
    while next <= last {
        match reader.read(next) {
            Ok(Some(leaf)) => {
                print(next, leaf, json)?;
                next += 1;
            }
            // A range may reach beyond the end, but has to begin before it.
            Ok(None) if next > first => break,
            Ok(None) => {
                let error = anyhow!("the ledger has no entry {next}");
                return Err(Failure::new(Code::NotThere, error));
            }
            // Of what is asked for, some entries are still there.
            Err(Error::NotKept { index, oldest }) if oldest <= last => {
                tell_dropped(index, oldest);
                next = oldest;
            }
            Err(error) => return Err(invalid(error)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(index: u64, leaf: Vec<u8>, json: bool) -> io::Result<()> {
    let document = document(index, leaf);
    line(match json {
        true => event::json::line(&document),
        false => human(index, &document),
    })
}

/// As `prove` prints it, with its index.
fn document(index: u64, leaf: Vec<u8>) -> Value {
    let mut document = match codec::decode(leaf.into()) {
        Ok(leaf @ (Leaf::Event(_) | Leaf::Finding(_) | Leaf::Ledger(_))) => {
            event::json::leaf(&leaf)
        }
        Ok(_) => json!({ "message": "an entry of a newer version" }),
        Err(error) => json!({ "message": format!("not decoded: {error}") }),
    };
    document["daemoneye"]["index"] = index.into();
    document
}

/// One line: index, time, what happened, and to what.
fn human(index: u64, document: &Value) -> String {
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
    let time = text("/@timestamp").unwrap_or("-");
    let what = text("/event/action").or_else(|| text("/event/dataset"));
    let what = what.unwrap_or("unknown");
    let pid = document.pointer("/process/pid").and_then(Value::as_u64);
    let pid = pid.map_or_else(String::new, |pid| format!(" {pid}"));
    let args = document.pointer("/process/args").and_then(Value::as_array);
    let args = args.map(|args| {
        let args = args.iter().filter_map(Value::as_str);
        args.collect::<Vec<_>>().join(" ")
    });
    let subject = text("/rule/name").map(str::to_owned).or(args);
    let subject = subject.filter(|subject| !subject.is_empty());
    let name = text("/process/executable").or_else(|| text("/process/name"));
    let subject = subject.or_else(|| name.map(str::to_owned));
    let subject = subject.or_else(|| text("/message").map(|message| message.replace('\n', " ")));
    let all = format!("{index} {time} {what}{pid} {}", subject.unwrap_or_default());
    // Programs choose their own arguments, which `--json` prints whole.
    let end = all
        .char_indices()
        .nth(LINE_CHARS)
        .map_or(all.len(), |(at, _)| at);
    let shown: String = all[..end]
        .trim_end()
        .chars()
        .map(|c| {
            if event::json::steers_display(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect();
    if end < all.len() {
        shown + "…"
    } else {
        shown
    }
}
