//! Links, addresses and routes of a namespace, over rtnetlink. Blocking, one request at a time: setting up a pod
//! takes a dozen requests, and they need no runtime.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::error::{Error, Result};
use crate::ns::NetNs;

/// A link, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interface index inside its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it carries packets: the other end is up too, and the kernel has taken note of it (RFC 2863's `up`).
    pub operational: bool,
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

/// An rtnetlink socket of one namespace. It stays in the namespace in which it was opened, whichever thread uses it.
pub struct Links {
    socket: Socket,
    sequence: u32,
}

impl Links {
    /// Opens the calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn current() -> Result<Links> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(Error::Netlink)?;
        socket.bind_auto().map_err(Error::Netlink)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(Error::Netlink)?;
        Ok(Links { socket, sequence: 0 })
    }

    /// Opens `ns`.
    ///
    /// # Errors
    /// As [`NetNs::run`], and [`Error::Netlink`].
    pub fn of(ns: &NetNs) -> Result<Links> {
        ns.run(Links::current)?
    }

    /// Makes a veth pair: `name` here, `peer_name` in `peer`. Both ends are down and without addresses. The peer is
    /// made in its namespace directly, so that its name never appears (or clashes) here.
    ///
    /// # Errors
    /// [`Error::LinkName`], [`Error::Link`] (EEXIST when a name is taken).
    pub fn add_veth(&mut self, name: &str, peer: &NetNs, peer_name: &str) -> Result<()> {
        check_name(name)?;
        check_name(peer_name)?;
        let mut other = LinkMessage::default();
        other.attributes =
            vec![LinkAttribute::IfName(peer_name.to_owned()), LinkAttribute::NetNsFd(peer.as_fd().as_raw_fd())];
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
            ]),
        ];
        self.ask(Message::NewLink(link), NLM_F_CREATE | NLM_F_EXCL, || {
            format!("make the veth pair {name} / {peer_name}")
        })
    }

    /// Removes a link; with a veth, both ends go.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Link`].
    pub fn delete(&mut self, name: &str) -> Result<()> {
        let link = self.message(name)?;
        self.ask(Message::DelLink(link), 0, || format!("remove the link {name}"))
    }

    /// Renames a link, which must be down.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::LinkName`], [`Error::Link`].
    pub fn rename(&mut self, name: &str, to: &str) -> Result<()> {
        check_name(to)?;
        let mut link = self.message(name)?;
        link.attributes = vec![LinkAttribute::IfName(to.to_owned())];
        self.ask(Message::SetLink(link), 0, || format!("rename the link {name} to {to}"))
    }

    /// Brings a link up; `lo` gets 127.0.0.1 and ::1 by it.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Link`].
    pub fn set_up(&mut self, name: &str) -> Result<()> {
        let mut link = self.message(name)?;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.ask(Message::SetLink(link), 0, || format!("bring up the link {name}"))
    }

    /// Waits until a link carries packets, for at most `limit`. After both ends of a veth pair are up, the kernel takes a
    /// moment (up to a second when many links change) before it sends the first packet; until then it drops them.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::LinkNotReady`].
    pub fn wait_operational(&mut self, name: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let link = self.links()?.into_iter().find(|l| l.name == name).ok_or_else(|| Error::NoLink(name.into()))?;
            if link.operational {
                return Ok(());
            }
            if start.elapsed() >= limit {
                return Err(Error::LinkNotReady { name: name.into(), waited_ms: limit.as_millis() });
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Gives a link an address with its prefix length. IPv6 addresses skip duplicate detection (`nodad`): on a link
    /// that we made ourselves nobody else can have it, and the address serves at once.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Link`].
    pub fn add_address(&mut self, name: &str, address: IpNet) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.index = self.index(name)?;
        message.header.prefix_len = address.prefix_len();
        message.header.family = family(address.addr());
        message.header.scope = AddressScope::Universe;
        if address.addr().is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes = vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
        self.ask(Message::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL, || {
            format!("give {name} the address {address}")
        })
    }

    /// Adds a route to the main table: `destination` by way of `gateway`, or directly on the link.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Link`].
    pub fn add_route(&mut self, destination: IpNet, gateway: Option<IpAddr>, link: &str) -> Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination.addr());
        message.header.destination_prefix_length = destination.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
        message.header.kind = RouteType::Unicast;
        message.attributes =
            vec![RouteAttribute::Destination(destination.network().into()), RouteAttribute::Oif(self.index(link)?)];
        message.attributes.extend(gateway.map(|g| RouteAttribute::Gateway(g.into())));
        self.ask(Message::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL, || {
            format!("add the route to {destination} on {link}")
        })
    }

    /// The interface index of a link.
    ///
    /// # Errors
    /// [`Error::NoLink`].
    pub fn index(&mut self, name: &str) -> Result<u32> {
        check_name(name)?;
        let found = self.links()?.into_iter().find(|l| l.name == name);
        found.map(|l| l.index).ok_or_else(|| Error::NoLink(name.to_owned()))
    }

    /// All links, by index.
    ///
    /// # Errors
    /// [`Error::Netlink`], [`Error::Link`].
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let answers = self.dump(Message::GetLink(LinkMessage::default()), "list the links")?;
        let mut links = Vec::new();
        for answer in answers {
            let Message::NewLink(link) = answer else {
                continue;
            };
            let name = link.attributes.iter().find_map(|a| match a {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            let up = link.header.flags.contains(LinkFlags::Up);
            let operational = link.attributes.contains(&LinkAttribute::OperState(State::Up));
            links.extend(name.map(|name| Link { index: link.header.index, name, up, operational }));
        }
        links.sort_by_key(|l| l.index);
        Ok(links)
    }

    /// All addresses, with the index of their link.
    ///
    /// # Errors
    /// [`Error::Netlink`], [`Error::Link`].
    pub fn addresses(&mut self) -> Result<Vec<(u32, IpNet)>> {
        let answers = self.dump(Message::GetAddress(AddressMessage::default()), "list the addresses")?;
        let mut addresses = Vec::new();
        for answer in answers {
            let Message::NewAddress(message) = answer else {
                continue;
            };
            // On point-to-point links `Address` is the other end; `Local`, where given, is ours.
            let (mut local, mut address) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    AddressAttribute::Local(ip) => local = Some(*ip),
                    AddressAttribute::Address(ip) => address = Some(*ip),
                    _ => {}
                }
            }
            let net = local.or(address).and_then(|ip| IpNet::new(ip, message.header.prefix_len).ok());
            addresses.extend(net.map(|net| (message.header.index, net)));
        }
        Ok(addresses)
    }

    /// All routes of all tables, IPv4 and IPv6.
    ///
    /// # Errors
    /// [`Error::Netlink`], [`Error::Link`].
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

    fn message(&mut self, name: &str) -> Result<LinkMessage> {
        let mut link = LinkMessage::default();
        link.header.index = self.index(name)?;
        Ok(link)
    }

    fn ask(&mut self, message: Message, flags: u16, action: impl Fn() -> String) -> Result<()> {
        self.send(message, flags | NLM_F_ACK)?;
        self.answers(&action).map(|_| ())
    }

    fn dump(&mut self, message: Message, action: &str) -> Result<Vec<Message>> {
        self.send(message, NLM_F_DUMP)?;
        self.answers(&|| action.to_owned())
    }

    fn send(&mut self, message: Message, flags: u16) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(|_| ()).map_err(Error::Netlink)
    }

    /// Collects what belongs to the last request, up to its acknowledgement or the end of the dump.
    fn answers(&mut self, action: &dyn Fn() -> String) -> Result<Vec<Message>> {
        let unreadable = |text: String| Error::NetlinkAnswer(text);
        let mut answers = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full().map_err(Error::Netlink)?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<Message>::deserialize(rest).map_err(|e| unreadable(e.to_string()))?;
                let length = (message.header.length as usize).next_multiple_of(4).min(rest.len());
                if length == 0 {
                    return Err(unreadable("a message of length 0".into()));
                }
                rest = &rest[length..];
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(e) if e.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(e) => {
                        let source = io::Error::from_raw_os_error(-e.raw_code());
                        return Err(Error::Link { action: action(), source });
                    }
                    _ => {}
                }
            }
        }
    }
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

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The kernel's rule for names (`dev_valid_name`), checked first so that the error can say it.
fn check_name(name: &str) -> Result<()> {
    let bad = name.is_empty()
        || name.len() > 15
        || name == "."
        || name == ".."
        || name.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace());
    if bad { Err(Error::LinkName(name.to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_kernels_rule() {
        for good in ["eth0", "a", "sw-0123456789ab"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "0123456789abcdef"] {
            assert!(matches!(check_name(bad), Err(Error::LinkName(_))), "{bad}");
        }
    }
}
