//! Small detections with what they find, derived from Sigma's specification; `testdata/sigma/README.md`
//! says how.

use std::collections::BTreeMap;
use std::sync::Arc;

use detect::sigma::sysmon;
use detect::{Matcher, Options, RuleSet, Source};
use serde::Deserialize;
use serde_json::{Map, Value};

const ROWS: &str = include_str!("../testdata/sigma/rows.ndjson");
/// Lines of a rule before those of its detection, which is indented by two.
const HEAD: &str = "title: R\nid: r\nlogsource: {category: process_creation}\ndetection:\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    claim: String,
    detection: String,
    #[serde(default)]
    lists: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    fires: Vec<Map<String, Value>>,
    #[serde(default)]
    silent: Vec<Map<String, Value>>,
    /// Line and column in the detection, and the message.
    rejected: Option<String>,
}

impl Row {
    fn load(&self) -> RuleSet {
        let lines = self.detection.lines().map(|line| format!("  {line}\n"));
        let text = format!("{HEAD}{}", lines.collect::<String>());
        let source = Source {
            file: "r.yml",
            text: &text,
        };
        let options = Options {
            host: None,
            lists: self.lists.clone().into_iter().collect(),
        };
        RuleSet::load(&[source], &options).unwrap()
    }

    /// What the rule is rejected for, placed in the detection.
    fn errors(&self) -> Vec<String> {
        let rules = self.load();
        let head = u64::try_from(HEAD.lines().count()).unwrap();
        let show = |error: &detect::Error| {
            let place = error.place;
            format!("{}:{}: {}", place.line - head, place.column, error.kind)
        };
        rules.report().rejected.iter().map(show).collect()
    }

    fn finds(&self, event: &Map<String, Value>) -> bool {
        let mut event = event.clone();
        let image = event.entry("Image");
        image.or_insert_with(|| r"C:\d\x.exe".into());
        let event = sysmon::from_value(&Value::Object(event)).unwrap();
        let mut findings = Vec::new();
        Matcher::new(Arc::new(self.load())).on_event(&event, 7, &mut findings);
        !findings.is_empty()
    }
}

#[test]
fn detections_find_what_the_specification_says() {
    for line in ROWS.lines() {
        let row: Row = serde_json::from_str(line).unwrap();
        let claim = &row.claim;
        let rejected: Vec<String> = row.rejected.clone().into_iter().collect();
        assert_eq!(row.errors(), rejected, "{claim}");
        let fires = row.fires.iter().map(|event| (event, true));
        let silent = row.silent.iter().map(|event| (event, false));
        for (event, expected) in fires.chain(silent) {
            assert_eq!(row.finds(event), expected, "{claim}: {event:?}");
        }
    }
}
