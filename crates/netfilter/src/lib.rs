//! Rulesets in the kernel: nftables over netlink, read-back, NFLOG, conntrack.
//!
//! - [`Kernel`] is netfilter of one network namespace. It replaces the rules of ours at one moment, tells whether they
//!   are still what was loaded, reads their counters, and clears generations from live flows.
//! - [`Features`] tells what this kernel can do, by trying; [`degrade()`] makes of a ruleset what a lesser kernel can enforce.
//! - [`LoopbackLink`] opens loopback to a split pod's link, behind the rules that guard it.
//! - [`nflog`] reads what the rules log; [`Watch`] notices when anybody changes rules.
//! - [`encode()`] and [`readback`] are the pure halves: a [`sidewall_policy::ruleset::Ruleset`] to bytes, and the kernel's
//!   bytes to an image of its tables.
//!
//! The messages are written and read here, not through a library of message types: half of the expressions have no type
//! in the one there is, its reader of set elements is quadratic, and the reader's behaviour on every byte is part of what
//! this crate answers for.
#![forbid(unsafe_code)]

mod abi;
mod change;
mod compose;
mod conntrack;
mod degrade;
mod drift;
mod encode;
mod error;
mod features;
mod image;
mod kernel;
mod load;
mod loopback_link;
mod netlink;
pub mod nflog;
mod place;
pub mod readback;
mod slot;
mod watch;
mod wire;

pub use compose::{EncodeError, EncodeProblem};
pub use degrade::{Missing, Unenforceable, degrade};
pub use drift::{Change, Difference, ForeignTable, Standing};
pub use encode::{Batch, encode};
pub use error::{LoadError, NetlinkError};
pub use features::Features;
pub use image::Image;
pub use kernel::{Because, Changed, Count, Kernel, LoadOptions, Loaded, Repaired, Way};
pub use loopback_link::{LoopbackError, LoopbackLink};
pub use place::{Part, Place};
pub use watch::{Happened, Transaction, Watch};
