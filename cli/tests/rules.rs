//! What `daemoneye rules` says of Sigma rules.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn rules<const N: usize>(arguments: [&str; N]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_daemoneye"))
        .arg("rules")
        .args(arguments)
        .output()
        .unwrap()
}

fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn rule(id: &str, product: &str, selection: &str) -> String {
    format!(
        "title: T\nid: {id}\nlogsource:\n  category: process_creation\n  product: {product}\n\
         detection:\n  sel:\n    {selection}\n  condition: sel\n"
    )
}

/// One rule of each kind.
fn directory() -> TempDir {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("a.yml", &rule("a", "linux", "Image|endswith: /nc"));
    write(
        "a.tests.yml",
        "fires:\n  - {Image: /bin/nc}\nsilent:\n  - {Image: /bin/ncat}\n",
    );
    write("b.yml", &rule("b", "linux", "Product: [x]"));
    write("c.yml", &rule("c", "linux", "Image|endwith: /nc"));
    write("d.yml", &rule("d", "windows", "Image|endswith: nc.exe"));
    dir
}

#[test]
fn check_says_what_became_of_every_rule() {
    let dir = directory();
    let path = text(dir.path());
    let output = rules(["check", "--os", "linux", path]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        lines(&output),
        [
            &format!("loaded    {path}/a.yml:2: a"),
            &format!("degraded  {path}/b.yml:2: b: no Product here; it cannot fire"),
            &format!("elsewhere {path}/d.yml:2: d: for windows"),
            &format!(
                "rejected  {path}/c.yml:8:5: unknown modifier `endwith` (did you mean `endswith`?)"
            ),
            "2 rules, 1 of them degraded, 1 of those cannot fire here, 1 rejected, 1 for other systems",
        ]
    );
    let output = rules(["check", "--os", "all", "--json", path]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["rules"], 3);
    assert_eq!(document["degraded"], Value::Array(vec![]));
    assert_eq!(document["rejected"][0]["line"], 8);
}

#[test]
fn rules_that_only_serve_a_correlation_are_called_components() {
    let dir = directory();
    let correlation = "title: C\nid: many\ncorrelation:\n  type: event_count\n  rules: [a]\n  \
                       group-by: [User]\n  timespan: 1m\n  condition: {gte: 5}\n";
    fs::write(dir.path().join("e.yml"), correlation).unwrap();
    let output = rules(["check", "--os", "linux", text(dir.path())]);
    let path = text(dir.path());
    assert!(lines(&output).contains(&format!("loaded    {path}/e.yml:2: many")));
    assert!(lines(&output).contains(&format!("component {path}/a.yml:2: a: of many alone")));
}

