//! Whole packets from raw sockets: protocols that no policy names, fragments, extension headers, foreign addresses.

use rustix::net::{AddressFamily, SocketType};
use serde_json::json;
use sidewall_flow::Protocol;
use sidewall_netns::Capability;
use sidewall_tests::lab::attacker::Arms;
use sidewall_tests::lab::{self, By};
use sidewall_tests::raw;
use sidewall_tests::scene::{APP, CLIENTS, COLLECTORS, LOOPBACK, POD, PROXY, assert_silent, policy, walls};
use sidewall_tests::siege::{Round, Siege, drained, hex};
use sidewall_tests::sockets;
use std::net::{IpAddr, SocketAddr};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");

/// `EPERM`: what the kernel says to who lacks a capability.
const EPERM: Option<i32> = Some(1);

/// Protocols that no policy can name: IPv4 in IP, IGMP, IPv6 in IP, routing, GRE, ESP, AH, no next header, mobility,
/// UDP-Lite, L2TP, two for experiments, and the one that is reserved. SCTP can be named; here nobody does.
const PROTOCOLS: [u8; 13] = [2, 4, 41, 47, 50, 51, 59, 115, 132, 135, 136, 253, 254];

#[test]
fn protocols_that_no_policy_names_stay_where_they_are() {
    let mut siege = Siege::new(PROGRAM);
    let victim = siege.scene.armed(APP, &[Capability::NET_RAW]);
    // Denied everything; and then allowed everything that can be.
    let world = json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]);
    let mut open = walls();
    open.push(policy(
        "open",
        json!({
            "containers": ["mallory"], "policyTypes": ["Egress"],
            "egress": [{"to": world}, {"to": [{"container": "app"}]}],
        }),
    ));
    open.push(policy(
        "opened",
        json!({"containers": ["app"], "policyTypes": ["Ingress"], "ingress": [{"from": [{"container": "mallory"}]}]}),
    ));
    siege.rounds(|siege, round| {
        for opened in [false, true] {
            if round.control() && opened {
                continue;
            }
            if opened {
                siege.scene.enforce(&open);
            }
            // The kernel's own IPv6 code takes extension headers from no raw socket.
            let headers = [51, 59];
            for protocol in PROTOCOLS {
                // Nor does it send a mobility header that it does not understand.
                if (round.family, protocol) == (1, 135) {
                    continue;
                }
                let (family, text) =
                    if round.family == 0 { (AddressFamily::INET, "AF_INET") } else { (AddressFamily::INET6, "AF_INET6") };
                let ear = victim.socket(family, SocketType::RAW, protocol.into()).expect("a raw socket");
                let marker = siege.marker();
                // A first byte that is no IP version, so that nothing is taken for a packet within.
                let code = |to: IpAddr| {
                    format!("throw(made({text}, SOCK_RAW, {protocol}), \"\\0\\0\\0\\x18{marker}xxxxxxxxxxxxxxx\", '{to}', 0)")
                };
                for to in [LOOPBACK[round.family], POD[round.family], COLLECTORS[round.family]] {
                    // More than once: without ports, a flow from an address to itself is its own reply.
                    for _ in 0..3 {
                        let sent = siege.mallory(round.arms).run(&code(to));
                        if round.arms == Arms::Plain {
                            assert_eq!(sent.unwrap_err().errno(), EPERM, "{round:?} {protocol} to {to}");
                        }
                    }
                }
                if round.arms == Arms::Plain {
                    continue;
                }
                if round.control() {
                    siege.outside.waits_for(marker.as_bytes()).unwrap_or_else(|_| panic!("{protocol} does not leave"));
                    let heard = drained(&ear).matches(&marker).count();
                    let skipped = round.family == 1 && headers.contains(&protocol);
                    assert!(heard == 6 || skipped, "{protocol}, {round:?}: heard {heard} times without rules");
                } else {
                    siege.settle();
                    // SCTP to the world is what the second policy says.
                    let said = opened && protocol == 132;
                    assert!(said || !siege.left(&marker), "{round:?}, opened {opened}: protocol {protocol} has left");
                    let heard = drained(&ear);
                    assert!(said || !heard.contains(&marker), "{round:?}, opened {opened}: protocol {protocol} was heard");
                }
            }
            if opened {
                siege.scene.stand(round.by.unwrap());
            }
        }
    });
}

