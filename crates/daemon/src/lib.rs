//! What every program of ours has that runs for long: a configuration file ([`config`]), a log ([`log`]), and the pages by which it
//! is watched over ([`pages`]).
#![forbid(unsafe_code)]

pub mod config;
pub mod log;
pub mod pages;