#[test]
fn strictness_makes_a_rejected_rule_an_error() {
    let dir = directory();
    let output = rules(["check", "--strict", text(dir.path())]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("c.yml:8:5: unknown modifier"));
    fs::remove_file(dir.path().join("c.yml")).unwrap();
    let output = rules(["check", "--strict", text(dir.path())]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn tests_beside_sigma_rules_are_run() {
    let dir = directory();
    let output = rules(["test", "--os", "linux", text(dir.path())]);
    assert_eq!(lines(&output), ["2 passed, 0 failed"]);
    fs::write(
        dir.path().join("a.tests.yml"),
        "fires:\n  - {Image: /bin/ncat}\n",
    )
    .unwrap();
    let output = rules(["test", "--os", "linux", text(dir.path())]);
    assert_eq!(output.status.code(), Some(3));
    let told = &lines(&output)[0];
    assert!(told.contains("a.tests.yml:2: rule a"), "{told}");
    assert!(
        told.contains("`sel` is false with process.executable = /bin/ncat"),
        "{told}"
    );
}

/// Such tests were passed over without a word: "0 passed, 0 failed".
#[test]
fn tests_that_are_not_run_are_told() {
    let dir = directory();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let test = "fires:\n  - {Image: /bin/nc}\n";
    write("c.tests.yml", test);
    write("d.tests.yml", test);
    write("e.tests.yml", &format!("rule: A\n{test}"));
    write(
        "f.yml",
        "title: C\nid: many\ncorrelation:\n  type: event_count\n  rules: [a]\n  group-by: [User]\n  \
         timespan: 1m\n  condition: {gte: 5}\n",
    );
    let output = rules(["test", "--os", "linux", text(dir.path())]);
    assert_eq!(lines(&output), ["0 passed, 0 failed"]);
    let told = String::from_utf8(output.stderr).unwrap();
    let path = text(dir.path());
    let why = "is not there or does not fire by itself (`rules check`)";
    let expected = [
        format!("daemoneye: {path}/a.tests.yml: 2 tests not run: the rule beside them {why}"),
        format!("daemoneye: {path}/c.tests.yml: 1 test not run: the rule beside them {why}"),
        format!("daemoneye: {path}/e.tests.yml: 1 test not run: the rule `A` {why}"),
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn recorded_events_are_tried_against_rules() {
    let dir = directory();
    let events = dir.path().join("events.ndjson");
    let lines_of = "{\"Image\": \"/bin/nc\"}\n\n{\"event\": {\"Image\": \"/bin/ls\"}}\n";
    fs::write(&events, lines_of).unwrap();
    let output = rules(["try", "--os", "linux", text(dir.path()), text(&events)]);
    assert_eq!(lines(&output), ["1: medium a T"]);
    let output = rules([
        "try",
        "--json",
        "--os",
        "linux",
        text(dir.path()),
        text(&events),
    ]);
    assert_eq!(
        lines(&output),
        [
            r#"{"findings":["a"],"line":1}"#,
            r#"{"findings":[],"line":3}"#
        ]
    );
    fs::write(&events, "{\"EventID\": 3}\n").unwrap();
    let output = rules(["try", "--os", "linux", text(dir.path()), text(&events)]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("events.ndjson:1: EventID 3"));
    // An entry of the ledger satisfied nothing, and nothing was said.
    let entry = r#"{"event": {"action": "exec"}, "process": {"executable": "/bin/nc"}}"#;
    fs::write(&events, entry).unwrap();
    let output = rules(["try", "--os", "linux", text(dir.path()), text(&events)]);
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("events.ndjson:1: none of Sysmon's fields"),
        "{told}"
    );
}

#[test]
fn an_explanation_shows_what_held_and_what_did_not() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let rule = "title: T\nid: s\nlogsource: {category: process_creation, product: linux}\n\
                detection:\n  sel:\n    Image|endswith: [/nc, /ncat]\n  filter:\n    \
                CommandLine|contains: help\n  condition: sel and not filter\n";
    let sigma = write("s.yml", rule);
    let event = write(
        "e.json",
        r#"{"Image": "/bin/ncat", "CommandLine": "ncat --help"}"#,
    );
    let output = rules(["explain", "s", text(&event), "--rules", text(&sigma)]);
    assert_eq!(
        lines(&output),
        [
            "s does not hold",
            "  true    sel",
            "    true    any of",
            "      true    process.executable ILIKE '%/ncat', with process.executable = /bin/ncat",
            "      false   process.executable ILIKE '%/nc', with process.executable = /bin/ncat",
            "  false   not filter",
            "    false   not",
            "      true    process.command_line ILIKE '%help%', with process.command_line = ncat --help",
        ]
    );
    let sql = "id: q\ntitle: T\nlevel: low\nsql: SELECT * FROM exec WHERE process.name = 'nc' AND process.uid = 0\n";
    let sql = write("q.yaml", sql);
    let event = write("f.json", r#"{"exe": "/bin/nc"}"#);
    let output = rules(["explain", "q", text(&event), "--rules", text(&sql)]);
    assert_eq!(
        lines(&output),
        [
            "q does not hold",
            "  true    process.name = 'nc', with process.name = nc",
            "  unknown process.uid = 0, with process.uid = NULL",
        ]
    );
    let output = rules(["explain", "nobody", text(&event), "--rules", text(&sql)]);
    assert_eq!(output.status.code(), Some(3));
}

/// A rule that counts was said to hold, for a single event.
#[test]
fn a_rule_of_several_events_is_explained_for_each() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let sql = "id: n\ntitle: T\nlevel: low\nsql: SELECT count(*) AS n FROM exec WHERE process.uid = 0 \
               GROUP BY process.name, TUMBLE(event.time, INTERVAL '1' MINUTE) HAVING count(*) > 2\n\
               ---\nid: j\ntitle: T\nlevel: low\nsql: SELECT a.process.pid FROM exec AS a JOIN exec AS b \
               ON b.parent.entity_id = a.process.entity_id AND b.event.time BETWEEN a.event.time AND \
               a.event.time + INTERVAL '1' SECOND WHERE a.process.uid = 0 AND b.process.uid = 1\n";
    let sql = write("q.yaml", sql);
    let event = write("e.json", r#"{"exe": "/bin/nc", "uid": 0}"#);
    let explain = |id| lines(&rules(["explain", id, text(&event), "--rules", text(&sql)]));
    assert_eq!(
        explain("n"),
        [
            "n, for an event that it counts: holds",
            "  true    process.uid = 0, with process.uid = 0",
        ]
    );
    assert_eq!(
        explain("j"),
        [
            "j, for event 1 of 2: holds",
            "  true    a.process.uid = 0, with process.uid = 0",
            "j, for event 2 of 2: does not hold",
            "  false   b.process.uid = 1, with process.uid = 0",
        ]
    );
}

/// They were said not to be there.
#[test]
fn rules_that_do_not_fire_by_themselves_are_not_unknown() {
    let dir = directory();
    let correlation = "title: C\nid: many\ncorrelation:\n  type: event_count\n  rules: [a]\n  \
                       group-by: [User]\n  timespan: 1m\n  condition: {gte: 5}\n";
    fs::write(dir.path().join("e.yml"), correlation).unwrap();
    let event = dir.path().join("e.json");
    fs::write(&event, "{}").unwrap();
    let output = rules(["explain", "a", text(&event), "--rules", text(dir.path())]);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "daemoneye: error: a is only a part of the correlation many: ask for that\n"
    );
    let output = rules(["convert", "--os", "linux", text(dir.path())]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("a.yml:2: a is only a part of the correlation many"),
        "{told}"
    );
}

#[test]
fn a_converted_rule_is_a_rule() {
    let dir = directory();
    let output = rules(["convert", "--os", "linux", text(dir.path())]);
    assert_eq!(output.status.code(), Some(0));
    let sql = String::from_utf8(output.stdout).unwrap();
    assert!(
        sql.contains("WHERE (process.executable ILIKE '%/nc')"),
        "{sql}"
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("c.yml:8:5: unknown modifier"), "{stderr}");
    let path = dir.path().join("converted.yaml");
    fs::write(&path, sql).unwrap();
    let output = rules(["check", text(&path)]);
    assert_eq!(lines(&output).last().unwrap(), "2 rules");
}

#[test]
fn list_names_what_rules_let_pass_and_where_that_stands() {
    let dir = TempDir::new().unwrap();
    let rule = |id: &str, exceptions: &str| {
        format!(
            "id: {id}\ntitle: T\nlevel: low\nsql: SELECT process.pid FROM exec WHERE process.name = \
             'x'\n{exceptions}"
        )
    };
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write(
        "a.yaml",
        &rule(
            "a",
            "exceptions:\n  - {name: cron, when: parent.name = 'cron'}\n",
        ),
    );
    write("b.yaml", &rule("b", ""));
    write(
        "exceptions.yaml",
        "# ours\n- {rule: a, name: backup, when: process.euid = 34}\n",
    );
    let path = text(dir.path());
    let listed: Vec<Value> = lines(&rules(["list", "--json", path]))
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let expected = serde_json::json!([
        {"name": "cron", "file": format!("{path}/a.yaml"), "line": 6},
        {"name": "backup", "file": format!("{path}/exceptions.yaml"), "line": 2},
    ]);
    assert_eq!(listed[0]["exceptions"], expected);
    assert_eq!(listed[1]["exceptions"], serde_json::json!([]));
}
