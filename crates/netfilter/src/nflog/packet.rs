//! The headers of a packet, as far as a log tells of them. Pure, and safe on any bytes whatever.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv6 extension headers after which no transport header is looked for.
const EXTENSIONS: usize = 8;

/// What a packet's headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sent it.
    pub source: IpAddr,
    /// Whom it is for.
    pub destination: IpAddr,
    /// The transport protocol's number.
    pub protocol: u8,
    /// The ports, of TCP, UDP, UDP-Lite, SCTP and DCCP.
    pub ports: Option<Ports>,
    /// Type and code, of ICMP and ICMPv6.
    pub icmp: Option<Icmp>,
}

/// The ports of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The sender's.
    pub source: u16,
    /// The receiver's.
    pub destination: u16,
}

/// What an ICMP or ICMPv6 message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
}

/// Reads an IPv4 packet (RFC 791).
pub(super) fn parse_v4(bytes: &[u8]) -> Option<Packet> {
    let header = bytes.first_chunk::<20>()?;
    let length = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || length < header.len() {
        return None;
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    let source: [u8; 4] = header[12..16].try_into().ok()?;
    let destination: [u8; 4] = header[16..20].try_into().ok()?;
    let rest = match fragment {
        0 => bytes.get(length..).unwrap_or_default(),
        // A later fragment has no transport header.
        _ => &[],
    };
    Some(packet(Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into(), header[9], rest))
}

/// Reads an IPv6 packet (RFC 8200) up to its transport header.
pub(super) fn parse_v6(bytes: &[u8]) -> Option<Packet> {
    let header = bytes.first_chunk::<40>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let source: [u8; 16] = header[8..24].try_into().ok()?;
    let destination: [u8; 16] = header[24..40].try_into().ok()?;
    let mut protocol = header[6];
    let mut rest = &bytes[header.len()..];
    for _ in 0..EXTENSIONS {
        let length = match (protocol, rest) {
            // Hop-by-hop options, routing, destination options.
            (0 | 43 | 60, [_, length, ..]) => (usize::from(*length) + 1) * 8,
            (44, [_, _, high, low, ..]) if u16::from_be_bytes([*high, *low]) >> 3 == 0 => 8,
            (44, [next, ..]) => {
                protocol = *next;
                rest = &[];
                break;
            }
            // Authentication header, RFC 4302: in words of four bytes, less two.
            (51, [_, length, ..]) => (usize::from(*length) + 2) * 4,
            _ => break,
        };
        protocol = rest[0];
        rest = rest.get(length..).unwrap_or_default();
    }
    Some(packet(Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into(), protocol, rest))
}

fn packet(source: IpAddr, destination: IpAddr, protocol: u8, transport: &[u8]) -> Packet {
    let (mut ports, mut icmp) = (None, None);
    match (protocol, transport) {
        // TCP, UDP, DCCP, SCTP, UDP-Lite.
        (6 | 17 | 33 | 132 | 136, [a, b, c, d, ..]) => {
            ports = Some(Ports { source: u16::from_be_bytes([*a, *b]), destination: u16::from_be_bytes([*c, *d]) });
        }
        (1 | 58, [kind, code, ..]) => {
            icmp = Some(Icmp { kind: *kind, code: *code });
        }
        _ => {}
    }
    Packet { source, destination, protocol, ports, icmp }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, fragment: u16, transport: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x46, 0, 0, 0, 0, 0];
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 0]);
        bytes.extend(transport);
        bytes
    }

    fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        bytes.extend("fd00::1".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend("fd00::2".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn ports_stand_behind_ipv4_options() {
        let packet = parse_v4(&v4(6, 0x4000, &[0x1f, 0x90, 0, 80])).unwrap();
        assert_eq!(packet.source, IpAddr::from([10, 0, 0, 1]));
        assert_eq!(packet.destination, IpAddr::from([10, 0, 0, 2]));
        assert_eq!(packet.ports, Some(Ports { source: 8080, destination: 80 }));
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        assert_eq!(parse_v4(&v4(17, 1, &[0, 1, 0, 2])).unwrap().ports, None);
        let fragment = [17, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0, 2];
        let packet = parse_v6(&v6(44, &fragment)).unwrap();
        assert_eq!((packet.protocol, packet.ports), (17, None));
    }

    #[test]
    fn extension_headers_are_passed() {
        let hop_by_hop = [44, 0, 0, 0, 0, 0, 0, 0];
        let first_fragment = [58, 0, 0, 1, 0, 0, 0, 0];
        let packet = parse_v6(&v6(0, &[&hop_by_hop[..], &first_fragment, &[128, 0]].concat()));
        assert_eq!(packet.unwrap().icmp, Some(Icmp { kind: 128, code: 0 }));
    }

    #[test]
    fn no_cut_packet_panics() {
        let endless = [0_u8, 0].repeat(200);
        for whole in [v4(6, 0, &[1, 2, 3, 4]), v6(0, &endless), v6(51, &[6, 9, 1])] {
            for length in 0..whole.len() {
                parse_v4(&whole[..length]);
                parse_v6(&whole[..length]);
            }
        }
    }
}
