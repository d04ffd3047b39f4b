//! What rules let pass, and lists of values.

use std::collections::BTreeMap;

use detect::{Options, RuleSet, Source, read_list, run_tests};

const RULE: &str = "id: shell\ntitle: Shell\nlevel: low\nsql: |\n  SELECT process.pid FROM exec \
                    WHERE process.name = 'sh'\n";

fn load(files: &[(&str, &str)]) -> Result<RuleSet, Vec<String>> {
    let sources: Vec<Source<'_>> = files
        .iter()
        .map(|(file, text)| Source { file, text })
        .collect();
    let lists = [
        ("shells", &["sh", "bash"][..]),
        ("ids", &["0", "33"]),
        ("none", &[]),
    ];
    let lists = lists.map(|(name, values)| {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        (name.to_owned(), values)
    });
    let options = Options {
        lists: BTreeMap::from(lists),
        ..Options::default()
    };
    RuleSet::load(&sources, &options)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn check_tests(files: &[(&str, &str)]) {
    let rules = load(files).unwrap_or_else(|errors| panic!("{errors:?}"));
    let outcomes = run_tests(&rules);
    assert!(!outcomes.is_empty());
    for outcome in outcomes {
        assert!(outcome.passed, "{outcome:?}");
    }
}

#[track_caller]
fn check_errors(files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(load(files).err().unwrap_or_default(), expected);
}

/// Those of the first rule: name, file and line.
fn of_first(rules: &RuleSet) -> Vec<(&str, &str, u64)> {
    let exceptions = rules.rules()[0].exceptions.iter();
    exceptions
        .map(|e| (e.name.as_str(), e.file.as_str(), e.line))
        .collect()
}

#[test]
fn a_rule_is_silent_where_an_exception_is_true_and_only_there() {
    let text = format!(
        "{RULE}exceptions:\n  - name: cron\n    when: parent.name = 'cron'\n  - name: build\n    \
         when: process.working_directory LIKE '/srv/%' AND process.uid = 5\ntests:\n  fires:\n    \
         - {{exe: /bin/sh}}\n    - {{exe: /bin/sh, cwd: /srv/a}}\n    \
         - {{exe: /bin/sh, parent: {{exe: /bin/x}}}}\n  silent:\n    \
         - {{exe: /bin/sh, parent: {{exe: /usr/sbin/cron}}}}\n    \
         - {{exe: /bin/sh, cwd: /srv/a, uid: 5}}\n"
    );
    check_tests(&[("r.yaml", &text)]);
    let rules = load(&[("r.yaml", &text)]).unwrap();
    assert_eq!(
        of_first(&rules),
        [("cron", "r.yaml", 7), ("build", "r.yaml", 9)]
    );
    assert!(rules.rules()[0].columns.contains(&"parent.name"));
}

#[test]
fn exceptions_of_a_file_of_their_own_are_of_the_rules_that_they_name() {
    let rule = format!(
        "{RULE}tests:\n  fires: [{{exe: /bin/sh, uid: 1}}]\n  silent: [{{exe: /bin/sh, uid: 33}}]\n"
    );
    let exceptions = "- rule: shell\n  name: web\n  when: process.uid IN LIST('ids')\n";
    check_tests(&[
        ("r.yaml", &rule),
        ("/etc/rules/exceptions.yaml", exceptions),
    ]);
    let sigma = "title: S\nid: 5f3a3a6e-5b2f-4d3e-9d1c-0a1b2c3d4e5f\nlogsource:\n  category: \
                 process_creation\n  product: linux\ndetection:\n  s:\n    Image: /bin/sh\n  \
                 condition: s\n";
    let rules = load(&[
        ("s.yml", sigma),
        (
            "exceptions.yml",
            "- {rule: 5f3a3a6e-5b2f-4d3e-9d1c-0a1b2c3d4e5f, name: web, when: process.uid = 33}\n",
        ),
    ]);
    assert_eq!(of_first(&rules.unwrap()), [("web", "exceptions.yml", 1)]);
}

#[test]
fn exceptions_of_joined_streams_name_theirs() {
    let rule = "id: crash\ntitle: C\nlevel: low\nsql: |\n  SELECT a.process.pid FROM exec AS a \
                JOIN exit AS b ON a.process.pid = b.process.pid AND b.event.time BETWEEN \
                a.event.time AND a.event.time + INTERVAL '1' SECOND\nexceptions:\n  - name: test\n    \
                when: a.process.name = 'test'\n  - {name: killed, when: b.process.exit_signal = 9}\n\
                tests:\n  fires:\n    - events: [{exe: /a}, {stream: exit, exit_signal: 11}]\n  \
                silent:\n    - events: [{exe: /test}, {stream: exit, exit_signal: 11}]\n    \
                - events: [{exe: /a}, {stream: exit, exit_signal: 9}]\n";
    check_tests(&[("r.yaml", rule)]);
    check_errors(
        &[
            ("r.yaml", rule),
            (
                "exceptions.yaml",
                "- {rule: crash, name: x, when: process.pid = 1}\n",
            ),
        ],
        &["exceptions.yaml:1:32: of which stream is `process.pid`? Write `a.process.pid`"],
    );
}

#[test]
fn what_is_wrong_with_exceptions_is_told_with_its_place() {
    let check = |exception: &str, expected: &str| {
        check_errors(
            &[("r.yaml", RULE), ("exceptions.yaml", exception)],
            &[&format!("exceptions.yaml:{expected}")],
        );
    };
    check(
        "- rule: shel\n  name: x\n  when: 'TRUE'\n",
        "1:9: unknown rule `shel` (did you mean `shell`?)",
    );
    check(
        "- rule: shell\n  name: ''\n  when: 'TRUE'\n",
        "2:9: `name` is empty",
    );
    check(
        "- rule: shell\n  name: x\n  when: process.exe = 'x'\n",
        "3:9: unknown column `process.exe` (did you mean `process.executable`?)",
    );
    check(
        "- rule: shell\n  name: x\n  when: process.pid = 1 AND\n",
        "3:28: SQL: expected an expression, found the end",
    );
    check(
        "- rule: shell\n  name: x\n  when: process.pid = 1 process\n",
        "3:25: SQL: expected the end of the condition, found process",
    );
    check(
        "- rule: shell\n  name: x\n  when: EXISTS (SELECT 1)\n",
        "3:17: a subquery is not supported in rules",
    );
    let unknown_key = load(&[("r.yaml", RULE), ("exceptions.yaml", "- {role: shell}\n")]);
    assert!(unknown_key.err().unwrap()[0].contains("exceptions.yaml:1:"));
    check_errors(
        &[(
            "r.yaml",
            &format!("{RULE}exceptions:\n  - {{name: a, when: process.pid}}\n"),
        )],
        &["r.yaml:7:21: a condition is expected, but this is integer"],
    );
}

#[test]
fn lists_are_members_of_in() {
    let check = |condition: &str, tests: &str| {
        let text = format!(
            "id: r\ntitle: R\nlevel: low\nsql: |\n  SELECT process.pid FROM exec WHERE {condition}\n\
             tests:\n{tests}"
        );
        check_tests(&[("r.yaml", &text)]);
    };
    let shells = "  fires: [{exe: /bin/sh, uid: 0}, {exe: /bin/bash, uid: 33}]\n  \
                  silent: [{exe: /bin/zsh, uid: 1}, {exe: /bin/s, uid: 2}]\n";
    check("process.name IN LIST('shells')", shells);
    check("process.name IN (LIST('shells'), 'x')", shells);
    check(
        "process.name in list ( 'shells' ) AND process.uid IN LIST('ids')",
        shells,
    );
    check("process.uid IN LIST('ids')", shells);
    check("NOT process.name NOT IN LIST('shells')", shells);
    check(
        "process.uid NOT IN LIST('none') AND process.name IN (LIST('none'), LIST('shells'))",
        shells,
    );
}

#[test]
fn what_is_wrong_with_lists_is_told_with_its_place() {
    let check = |condition: &str, expected: &str| {
        let text = format!(
            "id: r\ntitle: R\nlevel: low\nsql: |\n  SELECT process.pid FROM exec WHERE\n  {condition}\n"
        );
        check_errors(&[("r.yaml", &text)], &[&format!("r.yaml:{expected}")]);
    };
    check(
        "process.name IN LIST('shell')",
        "6:19: unknown list `shell` (did you mean `shells`?)",
    );
    check(
        "process.uid IN LIST('shells')",
        "6:18: `sh` in this list is no integer",
    );
    check(
        "process.is_memfd IN LIST('ids')",
        "6:23: a list holds text or integers, not boolean",
    );
    check(
        "process.name IN LIST(x)",
        "6:19: a list is written LIST('name')",
    );
    check(
        "process.name = LIST('shells')",
        "6:18: unknown function `list`",
    );
}

#[test]
fn list_files_have_a_value_on_each_line() {
    let read = |text: &str| {
        read_list(&Source {
            file: "lists/a.txt",
            text,
        })
        .map_err(|error| error.to_string())
    };
    assert_eq!(
        read("# first\n a b \r\n\n#c\nd").unwrap(),
        ["a b".to_owned(), "d".to_owned()]
    );
    assert_eq!(
        read(&"x\n".repeat(65_537)).unwrap_err(),
        "lists/a.txt:65537:1: number of values in a list exceeds the limit of 65536"
    );
    assert_eq!(
        read(&"x".repeat(1 << 20 | 1)).unwrap_err(),
        "lists/a.txt:1:1: list file exceeds the limit of 1048576 bytes"
    );
}
