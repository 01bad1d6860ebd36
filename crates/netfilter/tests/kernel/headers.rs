//! TCP flags, ICMP types, source routes: what not every packet has.

use crate::support::*;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, sendto, socket,
};
use sidewall_netfilter::LoadOptions;
use sidewall_policy::ruleset::{Compare, Field, HookPoint, Statement};
use std::net::{Ipv6Addr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;

#[test]
fn a_handshake_is_seen_by_its_flags() {
    const FIN_SYN_RST_ACK: u32 = 0x17;
    let (namespace, mut kernel) = namespace();
    let flags = |name: &'static str, flags: u128| {
        rule([
            compare(Field::TcpFlags, Some(FIN_SYN_RST_ACK), Compare::Equal, flags),
            Statement::Count(name.to_owned()),
        ])
    };
    let names = ["syn", "syn_ack", "rst"];
    let rules = [flags("syn", 0x02), flags("syn_ack", 0x12), flags("rst", 0x14)];
    kernel
        .load(
            &ruleset(vec![table(&names, Vec::new(), vec![base("out", HookPoint::Output, true, rules)])]),
            LoadOptions::default(),
        )
        .unwrap();
    namespace
        .run(|| {
            for address in ["127.0.0.1:0", "[::1]:0"] {
                let listener = TcpListener::bind(address).unwrap();
                let to = listener.local_addr().unwrap();
                TcpStream::connect(to).unwrap();
                drop(listener);
                TcpStream::connect(to).unwrap_err();
            }
        })
        .unwrap();
    let counted = counted(&mut kernel);
    // Over each family one connection that is taken and one that is refused. A listener that goes with a connection in its
    // queue resets that too.
    assert_eq!((counted["syn"], counted["syn_ack"]), (4, 2), "{counted:?}");
    assert!(counted["rst"] >= 2, "{counted:?}");
}

#[test]
fn an_icmp_error_is_known_by_its_type() {
    let (namespace, mut kernel) = namespace();
    let names = ["icmp", "icmp_other", "icmpv6", "related"];
    let counting = |statement, name: &str| rule([statement, Statement::Count(name.to_owned())]);
    let rules = [
        counting(equal(Field::IcmpType, 3), "icmp"),
        counting(compare(Field::IcmpType, None, Compare::NotEqual, 3), "icmp_other"),
        counting(equal(Field::Icmpv6Type, 1), "icmpv6"),
        counting(compare(Field::CtState, Some(Field::CT_RELATED), Compare::NotEqual, 0), "related"),
    ];
    kernel
        .load(
            &ruleset(vec![table(&names, Vec::new(), vec![base("out", HookPoint::Output, true, rules)])]),
            LoadOptions::default(),
        )
        .unwrap();
    // Nobody listens there.
    namespace
        .run(|| {
            for (from, to) in [("127.0.0.1:0", "127.0.0.1:4000"), ("[::1]:0", "[::1]:4000")] {
                UdpSocket::bind(from).unwrap().send_to(b"x", to).unwrap();
            }
        })
        .unwrap();
    let counted = counted(&mut kernel);
    assert_eq!(names.map(|name| counted[name]), [1, 0, 1, 2]);
}

/// A UDP header and one byte.
const UDP: [u8; 9] = [0x0f, 0xa1, 0x0f, 0xa0, 0, 9, 0, 0, b'x'];

/// Sends a packet with its own network header.
fn send_raw(family: AddressFamily, packet: &[u8], to: &dyn SockaddrLike) {
    let socket = socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::Raw).unwrap();
    sendto(socket.as_raw_fd(), packet, to, MsgFlags::empty()).unwrap();
}

/// An IPv4 packet from and to loopback, with these options.
fn with_options(options: &[u8]) -> Vec<u8> {
    let words = 5 + options.len() / 4;
    // The kernel fills in length, identification and checksum.
    let mut packet = vec![0x40 | words as u8, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend([127, 0, 0, 1, 127, 0, 0, 1]);
    packet.extend(options);
    packet.extend(UDP);
    packet
}

#[test]
fn source_routes_are_seen() {
    let (namespace, mut kernel) = namespace();
    let names = ["loose", "strict", "routing", "all"];
    let counting = |statement, name: &str| rule([statement, Statement::Count(name.to_owned())]);
    let rules = [
        counting(equal(Field::LooseSourceRoute, 1), "loose"),
        counting(equal(Field::StrictSourceRoute, 1), "strict"),
        counting(equal(Field::RoutingHeader, 1), "routing"),
        counting(equal(Field::DestinationPort, 4000), "all"),
    ];
    kernel
        .load(
            &ruleset(vec![table(&names, Vec::new(), vec![base("out", HookPoint::Output, true, rules)])]),
            LoadOptions::default(),
        )
        .unwrap();
    namespace
        .run(|| {
            let to = SockaddrIn::new(127, 0, 0, 1, 0);
            for kind in [131, 137] {
                let packet = with_options(&[kind, 7, 4, 127, 0, 0, 1, 0]);
                send_raw(AddressFamily::Inet, &packet, &to);
            }
            send_raw(AddressFamily::Inet, &with_options(&[]), &to);

            // A routing header of type 0 with one address, between the fixed header and UDP.
            let own = Ipv6Addr::LOCALHOST.octets();
            let route = [&[17, 2, 0, 0, 0, 0, 0, 0], &own[..]].concat();
            let length = (route.len() + UDP.len()) as u8;
            let header = [&[0x60, 0, 0, 0, 0, length, 43, 64], &own[..], &own].concat();
            let packet = [header, route, UDP.to_vec()].concat();
            let to = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 0));
            send_raw(AddressFamily::Inet6, &packet, &to);
        })
        .unwrap();
    let counted = counted(&mut kernel);
    assert_eq!(names.map(|name| counted[name]), [1, 1, 1, 4]);
}
