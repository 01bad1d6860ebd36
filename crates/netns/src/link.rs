//! Links, addresses and routes of a namespace, over rtnetlink. Blocking, one request at a time: setting up a pod
//! takes a dozen requests, and they need no runtime.

mod list;
mod segment;

pub use list::{Address, AddressScope, Device, Link, OtherEnd, Route};
pub use segment::HardwareAddress;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{self, AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::error::{Error, Result};
use crate::ns::NetNs;

/// How often a list is asked for that something disturbs each time.
const LISTINGS: u32 = 20;

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

    /// Takes a link down. IPv6 addresses go with that, and routes over it.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Link`].
    pub fn set_down(&mut self, name: &str) -> Result<()> {
        let mut link = self.message(name)?;
        link.header.change_mask = LinkFlags::Up;
        self.ask(Message::SetLink(link), 0, || format!("take down the link {name}"))
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
        message.header.scope = address::AddressScope::Universe;
        if address.addr().is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes = vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
        self.ask(Message::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL, || {
            format!("give {name} the address {address}")
        })
    }

    /// Takes an address away from a link.
    ///
    /// # Errors
    /// [`Error::NoLink`], [`Error::Link`] (EADDRNOTAVAIL when it has none such).
    pub fn remove_address(&mut self, name: &str, address: IpNet) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.index = self.index(name)?;
        message.header.prefix_len = address.prefix_len();
        message.header.family = family(address.addr());
        message.attributes = vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
        self.ask(Message::DelAddress(message), 0, || format!("take the address {address} away from {name}"))
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

    fn message(&mut self, name: &str) -> Result<LinkMessage> {
        let mut link = LinkMessage::default();
        link.header.index = self.index(name)?;
        Ok(link)
    }

    fn ask(&mut self, message: Message, flags: u16, action: impl Fn() -> String) -> Result<()> {
        self.send(message, flags | NLM_F_ACK)?;
        self.answers(&action).map(|_| ())
    }

    /// Lists. Where something came or went meanwhile, so that some of the list could be missing or twice, once more.
    fn dump(&mut self, message: Message, action: &str) -> Result<Vec<Message>> {
        for _ in 0..LISTINGS {
            self.send(message.clone(), NLM_F_DUMP)?;
            if let (answers, true) = self.answers(&|| action.to_owned())? {
                return Ok(answers);
            }
        }
        Err(Error::Restless { action: action.to_owned(), attempts: LISTINGS })
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

    /// Collects what belongs to the last request, up to its acknowledgement or the end of the dump; and whether nothing
    /// disturbed it.
    fn answers(&mut self, action: &dyn Fn() -> String) -> Result<(Vec<Message>, bool)> {
        let unreadable = |text: String| Error::NetlinkAnswer(text);
        let (mut answers, mut steady) = (Vec::new(), true);
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
                steady &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Done(_) => return Ok((answers, steady)),
                    NetlinkPayload::Error(e) if e.code.is_none() => return Ok((answers, steady)),
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
