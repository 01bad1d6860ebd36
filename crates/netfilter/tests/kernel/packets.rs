//! Fields and comparisons mean on real packets what their names say.

use crate::support::*;
use sidewall_netfilter::LoadOptions;
use sidewall_netns::NetNs;
use sidewall_policy::ruleset::{Chain, Compare, Field, HookPoint, Rule, Set, Statement};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};

const PORT: u16 = 4000;

/// Loads rules that count, one counter each, and gives what each counted when a datagram was sent and answered.
fn count(rules: &[(&str, HookPoint, Vec<Statement>)], sets: Vec<Set>, addresses: &[&str]) -> BTreeMap<String, u64> {
    let (namespace, mut kernel) = namespace();
    let counting = |point: HookPoint| -> Vec<Rule> {
        rules
            .iter()
            .filter(|(_, own, _)| *own == point)
            .map(|(name, _, statements)| {
                let mut statements = statements.clone();
                statements.push(Statement::Count((*name).to_owned()));
                rule(statements)
            })
            .collect()
    };
    let chains: Vec<Chain> = vec![
        base("in", HookPoint::Input, true, counting(HookPoint::Input)),
        base("out", HookPoint::Output, true, counting(HookPoint::Output)),
    ];
    let names: Vec<&str> = rules.iter().map(|(name, ..)| *name).collect();
    kernel.load(&ruleset(vec![table(&names, sets, chains)]), LoadOptions::default()).unwrap();
    addresses.iter().for_each(|address| there_and_back(&namespace, address));
    counted(&mut kernel)
}

/// A datagram of 10 bytes to the address, and one back.
fn there_and_back(namespace: &NetNs, address: &str) {
    let server: SocketAddr = format!("{address}:{PORT}").parse().unwrap();
    namespace
        .run(|| {
            let receiver = UdpSocket::bind(server).unwrap();
            let sender = UdpSocket::bind((server.ip(), 4001)).unwrap();
            sender.send_to(&[0; 10], server).unwrap();
            let (_, from) = receiver.recv_from(&mut [0; 16]).unwrap();
            receiver.send_to(&[0; 20], from).unwrap();
            sender.recv_from(&mut [0; 32]).unwrap();
        })
        .unwrap();
}

