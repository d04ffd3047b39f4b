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

/// Many measurements of which the slow ones matter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quantiles {
    pub(super) count: usize,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) most: f64,
}

impl Quantiles {
    /// `None` of nothing.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let most = *values.last()?;
        // The least value that so many of a hundred do not exceed.
        let quantile = |of_100: usize| values[(values.len() * of_100).div_ceil(100) - 1];
        Some(Self {
            count: values.len(),
            p50: quantile(50),
            p99: quantile(99),
            most,
        })
    }

    pub(super) fn json(self) -> serde_json::Value {
        let Self {
            count,
            p50,
            p99,
            most,
        } = self;
        serde_json::json!({ "count": count, "p50": p50, "p99": p99, "most": most })
    }
}

#[cfg(test)]
mod tests {
    use super::{Quantiles, Spread};

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let check = |count: u32, p50, p99| {
            let quantiles = Quantiles::of((1..=count).map(f64::from).collect()).unwrap();
            assert_eq!((quantiles.p50, quantiles.p99), (p50, p99));
            assert_eq!(quantiles.most, f64::from(count));
        };
        check(1, 1.0, 1.0);
        check(90, 45.0, 90.0);
        check(1000, 500.0, 990.0);
        assert_eq!(Quantiles::of(Vec::new()), None);
    }

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
