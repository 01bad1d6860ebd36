//! What every ruleset keeps, and what a usual pod's looks like.

mod agreement;
mod golden;
mod link;
mod many;
mod netfilter;
mod shape;
mod size;
mod structure;
