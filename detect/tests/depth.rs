//! No rule is so deep that it takes more than the stack of a thread, 2 MiB, optimized or not.

use detect::{ErrorKind, Matcher, RuleSet, Source};

/// What a thread has that nobody gives more.
const STACK_BYTES: usize = 2 << 20;

fn on_a_thread(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    thread.spawn(test).unwrap().join().unwrap();
}

/// Compiles and drops a rule file; what is wrong with it, or a matcher has seen it through.
fn see_through(text: &str) -> Option<ErrorKind> {
    let source = Source {
        file: "r.yml",
        text,
    };
    match RuleSet::compile(&[source]) {
        Ok(rules) => {
            if let Some(error) = rules.report().rejected.first() {
                return Some(error.kind.clone());
            }
            for rule in rules.rules() {
                let _ = detect::sigma::to_sql(rule);
            }
            let mut matcher = Matcher::new(rules.into());
            matcher.on_event(&event(), 0, &mut Vec::new());
            None
        }
        Err(errors) => Some(errors[0].kind.clone()),
    }
}

fn event() -> event::Event {
    let process = event::Process {
        exe: "/bin/x".into(),
        argv: ["x"].into_iter().collect(),
        ..event::Process::default()
    };
    event::Event {
        header: event::Header::default(),
        kind: event::EventKind::Exec(Box::new(event::Exec {
            process,
            old_tid: None,
        })),
    }
}

fn sql_rule(condition: &str) -> String {
    format!(
        "id: r\ntitle: R\nlevel: low\nsql: >\n  SELECT process.pid FROM exec WHERE {condition}\n"
    )
}

/// A part so often before and after the innermost one.
fn nested(depth: usize, before: &str, inner: &str, after: &str) -> String {
    format!("{}{inner}{}", before.repeat(depth), after.repeat(depth))
}

/// Around the limit of 50 levels, at it, and far beyond it.
const DEPTHS: [usize; 8] = [1, 10, 22, 40, 45, 46, 100, 1900];

fn sql(before: &'static str, inner: &'static str, after: &'static str) {
    on_a_thread(move || {
        for depth in DEPTHS {
            see_through(&sql_rule(&nested(depth, before, inner, after)));
        }
    });
}

#[test]
fn sql_conditions_in_each_other() {
    let (yes, text) = ("process.is_memfd", "process.name");
    sql("NOT ", yes, "");
    sql("(", yes, ")");
    sql("NOT (", yes, ")");
    sql("(", yes, ") IS TRUE");
    sql("", yes, " IS TRUE");
    sql("", "TRUE", " OR TRUE");
    sql("TRUE AND ", "TRUE", "");
    sql("", text, " IS NULL");
    sql("(", text, " = 'x' AND process.is_memfd OR TRUE) AND TRUE");
    sql("FALSE OR (TRUE AND ", yes, ")");
    sql("TRUE IN (", yes, ")");
    sql("TRUE BETWEEN FALSE AND ", "TRUE", "");
}

#[test]
fn sql_values_in_each_other() {
    sql("CASE WHEN ", "process.is_memfd", " THEN TRUE END");
    sql("CASE WHEN TRUE THEN ", "TRUE", " END");
    sql("CASE WHEN TRUE THEN FALSE ELSE ", "TRUE", " END");
    sql("CASE ", "TRUE", " WHEN TRUE THEN TRUE END");
    sql("lower(", "process.name", ")");
    sql("coalesce(NULL, ", "process.is_memfd", ")");
    sql("- ", "process.pid", " = 1");
    sql("1 = 1 + ", "process.pid", "");
    sql("", "1", " + 1");
    sql("", "'a'", " || 'a'");
    sql("~ ", "1", "");
    sql("trim(BOTH 'a' FROM ", "process.name", ")");
    sql("CAST(", "process.pid", " AS integer)");
    sql("", "process.pid", "::integer");
    sql("", "process.args", "[1]");
    sql("process.args[", "1", "]");
    sql("ARRAY[", "1", "]");
    sql("INTERVAL ", "'1' SECOND", "");
    sql("(SELECT ", "1", ")");
    sql("EXISTS (SELECT 1 WHERE ", "TRUE", ")");
    sql("'x' = ANY(", "process.args", ")");
    sql("(((1, 2), ", "1", "), 2)");
    sql("CAST(1 AS STRUCT<a ", "INT", ">)");
    sql("{a: ", "1", "}");
}

#[test]
fn sql_statements_in_each_other() {
    let whole = |before: &'static str, inner: &'static str, after: &'static str| {
        on_a_thread(move || {
            for depth in DEPTHS {
                let sql = nested(depth, before, inner, after);
                let rule = format!("id: r\ntitle: R\nlevel: low\nsql: >\n  {sql}\n");
                see_through(&rule);
            }
        });
    };
    whole("SELECT process.pid FROM (", "exec", ")");
    whole("SELECT (", "1", ") FROM exec");
    whole("(", "SELECT process.pid FROM exec", ")");
    whole(
        "",
        "SELECT process.pid FROM exec",
        " UNION SELECT 1 FROM exec",
    );
    whole("WITH a AS (", "SELECT 1", ") SELECT 1");
    let having = "SELECT count(*) FROM exec GROUP BY TUMBLE(event.time, INTERVAL '1' HOUR) HAVING ";
    for (before, after) in [
        ("NOT ", ""),
        ("(", ")"),
        ("1 < 1 + ", ""),
        ("", " AND 1 = 1"),
    ] {
        on_a_thread(move || {
            for depth in DEPTHS {
                let sql = nested(depth, before, "count(*) > 1", after);
                see_through(&format!(
                    "id: r\ntitle: R\nlevel: low\nsql: >\n  {having}{sql}\n"
                ));
            }
        });
    }
}

