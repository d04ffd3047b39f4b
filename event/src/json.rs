//! The JSON shape that operators read: Elastic Common Schema (ECS 8) names, one object per event.
//!
//! Bytes that are not UTF-8 are written as `\xHH` (and a backslash as `\\`), and the field's name
//! is listed in `daemoneye.escaped`; strings not listed there are verbatim. [`line()`] writes
//! characters that would steer a terminal as JSON's own `\uXXXX`, so a reader gets them back.

use serde_json::{Map, Value, json};

use crate::{
    Ancestor, Argv, ColumnName, Event, EventKind, Exit, FailedExec, FileIdentity, Finding, Fork,
    Hashed, Header, Leaf, Level, Lost, Namespaces, Process, ProcessKey, WindowsProcess,
};

/// One event as an ECS document.
#[must_use]
pub fn event(event: &Event) -> Value {
    let mut document = Document::new(&event.header);
    match &event.kind {
        EventKind::Exec(exec) => {
            document.action("exec", "start");
            document.process(&exec.process);
            if let Some(tid) = exec.old_tid {
                document.set("daemoneye", "old_tid", tid.into());
            }
        }
        EventKind::Snapshot(row) => {
            document.action("snapshot", "info");
            document.process(&row.process);
        }
        EventKind::Fork(fork) => document.fork(fork),
        EventKind::Exit(exit) => document.exit(exit),
        EventKind::Lost(lost) => document.lost(lost),
        EventKind::Hashed(hashed) => document.hashed(hashed),
        EventKind::FailedExec(failed) => document.failed_exec(failed),
    }
    document.finish()
}

/// One finding as an ECS document, with the event that completed it where it is at hand.
#[must_use]
pub fn finding(finding: &Finding, evidence: Option<&Event>) -> Value {
    let mut document = Document::new(&finding.header);
    match evidence.map(|event| &event.kind) {
        Some(EventKind::Exec(exec)) => document.process(&exec.process),
        Some(EventKind::Snapshot(row)) => document.process(&row.process),
        Some(EventKind::Exit(exit)) => document.exit(exit),
        Some(EventKind::Fork(fork)) => document.fork(fork),
        Some(EventKind::FailedExec(failed)) => document.failed_exec(failed),
        Some(EventKind::Hashed(hashed)) => document.hashed(hashed),
        Some(EventKind::Lost(lost)) => document.lost(lost),
        None => document.finding_process(finding),
    }
    document.root.insert(
        "event".into(),
        json!({
            "id": format!("{}:{}", finding.leaf_index, finding.rule_id),
            "kind": "alert", "category": ["process"], "type": ["info"], "action": "rule_match",
            "severity": severity(finding.level),
        }),
    );
    document.root.insert(
        "rule".into(),
        json!({ "id": &*finding.rule_id, "name": &*finding.title, "level": finding.level.name() }),
    );
    let told = [("author", &finding.author), ("license", &finding.license)];
    for (name, text) in told.iter().filter(|(_, text)| !text.is_empty()) {
        document.set("rule", name, json!(&***text));
    }
    document.root.insert("tags".into(), json!(&*finding.tags));
    if let Some(threat) = threat(&finding.tags) {
        document.root.insert("threat".into(), threat);
    }
    document.set("daemoneye", "leaf_index", finding.leaf_index.into());
    document.set("daemoneye", "selected", columns(&finding.selected));
    if !finding.matched.is_empty() {
        document.set("daemoneye", "matched", columns(&finding.matched));
    }
    if !finding.absent.is_empty() {
        document.set("daemoneye", "absent", json!(finding.absent));
    }
    if !finding.evidence.is_empty() {
        document.set("daemoneye", "evidence", json!(finding.evidence));
    }
    if !finding.incomplete.is_empty() {
        document.set("daemoneye", "incomplete", json!(finding.incomplete));
    }
    document.finish()
}

/// One ledger leaf, whichever kind it is.
#[must_use]
pub fn leaf(leaf: &Leaf) -> Value {
    match leaf {
        Leaf::Event(inner) => event(inner),
        Leaf::Finding(inner) => finding(inner, None),
        Leaf::Ledger(text) => json!({
            "message": String::from_utf8_lossy(text),
            "event": { "dataset": "daemoneye.ledger", "kind": "state" },
        }),
    }
}

