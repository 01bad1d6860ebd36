//! How much comparing may cost.

use std::cell::Cell;

/// What comparing may still cost, in comparisons of two addresses: each is some hundred nanoseconds.
///
/// A policy of a few hundred kilobytes can ask for billions of comparisons, and somebody may be waiting for the answer.
pub struct Effort {
    most: u64,
    left: Cell<u64>,
}

impl Effort {
    /// As much as it takes.
    pub const fn unlimited() -> Self {
        Self::of(u64::MAX)
    }

    /// So much.
    pub const fn of(comparisons: u64) -> Self {
        Self { most: comparisons, left: Cell::new(comparisons) }
    }

    /// Whether there is so much left, which is then taken. From the first time that there is not, nothing is left.
    pub fn spend(&self, comparisons: usize) -> bool {
        let left = self.left.get().checked_sub(comparisons as u64);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }

    /// How much of it is spent.
    pub fn spent(&self) -> u64 {
        self.most - self.left.get()
    }

    /// Whether all of it is used up: then what was not found may be there.
    pub fn is_used_up(&self) -> bool {
        self.left.get() == 0
    }
}
