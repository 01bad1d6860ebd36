//! What every ruleset keeps, and what a usual pod's looks like.

mod agreement;
mod golden;
mod netfilter;
mod size;
mod structure;
