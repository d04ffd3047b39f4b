//! Any text is a rule file or an error with a place in it.

#![no_main]

use detect::{RuleSet, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let in_a_rule = format!(
        "id: x\ntitle: X\nlevel: low\nsql: |\n  SELECT * FROM exec WHERE {}\n",
        text.replace('\n', "\n  ")
    );
    for text in [text, &in_a_rule] {
        for error in RuleSet::compile(&[Source { file: "f", text }]).err().into_iter().flatten() {
            assert!(!error.to_string().contains('\n'));
            assert!(error.place.line >= 1 && error.place.column >= 1);
        }
    }
});
