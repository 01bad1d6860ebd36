//! What the fuzz targets share. The targets themselves are the tests of this package, one a file.
//!
//! - [`Input`] is what a target is given: any bytes, or something valid with a few [`Edit`]s.
//! - [`Tree`] is JSON with a few [`Twist`]s that keep it JSON.
//! - [`effort`] says how long a target runs.
//! - [`cost`] measures what reading an input takes, so that a small input can't take much.
//! - [`Tally`] counts what a run has reached, so that one that no longer reaches anything fails.
#![forbid(unsafe_code)]

pub mod cost;
pub mod effort;
mod input;
mod tally;
mod tree;

pub use input::{Edit, INPUT_MAX, Input, Mutant};
pub use tally::Tally;
pub use tree::{Tree, Twist};
