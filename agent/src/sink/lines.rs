//! One line per alert on a writer: standard output, a file.

use std::io::{self, Write};

use event::{Ancestor, Digest, Exit, FailedExec, Hashed, Lost, Process, ProcessKey};
use event::{Event, EventKind, Finding, json};

use super::Sink;
use crate::Error;
use crate::alert::Alert;

/// How a line reads.
///
/// A line for people is `<time> <LEVEL> <title> [<rule id>]` and then fields `name=value`. A value
/// that comes from outside is quoted, and ends only at a quote without a backslash before it:
/// `\"` and `\\` stand for themselves, `\t`, `\r`, `\n` and `\u{H…}` for characters that would steer
/// the terminal, `\xHH` for a byte that is not UTF-8. A `…` after the closing quote says that the
/// value goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Human,
    /// One ECS document.
    Json,
}

/// Writes and flushes one line per alert.
pub struct Lines<W: Write> {
    name: &'static str,
    out: W,
    format: Format,
    /// The last line was written in part only.
    torn: bool,
}

impl<W: Write> Lines<W> {
    /// Writes to `out`; `name` is for messages.
    pub fn new(name: &'static str, out: W, format: Format) -> Self {
        Self {
            name,
            out,
            format,
            torn: false,
        }
    }
}

impl<W: Write + Send> Sink for Lines<W> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn deliver(&mut self, alert: &Alert<'_>) -> Result<(), Error> {
        let mut line = match self.format {
            Format::Human => human(alert),
            Format::Json => json::line(&document(alert)),
        };
        line.push('\n');
        if self.torn {
            line.insert(0, '\n');
        }
        // Flushed, since an alert that waits is none.
        self.write(line.as_bytes())
            .and_then(|()| self.out.flush())
            .map_err(|source| Error::Sink {
                sink: self.name,
                source,
            })
    }
}

