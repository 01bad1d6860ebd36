//! What there is in a namespace: links, addresses, routes.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{self, AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use super::Links;
use crate::error::Result;

/// A link, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interface index inside its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind in the kernel's word (`veth`, `macvlan`, `bridge`, `tun`); hardware and `lo` have none.
    pub kind: Option<String>,
    /// Whether it is a loopback device.
    pub loopback: bool,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it carries packets: the other end is up too, and the kernel has taken note of it (RFC 2863's `up`).
    pub operational: bool,
    /// The other end of a veth pair, or what a macvlan or VLAN stands on.
    pub other_end: Option<OtherEnd>,
}

/// A link that another one leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherEnd {
    /// Its index, in its own namespace.
    pub index: u32,
    /// Which namespace, in the numbers of the one that was asked (`link-netnsid`); none: the same.
    pub namespace: Option<i32>,
}

/// How far an address is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressScope {
    /// Everywhere.
    Global,
    /// On its link.
    Link,
    /// Inside its namespace.
    Host,
    /// Something else, by its number (`rt_scope_t`).
    Other(u8),
}

/// An address, as the kernel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The index of its link.
    pub link: u32,
    /// The address with its prefix length.
    pub net: IpNet,
    /// The address of the other end of a point-to-point link.
    pub peer: Option<IpAddr>,
    /// How far it is good for.
    pub scope: AddressScope,
    /// An IPv6 address of which it is not known yet whether somebody else has it; it can't be used before.
    pub tentative: bool,
    /// An IPv6 address that somebody else on the link has: it can't be used.
    pub duplicate: bool,
    /// A further address of the same network (IPv4), or one for privacy that is given up later (IPv6).
    pub secondary: bool,
}

/// A link with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The link.
    pub link: Link,
    /// Its addresses, in the kernel's order: the first that are usable are those that sockets take.
    pub addresses: Vec<Address>,
}

/// A route, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What it leads to; a default route has prefix length 0.
    pub destination: IpNet,
    /// The next hop, if it isn't on the link.
    pub gateway: Option<IpAddr>,
    /// The link's index, where there is exactly one.
    pub link: Option<u32>,
    /// The routing table (254 main, 255 local).
    pub table: u32,
}

impl Links {
    /// All links, by index.
    ///
    /// # Errors
    /// [`Error::Netlink`](crate::Error::Netlink), [`Error::Link`](crate::Error::Link),
    /// [`Error::Restless`](crate::Error::Restless).
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let answers = self.dump(Message::GetLink(LinkMessage::default()), "list the links")?;
        let mut links: Vec<Link> = answers.iter().filter_map(read_link).collect();
        links.sort_by_key(|l| l.index);
        Ok(links)
    }

    /// All addresses, with the index of their link.
    ///
    /// # Errors
    /// As [`Links::links`].
    pub fn addresses(&mut self) -> Result<Vec<(u32, IpNet)>> {
        Ok(self.addresses_in_full()?.into_iter().map(|address| (address.link, address.net)).collect())
    }

    /// All addresses, with what the kernel says of them.
    ///
    /// # Errors
    /// As [`Links::links`].
    pub fn addresses_in_full(&mut self) -> Result<Vec<Address>> {
        let answers = self.dump(Message::GetAddress(AddressMessage::default()), "list the addresses")?;
        Ok(answers.iter().filter_map(read_address).collect())
    }

    /// All links with their addresses, by index. They are two lists: an address whose link came between them is left out,
    /// and [`crate::LinkWatch`] tells of both.
    ///
    /// # Errors
    /// As [`Links::links`].
    pub fn devices(&mut self) -> Result<Vec<Device>> {
        let links = self.links()?;
        let addresses = self.addresses_in_full()?;
        let of = |link: &Link| addresses.iter().filter(|address| address.link == link.index).copied().collect();
        Ok(links.into_iter().map(|link| Device { addresses: of(&link), link }).collect())
    }

    /// All routes of all tables, IPv4 and IPv6.
    ///
    /// # Errors
    /// As [`Links::links`].
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for (family, any) in
            [(AddressFamily::Inet, IpAddr::from([0u8; 4])), (AddressFamily::Inet6, IpAddr::from([0u8; 16]))]
        {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            for answer in self.dump(Message::GetRoute(request), "list the routes")? {
                if let Message::NewRoute(message) = answer {
                    routes.extend(read_route(&message, any));
                }
            }
        }
        Ok(routes)
    }
}

fn read_link(message: &Message) -> Option<Link> {
    let Message::NewLink(message) = message else { return None };
    let (mut name, mut kind, mut end, mut namespace) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Link(index) => end = Some(*index),
            LinkAttribute::LinkNetNsId(number) => namespace = Some(*number),
            LinkAttribute::LinkInfo(infos) => {
                kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(Link {
        index: message.header.index,
        name: name?,
        kind,
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        up: message.header.flags.contains(LinkFlags::Up),
        operational: message.attributes.contains(&LinkAttribute::OperState(State::Up)),
        other_end: end.map(|index| OtherEnd { index, namespace }),
    })
}

fn read_address(message: &Message) -> Option<Address> {
    let Message::NewAddress(message) = message else { return None };
    // On point-to-point links `Address` is the other end; `Local`, where given, is ours.
    let (mut local, mut address) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            // All of them; the header has room for eight.
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let own = local.or(address)?;
    Some(Address {
        link: message.header.index,
        net: IpNet::new(own, message.header.prefix_len).ok()?,
        peer: address.filter(|peer| *peer != own),
        scope: match message.header.scope {
            address::AddressScope::Universe => AddressScope::Global,
            address::AddressScope::Link => AddressScope::Link,
            address::AddressScope::Host => AddressScope::Host,
            other => AddressScope::Other(other.into()),
        },
        // An optimistic one may be used meanwhile (RFC 4429).
        tentative: flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic),
        duplicate: flags.contains(AddressFlags::Dadfailed),
        secondary: flags.contains(AddressFlags::Secondary),
    })
}

fn read_route(message: &RouteMessage, any: IpAddr) -> Option<Route> {
    let mut route = Route {
        destination: IpNet::new(any, message.header.destination_prefix_length).ok()?,
        gateway: None,
        link: None,
        table: message.header.table.into(),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => {
                route.destination = IpNet::new(ip(to)?, message.header.destination_prefix_length).ok()?;
            }
            RouteAttribute::Gateway(by) => route.gateway = ip(by),
            RouteAttribute::Oif(link) => route.link = Some(*link),
            // Tables above 255 don't fit the header.
            RouteAttribute::Table(table) => route.table = *table,
            _ => {}
        }
    }
    Some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