/// A counter's name, where it counts, what it compares how with what, and how many packets that is true of.
type Case = (&'static str, HookPoint, Field, Option<u32>, Compare, u128, u64);

#[test]
fn every_field_has_the_value_of_its_packet() {
    use Compare::{AtLeast, AtMost, Equal, NotEqual};
    use HookPoint::{Input, Output};
    let (v4, v6) = (ip4("127.0.0.1"), ip6("::1"));
    // Four packets cross each hook: there and back, over IPv4 and IPv6. UDP's header has 8 bytes.
    let cases: Vec<Case> = vec![
        ("nfproto4", Output, Field::NfProtocol, None, Equal, 2, 2),
        ("nfproto6", Input, Field::NfProtocol, None, Equal, 10, 2),
        ("udp", Output, Field::Protocol, None, Equal, 17, 4),
        ("not_udp", Output, Field::Protocol, None, NotEqual, 17, 0),
        ("iif", Input, Field::InputDevice, None, Equal, 1, 4),
        ("oif", Output, Field::OutputDevice, None, Equal, 1, 4),
        ("oif_not_lo", Output, Field::OutputDevice, None, NotEqual, 1, 0),
        ("length38", Output, Field::Length, None, Equal, 38, 1),
        ("length_to38", Output, Field::Length, None, AtMost, 38, 1),
        ("length_to47", Output, Field::Length, None, AtMost, 47, 1),
        ("length_to48", Output, Field::Length, None, AtMost, 48, 2),
        ("length_from58", Output, Field::Length, None, AtLeast, 58, 2),
        ("length_to256", Output, Field::Length, None, AtMost, 256, 4),
        ("pkttype_host", Input, Field::PacketType, None, Equal, 0, 4),
        ("ether4", Output, Field::EtherType, None, Equal, 0x0800, 2),
        ("ether6", Output, Field::EtherType, None, Equal, 0x86dd, 2),
        ("routed", Output, Field::RouteClass, None, AtLeast, 0, 4),
        ("uid", Output, Field::SocketUid, None, Equal, 0, 4),
        ("uid_below", Output, Field::SocketUid, None, AtMost, 0xffff_fffe, 4),
        ("uid_above", Output, Field::SocketUid, None, AtLeast, 1, 0),
        ("gid", Output, Field::SocketGid, None, Equal, 0, 4),
        ("wildcard", Input, Field::SocketWildcard, None, Equal, 0, 4),
        ("transparent", Input, Field::SocketTransparent, None, Equal, 0, 4),
        ("new", Output, Field::CtState, Some(Field::CT_NEW), NotEqual, 0, 2),
        ("established", Output, Field::CtState, Some(Field::CT_ESTABLISHED), NotEqual, 0, 2),
        ("original", Output, Field::CtDirection, None, Equal, 0, 2),
        ("reply", Input, Field::CtDirection, None, Equal, 1, 2),
        ("mark", Output, Field::CtMark, None, Equal, 0, 4),
        ("ct_source4", Input, Field::CtOriginalSource4, None, Equal, v4, 2),
        ("ct_source6", Input, Field::CtOriginalSource6, None, Equal, v6, 2),
        ("ct_dest4", Input, Field::CtOriginalDestination4, None, Equal, v4, 2),
        ("ct_dest6", Input, Field::CtOriginalDestination6, None, Equal, v6, 2),
        // In packets of both directions.
        ("ct_port", Input, Field::CtOriginalDestinationPort, None, Equal, PORT as u128, 4),
        ("ct_port_out", Output, Field::CtOriginalDestinationPort, None, Equal, PORT as u128, 4),
        ("fib_source", Output, Field::FibSourceType, None, Equal, 2, 4),
        ("fib_dest", Output, Field::FibDestinationType, None, Equal, 2, 4),
        ("header4", Output, Field::NetworkHeaderStart, None, Equal, 0x45, 2),
        ("header6", Output, Field::NetworkHeaderStart, Some(0xf0), Equal, 0x60, 2),
        ("source4", Output, Field::Ipv4Source, None, Equal, v4, 2),
        ("dest4", Output, Field::Ipv4Destination, None, Equal, v4, 2),
        // A field that the packet does not have ends the rule, whatever the comparison.
        ("source4_other", Output, Field::Ipv4Source, None, NotEqual, v4, 0),
        ("dest4_net", Output, Field::Ipv4Destination, Some(0xff00_0000), Equal, ip4("127.0.0.0"), 2),
        ("source6", Output, Field::Ipv6Source, None, Equal, v6, 2),
        ("dest6", Output, Field::Ipv6Destination, None, Equal, v6, 2),
        ("dest6_other", Output, Field::Ipv6Destination, None, NotEqual, v6, 0),
        ("next_header", Output, Field::Ipv6NextHeader, None, Equal, 17, 2),
        ("hop_limit", Output, Field::HopLimit, None, Equal, 64, 2),
        ("no_icmp", Output, Field::IcmpType, None, AtLeast, 0, 0),
        ("no_icmpv6", Output, Field::Icmpv6Type, None, AtLeast, 0, 0),
        ("no_tcp", Output, Field::TcpFlags, None, AtLeast, 0, 0),
        ("sport", Output, Field::SourcePort, None, Equal, 4001, 2),
        ("dport", Output, Field::DestinationPort, None, Equal, PORT as u128, 2),
        ("dport_to", Output, Field::DestinationPort, None, AtMost, PORT as u128, 2),
        ("dport_from", Output, Field::DestinationPort, None, AtLeast, PORT as u128, 4),
        ("no_lsrr", Output, Field::LooseSourceRoute, None, Equal, 0, 2),
        ("no_ssrr", Output, Field::StrictSourceRoute, None, Equal, 0, 2),
        ("no_routing", Output, Field::RoutingHeader, None, Equal, 0, 2),
        ("lsrr", Output, Field::LooseSourceRoute, None, Equal, 1, 0),
        ("routing", Output, Field::RoutingHeader, None, Equal, 1, 0),
    ];
    let rules: Vec<_> = cases
        .iter()
        .map(|(name, point, field, mask, how, value, _)| {
            let matching = compare(*field, *mask, *how, *value);
            (*name, point.clone(), vec![matching])
        })
        .collect();
    let counted = count(&rules, Vec::new(), &["127.0.0.1", "[::1]"]);
    let wrong: Vec<String> = cases
        .iter()
        .filter(|(name, .., expected)| counted[*name] != *expected)
        .map(|(name, .., expected)| format!("{name}: {} and not {expected}", counted[*name]))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn concatenations_are_found_in_sets() {
    use sidewall_policy::ruleset::Kind;
    let lookup = |fields: &[Field], set: &str, negate| {
        vec![Statement::Lookup { fields: fields.to_vec(), mask: None, set: set.to_owned(), negate }]
    };
    let four = [Field::Ipv4Destination, Field::Protocol, Field::DestinationPort];
    let six = [Field::CtOriginalDestination6, Field::Protocol, Field::CtOriginalDestinationPort];
    let mixed = [Field::Protocol, Field::SocketUid, Field::Ipv6Source];
    let sets = vec![
        set("four", &four.map(Field::kind), false, vec![element(&[ip4("127.0.0.1"), 17, PORT.into()])]),
        set("six", &six.map(Field::kind), false, vec![element(&[ip6("::1"), 17, PORT.into()])]),
        set("mixed", &mixed.map(Field::kind), false, vec![element(&[17, 0, ip6("::1")])]),
        set("uids", &[Kind::Uid], true, vec![range(0, 0), range(256, 512)]),
        set("lengths", &[Kind::Number], true, vec![range(39, 57)]),
    ];
    let rules = [
        ("four", HookPoint::Output, lookup(&four, "four", false)),
        ("four_not", HookPoint::Output, lookup(&four, "four", true)),
        ("six", HookPoint::Input, lookup(&six, "six", false)),
        ("six_not", HookPoint::Input, lookup(&six, "six", true)),
        ("mixed", HookPoint::Output, lookup(&mixed, "mixed", false)),
        ("uids", HookPoint::Output, lookup(&[Field::SocketUid], "uids", false)),
        ("lengths", HookPoint::Output, lookup(&[Field::Length], "lengths", false)),
    ];
    let counted = count(&rules, sets, &["127.0.0.1", "[::1]"]);
    // `four` has the way there, of two ways over IPv4; `six` both ways over IPv6.
    let expected =
        [("four", 1), ("four_not", 1), ("lengths", 1), ("mixed", 2), ("six", 2), ("six_not", 0), ("uids", 4)];
    assert_eq!(counted, expected.map(|(name, count)| (name.to_owned(), count)).into());
}