#[test]
fn exceptions_of_rules_in_each_other() {
    on_a_thread(|| {
        for depth in DEPTHS {
            let when = nested(depth, "NOT ", "process.is_memfd", "");
            let rule = sql_rule("TRUE");
            see_through(&format!(
                "{rule}exceptions:\n  - name: x\n    when: {when}\n"
            ));
        }
    });
}

/// What is allowed is not refused for want of stack.
#[test]
fn fifty_levels_less_those_of_the_statement_are_allowed() {
    on_a_thread(|| {
        for (before, after) in [("NOT ", ""), ("(", ")")] {
            let rule = |depth| sql_rule(&nested(depth, before, "process.is_memfd", after));
            assert!(see_through(&rule(46)).is_none());
            let refusal = see_through(&rule(47));
            assert!(
                matches!(
                    &refusal,
                    Some(ErrorKind::Limit {
                        what: "nesting",
                        ..
                    })
                ),
                "{refusal:?}"
            );
        }
    });
}

fn sigma_rule(selection: &str, condition: &str) -> String {
    format!(
        "title: T\nlogsource: {{category: process_creation}}\ndetection:\n  a: {selection}\n  \
         condition: {condition}\n"
    )
}

#[test]
fn sigma_conditions_in_each_other() {
    let condition = |before: &'static str, after: &'static str| {
        on_a_thread(move || {
            for depth in DEPTHS {
                let condition = nested(depth, before, "a", after);
                see_through(&sigma_rule("{Image: x}", &condition));
            }
        });
    };
    condition("not ", "");
    condition("(", ")");
    condition("not (a and ", ")");
    condition("a or (a and ", ")");
    condition("", " and a");
}

#[test]
fn yaml_in_each_other() {
    let value = |before: &'static str, after: &'static str| {
        on_a_thread(move || {
            for depth in [1, 10, 60, 100, 500, 2000, 100_000] {
                let value = nested(depth, before, "x", after);
                see_through(&sigma_rule(&value, "a"));
                see_through(&format!(
                    "{}related: {value}\n",
                    sigma_rule("{Image: x}", "a")
                ));
                see_through(&sql_rule("TRUE").replace("title: R", &format!("title: {value}")));
                see_through(&format!("{}tests:\n  fires: {value}\n", sql_rule("TRUE")));
                see_through(&value);
            }
        });
    };
    value("[", "]");
    value("{a: ", "}");
    value("[{a: ", "}]");
    value("{Image|contains: ", "}");
    value("? ", "");
    value("- ", "");
    value("!!x ", "");
    value("&a [", ", *a]");
}

#[test]
fn expressions_in_each_other() {
    let expression = |before: &'static str, after: &'static str| {
        on_a_thread(move || {
            for depth in [1, 20, 49, 50, 99, 100, 1000] {
                let text = nested(depth, before, "x", after);
                see_through(&sigma_rule(&format!("{{Image|re: '{text}'}}"), "a"));
                see_through(&sql_rule(&format!("process.name ~ '{text}'")));
            }
        });
    };
    expression("(", ")");
    expression("(?:", "){1}");
    expression("[", "]");
    expression("[^a&&[^b", "]]");
    expression("", "|x");
    expression("(x|", "y)*");
}

/// Aliases stand for what is as deep as the limit, and for others of them.
#[test]
fn yaml_of_aliases_in_each_other() {
    on_a_thread(|| {
        for levels in [1, 20, 28] {
            for links in [1, 5, 40, 60] {
                let mut text = format!("a0: &a0 {}\n", nested(levels, "[", "x", "]"));
                for link in 1..links {
                    let before = format!("*a{} ", link - 1);
                    let value = nested(levels, "[", &before, "]");
                    text += &format!("a{link}: &a{link} {value}\n");
                }
                see_through(&format!("{text}{}", sigma_rule("{Image: x}", "a")));
                see_through(&format!("{text}{}", sql_rule("TRUE")));
            }
        }
    });
}

#[test]
fn what_is_too_deep_in_yaml_is_said() {
    on_a_thread(|| {
        let rule = |depth| {
            let value = nested(depth, "[", "x", "]");
            format!("{}related: {value}\n", sigma_rule("{Image: x}", "a"))
        };
        assert!(see_through(&rule(31)).is_none());
        let refusal = see_through(&rule(32)).unwrap().to_string();
        assert_eq!(
            refusal,
            "lists and maps in each other exceed the limit of 32 levels"
        );
    });
}
