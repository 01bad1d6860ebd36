//! Rulesets in real network namespaces. These tests need root; without it they fail.

mod support;

mod drift;
mod load;
