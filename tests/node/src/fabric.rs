//! The network between nodes: one namespace that routes, with a veth to each node.
//!
//! Node N has the addresses `10.90.0.N` and `fd90::N`, its pods `10.91.N.0/24` and `fd91:0:0:N::/64`; the control plane, which lives
//! in the fabric's own namespace, `10.90.0.254` and `fd90::fe`. Nothing leads out of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use sidewall_netns::{Links, NetNs, sysctl};

use crate::error::Result;

/// The number of the fabric's own end among the nodes' numbers.
const HUB: u8 = 254;

/// The network between nodes. It lives as long as this value and the cells in it.
#[derive(Debug)]
pub struct Fabric {
    netns: NetNs,
}

/// The addresses of one node: IPv4 and IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    number: u8,
}

impl Addresses {
    /// Those of the node with that number.
    pub fn of(number: u8) -> Addresses {
        Addresses { number }
    }

    /// Those of the control plane.
    pub fn hub() -> Addresses {
        Addresses { number: HUB }
    }

    /// The node's own.
    pub fn node(self) -> [IpAddr; 2] {
        let number = self.number;
        [Ipv4Addr::new(10, 90, 0, number).into(), Ipv6Addr::new(0xfd90, 0, 0, 0, 0, 0, 0, number.into()).into()]
    }

    /// The ranges of its pods.
    pub fn pods(self) -> [IpNet; 2] {
        let number = self.number;
        let ranges: [(IpAddr, u8); 2] = [
            (Ipv4Addr::new(10, 91, number, 0).into(), 24),
            (Ipv6Addr::new(0xfd91, 0, 0, number.into(), 0, 0, 0, 0).into(), 64),
        ];
        ranges.map(|(address, length)| IpNet::new_assert(address, length))
    }
}

impl Fabric {
    /// A network without nodes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> Result<Fabric> {
        let netns = NetNs::new()?;
        let mut links = Links::of(&netns)?;
        links.set_up("lo")?;
        for address in Addresses::hub().node() {
            links.add_address("lo", IpNet::from(address))?;
        }
        forward(&netns)?;
        Ok(Fabric { netns })
    }

    /// The fabric's own namespace, where the control plane lives.
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// Makes the namespace of a node and joins it.
    ///
    /// # Errors
    /// When the number is taken, or the kernel refuses.
    pub fn join(&self, number: u8) -> Result<NetNs> {
        let node = NetNs::new()?;
        let addresses = Addresses::of(number);
        let (outer, inner) = (format!("node{number}"), "eth0");
        let mut here = Links::of(&self.netns)?;
        here.add_veth(&outer, &node, inner)?;
        no_duplicates(&self.netns, &outer)?;
        here.set_up(&outer)?;
        // On each device, and not on loopback alone: IPv6 answers only for a device's own addresses.
        for address in Addresses::hub().node() {
            here.add_address(&outer, IpNet::from(address))?;
        }
        let mut there = Links::of(&node)?;
        there.set_up("lo")?;
        forward(&node)?;
        no_duplicates(&node, inner)?;
        there.set_up(inner)?;
        for address in addresses.node() {
            there.add_address(inner, IpNet::from(address))?;
        }
        for (hub, everything) in Addresses::hub().node().into_iter().zip(["0.0.0.0/0", "::/0"]) {
            there.add_route(IpNet::from(hub), None, inner)?;
            if let Ok(everything) = everything.parse() {
                there.add_route(everything, Some(hub), inner)?;
            }
        }
        for (address, pods) in addresses.node().into_iter().zip(addresses.pods()) {
            here.add_route(IpNet::from(address), None, &outer)?;
            here.add_route(pods, Some(address), &outer)?;
        }
        Ok(node)
    }
}

/// Nobody else can have these addresses, so no time goes by with asking.
fn no_duplicates(netns: &NetNs, device: &str) -> Result<()> {
    Ok(sysctl::set(netns, &format!("net.ipv6.conf.{device}.accept_dad"), "0")?)
}

fn forward(netns: &NetNs) -> Result<()> {
    sysctl::set(netns, "net.ipv4.ip_forward", "1")?;
    Ok(sysctl::set(netns, "net.ipv6.conf.all.forwarding", "1")?)
}
