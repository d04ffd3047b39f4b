//! What Sigma's constructs mean, one small event at a time.

use std::sync::Arc;

use detect::sigma::{Os, sysmon};
use detect::{Matcher, Options, RuleSet, Source, run_tests};
use event::{Event, Finding};

fn options(host: Option<Os>) -> Options {
    let list = |values: &[&str]| values.iter().map(ToString::to_string).collect();
    Options {
        host,
        lists: [
            ("tools".to_owned(), list(&["nc", "nc?t"])),
            ("hosts".to_owned(), list(&["a", "b"])),
        ]
        .into(),
    }
}

fn load(files: &[(&str, &str)], host: Option<Os>) -> RuleSet {
    let sources: Vec<Source<'_>> = files
        .iter()
        .map(|(file, text)| Source { file, text })
        .collect();
    RuleSet::load(&sources, &options(host)).unwrap()
}

/// A rule with this detection, indented as it stands.
fn rule(detection: &str) -> String {
    format!(
        "title: R\nid: r\nlogsource:\n  category: process_creation\n  product: windows\n\
         detection:\n{detection}"
    )
}

fn findings(rules: RuleSet, event: &Event) -> Vec<Finding> {
    let mut findings = Vec::new();
    Matcher::new(Arc::new(rules)).on_event(event, 7, &mut findings);
    findings
}

#[track_caller]
fn fires(detection: &str, event: &str) -> bool {
    let text = rule(detection);
    let rules = load(&[("r.yml", &text)], None);
    let errors = &rules.report().rejected;
    assert!(errors.is_empty(), "{detection}: {}", errors[0]);
    !findings(rules, &sysmon::event(event).unwrap()).is_empty()
}

/// A selection with one key, and events as the value of a field of it.
#[track_caller]
fn check(item: &str, field: &str, yes: &[&str], no: &[&str]) {
    let detection = format!("  sel:\n    {item}\n  condition: sel\n");
    for (values, expected) in [(yes, true), (no, false)] {
        for value in values {
            let event = serde_json::json!({ field: value }).to_string();
            assert_eq!(fires(&detection, &event), expected, "{item} on {value}");
        }
    }
}

#[track_caller]
fn line(item: &str, yes: &[&str], no: &[&str]) {
    check(&format!("CommandLine{item}"), "CommandLine", yes, no);
}

#[track_caller]
fn rejected(text: &str, host: Option<Os>, message: &str) {
    let rules = load(&[("r.yml", text)], host);
    let errors: Vec<String> = rules
        .report()
        .rejected
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        errors.iter().any(|error| error.contains(message)),
        "{errors:?}: {message}"
    );
    assert!(rules.rules().is_empty());
}

#[test]
fn values_are_whole_and_ignore_case() {
    line(
        ": Whoami",
        &["whoami", "WHOAMI"],
        &["whoami /all", "a whoami"],
    );
    line(": 'ÄÖ ſ'", &["äö ſ"], &["äö s"]);
    line(": 'who*'", &["who", "whoami"], &["a who"]);
    line(": 'who?mi'", &["whoami", "whoömi"], &["whomi", "whoaami"]);
    line(r": 'a\*b'", &["a*b"], &["axb"]);
    line(r": 'C:\dir\\*'", &[r"C:\dir\x"], &[r"C:\dirx"]);
    line(": [a, b]", &["a", "B"], &["c"]);
    line("|cased: Who", &["Who"], &["who"]);
    line("|neq: a", &["b"], &["a", "A"]);
    line("|neq: [a, b]", &["c"], &["a", "b"]);
    line(": 42", &["42"], &["042", "x42"]);
    line(": true", &["True"], &["1"]);
}

#[test]
fn modifiers_open_the_ends() {
    line("|contains: b", &["abc", "B"], &["ac"]);
    line("|startswith: ab", &["abc", "AB"], &["cab"]);
    line("|endswith: bc", &["abc", "BC"], &["bca"]);
    line("|contains: 'a*c'", &["xabcx"], &["ca"]);
    line("|contains|all: [a, b]", &["b a"], &["a", "b"]);
    line("|contains|cased: B", &["aB"], &["ab"]);
    line("|startswith: ''", &["", "a"], &[]);
}

#[test]
fn regular_expressions_find_and_mind_case() {
    line("|re: 'b+'", &["abb"], &["aB"]);
    line("|re|i: 'b+'", &["aB"], &["a"]);
    line("|re|m: '^b$'", &["a\nb"], &["ab"]);
    line("|re|s: 'a.b'", &["a\nb"], &["ab"]);
    line("|re: 'a.b'", &["axb", "aöb"], &["a\nb"]);
    line("|re: ['^a', 'b$']", &["ax", "xb"], &["bxa"]);
    line("|re|startswith: 'a|b'", &["ax", "bx"], &["xa", "xb"]);
    line("|re|endswith: 'a|b'", &["xa", "xb"], &["ax"]);
    line("|all|re: ['a', 'b']", &["ba"], &["a"]);
    line("|neq|re: 'b+'", &["a"], &["abb"]);
}

#[test]
fn a_byte_that_is_no_character_is_one_to_a_regular_expression() {
    let text = rule("  sel:\n    CommandLine|re: '^a.b$'\n  condition: sel\n");
    let mut event = sysmon::event("{}").unwrap();
    if let event::EventKind::Exec(exec) = &mut event.kind {
        exec.process.argv = [&b"a\xffb"[..]].into_iter().collect();
    }
    assert_eq!(findings(load(&[("r.yml", &text)], None), &event).len(), 1);
}

#[test]
fn encodings_are_searched_for_in_place_of_the_text() {
    line("|base64: foobar", &["Zm9vYmFy"], &["foobar"]);
    line("|base64|contains: foobar", &["x Zm9vYmFy x"], &["Zm9v"]);
    let encoded = ["QWZvb2Jhcg==", "QUFmb29iYXI=", "Zm9vYmFyQQ=="];
    line("|base64offset|contains: foobar", &encoded, &["Zm9vYmE="]);
    line("|wide|base64|contains: cmd", &["YwBtAGQA"], &["Y21k"]);
    line(
        "|utf16le|base64offset|contains: cmd",
        &["xjAG0AZAx"],
        &["Y21k"],
    );
    line("|utf16be|base64: c", &["AGM="], &["YwA="]);
    line("|utf16|base64: c", &["//5jAA=="], &["YwA="]);
}

#[test]
fn any_dash_begins_a_flag() {
    let forms = ["x -f", "x /f", "x \u{2013}f", "x \u{2014}f", "x \u{2015}F"];
    line("|windash|contains: ' -f'", &forms, &["x f", "x+f"]);
    line("|windash|contains: ' /f'", &forms, &["xf"]);
    line("|windash|contains: ' \u{2013}f'", &forms, &["x f"]);
    line("|contains|windash: ' -a-b'", &["x /a-b"], &["x /a/b"]);
    line(
        "|windash|contains|all: [' -a', ' /b']",
        &["x /a -b"],
        &["x /a"],
    );
}

