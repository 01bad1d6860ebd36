//! Traffic that aims at the application and that the kernel leads to the pod's front proxy.

use crate::evaluate::Flow;
use crate::model::{PolicyName, ResolvedPod};
use sidewall_flow::{ContainerId, Protocol};
use std::collections::BTreeSet;

/// The application's ports whose traffic from the network is redirected to the proxy, and to nobody else. What is judged is
/// what was meant: the port before the redirection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The SidecarProxy that says so.
    pub by: PolicyName,
    /// The container that is the proxy.
    pub proxy: ContainerId,
    /// The ports, over TCP.
    pub ports: BTreeSet<u16>,
    /// The proxy's port to which they are redirected.
    pub port: u16,
}

impl ResolvedPod {
    /// Whose capture a flow from the network meets.
    pub fn captures(&self, flow: &Flow) -> Option<&Captured> {
        let captured = self.captured.as_ref()?;
        let meets = flow.sender.on_network().is_some() && flow.protocol == Protocol::Tcp;
        (meets && captured.ports.contains(&flow.port)).then_some(captured)
    }

    /// The port at which whoever answers a flow of this pod listens: where it is captured, the proxy's capture port.
    pub fn answered_at(&self, flow: &Flow) -> u16 {
        self.captures(flow).map_or(flow.port, |captured| captured.port)
    }

    /// The container that is known, by user, to answer what comes to a port from the network.
    pub fn owner_on_network(&self, protocol: Protocol, port: u16) -> Option<ContainerId> {
        match &self.captured {
            Some(captured) if protocol == Protocol::Tcp && captured.ports.contains(&port) => Some(captured.proxy),
            _ => self.owner(protocol, port),
        }
    }
}
