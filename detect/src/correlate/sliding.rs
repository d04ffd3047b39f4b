//! What was seen of one group within some time before each event.

use std::collections::{BTreeMap, VecDeque};

use super::store::{ALLOCATION_BYTES, Weigh};
use super::threshold::{Fired, Leaves, Reading, evidence};
use crate::trigger::{AggregateFunction, Number, Threshold};

/// Events of one group that are kept.
pub(crate) const MAX_SAMPLES: usize = 4096;

/// Leaves that one group keeps of what other triggers found, besides the last ones.
const MAX_LEAVES_BEFORE: usize = 4096;

/// What an entry of the map of values takes, about.
const VALUE_BYTES: usize = 32;

/// The events themselves, oldest first.
#[derive(Debug, Default)]
pub(super) struct Samples {
    samples: VecDeque<Sample>,
    totals: Vec<Total>,
    /// Number of leaves before the last ones, over all samples.
    leaves_before: usize,
    /// No finding before this time.
    quiet_until: u64,
    /// Some events were not kept.
    capped: bool,
}

#[derive(Debug)]
struct Sample {
    time: u64,
    leaf_index: u64,
    /// Where it is what another trigger found.
    before: Box<[u64]>,
    readings: Box<[Option<Reading>]>,
}

/// One aggregate over all samples.
#[derive(Debug, Default)]
struct Total {
    count: u64,
    sum: i128,
    /// How often each value is there.
    values: BTreeMap<i128, u32>,
}

impl Samples {
    /// Takes what an event gives to each aggregate.
    pub(super) fn add(
        &mut self,
        size: u64,
        now: u64,
        leaves: Leaves<'_>,
        readings: &[Option<Reading>],
    ) {
        let too_old = |sample: &Sample| now - sample.time > size;
        while self.samples.front().is_some_and(too_old) {
            self.forget_first();
        }
        self.keep(now, leaves, readings);
    }

    /// Says whether the window fires with the event that was added last.
    pub(super) fn fires(
        &mut self,
        threshold: &Threshold,
        size: u64,
        now: u64,
        leaf_index: u64,
    ) -> Option<Fired> {
        let value = |index: usize| self.totals[index].value(threshold.aggregates[index].function);
        if now < self.quiet_until || threshold.having.truth(&value) != Some(true) {
            return None;
        }
        let kept = self.samples.iter();
        let kept = kept.flat_map(|sample| sample.before.iter().chain([&sample.leaf_index]));
        let fired = Fired {
            values: (0..self.totals.len()).map(value).collect(),
            evidence: evidence(kept.copied(), leaf_index),
            capped: self.capped,
        };
        let first = self.samples.front().map_or(now, |sample| sample.time);
        self.quiet_until = first.saturating_add(size).saturating_add(1);
        Some(fired)
    }

    /// The next finding may come at once.
    pub(super) fn end_quiet(&mut self) {
        self.quiet_until = 0;
    }

    fn keep(&mut self, now: u64, leaves: Leaves<'_>, readings: &[Option<Reading>]) {
        if self.samples.len() >= MAX_SAMPLES {
            self.forget_first();
            self.capped = true;
        }
        self.totals.resize_with(readings.len(), Total::default);
        for (total, reading) in self.totals.iter_mut().zip(readings) {
            reading.iter().for_each(|reading| total.add(*reading));
        }
        let room = MAX_LEAVES_BEFORE.saturating_sub(self.leaves_before);
        let before = &leaves.before[..leaves.before.len().min(room)];
        self.leaves_before += before.len();
        self.samples.push_back(Sample {
            time: now,
            leaf_index: leaves.last,
            before: before.into(),
            readings: readings.into(),
        });
    }

    fn forget_first(&mut self) {
        let Some(sample) = self.samples.pop_front() else {
            return;
        };
        self.leaves_before -= sample.before.len();
        for (total, reading) in self.totals.iter_mut().zip(&sample.readings) {
            reading.iter().for_each(|reading| total.remove(*reading));
        }
    }
}

impl Weigh for Samples {
    fn bytes(&self) -> usize {
        let readings = self.totals.len() * size_of::<Option<Reading>>();
        let values: usize = self.totals.iter().map(|total| total.values.len()).sum();
        size_of::<Self>()
            + self.samples.capacity() * size_of::<Sample>()
            + self.samples.len() * (readings + ALLOCATION_BYTES)
            + self.leaves_before * (8 + ALLOCATION_BYTES)
            + self.totals.capacity() * size_of::<Total>()
            + values * VALUE_BYTES
    }
}

impl Total {
    fn add(&mut self, reading: Reading) {
        self.count += 1;
        if let Some(value) = reading.value() {
            self.sum = self.sum.saturating_add(value);
            *self.values.entry(value).or_default() += 1;
        }
    }

    fn remove(&mut self, reading: Reading) {
        self.count -= 1;
        let Some(value) = reading.value() else {
            return;
        };
        self.sum = self.sum.saturating_sub(value);
        if let Some(count) = self.values.get_mut(&value) {
            *count -= 1;
            if *count == 0 {
                self.values.remove(&value);
            }
        }
    }

    /// Over no values there is no sum, average, least or greatest one.
    fn value(&self, function: AggregateFunction) -> Option<Number> {
        let number = |(value, _): (&i128, &u32)| Number::from(*value);
        match function {
            AggregateFunction::Count => Some(Number::from(i128::from(self.count))),
            AggregateFunction::CountDistinct => Some(Number::from(self.values.len() as i128)),
            AggregateFunction::Sum => (self.count > 0).then_some(Number::from(self.sum)),
            AggregateFunction::Average => Number::ratio(self.sum, i128::from(self.count)),
            AggregateFunction::Min => self.values.first_key_value().map(number),
            AggregateFunction::Max => self.values.last_key_value().map(number),
            AggregateFunction::Percentile(percentile) => self.percentile(percentile.into()),
        }
    }

    fn percentile(&self, percentile: u64) -> Option<Number> {
        let rank = percentile * self.count.checked_sub(1)?;
        let (low, high) = (self.nth(rank / 100)?, self.nth(rank.div_ceil(100))?);
        let part = high.checked_sub(low)?.checked_mul(i128::from(rank % 100))?;
        Number::ratio(low.checked_mul(100)?.checked_add(part)?, 100)
    }

    /// By size, from 0.
    fn nth(&self, position: u64) -> Option<i128> {
        let mut passed = 0;
        let at = |(value, count): (&i128, &u32)| {
            passed += u64::from(*count);
            (passed > position).then_some(*value)
        };
        self.values.iter().find_map(at)
    }
}
