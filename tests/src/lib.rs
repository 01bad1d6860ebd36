//! What the tests with real parts share: a pod's network namespace with a network behind it, and parties that make
//! sockets in it.
#![forbid(unsafe_code)]

pub mod cgroups;
pub mod greeter;
pub mod lab;
pub mod network_policy;
pub mod nine;
pub mod party;
pub mod raw;
pub mod scene;
pub mod siege;
pub mod sockets;
pub mod split;
pub mod spoken;
pub mod time_wait;
