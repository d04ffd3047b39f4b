//! One line per alert on a writer: standard output, a file.

use std::io::Write;

use event::{EventKind, Process, json};

use super::Sink;
use crate::Error;
use crate::alert::Alert;

/// How a line reads.
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
}

impl<W: Write> Lines<W> {
    /// Writes to `out`; `name` is for messages.
    pub fn new(name: &'static str, out: W, format: Format) -> Self {
        Self { name, out, format }
    }
}

impl<W: Write + Send> Sink for Lines<W> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn deliver(&mut self, alert: &Alert<'_>) -> Result<(), Error> {
        let mut line = match self.format {
            Format::Human => human(alert),
            Format::Json => document(alert).to_string(),
        };
        line.push('\n');
        // One write, so that lines stay whole; flushed, since an alert that waits is none.
        self.out
            .write_all(line.as_bytes())
            .and_then(|()| self.out.flush())
            .map_err(|source| Error::Sink {
                sink: self.name,
                source,
            })
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
    let finding = alert.finding;
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
    if let Some(process) = process_of(alert) {
        line.push_str(&describe(process));
    }
    line.push_str(&format!(" leaf={}", finding.leaf_index));
    if alert.folded > 0 {
        line.push_str(&format!(" folded={}", alert.folded));
    }
    line
}

fn process_of<'a>(alert: &Alert<'a>) -> Option<&'a Process> {
    match &alert.evidence.kind {
        EventKind::Exec(exec) => Some(&exec.process),
        EventKind::Snapshot(row) => Some(&row.process),
        _ => None,
    }
}

fn describe(process: &Process) -> String {
    let mut text = String::new();
    if let Some(ids) = process.credentials {
        text.push_str(&format!(" uid={}", ids.uid));
    }
    text.push_str(&format!(" exe={}", quoted(&process.exe)));
    text.push_str(&format!(" cmdline={}", quoted(&process.argv.joined())));
    if let Some(parent) = process.parent_process.as_deref() {
        let exe = if parent.exe.is_empty() {
            &parent.comm
        } else {
            &parent.exe
        };
        text.push_str(&format!(" parent={} ppid={}", quoted(exe), parent.key.pid));
    }
    text
}

/// Quoted, with control characters escaped: a terminal must not obey an argument.
fn quoted(bytes: &[u8]) -> String {
    const LONGEST: usize = 400;
    let text = json::text(bytes);
    let mut out = String::from("\"");
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        match c {
            '"' => out.push_str("\\\""),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use event::{Event, Exec, Finding, Header};

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
        let line = deliver(Format::Human, b"a\nb\x1b[31m\"c\xff");
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.contains('\x1b'));
        assert!(
            line.contains(r#"cmdline="a\nb\u{1b}[31m\"c\xff""#),
            "{line}"
        );
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
