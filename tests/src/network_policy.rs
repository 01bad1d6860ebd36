//! The published semantics of NetworkPolicy as a table: cases as data, and what runs them.
//!
//! The cases are the files in `tests/network-policy`; its README says how they are written. What they expect was derived
//! from the specification, by hand: nothing here computes an expectation. Two runners compare it with what happens: the
//! evaluator, beside this code, and [nine pods](crate::nine) in the kernel, in `tests/tests/network_policy.rs`.

pub mod case;
pub mod cluster;
pub mod expectation;
mod mirror;
#[cfg(test)]
mod tests;

pub use case::{Case, Step, cases, echo_cases};
pub use cluster::{Cluster, End, Place};
pub use expectation::{Expectation, Probe};
