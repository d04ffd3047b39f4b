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
