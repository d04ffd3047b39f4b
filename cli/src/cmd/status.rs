//! `daemoneye status`: what a running daemon tells of itself.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use event::WallTime;
use event::json::steers_display;
use serde_json::Value;

use crate::args::StateDir;
use crate::exit::{Code, Failure};
use crate::holder::Holder;
use crate::output::{counted, line};
use crate::state::State;
use crate::stats::ms;
use crate::status::{FILE, INTERVAL, now};

/// No snapshot is larger.
const MAX_BYTES: u64 = 4 << 20;

/// Older ones of a daemon that runs are stale.
const STALE: Duration = INTERVAL.saturating_mul(3);

/// How the daemon that wrote a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    /// It runs, but writes no snapshots any more.
    Stale,
    Ended,
    /// It is gone and did not say that it would.
    Gone,
}

pub(crate) fn status(args: &StateDir, json: bool) -> Result<ExitCode, Failure> {
    let state = State::existing(args.state_dir.as_deref())?;
    // In this order: a daemon that starts between the two has a snapshot.
    let holder = Holder::of(&state.ledger());
    let mut snapshot = read(&state.place().join(FILE)).map_err(|error| absent(&state, error))?;
    let life = Life::of(&snapshot, holder, now());
    if json {
        snapshot["life"] = life.name().into();
        snapshot["age_ms"] = age(&snapshot, now()).into();
        line(event::json::line(&snapshot))?;
    } else {
        for (name, text) in rows(&snapshot, life, now()) {
            line(format_args!("{name:<10}  {}", shown(&text)))?;
        }
    }
    match life {
        Life::Running => Ok(ExitCode::SUCCESS),
        Life::Stale => {
            let error = anyhow!("the daemon runs, but tells nothing any more");
            Err(Failure::new(Code::Failure, error))
        }
        Life::Ended | Life::Gone => {
            let error = anyhow!("no daemon runs in {}", state.dir().display());
            Err(Failure::new(Code::NotThere, error))
        }
    }
}

fn absent(state: &State, error: io::Error) -> Failure {
    let place = state.dir().display();
    match error.kind() {
        ErrorKind::NotFound => {
            let error = anyhow!("no daemon has told its status in {place} yet");
            Failure::new(Code::NotThere, error)
        }
        ErrorKind::PermissionDenied => {
            let error = anyhow!(error).context(format!("state directory {place}"));
            Failure::new(Code::StateUnusable, error)
        }
        _ => Failure::new(
            Code::Failure,
            anyhow!(error).context(format!("{FILE} in {place}")),
        ),
    }
}

/// Whoever owns the directory may have put something else there.
fn read(path: &Path) -> io::Result<Value> {
    let file = open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is no file"));
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut text)?;
    let snapshot: Value = serde_json::from_slice(&text)?;
    if !snapshot.is_object() {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is no snapshot"));
    }
    Ok(snapshot)
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};

    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

impl Life {
    fn of(snapshot: &Value, holder: Option<Holder>, now: WallTime) -> Self {
        let Some(holder) = holder else {
            return if snapshot["phase"] == "ended" {
                Self::Ended
            } else {
                Self::Gone
            };
        };
        if snapshot["phase"] == "ended" {
            return Self::Ended;
        }
        if age(snapshot, now) <= STALE.as_millis() as u64 {
            return Self::Running;
        }
        // Told apart only where it is old: numbers of processes differ between namespaces.
        let another = holder.pid().is_some_and(|pid| snapshot["pid"] != pid);
        if another { Self::Gone } else { Self::Stale }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stale => "stale",
            Self::Ended => "ended",
            Self::Gone => "gone",
        }
    }
}

/// Of the snapshot, in ms.
fn age(snapshot: &Value, now: WallTime) -> u64 {
    ms(now).saturating_sub(snapshot["written_ms"].as_u64().unwrap_or_default())
}

/// What is told, by subject.
fn rows(snapshot: &Value, life: Life, now: WallTime) -> Vec<(&'static str, String)> {
    let told = Told {
        snapshot,
        now: ms(now),
    };
    let mut rows = vec![("daemon", told.daemon(life))];
    if snapshot["phase"] != "starting" {
        rows.extend(told.sensor());
        rows.push(("pipeline", told.pipeline()));
        rows.push(("processes", told.processes()));
        rows.push(("hashing", told.hashing()));
        rows.push(("ledger", told.ledger()));
        rows.extend(told.copies().map(|copies| ("copies", copies)));
        rows.extend(told.agent());
    }
    rows.extend(told.rules());
    rows
}

