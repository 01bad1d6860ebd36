//! Counts how often a run reached something.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often inputs reached a place, of how many there were.
///
/// Random inputs that are all refused at the door test the door alone. A target counts those that came further, and
/// fails when there are too few.
#[derive(Debug, Default)]
pub struct Tally {
    inputs: AtomicU64,
    reached: AtomicU64,
}

/// A run of fewer inputs is a repetition of single ones, of which nothing can be expected.
const RUN: u64 = 500;

impl Tally {
    /// Nothing counted.
    pub const fn new() -> Self {
        Self { inputs: AtomicU64::new(0), reached: AtomicU64::new(0) }
    }

    /// Counts an input.
    pub fn input(&self) {
        self.inputs.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts that it reached the place.
    pub fn reached(&self) {
        self.reached.fetch_add(1, Ordering::Relaxed);
    }

    /// Fails where fewer than so many inputs in a thousand reached the place. Engines that steer by coverage begin
    /// with short inputs and never come here.
    ///
    /// # Panics
    /// With both numbers.
    pub fn expect_per_mille(&self, least: u64) {
        let (inputs, reached) = (self.inputs.load(Ordering::Relaxed), self.reached.load(Ordering::Relaxed));
        println!("{reached} of {inputs} inputs came as far as they were meant to");
        assert!(
            inputs < RUN || reached * 1000 >= inputs * least,
            "only {reached} of {inputs} inputs came as far as they were meant to: fewer than {least} in a thousand"
        );
    }
}
