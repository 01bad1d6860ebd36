//! Network namespaces, guarded threads, cgroup ids, links, launched processes: what Sidewall asks of the kernel
//! beside packet rules, and the one crate of the workspace in which `unsafe` may stand.
//!
//! - [`NetNs`] owns a network namespace by descriptor and runs closures inside it, each on a thread of its own.
//! - [`Cgroup`] is a directory of the cgroup v2 tree, with the id and level that netfilter's `socket cgroupv2` compares.
//! - [`Links`] makes veth pairs, bridges, macvlans, addresses and routes and tells what there is, [`LinkWatch`] that it changed; [`sysctl`]
//!   writes a namespace's network settings.
//! - [`sockets`] lists the sockets of a namespace and tells whose they are; [`CgroupMap`] tells which cgroup an id is.
//! - [`ProcessStatus`] is what the kernel says of a process: who it is, what it may do, where it is.
//! - [`Launch`] starts a process in a cgroup and a namespace, under another identity, without capabilities.
//!
//! Nearly everything here needs root. A missing privilege is an error, never a silent omission.

#![deny(unsafe_op_in_unsafe_fn)]
#![deny(clippy::undocumented_unsafe_blocks)]

mod capability;
mod cgroup;
mod cgroup_namespace;
mod error;
mod fdpass;
mod launch;
mod link;
mod ns;
pub mod sockets;
mod status;
pub mod sysctl;
mod watch;

pub use capability::{Capability, CapabilitySet};
pub use cgroup::{Cgroup, CgroupId, CgroupMap, Cgroups};
pub use cgroup_namespace::join_cgroup_namespace_of;
pub use error::{Error, Result};
pub use fdpass::{receive_fd, send_fd};
pub use launch::{Launch, Process, Step};
pub use link::{Address, AddressScope, Device, HardwareAddress, Link, Links, OtherEnd, Route};
pub use ns::{NetNs, NsId};
pub use status::ProcessStatus;
pub use watch::{Happened, LinkWatch};
