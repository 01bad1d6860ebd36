//! Policies resolved, compiled, evaluated and explained, without any I/O.
#![forbid(unsafe_code)]

pub mod addresses;
mod captured;
pub mod compile;
pub mod evaluate;
pub mod explain;
#[cfg(test)]
mod fixture;
pub mod index;
pub mod link;
pub mod lint;
pub mod mark;
pub mod model;
pub mod ports;
pub mod ranges;
pub mod record;
pub mod resolve;
pub mod ruleset;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod world;

pub use compile::{Compiled, Meaning, compile};
pub use evaluate::{End, Flow, Half, Level, Reason, Verdict, evaluate};
pub use explain::{Explanation, explain};
pub use model::ResolvedPod;
pub use resolve::{guard, resolve};
pub use ruleset::{Generation, Ruleset};
pub use world::{Subject, World};
