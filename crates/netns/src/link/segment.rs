//! What joins several namespaces: bridges and macvlans.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkInfo, LinkMessage, MacVlanMode};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};

use super::{Links, check_name, family};
use crate::error::{Error, Result};
use crate::ns::NetNs;

/// A device's own address on its segment (EUI-48).
pub type HardwareAddress = [u8; 6];

impl Links {
    /// Makes a bridge: down and without ports.
    ///
    /// # Errors
    /// [`Error::LinkName`], [`Error::Link`] (EEXIST when the name is taken).
    pub fn add_bridge(&mut self, name: &str) -> Result<()> {
        check_name(name)?;
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
        ];
        self.ask(Message::NewLink(link), NLM_F_CREATE | NLM_F_EXCL, || format!("make the bridge {name}"))
    }

    /// Makes a link a port of a bridge.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Link`].
    pub fn set_bridge(&mut self, name: &str, bridge: &str) -> Result<()> {
        let controller = self.index(bridge)?;
        let mut link = self.message(name)?;
        link.attributes = vec![LinkAttribute::Controller(controller)];
        self.ask(Message::SetLink(link), 0, || format!("make {name} a port of the bridge {bridge}"))
    }

    /// Makes a macvlan on a link of this namespace, in another namespace: `name` there, down and without addresses. Those of
    /// one parent reach each other (mode `bridge`), and none of them the parent's own host.
    ///
    /// # Errors
    /// [`Error::LinkName`], [`Error::NoLink`], [`Error::Link`].
    pub fn add_macvlan(&mut self, parent: &str, target: &NetNs, name: &str) -> Result<()> {
        check_name(name)?;
        let parent_index = self.index(parent)?;
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Link(parent_index),
            LinkAttribute::NetNsFd(target.as_fd().as_raw_fd()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::MacVlan),
                LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)])),
            ]),
        ];
        self.ask(Message::NewLink(link), NLM_F_CREATE | NLM_F_EXCL, || format!("make the macvlan {name} on {parent}"))
    }

    /// A link's hardware address.
    ///
    /// # Errors
    /// [`Error::NoLink`], also for a link that has none.
    pub fn hardware_address(&mut self, name: &str) -> Result<HardwareAddress> {
        check_name(name)?;
        let answers = self.dump(Message::GetLink(LinkMessage::default()), "list the links")?;
        let address = answers.iter().find_map(|answer| {
            let Message::NewLink(link) = answer else { return None };
            let mut attributes = link.attributes.iter();
            attributes.clone().find(|a| matches!(a, LinkAttribute::IfName(own) if own == name))?;
            attributes.find_map(|a| match a {
                LinkAttribute::Address(bytes) => HardwareAddress::try_from(bytes.as_slice()).ok(),
                _ => None,
            })
        });
        address.ok_or_else(|| Error::NoLink(name.to_owned()))
    }

    /// Says for good which hardware address a neighbour has: nobody on the segment can say otherwise (ARP and neighbour
    /// advertisements are not listened to for it).
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Link`].
    pub fn set_neighbour(&mut self, link: &str, neighbour: IpAddr, hardware: HardwareAddress) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(neighbour);
        message.header.ifindex = self.index(link)?;
        message.header.state = NeighbourState::Permanent;
        let destination = match neighbour {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        };
        message.attributes =
            vec![NeighbourAttribute::Destination(destination), NeighbourAttribute::LinkLayerAddress(hardware.to_vec())];
        self.ask(Message::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("make {neighbour} a neighbour on {link}")
        })
    }
}
