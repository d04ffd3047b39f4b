//! What conditions mean, and what findings tell.

use std::sync::Arc;

use detect::{Matcher, RuleSet, Source, run_tests};
use event::{
    Ancestor, Argv, BootTime, Bytes, Credentials, DropReason, Event, EventClass, EventKind, Exec,
    Exit, ExitStatus, FileIdentity, Finding, Fork, Header, Level, Lost, Process, ProcessKey,
    Snapshot,
};

fn rule(sql: &str) -> RuleSet {
    let sql = sql.replace('\n', "\n  ");
    let text = format!("id: r\ntitle: R\nlevel: high\ntags: [attack.t1059]\nsql: |\n  {sql}\n");
    RuleSet::compile(&[Source {
        file: "r",
        text: &text,
    }])
    .unwrap_or_else(|e| panic!("{}", e[0]))
}

fn findings(sql: &str, kind: EventKind) -> Vec<Finding> {
    let mut findings = Vec::new();
    Matcher::new(Arc::new(rule(sql))).on_event(
        &Event {
            header: Header::default(),
            kind,
        },
        42,
        &mut findings,
    );
    findings
}

fn exec(process: Process) -> EventKind {
    EventKind::Exec(Box::new(Exec {
        process,
        old_tid: None,
    }))
}

fn key(pid: u32) -> ProcessKey {
    ProcessKey {
        pid,
        start: BootTime(5),
        ..ProcessKey::default()
    }
}

fn bash() -> Process {
    Process {
        key: key(10),
        parent: Some(key(9)),
        comm: Bytes::from_static(b"bash"),
        exe: Bytes::from_static(b"/usr/bin/bash"),
        filename: Bytes::from_static(b"/bin/bash"),
        argv: [&b"bash"[..], b"-c", b"a b", b"", b"\xff\xc3\xa9"]
            .into_iter()
            .collect(),
        credentials: Some(Credentials {
            uid: 1000,
            gid: 1000,
            euid: 0,
            egid: 1000,
        }),
        exe_file: Some(FileIdentity {
            nlink: 1,
            mode: 0o104_755,
            ..FileIdentity::default()
        }),
        sha256: Some([0xab; 32]),
        parent_process: Some(Box::new(Ancestor {
            key: key(9),
            exe: Bytes::from_static(b"/usr/sbin/nginx"),
            ..Ancestor::default()
        })),
        ..Process::default()
    }
}

#[track_caller]
fn check(condition: &str, fires: bool) {
    let sql = format!("SELECT process.pid FROM exec WHERE {condition}");
    assert_eq!(
        !findings(&sql, exec(bash())).is_empty(),
        fires,
        "{condition}"
    );
}

#[test]
fn columns_hold_what_the_event_says() {
    check(
        "process.name = 'bash' AND process.executable = '/usr/bin/bash'",
        true,
    );
    check(
        "process.filename = '/bin/bash' AND process.comm = 'bash'",
        true,
    );
    check(
        "process.pid = 10 AND process.ppid = 9 AND parent.pid = 9",
        true,
    );
    check(
        "process.entity_id = '00000000000000000000000000000000-10-5'",
        true,
    );
    check(
        "parent.entity_id LIKE '%-9-5' AND parent.name = 'nginx'",
        true,
    );
    check("process.uid = 1000 AND process.euid = 0", true);
    check(
        "process.args_count = 5 AND cardinality(process.args) = 5",
        true,
    );
    check("starts_with(process.command_line, 'bash -c a b  ')", true);
    check(
        "process.is_setuid AND NOT process.is_setgid AND NOT process.is_memfd",
        true,
    );
    check(&format!("process.sha256 = '{}'", "ab".repeat(32)), true);
    check("process.is_deleted", false);
}