impl<W: Write> Lines<W> {
    /// One write where the writer takes it whole, so that lines stay whole. A line that failed half
    /// way is ended before the next one.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < line.len() {
            match self.out.write(&line[written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    written += count;
                    self.torn = written < line.len();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn document(alert: &Alert<'_>) -> serde_json::Value {
    let mut document = json::finding(alert.finding, Some(alert.evidence));
    if alert.folded > 0 {
        document["daemoneye"]["folded"] = alert.folded.into();
    }
    document
}

fn human(alert: &Alert<'_>) -> String {
    let mut line = finding_line(alert.finding, Some(alert.evidence));
    if alert.folded > 0 {
        line.push_str(&format!(" folded={}", alert.folded));
    }
    line
}

/// A finding as a line for people, with the event that completed it where it is at hand. What a rule
/// says of itself is verbatim.
#[must_use]
pub fn finding_line(finding: &Finding, evidence: Option<&Event>) -> String {
    let mut line = format!(
        "{} {} {} [{}]",
        finding.header.wall,
        finding.level.name().to_uppercase(),
        finding.title,
        finding.rule_id
    );
    if let Some(key) = finding.key {
        line.push_str(&format!(" pid={}", key.pid));
    }
    match evidence {
        Some(evidence) => line.push_str(&described(&evidence.kind)),
        None => line.push_str(&format!(" exe={}", quoted(&finding.exe))),
    }
    line.push_str(&format!(" leaf={}", finding.leaf_index));
    line
}

/// An event as a line for people: `<time> <class>` and then fields.
#[must_use]
pub fn event_line(event: &Event) -> String {
    let key = event.key();
    let pid = key.map_or_else(String::new, |key| format!(" pid={}", key.pid));
    format!(
        "{} {}{pid}{}",
        event.header.wall,
        event.class(),
        described(&event.kind)
    )
}

/// What the event says, as fields with a space before each.
fn described(kind: &EventKind) -> String {
    match kind {
        EventKind::Exec(exec) => process(&exec.process),
        EventKind::Snapshot(row) => process(&row.process),
        EventKind::Fork(fork) => ppid(Some(fork.parent)),
        EventKind::Exit(exit) => ended(exit),
        EventKind::FailedExec(failed) => attempt(failed),
        EventKind::Hashed(hashed) => digest(hashed),
        EventKind::Lost(lost) => missing(lost),
        _ => String::new(),
    }
}

fn process(process: &Process) -> String {
    let mut text = String::new();
    if let Some(ids) = process.credentials {
        text.push_str(&format!(" uid={}", ids.uid));
    }
    text.push_str(&format!(" exe={}", quoted(&process.exe)));
    text.push_str(&format!(" cmdline={}", quoted(&process.argv.joined())));
    if let Some(container) = &process.container {
        text.push_str(&format!(" container={}", quoted(&container.id)));
    }
    if let Some(parent) = process.parent_process.as_deref() {
        text.push_str(&format!(" parent={}", quoted(image(parent))));
        text.push_str(&ppid(Some(parent.key)));
    }
    text
}

fn image(parent: &Ancestor) -> &[u8] {
    if parent.exe.is_empty() {
        &parent.comm
    } else {
        &parent.exe
    }
}

fn ppid(parent: Option<ProcessKey>) -> String {
    parent.map_or_else(String::new, |key| format!(" ppid={}", key.pid))
}

fn ended(exit: &Exit) -> String {
    let how = match exit.status {
        Some(status) if status.signal != 0 => format!(" signal={}", status.signal),
        Some(status) => format!(" code={}", status.code),
        None => String::new(),
    };
    format!(" exe={}{how}{}", quoted(&exit.exe), ppid(exit.parent))
}

fn attempt(failed: &FailedExec) -> String {
    let uid = failed
        .credentials
        .map_or_else(String::new, |ids| format!(" uid={}", ids.uid));
    format!(
        "{uid} exe={} tried={} errno={}{}",
        quoted(&failed.exe),
        quoted(&failed.filename),
        failed.errno,
        ppid(failed.parent)
    )
}

fn digest(hashed: &Hashed) -> String {
    let outcome = match hashed.outcome {
        Ok(digest) => {
            let hex: String = digest.sha256.iter().map(|b| format!("{b:02x}")).collect();
            let since = match digest {
                Digest { changed: true, .. } => " changed=true",
                Digest { touched: true, .. } => " touched=true",
                _ => "",
            };
            format!(" sha256={hex}{since}")
        }
        Err(failure) => format!(" unhashed={}", failure.name()),
    };
    format!(" exe={}{outcome}", quoted(&hashed.exe))
}

fn missing(lost: &Lost) -> String {
    format!(
        " class={} reason={} count={}",
        lost.class, lost.reason, lost.count
    )
}

/// The one escaping of [`Format::Human`], from the raw bytes.
fn quoted(bytes: &[u8]) -> String {
    const LONGEST: usize = 400;
    let units = bytes.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid().chars().map(Ok);
        valid.chain(chunk.invalid().iter().map(Err))
    });
    let mut out = String::from("\"");
    for (count, unit) in units.enumerate() {
        if count == LONGEST {
            return out + "\"…";
        }
        match unit {
            Ok(c) if matches!(c, '"' | '\\') || json::steers_display(c) => {
                out.extend(c.escape_default());
            }
            Ok(c) => out.push(c),
            Err(byte) => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use event::{
        BootTime, Container, Credentials, DropReason, EventClass, Exec, ExitStatus, HashFailure,
        Header,
    };

    use super::*;

    fn deliver(format: Format, argument: &[u8]) -> String {
        let process = Process {
            argv: [argument].into_iter().collect(),
            ..Process::default()
        };
        let exec = Exec {
            process,
            old_tid: None,
        };
        let evidence = Event {
            header: Header::default(),
            kind: EventKind::Exec(Box::new(exec)),
        };
        let finding = Finding {
            rule_id: "r".into(),
            title: "T".into(),
            ..Finding::default()
        };
        let mut out = Vec::new();
        Lines::new("test", &mut out, format)
            .deliver(&Alert {
                finding: &finding,
                evidence: &evidence,
                folded: 2,
            })
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_argument_can_neither_break_the_line_nor_steer_the_terminal() {
        let check = |argument: &[u8], field: &str| {
            let line = deliver(Format::Human, argument);
            assert!(line.contains(&format!(" cmdline={field} leaf=")), "{line}");
            assert!(line.ends_with('\n') && !line.trim_end().contains(json::steers_display));
        };
        check(b"plain 'x' \xc3\xa9", "\"plain 'x' é\"");
        check(b"a\nb\x1b[31m\"c\xff", r#""a\nb\u{1b}[31m\"c\xff""#);
        // A backslash before a quote ended the field, and could fake the fields after it.
        check(
            br#"x\" uid=0 exe="/bin/true"#,
            r#""x\\\" uid=0 exe=\"/bin/true""#,
        );
        check(b"x\\", r#""x\\""#);
        // Text that looks like an escape is not one, with and without bytes that are not UTF-8.
        check(br"\xff", r#""\\xff""#);
        check(b"\\xff \xff", r#""\\xff \xff""#);
        check("\u{85}\u{9b}31m".as_bytes(), r#""\u{85}\u{9b}31m""#);
        check("\u{202e}\u{2066}".as_bytes(), r#""\u{202e}\u{2066}""#);
        check("\u{200b}\u{feff}".as_bytes(), r#""\u{200b}\u{feff}""#);
        check(&[b'x'; 401], &format!("\"{}\"…", "x".repeat(400)));
        check("…".as_bytes(), "\"…\"");
    }

    #[test]
    fn every_kind_of_event_says_what_happened() {
        let check = |kind: EventKind, fields: &str| assert_eq!(described(&kind), fields);
        let parent = ProcessKey {
            pid: 9,
            ..ProcessKey::default()
        };
        let exit = |status| {
            EventKind::Exit(Exit {
                parent: Some(parent),
                exe: "/bin/x".into(),
                status,
                ..Exit::default()
            })
        };
        let status = |raw| Some(ExitStatus::from_wait_status(raw));
        check(exit(status(0x300)), r#" exe="/bin/x" code=3 ppid=9"#);
        check(exit(status(11)), r#" exe="/bin/x" signal=11 ppid=9"#);
        check(exit(None), r#" exe="/bin/x" ppid=9"#);
        let failed = FailedExec {
            exe: "/bin/sh".into(),
            filename: "/tmp/\u{9b}x".into(),
            errno: 13,
            credentials: Some(Credentials::default()),
            ..FailedExec::default()
        };
        check(
            EventKind::FailedExec(Box::new(failed)),
            r#" uid=0 exe="/bin/sh" tried="/tmp/\u{9b}x" errno=13"#,
        );
        let hashed = |outcome| {
            EventKind::Hashed(Box::new(Hashed {
                key: parent,
                exe: "/bin/x".into(),
                exe_file: None,
                outcome,
            }))
        };
        let digest = |changed, touched| {
            Ok(Digest {
                sha256: [0xab; 32],
                changed,
                touched,
            })
        };
        let hex = "ab".repeat(32);
        check(
            hashed(digest(false, false)),
            &format!(r#" exe="/bin/x" sha256={hex}"#),
        );
        check(
            hashed(digest(true, false)),
            &format!(r#" exe="/bin/x" sha256={hex} changed=true"#),
        );
        check(
            hashed(digest(false, true)),
            &format!(r#" exe="/bin/x" sha256={hex} touched=true"#),
        );
        check(
            hashed(Err(HashFailure::TooLarge)),
            r#" exe="/bin/x" unhashed=too_large"#,
        );
        let lost = Lost {
            class: EventClass::Exec,
            reason: DropReason::RingFull,
            count: 4,
            from: BootTime(0),
            to: BootTime(1),
        };
        check(
            EventKind::Lost(lost),
            " class=exec reason=ring_full count=4",
        );
    }

    #[test]
    fn events_and_findings_alone_are_lines_too() {
        let event = Event {
            header: Header::default(),
            kind: EventKind::Exit(Exit {
                key: ProcessKey {
                    pid: 7,
                    ..ProcessKey::default()
                },
                exe: "/bin/x".into(),
                ..Exit::default()
            }),
        };
        let start = "1970-01-01T00:00:00.000000000Z";
        let line = event_line(&event);
        assert_eq!(line, format!(r#"{start} exit pid=7 exe="/bin/x""#));
        let finding = Finding {
            rule_id: "r".into(),
            title: "T".into(),
            exe: "/bin/y\n".into(),
            leaf_index: 3,
            ..Finding::default()
        };
        let line = finding_line(&finding, None);
        let expected = format!(r#"{start} INFORMATIONAL T [r] exe="/bin/y\n" leaf=3"#);
        assert_eq!(line, expected);
    }

    #[test]
    fn a_container_is_named() {
        let container = Container {
            id: "c0ffee".into(),
            ..Container::default()
        };
        let text = process(&Process {
            container: Some(container),
            ..Process::default()
        });
        assert_eq!(text, r#" exe="" cmdline="" container="c0ffee""#);
    }

    #[test]
    fn json_steers_no_terminal_either() {
        let argument = "\u{9b}31m\u{202e}\\";
        let line = deliver(Format::Json, argument.as_bytes());
        assert!(!line.trim_end().contains(json::steers_display), "{line}");
        let document: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(document["process"]["args"][0], argument);
    }

    /// Takes so many bytes, then fails once, then takes everything.
    struct Filling<'a> {
        room: Option<usize>,
        taken: &'a mut Vec<u8>,
    }

    impl Write for Filling<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = match &mut self.room {
                None => bytes.len(),
                Some(0) => {
                    self.room = None;
                    return Err(io::ErrorKind::StorageFull.into());
                }
                Some(room) => {
                    let count = bytes.len().min(*room);
                    *room -= count;
                    count
                }
            };
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_after_a_torn_one_begins_on_its_own() {
        let finding = Finding::default();
        let evidence = Event {
            header: Header::default(),
            kind: EventKind::Fork(event::Fork::default()),
        };
        let alert = Alert {
            finding: &finding,
            evidence: &evidence,
            folded: 0,
        };
        for room in [0, 5] {
            let mut taken = Vec::new();
            let out = Filling {
                room: Some(room),
                taken: &mut taken,
            };
            let mut lines = Lines::new("test", out, Format::Human);
            lines.deliver(&alert).unwrap_err();
            lines.deliver(&alert).unwrap();
            lines.deliver(&alert).unwrap();
            let whole = human(&alert);
            let torn = if room == 0 {
                String::new()
            } else {
                format!("{}\n", &whole[..room])
            };
            let text = String::from_utf8(taken).unwrap();
            assert_eq!(text, format!("{torn}{whole}\n{whole}\n"));
        }
    }

    #[test]
    fn json_is_one_document_with_the_count_of_folded_findings() {
        let line = deliver(Format::Json, b"x");
        let document: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(document["daemoneye"]["folded"], 2);
        assert_eq!(document["rule"]["id"], "r");
        assert_eq!(document["process"]["args"][0], "x");
    }
}
