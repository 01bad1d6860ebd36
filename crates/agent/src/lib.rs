//! The agent of a node: it gives every pod of its node the walls that policies ask for, before the first instruction of
//! the pod's containers.
//!
//! ```text
//! API server ── cluster::Watch ─────────────────┐
//! CNI plugin ── cni_server ──┐                  ▼
//! NRI ───────── nri_plugin ──┼── found ──► brain (one task) ── work (threads) ── wall ── kernel
//! CRI ───────── inventory ───┘                  │
//!                                               └── NodeEnforcement, events, metrics, state for the plugin
//! ```
//!
//! Whoever finds a pod or a container looks at it first ([`found`], [`devices`], [`running`]); the [`brain`] puts it together
//! with what the cluster says ([`pod`]), decides, and waits for nothing; [`work`] is done where it may take its time. What can
//! be decided without looking is pure: [`enforceability`], [`devices::situation`].
#![forbid(unsafe_code)]

pub mod agent;
pub mod args;
pub mod brain;
pub mod cni_server;
pub mod config;
pub mod devices;
pub mod enforceability;
pub mod flows;
pub mod foreign;
pub mod found;
pub mod guarded;
pub mod installer;
pub mod inventory;
pub mod known;
pub mod memory;
pub mod metrics;
pub mod node;
pub mod nri_plugin;
pub mod pod;
pub mod running;
pub mod standing;
pub mod uninstall;
pub mod waiter;
pub mod wall;
pub mod watching;
pub mod work;