struct Told<'s> {
    snapshot: &'s Value,
    /// In ms since 1970.
    now: u64,
}

impl Told<'_> {
    fn count(&self, path: &str) -> u64 {
        let value = self.snapshot.pointer(path).and_then(Value::as_u64);
        value.unwrap_or_default()
    }

    fn text(&self, path: &str) -> &str {
        let value = self.snapshot.pointer(path).and_then(Value::as_str);
        value.unwrap_or("unknown")
    }

    fn list(&self, path: &str) -> &[Value] {
        let value = self.snapshot.pointer(path).and_then(Value::as_array);
        value.map_or(&[], Vec::as_slice)
    }

    /// How long ago a time is.
    fn since(&self, path: &str) -> String {
        ago(self.now.saturating_sub(self.count(path)))
    }

    fn daemon(&self, life: Life) -> String {
        let version = self.text("/version");
        let (pid, age) = (self.count("/pid"), self.since("/written_ms"));
        let started = time(self.count("/started_ms"));
        let how = match life {
            Life::Running if self.text("/phase") == "starting" => {
                format!("starting since {started}")
            }
            Life::Running => format!("running since {started}; as of {age} ago"),
            Life::Stale => format!("STALE: runs since {started}, last heard of {age} ago"),
            Life::Ended => format!("ended {age} ago, started {started}"),
            Life::Gone => format!("GONE: last heard of {age} ago, started {started}"),
        };
        format!("{version}, pid {pid}, {how}")
    }

    fn sensor(&self) -> Vec<(&'static str, String)> {
        let of = |path| self.count(path);
        let mut rows = vec![(
            "sensor",
            format!(
                "{}: {} events seen, {} given out, {} dropped, {} held, {} cut",
                self.text("/source/sensor"),
                of("/sensor/seen"),
                of("/sensor/delivered"),
                of("/sensor/dropped_total"),
                of("/sensor/held"),
                of("/sensor/truncated"),
            ),
        )];
        for name in ["dropped", "muted", "incomplete"] {
            let path = &format!("/sensor/{name}");
            let parts: Vec<String> = self.list(path).iter().map(loss).collect();
            if !parts.is_empty() {
                rows.push((name, parts.join(", ")));
            }
        }
        let classes = self.snapshot.pointer("/pipeline/classes");
        let rate = self
            .snapshot
            .pointer("/rates/events")
            .and_then(Value::as_f64);
        let rate = rate.map_or_else(String::new, |rate| format!("; {rate:.1} per second"));
        rows.push(("events", counts(classes) + &rate));
        rows
    }

    fn pipeline(&self) -> String {
        let balanced = self.snapshot.pointer("/pipeline/balanced");
        let unrecorded = match self.count("/pipeline/unrecorded") {
            0 => String::new(),
            count => format!("; LEDGER SUSPENDED, {count} leaves not recorded"),
        };
        format!(
            "{} in, {} durable, {} dropped, {} held{}{unrecorded}",
            self.count("/pipeline/seen"),
            self.count("/pipeline/delivered"),
            self.count("/pipeline/dropped"),
            self.count("/pipeline/held"),
            if balanced == Some(&Value::Bool(false)) {
                "; NOT BALANCED"
            } else {
                ""
            }
        )
    }

    fn processes(&self) -> String {
        let of = |name: &str| self.count(&format!("/pipeline/table/{name}"));
        format!(
            "{} known, {} KiB; {} live ones forgotten for want of room",
            of("entries"),
            of("bytes") >> 10,
            of("evicted_live"),
        )
    }

    fn hashing(&self) -> String {
        let of = |name: &str| self.count(&format!("/pipeline/hashing/{name}"));
        let failed = self.snapshot.pointer("/pipeline/hashing/failed");
        format!(
            "{} known, {} in time, {} later, {} waiting; without digest: {}",
            of("cached"),
            of("in_time"),
            of("later/delivered"),
            of("later/held"),
            counts(failed),
        )
    }

    fn ledger(&self) -> String {
        let signed = match self.snapshot.pointer("/ledger/last_checkpoint/size") {
            None => "no checkpoint in this run yet".to_owned(),
            Some(size) => format!(
                "checkpoint of {size} signed {} ago",
                self.since("/ledger/last_checkpoint/at_ms")
            ),
        };
        let held_up = match self.count("/ledger/held_up_bytes") {
            0 => String::new(),
            bytes => format!("; {bytes} bytes TOO LARGE, since the agent is behind"),
        };
        let fails = match self.snapshot.pointer("/ledger/drops_fail") {
            Some(Value::Bool(true)) => "; OLD LEAVES ARE NOT DROPPED, the log says why",
            _ => "",
        };
        format!(
            "{} leaves, {} durable; {signed}{held_up}{fails}",
            self.count("/ledger/size"),
            self.count("/ledger/durable_size"),
        )
    }

    /// Of `--checkpoint-dir`.
    fn copies(&self) -> Option<String> {
        self.snapshot.pointer("/copies/state")?;
        let newest = match self.snapshot.pointer("/copies/last_checkpoint/size") {
            None => "no checkpoint is known to be there".to_owned(),
            Some(size) => format!(
                "checkpoint of {size} signed {} ago",
                self.since("/copies/last_checkpoint/at_ms")
            ),
        };
        let state = match self.text("/copies/state") {
            "ok" => "",
            "hanging" => "; IT DOES NOT ANSWER",
            "refused" => "; REFUSED: it is of another history, the log says why",
            _ => "; COPIES FAIL, the log says why",
        };
        Some(format!("{newest} in {}{state}", self.text("/copies/dir")))
    }

    fn agent(&self) -> Vec<(&'static str, String)> {
        let of = |name: &str| self.count(&format!("/agent/{name}"));
        let mut rows = Vec::new();
        if self.snapshot.pointer("/agent/position").is_some() {
            let (position, lag) = (of("position"), of("lag"));
            rows.push(("agent", format!("at leaf {position}, {lag} behind")));
        }
        let levels = counts(self.snapshot.pointer("/agent/levels"));
        rows.push(("findings", format!("{} ({levels})", of("findings"))));
        rows.push((
            "alerts",
            format!(
                "{}; {} undelivered, {} folded, {} below the level",
                of("alerts"),
                of("undelivered"),
                of("duplicates") + of("rate_limited"),
                of("below_level"),
            ),
        ));
        let mut memory: Vec<&Value> = self.list("/agent/memory").iter().collect();
        memory.sort_by_key(|rule| std::cmp::Reverse(rule["bytes"].as_u64()));
        for rule in memory.iter().take(5) {
            let of = |name: &str| rule[name].as_u64().unwrap_or_default();
            let (rule, bytes) = (rule["rule"].as_str().unwrap_or_default(), of("bytes"));
            let (entries, evicted) = (of("entries"), of("evicted"));
            if entries == 0 && evicted == 0 {
                continue;
            }
            let entries = counted(entries, "entry", "entries");
            let text = format!("{rule}: {entries}, {bytes} bytes, {evicted} forgotten");
            rows.push(("memory", text));
        }
        rows
    }

    fn rules(&self) -> Vec<(&'static str, String)> {
        let of = |name: &str| self.count(&format!("/rules/{name}"));
        let mut rows = vec![(
            "rules",
            format!(
                "{} ({} SQL, {} Sigma), {} degraded, {} rejected, {} for other systems; loaded {} \
                 ago",
                of("count"),
                of("sql"),
                of("sigma"),
                of("degraded"),
                of("rejected"),
                of("elsewhere"),
                self.since("/rules/loaded_ms"),
            ),
        )];
        if self.snapshot.pointer("/rules/last_reload/ok") == Some(&Value::Bool(false)) {
            let ago = self.since("/rules/last_reload/at_ms");
            let message = self.text("/rules/last_reload/message");
            let text = format!("FAILED {ago} ago, the rules stay as they were: {message}");
            rows.push(("reload", text));
        }
        if let Some(Value::String(why)) = self.snapshot.pointer("/rules/unwatched") {
            rows.push(("reload", why.clone()));
        }
        for error in self.list("/rules/rejections") {
            let text = |name: &str| error[name].as_str().unwrap_or_default();
            let (file, message) = (text("file"), text("message"));
            let (at, column) = (&error["line"], &error["column"]);
            rows.push(("rejected", format!("{file}:{at}:{column}: {message}")));
        }
        rows
    }
}

