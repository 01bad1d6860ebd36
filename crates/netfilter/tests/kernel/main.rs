//! Rulesets in real network namespaces. These tests need root; without it they fail.

mod atomic;
mod corner;
mod drift;
mod flows;
mod load;
mod log;
mod owner;
mod packets;
mod support;
