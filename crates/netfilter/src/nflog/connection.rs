//! The connection that a logged packet belongs to, as conntrack knows it. Pure, and safe on any bytes whatever.

use super::packet::Ports;
use crate::abi;
use crate::wire::{Attribute, Attributes};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The connection of a packet: the addresses and ports with which it was opened, before any NAT, whichever way the packet
/// itself went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Who opened it.
    pub source: IpAddr,
    /// Whom it was meant for.
    pub destination: IpAddr,
    /// The transport protocol's number.
    pub protocol: u8,
    /// The ports, of protocols that have some.
    pub ports: Option<Ports>,
    /// The mark when the packet was logged: see `sidewall_policy::mark`.
    pub mark: u32,
    /// Whether the packet went from the end that was addressed back to the one that opened.
    pub reply: bool,
}

/// Reads `NFULA_CT`, which holds the attributes of a conntrack entry, with `NFULA_CT_INFO`.
pub(super) fn read(entry: Attributes<'_>, info: u32) -> Option<Connection> {
    let mut tuple = None;
    // An entry without a mark has none because it is 0.
    let mut mark = 0;
    for attribute in entry {
        match attribute.kind {
            abi::CTA_TUPLE_ORIG => tuple = read_tuple(attribute.nested()),
            abi::CTA_MARK => mark = attribute.number()?,
            _ => {}
        }
    }
    let (source, destination, protocol, ports) = tuple?;
    Some(Connection { source, destination, protocol, ports, mark, reply: info >= abi::IP_CT_IS_REPLY })
}

fn read_tuple(tuple: Attributes<'_>) -> Option<(IpAddr, IpAddr, u8, Option<Ports>)> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut from, mut to) = (None, None, None);
    for part in tuple {
        match part.kind {
            abi::CTA_TUPLE_IP => {
                for attribute in part.nested() {
                    match attribute.kind {
                        abi::CTA_IP_V4_SRC | abi::CTA_IP_V6_SRC => source = read_address(&attribute),
                        abi::CTA_IP_V4_DST | abi::CTA_IP_V6_DST => destination = read_address(&attribute),
                        _ => {}
                    }
                }
            }
            abi::CTA_TUPLE_PROTO => {
                for attribute in part.nested() {
                    match attribute.kind {
                        abi::CTA_PROTO_NUM => protocol = attribute.value.first().copied(),
                        abi::CTA_PROTO_SRC_PORT => from = read_port(&attribute),
                        abi::CTA_PROTO_DST_PORT => to = read_port(&attribute),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let ports = match (from, to) {
        (Some(source), Some(destination)) => Some(Ports { source, destination }),
        _ => None,
    };
    Some((source?, destination?, protocol?, ports))
}

fn read_address(attribute: &Attribute<'_>) -> Option<IpAddr> {
    match attribute.value.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(attribute.value).ok()?).into()),
        _ => Some(Ipv6Addr::from(<[u8; 16]>::try_from(attribute.value).ok()?).into()),
    }
}

fn read_port(attribute: &Attribute<'_>) -> Option<u16> {
    Some(u16::from_be_bytes(attribute.value.try_into().ok()?))
}
