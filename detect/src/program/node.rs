//! Conditions as a tree in one piece of memory.

use super::atom::AtomId;
use super::lookup::FactId;
use super::row::Slot;
use crate::eval::Truth;

/// Number of a node in its program.
pub(crate) type NodeId = u32;

/// A condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    Atom(AtomId),
    /// True if the fact was seen; unknown where its column is.
    Seen(Slot, FactId),
    /// All of these nodes.
    And(Children),
    /// One of these nodes.
    Or(Children),
    Not(NodeId),
    /// The node is exactly this.
    Is(NodeId, Truth),
}

/// A range of the program's list of children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Children {
    pub(crate) first: u32,
    pub(crate) count: u32,
}
