//! What was seen of one group in windows that begin at fixed times.

use std::collections::{HashMap, VecDeque};

use super::MAX_EVIDENCE;
use super::store::{ALLOCATION_BYTES, Weigh};
use super::threshold::{Fired, Reading, evidence};
use crate::trigger::{AggregateFunction, Number, Threshold};

/// Different values that one aggregate tells apart in one group.
pub(crate) const MAX_DISTINCT: usize = 4096;

/// What an entry of the maps of values takes, about.
const DISTINCT_BYTES: usize = 40;

/// A window is a run of panes, each as long as windows are apart.
#[derive(Debug, Default)]
pub(super) struct Panes {
    panes: VecDeque<Pane>,
    /// For each aggregate, the values seen and the last pane that has them.
    values: Vec<HashMap<u64, u64>>,
    /// End of the window that fired.
    quiet_until: u64,
    /// Some values were not counted.
    capped: bool,
}

#[derive(Debug)]
struct Pane {
    /// Its start divided by its length.
    index: u64,
    cells: Box<[Cell]>,
    evidence: Vec<u64>,
}

/// One aggregate over a pane, or over several.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// Values, or events for `count(*)`.
    count: u64,
    sum: i128,
    /// The least and the greatest value.
    range: Option<(i128, i128)>,
    /// Values that no later pane has: over a run of panes that ends with the last one, all
    /// different values.
    distinct: u64,
}

impl Panes {
    /// Takes what an event gives to each aggregate.
    pub(super) fn add(
        &mut self,
        (slide, size): (u64, u64),
        now: u64,
        leaf_index: u64,
        readings: &[Option<Reading>],
    ) {
        self.forget_before(oldest(slide, size, now));
        self.count_all(now / slide, leaf_index, readings);
    }

    /// Says whether a window fires with the event that was added last.
    pub(super) fn fires(
        &mut self,
        threshold: &Threshold,
        (slide, size): (u64, u64),
        now: u64,
        leaf_index: u64,
    ) -> Option<Fired> {
        let earliest = oldest(slide, size, now).max(self.quiet_until.div_ceil(slide));
        let (first, start) = self.first_window(threshold, earliest)?;
        self.quiet_until = start.saturating_mul(slide).saturating_add(size);
        Some(self.fired(threshold, first, leaf_index))
    }

    fn forget_before(&mut self, index: u64) {
        let before = self.panes.len();
        while self.panes.front().is_some_and(|pane| pane.index < index) {
            self.panes.pop_front();
        }
        if self.panes.len() < before {
            for values in &mut self.values {
                values.retain(|_, last| *last >= index);
            }
        }
    }

    fn count_all(&mut self, index: u64, leaf_index: u64, readings: &[Option<Reading>]) {
        self.values.resize_with(readings.len(), HashMap::new);
        if self.panes.back().is_none_or(|pane| pane.index < index) {
            self.panes.push_back(Pane {
                index,
                cells: vec![Cell::default(); readings.len()].into(),
                evidence: Vec::new(),
            });
        }
        for (aggregate, reading) in readings.iter().enumerate() {
            match reading {
                Some(Reading::Hash(hash)) => self.count_distinct(aggregate, *hash),
                Some(reading) => self.count(aggregate, *reading),
                None => {}
            }
        }
        if let Some(pane) = self.panes.back_mut()
            && pane.evidence.len() < MAX_EVIDENCE
        {
            pane.evidence.push(leaf_index);
        }
    }

    fn count(&mut self, aggregate: usize, reading: Reading) {
        let Some(pane) = self.panes.back_mut() else {
            return;
        };
        let cell = &mut pane.cells[aggregate];
        cell.count += 1;
        if let Some(value) = reading.value() {
            cell.sum = cell.sum.saturating_add(value);
            let (low, high) = cell.range.unwrap_or((value, value));
            cell.range = Some((low.min(value), high.max(value)));
        }
    }