#[test]
fn arithmetic_is_of_integers_and_null_where_it_has_no_result() {
    check("process.pid + 2 * 3 - 1 = 15", true);
    check("-process.pid = -10 AND - (process.pid) + 10 = 0", true);
    check("process.pid % 3 = 1 AND process.pid / 3 = 3", true);
    check("process.pid / 0 = 1", false);
    check("(process.pid / (process.uid - 1000)) IS NULL", true);
    check("process.pid & 8 <> 0 AND process.pid & 1 = 0", true);
    check("process.file_mode & 2048 = 2048", true);
    check("process.pid & (1 << 3) <> 0 AND process.pid >> 1 = 5", true);
    check("process.pid | 5 = 15", true);
    check("event.time - 5 < INTERVAL '1' SECOND", true);
    check("event.time + INTERVAL '1 minute' = 60000000000", true);
    check("process.login_uid + 1 = 1", false);
    check("NOT process.login_uid + 1 = 1", false);
}

#[test]
fn case_gives_the_value_of_the_first_condition_that_is_true() {
    let case = "CASE WHEN process.login_uid = 1 THEN 'a' WHEN process.pid = 10 THEN 'b' \
                WHEN process.uid = 1000 THEN 'c' ELSE 'd' END";
    check(&format!("{case} = 'b'"), true);
    check(
        "CASE process.pid WHEN 9 THEN 1 WHEN 10 THEN 2 END = 2",
        true,
    );
    check("CASE process.pid WHEN 9 THEN 1 END = 1", false);
    check("CASE process.pid WHEN 9 THEN 1 END IS NULL", true);
    check(
        "CASE WHEN process.pid = 10 THEN NULL ELSE 1 END IS NULL",
        true,
    );
    check(
        "CASE WHEN process.pid = 10 THEN process.uid = 1000 ELSE false END",
        true,
    );
    check(
        "CASE WHEN process.is_setuid THEN process.is_memfd ELSE true END",
        false,
    );
    check("(process.pid = 10) = (process.uid = 1000)", true);
    check("coalesce(process.login_uid = 1, true)", true);
}

#[test]
fn text_functions_count_characters() {
    check(
        "substr(process.name, 2, 2) = 'as' AND substring(process.name, 3) = 'sh'",
        true,
    );
    check("substring(process.name FROM 2 FOR 2) = 'as'", true);
    check(
        "position('sh' IN process.name) = 3 AND strpos(process.name, 'x') = 0",
        true,
    );
    check("instr(process.executable, 'bin') = 6", true);
    check("replace(process.name, 'as', 'o') = 'boh'", true);
    check(
        "trim(both 'bh' FROM process.name) = 'as' AND trim('  x ') = 'x'",
        true,
    );
    check(
        "ltrim(process.name, 'b') = 'ash' AND rtrim(process.name, 'h') = 'bas'",
        true,
    );
    check(
        "trim(leading 'b' from process.name) = 'ash' AND btrim('  x ') = 'x'",
        true,
    );
    check(
        "split_part(process.executable, '/', -1) = process.name",
        true,
    );
    check("process.name || '-' || process.comm = 'bash-bash'", true);
    check("process.name || process.user = 'bash'", false);
    check("concat(process.name, process.user) = 'bash'", true);
    check("length(process.name || 'é') = 5", true);
}

#[test]
fn glob_minds_case_and_matches_the_whole_text() {
    check("process.executable GLOB '/usr/*/ba?h'", true);
    check("process.executable GLOB '/USR/*'", false);
    check(
        "process.executable NOT GLOB '*/[a-c]ash' OR process.name glob 'bash'",
        true,
    );
    check("process.executable NOT\n GLOB '*/[a-c]ash'", false);
    check("process.user NOT GLOB 'x'", false);
    check(
        "glob(process.name, 'b*') AND any_glob(process.args, 'a ?')",
        true,
    );
    check(
        "lower(process.name) GLOB '[!x]*' OR process.name GLOB '[^x]*'",
        true,
    );
}

