//! What an operator reads when a rule is wrong: exact text and place.

use detect::{RuleSet, Source};

fn errors_of(text: &str) -> Vec<String> {
    match RuleSet::compile(&[Source {
        file: "r.yaml",
        text,
    }]) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// The SQL begins at line 5, column 3 of the file.
fn in_a_rule(sql: &str) -> String {
    let body: String = sql.lines().map(|line| format!("  {line}\n")).collect();
    format!("id: x\ntitle: X\nlevel: low\nsql: |\n{body}")
}

#[track_caller]
fn check_file(text: &str, expected: &[&str]) {
    let expected: Vec<String> = expected
        .iter()
        .map(|line| format!("r.yaml:{line}"))
        .collect();
    assert_eq!(
        errors_of(text),
        expected,
        "{}",
        text.chars().take(300).collect::<String>()
    );
}

#[track_caller]
fn check(sql: &str, expected: &str) {
    check_file(&in_a_rule(sql), &[expected]);
}

/// The condition begins at line 6, column 3.
#[track_caller]
fn check_where(condition: &str, expected: &str) {
    check(
        &format!("SELECT process.pid FROM exec WHERE\n{condition}"),
        expected,
    );
}

#[test]
fn only_one_select_is_a_rule() {
    let check = |sql, at: &str, found: &str| {
        check(
            sql,
            &format!("{at}: a rule is exactly one SELECT statement; {found}"),
        );
    };
    check("DROP TABLE exec", "5:3", "found DROP");
    check("INSERT INTO exec VALUES (1)", "5:3", "found INSERT");
    check("DELETE FROM exec", "5:3", "found DELETE");
    check("EXPLAIN SELECT * FROM exec", "5:3", "found EXPLAIN");
    check("VALUES (1)", "5:3", "found VALUES");
    check(
        "SELECT * FROM exec; DROP TABLE exec",
        "5:23",
        "a second statement begins here",
    );
    check(
        "SELECT * FROM exec;\n;SELECT 1",
        "6:4",
        "a second statement begins here",
    );
    check(";", "5:3", "found ;");
    check("-- a comment", "5:3", "found nothing");
    check_file(&in_a_rule("SELECT * FROM exec;"), &[]);
}

#[test]
fn clauses_that_rules_do_not_have_are_refused() {
    let check = |sql, at: &str, what: &str| {
        check(sql, &format!("{at}: {what} is not supported in rules"));
    };
    check("WITH a AS (SELECT 1) SELECT * FROM a", "5:3", "WITH");
    check("(SELECT * FROM exec)", "5:3", "a statement in parentheses");
    check(
        "SELECT DISTINCT process.pid FROM exec",
        "5:10",
        "DISTINCT or ALL",
    );
    check("SELECT * INTO x FROM exec", "5:12", "INTO");
    let join = "JOIN other than JOIN stream AS name ON condition";
    check(
        "SELECT * FROM exec AUTO JOIN b",
        "5:22",
        "`AUTO` without AS here",
    );
    check(
        "SELECT * FROM exec AS a LEFT JOIN exit AS b ON true",
        "5:37",
        join,
    );
    check("SELECT * FROM exec AS a CROSS JOIN exit AS b", "5:38", join);
    check(
        "SELECT * FROM exec AS a JOIN exit AS b USING (x)",
        "5:32",
        join,
    );
    check("SELECT * FROM exec AUTO", "5:22", "`AUTO` without AS here");
    check(
        "SELECT * FROM (SELECT * FROM exec) x",
        "5:18",
        "a subquery or function in FROM",
    );
    check(
        "SELECT * FROM exec('x')",
        "5:17",
        "anything but a stream's name in FROM",
    );
    check(
        "SELECT * FROM exec\nGROUP BY ALL",
        "6:3",
        "GROUP BY ALL or with a modifier",
    );
    check(
        "SELECT * FROM exec ORDER BY process.pid",
        "5:31",
        "ORDER BY",
    );
    check("SELECT * FROM exec LIMIT 5", "5:28", "LIMIT or OFFSET");
    check("SELECT * FROM exec OFFSET 5", "5:22", "LIMIT or OFFSET");
    check("SELECT * FROM exec FETCH FIRST 1 ROW ONLY", "5:22", "FETCH");
    check("SELECT * FROM exec FOR UPDATE", "5:22", "FOR");
    check(
        "SELECT * FROM exec\nWINDOW w AS ()",
        "6:3",
        "WINDOW or QUALIFY",
    );
    check(
        "SELECT process.pid FROM exec WHERE substring(process.name FOR 3) = 'FOR' FOR UPDATE",
        "5:76",
        "FOR",
    );
    check(
        "SELECT * FROM exec UNION SELECT * FROM exec",
        "5:22",
        "UNION",
    );
    check("SELECT process.* FROM exec", "5:18", "a qualified *");
    check(
        "SELECT lower(process.name) FROM exec",
        "5:10",
        "an expression without a name (AS …)",
    );
}

/// The parser said that it had expected the end.
#[test]
fn nesting_that_is_too_deep_is_called_so() {
    let check = |before: &str, after: &str, most: usize| {
        let errors = |times: usize| {
            let condition = format!("{}TRUE{}", before.repeat(times), after.repeat(times));
            errors_of(&in_a_rule(&format!(
                "SELECT process.pid FROM exec WHERE {condition}"
            )))
        };
        for times in [most + 1, 200] {
            let errors = errors(times);
            let error = &errors[0];
            assert!(
                error.contains("nesting exceeds the limit of 50 levels"),
                "{error}"
            );
            assert!(!error.contains(":5:3:"), "{error}");
        }
        assert!(!errors(most).iter().any(|error| error.contains("SQL: ")));
    };
    // Unoptimized, the parser needs more stack than a test has.
    let stack = std::thread::Builder::new().stack_size(32 << 20);
    let checked = stack.spawn(move || {
        check("NOT ", "", 46);
        check("(", ")", 46);
        check("CASE WHEN ", " THEN TRUE END", 23);
        check("CASE WHEN TRUE THEN TRUE ELSE ", " END", 23);
    });
    checked.unwrap().join().unwrap();
}

#[test]
fn groups_need_a_window_and_windows_have_bounds() {
    let check_by = |group_by: &str, expected: &str| {
        check(&format!("SELECT count(*) FROM exec\n{group_by}"), expected);
    };
    let needed = "GROUP BY needs a window, such as TUMBLE(event.time, INTERVAL '1' MINUTE)";
    check_by("GROUP BY process.uid", &format!("6:12: {needed}"));
    check_by("HAVING count(*) > 1", &format!("6:10: {needed}"));
    check(
        "SELECT count(*) FROM exec",
        "5:10: count() is for SELECT and HAVING of a rule with GROUP BY and a window, such as \
         TUMBLE(event.time, INTERVAL '1' MINUTE)",
    );
    check_by(
        "GROUP BY TUMBLE(event.time, INTERVAL '2' DAY)",
        "6:40: window exceeds the limit of 24 hours",
    );
    check_by(
        "GROUP BY TUMBLE(event.time, INTERVAL '0' DAY)",
        "6:40: a window cannot be empty",
    );
    check_by(
        "GROUP BY TUMBLE(event.time, INTERVAL '1' MONTH)",
        "6:40: an interval is written INTERVAL '10' SECOND; units are NANOSECOND, MICROSECOND, \
         MILLISECOND, SECOND, MINUTE, HOUR, DAY",
    );
    check_by(
        "GROUP BY TUMBLE(event.time, 60)",
        "6:31: a length of time is written INTERVAL '1' MINUTE",
    );
    check_by(
        "GROUP BY TUMBLE(process.pid, INTERVAL '1' DAY)",
        "6:12: wrong arguments; usage: TUMBLE(event.time, size)",
    );
    check_by(
        "GROUP BY HOP(event.time, INTERVAL '1' DAY)",
        "6:12: wrong arguments; usage: HOP(event.time, slide, size)",
    );
    check_by(
        "GROUP BY HOP(event.time, INTERVAL '2' HOUR, INTERVAL '3' HOUR)",
        "6:12: the size of HOP(event.time, slide, size) is a multiple of its slide",
    );
    check_by(
        "GROUP BY HOP(event.time, INTERVAL '1' SECOND, INTERVAL '2' MINUTE)",
        "6:12: size of HOP exceeds the limit of 60 slides",
    );
    check_by(
        "GROUP BY SLIDING(event.time, INTERVAL '1' HOUR), TUMBLE(event.time, INTERVAL '1' HOUR)",
        "6:52: a rule has one window only",
    );
    check_by(
        "GROUP BY 1, TUMBLE(event.time, INTERVAL '1' HOUR)",
        "6:12: GROUP BY names a column or an expression, not a number or text",
    );
    let usage = "6:12: wrong arguments; usage: TUMBLE(event.time, size)";
    check_by(
        "GROUP BY TUMBLE(DISTINCT event.time, INTERVAL '1' DAY)",
        usage,
    );
    check_by(
        "GROUP BY TUMBLE(event.time, INTERVAL '1' DAY) FILTER (WHERE TRUE)",
        usage,
    );
    check_by(
        "GROUP BY TUMBLE(event.time, INTERVAL '1' DAY) OVER ()",
        usage,
    );
    check_by(
        "GROUP BY process.args, TUMBLE(event.time, INTERVAL '1' HOUR)",
        "6:12: events cannot be grouped by an array",
    );
}

#[test]
fn joined_streams_need_names_a_time_and_something_in_common() {
    let both = "SELECT a.process.pid FROM exec AS a JOIN exit AS b ON\n";
    let same = "a.process.pid = b.process.pid";
    let time = "b.event.time BETWEEN a.event.time AND a.event.time + INTERVAL '1' SECOND";
    let check_on = |condition: &str, expected: &str| check(&format!("{both}{condition}"), expected);
    check_file(&in_a_rule(&format!("{both}{same} AND {time}")), &[]);
    check_file(&in_a_rule(&format!("{both}{same} WHERE {time}")), &[]);
    let needs_time = "5:44: `b` needs a time: b.event.time BETWEEN a.event.time AND a.event.time + INTERVAL '10' SECOND";
    check_on(same, needs_time);
    check_on(
        &format!("{same} AND b.event.time <= a.event.time + INTERVAL '1' SECOND"),
        needs_time,
    );
    check_on(
        &format!("{same} AND b.event.time >= a.event.time"),
        needs_time,
    );
    check_on(
        time,
        "5:44: `b` needs something in common with an earlier stream, such as \
         b.process.entity_id = a.process.entity_id",
    );
    check_on(
        &format!(
            "{same} AND a.event.time BETWEEN b.event.time AND b.event.time + INTERVAL '1' SECOND"
        ),
        "6:37: `a` is first in FROM, so `b` must come after it",
    );
    check_on(
        &format!(
            "{same} AND b.event.time BETWEEN a.event.time AND a.event.time + INTERVAL '25' HOUR"
        ),
        "6:37: time between events exceeds the limit of 24 hours",
    );
    check_on(
        &format!("{time} AND {same} AND a.process.pid < b.process.ppid"),
        "6:114: a condition other than an equality or a length of time on values from several \
         streams is not supported in rules",
    );
    check_on(
        &format!("{time} AND {same} AND process.pid = 1"),
        "6:114: of which stream is `process.pid`? Write `a.process.pid`",
    );
    check_on(
        &format!("{time} AND {same} AND c.process.pid = 1"),
        "6:114: unknown column `c.process.pid` (did you mean `a.process.pid`?)",
    );
    check_on(
        &format!("{time} AND {same} AND b.process.uid = 1"),
        "6:114: column `process.uid` does not exist in stream `exit` (only in exec, failed_exec)",
    );
    check_on(
        &format!("{time} AND a.process.pid = b.process.name"),
        "6:80: integer cannot be compared with text",
    );
    check_on(
        &format!("{time} AND {same} GROUP BY TUMBLE(a.event.time, INTERVAL '1' HOUR)"),
        "6:119: GROUP BY or HAVING with JOIN is not supported in rules",
    );
    let names = "each stream that is joined needs its own name: exec AS a JOIN exit AS b";
    check(
        "SELECT * FROM exec JOIN exit AS b ON true",
        &format!("5:17: {names}"),
    );
    check(
        "SELECT * FROM exec AS a JOIN exit ON true",
        &format!("5:17: {names}"),
    );
    check(
        "SELECT * FROM exec AS a JOIN exit AS a ON true",
        &format!("5:32: {names}"),
    );
    check(
        "SELECT * FROM exec AS process",
        "5:25: an alias cannot be `process`, with which columns begin",
    );
    let five = "JOIN exec AS b ON true JOIN exec AS c ON true JOIN exec AS d ON true JOIN exec AS e ON true";
    check(
        &format!("SELECT * FROM exec AS a {five}"),
        "5:101: number of streams exceeds the limit of 4",
    );
}

#[test]
fn what_is_counted_is_checked() {
    let check_in = |select: &str, having: &str, expected: &str| {
        let sql = format!(
            "SELECT {select} FROM exec GROUP BY process.uid, SLIDING(event.time, INTERVAL '1' HOUR)\n\
             HAVING {having}"
        );
        check(&sql, expected);
    };
    let all = "count(*)";
    check_in(
        "process.pid",
        "count(*) > 1",
        "5:10: what is selected is in GROUP BY, an aggregate, or any_value(…)",
    );
    let usage = "wrong arguments; usage: percentile(integer, number)";
    for call in [
        "percentile(process.pid)",
        "percentile(process.pid, 101)",
        "percentile(process.pid, 9.5)",
        "percentile(process.pid, process.uid)",
        "percentile(process.name, 50)",
        "percentile(DISTINCT process.pid, 50)",
        "percentile(*)",
    ] {
        check_in(all, &format!("{call} > 1"), &format!("6:10: {usage}"));
    }
    check_in(
        all,
        "median(process.name) > 1",
        "6:10: wrong arguments; usage: median(integer)",
    );
    check_in(
        all,
        "max(process.pid, 5) > 1",
        "6:10: wrong arguments; usage: max(integer)",
    );
    check(
        "SELECT count(*) FROM exec GROUP BY TUMBLE(event.time, INTERVAL '1' HOUR)\nHAVING median(process.pid) > 1",
        "6:10: median() in a window that does not slide is not supported in rules",
    );
    check_in(
        "*",
        "count(*) > 1",
        "5:10: * with GROUP BY is not supported in rules",
    );
    check_in(
        all,
        "process.pid > 1",
        "6:10: HAVING is about aggregates and numbers; a condition on events belongs in WHERE",
    );
    check_in(
        all,
        "count(*)",
        "6:10: HAVING compares aggregates, as in count(*) >= 20",
    );
    check_in(
        all,
        "sum(process.name) > 1",
        "6:10: wrong arguments; usage: sum(integer)",
    );
    check_in(
        all,
        "count(DISTINCT process.args) > 1",
        "6:10: wrong arguments; usage: count(*), count(value), count(DISTINCT value)",
    );
    check_in(
        all,
        "count(process.exe) > 1",
        "6:16: unknown column `process.exe` (did you mean `process.executable`?)",
    );
    check_in(
        all,
        "count(DISTINCT process.name) > 5000",
        "6:10: number of different values exceeds the limit of 4096",
    );
    check_in(
        all,
        "5000 < count(*)",
        "6:10: number of events in a SLIDING window exceeds the limit of 4096",
    );
    check_in(
        all,
        "count(*) % 2 = 0",
        "6:10: operator % here is not supported in rules",
    );
    check_in(
        all,
        "count(*) OVER () > 1",
        "6:10: a clause in the call of count() is not supported in rules",
    );
    check_in(
        all,
        "count(*) > 1.23456789012345678901",
        "6:21: `1.23456789012345678901` is no number of at most 18 digits",
    );
    let many: Vec<String> = (0..9)
        .map(|n| format!("max(process.uid) FILTER (WHERE process.pid = {n})"))
        .collect();
    check_in(
        all,
        &format!("{} > 1", many.join(" + ")),
        "6:410: number of aggregates exceeds the limit of 8",
    );
}

#[test]
fn expressions_that_rules_do_not_have_are_refused_however_deep() {
    let check = |condition, at: &str, what: &str| {
        check_where(
            condition,
            &format!("{at}: {what} is not supported in rules"),
        );
    };
    check("process.pid IN (SELECT 1)", "6:3", "a subquery");
    check("EXISTS (SELECT 1)", "6:11", "a subquery");
    check("process.pid = (SELECT 1)", "6:18", "a subquery");
    check(
        "NOT (process.is_memfd OR (process.pid ^ 1) = 2)",
        "6:29",
        "operator ^",
    );
    check(
        "process.name IN ('a', process.name::text || 'x')",
        "6:25",
        "a cast",
    );
    check(
        "process.pid BETWEEN 1 AND process.pid::int",
        "6:29",
        "a cast",
    );
    check(
        "length(overlay(process.name placing 'x' from 1)) IS NULL",
        "6:18",
        "this kind of expression",
    );
    check(
        "CASE WHEN (SELECT 1) = 1 THEN true END",
        "6:14",
        "a subquery",
    );
    check("process.name LIKE ANY ('x')", "6:3", "LIKE ANY (use OR)");
    check(
        "process.name SIMILAR TO 'x'",
        "6:3",
        "SIMILAR TO (use regexp_like)",
    );
    check(
        "'x' < ANY(process.args)",
        "6:3",
        "ANY other than `value = ANY(array)`",
    );
    check(
        "length(process.name) OVER () > 1",
        "6:3",
        "a clause in the call of length()",
    );
    check("process.args @> 'x'", "6:3", "operator @>");
}

#[test]
fn operands_and_results_are_checked() {
    let check = |condition: &str, expected: &str| check_where(condition, expected);
    check(
        "process.pid + 1",
        "6:3: a condition is expected, but this is integer",
    );
    check(
        "process.name + 1 = 2",
        "6:3: arithmetic needs integers and this is text",
    );
    check(
        "1 & process.is_memfd = 2",
        "6:7: arithmetic needs integers and this is boolean",
    );
    check(
        "process.name || process.pid = 'a'",
        "6:19: || joins texts and this is integer",
    );
    check(
        "CASE WHEN process.pid = 1 THEN 1 ELSE 'a' END = 1",
        "6:3: the results of a CASE are of one type and these are integer and text",
    );
    check(
        "CASE WHEN process.pid = 1 THEN NULL END = 1",
        "6:3: every result of this CASE is NULL",
    );
    check(
        "CASE process.pid WHEN 'a' THEN 1 END = 1",
        "6:25: integer cannot be compared with text",
    );
    check(
        "CASE WHEN process.pid THEN true END",
        "6:13: a condition is expected, but this is integer",
    );
    check(
        "substr(process.name) = 'a'",
        "6:10: wrong arguments; usage: substr(text, from [, count])",
    );
    check(
        "substring(process.name for 2) = 'a'",
        "6:13: wrong arguments; usage: substr(text, from [, count])",
    );
    check(
        "position(1 in process.name) = 1",
        "6:12: wrong arguments; usage: position(part IN text)",
    );
    check(
        "replace(process.name, 'a') = 'a'",
        "6:3: wrong arguments; usage: replace(text, part, by)",
    );
    check(
        "process.name GLOB '[a'",
        "6:21: pattern: a `[` of GLOB is not closed, or a range is empty; `[[]` is a bracket",
    );
    check(
        "process.name GLOB process.comm",
        "6:21: the pattern of GLOB is a 'text'",
    );
    check(
        "process.pid GLOB 'a'",
        "6:3: patterns match text and this is integer",
    );
    check(
        &format!("process.name GLOB '{}'", "a".repeat(1025)),
        "6:21: GLOB pattern exceeds the limit of 1024 bytes",
    );
    check(
        &format!("process.pid = {}1", "1 + ".repeat(40)),
        "6:17: nesting of values exceeds the limit of 16 levels",
    );
    check(
        &format!("process.name = 'a' {}", "|| 'a'".repeat(70)),
        "6:18: number of texts joined exceeds the limit of 64",
    );
    check(
        &format!("process.is_memfd {}", "= process.is_memfd ".repeat(600)),
        "6:3: nesting of conditions in values exceeds the limit of 8 levels",
    );
    check(
        "event.time - INTERVAL '1 eon' > 1",
        "6:25: an interval is written INTERVAL '10' SECOND; units are NANOSECOND, MICROSECOND, \
         MILLISECOND, SECOND, MINUTE, HOUR, DAY",
    );
}

#[test]
fn names_are_checked_and_the_nearest_is_offered() {
    let check = |condition, expected: &str| check_where(condition, expected);
    check(
        "process.exe = '/bin/sh'",
        "6:3: unknown column `process.exe` (did you mean `process.executable`?)",
    );
    check(
        "pid = 1",
        "6:3: unknown column `pid` (did you mean `process.pid`?)",
    );
    check(
        "process.file_caps",
        "6:3: unknown column `process.file_caps` (did you mean `process.has_file_caps`?)",
    );
    check(
        "process.env IS NULL",
        "6:3: unknown column `process.env` (did you mean `process.environment`?)",
    );
    check(
        "process.errno = 2",
        "6:3: column `process.errno` does not exist in stream `exec` (only in failed_exec)",
    );
    check("process.is_memfd\n  AND foo", "7:9: unknown column `foo`");
    check(
        "(load_extension('x'))",
        "6:4: unknown function `load_extension`",
    );
    check(
        "process.name IN (eval('y'))",
        "6:20: unknown function `eval`",
    );
    check(
        "process.pid IS NULL OR lowr(process.name) = 'x'",
        "6:26: unknown function `lowr` (did you mean `lower`?)",
    );
    check(
        "process.exit_code = 1",
        "6:3: column `process.exit_code` does not exist in stream `exec` (only in exit)",
    );
    check(
        "process.name = \"sh\"",
        "6:18: \"sh\" is a column name in SQL; text is 'sh'",
    );
}

#[test]
fn streams_are_checked_and_the_nearest_is_offered() {
    check(
        "SELECT * FROM execs",
        "5:17: unknown stream `execs` (did you mean `exec`?)",
    );
    check(
        "SELECT * FROM a.exit",
        "5:17: unknown stream `a.exit` (did you mean `exit`?)",
    );
    check(
        "SELECT * FROM failed_execs",
        "5:17: unknown stream `failed_execs` (did you mean `failed_exec`?)",
    );
    check(
        "SELECT * FROM hashes",
        "5:17: unknown stream `hashes` (did you mean `hashed`?)",
    );
}

#[test]
fn types_are_checked() {
    let check = |condition, expected: &str| check_where(condition, expected);
    check(
        "process.uid LIKE 'x'",
        "6:3: patterns match text and this is integer",
    );
    check(
        "process.name = 5",
        "6:18: text cannot be compared with integer",
    );
    check(
        "process.uid IN (0, 'root')",
        "6:22: integer cannot be compared with text",
    );
    check(
        "process.name",
        "6:3: a condition is expected, but this is text",
    );
    check(
        "process.is_memfd > FALSE",
        "6:3: booleans have no order; use = or <>",
    );
    check(
        "process.args = 'x'",
        "6:18: an array cannot be compared; use 'text' = ANY(array)",
    );
    check(
        "process.args LIKE 'x'",
        "6:3: patterns match text and this is text[]; use any_like(…)",
    );
    check(
        "'x' = ANY(process.name)",
        "6:13: ANY needs an array and this is text",
    );
    check(
        "5 = ANY(process.args)",
        "6:3: the array holds text and this is integer",
    );
    check(
        "process.name = NULL",
        "6:18: nothing equals NULL; use IS NULL or IS NOT NULL",
    );
    check(
        "process.name NOT IN ('a', NULL)",
        "6:29: nothing equals NULL; use IS NULL or IS NOT NULL",
    );
    check(
        "process.args[0] = 'x'",
        "6:3: the position in an array is a number from 1",
    );
    check("process.pid = 1.5", "6:17: `1.5` is no 64-bit integer");
    check(
        "process.pid = 99999999999999999999",
        "6:17: `99999999999999999999` is no 64-bit integer",
    );
    check(
        "lower(process.pid) = 'x'",
        "6:3: wrong arguments; usage: lower(text)",
    );
    check(
        "starts_with(process.name)",
        "6:3: wrong arguments; usage: starts_with(text, part)",
    );
    check(
        "coalesce(process.name, 1) = 'x'",
        "6:3: wrong arguments; usage: coalesce(value, …)",
    );
    check(
        "contains(process.name, 'a') = 'x'",
        "6:33: boolean cannot be compared with text",
    );
}

#[test]
fn patterns_are_checked() {
    let check = |condition, expected: &str| check_where(condition, expected);
    check("process.name ~ '('", "6:18: pattern: unclosed group");
    check(
        "regexp_like(process.name, '(?=a)')",
        "6:3: pattern: look-around, including look-ahead and look-behind, is not supported",
    );
    check(
        "process.name ~ '(a{1000}){1000}'",
        "6:18: compiled regular expression exceeds the limit of 1048576 bytes",
    );
    check(
        "process.name LIKE 'a!' ESCAPE '!'",
        "6:21: pattern: the escape character is followed by neither %, _ nor itself",
    );
    check(
        "process.name LIKE process.comm",
        "6:21: the pattern of LIKE is a 'text'",
    );
}

#[test]
fn syntax_errors_have_a_place_at_the_end_too() {
    check("SELECT", "5:9: SQL: expected an expression, found the end");
    check(
        "SELECT FROM exec",
        "5:3: SQL: expected columns after SELECT",
    );
    check(
        "SELECT *",
        "5:3: SQL: expected FROM and one stream of exec, fork, exit, failed_exec, hashed, lost",
    );
    check(
        "SELECT * FROM exec, fork",
        "5:23: SQL: expected FROM and one stream of exec, fork, exit, failed_exec, hashed, lost",
    );
    check(
        "SELECT process.pid FROM",
        "5:26: SQL: expected identifier, found the end",
    );
    check(
        "SELECT * FROM exec\nWHERE  ",
        "6:8: SQL: expected an expression, found the end",
    );
    check(
        "SELECT * FROM exec WHERE process.name = 'sh",
        "5:43: SQL: unterminated string literal",
    );
    check(
        "SELECT * FROM exec a b",
        "5:24: SQL: expected the end of the statement, found b",
    );
}

#[test]
fn every_error_of_every_rule_is_reported() {
    let bad = "SELECT process.pidd, a FROM exec\nWHERE b AND process.uid = 'x' AND lower()= 'x'";
    let text = format!(
        "{}---\nid: x\ntitle: ''\nlevel: huge\nsql: DROP\n",
        in_a_rule(bad)
    );
    check_file(
        &text,
        &[
            "5:10: unknown column `process.pidd` (did you mean `process.pid`?)",
            "5:24: unknown column `a`",
            "6:9: unknown column `b`",
            "6:29: integer cannot be compared with text",
            "6:37: wrong arguments; usage: lower(text)",
            "9:8: `title` is empty",
            "10:8: `level` is `huge`; one of informational, low, medium, high, critical is expected",
            "11:6: a rule is exactly one SELECT statement; found DROP",
        ],
    );
}

#[test]
fn files_of_the_wrong_shape_are_refused() {
    let head = "id: x\ntitle: X\nlevel: low\n";
    check_file("- a", &["1:1: keys and values are expected"]);
    check_file("id: x", &["1:1: missing field `title`"]);
    check_file("id: x\nid: y\n", &["2:1: duplicate mapping key: id"]);
    check_file("id: [x\n", &["1:5: text is expected"]);
    check_file(&format!("{head}sql:\n"), &["4:4: a value is expected"]);
    check_file(&format!("{head}tags: x\n"), &["4:7: a list is expected"]);
    check_file(
        &format!("{head}sql: ''\n"),
        &["4:7: a rule is exactly one SELECT statement; found nothing"],
    );
    check_file(
        &format!("{head}sqll: x\n"),
        &[
            "4:1: unknown field `sqll`, expected one of id, title, description, level, tags, \
           references, falsepositives, sql, dedup, exceptions, tests",
        ],
    );
    let id = "id: a b\ntitle: X\nlevel: low\nsql: SELECT * FROM exec\n";
    check_file(
        id,
        &["1:5: `id` must be 1 to 128 letters, digits, `-`, `_` or `.`, all ASCII"],
    );
    let rule = format!("{head}sql: SELECT * FROM exec\n");
    check_file(
        &format!("{rule}---\n{rule}"),
        &["6:5: rule id `x` is already used at r.yaml:1:5"],
    );
}

#[test]
fn tests_of_rules_are_checked() {
    let with = |stream: &str, test: &str| {
        format!(
            "id: x\ntitle: X\nlevel: low\nsql: SELECT * FROM {stream}\ntests:\n  fires:\n    - {test}\n"
        )
    };
    check_file(
        &with("exec", "{exe: /bin/sh, exit_code: 1}"),
        &["7:7: `tests` has `exit_code`, which means nothing in stream `exec`"],
    );
    check_file(
        &with("exec", "{sha256: abc}"),
        &["7:7: `tests` has a `sha256` that is not 64 hexadecimal digits"],
    );
    check_file(
        &with("exec", "{uid: -1}"),
        &["7:13: a number from 0 to 4294967295 is expected"],
    );
    check_file(
        &with("lost", "{class: x}"),
        &["7:7: `tests` has the unknown class `x`"],
    );
    check_file(
        &with("hashed", "{errno: 2}"),
        &["7:7: `tests` has `errno`, which means nothing in stream `hashed`"],
    );
    check_file(
        &with("failed_exec", "{cwd: /}"),
        &["7:7: `tests` has `cwd`, which means nothing in stream `failed_exec`"],
    );
    check_file(
        &with("hashed", "{hash_failure: lost}"),
        &["7:7: `tests` has the unknown hash failure `lost`"],
    );
    check_file(
        &with("hashed", "{hash_failure: gone, exe_changed: false}"),
        &["7:7: `tests` has `hash_failure` and a digest"],
    );
    check_file(
        &with("exit", "{status_unknown: true, exit_code: 0}"),
        &["7:7: `tests` has `status_unknown` and a status"],
    );
    let unknown = errors_of(&with("exec", "{exe: /bin/sh, agrs: [x]}"));
    assert!(unknown[0].starts_with("r.yaml:7:22: unknown field `agrs`, expected one of name,"));
}

#[test]
fn places_are_those_of_the_file_in_every_kind_of_scalar() {
    let head = "id: x\ntitle: X\nlevel: low\n";
    let check = |scalar: &str, at: &str| {
        let expected = format!("{at}: unknown column `x`");
        check_file(&format!("{head}sql: {scalar}\n"), &[&expected]);
    };
    check("SELECT * FROM exec WHERE x", "4:31");
    check("\"SELECT * FROM exec WHERE x\"", "4:32");
    check("'SELECT * FROM exec WHERE x'", "4:32");
    check("\n    SELECT *\n    FROM exec\n    WHERE x", "7:11");
    check(
        ">-\n\n    SELECT *\n    FROM exec\n\n    WHERE\n      x",
        "10:7",
    );
    check("|2-\n\n    SELECT *\n  FROM exec WHERE x", "7:19");
    check(
        "|\n  -- ünï 'é'\n  SELECT 'é' AS a FROM exec WHERE x",
        "6:35",
    );
    // Escapes: at least the line of the scalar.
    check(
        "'SELECT * FROM exec WHERE process.name = ''y'' AND x'",
        "4:6",
    );
}

#[test]
fn sizes_are_bounded() {
    let many = |count: usize, part: &str, join: &str| vec![part; count].join(join);
    check_where(
        &many(513, "process.is_memfd", " OR "),
        "6:10243: number of conditions exceeds the limit of 512",
    );
    check_file(
        &in_a_rule(&format!(
            "SELECT * FROM exec WHERE {}",
            many(512, "process.is_memfd", " OR ")
        )),
        &[],
    );
    check_where(
        &many(17_000, "", "("),
        "6:4092: SQL text exceeds the limit of 4096 words",
    );
    check_where(
        &many(60, "", "("),
        "6:49: nesting exceeds the limit of 50 levels",
    );
    check_where(
        &format!("process.pid = {}", "1+".repeat(20_000)),
        "5:3: SQL text exceeds the limit of 32768 bytes",
    );
    let chain = format!("process.pid = {}1", "1+".repeat(2_000));
    check_where(
        &chain,
        "6:17: nesting of values exceeds the limit of 16 levels",
    );
    let chain = format!("process.pid = 1{}", "::int".repeat(2_000));
    assert_eq!(
        errors_of(&in_a_rule(&format!("SELECT * FROM exec WHERE {chain}"))).len(),
        1
    );
    let chain = format!("process.pid = 1{}", " IS NULL".repeat(1_000));
    assert_eq!(
        errors_of(&in_a_rule(&format!("SELECT * FROM exec WHERE {chain}"))).len(),
        1
    );
    let unions = many(500, "SELECT 1", " UNION ");
    assert_eq!(errors_of(&in_a_rule(&unions)).len(), 1);
    check_where(
        &format!("process.name LIKE '{}'", "x".repeat(1025)),
        "6:21: LIKE pattern exceeds the limit of 1024 bytes",
    );
    let large = "#".repeat((1 << 20) + 1);
    check_file(
        &large,
        &["1:1: rule file exceeds the limit of 1048576 bytes"],
    );
}
