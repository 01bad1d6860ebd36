//! What every ruleset keeps, and what a usual pod's looks like.

mod golden;
mod structure;