/// ICMP messages that only the kernel may send, or nobody under isolation: echo and timestamp, their answers, redirects,
/// announcements of neighbours, routers and groups.
#[test]
fn icmp_messages_of_a_process_do_not_leave() {
    let mut siege = Siege::new(PROGRAM);
    siege.rounds(|siege, round| {
        let kinds: &[u8] = if round.family == 0 {
            &[0, 3, 5, 8, 9, 11, 13, 14, 17]
        } else {
            &[1, 2, 3, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 143]
        };
        for kind in kinds {
            let node = [lab::NODE4, lab::NODE6][round.family];
            for to in [COLLECTORS[round.family], node] {
                let marker = siege.marker();
                // Neighbours believe only what comes with a hop limit of 255. The checksum is the kernel's in IPv6.
                let code = if round.family == 0 {
                    format!(
                        "my $m = pack('CCnN', {kind}, 0, 0, 0) . '{marker}' . 'x' x 40;
                         my $sum = unpack('%32n*', $m . (length($m) % 2 ? \"\\0\" : ''));
                         $sum = ($sum & 0xffff) + ($sum >> 16) for 1 .. 2;
                         substr($m, 2, 2) = pack('n', ~$sum & 0xffff);
                         throw(made(AF_INET, SOCK_RAW, 1), $m, '{to}', 0)"
                    )
                } else {
                    format!(
                        "my $s = made(AF_INET6, SOCK_RAW, 58);
                         option($s, 41, 16, pack('i', 255));
                         throw($s, pack('CCnN', {kind}, 0, 0, 0) . '{marker}' . 'x' x 40, '{to}', 0)"
                    )
                };
                let sent = siege.mallory(round.arms).run(&code);
                if round.arms == Arms::Plain {
                    assert_eq!(sent.unwrap_err().errno(), EPERM);
                } else if round.control() {
                    siege.outside.waits_for(marker.as_bytes()).unwrap_or_else(|_| panic!("type {kind} does not leave"));
                } else {
                    siege.settle();
                    assert!(!siege.left(&marker), "{round:?}: type {kind} to {to} has left");
                }
            }
        }
    });
}

/// Ways to cut a datagram, and whether the kernel puts it together again.
fn cuts(whole: &[u8], v6: bool) -> Vec<(&'static str, Vec<Vec<u8>>, bool)> {
    let header = if v6 { 40 } else { 20 };
    let body = &whole[header..];
    let mut reversed = raw::fragments(whole, 64);
    reversed.reverse();
    let mut rewritten = body[..16].to_vec();
    rewritten[2..4].copy_from_slice(&7001u16.to_be_bytes());
    let mut cuts = vec![
        ("two", raw::fragments(whole, 1024), true),
        ("tiny", raw::fragments(whole, 8), true),
        ("last first", reversed, true),
        (
            "overlapping, the ports written twice",
            vec![
                raw::fragment(whole, 0, true, &rewritten),
                raw::fragment(whole, 0, true, &body[..16]),
                raw::fragment(whole, 16, false, &body[16..]),
            ],
            // The second is taken for the first, sent twice: the port is what the first says, and the checksum is wrong.
            false,
        ),
        (
            "overlapping by a half",
            vec![raw::fragment(whole, 0, true, &body[..32]), raw::fragment(whole, 24, false, &body[24..])],
            false,
        ),
        ("alone, without an end", vec![raw::fragment(whole, 0, true, body)], false),
    ];
    if v6 {
        cuts.push(("atomic", vec![raw::fragment(whole, 0, false, body)], true));
        // The transport's header comes in the second fragment (RFC 7112 forbids it).
        let options = raw::extended(whole, &[(60, vec![1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])]);
        let parts = raw::fragments(&options, 16);
        cuts.push(("without ports in the first", parts, false));
    }
    cuts
}

#[test]
fn no_way_to_cut_a_datagram_leads_past_the_rules() {
    let mut siege = Siege::new(PROGRAM);
    siege.rounds(|siege, round| {
        if round.arms == Arms::Plain {
            // Needs a raw socket; what the kernel cuts itself is tried elsewhere.
            let error = siege.mallory(round.arms).run("made(AF_INET, SOCK_RAW, 255)").unwrap_err();
            assert_eq!(error.errno(), EPERM);
            return;
        }
        // IP_NODEFRAG: packets of this raw socket are tracked in pieces, or not at all.
        for nodefrag in [false, true] {
            if nodefrag && round.family == 1 {
                continue;
            }
            let ears = siege.ears(round);
            for ear in &ears {
                let source = if ear.at.ip() == LOOPBACK[round.family] { ear.at.ip() } else { POD[round.family] };
                let from = SocketAddr::new(source, 30_000);
                let marker = siege.marker();
                let whole = raw::udp(from, ear.at, marker.repeat(100).as_bytes());
                for (number, (cut, parts, whole_again)) in cuts(&whole, round.family == 1).into_iter().enumerate() {
                    // Each cut is another datagram: what is left of one must not complete the next.
                    let source = SocketAddr::new(from.ip(), siege.scene.port());
                    let (parts, marker) = if whole_again {
                        (parts, marker.clone())
                    } else {
                        let text = siege.marker();
                        let other = raw::udp(source, ear.at, text.repeat(100).as_bytes());
                        (cuts(&other, round.family == 1).swap_remove(number).1, text)
                    };
                    let options = if nodefrag { "options => [[0, 22, pack('i', 1)]]" } else { "" };
                    let code = format!("whole('{}', '{}', {options})", ear.at.ip(), hex(&parts));
                    let sent = siege.mallory(round.arms).run(&code);
                    if round.control() {
                        sent.unwrap_or_else(|error| panic!("{cut}: {error}"));
                        let got = if whole_again { sidewall_tests::scene::heard(&ear.socket).unwrap() } else { None };
                        assert_eq!(got.is_some(), whole_again, "{cut} to {}, nodefrag {nodefrag}", ear.at);
                    }
                    if !whole_again || !round.control() {
                        siege.settle();
                        assert_silent(&ear.socket, &format!("{round:?}: {cut}, nodefrag {nodefrag}"));
                        let left = !round.control() && siege.left(&marker);
                        assert!(!left, "{round:?}: {cut} to {}, nodefrag {nodefrag}: a fragment has left", ear.at);
                    }
                    let _ = drained(&ear.socket);
                }
            }
        }
    });
}

/// From the network: what is open is open to datagrams cut in any way, and what is not is closed to all of them.
#[test]
fn no_way_to_cut_a_datagram_leads_into_the_pod() {
    let mut siege = Siege::new(PROGRAM);
    let mut neighbour = siege.scene.lab.neighbour();
    let victim = siege.scene.armed(APP, &[Capability::NET_RAW]);
    for by in [None, Some(By::Cgroup), Some(By::Uid)] {
        if let Some(by) = by {
            siege.scene.stand(by);
        }
        for family in [0, 1] {
            for (number, port, open) in [(PROXY, 8443, true), (APP, 8080, by.is_none())] {
                let to = SocketAddr::new(POD[family], port);
                let ear = sockets::listen(siege.scene.app(number), Protocol::Udp, to).unwrap();
                let count = cuts(&raw::udp(to, to, &[0; 1200]), family == 1).len();
                for number in 0..count {
                    let marker = siege.marker();
                    let from = siege.scene.fresh(CLIENTS[family]);
                    let whole = raw::udp(from, to, marker.repeat(100).as_bytes());
                    let (cut, parts, whole_again) = cuts(&whole, family == 1).swap_remove(number);
                    let code = format!("whole('{}', '{}')", to.ip(), hex(&parts));
                    let what = format!("{by:?}: {cut} from {from} to {to}");
                    if open && whole_again {
                        neighbour.must(&code);
                        let got = sidewall_tests::scene::heard(&ear).unwrap();
                        assert!(got.is_some_and(|got| got.starts_with(marker.as_bytes())), "{what}");
                    } else if whole_again {
                        siege.scene.denied(&what, |_| neighbour.must(&code));
                        assert_silent(&ear, &what);
                    } else {
                        neighbour.must(&code);
                        siege.settle();
                        assert_silent(&ear, &what);
                    }
                    let _ = drained(&ear);
                }
            }
            // And other protocols, to a raw socket of the application's.
            for protocol in PROTOCOLS {
                let kind = [AddressFamily::INET, AddressFamily::INET6][family];
                let ear = victim.socket(kind, SocketType::RAW, protocol.into()).unwrap();
                let marker = siege.marker();
                let mut packet = vec![0, 0, 0, 24];
                packet.extend(marker.as_bytes());
                let packet = raw::packet(CLIENTS[family], POD[family], protocol, &packet, &[]);
                for _ in 0..2 {
                    neighbour.must(&format!("whole('{}', '{}')", POD[family], hex(std::slice::from_ref(&packet))));
                }
                siege.settle();
                // Headers that the kernel reads itself, and those of groups.
                let kernels = family == 1 && [51, 59, 135].contains(&protocol);
                let heard = drained(&ear).contains(&marker);
                assert!(heard == by.is_none() || kernels && !heard, "{by:?}: protocol {protocol}, family {family}");
            }
        }
    }
}

/// A name, extension headers, and whether the kernel understands them.
type Chain = (&'static str, Vec<(u8, Vec<u8>)>, bool);

#[test]
fn extension_headers_hide_no_datagram() {
    let mut siege = Siege::new(PROGRAM);
    let padding = || vec![0, 1, 4, 0, 0, 0, 0];
    let chains: Vec<Chain> = vec![
        ("hop by hop", vec![(0, padding())], true),
        ("destination options", vec![(60, padding())], true),
        ("eight of them", (0..8).map(|_| (60, padding())).collect(), true),
        ("hop by hop, destination", vec![(0, padding()), (60, padding())], true),
        // The kernel has nothing that reads these.
        ("authentication", vec![(51, vec![1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1])], false),
        ("mobility", vec![(135, padding())], false),
        ("routing, type 0", vec![(43, vec![0, 0, 0, 0, 0, 0, 0])], true),
        (
            "routing, type 4",
            vec![(43, vec![2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])],
            false,
        ),
        ("destination, routing", vec![(60, padding()), (43, vec![0, 0, 0, 0, 0, 0, 0])], true),
    ];
    siege.rounds(|siege, round| {
        if round.family == 0 || round.arms == Arms::Plain {
            return;
        }
        for ear in siege.ears(round) {
            for (name, chain, arrives) in &chains {
                let source = if ear.at.ip() == LOOPBACK[1] { ear.at.ip() } else { POD[1] };
                let marker = siege.marker();
                let plain = raw::udp(siege.scene.fresh(source), ear.at, marker.as_bytes());
                let code = format!("whole('{}', '{}')", ear.at.ip(), hex(&[raw::extended(&plain, chain)]));
                let sent = siege.mallory(round.arms).run(&code);
                if round.control() {
                    sent.unwrap_or_else(|error| panic!("{name}: {error}"));
                    if *arrives {
                        let got = sidewall_tests::scene::heard(&ear.socket).unwrap();
                        assert_eq!(got.as_deref(), Some(marker.as_bytes()), "{name} to {} without rules", ear.at);
                    }
                } else {
                    siege.settle();
                    assert_silent(&ear.socket, &format!("{round:?}: {name}"));
                    assert!(!siege.left(&marker), "{round:?}: {name} to {} has left", ear.at);
                }
            }
        }
    });
}

/// The same headers before what somebody on the network sends: to a port that is open, and to one that is not.
#[test]
fn extension_headers_hide_no_datagram_from_the_network_either() {
    let mut siege = Siege::new(PROGRAM);
    let mut neighbour = siege.scene.lab.neighbour();
    let padding = || vec![0, 1, 4, 0, 0, 0, 0];
    // A home address (RFC 6275), which the kernel takes for the source where it is told of such nodes.
    let home = [&[2, 1, 2, 0, 0, 201, 16][..], &[0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]].concat();
    let chains: Vec<Chain> = vec![
        ("hop by hop", vec![(0, padding())], true),
        ("destination options", vec![(60, padding())], true),
        ("both", vec![(0, padding()), (60, padding())], true),
        ("routing, type 0", vec![(43, vec![0, 0, 0, 0, 0, 0, 0])], true),
        ("a home address", vec![(60, home)], false),
        ("authentication", vec![(51, vec![1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1])], false),
    ];
    for by in [None, Some(By::Cgroup), Some(By::Uid)] {
        if let Some(by) = by {
            siege.scene.stand(by);
        }
        for (number, port, open) in [(PROXY, 8443, true), (APP, 8080, by.is_none())] {
            let to = SocketAddr::new(POD[1], port);
            let ear = sockets::listen(siege.scene.app(number), Protocol::Udp, to).unwrap();
            for (name, chain, understood) in &chains {
                let plain = raw::udp(siege.scene.fresh(CLIENTS[1]), to, b"SECRET-SECRET");
                let code = format!("whole('{}', '{}')", to.ip(), hex(&[raw::extended(&plain, chain)]));
                let what = format!("{by:?}: {name} to {to}");
                neighbour.must(&code);
                if open && *understood {
                    let got = sidewall_tests::scene::heard(&ear).unwrap();
                    assert_eq!(got.as_deref(), Some(&b"SECRET-SECRET"[..]), "{what}");
                } else {
                    siege.settle();
                    assert_silent(&ear, &what);
                }
            }
        }
    }
}

/// A source address that is not the pod's: with IP_TRANSPARENT (NET_RAW suffices for it); and in IPv6 a process may
/// bind any address and send under it, without a capability.
#[test]
fn foreign_source_addresses_do_not_leave() {
    let mut siege = Siege::new(PROGRAM);
    // Even a container that may go everywhere sends under the pod's addresses alone.
    let mut open = walls();
    open.truncate(3);
    siege.rounds(|siege, round| {
        for opened in [false, true] {
            if opened && round.by == Some(By::Cgroup) {
                siege.scene.enforce(&open);
            } else if opened {
                continue;
            }
            for transparent in [true, false] {
                let option = match (round.family, transparent) {
                    (0, true) => "[0, 19, pack('i', 1)]",
                    (0, false) => "[0, 15, pack('i', 1)]",
                    (_, true) => "[41, 75, pack('i', 1)]",
                    (_, false) => "[41, 78, pack('i', 1)]",
                };
                for ear in siege.ears(round) {
                    let (marker, port) = (siege.marker(), siege.scene.port());
                    let code = format!(
                        "throw(bound(SOCK_DGRAM, '{}', {port}, options => [{option}]), '{marker}', '{}', {})",
                        CLIENTS[round.family],
                        ear.at.ip(),
                        ear.at.port()
                    );
                    let sent = siege.mallory(round.arms).run(&code);
                    // Without a capability IPv4 lets nobody send so.
                    let possible = if transparent { round.arms.raw() } else { round.family == 1 };
                    if !possible {
                        assert!(sent.is_err(), "{round:?}: {sent:?}");
                    } else if round.control() {
                        sent.unwrap_or_else(|error| panic!("{error}"));
                        // The network itself would not believe an address that is its own.
                        if ear.at.ip() == COLLECTORS[round.family] {
                            siege.outside.waits_for(marker.as_bytes()).unwrap();
                        } else {
                            let got = sidewall_tests::scene::heard(&ear.socket).unwrap();
                            assert_eq!(got.as_deref(), Some(marker.as_bytes()), "{} without rules", ear.at);
                        }
                    } else {
                        siege.settle();
                        assert_silent(&ear.socket, &format!("{round:?}, opened {opened}: from a foreign address"));
                        assert!(!siege.left(&marker), "{round:?}, opened {opened}: from a foreign address");
                    }
                }
            }
            if opened {
                siege.scene.stand(By::Cgroup);
            }
        }
    });
}

/// Packet marks are no flow's marks.
#[test]
fn a_packets_mark_buys_nothing() {
    let mut siege = Siege::new(PROGRAM);
    siege.rounds(|siege, round: Round| {
        for value in [1u32, 0x1000, 0x8000_0000, 0xffff_ffff, 0xffff_f000] {
            for ear in siege.ears(round) {
                let marker = siege.marker();
                let code = format!(
                    "throw(bound(SOCK_DGRAM, '{}', 0, options => [[1, 36, pack('L', {value})]]), '{marker}', '{}', {})",
                    round.any(),
                    ear.at.ip(),
                    ear.at.port()
                );
                let sent = siege.mallory(round.arms).run(&code);
                if !round.arms.raw() {
                    assert_eq!(sent.unwrap_err().errno(), EPERM);
                } else if round.control() {
                    sent.unwrap_or_else(|error| panic!("{error}"));
                    assert!(sidewall_tests::scene::heard(&ear.socket).unwrap().is_some());
                } else {
                    siege.settle();
                    assert_silent(&ear.socket, &format!("{round:?}: with the mark {value:#x}"));
                }
            }
        }
    });
}
