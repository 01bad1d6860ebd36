//! From words to the ends of a flow.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sidewall_flow::{Party, Protocol};
use sidewall_policy::model::DeclaredPort;
use sidewall_policy::world::World;
use sidewall_policy::{End, Flow, ResolvedPod};

use crate::error::Error;

/// An end of a flow and what it was called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// For people.
    pub label: String,
    /// Who it is.
    pub end: End,
}

/// Who can be named.
pub struct Names<'a> {
    /// The pod.
    pub pod: &'a ResolvedPod,
    /// Its own addresses.
    pub own: &'a [IpAddr],
    /// The node's addresses toward it, IPv4 first.
    pub node: &'a [IpAddr],
    /// What there is around it.
    pub world: &'a World,
    /// Names that the user gave to addresses.
    pub peers: &'a BTreeMap<String, IpAddr>,
}

/// A socket of no container.
pub const UNKNOWN: &str = "unknown";
/// The runtime's own process on the pod's loopback.
pub const PORT_FORWARD: &str = "port-forward";
/// This node's address, over the network.
pub const NODE: &str = "node";

impl Names<'_> {
    /// Whom a word names.
    ///
    /// # Errors
    /// [`Error::NoEnd`], [`Error::OwnAddress`].
    pub fn end(&self, word: &str) -> Result<Named, Error> {
        let named = |end| Ok(Named { label: word.to_owned(), end });
        // A container's name is the nearest meaning; nothing keeps a container from being called "node".
        if let Some(id) = self.pod.container(word) {
            return named(End::Local(Party::Container(id)));
        }
        if let Some(address) = self.peers.get(word) {
            return self.remote(word, *address);
        }
        match word {
            UNKNOWN => return named(End::Local(Party::Unknown)),
            PORT_FORWARD => return named(End::Local(Party::Node)),
            NODE => {
                if let Some(address) = self.node.first() {
                    return named(End::Remote(*address));
                }
            }
            _ => {}
        }
        if let Some((who, device)) = word.rsplit_once('%')
            && let Some(end) = self.attached(who, device)?
        {
            return named(end);
        }
        if let Ok(address) = word.parse() {
            return self.remote(word, address);
        }
        let pod = word.split_once('/').and_then(|(namespace, name)| {
            self.world.pods.iter().find(|pod| pod.namespace == namespace && pod.name == name && !pod.host_network)
        });
        if let Some(address) = pod.and_then(|pod| pod.addresses.first()) {
            return self.remote(word, *address);
        }
        Err(Error::NoEnd {
            word: word.to_owned(),
            containers: self.pod.containers.values().map(|container| container.name.clone()).collect(),
        })
    }

    /// Whom a word names on the network that a device leads to: an address, or a pod that says it has one there.
    fn attached(&self, who: &str, device: &str) -> Result<Option<End>, Error> {
        let Some((id, attached)) = self.pod.attached.iter().find(|(_, attached)| attached.device == device) else {
            return Ok(None);
        };
        let address = who.parse().ok().or_else(|| {
            let (namespace, name) = who.split_once('/')?;
            let pod = self.world.pods.iter().find(|pod| pod.namespace == namespace && pod.name == name)?;
            let known = &pod.networks.known;
            known.iter().find(|one| one.network.to_string() == attached.network)?.addresses.first().copied()
        });
        match address {
            Some(address) if address.is_loopback() || self.own.contains(&address) => Err(Error::OwnAddress(address)),
            address => Ok(address.map(|address| End::Attached(*id, address))),
        }
    }

    fn remote(&self, label: &str, address: IpAddr) -> Result<Named, Error> {
        if address.is_loopback() || self.own.contains(&address) {
            return Err(Error::OwnAddress(address));
        }
        Ok(Named { label: label.to_owned(), end: End::Remote(address) })
    }

    /// The port that a text means at an end: a number, or a name that the end declares.
    ///
    /// # Errors
    /// [`Error::Port`].
    pub fn port(&self, text: &str, protocol: Option<Protocol>, to: &Named) -> Result<(Protocol, u16), Error> {
        let fault = || Error::Port { port: text.to_owned(), to: to.label.clone() };
        let (port, protocol) = match text.split_once('/') {
            Some((port, protocol)) => (port, Some(protocol.parse().map_err(|_| fault())?)),
            None => (text, protocol),
        };
        if let Ok(number) = port.parse::<u16>() {
            return if number == 0 { Err(fault()) } else { Ok((protocol.unwrap_or(Protocol::Tcp), number)) };
        }
        let declared = self.declared(to).into_iter().find(|(name, declared, _)| {
            name.as_deref() == Some(port) && protocol.is_none_or(|protocol| protocol == *declared)
        });
        declared.map(|(_, protocol, number)| (protocol, number)).ok_or_else(fault)
    }

    /// The ports that an end declares, and a proxy those that it captures: name, protocol, number.
    pub fn declared(&self, to: &Named) -> Vec<(Option<String>, Protocol, u16)> {
        let ports = match to.end {
            End::Local(Party::Container(id)) => self.pod.containers.get(&id).map(|container| {
                let mut ports = container.ports.clone();
                // What a proxy captures is its own too, whoever declares it.
                let captured = self.pod.captured.iter().filter(|captured| captured.proxy == id);
                for port in captured.flat_map(|captured| &captured.ports) {
                    let port = DeclaredPort { name: None, protocol: Protocol::Tcp, port: *port };
                    if !ports.iter().any(|own| (own.protocol, own.port) == (port.protocol, port.port)) {
                        ports.push(port);
                    }
                }
                ports
            }),
            End::Remote(address) => {
                let alive = self.world.pods.iter().filter(|pod| !pod.ended && !pod.host_network);
                alive.filter(|pod| pod.addresses.contains(&address)).map(|pod| pod.ports.clone()).next()
            }
            End::Attached(id, address) => {
                let network = self.pod.attached.get(&id).map(|attached| &attached.network);
                let mut pods = self.world.pods.iter().filter(|pod| !pod.ended && !pod.host_network);
                let pod = pods.find(|pod| {
                    let known = &pod.networks.known;
                    known
                        .iter()
                        .any(|one| Some(&one.network.to_string()) == network && one.addresses.contains(&address))
                });
                pod.map(|pod| pod.ports.clone())
            }
            End::Local(_) => None,
        };
        ports.into_iter().flatten().map(|port| (port.name, port.protocol, port.port)).collect()
    }
}

/// The flow between two ends. Where one is the node, it takes the node's address of the other end's family.
///
/// # Errors
/// [`Error::Elsewhere`].
pub fn flow(from: &Named, to: &Named, (protocol, port): (Protocol, u16)) -> Result<Flow, Error> {
    if let (End::Remote(_) | End::Attached(..), End::Remote(_) | End::Attached(..)) = (from.end, to.end) {
        return Err(Error::Elsewhere { from: from.label.clone(), to: to.label.clone() });
    }
    Ok(Flow { sender: from.end, receiver: to.end, protocol, port })
}
