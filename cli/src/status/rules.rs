//! Which rules are loaded, and how the last attempt to load them went.

use std::sync::{Mutex, MutexGuard, PoisonError};

use detect::RuleSet;
use event::WallTime;
use serde_json::{Value, json};

use super::now;
use crate::exit::rule_error;
use crate::stats::ms;

/// Errors that are told one by one.
const TOLD: usize = 16;

/// The rules of a daemon, as its status tells of them.
pub(crate) struct RulesState(Mutex<Told>);

struct Told {
    /// What is loaded.
    set: Value,
    loaded: WallTime,
    reloads: u64,
    failed: u64,
    /// The last attempt, with what went wrong.
    last: Option<(WallTime, Result<(), Value>)>,
    /// Why changes of the files are not seen.
    unwatched: Option<String>,
}

impl RulesState {
    /// Of the set that the daemon starts with.
    pub(crate) fn new(rules: &RuleSet) -> Self {
        Self(Mutex::new(Told {
            set: described(rules),
            loaded: now(),
            reloads: 0,
            failed: 0,
            last: None,
            unwatched: None,
        }))
    }

    /// Takes what became of an attempt to load them anew.
    pub(crate) fn attempted(&self, outcome: Result<&RuleSet, &agent::Error>) {
        let mut told = self.lock();
        match outcome {
            Ok(rules) => {
                told.set = described(rules);
                told.loaded = now();
                told.reloads += 1;
                told.last = Some((told.loaded, Ok(())));
            }
            Err(error @ agent::Error::RulesUnwatched { .. }) => {
                told.unwatched = Some(error.to_string());
            }
            Err(error) => {
                told.failed += 1;
                told.last = Some((now(), Err(wrong(error))));
            }
        }
    }

    pub(super) fn document(&self) -> Value {
        let told = self.lock();
        let mut document = told.set.clone();
        document["loaded_ms"] = ms(told.loaded).into();
        document["reloads"] = told.reloads.into();
        document["failed_reloads"] = told.failed.into();
        document["unwatched"] = json!(told.unwatched);
        document["last_reload"] = match &told.last {
            None => Value::Null,
            Some((at, Ok(()))) => json!({ "at_ms": ms(*at), "ok": true, "errors": [] }),
            Some((at, Err(wrong))) => {
                let mut document = wrong.clone();
                document["at_ms"] = ms(*at).into();
                document["ok"] = false.into();
                document
            }
        };
        document
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        // Every change sets whole values.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn described(rules: &RuleSet) -> Value {
    let report = rules.report();
    let sigma = rules
        .rules()
        .iter()
        .filter(|rule| rule.provenance.is_some());
    let sigma = sigma.count();
    json!({
        "count": rules.rules().len(),
        "sql": rules.rules().len() - sigma,
        "sigma": sigma,
        "degraded": report.degraded.len(),
        "never": report.degraded.iter().filter(|rule| rule.never).count(),
        "rejected": report.rejected_documents,
        "elsewhere": report.elsewhere.len(),
        "filters": report.filters,
        "rejections": first_of(&report.rejected),
    })
}

fn wrong(error: &agent::Error) -> Value {
    let errors = match error {
        agent::Error::RulesInvalid(errors) => errors.as_slice(),
        _ => &[],
    };
    let message = match errors.len() {
        0 | 1 => error.to_string(),
        count => format!("{} ({} more)", errors[0], count - 1),
    };
    json!({ "message": message, "errors": first_of(errors) })
}

fn first_of(errors: &[detect::Error]) -> Vec<Value> {
    errors.iter().take(TOLD).map(rule_error).collect()
}

#[cfg(test)]
mod tests {
    use detect::Source;

    use super::*;

    fn compile(text: &str) -> Result<RuleSet, Vec<detect::Error>> {
        RuleSet::compile(&[Source {
            file: "r.yaml",
            text,
        }])
    }

    #[test]
    fn the_last_attempt_is_told_and_a_failed_one_changes_no_counts() {
        let rule = "id: r\ntitle: R\nlevel: low\nsql: SELECT process.pid FROM exec\n";
        let state = RulesState::new(&compile(rule).unwrap());
        let document = state.document();
        assert_eq!(document["count"], 1);
        assert_eq!(document["sql"], 1);
        assert_eq!(document["last_reload"], Value::Null);

        let errors = compile("id: r\ntitle: R\nlevel: low\nsql: SELECT process.pidd FROM exec\n");
        let error = agent::Error::RulesInvalid(errors.err().unwrap());
        state.attempted(Err(&error));
        let document = state.document();
        assert_eq!(
            (&document["count"], &document["failed_reloads"]),
            (&json!(1), &json!(1))
        );
        let last = &document["last_reload"];
        assert_eq!(last["ok"], false);
        assert_eq!(last["errors"][0]["file"], "r.yaml");
        assert_eq!(last["errors"][0]["line"], 4);
        assert_eq!(last["errors"][0]["column"], 13);
        let message = last["message"].as_str().unwrap();
        assert!(message.starts_with("r.yaml:4:13: "), "{message}");

        let both = format!("{rule}---\n{}", rule.replace("id: r", "id: s"));
        state.attempted(Ok(&compile(&both).unwrap()));
        let document = state.document();
        assert_eq!(
            (&document["count"], &document["reloads"]),
            (&json!(2), &json!(1))
        );
        assert_eq!(document["last_reload"]["ok"], true);
    }
}
