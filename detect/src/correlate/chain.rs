//! Triggers of any kind, and those that look at what others found.

use super::sequence::SequenceState;
use super::threshold::ThresholdState;
use super::{AllCompleted, Arrival};
use crate::trigger::{Chain, Trigger};

/// What one trigger remembers.
#[derive(Debug)]
pub(super) enum TriggerState {
    /// Of one that looks at single events.
    Nothing,
    Threshold(ThresholdState),
    Sequence(SequenceState),
    Chain(Box<ChainState>),
}

/// What a trigger on others remembers, and what those do.
#[derive(Debug)]
pub(super) struct ChainState {
    /// In the order of the links.
    links: Vec<TriggerState>,
    outermost: TriggerState,
}

impl TriggerState {
    pub(super) fn new(trigger: &Trigger) -> Self {
        match trigger {
            Trigger::Each => Self::Nothing,
            Trigger::Threshold(_) => Self::Threshold(ThresholdState::default()),
            Trigger::Sequence(_) => Self::Sequence(SequenceState::default()),
            Trigger::Chain(chain) => Self::Chain(Box::new(ChainState {
                links: chain.links.iter().map(|l| Self::new(&l.trigger)).collect(),
                outermost: Self::new(&chain.trigger),
            })),
        }
    }

    /// Gives what it found, if the arrivals of an event complete it.
    pub(super) fn on_arrivals(
        &mut self,
        trigger: &Trigger,
        arrivals: &[Arrival<'_, '_>],
    ) -> AllCompleted {
        match (self, trigger) {
            (Self::Threshold(state), Trigger::Threshold(threshold)) => {
                state.on_arrivals(threshold, arrivals)
            }
            (Self::Sequence(state), Trigger::Sequence(sequence)) => {
                state.on_arrivals(sequence, arrivals)
            }
            (Self::Chain(state), Trigger::Chain(chain)) => state.on_arrivals(chain, arrivals),
            // A state is only ever used with the trigger that it was made for.
            _ => Vec::new(),
        }
    }

    /// Groups and unfinished sequences, bytes, and what was evicted so far.
    pub(super) fn memory(&self) -> (usize, usize, u64) {
        match self {
            Self::Nothing => (0, 0, 0),
            Self::Threshold(state) => state.memory(),
            Self::Sequence(state) => state.memory(),
            Self::Chain(state) => {
                let all = state.links.iter().chain([&state.outermost]);
                all.map(Self::memory).fold((0, 0, 0), |sum, one| {
                    (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2)
                })
            }
        }
    }
}

impl ChainState {
    fn on_arrivals(&mut self, chain: &Chain, arrivals: &[Arrival<'_, '_>]) -> AllCompleted {
        let found = self.found_by_links(chain, arrivals);
        let events = arrivals.iter().copied().enumerate();
        let events = events.filter(|(_, arrival)| chain.link(arrival.clause).is_none());
        let found = found.iter().map(|(by, completed)| {
            let inner = &completed.circumstances;
            (
                *by,
                Arrival {
                    inner,
                    ..arrivals[*by]
                },
            )
        });
        let mut onward: Vec<(usize, Arrival<'_, '_>)> = events.chain(found).collect();
        onward.sort_by_key(|(by, _)| *by);
        let (by, onward): (Vec<usize>, Vec<Arrival<'_, '_>>) = onward.into_iter().unzip();
        let completed = self.outermost.on_arrivals(&chain.trigger, &onward);
        let completed = completed.into_iter();
        completed.map(|(at, found)| (by[at], found)).collect()
    }

    fn found_by_links(&mut self, chain: &Chain, arrivals: &[Arrival<'_, '_>]) -> AllCompleted {
        let mut found = Vec::new();
        for (position, (state, link)) in self.links.iter_mut().zip(&chain.links).enumerate() {
            let to_link = arrivals.iter().enumerate().filter_map(|(by, arrival)| {
                let (to, _, clause) = chain.link(arrival.clause)?;
                let own = Arrival {
                    clause,
                    select: &[],
                    repeats: link.repeats,
                    ..*arrival
                };
                (to == position).then_some((by, own))
            });
            let (by, own): (Vec<usize>, Vec<Arrival<'_, '_>>) = to_link.unzip();
            let completed = state.on_arrivals(&link.trigger, &own).into_iter();
            found.extend(completed.map(|(at, completed)| (by[at], completed)));
        }
        found
    }
}
