//! Evidence bundles on the command line: what they prove, on a machine without the ledger, and what
//! is said of those that were changed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

mod recorded;

/// A ledger of five execs, three of them shells, and the findings of two rules about these.
struct Place(TempDir);

const RULES: &str = "id: shell\ntitle: \"A shell\"\nlevel: high\nsql: |\n  SELECT process.pid FROM \
                     exec WHERE process.name = 'sh'\n---\nid: two-shells\ntitle: Two shells\nlevel: \
                     high\nsql: |\n  SELECT count(*) FROM exec WHERE process.name = 'sh' GROUP BY \
                     TUMBLE(event.time, INTERVAL '1' MINUTE) HAVING count(*) >= 2\n";

fn check(output: &Output, code: i32, parts: &[&str]) {
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

fn json(output: &Output) -> Value {
    check(output, 0, &[]);
    serde_json::from_slice(&output.stdout).unwrap()
}

impl Place {
    /// The place and its alerts.
    fn new() -> (Self, Vec<Value>) {
        let place = Self(tempfile::tempdir().unwrap());
        let events = [
            (1, "init", ""),
            (2, "sh", "\u{1b}]0;x\u{7}"),
            (3, "ls", "-l"),
            (4, "sh", "second"),
            (5, "true", ""),
        ];
        let exec = |(pid, program, argument)| {
            recorded::exec(u64::from(pid), pid, program, &[program, argument])
        };
        recorded::write(&place.path("recording"), &events.map(exec));
        fs::write(place.path("rules.yaml"), RULES).unwrap();
        let output = place.call("--json replay recording --rules rules.yaml --state-dir state");
        check(&output, 0, &[]);
        let text = String::from_utf8(output.stdout).unwrap();
        let alerts = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let alerts = alerts.collect();
        fs::copy(place.path("state/ledger/ledger.pub"), place.path("pub")).unwrap();
        fs::copy(
            place.path("state/ledger/last-checkpoint"),
            place.path("old"),
        )
        .unwrap();
        (place, alerts)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the program in the place.
    fn call(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daemoneye"));
        let arguments = arguments.split(' ');
        command.args(arguments).current_dir(self.0.path());
        command.output().unwrap()
    }

    /// Alerts and ledger go on.
    fn replay_again(&self) {
        check(
            &self.call("replay recording --rules rules.yaml --state-dir state"),
            0,
            &[],
        );
    }
}

fn id_of(alerts: &[Value], rule: &str) -> String {
    let of_rule = |alert: &&Value| alert["rule"]["id"] == rule;
    let alert = alerts.iter().find(of_rule).expect("the rule fired");
    alert["event"]["id"].as_str().unwrap().to_owned()
}

fn indexes(report: &Value) -> Vec<u64> {
    let entries = report["entries"].as_array().unwrap().iter();
    entries
        .map(|entry| entry["index"].as_u64().unwrap())
        .collect()
}

#[test]
fn an_alert_is_proven_to_who_has_the_key_alone() {
    let (place, alerts) = Place::new();
    let id = id_of(&alerts, "two-shells");
    assert_eq!(id, "3:two-shells");
    let written = place.call(&format!(
        "ledger evidence {id} -o case.zip --state-dir state"
    ));
    check(
        &written,
        0,
        &["case.zip: entries 1, 3, ", "key fingerprint: sha256:"],
    );
    fs::remove_dir_all(place.path("state")).unwrap();
    let verified = place.call("ledger verify-evidence case.zip --key pub");
    let parts = [
        "proven to be entries of the log",
        "by the host's clock, with the keys of epoch 0",
        "summary.txt  says what the entries below say",
        "entry 1: 1970-01-01T00:00:00.000000000Z exec pid=2",
        "HIGH Two shells [two-shells]",
        "(about entries 1, 3)",
        "not proven: that the host told the truth",
    ];
    check(&verified, 0, &parts);
    let steers = |c: char| c.is_control() && c != '\n';
    let said = String::from_utf8(verified.stdout).unwrap();
    assert!(!said.contains(steers), "{said:?}");
    let report = json(&place.call("--json ledger verify-evidence case.zip --key pub"));
    assert_eq!(
        (&report["summary"], indexes(&report).len()),
        (&Value::from("same"), 3)
    );
    assert_eq!(
        report["entries"][1]["entry"]["process"]["args"][1],
        "second"
    );
    let finding = &report["entries"][2]["entry"];
    assert_eq!(finding["event"]["id"], "3:two-shells");
}

#[test]
fn an_entry_is_taken_with_what_belongs_to_it() {
    let (place, alerts) = Place::new();
    let wrote = |arguments: &str| {
        let command = format!("--json ledger evidence {arguments} --state-dir state");
        let report = json(&place.call(&command));
        let of = report["entries"].as_array().unwrap().iter();
        of.map(|index| index.as_u64().unwrap()).collect::<Vec<_>>()
    };
    // An event with the findings about it, and their other events.
    let all = wrote("3 -o event.zip");
    assert!(all.len() == 4 && all.starts_with(&[1, 3]), "{all:?}");
    let alone = wrote("0 -o alone.zip --with 2,4");
    assert_eq!(alone, [0, 2, 4]);
    let shell = wrote(&format!("{} -o shell.zip", id_of(&alerts, "shell")));
    assert_eq!((shell.len(), shell[0]), (2, 1));
    let finding = shell[1];
    assert_eq!(wrote(&format!("{finding} -o finding.zip")), shell);

    let refused = |arguments: &str, code, part| {
        let command = format!("ledger evidence {arguments} --wait 0 --state-dir state");
        check(&place.call(&command), code, &[part]);
    };
    refused("0 -o alone.zip", 2, "exists already");
    refused("0 -o no/where.zip", 2, "cannot be created");
    refused("x -o x.zip", 2, "INDEX:RULE");
    refused("0:shell -o x.zip", 7, "no finding of rule shell");
    refused("999 -o x.zip", 7, "no entry 999");
    refused("0 -o x.zip --with 999", 7, "not signed for yet");
    refused("0 -o x.zip --checkpoint rules.yaml", 3, "malformed");
    assert!(!place.path("x.zip").exists());
}

#[test]
fn a_bundle_is_held_against_key_checkpoint_age_and_witnesses() {
    let (place, _) = Place::new();
    place.replay_again();
    let evidence = "ledger evidence 1:shell --state-dir state -o";
    check(&place.call(&format!("{evidence} plain.zip")), 0, &[]);
    check(
        &place.call(&format!("{evidence} linked.zip --checkpoint old")),
        0,
        &[],
    );
    let verify = |arguments: &str, code, part: &str| {
        let command = format!("ledger verify-evidence {arguments}");
        check(&place.call(&command), code, &[part]);
    };
    verify(
        "linked.zip --key pub --checkpoint old",
        0,
        "of one history with the checkpoint of",
    );
    verify(
        "plain.zip --key pub --checkpoint old",
        7,
        "bundle has no proof between its tree",
    );
    verify("plain.zip --key pub --checkpoint recording", 3, "recording");
    verify("plain.zip --key pub --checkpoint pub", 3, "malformed");
    verify("plain.zip --key old", 3, "malformed");
    verify("plain.zip --key none", 3, "none");
    verify("none.zip --key pub", 3, "none.zip");
    verify(
        "rules.yaml --key pub",
        3,
        "not an evidence bundle: it is no ZIP archive",
    );
    verify("plain.zip --key pub --max-age 600", 0, "proven");
    let vkeys = fs::read_to_string(place.path("pub")).unwrap();
    fs::write(place.path("witness"), vkeys.lines().nth(1).unwrap()).unwrap();
    verify("plain.zip --key pub --witness-keys witness", 0, "cosigned");

    let (other, _) = Place::new();
    fs::copy(other.path("pub"), place.path("other")).unwrap();
    verify(
        "plain.zip --key other",
        4,
        "bundle is of another log than the trusted keys",
    );
    fs::write(
        place.path("witness"),
        fs::read_to_string(other.path("pub"))
            .unwrap()
            .lines()
            .nth(1)
            .unwrap(),
    )
    .unwrap();
    verify(
        "plain.zip --key pub --witness-keys witness",
        4,
        "not witnessed as asked for",
    );
    std::thread::sleep(std::time::Duration::from_secs(2));
    verify(
        "plain.zip --key pub --max-age 0",
        4,
        "not within 0 s of now",
    );
}

/// An alert that is kept about entries that were dropped could not be handed over at all, and a summary
/// named entries as if they were there.
#[test]
fn an_alert_about_dropped_entries_is_handed_over_without_them() {
    let dir = tempfile::tempdir().unwrap();
    let options = ledger::Options {
        segment_bytes: 1,
        ..ledger::Options::new("daemoneye/test")
    };
    let (mut ledger, _) = ledger::Ledger::open(&dir.path().join("state/ledger"), &options).unwrap();
    let event = event::codec::encode_event(&event::Event {
        header: event::Header::default(),
        kind: event::EventKind::Fork(event::Fork {
            child: event::ProcessKey::default(),
            parent: event::ProcessKey::default(),
            parent_muted: false,
        }),
    });
    for _ in 0..6 {
        ledger.append(&event).unwrap();
        ledger.commit().unwrap();
    }
    let finding = event::Finding {
        rule_id: "shell".into(),
        leaf_index: 4,
        evidence: vec![1, 3, 4],
        ..event::Finding::default()
    };
    let finding = ledger
        .append(&event::codec::encode_finding(&finding))
        .unwrap();
    ledger.checkpoint().unwrap();
    let needed = ledger::Retention {
        bytes: Some(0),
        seconds: None,
    };
    ledger.retain(&needed, 4).unwrap();
    assert_eq!(ledger.kept_from(), 4);
    let keys = ledger.public_keys().to_string();
    ledger.close().unwrap();
    fs::write(dir.path().join("pub"), keys).unwrap();
    let call = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daemoneye"));
        command.args(arguments.split(' ')).current_dir(dir.path());
        command.output().unwrap()
    };
    let evidence = format!("ledger evidence {finding} --state-dir state -o case.zip");
    check(
        &call(&evidence),
        0,
        &["not in the bundle: entries 1, 3", "entries 4, 6"],
    );
    let missing = "(about entries 1, 3, 4; not in this bundle, so not proven: entries 1, 3)";
    check(
        &call("ledger verify-evidence case.zip --key pub"),
        0,
        &[missing, "says what"],
    );
    // What was asked for by name is not left out.
    let asked = call("ledger evidence 1 --state-dir state -o other.zip");
    check(&asked, 7, &["no longer"]);
}

/// What other programs would read otherwise is refused, by the script too.
#[test]
fn an_archive_that_others_read_otherwise_is_refused() {
    let (place, _) = Place::new();
    check(
        &place.call("ledger evidence 1:shell --state-dir state -o case.zip"),
        0,
        &[],
    );
    let zip = fs::read(place.path("case.zip")).unwrap();
    python(&place, &["case.zip", "pub"], true, "proven");
    let refused = |changed: &[u8]| {
        fs::write(place.path("changed.zip"), changed).unwrap();
        check(
            &place.call("ledger verify-evidence changed.zip --key pub"),
            3,
            &[],
        );
        python(&place, &["changed.zip", "pub"], false, "NOT PROVEN");
    };
    let at = |at: usize| usize::try_from(u32::from_le_bytes(zip[at..at + 4].try_into().unwrap()));
    let record = at(zip.len() - 22 + 16).unwrap();
    let altered = |at: usize, bytes: &[u8]| {
        let mut changed = zip.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        refused(&changed);
    };
    refused(&[b"#!/bin/sh\n", &zip[..]].concat());
    refused(&[&zip[..], b"more"].concat());
    // A symbolic link; a name in front that differs; lengths in front; an unknown flag.
    altered(record + 40, &0o120_777_u16.to_le_bytes());
    altered(30, b"S");
    altered(22, &[1]);
    altered(record + 8, &[zip[record + 8] ^ 1]);
    // A descriptor that says otherwise.
    let first = 30 + "summary.txt".len() + usize::from(zip[28]);
    altered(
        first + at(record + 24).unwrap() + 4,
        &[zip[first + at(record + 24).unwrap() + 4] ^ 1],
    );
    // Bytes between the directory and its end.
    let (files, end) = zip.split_at(zip.len() - 22);
    refused(&[files, b"more", end].concat());
}

/// Each file of the bundle, changed and packed again.
#[test]
fn a_manipulated_bundle_is_told_with_its_exit_code() {
    let (place, _) = Place::new();
    place.replay_again();
    let evidence = "ledger evidence 1:shell --state-dir state -o case.zip --checkpoint old";
    check(&place.call(evidence), 0, &[]);
    let zip = fs::read(place.path("case.zip")).unwrap();
    let manipulated = |name: &str, from: &str, to: &str, code: i32, part: &str| {
        let mut files = unpacked(&zip);
        let (_, bytes) = files
            .iter_mut()
            .find(|(other, _)| other.starts_with(name))
            .unwrap();
        let at = position(bytes, from.as_bytes());
        bytes.splice(at..at + from.len(), to.bytes());
        fs::write(place.path("changed.zip"), packed(&files)).unwrap();
        let command = "ledger verify-evidence changed.zip --key pub --checkpoint old";
        check(&place.call(command), code, &[part]);
        python(
            &place,
            &["changed.zip", "pub", "old"],
            name == "summary.txt",
            "",
        );
    };
    let root = "leaves in the bundle are not those of the signed tree";
    manipulated("leaves/1", "/bin/sh", "/bin/ls", 4, root);
    manipulated("leaves/", "sh", "ls", 4, root);
    manipulated("proof.txt", "hash blake3", "hash sha256", 4, root);
    manipulated(
        "proof.txt",
        "index 1\n",
        "index 0\n",
        3,
        "of other leaves than are there",
    );
    manipulated("proof.txt", "=\n", "=", 3, "\"proof.txt\" in the bundle");
    manipulated(
        "checkpoint.txt",
        "\n\n",
        "0\n\n",
        3,
        "checkpoint in the bundle is not sound",
    );
    manipulated(
        "checkpoint.txt",
        "\u{2014} daemoneye/",
        "\u{2014} daemon/",
        4,
        "not signed by",
    );
    manipulated(
        "keys.txt",
        "daemoneye/",
        "daemon/",
        3,
        "key id does not match",
    );
    manipulated("consistency/", "from ", "from 1", 7, "no proof between");
    let summary = "summary.txt does not say what they say";
    manipulated("summary.txt", "sh\" cmdline", "ls\" cmdline", 4, summary);
    let unknown = "another version wrote it";
    manipulated("summary.txt", "DaemonEye ", "DaemonEye 9", 0, unknown);

    let mut cut = zip.clone();
    cut.truncate(zip.len() / 2);
    fs::write(place.path("changed.zip"), &cut).unwrap();
    let verify = "ledger verify-evidence changed.zip --key pub";
    check(
        &place.call(verify),
        3,
        &["changed.zip: not an evidence bundle"],
    );
    let mut flipped = zip.clone();
    let at = position(&zip, b"/bin/sh");
    flipped[at] ^= 1;
    fs::write(place.path("changed.zip"), &flipped).unwrap();
    check(&place.call(verify), 3, &["its checksum does not match"]);
}

#[test]
fn the_script_of_the_documentation_agrees() {
    let (place, _) = Place::new();
    place.replay_again();
    check(&place.call("ledger key rotate --state-dir state"), 0, &[]);
    let evidence = "ledger evidence 3:two-shells --state-dir state -o case.zip --checkpoint old";
    check(&place.call(evidence), 0, &[]);
    check(
        &place.call("ledger verify-evidence case.zip --key pub --checkpoint old"),
        0,
        &["epoch 1"],
    );
    python(&place, &["case.zip", "pub"], true, "proven: 3 leaves");
    python(&place, &["case.zip", "pub", "old"], true, "of one history");
    // Without what leads from the earlier epoch's tree, the later keys' word is none.
    let mut files = unpacked(&fs::read(place.path("case.zip")).unwrap());
    files.retain(|(name, _)| !name.starts_with("consistency/"));
    fs::write(place.path("later.zip"), packed(&files)).unwrap();
    let later = place.call("ledger verify-evidence later.zip --key pub");
    check(&later, 4, &["signed by keys of a later epoch than leaf 1"]);
    python(&place, &["later.zip", "pub"], false, "no consistency proof");
    let (other, _) = Place::new();
    fs::copy(other.path("pub"), place.path("other")).unwrap();
    python(&place, &["case.zip", "other"], false, "of another log");
    fs::copy(other.path("old"), place.path("others")).unwrap();
    python(
        &place,
        &["case.zip", "pub", "others"],
        false,
        "not signed by",
    );
}

/// The index is then the daemon's alone, and so the log is read.
#[cfg(target_os = "linux")]
#[test]
fn evidence_is_written_while_the_daemon_runs() {
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::PermissionsExt;
    use std::process::Stdio;

    use rustix::process::{Pid, Signal, kill_process};

    let place = Place(tempfile::tempdir().unwrap());
    // The account that rights are given up to must get there.
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(place.0.path(), open).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_daemoneye"));
    let state = place.path("state");
    let daemon = command
        .args(["run", "--sensor", "poll", "--state-dir"])
        .arg(&state);
    let daemon = daemon.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut daemon = daemon.spawn().unwrap();
    let mut stderr = BufReader::new(daemon.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("ready (sensor") && stderr.read_line(&mut said).unwrap() > 0 {}
    let written = place.call("ledger evidence 0 -o case.zip --state-dir state --wait 30");
    let status = place.call("status --state-dir state");
    kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
    while stderr.read_line(&mut said).unwrap() > 0 {}
    assert!(daemon.wait().unwrap().success(), "{said}");
    check(&written, 0, &["case.zip: entry 0, in the tree of"]);
    check(&status, 0, &[]);
    let verify = "ledger verify-evidence case.zip --key state/ledger/ledger.pub";
    check(&place.call(verify), 0, &["entry 0: "]);
}

/// Runs `docs/verify_evidence.py`, or says why not: `cargo xtask test` counts these lines.
#[track_caller]
fn python(place: &Place, arguments: &[&str], proven: bool, part: &str) {
    let interpreter = std::env::var_os("DAEMONEYE_PYTHON").unwrap_or_else(|| "python3".into());
    let mut probe = Command::new(&interpreter);
    let probed = probe.args(["-c", "import blake3, cryptography"]).output();
    if !probed.is_ok_and(|output| output.status.success()) {
        let test = std::panic::Location::caller();
        let why = "Python with the packages blake3 and cryptography is not there";
        let line = format!("skipped: {}:{}: {why}\n", test.file(), test.line());
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verify_evidence.py");
    let mut command = Command::new(interpreter);
    command
        .arg(script)
        .args(arguments)
        .current_dir(place.0.path());
    let output = command.output().unwrap();
    check(&output, i32::from(!proven), &[part]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("Traceback"), "{said}");
}

type Files = Vec<(String, Vec<u8>)>;

/// The files of an archive that `daemoneye` wrote, read by nothing of it but the format's own bytes:
/// stored files, each a header of 30 bytes, its name, its bytes and a descriptor.
fn unpacked(zip: &[u8]) -> Files {
    let number = |at: usize, len: usize| {
        let bytes = zip[at..at + len].iter().rev();
        bytes.fold(0, |n, byte| n << 8 | usize::from(*byte))
    };
    let end = zip.len() - 22;
    let mut record = number(end + 16, 4);
    let mut files = Vec::new();
    for _ in 0..number(end + 10, 2) {
        let (len, name_len, extra) = (
            number(record + 20, 4),
            number(record + 28, 2),
            number(record + 30, 2),
        );
        let name = String::from_utf8(zip[record + 46..record + 46 + name_len].to_vec()).unwrap();
        let header = number(record + 42, 4);
        let start = header + 30 + number(header + 26, 2) + number(header + 28, 2);
        files.push((name, zip[start..start + len].to_vec()));
        record += 46 + name_len + extra;
    }
    files
}

/// A plain archive of stored files.
fn packed(files: &Files) -> Vec<u8> {
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let u16 = |n: usize| u16::try_from(n).unwrap().to_le_bytes();
        let u32 = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        let mut fields = vec![10, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        fields.extend(crc32(bytes).to_le_bytes());
        fields.extend([u32(bytes.len()), u32(bytes.len())].concat());
        fields.extend([u16(name.len()), u16(0)].concat());
        let start = zip.len();
        zip.extend([b"PK\x03\x04", &fields[..], name.as_bytes(), bytes].concat());
        directory.extend([b"PK\x01\x02\x0a\x00", &fields[..], &[0; 10], &u32(start)].concat());
        directory.extend(name.as_bytes());
    }
    let count = u16::try_from(files.len()).unwrap().to_le_bytes();
    let sizes = [directory.len(), zip.len()].map(|n| u32::try_from(n).unwrap().to_le_bytes());
    zip.extend(directory);
    zip.extend(
        [
            b"PK\x05\x06\0\0\0\0",
            &count[..],
            &count,
            &sizes.concat(),
            &[0; 2],
        ]
        .concat(),
    );
    zip
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(u32::MAX, byte)
}

fn position(bytes: &[u8], part: &[u8]) -> usize {
    let mut windows = bytes.windows(part.len());
    windows
        .position(|window| window == part)
        .expect("the part is there")
}