#[test]
fn ancestors_are_arrays_from_the_parent_up() {
    let ancestor = |pid, exe: &'static str, euid| Ancestor {
        key: key(pid),
        exe: Bytes::from_static(exe.as_bytes()),
        euid,
        ..Ancestor::default()
    };
    let mut process = bash();
    let parent = Ancestor {
        argv: ["nginx", "-g"].into_iter().collect(),
        ..ancestor(9, "/usr/sbin/nginx", Some(33))
    };
    process.parent_process = Some(Box::new(parent));
    process.ancestors = [
        ancestor(8, "/usr/sbin/sshd", Some(0)),
        ancestor(1, "", None),
    ]
    .into();
    let check_of = |process: &Process, condition: &str, fires: bool| {
        let sql = format!("SELECT process.pid FROM exec WHERE {condition}");
        let fired = !findings(&sql, exec(process.clone())).is_empty();
        assert_eq!(fired, fires, "{condition}");
    };
    let check = |condition: &str, fires| check_of(&process, condition, fires);
    check(
        "'sshd' = ANY(ancestor.name) AND 8 = ANY(ancestor.pid)",
        true,
    );
    check(
        "ancestor.name[1] = 'nginx' AND ancestor.pid[3] = 1 AND ancestor.pid[4] IS NULL",
        true,
    );
    check(
        "ancestor.executable[2] LIKE '%/sshd' AND ancestor.name[3] IS NULL",
        true,
    );
    check(
        "any_like(ancestor.executable, '/usr/%/ssh_') AND any_regexp_like(ancestor.name, '^NG', 'i')",
        true,
    );
    check(
        "ancestor.command_line[1] = 'nginx -g' AND ancestor.command_line[2] IS NULL",
        true,
    );
    check(
        "0 = ANY(ancestor.euid) AND cardinality(ancestor.pid) = 3",
        true,
    );
    check(
        "any_like(ancestor.entity_id, '%-8-5') AND ancestor.euid[1] + 1 = 34",
        true,
    );
    // The name of the third one is unknown: it may be that.
    check("'cron' = ANY(ancestor.name)", false);
    check("NOT 'cron' = ANY(ancestor.name)", false);
    check("'cron' <> ALL(ancestor.name)", false);
    check("('cron' = ANY(ancestor.name)) IS UNKNOWN", true);
    check("5 = ANY(ancestor.pid)", false);
    check("5 <> ALL(ancestor.pid)", true);
    process.parent_process = None;
    check_of(
        &process,
        "ancestor.pid IS NULL AND ('x' = ANY(ancestor.name)) IS UNKNOWN",
        true,
    );
}

#[test]
fn ancestors_print_as_arrays_and_tell_when_the_rest_is_unknown() {
    let mut process = bash();
    let init = Ancestor {
        parent: Some(key(7)),
        ..Ancestor::default()
    };
    process.ancestors = [init].into();
    let sql = "SELECT ancestor.name, ancestor.euid, ancestor.pid FROM exec \
               WHERE cardinality(ancestor.name) = 2";
    let found = findings(sql, exec(process));
    let values: Vec<&str> = found[0]
        .selected
        .iter()
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(values, ["[\"nginx\",NULL]", "[NULL,NULL]", "[9,0]"]);
    assert_eq!(found[0].absent, ["ancestor.name"]);
}

#[test]
fn tests_of_rules_have_ancestors() {
    let text = "id: r\ntitle: R\nlevel: low\nsql: |\n  SELECT process.pid FROM exec WHERE 'sshd' = \
                ANY(ancestor.name) AND ancestor.pid[3] = 997\ntests:\n  fires:\n    - {exe: /a, parent: \
                {exe: /b}, ancestors: [{exe: /usr/sbin/sshd}, {exe: /init}]}\n  silent:\n    - {exe: /a, \
                parent: {exe: /b}}\n";
    let source = Source { file: "r", text };
    let rules = RuleSet::compile(&[source]).unwrap_or_else(|e| panic!("{}", e[0]));
    assert!(run_tests(&rules).iter().all(|outcome| outcome.passed));
}

#[test]
fn null_is_neither_true_nor_false() {
    check("process.user = 'root'", false);
    check("process.user <> 'root'", false);
    check("NOT (process.user = 'root')", false);
    check("process.user NOT IN ('root') OR process.uid = 1000", true);
    check("process.user LIKE '%' OR process.user NOT LIKE '%'", false);
    check("process.user IS NULL AND process.name IS NOT NULL", true);
    check("(process.user = 'root') IS NOT TRUE", true);
    check("(process.user = 'root') IS UNKNOWN", true);
    check("(process.uid = 0) IS FALSE", true);
    check("NOT (process.user = 'root' AND process.uid = 0)", true);
    check("process.login_uid > 0 OR process.login_uid <= 0", false);
    check("coalesce(process.user, process.name) = 'bash'", true);
    check(
        "lower(process.user) = 'root' OR parent.command_line LIKE '%'",
        false,
    );
}

