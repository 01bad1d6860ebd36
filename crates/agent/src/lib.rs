//! The agent of a node: it gives every pod of its node the walls that policies ask for, before the first instruction of
//! the pod's containers.
#![forbid(unsafe_code)]

pub mod args;
pub mod config;
pub mod enforceability;
pub mod memory;
