//! Any text is a Sigma rule that can be matched, explained and converted, or an error with a place
//! in it. A converted rule is a rule, unless it is longer than rules may be.

#![no_main]

use std::sync::Arc;

use detect::sigma::{sysmon, to_sql};
use detect::{Matcher, RuleSet, Source};
use libfuzzer_sys::fuzz_target;

const EVENT: &str = r#"{"Image": "C:\\a.exe", "CommandLine": "a.exe -b /c", "User": "x",
    "ProcessId": 7, "LogonId": "0x3e7", "UtcTime": "2024-12-30 23:05:59.100"}"#;

fuzz_target!(|text: &str| {
    let whole = format!(
        "title: X\nlogsource: {{category: process_creation}}\ndetection:\n  {}\n",
        text.replace('\n', "\n  ")
    );
    let item = format!(
        "title: X\nlogsource: {{category: process_creation}}\ndetection:\n  s:\n    {}\n  \
         condition: s\n",
        text.replace('\n', "\n    ")
    );
    let event = sysmon::event(EVENT).expect("it is one");
    for text in [text, &whole, &item] {
        let Ok(rules) = RuleSet::compile(&[Source {
            file: "f.yml",
            text,
        }]) else {
            continue;
        };
        for error in &rules.report().rejected {
            assert!(!error.to_string().contains('\n'));
            assert!(error.place.line >= 1 && error.place.column >= 1);
        }
        for rule in rules.rules() {
            let _ = detect::explain(rule, &event);
            let Some(sql) = to_sql(rule).yaml else {
                continue;
            };
            let converted = RuleSet::compile(&[Source {
                file: "f.yaml",
                text: &sql,
            }]);
            if let Err(errors) = converted {
                let error = errors[0].to_string();
                assert!(
                    error.contains("exceeds the limit") || error.contains("pattern"),
                    "{error}\n{sql}"
                );
            }
        }
        let mut findings = Vec::new();
        Matcher::new(Arc::new(rules)).on_event(&event, 0, &mut findings);
    }
});
