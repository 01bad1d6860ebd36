//! The messages of `sock_diag(7)` as octets: `linux/inet_diag.h`, `linux/packet_diag.h`.
//!
//! The reader takes whatever octets there are: a length that cannot be is told as unreadable, nothing panics.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Protocol, Socket, State};
use crate::cgroup::CgroupId;

const HEADER: usize = 16;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const SOCK_DIAG_BY_FAMILY: u16 = 20;

const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;
const AF_PACKET: u8 = libc::AF_PACKET as u8;

/// `struct inet_diag_req_v2`, `struct inet_diag_msg`.
const INET_REQUEST: usize = 56;
const INET_MESSAGE: usize = 72;
const INET_DIAG_CGROUP_ID: u16 = 21;
/// `struct packet_diag_req`, `struct packet_diag_msg`.
const PACKET_REQUEST: usize = 20;
const PACKET_MESSAGE: usize = 16;
const PACKET_SHOW_INFO: u32 = 1;
const PACKET_DIAG_INFO: u16 = 0;
const PACKET_DIAG_UID: u16 = 5;

/// States as bits of their numbers (`net/tcp_states.h`).
const SYN_RECV: u32 = 1 << 3;
const TIME_WAIT: u32 = 1 << 6;
const CLOSE: u32 = 1 << 7;
const LISTEN: u32 = 1 << 10;
const NEW_SYN_RECV: u32 = 1 << 12;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Inet { family: u8, protocol: Protocol, states: u32 },
    Packet,
}

/// What to ask for the sockets that take from everybody. For TCP no other state, or the kernel looks through the
/// connections of all namespaces too.
pub(super) fn open() -> Vec<Request> {
    let mut requests = inet(|connects| if connects { LISTEN } else { CLOSE });
    requests.push(Request::Packet);
    requests
}

/// What to ask for all others that a process can have.
pub(super) fn held() -> Vec<Request> {
    const REMAINS: u32 = SYN_RECV | TIME_WAIT | NEW_SYN_RECV;
    inet(|connects| !(REMAINS | if connects { LISTEN } else { CLOSE }))
}

fn inet(states: impl Fn(bool) -> u32) -> Vec<Request> {
    let mut requests = Vec::new();
    for protocol in Protocol::ALL {
        let connects = match protocol {
            Protocol::Tcp | Protocol::Sctp => true,
            Protocol::Udp | Protocol::UdpLite | Protocol::Raw => false,
            Protocol::Packet => continue,
        };
        let states = states(connects);
        requests.extend([AF_INET, AF_INET6].map(|family| Request::Inet { family, protocol, states }));
    }
    requests
}

impl Request {
    pub(super) fn protocol(self) -> Protocol {
        match self {
            Request::Inet { protocol, .. } => protocol,
            Request::Packet => Protocol::Packet,
        }
    }

    pub(super) fn bytes(self, sequence: u32) -> Vec<u8> {
        let body = match self {
            Request::Inet { family, protocol, states } => {
                let protocol = match protocol {
                    Protocol::Tcp => libc::IPPROTO_TCP,
                    Protocol::Udp => libc::IPPROTO_UDP,
                    Protocol::UdpLite => libc::IPPROTO_UDPLITE,
                    Protocol::Sctp => libc::IPPROTO_SCTP,
                    Protocol::Raw | Protocol::Packet => libc::IPPROTO_RAW,
                };
                // Then comes `struct inet_diag_sockid`, which a list does not look at.
                let mut body = vec![family, protocol as u8, 0, 0];
                body.extend(states.to_ne_bytes());
                body.resize(INET_REQUEST, 0);
                body
            }
            Request::Packet => {
                let mut body = vec![AF_PACKET, 0, 0, 0, 0, 0, 0, 0];
                body.extend(PACKET_SHOW_INFO.to_ne_bytes());
                body.resize(PACKET_REQUEST, 0);
                body
            }
        };
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(body);
        bytes
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Socket(Socket),
    /// Something that no process has any more, of which the kernel does not know who made it.
    Remains,
    /// It can't be read.
    Unreadable,
    /// The end of the list.
    Done,
    /// The error's number.
    Failed(i32),
}

/// What the messages of a datagram say that answer the request of that number.
pub(super) fn read(datagram: &[u8], sequence: u32, protocol: Protocol) -> impl Iterator<Item = Told> + '_ {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let header = u32_at(rest, 0).zip(u16_at(rest, 4)).zip(u32_at(rest, 8));
            let length = header.map_or(0, |((length, _), _)| length as usize);
            let (Some(((_, kind), number)), Some(body)) = (header, rest.get(HEADER..length)) else {
                rest = &[];
                return Some(Told::Unreadable);
            };
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            // An answer to an earlier request, of which enough was known.
            if number != sequence || kind == NLMSG_NOOP {
                continue;
            }
            return Some(match (kind, protocol) {
                // Both begin with a negative number, or 0.
                (NLMSG_DONE | NLMSG_ERROR, _) => match u32_at(body, 0) {
                    Some(0) => Told::Done,
                    Some(code) => Told::Failed((code as i32).wrapping_neg()),
                    None => Told::Unreadable,
                },
                (SOCK_DIAG_BY_FAMILY, Protocol::Packet) => packet(body).unwrap_or(Told::Unreadable),
                (SOCK_DIAG_BY_FAMILY, _) => connection(body, protocol).unwrap_or(Told::Unreadable),
                _ => Told::Unreadable,
            });
        }
    })
}