    fn count_distinct(&mut self, aggregate: usize, hash: u64) {
        let Some((last, before)) = self.panes.make_contiguous().split_last_mut() else {
            return;
        };
        let values = &mut self.values[aggregate];
        if values.len() >= MAX_DISTINCT && !values.contains_key(&hash) {
            self.capped = true;
            return;
        }
        let seen = values.insert(hash, last.index);
        if seen == Some(last.index) {
            return;
        }
        last.cells[aggregate].distinct += 1;
        if let Some(earlier) = before.iter_mut().find(|pane| Some(pane.index) == seen) {
            earlier.cells[aggregate].distinct -= 1;
        }
    }

    /// The first window of which the condition is true, among those that begin with pane number
    /// `earliest` or a later one: the position of its first pane, and the number that it begins
    /// with.
    fn first_window(&self, threshold: &Threshold, earliest: u64) -> Option<(usize, u64)> {
        let mut found = None;
        let mut total = vec![Cell::default(); threshold.aggregates.len()];
        for (position, pane) in self.panes.iter().enumerate().rev() {
            if pane.index < earliest {
                break;
            }
            add(&mut total, &pane.cells);
            if holds(threshold, &total) {
                let before = position.checked_sub(1).map(|at| self.panes[at].index + 1);
                found = Some((position, before.unwrap_or(0).max(earliest)));
            }
        }
        found
    }

    fn fired(&self, threshold: &Threshold, first: usize, leaf_index: u64) -> Fired {
        let mut total = vec![Cell::default(); threshold.aggregates.len()];
        let window = self.panes.range(first..);
        window.clone().for_each(|pane| add(&mut total, &pane.cells));
        let leaves = window.flat_map(|pane| pane.evidence.iter().copied());
        Fired {
            values: values(threshold, &total),
            evidence: evidence(leaves, leaf_index),
            capped: self.capped,
        }
    }
}

/// The first pane of the first window that an event is in.
fn oldest(slide: u64, size: u64, now: u64) -> u64 {
    (now / slide + 1).saturating_sub(size / slide)
}

impl Weigh for Panes {
    fn bytes(&self) -> usize {
        let pane = |pane: &Pane| {
            let evidence = pane.evidence.capacity() * 8;
            size_of_val(&*pane.cells) + evidence + 2 * ALLOCATION_BYTES
        };
        let values: usize = self.values.iter().map(HashMap::len).sum();
        size_of::<Self>()
            + self.panes.capacity() * size_of::<Pane>()
            + self.panes.iter().map(pane).sum::<usize>()
            + self.values.capacity() * size_of::<HashMap<u64, u64>>()
            + values * DISTINCT_BYTES
    }
}

fn add(total: &mut [Cell], cells: &[Cell]) {
    for (total, cell) in total.iter_mut().zip(cells) {
        total.count += cell.count;
        total.sum = total.sum.saturating_add(cell.sum);
        total.distinct += cell.distinct;
        total.range = match (total.range, cell.range) {
            (Some((low, high)), Some((other_low, other_high))) => {
                Some((low.min(other_low), high.max(other_high)))
            }
            (range, other) => range.or(other),
        };
    }
}

fn holds(threshold: &Threshold, cells: &[Cell]) -> bool {
    let of = |index: usize| value(threshold.aggregates[index].function, &cells[index]);
    threshold.having.truth(&of) == Some(true)
}

fn values(threshold: &Threshold, cells: &[Cell]) -> Vec<Option<Number>> {
    let functions = threshold.aggregates.iter().map(|a| a.function);
    functions
        .zip(cells)
        .map(|(f, cell)| value(f, cell))
        .collect()
}

/// Over no values there is no sum, average, least or greatest one.
fn value(function: AggregateFunction, cell: &Cell) -> Option<Number> {
    match function {
        AggregateFunction::Count => Some(Number::from(i128::from(cell.count))),
        AggregateFunction::CountDistinct => Some(Number::from(i128::from(cell.distinct))),
        AggregateFunction::Sum => (cell.count > 0).then_some(Number::from(cell.sum)),
        AggregateFunction::Average => Number::ratio(cell.sum, i128::from(cell.count)),
        AggregateFunction::Min => cell.range.map(|(low, _)| Number::from(low)),
        AggregateFunction::Max => cell.range.map(|(_, high)| Number::from(high)),
        // Needs the values, which only sliding windows keep.
        AggregateFunction::Percentile(_) => None,
    }
}