#[test]
fn patterns_work_on_bytes() {
    check("process.command_line LIKE 'bash%é'", true);
    check("process.command_line LIKE '%b  _é'", true);
    check("process.command_line ILIKE '%A B%É'", true);
    check("process.command_line LIKE '%A B%'", false);
    check("process.command_line ~ 'a b.*\\xC3'", true);
    check("process.command_line ~* '^BASH'", true);
    check("process.command_line !~ '^BASH'", true);
    check("regexp_like(process.executable, 'BASH$', 'i')", true);
    check("process.name LIKE 'b!_%' ESCAPE '!'", false);
}

#[test]
fn arrays_keep_their_elements_apart() {
    check("'a b' = ANY(process.args)", true);
    check("'' = ANY(process.args)", true);
    check("'a' = ANY(process.args)", false);
    check("'a' <> ALL(process.args)", true);
    check("process.args[3] = 'a b' AND process.args[9] IS NULL", true);
    check(
        "any_like(process.args, 'a_b') AND any_ilike(process.args, 'A%')",
        true,
    );
    check("any_regexp_like(process.args, '^-[a-z]$')", true);
    check("parent.args IS NULL", true);
}

#[test]
fn values_compare_by_type() {
    check(
        "process.uid BETWEEN 1000 AND 1001 AND process.uid NOT BETWEEN 1 AND 999",
        true,
    );
    check(
        "process.uid IN (1, 1000) AND process.uid NOT IN (1, 2)",
        true,
    );
    check(
        "process.uid <> process.euid AND process.uid > process.euid",
        true,
    );
    check("process.name < 'c' AND process.name >= 'bash'", true);
    check(
        "process.is_setuid = TRUE AND process.is_setgid <> TRUE",
        true,
    );
    check(
        "'bash' = process.name AND process.name IN (process.comm, 'x')",
        true,
    );
    check("contains(process.executable, process.name)", true);
    check("upper(basename(process.executable)) = 'BASH'", true);
    check(
        "dirname(process.executable) = '/usr/bin' AND length(process.name) = 4",
        true,
    );
    check(
        "process.pid > -1 AND octet_length(process.args[5]) = 3 AND length(process.args[5]) = 2",
        true,
    );
}

#[test]
fn other_streams_have_their_columns() {
    let exit = EventKind::Exit(Exit {
        key: key(10),
        parent: Some(key(9)),
        status: Some(ExitStatus::from_wait_status(0x8b)),
        exe: Bytes::from_static(b"/usr/sbin/sshd"),
        ..Exit::default()
    });
    let sql = "SELECT * FROM exit WHERE process.exit_signal = 11 AND process.core_dumped \
               AND process.name = 'sshd' AND parent.pid = 9";
    let found = findings(sql, exit.clone());
    assert_eq!(found[0].exe, "/usr/sbin/sshd");
    let selected: Vec<&str> = found[0].selected.iter().map(|(name, _)| &**name).collect();
    assert_eq!(
        selected,
        [
            "process.pid",
            "process.executable",
            "parent.pid",
            "process.exit_code",
            "process.exit_signal"
        ]
    );
    let fork = EventKind::Fork(Fork {
        child: key(11),
        parent: key(10),
        parent_muted: false,
    });
    let sql =
        "SELECT process.pid FROM fork WHERE process.ppid = 10 AND parent.entity_id LIKE '%-10-5'";
    assert_eq!(findings(sql, fork).len(), 1);
    let lost = EventKind::Lost(Lost {
        class: EventClass::Exec,
        reason: DropReason::RingFull,
        count: 3,
        from: BootTime(0),
        to: BootTime(1),
    });
    let sql = "SELECT * FROM lost WHERE lost.reason = 'ring_full' AND lost.count >= 3";
    let found = findings(sql, lost);
    assert_eq!(
        found[0].selected[0],
        ("lost.class".into(), "exec".to_owned())
    );
    assert_eq!(found[0].key, None);
    assert!(findings("SELECT * FROM exec", exit).is_empty());
}

