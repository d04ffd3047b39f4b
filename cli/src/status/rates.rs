//! Events per second since the snapshot before.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Over less time a rate says nothing: the one before is told again.
const SHORTEST: Duration = Duration::from_secs(1);

/// Names of rates, and of what counters they are.
const RATES: [(&str, &str); 4] = [
    ("events", "/pipeline/seen"),
    ("dropped", "/sensor/dropped_total"),
    ("findings", "/agent/findings"),
    ("alerts", "/agent/alerts"),
];

/// The counters as of some snapshot, and the rates until then.
#[derive(Debug, Default)]
pub(super) struct Rates {
    since: Option<(Instant, [u64; RATES.len()])>,
    last: Value,
}

impl Rates {
    pub(super) fn since_last(&mut self, counters: &Value, now: Instant) -> Value {
        let counts = RATES.map(|(_, path)| counters.pointer(path).and_then(Value::as_u64));
        let counts = counts.map(Option::unwrap_or_default);
        let Some((then, before)) = self.since else {
            self.since = Some((now, counts));
            return Value::Null;
        };
        let elapsed = now.duration_since(then);
        if elapsed >= SHORTEST {
            self.since = Some((now, counts));
            let mut rates = json!({ "seconds": tenths(elapsed.as_secs_f64()) });
            for (((name, _), count), before) in RATES.iter().zip(counts).zip(before) {
                // What is counted never becomes less, but for an agent that was given up.
                let grown = count.saturating_sub(before);
                rates[name] = tenths(grown as f64 / elapsed.as_secs_f64()).into();
            }
            self.last = rates;
        }
        self.last.clone()
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_since_the_last_snapshot_that_was_long_enough() {
        let mut rates = Rates::default();
        let start = Instant::now();
        let mut check = |after_ms, seen: u64, expected: Value| {
            let counters = json!({ "pipeline": { "seen": seen } });
            let now = start + Duration::from_millis(after_ms);
            assert_eq!(rates.since_last(&counters, now), expected);
        };
        let of = |seconds: f64, events: f64| {
            json!({
                "seconds": seconds, "events": events, "dropped": 0.0, "findings": 0.0,
                "alerts": 0.0,
            })
        };
        check(0, 100, Value::Null);
        check(10_000, 150, of(10.0, 5.0));
        check(10_100, 999, of(10.0, 5.0));
        check(12_000, 1_150, of(2.0, 500.0));
    }
}
