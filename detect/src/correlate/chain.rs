//! Triggers of any kind, and those that look at what others found.

use super::sequence::SequenceState;
use super::threshold::ThresholdState;
use super::{Arrival, Completed};
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

    /// Gives what it found, if this completes it.
    pub(super) fn on_arrival(
        &mut self,
        trigger: &Trigger,
        arrival: Arrival<'_, '_>,
    ) -> Option<Completed> {
        match (self, trigger) {
            (Self::Threshold(state), Trigger::Threshold(threshold)) => {
                state.on_arrival(threshold, arrival)
            }
            (Self::Sequence(state), Trigger::Sequence(sequence)) => {
                state.on_arrival(sequence, arrival)
            }
            (Self::Chain(state), Trigger::Chain(chain)) => state.on_arrival(chain, arrival),
            // A state is only ever used with the trigger that it was made for.
            _ => None,
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
    fn on_arrival(&mut self, chain: &Chain, arrival: Arrival<'_, '_>) -> Option<Completed> {
        let Some((position, link, clause)) = chain.link(arrival.clause) else {
            return self.outermost.on_arrival(&chain.trigger, arrival);
        };
        let to_link = Arrival {
            clause,
            select: &[],
            repeats: link.repeats,
            ..arrival
        };
        let found = self.links[position].on_arrival(&link.trigger, to_link)?;
        let onward = Arrival {
            inner: &found.circumstances,
            ..arrival
        };
        self.outermost.on_arrival(&chain.trigger, onward)
    }
}