#[test]
fn snapshot_rows_are_in_no_stream() {
    let row = EventKind::Snapshot(Box::new(Snapshot { process: bash() }));
    assert!(findings("SELECT * FROM exec", row).is_empty());
}

#[test]
fn findings_carry_the_rule_the_event_and_what_was_selected() {
    let sql = "SELECT process.args, process.args[5] AS last, process.user, lower(parent.name) AS p \
               FROM exec WHERE process.is_setuid";
    let found = &findings(sql, exec(bash()))[0];
    assert_eq!(
        (&*found.rule_id, &*found.title, found.level),
        ("r", "R", Level::High)
    );
    assert_eq!(
        (&*found.tags, found.leaf_index),
        (&["attack.t1059".to_owned()][..], 42)
    );
    assert_eq!(
        (found.key, found.exe.as_ref()),
        (Some(key(10)), &b"/usr/bin/bash"[..])
    );
    let selected: Vec<_> = found
        .selected
        .iter()
        .map(|(name, text)| (&**name, text.as_str()))
        .collect();
    assert_eq!(
        selected,
        [
            ("process.args", r#"["bash","-c","a b","","\xffé"]"#),
            ("last", r"\xffé"),
            ("p", "nginx"),
        ]
    );
    assert!(found.absent.is_empty());
}

#[test]
fn findings_say_which_columns_the_source_could_not_fill() {
    let sql = "SELECT process.pid FROM exec WHERE (process.user = 'x') IS NOT TRUE \
               AND process.container_id IS NULL AND NOT any_like(process.args, '--safe')";
    assert_eq!(findings(sql, exec(bash()))[0].absent, ["process.user"]);
    let cut = Process {
        argv_truncated_bytes: 9,
        ..bash()
    };
    assert_eq!(
        findings(sql, exec(cut))[0].absent,
        ["process.args", "process.user"]
    );
}

#[test]
fn rules_without_a_condition_always_fire_and_empty_events_break_nothing() {
    assert_eq!(
        findings("SELECT * FROM exec", exec(Process::default())).len(),
        1
    );
    let empty = Process {
        argv: Argv::default(),
        ..Process::default()
    };
    assert!(findings("SELECT * FROM exec WHERE process.name = ''", exec(empty)).is_empty());
}

#[test]
fn rules_tell_about_themselves() {
    let rules = rule("SELECT * FROM exec WHERE process.uid = 0 AND parent.name = 'x'");
    let rule = &rules.rules()[0];
    assert_eq!(rule.columns, ["process.uid", "parent.name"]);
    assert_eq!(
        (rule.file.as_str(), rule.line, rule.fires, rule.silent),
        ("r", 1, 0, 0)
    );
}

#[test]
fn failed_tests_explain_themselves() {
    let text = "
id: r
title: R
level: low
sql: |
  SELECT * FROM exec
  WHERE (process.name = 'bash'
      OR process.name = 'sh')
    AND process.uid BETWEEN 0 AND 9 AND process.user <> 'x'
tests:
  fires:
    - {exe: /bin/zsh, uid: 0}
    - {exe: /bin/sh, uid: 10}
    - {exe: /bin/sh, uid: 1, name: no user}
  silent:
    - {exe: /bin/sh, uid: 1, user: y}
    - {exe: /bin/sh, uid: 1, user: x}
";
    let rules = RuleSet::compile(&[Source { file: "r", text }]).unwrap();
    let outcomes = run_tests(&rules);
    let summary: Vec<_> = outcomes
        .iter()
        .map(|o| (o.line, o.passed, o.explanation.as_str()))
        .collect();
    assert_eq!(
        summary,
        [
            (
                12,
                false,
                "`(process.name = 'bash' OR process.name = 'sh')` is false with process.name = zsh"
            ),
            (
                13,
                false,
                "`process.uid BETWEEN 0 AND 9` is false with process.uid = 10"
            ),
            (
                14,
                false,
                "`process.user <> 'x'` is unknown with process.user = NULL"
            ),
            (16, false, "every condition is true"),
            (17, true, ""),
        ]
    );
    assert_eq!(outcomes[2].name.as_deref(), Some("no user"));
}
