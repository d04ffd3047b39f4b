//! Which findings of a recording become alerts, and what the alerts say.

use std::fs;
use std::process::{Command, Output};

use event::{Event, EventKind, ProcessKey};
use serde_json::Value;
use tempfile::TempDir;

use recorded::exec;

mod recorded;

fn rule(id: &str, level: &str, program: &str) -> String {
    format!(
        "id: {id}\ntitle: T\nlevel: {level}\nsql: |\n  SELECT process.pid FROM exec WHERE \
         process.name = '{program}'\n"
    )
}

/// A replay of these events with these rules, as JSON.
fn replay(events: &[Event], rules: &str, options: &[&str]) -> Output {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    recorded::write(&path("recording"), events);
    fs::write(path("rules.yaml"), rules).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_daemoneye"))
        .args(["--json", "replay"])
        .arg(path("recording"))
        .arg("--rules")
        .arg(path("rules.yaml"))
        .args(options)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

fn alerts(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn rules_of(output: &Output) -> Vec<String> {
    let id = |alert: &Value| alert["rule"]["id"].as_str().unwrap().to_owned();
    alerts(output).iter().map(id).collect()
}

#[test]
fn what_is_below_medium_is_recorded_and_raises_nothing() {
    let rules = [rule("a", "low", "x"), rule("b", "medium", "x")].join("---\n");
    let events = [exec(1, 7, "x", &["x"])];
    let output = replay(&events, &rules, &[]);
    assert_eq!(rules_of(&output), ["b"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("1 finding below --min-level raised no alert"),
        "{said}"
    );
    assert!(
        said.contains("1 event, 0 lost; 2 findings, 1 alert; ledger of 3 entries"),
        "{said}"
    );
    let output = replay(&events, &rules, &["--min-level", "low"]);
    assert_eq!(rules_of(&output), ["a", "b"]);
}

#[test]
fn repetitions_are_what_the_rule_says_and_are_counted_by_rule() {
    let dedup = "dedup: {by: [process.args], window: 5m}\n";
    let rules = rule("a", "high", "x") + dedup + "---\n" + &rule("b", "high", "x");
    let events = [
        exec(1, 7, "x", &["x", "1"]),
        exec(100, 8, "x", &["x", "1"]),
        exec(200, 9, "x", &["x", "2"]),
        exec(302, 10, "x", &["x", "1"]),
    ];
    let stats = TempDir::new().unwrap();
    let file = stats.path().join("stats");
    let output = replay(&events, &rules, &["--stats-json", file.to_str().unwrap()]);
    let of = |id: &str| {
        let alerts = alerts(&output).into_iter();
        let mine = alerts.filter(|alert| alert["rule"]["id"] == id);
        let told = mine.map(|alert| (alert["process"]["pid"].clone(), alert["daemoneye"].clone()));
        let told =
            told.map(|(pid, daemoneye)| (pid.as_u64().unwrap(), daemoneye["folded"].as_u64()));
        told.collect::<Vec<_>>()
    };
    assert_eq!(of("a"), [(7, None), (9, None), (10, Some(1))]);
    assert_eq!(of("b"), [(7, None), (8, None), (9, None), (10, None)]);
    let stats: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let rules = stats["agent"]["rules"].as_array().unwrap();
    let counts = |rule: &Value| ["findings", "raised", "folded"].map(|n| rule[n].as_u64().unwrap());
    assert_eq!(rules[0]["rule"], "a");
    assert_eq!(counts(&rules[0]), [4, 3, 1]);
    assert_eq!(counts(&rules[1]), [4, 4, 0]);
}

#[test]
fn an_alert_says_what_matched_and_who_is_above_the_process() {
    let rule = "id: r\ntitle: T\nlevel: high\ntags: [attack.t1059.004]\nsql: |\n  SELECT \
                process.pid FROM exec WHERE process.name = 'sh' OR process.name = 'no'\n";
    let child = |pid, parent, event: Event| {
        let EventKind::Exec(mut exec) = event.kind else {
            unreachable!()
        };
        exec.process.parent = Some(ProcessKey {
            pid: parent,
            ..ProcessKey::default()
        });
        assert_eq!(exec.process.key.pid, pid);
        Event {
            kind: EventKind::Exec(exec),
            ..event
        }
    };
    let events = [
        exec(1, 1, "init", &["init"]),
        child(2, 1, exec(2, 2, "sshd", &["sshd", "-D"])),
        child(3, 2, exec(3, 3, "sh", &["sh"])),
    ];
    let output = replay(&events, rule, &[]);
    let alert = &alerts(&output)[0];
    assert_eq!(alert["daemoneye"]["matched"]["process.name"], "sh");
    assert_eq!(alert["daemoneye"]["leaf_index"], 2);
    assert_eq!(
        alert["threat"]["technique"]["subtechnique"]["id"][0],
        "T1059.004"
    );
    assert_eq!(alert["tags"][0], "attack.t1059.004");
    assert_eq!(alert["process"]["parent"]["args"][1], "-D");
    assert_eq!(
        alert["daemoneye"]["ancestors"][0]["executable"],
        "/bin/init"
    );
}