#[test]
fn null_empty_and_existence_are_different_things() {
    let detection = |item: &str| format!("  sel:\n    {item}\n  condition: sel\n");
    let check = |item: &str, missing: bool, empty: bool, full: bool| {
        let events = ["{}", r#"{"CommandLine": ""}"#, r#"{"CommandLine": "a"}"#];
        let fired = events.map(|event| fires(&detection(item), event));
        assert_eq!(fired, [missing, empty, full], "{item}");
    };
    check("CommandLine: null", true, false, false);
    check("CommandLine: ''", false, true, false);
    check("CommandLine: [null, '']", true, true, false);
    check("CommandLine: '*'", false, true, true);
    check("CommandLine: '?*'", false, false, true);
    check("CommandLine|exists: true", false, true, true);
    check("CommandLine|exists: false", true, false, false);
    check("CommandLine|neq: a", true, true, false);
    check("CommandLine|contains: ''", false, true, true);
}

#[test]
fn a_missing_field_is_false_and_its_negation_true() {
    let event = r#"{"Image": "C:\\a.exe"}"#;
    let check = |condition: &str, expected| {
        let detection = format!(
            "  image:\n    Image|endswith: a.exe\n  line:\n    CommandLine: x\n  condition: {condition}\n"
        );
        assert_eq!(fires(&detection, event), expected, "{condition}");
    };
    check("image", true);
    check("line", false);
    check("not line", true);
    check("image and not line", true);
    check("not (image and line)", true);
    check("not (image or line)", false);
    check("not not line", false);
    check("1 of them", true);
    check("all of them", false);
    check("2 of them", false);
    check("1 of i* or line", true);
    check("[line, image]", true);
    check("not image", false);
}

#[test]
fn lists_of_maps_are_alternatives_and_maps_are_not() {
    let maps = "  sel:\n    - Image: a\n      CommandLine: b\n    - User: c\n    - word\n  condition: sel\n";
    assert!(fires(maps, r#"{"Image": "a", "CommandLine": "b"}"#));
    assert!(!fires(maps, r#"{"Image": "a"}"#));
    assert!(fires(maps, r#"{"User": "C"}"#));
    assert!(fires(maps, r#"{"ParentCommandLine": "some Words"}"#));
    let text = "  sel: word\n  condition: sel\n";
    assert!(fires(text, r#"{"CurrentDirectory": "a word"}"#));
}

#[test]
fn keywords_are_anywhere_in_the_event() {
    let all = "  sel:\n    '|all':\n      - one\n      - t?o\n  condition: sel\n";
    assert!(fires(all, r#"{"Image": "xONEx", "Product": "two"}"#));
    assert!(!fires(all, r#"{"Image": "one"}"#));
    let regex = "  sel:\n    '|re': '^o.e$'\n  condition: sel\n";
    assert!(fires(regex, r#"{"User": "one"}"#));
    assert!(!fires(regex, r#"{"User": "ones"}"#));
    assert!(fires(
        "  sel: [7, x]\n  condition: sel\n",
        r#"{"CommandLine": "a7"}"#
    ));
}

#[test]
fn numbers_compare_as_numbers() {
    let check = |item: &str, yes: &[&str], no: &[&str]| {
        check(&format!("ProcessId{item}"), "ProcessId", yes, no);
    };
    check(": 10", &["10"], &["11"]);
    check(": '10'", &["10"], &["100"]);
    check("|startswith: '1'", &["10", "1"], &["21"]);
    check("|gt: 9", &["10", "100"], &["9"]);
    check("|gte: 10", &["10"], &["9"]);
    check("|lt: 10", &["9"], &["10"]);
    check("|lte: 9.5", &["9"], &["10"]);
    check("|gt: 9.5", &["10"], &["9"]);
    check("|neq: 10", &["9"], &["10"]);
    line("|gt: 9", &["10"], &["9", "x"]);
}

/// Text was compared with the number's value: `1e3` looked for `1000`, `0000` for `0` and so found
/// nearly everything, and long numbers for digits that nobody wrote.
#[test]
fn a_number_is_looked_for_in_text_as_it_is_written() {
    line(": 0755", &["0755"], &["755", "493"]);
    line("|contains: 0000", &["x0000"], &["x0", "000"]);
    line(": 08", &["08"], &["8"]);
    line(": 1e3", &["1e3", "1E3"], &["1000"]);
    line(": 1e400", &["1e400"], &["inf"]);
    line(": 1.10", &["1.10"], &["1.1"]);
    line(": 1.0", &["1.0"], &["1"]);
    line(": 1_000", &["1_000"], &["1000"]);
    line(": +5", &["+5"], &["5"]);
    line(": 0x1F", &["0x1f"], &["31"]);
    let long = "123456789012345678901234567890";
    line(&format!("|endswith: {long}"), &[long], &[]);
    line("|re: 1.5", &["1x5"], &["15"]);
    line(
        ": [ 007 , &a 08, *a, !!int '9']  # seven",
        &["007", "08", "9"],
        &["7", "8"],
    );
    check("ProcessId: 0x1F", "ProcessId", &["31"], &["1"]);
    check("ProcessId: 1e3", "ProcessId", &["1000"], &["1"]);
    let detection = "  k: [0042]\n  condition: k\n";
    assert!(fires(
        detection,
        r#"{"Image": "a", "CommandLine": "x 0042"}"#
    ));
    assert!(!fires(
        detection,
        r#"{"Image": "a", "CommandLine": "x 42"}"#
    ));
    let bound = rule("  s:\n    ProcessId|gt: 1e400\n  condition: s\n");
    rejected(&bound, None, "modifier `gt` does not go with a number");
    // Neither a byte order mark nor other letters before it move it.
    let text = rule("  s:\n    CommandLine: [ä🦀, 0755]\n  condition: s\n");
    let text = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let event = sysmon::event(r#"{"Image": "a", "CommandLine": "0755"}"#).unwrap();
    assert_eq!(findings(load(&[("r.yml", &text)], None), &event).len(), 1);
}

#[test]
fn logon_ids_are_hexadecimal_on_windows_and_user_ids_elsewhere() {
    check("LogonId: '0x3e7'", "LogonId", &["0x3E7"], &["0x3e8"]);
    check("LogonId: 999", "LogonId", &["0x3e7"], &["0x999"]);
    check("LogonId|startswith: '0x3'", "LogonId", &["0x3e7"], &["0x4"]);
    let text = rule("  sel:\n    LogonId: 0\n    User: root\n  condition: sel\n");
    let text = text.replace("windows", "linux");
    let event = |json: &str| sysmon::event(json).unwrap();
    let fired = |json: &str| findings(load(&[("r.yml", &text)], None), &event(json)).len();
    assert_eq!(fired(r#"{"Image": "/a", "LogonId": 0}"#), 1);
    assert_eq!(fired(r#"{"Image": "/a", "LogonId": 0, "User": "toor"}"#), 0);
    assert_eq!(fired(r#"{"Image": "/a", "LogonId": 1}"#), 0);
}

/// macOS tells numbers, of which 0 has a known name.
#[test]
fn names_of_users_are_known_on_linux() {
    let check = |os: Os, user: &str, degraded: bool| {
        let text = rule(&format!("  sel:\n    User: {user}\n  condition: sel\n"));
        let text = text.replace("windows", os.name());
        let rules = load(&[("r.yml", &text)], Some(os));
        let what = format!("{user} on {}", os.name());
        assert_eq!(rules.rules().len(), 1, "{what}");
        assert_eq!(
            rules.report().degraded.len(),
            usize::from(degraded),
            "{what}"
        );
    };
    for user in ["root", "www-data", "'ro*'"] {
        check(Os::Linux, user, false);
        check(Os::Macos, user, user == "www-data");
    }
    let text = rule("  sel:\n    User: www-data\n  condition: sel\n").replace("windows", "linux");
    let fired = |json: &str| {
        let rules = load(&[("r.yml", &text)], Some(Os::Linux));
        findings(rules, &sysmon::event(json).unwrap()).len()
    };
    assert_eq!(
        fired(r#"{"Image": "/a", "LogonId": 33, "User": "www-data"}"#),
        1
    );
    assert_eq!(fired(r#"{"Image": "/a", "LogonId": 33}"#), 0);
}

#[test]
fn fields_are_compared_with_fields() {
    let check = |modifiers: &str, image: &str, line: &str, expected| {
        let detection = format!("  sel:\n    CommandLine|{modifiers}: Image\n  condition: sel\n");
        let event = serde_json::json!({ "Image": image, "CommandLine": line }).to_string();
        assert_eq!(
            fires(&detection, &event),
            expected,
            "{modifiers} {image} {line}"
        );
    };
    check("fieldref", "C:\\A", "c:\\a", true);
    check("fieldref", "C:\\A", "c:\\ab", false);
    check("fieldref|cased", "A", "a", false);
    check("fieldref|neq", "A", "b", true);
    check("fieldref|neq", "A", "a", false);
    check("fieldref|startswith", "A", "ab", true);
    check("fieldref|startswith", "B", "ab", false);
    check("fieldref|endswith", "B", "ab", true);
    check("fieldref|contains", "B", "abc", true);
    check("fieldref|contains", "D", "abc", false);
}

#[test]
fn addresses_lie_in_networks() {
    line(
        "|cidr: 10.0.0.0/8",
        &["10.1.2.3"],
        &["11.0.0.1", "10.1.2", "x"],
    );
    line("|cidr: '192.168.0.1'", &["192.168.0.1"], &["192.168.0.2"]);
    line("|cidr: 0.0.0.0/0", &["1.2.3.4"], &["::1"]);
    line("|cidr: 'fe80::/10'", &["fe80::1", "febf::"], &["fec0::1"]);
}

#[test]
fn parts_of_the_time_are_numbers() {
    let check = |item: &str, expected| {
        let detection = format!("  sel:\n    UtcTime|{item}\n  condition: sel\n");
        let event = r#"{"UtcTime": "2024-12-30 23:05:59.100"}"#;
        assert_eq!(fires(&detection, event), expected, "{item}");
    };
    check("minute: 5", true);
    check("hour: 23", true);
    check("hour: [22, 23]", true);
    check("day: 30", true);
    check("week: 1", true);
    check("month: 12", true);
    check("year: 2024", true);
    check("year: 2025", false);
    check("hour|gte: 22", true);
    check("lt|hour: 22", false);
    check("startswith: '2024-12-30 23'", true);
}

#[test]
fn placeholders_stand_for_lists() {
    line("|expand: '%tools%'", &["nc", "ncat"], &["ncc", "%tools%"]);
    line("|expand|contains: '%tools% -l'", &["x nc -l"], &["x -l"]);
    line(
        "|expand: '%hosts%-%hosts%'",
        &["a-a", "a-b", "b-a"],
        &["a", "c-a"],
    );
    line("|re|expand: '^%hosts%$'", &["a", "b"], &["ab"]);
    line(": '%tools%'", &["%tools%"], &["nc"]);
    let text = rule("  sel:\n    User|expand: '%Administrators%'\n  condition: sel\n");
    rejected(
        &text,
        None,
        "r.yml:8:18: placeholder `%Administrators%` has no list",
    );
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let check = |detection: &str, message: &str| rejected(&rule(detection), None, message);
    check(
        "  sel:\n    Image|endwith: x\n  condition: sel\n",
        "r.yml:8:5: unknown modifier `endwith` (did you mean `endswith`?)",
    );
    check(
        "  sel:\n    Image: x\n  condition: sell\n",
        "r.yml:9:14: unknown selection `sell` (did you mean `sel`?)",
    );
    check(
        "  sel:\n    Image: x\n  condition: sel and\n",
        "r.yml:9:14: condition: ends",
    );
    check("  sel:\n    Image: x\n", "`condition` is missing");
    check("  sel: {}\n  condition: sel\n", "empty selection");
    check("  sel: []\n  condition: sel\n", "empty list");
    check(
        "  sel:\n    Image: []\n  condition: sel\n",
        "r.yml:8:12: an empty list",
    );
    check(
        "  sel:\n    Image: {a: b}\n  condition: sel\n",
        "a value is expected, not keys",
    );
    check(
        "  sel:\n    Image|re: '(?=a)'\n  condition: sel\n",
        "r.yml:8:15: pattern: look-around",
    );
    check(
        "  sel:\n    Image|contains|re: 'a'\n  condition: sel\n",
        "modifier `re` must be the first one",
    );
    check(
        "  sel:\n    Image|base64: 'a*'\n  condition: sel\n",
        "takes no wildcards",
    );
    check(
        "  sel:\n    Image|wide: a\n  condition: sel\n",
        "needs `base64`",
    );
    check(
        "  sel:\n    Image|gt: a\n  condition: sel\n",
        "`gt` does not go with text",
    );
    check(
        "  sel:\n    Image|exists: 3\n  condition: sel\n",
        "true or false",
    );
    check(
        "  sel:\n    Image|cidr: 10.0.0.0/33\n  condition: sel\n",
        "no network",
    );
    check(
        "  sel:\n    Image|hour: 3\n  condition: sel\n",
        "`UtcTime` only",
    );
    check(
        "  sel:\n    - null\n  condition: sel\n",
        "null needs a field",
    );
    check(
        "  sel:\n    Image: a\n  timeframe: 5m\n  condition: sel | count() > 5\n",
        "correlation",
    );
    check(
        "  sel:\n    Image: a\n    Image: b\n  condition: sel\n",
        "r.yml:9:5: duplicate",
    );
    check("  sel: [\n", "r.yml:7:8: unclosed");
    check(
        "  sel:\n    Image|windash: '-a -b -c -d'\n  condition: sel\n",
        "`windash`",
    );
    check(
        "  sel:\n    Image|base64offset: ''\n  condition: sel\n",
        "too short",
    );
}

#[test]
fn headers_are_held_against_the_specification() {
    let sel = "detection:\n  sel:\n    Image: x\n  condition: sel\n";
    let check = |head: &str, message: &str| rejected(&format!("{head}{sel}"), None, message);
    let source = "logsource:\n  category: process_creation\n";
    check(source, "`title` is missing");
    check("title: T\n", "`logsource` is missing");
    check(
        &format!("title: T\nstatus: unsupported\n{source}"),
        "r.yml:2:9: `status`",
    );
    check(
        &format!("title: T\nstatus: done\n{source}"),
        "`status` is `done`",
    );
    check(
        &format!("title: T\nlevel: severe\n{source}"),
        "`level` is `severe`",
    );
    check(
        &format!("title: T\ntaxonomy: ecs\n{source}"),
        "`taxonomy` is `ecs`",
    );
    check(&format!("title: T\nid: 'a b'\n{source}"), "`id` must be");
    let other = "title: T\nlogsource:\n  product: windows\n  service: security\n";
    check(
        other,
        "r.yml:3:3: logsource product windows, service security is not produced here",
    );
    check(
        "title: T\nlogsource:\n  category: process_creation\n  product: aix\n",
        "product aix",
    );
}

#[test]
fn rules_keep_what_they_say_of_themselves() {
    let text = "title: A Title, Really\nname: a_name\nstatus: test\ndescription: D\nlicense: MIT\n\
                author: Somebody\ndate: 2024-01-02\nmodified: 2024-01-03\nreferences:\n  - x\n\
                related:\n  - {id: other, type: derived}\ntags: [attack.t1059]\nlevel: high\n\
                falsepositives: [None]\nfields: [User]\nlogsource: {category: process_creation}\n\
                detection:\n  sel:\n    OriginalFileName: x\n  condition: sel\n";
    let rules = load(&[("r.yml", text)], Some(Os::Linux));
    let rule = &rules.rules()[0];
    assert_eq!((rule.id.as_str(), rule.level.name()), ("a_name", "high"));
    let provenance = rule.provenance.as_ref().unwrap();
    assert_eq!(
        (&*provenance.author, &*provenance.license),
        ("Somebody", "MIT")
    );
    assert_eq!(
        (&*provenance.status, &*provenance.date),
        ("test", "2024-01-02")
    );
    assert_eq!(
        provenance.related,
        [("derived".to_owned(), "other".to_owned())]
    );
    assert_eq!(
        (
            rule.tags.len(),
            rule.references.len(),
            rule.falsepositives.len()
        ),
        (1, 1, 1)
    );
    let degraded = &rules.report().degraded[0];
    assert_eq!(
        (&degraded.fields[..], degraded.never),
        (&["OriginalFileName".to_owned()][..], true)
    );
    let event = sysmon::event(r#"{"OriginalFileName": "X", "Image": "a"}"#).unwrap();
    let found = &findings(load(&[("r.yml", text)], None), &event)[0];
    assert_eq!((&*found.author, &*found.license), ("Somebody", "MIT"));
    let selected: Vec<&str> = found.selected.iter().map(|(name, _)| &**name).collect();
    assert!(
        selected.contains(&"process.pe.original_file_name"),
        "{selected:?}"
    );
}

#[test]
fn a_field_that_nothing_produces_degrades_or_rejects() {
    let dead = rule("  sel:\n    Image: a\n    Foo: b\n  condition: sel\n");
    rejected(
        &dead,
        None,
        "r.yml:9:5: no event here can satisfy it: field `Foo` is not produced",
    );
    let typo = rule("  sel:\n    Commandline: b\n  condition: sel\n");
    rejected(
        &typo,
        None,
        "field `Commandline` (did you mean `CommandLine`?) is not produced",
    );
    let one = rule("  sel:\n    - Image: a\n    - Foo: b\n  condition: sel\n");
    let rules = load(&[("r.yml", &one)], None);
    assert_eq!(rules.report().degraded[0].fields, ["Foo"]);
    assert!(rules.report().degraded[0].misfiring.is_empty());
    let not = rule("  sel:\n    Image: a\n  not:\n    Foo: b\n  condition: sel and not 1 of n*\n");
    let rules = load(&[("r.yml", &not)], None);
    assert_eq!(rules.report().degraded[0].misfiring, ["Foo"]);
    // It is also told with the alert.
    let event = sysmon::event(r#"{"Image": "a"}"#).unwrap();
    assert_eq!(findings(rules, &event)[0].absent, ["Foo"]);
}

#[test]
fn rules_for_another_system_are_counted_apart() {
    let text = rule("  sel:\n    Image: a\n  condition: sel\n");
    let rules = load(&[("r.yml", &text)], Some(Os::Linux));
    assert_eq!(rules.rules().len(), 0);
    assert_eq!(rules.report().elsewhere[0].os, Os::Windows);
    let any = text.replace("  product: windows\n", "");
    for host in [None, Some(Os::Linux), Some(Os::Macos), Some(Os::Windows)] {
        assert_eq!(load(&[("r.yml", &any)], host).rules().len(), 1);
    }
}

#[test]
fn ends_of_processes_are_a_log_source_too() {
    let text = "title: R\nlogsource: {category: process_termination}\ndetection:\n  sel:\n    \
                Image|endswith: '\\a.exe'\n  condition: sel\n";
    let rules = || load(&[("r.yml", text)], None);
    let exit = sysmon::event(r#"{"EventID": 5, "Image": "C:\\a.exe"}"#).unwrap();
    let exec = sysmon::event(r#"{"EventID": 1, "Image": "C:\\a.exe"}"#).unwrap();
    assert_eq!(findings(rules(), &exit).len(), 1);
    assert_eq!(findings(rules(), &exec).len(), 0);
}

#[test]
fn filters_narrow_the_rules_that_they_name() {
    let text = rule("  sel:\n    Image: a\n  condition: sel\n");
    let filter = |rules: &str, source: &str| {
        format!(
            "title: F\nlogsource: {source}\nfilter:\n  rules: {rules}\n  selection:\n    \
             User|startswith: adm_\n  condition: not selection\n"
        )
    };
    let fired = |filter: &str, user: &str| {
        let rules = load(&[("f.yml", filter), ("r.yml", &text)], None);
        let event = serde_json::json!({ "Image": "a", "User": user }).to_string();
        findings(rules, &sysmon::event(&event).unwrap()).len()
    };
    let here = "{category: process_creation, product: windows}";
    for rules in ["[r]", "any", "r", "[]"] {
        assert_eq!(fired(&filter(rules, here), "adm_x"), 0, "{rules}");
        assert_eq!(fired(&filter(rules, here), "x"), 1, "{rules}");
    }
    assert_eq!(
        fired(&filter("[r]", "{category: process_creation}"), "adm_x"),
        0
    );
    assert_eq!(
        fired(
            &filter("any", "{category: process_creation, product: linux}"),
            "adm_x"
        ),
        1
    );
    // It was rejected, and the rules fired without it.
    for rules in ["[r]", "any"] {
        assert_eq!(fired(&filter(rules, "{product: windows}"), "adm_x"), 0);
        assert_eq!(fired(&filter(rules, "{product: windows}"), "x"), 1);
    }
    assert_eq!(fired(&filter("any", "{product: linux}"), "adm_x"), 1);
    for source in ["{}", "{service: sysmon}", "{product: windows, service: x}"] {
        let rules = load(&[("f.yml", &filter("any", source))], None);
        assert_eq!(rules.report().rejected.len(), 1, "{source}");
    }
    let unknown = load(&[("f.yml", &filter("[q]", here)), ("r.yml", &text)], None);
    let error = unknown.report().rejected[0].to_string();
    assert!(
        error.contains("f.yml:4:11: `filter` names the rule `q`"),
        "{error}"
    );
}

#[test]
fn the_first_rule_has_an_id() {
    let text = rule("  sel:\n    Image: a\n  condition: sel\n");
    let rules = load(&[("a.yml", &text), ("b.yml", &text)], None);
    assert_eq!(
        (rules.rules().len(), rules.report().rejected_documents),
        (1, 1)
    );
    let error = rules.report().rejected[0].to_string();
    assert!(
        error.contains("b.yml:2:5: rule id `r` is already used at a.yml:2:5"),
        "{error}"
    );
}

#[test]
fn sql_and_sigma_rules_run_together() {
    let sigma = rule("  sel:\n    Image: a\n  condition: sel\n");
    let sql =
        "id: s\ntitle: S\nlevel: low\nsql: SELECT * FROM exec WHERE process.executable = 'a'\n";
    let rules = load(&[("r.yml", &sigma), ("s.yaml", sql)], None);
    let event = sysmon::event(r#"{"Image": "a"}"#).unwrap();
    let ids: Vec<String> = findings(rules, &event)
        .into_iter()
        .map(|f| f.rule_id.to_string())
        .collect();
    assert_eq!(ids, ["s", "r"]);
}

#[test]
fn tests_stand_in_a_file_beside_the_rule() {
    let text = rule("  sel:\n    CommandLine|contains: evil\n  condition: sel\n");
    let tests = "fires:\n  - {CommandLine: an evil one, name: whole}\n  - {exe: 'C:\\a', args: [x, evil]}\n\
                 silent:\n  - {CommandLine: good}\n  - {CommandLine: evil}\n";
    let rules = load(&[("d/r.tests.yml", tests), ("d/r.yml", &text)], None);
    assert_eq!((rules.rules()[0].fires, rules.rules()[0].silent), (2, 2));
    let outcomes = run_tests(&rules);
    let passed: Vec<bool> = outcomes.iter().map(|outcome| outcome.passed).collect();
    assert_eq!(passed, [true, true, true, false]);
    assert_eq!(
        (outcomes[3].file.as_str(), outcomes[3].line),
        ("d/r.tests.yml", 6)
    );
    let broken = load(
        &[("d/r.tests.yml", "fires: [{exx: a}]\n"), ("d/r.yml", &text)],
        None,
    );
    let error = broken.report().rejected[0].to_string();
    assert!(
        error.contains("d/r.tests.yml:1:9: `tests` is no event: unknown field `exx`"),
        "{error}"
    );
}

/// Rules `a` and `b` on images of these names, and a correlation.
fn correlated(correlation: &str) -> RuleSet {
    let rule = |id: &str| {
        format!(
            "title: {id}\nid: {id}-id\nname: {id}\nlevel: low\nlogsource: {{category: \
             process_creation, product: windows}}\ndetection:\n  sel:\n    Image: {id}\n  \
             condition: sel\n---\n"
        )
    };
    let text = format!(
        "{}{}title: C\nid: c\ncorrelation:\n{correlation}",
        rule("a"),
        rule("b")
    );
    load(&[("c.yml", &text)], None)
}

/// Leaf indices, which are the positions of the events, of the findings of `c`.
#[track_caller]
fn fired(correlation: &str, events: &[(u64, &str)]) -> Vec<u64> {
    let found = found(correlation, events);
    found.iter().map(|finding| finding.leaf_index).collect()
}

/// Findings of `c`.
#[track_caller]
fn found(correlation: &str, events: &[(u64, &str)]) -> Vec<event::Finding> {
    let rules = correlated(correlation);
    let errors = &rules.report().rejected;
    assert!(errors.is_empty(), "{correlation}: {}", errors[0]);
    let mut findings = all_found(rules, events);
    findings.retain(|finding| *finding.rule_id == *"c");
    findings
}

fn all_found(rules: RuleSet, events: &[(u64, &str)]) -> Vec<event::Finding> {
    let mut matcher = Matcher::new(Arc::new(rules));
    let mut findings = Vec::new();
    for (leaf_index, (second, fields)) in (0..).zip(events) {
        let mut event = sysmon::event(&format!("{{{fields}}}")).unwrap();
        event.header.time = event::BootTime((1000 + second) * 1_000_000_000);
        matcher.on_event(&event, leaf_index, &mut findings);
    }
    findings
}

const A: &str = r#""Image": "a""#;
const B: &str = r#""Image": "b""#;

#[test]
fn event_counts_are_by_group_and_within_the_timespan() {
    let count = "  type: event_count\n  rules: [a]\n  timespan: 10s\n  condition: {gte: 3}\n";
    assert_eq!(fired(count, &[(0, A), (5, A), (10, A)]), [2]);
    assert_eq!(fired(count, &[(0, A), (5, A), (11, A)]), [0u64; 0]);
    assert_eq!(fired(count, &[(0, A), (1, B), (2, A)]), [0u64; 0]);
    let both = count.replace("[a]", "[a, b-id]");
    assert_eq!(fired(&both, &[(0, A), (1, B), (2, A)]), [2]);
    let grouped = format!("{count}  group-by: [User]\n");
    let of = |user| format!(r#""Image": "a", "User": "{user}""#);
    let (x, y) = (of("x"), of("y"));
    let events: [(u64, &str); 5] = [(0, &x), (1, &y), (2, &x), (3, &y), (4, &y)];
    assert_eq!(fired(&grouped, &events), [4]);
    let range = count.replace("{gte: 3}", "{gt: 1, lte: 2}");
    assert_eq!(fired(&range, &[(0, A), (1, A), (2, A)]), [1]);
}

#[test]
fn values_are_counted_and_summed() {
    let of = |kind: &str, condition: &str| {
        format!("  type: {kind}\n  rules: [a]\n  timespan: 1m\n  condition: {{{condition}}}\n")
    };
    let event = |pid: u32| format!(r#""Image": "a", "ProcessId": {pid}"#);
    let check = |kind: &str, condition: &str, pids: &[u32], expected: &[u64]| {
        let events: Vec<String> = pids.iter().map(|pid| event(*pid)).collect();
        let events: Vec<(u64, &str)> = (0..).zip(events.iter().map(String::as_str)).collect();
        assert_eq!(
            fired(&of(kind, condition), &events),
            expected,
            "{kind} {condition}"
        );
    };
    check("value_count", "field: ProcessId, gte: 2", &[1, 1, 2], &[2]);
    check("value_sum", "field: ProcessId, gt: 5", &[1, 4, 1], &[2]);
    check("value_avg", "field: ProcessId, gte: 2.5", &[1, 2, 5], &[2]);
    check(
        "value_median",
        "field: ProcessId, gte: 3",
        &[1, 9, 1, 9],
        &[1],
    );
    check(
        "value_median",
        "field: ProcessId, eq: 2",
        &[1, 2],
        &[0u64; 0],
    );
    check("value_median", "field: ProcessId, eq: 1.5", &[1, 2], &[1]);
    let ninety = "field: ProcessId, percentile: 90, gte: 9";
    check("value_percentile", ninety, &[0, 5, 10], &[2]);
    check(
        "value_percentile",
        "field: ProcessId, percentile: 0, gte: 2",
        &[2],
        &[0],
    );
}

#[test]
fn temporal_rules_want_all_rules_in_any_order_or_in_theirs() {
    let temporal = "  type: temporal\n  rules: [a, b]\n  timespan: 10s\n";
    assert_eq!(fired(temporal, &[(0, B), (5, A)]), [1]);
    assert_eq!(fired(temporal, &[(0, B), (11, A)]), [0u64; 0]);
    assert_eq!(fired(temporal, &[(0, A), (1, A)]), [0u64; 0]);
    let some = format!("{temporal}  condition: {{gte: 1}}\n");
    assert_eq!(fired(&some, &[(0, A)]), [0]);
    let ordered = temporal.replace("temporal", "temporal_ordered");
    assert_eq!(fired(&ordered, &[(0, B), (5, A)]), [0u64; 0]);
    assert_eq!(fired(&ordered, &[(0, A), (5, B)]), [1]);
    assert_eq!(fired(&ordered, &[(0, A), (11, B)]), [0u64; 0]);
}

#[test]
fn aliases_name_what_is_the_same_in_different_events() {
    let check = |kind: &str, child: &str, expected: &[u64]| {
        let correlation = format!(
            "  type: {kind}\n  rules: [a, b]\n  group-by: [pid]\n  timespan: 10s\n  aliases:\n    \
             pid:\n      a: ProcessId\n      b: ParentProcessId\n"
        );
        let parent = r#""Image": "a", "ProcessId": 7"#;
        assert_eq!(
            fired(&correlation, &[(0, parent), (1, child)]),
            expected,
            "{kind}"
        );
    };
    for kind in ["temporal", "temporal_ordered"] {
        check(kind, r#""Image": "b", "ParentProcessId": 7"#, &[1]);
        check(kind, r#""Image": "b", "ParentProcessId": 8"#, &[]);
    }
}

/// They were for `temporal_ordered` only.
#[test]
fn a_number_and_its_text_are_the_same_to_aliases() {
    let line = r#""Image": "b", "CommandLine": "7""#;
    let events = [(0, r#""Image": "a", "ProcessId": 7"#), (1, line)];
    let check = |kind: &str, expected: &[u64]| {
        let correlation = format!(
            "  type: {kind}\n  rules: [a, b]\n  timespan: 10s\n  aliases:\n    same:\n      a: \
             ProcessId\n      b: CommandLine\n"
        );
        assert_eq!(fired(&correlation, &events), expected, "{kind}");
    };
    check("temporal\n  group-by: [same]", &[1]);
    check("temporal_ordered\n  group-by: [same]", &[1]);
    check(
        "event_count\n  group-by: [same]\n  condition: {gte: 2}",
        &[1],
    );
    check("value_count\n  condition: {field: same, gte: 2}", &[]);
    check("value_sum\n  condition: {field: same, eq: 14}", &[1]);
}

/// The newest drafts of the specification; they were refused.
#[test]
fn temporal_conditions_say_which_rules_found_something() {
    let check = |condition: &str, events: &[(u64, &str)], expected: &[u64]| {
        let text = format!(
            "  type: temporal\n  rules: [a, b]\n  timespan: 10s\n  condition: {condition}\n"
        );
        assert_eq!(fired(&text, events), expected, "{condition} {events:?}");
    };
    check("a and b", &[(0, A), (1, B)], &[1]);
    check("a and b", &[(0, A), (11, B)], &[]);
    check("a-id or b", &[(0, B)], &[0]);
    check("a and not b", &[(0, A)], &[0]);
    check("a and not b", &[(0, B), (1, A)], &[]);
    check("a and not b", &[(0, B), (11, A)], &[1]);
    check("not (a and b) and (a OR b)", &[(0, B), (1, A)], &[0]);
    // The words of an order are those of its rules.
    for condition in ["a and b", "b and a", "{gte: 2}", "{eq: 2}", "{gt: 1}"] {
        let text = format!(
            "  type: temporal_ordered\n  rules: [a, b]\n  timespan: 10s\n  condition: {condition}\n"
        );
        assert_eq!(fired(&text, &[(0, B), (1, A)]), [0u64; 0], "{condition}");
        assert_eq!(fired(&text, &[(0, A), (1, B)]), [1], "{condition}");
    }
    // By group.
    let text = "  type: temporal\n  rules: [a, b]\n  group-by: [User]\n  timespan: 10s\n  \
                condition: a and not b\n";
    let (b, a) = (
        r#""Image": "b", "User": "x""#,
        r#""Image": "a", "User": "y""#,
    );
    assert_eq!(fired(text, &[(0, b), (1, a)]), [1]);
}

#[test]
fn the_least_and_greatest_value_and_values_of_several_fields() {
    let event =
        |pid: u32, user: &str| format!(r#""Image": "a", "ProcessId": {pid}, "User": "{user}""#);
    let check = |kind: &str, condition: &str, events: &[(u64, String)], expected: &[u64]| {
        let text = format!(
            "  type: {kind}\n  rules: [a]\n  timespan: 10s\n  condition: {{{condition}}}\n"
        );
        assert_eq!(
            fired(&text, &borrowed(events)),
            expected,
            "{kind} {condition}"
        );
    };
    let events = [(0, event(5, "x")), (1, event(9, "x")), (2, event(2, "x"))];
    check("value_max", "field: ProcessId, gte: 9", &events, &[1]);
    check("value_min", "field: ProcessId, lt: 3", &events, &[2]);
    let both = "field: [ProcessId, User], gte: 3";
    let events = [(5, "x"), (5, "y"), (5, "x"), (6, "x")];
    let events: Vec<_> = (0..)
        .zip(events.map(|(pid, user)| event(pid, user)))
        .collect();
    check("value_count", both, &events, &[3]);
    // `1` and `23` are not `12` and `3`.
    let events = [(1, "23"), (12, "3")];
    let events: Vec<_> = (0..)
        .zip(events.map(|(pid, user)| event(pid, user)))
        .collect();
    check(
        "value_count",
        "field: [ProcessId, User], gte: 2",
        &events,
        &[1],
    );
}

fn ids(rules: &RuleSet) -> Vec<&str> {
    rules.rules().iter().map(|rule| &*rule.id).collect()
}

#[test]
fn rules_of_a_correlation_are_silent_unless_it_generates() {
    let of = |generate: &str| {
        correlated(&format!(
            "  type: temporal\n  rules: [a, b]\n  timespan: 1s\n{generate}"
        ))
    };
    let rules = of("");
    assert_eq!(ids(&rules), ["c"]);
    assert_eq!(rules.rules()[0].level.name(), "low");
    let components = &rules.report().components;
    assert_eq!((components.len(), &*components[0].correlation), (2, "c"));
    assert_eq!(ids(&of("  generate: true\n")), ["a-id", "b-id", "c"]);
    assert_eq!(
        ids(&of("generate: true\nlevel: high\n")),
        ["a-id", "b-id", "c"]
    );
}

#[test]
fn broken_correlations_say_what_is_wrong_and_leave_their_rules() {
    let check = |correlation: &str, message: &str| {
        let rules = correlated(correlation);
        let error = rules.report().rejected[0].to_string();
        assert!(error.contains(message), "{error}: {message}");
        assert_eq!(rules.rules().len(), 2);
    };
    check("  rules: [a]\n  timespan: 1s\n", "has no `type`");
    check("  type: count\n  rules: [a]\n", "unknown type `count`");
    check("  type: temporal\n  timespan: 1s\n", "has no `rules`");
    check(
        "  type: temporal\n  rules: [x]\n  timespan: 1s\n",
        "c.yml:25:11: `correlation` names the rule `x`",
    );
    check("  type: temporal\n  rules: [a]\n", "has no `timespan`");
    check(
        "  type: temporal\n  rules: [a]\n  timespan: 5x\n",
        "timespan `5x`",
    );
    check(
        "  type: temporal\n  rules: [a]\n  timespan: 99d\n",
        "30 days",
    );
    check(
        "  type: event_count\n  rules: [a]\n  timespan: 1s\n",
        "has no `condition`",
    );
    check(
        "  type: event_count\n  rules: [a]\n  timespan: 1s\n  condition: {gtee: 1}\n",
        "unknown bound `gtee`",
    );
    check(
        "  type: event_count\n  rules: [a]\n  timespan: 1s\n  condition: {gte: 5000}\n",
        "limit of 4096",
    );
    check(
        "  type: value_count\n  rules: [a]\n  timespan: 1s\n  condition: {gte: 1}\n",
        "needs a `field`",
    );
    check(
        "  type: value_sum\n  rules: [a]\n  timespan: 1s\n  condition: {gte: 1, field: [User, ProcessId]}\n",
        "needs one `field`",
    );
    let temporal =
        |rest: &str| format!("  type: temporal\n  rules: [a, b]\n  timespan: 1s\n{rest}");
    check(
        &temporal("  group_by: [User]\n"),
        "c.yml:27:3: unknown key of a correlation `group_by` (did you mean `group-by`?)",
    );
    check(&temporal("  window: session\n"), "`window`");
    check(&temporal("  aliases: [x]\n"), "aliases that are not");
    check(
        &temporal("  aliases: {x: {a: [b]}}\n"),
        "aliases that are not",
    );
    check(
        &temporal("  aliases: {x: {a: User, c: User}}\n"),
        "c.yml:27:26: `correlation` has an alias for `c`, which is none of its rules",
    );
    check(
        "  type: temporal\n  rules: [a, a-id]\n  timespan: 1s\n",
        "c.yml:25:14: `correlation` names the rule `a-id` twice",
    );
    for timespan in ["5mm", "+5m", "m", "5 m", "5M", "-5m", "0s", "''"] {
        check(
            &format!("  type: temporal\n  rules: [a]\n  timespan: {timespan}\n"),
            "has the timespan",
        );
    }
    let on = |condition: &str| temporal(&format!("  condition: {condition}\n"));
    check(&on("a and c"), "`c`, which is none of its rules");
    check(
        &on("a"),
        "has the rule `b-id`, which its condition does not name",
    );
    check(&on("a and 1 of b"), "`of`");
    check(&on("a and b and"), "c.yml:27:14: condition: ends");
    check(&on("[a, b]"), "needs bounds");
    let ordered = |condition: &str| on(condition).replace("temporal", "temporal_ordered");
    for condition in ["{gte: 1}", "{lt: 3}", "a or b", "a and not b", "{eq: 3}"] {
        check(&ordered(condition), "something else than all of its rules");
    }
    check(
        "  type: value_percentile\n  rules: [a]\n  timespan: 1s\n  condition: {field: User, gte: 1}\n",
        "percentile",
    );
    check(
        "  type: temporal\n  rules: [a]\n  timespan: 1s\n  group-by: [Foo]\n",
        "`Foo`, which is not produced",
    );
}

/// Another correlation after `c`, in the same file.
fn another(id: &str, correlation: &str) -> String {
    format!("---\ntitle: {id}\nid: {id}-id\nname: {id}\ncorrelation:\n{correlation}")
}

/// `inner`: three events of `a` of one user in 10 s.
fn inner() -> String {
    another(
        "inner",
        "  type: event_count\n  rules: [a]\n  group-by: [User]\n  timespan: 10s\n  condition: \
         {gte: 3}\n",
    )
}

/// Events of images and users, one each second.
fn by_users(events: &[(&str, &str)]) -> Vec<(u64, String)> {
    let event = |(image, user): &(&str, &str)| format!(r#""Image": "{image}", "User": "{user}""#);
    (0..).zip(events.iter().map(event)).collect()
}

fn borrowed(events: &[(u64, String)]) -> Vec<(u64, &str)> {
    events
        .iter()
        .map(|(at, text)| (*at, text.as_str()))
        .collect()
}

#[test]
fn correlations_may_be_on_correlations() {
    let check = |kind: &str, events: &[(&str, &str)], expected: &[u64]| {
        let text = format!(
            "  type: {kind}\n  rules: [inner, b]\n  group-by: [User]\n  timespan: 10s\n{}",
            inner()
        );
        let events = by_users(events);
        assert_eq!(fired(&text, &borrowed(&events)), expected, "{kind}");
    };
    let (a, b) = (("a", "x"), ("b", "x"));
    check("temporal_ordered", &[a, a, a, b], &[3]);
    check("temporal_ordered", &[a, a, b], &[]);
    check("temporal_ordered", &[b, a, a, a], &[]);
    check("temporal_ordered", &[a, a, a, ("b", "y")], &[]);
    check("temporal", &[b, a, a, a], &[3]);
    check("temporal", &[b, a, a, ("a", "y")], &[]);
    // What the inner one found is as old as the event that completed it.
    let late = [(0, a), (9, a), (10, a), (20, b)];
    let event = |(image, user)| format!(r#""Image": "{image}", "User": "{user}""#);
    let late: Vec<(u64, String)> = late.map(|(at, who)| (at, event(who))).into();
    let text = |span| {
        let inner = inner();
        format!("  type: temporal\n  rules: [inner, b]\n  timespan: {span}s\n{inner}")
    };
    assert_eq!(fired(&text(10), &borrowed(&late)), [3]);
    assert_eq!(fired(&text(9), &borrowed(&late)), [0u64; 0]);
}

/// Quiet after it fired, it had seemed to be over.
#[test]
fn what_still_holds_is_as_recent_as_its_last_event() {
    let check = |inner: &str, expected: &[u64]| {
        for kind in ["temporal", "temporal_ordered"] {
            let text = format!(
                "  type: {kind}\n  rules: [inner, b]\n  timespan: 10s\n{}",
                another("inner", inner)
            );
            let events: Vec<(u64, &str)> = [0, 1, 2, 9].map(|at| (at, A)).into();
            let events = [events, vec![(13, B)]].concat();
            assert_eq!(fired(&text, &events), expected, "{kind}");
        }
    };
    let count = "  type: event_count\n  rules: [a]\n  timespan: 10s\n  condition: {gte: 3}\n";
    check(count, &[4]);
    check(&count.replace("10s", "5s"), &[]);
    let pair = another(
        "last",
        "  type: event_count\n  rules: [a]\n  timespan: 1s\n  condition: {gte: 1}\n",
    );
    check(
        &format!("  type: temporal_ordered\n  rules: [last, a]\n  timespan: 10s\n{pair}"),
        &[4],
    );
}

#[test]
fn what_correlations_found_is_counted_and_told_apart() {
    let count = |kind: &str, condition: &str| {
        format!(
            "  type: {kind}\n  rules: [inner]\n  timespan: 1m\n  condition: {{{condition}}}\n{}",
            inner()
        )
    };
    let of = |user: &'static str| [("a", user); 3];
    let (x, y) = (of("x"), of("y"));
    let both = by_users(&[x, y].concat());
    assert_eq!(
        fired(&count("event_count", "gte: 2"), &borrowed(&both)),
        [5]
    );
    let users = count("value_count", "field: User, gte: 2");
    assert_eq!(fired(&users, &borrowed(&both)), [5]);
    // The same user again, after the first events have left the window.
    let mut again = borrowed(&both)[..3].to_vec();
    let later = borrowed(&both)[..3].to_vec();
    again.extend(later.iter().map(|(at, event)| (at + 20, *event)));
    assert_eq!(fired(&users, &again), [0u64; 0]);
    assert_eq!(fired(&count("event_count", "gte: 2"), &again), [5]);
}

#[test]
fn evidence_of_a_chain_has_all_its_events() {
    for kind in ["temporal", "temporal_ordered"] {
        let text = format!(
            "  type: {kind}\n  rules: [inner, b]\n  group-by: [User]\n  timespan: 10s\n{}",
            inner()
        );
        let events = by_users(&[
            ("b", "y"),
            ("a", "x"),
            ("a", "y"),
            ("a", "x"),
            ("a", "x"),
            ("b", "x"),
        ]);
        let found = found(&text, &borrowed(&events));
        assert_eq!(found.len(), 1, "{kind}");
        assert_eq!(found[0].evidence, [1, 3, 4, 5], "{kind}");
    }
    // No more than an alert has room for, and then those that completed each step.
    let text = "  type: temporal_ordered\n  rules: [inner, b]\n  timespan: 5m\n".to_owned()
        + &another(
            "inner",
            "  type: event_count\n  rules: [a]\n  timespan: 5m\n  condition: {gte: 50}\n",
        );
    let events = by_users(&[vec![("a", "x"); 50], vec![("b", "x")]].concat());
    let evidence = &found(&text, &borrowed(&events))[0].evidence;
    assert_eq!(evidence.len(), 32);
    assert_eq!(evidence[..2], [0, 1]);
    assert_eq!(evidence[30..], [49, 50]);
}

#[test]
fn aliases_reach_into_the_correlations_that_a_correlation_is_on() {
    // `b` runs in what either `a` started, or another `b` did.
    let inner = another(
        "inner",
        "  type: temporal\n  rules: [a, b]\n  group-by: [pid]\n  timespan: 10s\n  condition: {gte: 1}\n  \
         aliases:\n    pid: {a: ProcessId, b: ParentProcessId}\n",
    );
    let last = another(
        "last",
        "  type: event_count\n  rules: [b]\n  timespan: 10s\n  group-by: [User]\n  condition: {gte: 1}\n",
    );
    for kind in ["temporal", "temporal_ordered"] {
        let text = format!(
            "  type: {kind}\n  rules: [inner, last]\n  group-by: [which]\n  timespan: 10s\n  \
             aliases:\n    which: {{inner: pid, last: ProcessId}}\n{inner}{last}"
        );
        let check = |events: &[(u64, &str)], expected: &[u64]| {
            assert_eq!(fired(&text, events), expected, "{kind} {events:?}");
        };
        let a = r#""Image": "a", "ProcessId": 7, "User": "x""#;
        let b = |pid: u32, parent: u32| {
            format!(
                r#""Image": "b", "ProcessId": {pid}, "ParentProcessId": {parent}, "User": "{pid}""#
            )
        };
        check(&[(0, a), (1, &b(7, 1))], &[1]);
        check(&[(0, a), (1, &b(8, 1))], &[]);
        // By the other rule's name of it.
        check(&[(0, &b(3, 9)), (1, &b(9, 2))], &[1]);
        check(&[(0, &b(3, 9)), (1, &b(8, 2))], &[]);
    }
    let missing = "  type: temporal\n  rules: [inner, b]\n  group-by: [which]\n  timespan: 1s\n  \
                   aliases:\n    which: {b: ProcessId}\n";
    let rules = correlated(&format!("{missing}{inner}"));
    let error = rules.report().rejected[0].to_string();
    assert!(
        error.contains("has no alias `which` for rule `inner-id`"),
        "{error}"
    );
}

#[test]
fn correlations_that_others_are_on_are_silent_unless_those_generate() {
    let of = |generate: &str| {
        correlated(&format!(
            "  type: temporal\n  rules: [inner, b]\n  timespan: 1s\n{generate}{}",
            inner()
        ))
    };
    let rules = of("");
    assert_eq!(ids(&rules), ["c"]);
    assert_eq!(rules.rules()[0].level.name(), "low");
    let components = rules.report().components.iter();
    let components: Vec<_> = components.map(|c| (&*c.rule_id, &*c.correlation)).collect();
    assert_eq!(
        components,
        [("a-id", "inner-id"), ("b-id", "c"), ("inner-id", "c")]
    );
    let loud = of("  generate: true\n");
    assert_eq!(ids(&loud), ["b-id", "c", "inner-id"]);
    let events = by_users(&[("a", "x"), ("a", "x"), ("a", "x")]);
    let found = all_found(loud, &borrowed(&events));
    let found: Vec<&str> = found.iter().map(|finding| &*finding.rule_id).collect();
    assert_eq!(found, ["inner-id"]);
}

#[test]
fn correlations_on_themselves_are_rejected_with_what_depends_on_them() {
    let on = |rules: &str| format!("  type: temporal\n  rules: [{rules}]\n  timespan: 1s\n");
    let text = on("a, d")
        + &another("d", &on("b, e-id"))
        + &another("e", &on("d"))
        + &another("f", &on("f, a"))
        + &another("g", &on("a, b"));
    let rules = correlated(&text);
    let rejected = rules.report().rejected.iter();
    let rejected: Vec<String> = rejected.map(ToString::to_string).collect();
    assert_eq!(
        rejected,
        [
            "c.yml:33:14: `correlation` is on itself: d-id -> e-id -> d-id",
            "c.yml:25:14: `correlation` names the rule `d`, which is rejected (c.yml:33:14)",
            "c.yml:41:11: `correlation` is on itself: e-id -> d-id -> e-id",
            "c.yml:49:11: `correlation` is on itself: f-id -> f-id",
        ]
    );
    assert_eq!(rules.report().rejected_documents, 4);
    let ids: Vec<&str> = rules.rules().iter().map(|r| r.id.as_str()).collect();
    assert_eq!(ids, ["g-id"]);
}

#[test]
fn what_a_rejected_rule_is_part_of_is_rejected_with_the_place() {
    let broken = "---\ntitle: X\nid: x-id\nname: x\nlogsource: {category: process_creation, product: \
                  windows}\ndetection:\n  sel:\n    Image|nope: x\n  condition: sel\n";
    let on = |rules: &str| format!("  type: temporal\n  rules: [{rules}]\n  timespan: 1s\n");
    let text = on("a, d") + &another("d", &on("b, x")) + broken;
    let rules = correlated(&text);
    let rejected = rules.report().rejected.iter();
    let rejected: Vec<String> = rejected.map(ToString::to_string).collect();
    assert_eq!(rejected.len(), 3, "{rejected:?}");
    assert!(
        rejected[1].contains("names the rule `x`, which is rejected (c.yml:42:"),
        "{rejected:?}"
    );
    assert!(
        rejected[2].contains("names the rule `d`, which is rejected (c.yml:33:14)"),
        "{rejected:?}"
    );
}

#[test]
fn chains_are_bounded() {
    let on = |rules: &str| {
        format!(
            "  type: event_count\n  rules: [{rules}]\n  timespan: 1s\n  condition: {{gte: 1}}\n"
        )
    };
    let chain = |length: usize| {
        let links = (1..length).map(|n| another(&format!("n{n}"), &on(&format!("n{}", n - 1))));
        on(&format!("n{}", length - 1)) + &another("n0", &on("a")) + &links.collect::<String>()
    };
    assert_eq!(fired(&chain(10), &[(0, A)]), [0]);
    let error = |text: &str| {
        let rules = correlated(text);
        assert_eq!(rules.report().rejected_documents, 1);
        rules.report().rejected[0].to_string()
    };
    let deep = error(&chain(11));
    assert!(
        deep.contains("depth of correlations exceeds the limit of 10"),
        "{deep}"
    );
    let wide: Vec<String> = (0..17).map(|n| format!("n{n}")).collect();
    let inner: String = wide.iter().map(|n| another(n, &on("a"))).collect();
    let wide = error(&(on(&wide.join(", ")) + &inner));
    assert!(wide.contains("limit of 16"), "{wide}");
    let parts: Vec<String> = (0..64).map(|n| format!("m{n}")).collect();
    let rule = |id: &String| {
        format!(
            "---\ntitle: {id}\nname: {id}\nlogsource: {{category: process_creation}}\ndetection:\n  \
             sel: {{Image: {id}}}\n  condition: sel\n"
        )
    };
    let inner: Vec<String> = (0..5).map(|n| format!("n{n}")).collect();
    let many = parts.join(", ");
    let of_inner: String = inner.iter().map(|n| another(n, &on(&many))).collect();
    let of_parts: String = parts.iter().map(rule).collect();
    let many = error(&(on(&inner.join(", ")) + &of_inner + &of_parts));
    assert!(many.contains("limit of 256"), "{many}");
}

#[test]
fn what_is_not_there_of_an_inner_event_is_told() {
    let text = "  type: temporal_ordered\n  rules: [inner, b]\n  timespan: 10s\n".to_owned()
        + &another(
            "inner",
            "  type: event_count\n  rules: [a]\n  group-by: [User]\n  timespan: 10s\n  condition: {gte: 1}\n",
        );
    let found = found(&text, &[(0, A), (1, r#""Image": "b", "User": "x""#)]);
    assert_eq!(found[0].absent, ["process.user"]);
}

#[test]
fn a_sigma_rule_without_a_detection_is_one_all_the_same() {
    let text = "title: T\nlogsource: {category: process_creation}\n";
    rejected(text, None, "r.yml:1:1: `detection` is missing");
}

fn rejected_in(text: &str) -> (Vec<String>, Vec<String>) {
    let rules = load(&[("r.yml", text)], None);
    let rejected = rules.report().rejected.iter().map(ToString::to_string);
    let rejected = rejected.collect();
    (
        rules.rules().iter().map(|rule| rule.id.clone()).collect(),
        rejected,
    )
}

/// A broken document took the sound ones of its file with it.
#[test]
fn a_document_that_is_no_yaml_is_rejected_alone() {
    let sound = |id: &str| rule("  sel: {Image: x}\n  condition: sel\n").replace("id: r", id);
    let text = [
        sound("id: a").as_str(),
        "title: [\ndetection:\n",
        &sound("id: b").replace("Image", "Image|nope"),
        "title: 'T\n",
        &sound("id: c"),
    ]
    .join("---\n");
    let (ids, rejected) = rejected_in(&text);
    assert_eq!(ids, ["a", "c"]);
    assert_eq!(rejected.len(), 3, "{rejected:?}");
    assert!(rejected[0].starts_with("r.yml:10:8: "), "{rejected:?}");
    assert!(rejected[1].starts_with("r.yml:23:1: "), "{rejected:?}");
    assert!(
        rejected[2].starts_with("r.yml:19:9: unknown modifier `nope`"),
        "{rejected:?}"
    );
}

#[test]
fn directives_are_no_document() {
    let text = format!(
        "%YAML 1.2\n---\n{}---\ntitle: [\n",
        rule("  sel: {Image: x}\n  condition: sel\n")
    );
    let (ids, rejected) = rejected_in(&text);
    assert_eq!((ids.len(), rejected.len()), (1, 1), "{rejected:?}");
}

/// As in Sigma 1. A global document with a detection was a rule of its own, and the others lacked it.
#[test]
fn actions_share_keys_between_documents() {
    let global = "action: global\ntitle: G\nlevel: high\nlogsource: {category: process_creation}\n\
                  detection:\n  condition: sel\n";
    let part =
        |id: &str, image: &str| format!("---\nid: {id}\ndetection:\n  sel: {{Image: {image}}}\n");
    let repeat = "---\naction: repeat\nid: c\ndetection:\n  sel: {CommandLine: y}\n";
    let text = [global, &part("a", "x"), &part("b", "y"), repeat].concat();
    let rules = load(&[("r.yml", &text)], None);
    assert!(rules.report().rejected.is_empty());
    assert_eq!(ids(&rules), ["a", "b", "c"]);
    assert!(rules.rules().iter().all(|rule| rule.level.name() == "high"));
    assert_eq!(rules.rules()[1].line, 12);
    let event = sysmon::event(r#"{"Image": "y", "CommandLine": "y"}"#).unwrap();
    let fired = findings(rules, &event);
    let fired: Vec<&str> = fired.iter().map(|finding| &*finding.rule_id).collect();
    assert_eq!(fired, ["b", "c"]);

    let text = [global, "---\naction: reset\n", &part("a", "x")].concat();
    let (ids, rejected) = rejected_in(&text);
    assert!(ids.is_empty());
    assert!(
        rejected[0].contains("r.yml:10:1: `title` is missing"),
        "{rejected:?}"
    );
    let (_, rejected) = rejected_in(repeat);
    assert!(
        rejected[0].contains("r.yml:2:9: `action` repeats"),
        "{rejected:?}"
    );
    let (ids, rejected) = rejected_in(&[global, "---\n- sel\n", &part("a", "x")].concat());
    assert_eq!(ids, ["a"]);
    assert!(rejected[0].starts_with("r.yml:8:"), "{rejected:?}");
    let (ids, rejected) = rejected_in(&global.replace("global", "globl"));
    assert!(ids.is_empty());
    assert!(
        rejected[0].contains("r.yml:1:9: `action` is `globl`"),
        "{rejected:?}"
    );
}

/// They have neither to be there nor to be unique.
#[test]
fn rules_without_an_id_are_told_apart() {
    let text = |title: &str| {
        rule("  sel: {Image: x}\n  condition: sel\n").replace(
            "title: R\nid: r",
            &format!("title: {title}\nlevel:\nstatus: ~"),
        )
    };
    let all = [
        text("Same"),
        text("Same"),
        text("検知"),
        text("検知"),
        text("Same"),
    ];
    let (ids, rejected) = rejected_in(&all.join("---\n"));
    assert_eq!(ids, ["same", "same-2", "rule", "rule-2", "same-3"]);
    assert!(rejected.is_empty(), "{rejected:?}");
}

/// It was at the head of the filter, and a filter that could not do anything was silent.
#[test]
fn a_filter_says_which_of_its_rules_it_does_nothing_to() {
    let filter = "title: F\nlogsource: {category: process_termination}\nfilter:\n  rules:\n    - \
                  nosuch\n    - r\n  sel: {Image: x}\n  condition: not sel\n";
    let text = rule("  sel: {Image: x}\n  condition: sel\n");
    let rules = load(&[("r.yml", &text), ("f.yml", filter)], None);
    let rejected = rules.report().rejected.iter().map(ToString::to_string);
    assert_eq!(
        rejected.collect::<Vec<_>>(),
        [
            "f.yml:5:7: `filter` names the rule `nosuch`, which is not there",
            "f.yml:6:7: `filter` names the rule `r`, which is for another log source",
        ]
    );
    assert_eq!(rules.rules().len(), 1);
}