/// A document as one line, safe to show: characters that [`steers_display`] names are escaped.
#[must_use]
pub fn line(document: &Value) -> String {
    let text = document.to_string();
    if !text.contains(steers_display) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // Outside strings there is only punctuation, and serde_json escapes those below U+0020.
        if steers_display(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that a terminal obeys or hides instead of showing them: controls (C0, DEL and C1),
/// those that turn the direction of writing, that break lines, and those without width.
#[must_use]
pub fn steers_display(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Bytes for people: verbatim if they are UTF-8, else with `\xHH` for each byte that is not.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => escape(bytes),
    }
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        out.push_str(&chunk.valid().replace('\\', r"\\"));
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// ECS `event.severity`, on the 0–100 scale of Elastic's detection rules.
fn severity(level: Level) -> u64 {
    match level {
        Level::Informational => 0,
        Level::Low => 21,
        Level::Medium => 47,
        Level::High => 73,
        Level::Critical => 99,
    }
}

fn columns(columns: &[(ColumnName, String)]) -> Value {
    let columns = columns.iter();
    let columns = columns.map(|(name, value)| (name.to_string(), json!(value)));
    Value::Object(columns.collect())
}

/// The tags that name techniques of MITRE ATT&CK, as ECS has them.
fn threat(tags: &[String]) -> Option<Value> {
    let ids = tags.iter().filter_map(|tag| technique(tag));
    let (sub, whole): (Vec<_>, Vec<_>) = ids.partition(|id| id.contains('.'));
    let mut technique = Map::new();
    let above = sub.iter().filter_map(|id| id.split_once('.'));
    let mut ids: Vec<String> = above
        .map(|(whole, _)| whole.to_owned())
        .chain(whole)
        .collect();
    ids.sort();
    ids.dedup();
    if ids.is_empty() {
        return None;
    }
    technique.insert("id".into(), json!(ids));
    if !sub.is_empty() {
        technique.insert("subtechnique".into(), json!({ "id": sub }));
    }
    Some(json!({ "framework": "MITRE ATT&CK", "technique": technique }))
}

/// `attack.t1059.004` is `T1059.004`.
fn technique(tag: &str) -> Option<String> {
    let id = tag.strip_prefix("attack.t")?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (whole, sub) = id.split_once('.').unwrap_or((id, "0"));
    (digits(whole) && digits(sub)).then(|| format!("T{id}"))
}

/// A document that is being filled, and the fields whose bytes had to be escaped.
struct Document {
    root: Map<String, Value>,
    escaped: Vec<String>,
}

impl Document {
    fn new(header: &Header) -> Self {
        let mut root = Map::new();
        root.insert("@timestamp".into(), header.wall.to_string().into());
        root.insert(
            "host".into(),
            json!({ "boot": { "id": header.boot.to_string() } }),
        );
        root.insert(
            "daemoneye".into(),
            json!({
                "boot_time_ns": header.time.0, "cpu": header.cpu, "sequence": header.sequence,
            }),
        );
        Self {
            root,
            escaped: Vec::new(),
        }
    }

    fn finish(mut self) -> Value {
        if !self.escaped.is_empty() {
            let escaped = json!(self.escaped);
            self.set("daemoneye", "escaped", escaped);
        }
        Value::Object(self.root)
    }

    fn action(&mut self, action: &str, kind: &str) {
        self.root.insert(
            "event".into(),
            json!({
                "kind": "event", "category": ["process"], "type": [kind], "action": action,
            }),
        );
    }

    fn set(&mut self, object: &str, name: &str, value: Value) {
        let entry = self.root.entry(object).or_insert_with(|| json!({}));
        if let Value::Object(fields) = entry {
            fields.insert(name.into(), value);
        }
    }

    fn bytes(&mut self, path: &str, bytes: &[u8]) -> Value {
        if std::str::from_utf8(bytes).is_err() {
            self.escaped.push(path.to_owned());
        }
        text(bytes).into()
    }

    fn args(&mut self, path: &str, argv: &Argv) -> Value {
        argv.iter()
            .enumerate()
            .map(|(i, argument)| self.bytes(&format!("{path}[{i}]"), argument))
            .collect()
    }

    fn fork(&mut self, fork: &Fork) {
        self.action("fork", "start");
        let mut process = key(fork.child);
        process.insert("parent".into(), Value::Object(key(fork.parent)));
        self.root.insert("process".into(), Value::Object(process));
        if fork.parent_muted {
            self.set("daemoneye", "parent_muted", true.into());
        }
    }

    fn exit(&mut self, exit: &Exit) {
        self.action("exit", "end");
        let mut process = key(exit.key);
        self.image(&mut process, "process", &exit.comm, &exit.exe);
        // A process that a signal ended has no exit code, and 0 would read as success.
        let status = exit.status;
        if let Some(status) = status.filter(|status| status.signal == 0) {
            process.insert("exit_code".into(), status.code.into());
        }
        if let Some(parent) = exit.parent {
            process.insert("parent".into(), Value::Object(key(parent)));
        }
        self.root.insert("process".into(), Value::Object(process));
        if let Some(status) = status.filter(|status| status.signal != 0) {
            self.set("daemoneye", "exit_signal", status.signal.into());
            self.set("daemoneye", "core_dumped", status.core_dumped.into());
        }
        if exit.muted {
            self.set("daemoneye", "muted", true.into());
        }
        if let Some(time) = exit.run_time {
            let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            self.set("daemoneye", "run_time_ns", ns.into());
        }
    }

    fn hashed(&mut self, hashed: &Hashed) {
        self.action("hashed", "info");
        let mut process = key(hashed.key);
        self.image(&mut process, "process", b"", &hashed.exe);
        match hashed.outcome {
            Ok(digest) => {
                process.insert("hash".into(), json!({ "sha256": hex(&digest.sha256) }));
                if digest.changed {
                    self.set("daemoneye", "exe_changed", true.into());
                }
                if digest.touched {
                    self.set("daemoneye", "exe_touched", true.into());
                }
            }
            Err(failure) => self.set("daemoneye", "hash_failure", failure.name().into()),
        }
        self.root.insert("process".into(), Value::Object(process));
        if let Some(file) = &hashed.exe_file {
            self.set("daemoneye", "exe_file", file_identity(file));
        }
    }

    fn failed_exec(&mut self, failed: &FailedExec) {
        self.action("failed_exec", "info");
        let mut process = key(failed.key);
        self.image(&mut process, "process", &failed.comm, &failed.exe);
        if failed.muted {
            self.set("daemoneye", "muted", true.into());
        }
        if let Some(ids) = failed.credentials {
            process.insert("user".into(), json!({ "id": ids.euid.to_string() }));
            process.insert("real_user".into(), json!({ "id": ids.uid.to_string() }));
        }
        if let Some(parent) = failed.parent {
            process.insert("parent".into(), Value::Object(key(parent)));
        }
        self.root.insert("process".into(), Value::Object(process));
        self.set("event", "outcome", "failure".into());
        let filename = self.bytes("daemoneye.filename", &failed.filename);
        self.set("daemoneye", "filename", filename);
        self.set("daemoneye", "errno", failed.errno.into());
    }

    fn lost(&mut self, lost: &Lost) {
        self.action("lost", "info");
        let value = json!({
            "class": lost.class.name(), "reason": lost.reason.name(), "count": lost.count,
            "from_ns": lost.from.0, "to_ns": lost.to.0,
        });
        self.set("daemoneye", "lost", value);
    }

    fn finding_process(&mut self, finding: &Finding) {
        let mut process = finding.key.map(key).unwrap_or_default();
        self.image(&mut process, "process", b"", &finding.exe);
        self.root.insert("process".into(), Value::Object(process));
    }

    fn process(&mut self, process: &Process) {
        let mut out = key(process.key);
        self.image(&mut out, "process", &process.comm, &process.exe);
        out.insert("args".into(), self.args("process.args", &process.argv));
        out.insert("args_count".into(), process.argv.len().into());
        if let Some(cwd) = &process.cwd {
            out.insert(
                "working_directory".into(),
                self.bytes("process.working_directory", cwd),
            );
        }
        let hashes = hashes(process);
        if !hashes.is_empty() {
            out.insert("hash".into(), Value::Object(hashes));
        }
        let pe = process.windows.as_deref().map(|windows| self.pe(windows));
        if let Some(pe) = pe.filter(|pe| !pe.is_empty()) {
            out.insert("pe".into(), Value::Object(pe));
        }
        if let Some(ids) = process.credentials {
            out.insert("real_user".into(), json!({ "id": ids.uid.to_string() }));
            out.insert("real_group".into(), json!({ "id": ids.gid.to_string() }));
            out.insert("user".into(), json!({ "id": ids.euid.to_string() }));
            out.insert("group".into(), json!({ "id": ids.egid.to_string() }));
        }
        if let Some(parent) = self.parent(process) {
            out.insert("parent".into(), Value::Object(parent));
        }
        self.root.insert("process".into(), Value::Object(out));
        self.account(process);
        self.details(process);
    }

    fn parent(&mut self, process: &Process) -> Option<Map<String, Value>> {
        let mut out = match process.parent_process.as_deref() {
            Some(ancestor) => Some(self.ancestor(ancestor)),
            None => process.parent.map(key),
        };
        let windows = process.windows.as_deref();
        if let Some(user) = windows.and_then(|windows| windows.parent_user.as_ref()) {
            let name = self.bytes("process.parent.user.name", user);
            out.get_or_insert_default()
                .insert("user".into(), json!({ "name": name }));
        }
        out
    }

    /// The version resource of the program's file.
    fn pe(&mut self, windows: &WindowsProcess) -> Map<String, Value> {
        let texts = [
            ("company", &windows.company),
            ("description", &windows.description),
            ("file_version", &windows.file_version),
            ("original_file_name", &windows.original_file_name),
            ("product", &windows.product),
        ];
        let mut out = Map::new();
        for (name, bytes) in texts {
            if let Some(bytes) = bytes {
                let value = self.bytes(&format!("process.pe.{name}"), bytes);
                out.insert(name.into(), value);
            }
        }
        if let Some(hash) = windows.imphash {
            out.insert("imphash".into(), hex(&hash).into());
        }
        out
    }

    fn ancestor(&mut self, ancestor: &Ancestor) -> Map<String, Value> {
        let mut out = key(ancestor.key);
        self.image(&mut out, "process.parent", &ancestor.comm, &ancestor.exe);
        out.insert(
            "args".into(),
            self.args("process.parent.args", &ancestor.argv),
        );
        if let Some(parent) = ancestor.parent {
            out.insert("parent".into(), Value::Object(key(parent)));
        }
        out
    }

    fn account(&mut self, process: &Process) {
        if let Some(user) = &process.user {
            let name = self.bytes("user.name", user);
            self.root.insert("user".into(), json!({ "name": name }));
        }
        if let Some(container) = &process.container {
            let id = self.bytes("container.id", &container.id);
            self.set("container", "id", id);
            if !container.runtime.is_empty() {
                self.set("container", "runtime", text(&container.runtime).into());
            }
            if let Some(pod) = &container.pod_uid {
                self.set("kubernetes", "pod", json!({ "uid": text(pod) }));
            }
        }
    }

    /// What ECS has no field for.
    fn details(&mut self, process: &Process) {
        if !process.filename.is_empty() && process.filename != process.exe {
            let filename = self.bytes("daemoneye.filename", &process.filename);
            self.set("daemoneye", "filename", filename);
        }
        if process.argv_truncated_bytes > 0 {
            self.set(
                "daemoneye",
                "argv_truncated_bytes",
                process.argv_truncated_bytes.into(),
            );
        }
        if process.redactions > 0 {
            self.set("daemoneye", "redactions", process.redactions.into());
        }
        let windows = process.windows.as_deref();
        let texts = [
            ("interpreter", process.interpreter.as_ref()),
            ("unit", process.unit.as_ref()),
            (
                "integrity_level",
                windows.and_then(|windows| windows.integrity_level.as_ref()),
            ),
        ];
        for (name, bytes) in texts {
            if let Some(bytes) = bytes {
                let value = self.bytes(&format!("daemoneye.{name}"), bytes);
                self.set("daemoneye", name, value);
            }
        }
        if let Some(environment) = &process.environment {
            let value = self.args("daemoneye.environment", environment);
            self.set("daemoneye", "environment", value);
            if process.environment_truncated_bytes > 0 {
                let missing = process.environment_truncated_bytes.into();
                self.set("daemoneye", "environment_truncated_bytes", missing);
            }
        }
        if let Some(id) = windows.and_then(|windows| windows.logon_id) {
            self.set("daemoneye", "logon_id", format!("{id:#x}").into());
        }
        self.numbers(process);
        let flags = [
            ("secure_exec", process.secure_exec),
            ("file_caps", process.file_caps),
            ("exe_changed", process.exe_changed.then_some(true)),
            ("exe_touched", process.exe_touched.then_some(true)),
        ];
        for (name, flag) in flags {
            if let Some(flag) = flag {
                self.set("daemoneye", name, flag.into());
            }
        }
        if let Some(file) = &process.exe_file {
            self.set("daemoneye", "exe_file", file_identity(file));
        }
        if let Some(of) = process.namespaces {
            self.set("daemoneye", "namespaces", namespaces(of));
        }
        if !process.ancestors.is_empty() {
            let chain = self.chain(&process.ancestors);
            self.set("daemoneye", "ancestors", chain);
        }
    }

    fn numbers(&mut self, process: &Process) {
        let numbers = [
            ("login_uid", process.login_uid.map(u64::from)),
            ("session", process.session.map(u64::from)),
            ("session_leader", process.session_leader.map(u64::from)),
            ("namespace_pid", process.namespace_pid.map(u64::from)),
            ("tty", process.tty.map(u64::from)),
            ("effective_caps", process.effective_caps),
            ("cgroup_id", process.cgroup_id),
        ];
        for (name, value) in numbers {
            if let Some(value) = value {
                self.set("daemoneye", name, value.into());
            }
        }
    }

    fn chain(&mut self, ancestors: &[Ancestor]) -> Value {
        let one = |(i, ancestor): (usize, &Ancestor)| {
            let mut out = key(ancestor.key);
            let path = format!("daemoneye.ancestors[{i}]");
            self.image(&mut out, &path, &ancestor.comm, &ancestor.exe);
            Value::Object(out)
        };
        ancestors.iter().enumerate().map(one).collect()
    }

    fn image(&mut self, out: &mut Map<String, Value>, path: &str, comm: &[u8], exe: &[u8]) {
        if !comm.is_empty() {
            out.insert("name".into(), self.bytes(&format!("{path}.name"), comm));
        }
        if !exe.is_empty() {
            out.insert(
                "executable".into(),
                self.bytes(&format!("{path}.executable"), exe),
            );
        }
    }
}

fn file_identity(file: &FileIdentity) -> Value {
    json!({
        "inode": file.inode, "device": file.device, "nlink": file.nlink, "size": file.size,
        "mtime_ns": file.mtime, "ctime_ns": file.ctime, "mode": format!("{:o}", file.mode),
        "uid": file.uid, "memfd": file.memfd,
    })
}

fn namespaces(of: Namespaces) -> Value {
    json!({
        "mnt": of.mnt, "pid": of.pid, "net": of.net, "user": of.user, "uts": of.uts, "ipc": of.ipc,
        "cgroup": of.cgroup, "time": of.time,
    })
}

fn hashes(process: &Process) -> Map<String, Value> {
    let windows = process.windows.as_deref();
    let hashes = [
        ("sha256", process.sha256.map(|hash| hex(&hash))),
        ("md5", windows.and_then(|w| w.md5).map(|hash| hex(&hash))),
        ("sha1", windows.and_then(|w| w.sha1).map(|hash| hex(&hash))),
    ];
    let known = |(name, hash): (&str, Option<String>)| Some((name.to_owned(), hash?.into()));
    hashes.into_iter().filter_map(known).collect()
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key(key: ProcessKey) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("pid".into(), key.pid.into());
    out.insert("entity_id".into(), key.entity_id().into());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BootTime, Digest, DropReason, EventClass, ExitStatus};

    fn exited(wait_status: u32) -> Value {
        event(&Event {
            header: Header::default(),
            kind: EventKind::Exit(Exit {
                status: Some(ExitStatus::from_wait_status(wait_status)),
                ..Exit::default()
            }),
        })
    }

    #[test]
    fn an_exit_has_a_code_or_a_signal() {
        // A killed process was shown with exit code 0.
        let killed = exited(9);
        assert!(killed["process"].get("exit_code").is_none(), "{killed}");
        assert_eq!(killed["daemoneye"]["exit_signal"], 9);
        let ended = exited(0x0300);
        assert_eq!(ended["process"]["exit_code"], 3);
        assert!(ended["daemoneye"].get("exit_signal").is_none(), "{ended}");
        assert_eq!(exited(0)["process"]["exit_code"], 0);
    }

    #[test]
    fn what_windows_tells_has_its_ecs_names() {
        let text = |text: &'static str| Some(text.into());
        let process = Process {
            parent: Some(ProcessKey::default()),
            windows: Some(Box::new(WindowsProcess {
                integrity_level: text("High"),
                logon_id: Some(0x3e7),
                original_file_name: text("Cmd.Exe"),
                description: text("d"),
                product: text("p"),
                company: text("c"),
                file_version: text("1.0"),
                md5: Some([1; 16]),
                sha1: Some([2; 20]),
                imphash: Some([3; 16]),
                parent_user: text("NT AUTHORITY\\SYSTEM"),
            })),
            ..Process::default()
        };
        let document = event(&Event {
            header: Header::default(),
            kind: EventKind::Exec(Box::new(crate::Exec {
                process,
                old_tid: None,
            })),
        });
        let process = &document["process"];
        assert_eq!(
            process["pe"],
            json!({
                "company": "c", "description": "d", "file_version": "1.0",
                "imphash": "03".repeat(16), "original_file_name": "Cmd.Exe", "product": "p",
            })
        );
        let hashes = json!({ "md5": "01".repeat(16), "sha1": "02".repeat(20) });
        assert_eq!(process["hash"], hashes);
        assert_eq!(process["parent"]["user"]["name"], "NT AUTHORITY\\SYSTEM");
        assert_eq!(document["daemoneye"]["integrity_level"], "High");
        assert_eq!(document["daemoneye"]["logon_id"], "0x3e7");
    }

    #[test]
    fn what_muting_leaves_unknown_is_said() {
        let exit = |muted| {
            event(&Event {
                header: Header::default(),
                kind: EventKind::Exit(Exit {
                    muted,
                    ..Exit::default()
                }),
            })
        };
        assert_eq!(exit(true)["daemoneye"]["muted"], true);
        assert!(exit(false)["daemoneye"].get("muted").is_none());
    }

    #[test]
    fn an_alert_tells_what_its_event_told() {
        // Those on digests and on losses held neither.
        let alert = |kind| {
            let header = Header::default();
            finding(&Finding::default(), Some(&Event { header, kind }))
        };
        let digest = Digest {
            sha256: [0xab; 32],
            changed: true,
            touched: true,
        };
        let hashed = alert(EventKind::Hashed(Box::new(Hashed {
            key: ProcessKey::default(),
            exe: "/bin/x".into(),
            exe_file: None,
            outcome: Ok(digest),
        })));
        assert_eq!(hashed["process"]["hash"]["sha256"], "ab".repeat(32));
        assert_eq!(hashed["daemoneye"]["exe_changed"], true);
        assert_eq!(hashed["daemoneye"]["exe_touched"], true);
        let lost = alert(EventKind::Lost(Lost {
            class: EventClass::Exec,
            reason: DropReason::RingFull,
            count: 3,
            from: BootTime(0),
            to: BootTime(1),
        }));
        assert_eq!(lost["daemoneye"]["lost"]["count"], 3);
        for document in [hashed, lost] {
            assert_eq!(document["event"]["action"], "rule_match");
        }
    }

    #[test]
    fn a_finding_names_what_matched_and_the_techniques_of_its_tags() {
        let of = |tags: &[&str]| {
            let finding = Finding {
                tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
                matched: vec![("process.name".into(), "x".into())],
                ..Finding::default()
            };
            super::finding(&finding, None)
        };
        let document = of(&["attack.execution", "attack.t1059.004", "attack.t1027"]);
        assert_eq!(
            document["daemoneye"]["matched"],
            json!({ "process.name": "x" })
        );
        assert_eq!(
            document["threat"],
            json!({
                "framework": "MITRE ATT&CK",
                "technique": {
                    "id": ["T1027", "T1059"], "subtechnique": { "id": ["T1059.004"] },
                },
            })
        );
        for none in [
            "attack.execution",
            "attack.tx",
            "attack.t1059.x",
            "t1059",
            "car.2013-05-009",
        ] {
            assert_eq!(of(&[none]).get("threat"), None, "{none}");
        }
    }

    #[test]
    fn a_line_steers_no_terminal_and_reads_back_the_same() {
        // C1 controls and bidirectional overrides came through raw.
        let check = |text: &str, written: &str| {
            let document = json!({ text: [text] });
            let line = line(&document);
            assert_eq!(line, format!(r#"{{"{written}":["{written}"]}}"#));
            assert!(!line.contains(steers_display), "{line}");
            assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), document);
        };
        check("plain é 漢 🦀", "plain é 漢 🦀");
        check(
            "\u{7f}\u{80}\u{9b}31m\u{9f}",
            r"\u007f\u0080\u009b31m\u009f",
        );
        check("\u{202e}\u{2066}\u{feff}", r"\u202e\u2066\ufeff");
        check("\u{200b}\u{2028}\u{61c}", r"\u200b\u2028\u061c");
        check("\u{e0041}", r"\udb40\udc41");
        check("\\\u{9b}\"\n", r#"\\\u009b\"\n"#);
    }
}