/// `12 exec (ring_full)`.
/// Of events of a class, or of a part of events.
fn loss(row: &Value) -> String {
    let class = row["class"].as_str().or(row["part"].as_str());
    let (count, class) = (&row["count"], class.unwrap_or_default());
    match row["reason"].as_str() {
        Some(reason) => format!("{count} {class} ({reason})"),
        None => format!("{count} {class}"),
    }
}

/// `12 exec, 3 fork`, without those that are 0.
fn counts(named: Option<&Value>) -> String {
    let named = named.and_then(Value::as_object).into_iter().flatten();
    let some = named.filter(|(_, count)| count.as_u64() != Some(0));
    let parts: Vec<String> = some
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    if parts.is_empty() {
        "none".into()
    } else {
        parts.join(", ")
    }
}

/// To the second.
fn time(ms: u64) -> String {
    let text = WallTime(ms.saturating_mul(1_000_000)).to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

/// A span of time in its two largest units.
fn ago(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{minutes} min {} s", seconds % 60),
        3_600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// On one line, and without what a terminal would obey: names of files are in it.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if steers_display(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_snapshot_is_believed_only_if_its_writer_can_still_be_there() {
        let check = |phase, age_s: u64, holder: Option<Option<u32>>, expected| {
            let snapshot = json!({ "phase": phase, "pid": 7, "written_ms": 1_000_000 });
            let now = WallTime((1_000 + age_s) * 1_000_000_000);
            let life = Life::of(&snapshot, holder.map(Holder::new), now);
            assert_eq!(life, expected, "{phase} {age_s} {holder:?}");
        };
        check("running", 3, Some(Some(7)), Life::Running);
        check("running", 3, Some(None), Life::Running);
        check("starting", 3, Some(Some(7)), Life::Running);
        // In another namespace it has another number.
        check("running", 3, Some(Some(8)), Life::Running);
        check("running", 31, Some(Some(7)), Life::Stale);
        check("running", 31, Some(None), Life::Stale);
        check("running", 31, Some(Some(8)), Life::Gone);
        check("running", 3, None, Life::Gone);
        check("ended", 3, None, Life::Ended);
        check("ended", 3, Some(Some(8)), Life::Ended);
    }

    #[test]
    fn what_the_sensor_could_not_give_is_told_by_class_reason_and_part() {
        let snapshot = json!({
            "sensor": {
                "dropped": [{ "class": "exec", "reason": "ring_full", "count": 3 }],
                "muted": [{ "class": "fork", "count": 2 }],
                "incomplete": [{ "part": "container", "count": 1 }],
            },
        });
        let rows = rows(&snapshot, Life::Running, WallTime(0));
        let text = |wanted| {
            let row = rows.iter().find(|(name, _)| *name == wanted);
            row.map(|(_, text)| &**text)
        };
        assert_eq!(text("dropped"), Some("3 exec (ring_full)"));
        assert_eq!(text("muted"), Some("2 fork"));
        assert_eq!(text("incomplete"), Some("1 container"));
    }

    #[test]
    fn what_a_snapshot_says_steers_no_terminal_and_may_be_incomplete() {
        let snapshot = json!({
            "phase": "running", "version": "1\u{1b}[2J\n2",
            "rules": { "last_reload": { "ok": false, "message": "a\u{202e}b" } },
        });
        let rows = rows(&snapshot, Life::Running, WallTime(0));
        let text: Vec<String> = rows.iter().map(|(_, text)| shown(text)).collect();
        let text = text.join(" ");
        assert!(text.contains(r"1\u{1b}[2J\n2"), "{text}");
        assert!(text.contains(r"a\u{202e}b"), "{text}");
    }

    #[test]
    fn spans_are_told_in_two_units() {
        let check = |seconds: u64, text: &str| assert_eq!(ago(seconds * 1000), text);
        check(0, "0 s");
        check(59, "59 s");
        check(61, "1 min 1 s");
        check(3_600 * 2 + 180, "2 h 3 min");
        check(86_400 * 3 + 3_600 * 4, "3 d 4 h");
    }
}
