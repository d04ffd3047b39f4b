//! A few measurements of one thing.

use std::fmt;

/// Median, least and most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Self {
            median,
            least,
            most,
        })
    }

    pub(super) fn json(self) -> serde_json::Value {
        serde_json::json!({ "median": self.median, "least": self.least, "most": self.most })
    }
}

/// `1.04 (1.01–1.10)`, with the precision asked for.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Self {
            median,
            least,
            most,
        } = self;
        write!(f, "{median:.digits$} ({least:.digits$}–{most:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn spread_prints_median_and_extremes() {
        let check = |values: &[f64], text: &str| {
            let spread = Spread::of(values.iter().copied()).unwrap();
            assert_eq!(format!("{spread:.1}"), text);
        };
        check(&[3.0, 1.0, 2.0], "2.0 (1.0–3.0)");
        check(&[4.0, 1.0], "2.5 (1.0–4.0)");
        assert_eq!(Spread::of([]), None);
    }
}
