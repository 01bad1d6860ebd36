//! Nodes and clusters of real parts on this machine: containerd, runc, CNI plugins, etcd, and Kubernetes' own programs.
//!
//! A [`cell::Cell`] is a set of namespaces with a cgroup and a first process; what it starts, ends with it. A
//! [`node::Node`] is a cell that runs containerd and is joined to a [`fabric::Fabric`], a [`control::ControlPlane`] one that
//! runs etcd and the API server, and a [`cluster::Cluster`] both, with kubelets, a scheduler and a controller manager.
//!
//! Everything a test starts here ends when its value is dropped, also by a panic, and also when the test is killed: a cell's
//! first process ends when the pipe to whoever made the cell is closed, and the kernel then ends the rest. The host's
//! mounts, firewall, links and cgroups stay as they are but for one sub-cgroup a cell. Needs root.
#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
pub mod cell;
pub mod certificates;
pub mod cluster;
pub mod control;
pub mod error;
pub mod fabric;
pub mod image;
pub mod inside;
pub mod kubelet;
pub mod linked;
pub mod multus;
pub mod node;
pub mod operator;
pub mod page;
pub mod parts;
pub mod probe;
pub mod random;
pub mod relay;
pub mod run;
pub mod segment;
pub mod shop;
pub mod until;
pub mod walled;

pub use agent::Agent;
pub use api::Api;
pub use cell::Cell;
pub use cluster::Cluster;
pub use control::ControlPlane;
pub use error::BedError;
pub use fabric::Fabric;
pub use image::Image;
pub use linked::Linked;
pub use multus::Multus;
pub use node::Node;
pub use operator::Operator;
pub use walled::Walled;