/// `struct inet_diag_msg`: family, state, timer, retransmissions; `struct inet_diag_sockid` (ports, addresses, device,
/// cookie); expiry, two queues, user, inode.
fn connection(body: &[u8], protocol: Protocol) -> Option<Told> {
    let attributes = body.get(INET_MESSAGE..)?;
    let family = *body.first()?;
    let port = |at| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    let address = |at| -> Option<IpAddr> {
        let octets: [u8; 16] = body.get(at..at + 16)?.try_into().ok()?;
        match family {
            AF_INET => Some(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()),
            AF_INET6 => Some(Ipv6Addr::from(octets).into()),
            _ => None,
        }
    };
    let (local, remote) = (SocketAddr::new(address(8)?, port(4)?), SocketAddr::new(address(24)?, port(6)?));
    let cgroup = find(attributes, INET_DIAG_CGROUP_ID)?.map(u64_of);
    let cgroup = match cgroup {
        Some(id) => Some(CgroupId(id?)),
        None => None,
    };
    let inode = u32_at(body, 68)?;
    // The small structure that the kernel keeps after a connection has neither.
    if cgroup.is_none() && inode == 0 {
        return Some(Told::Remains);
    }
    Some(Told::Socket(Socket {
        protocol,
        local: Some(local),
        remote: Some(remote).filter(|remote| remote.port() != 0 || !remote.ip().is_unspecified()),
        device: Some(u32_at(body, 40)?).filter(|device| *device != 0),
        state: Some(state(*body.get(1)?)),
        uid: u32_at(body, 64)?,
        cgroup,
        inode,
    }))
}

/// `struct packet_diag_msg`: family, type, protocol, inode, cookie.
fn packet(body: &[u8]) -> Option<Told> {
    let attributes = body.get(PACKET_MESSAGE..)?;
    let number = |kind| find(attributes, kind).map(|found| found.and_then(|value| u32_at(value, 0)));
    Some(Told::Socket(Socket {
        protocol: Protocol::Packet,
        local: None,
        remote: None,
        // `struct packet_diag_info` begins with it.
        device: number(PACKET_DIAG_INFO)?.filter(|device| *device != 0),
        state: None,
        uid: number(PACKET_DIAG_UID)??,
        cgroup: None,
        inode: u32_at(body, 4)?,
    }))
}

fn state(number: u8) -> State {
    match number {
        1 => State::Established,
        2 => State::SynSent,
        4 => State::FinWait1,
        5 => State::FinWait2,
        7 => State::Close,
        8 => State::CloseWait,
        9 => State::LastAck,
        10 => State::Listen,
        11 => State::Closing,
        other => State::Other(other),
    }
}

/// The attribute of that kind, if there is one; `None` where the attributes can't be read.
fn find(attributes: &[u8], wanted: u16) -> Option<Option<&[u8]>> {
    const LENGTH: usize = 4;
    let (mut rest, mut found) = (attributes, None);
    while !rest.is_empty() {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest.get(LENGTH..length)?;
        // Without the flags for nested ones and network order.
        if u16_at(rest, 2)? & 0x3fff == wanted {
            found = Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(found)
}

fn u64_of(value: &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(value.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
