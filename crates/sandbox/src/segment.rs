//! A segment that joins the namespaces of a split pod's parts: a bridge, or macvlans of one parent.
//!
//! It is in a namespace of its own, which only this process holds: when the process ends, however it does, the segment is gone
//! and with it every device that it made in the parts.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use sidewall_netns::{HardwareAddress, Links, NetNs};

use crate::error::{Error, Result};

/// The link's device inside each part.
pub const LINK_DEVICE: &str = "link0";
/// The bridge, or the macvlans' parent.
const MIDDLE: &str = "segment";
/// How long the kernel may take to notice that a device carries packets.
const LIMIT: Duration = Duration::from_secs(10);
/// The most namespaces that one segment joins.
const MOST: u8 = 64;

/// What a segment is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SegmentKind {
    /// A bridge with a veth pair to each namespace.
    #[default]
    Bridge,
    /// A macvlan for each namespace, on a parent that was made for it.
    Macvlan,
}

/// A segment with the namespaces that it joins.
#[derive(Debug)]
pub struct Segment {
    middle: NetNs,
    kind: SegmentKind,
    joined: Vec<(NetNs, Ipv4Addr, HardwareAddress)>,
    count: u8,
}

impl Segment {
    /// Makes a segment that joins nobody yet.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn new(kind: SegmentKind) -> Result<Self> {
        let middle = NetNs::new()?;
        let mut links = Links::of(&middle)?;
        match kind {
            SegmentKind::Bridge => links.add_bridge(MIDDLE)?,
            SegmentKind::Macvlan => {
                links.add_veth(MIDDLE, &middle, "far")?;
                links.set_up("far")?;
            }
        }
        links.set_up(MIDDLE)?;
        Ok(Self { middle, kind, joined: Vec::new(), count: 0 })
    }

    /// Joins a namespace, in which the segment's device is then [`LINK_DEVICE`], with an address of 10.213.0.0/24. Who is
    /// joined already and it know each other's hardware addresses for good, so that no neighbour can take one's place.
    ///
    /// # Errors
    /// [`Error::Kernel`]; [`Error::SegmentFull`].
    pub fn join(&mut self, namespace: &NetNs) -> Result<Ipv4Addr> {
        let (address, hardware) = self.attach(namespace, LINK_DEVICE)?;
        let mut here = Links::of(namespace)?;
        for (other, at, other_hardware) in &self.joined {
            here.set_neighbour(LINK_DEVICE, IpAddr::V4(*at), *other_hardware)?;
            Links::of(other)?.set_neighbour(LINK_DEVICE, IpAddr::V4(address), hardware)?;
        }
        self.joined.push((namespace.clone(), address, hardware));
        Ok(address)
    }

    /// Joins a namespace whose neighbours are told nothing of it: somebody else on the segment. Gives the address and the
    /// hardware address of its device.
    ///
    /// # Errors
    /// As [`Segment::join`].
    pub fn attach(&mut self, namespace: &NetNs, device: &str) -> Result<(Ipv4Addr, HardwareAddress)> {
        if self.count == MOST {
            return Err(Error::SegmentFull(MOST));
        }
        self.count += 1;
        let address = Ipv4Addr::new(10, 213, 0, self.count);
        let mut middle = Links::of(&self.middle)?;
        let mut there = Links::of(namespace)?;
        match self.kind {
            SegmentKind::Bridge => {
                let port = format!("port{}", self.count);
                middle.add_veth(&port, namespace, device)?;
                middle.set_bridge(&port, MIDDLE)?;
                middle.set_up(&port)?;
            }
            SegmentKind::Macvlan => middle.add_macvlan(MIDDLE, namespace, device)?,
        }
        there.set_up(device)?;
        let net = IpNet::new(IpAddr::V4(address), 24).map_err(|_| Error::SegmentFull(MOST))?;
        there.add_address(device, net)?;
        there.wait_operational(device, LIMIT)?;
        Ok((address, there.hardware_address(device)?))
    }
}
