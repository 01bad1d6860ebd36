//! The program `sidewall-operator`: what it is told ([`args`], [`config`]), its parts, started and ended ([`operator`]), and what
//! they have in common: who of several leads, what the webhooks serve with, what is counted.

pub mod args;
pub mod config;
pub mod hooks;
pub mod leader;
pub mod metrics;
pub mod operator;
pub mod serving;
