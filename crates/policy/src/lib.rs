//! Policies resolved, compiled, evaluated and explained, without any I/O.
#![forbid(unsafe_code)]

pub mod ruleset;
