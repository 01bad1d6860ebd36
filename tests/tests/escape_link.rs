//! The pod's device: what packet sockets send past the stack, what the kernel sends for a process, and what they hear.

use sidewall_flow::Protocol;
use sidewall_tests::lab::attacker::{Arms, Attacker};
use sidewall_tests::lab::{self, By};
use sidewall_tests::raw;
use sidewall_tests::scene::{APP, COLLECTORS, End, LOOPBACK, POD, PROXY, assert_silent, bound, send_to};
use sidewall_tests::siege::{Siege, hex};
use sidewall_tests::sockets;
use std::net::{IpAddr, SocketAddr};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
const EPERM: Option<i32> = Some(1);

/// A frame to the network's end of the pod's link, with a datagram to the collector.
fn frame(siege: &Siege, family: usize, text: &str) -> Vec<u8> {
    let mut frame = link_address(&siege.scene.lab.network, "pod0").to_vec();
    frame.extend(link_address(&siege.scene.lab.pod, lab::DEVICE));
    frame.extend(if family == 0 { 0x0800u16 } else { 0x86dd }.to_be_bytes());
    let (from, to) = (SocketAddr::new(POD[family], 5000), SocketAddr::new(COLLECTORS[family], 7001));
    frame.extend(raw::udp(from, to, text.as_bytes()));
    frame
}

/// A device's hardware address.
fn link_address(ns: &sidewall_netns::NetNs, device: &str) -> [u8; 6] {
    use std::io::Read;
    let launch = sidewall_netns::Launch::new("/usr/sbin/ip").args(["-o", "link", "show", "dev", device]).netns(ns);
    let mut process = launch.privileged().stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    process.take_stdout().unwrap().read_to_string(&mut text).unwrap();
    assert!(process.wait().unwrap().success());
    let address = text.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
    let bytes: Vec<u8> = address.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// Puts a frame on a device by a packet socket, plainly or past the queues.
fn plainly(index: u32, frame: &[u8], bypass: bool) -> String {
    let bypass = if bypass { "option($s, 263, 20, pack('i', 1));" } else { "" };
    format!(
        "my $s = made(17, SOCK_RAW, 0); {bypass}
         my $to = pack('S n i S C C a8', 17, {}, {index}, 0, 0, 6, '');
         defined(send($s, pack('H*', '{}'), 0, $to)) or fail('send')",
        u16::from_be_bytes([frame[12], frame[13]]),
        hex(&[frame.to_vec()])
    )
}

/// The same from a ring that the process shares with the kernel (`PACKET_TX_RING`).
fn by_shared_ring(index: u32, frame: &[u8]) -> String {
    format!(
        "my $s = made(17, SOCK_RAW, 0);
         option($s, 263, 13, pack('L4', 4096, 1, 2048, 2));
         bind($s, pack('S n i S C C a8', 17, {}, {index}, 0, 0, 6, '')) or fail('bind');
         my $ring = call('mmap', 0, 4096, 3, 1, fileno($s), 0);
         my $frame = pack('H*', '{}');
         pipe(my $out, my $in); my $write = sub {{ syswrite($in, $_[1]); call('read', fileno($out), $_[0] + 0, length $_[1]) }};
         $write->($ring + 32, $frame);
         $write->($ring, pack('Q L L', 1, length $frame, length $frame));
         defined(send($s, '', 0)) or fail('send')",
        u16::from_be_bytes([frame[12], frame[13]]),
        hex(&[frame.to_vec()])
    )
}

/// The same by an AF_XDP socket, in the mode that every device has.
fn by_xdp(index: u32, frame: &[u8]) -> String {
    format!(
        "my $s = made(44, SOCK_RAW, 0);
         my $memory = call('mmap', 0, 65536, 3, 0x22, -1, 0);
         option($s, 283, 4, pack('Q Q L L L L', $memory, 65536, 4096, 0, 0, 0));
         option($s, 283, $_, pack('i', 8)) for (5, 6, 3);
         my $offsets = getsockopt($s, 283, 1) // fail('XDP_MMAP_OFFSETS');
         my @offsets = unpack('Q16', $offsets);
         my $ring = call('mmap', 0, 4096, 3, 0x8001, fileno($s), 0x80000000);
         bind($s, pack('S S L L L', 44, 2, {index}, 0, 0)) or fail('bind');
         my $frame = pack('H*', '{}');
         pipe(my $out, my $in); my $write = sub {{ syswrite($in, $_[1]); call('read', fileno($out), $_[0] + 0, length $_[1]) }};
         $write->($memory, $frame);
         $write->($ring + $offsets[6], pack('Q L L', 0, length $frame, 0));
         $write->($ring + $offsets[4], pack('L', 1));
         defined(send($s, '', 0x40)) or fail('send')",
        hex(&[frame.to_vec()])
    )
}

/// Makes the code that sends a frame.
type Way<'a> = &'a dyn Fn(&[u8]) -> String;

#[test]
fn packet_sockets_send_nothing_while_the_devices_hook_stands() {
    let mut siege = Siege::new(PROGRAM);
    let index = siege.device();
    siege.rounds(|siege, round| {
        let ways: [Way<'_>; 3] =
            [&|frame| plainly(index, frame, false), &|frame| plainly(index, frame, true), &|frame| {
                by_shared_ring(index, frame)
            }];
        for (number, way) in ways.iter().enumerate() {
            let marker = siege.marker();
            let code = way(&frame(siege, round.family, &marker));
            let sent = siege.mallory(round.arms).run(&code);
            if !round.arms.raw() {
                assert_eq!(sent.unwrap_err().errno(), EPERM);
            } else if round.control() {
                sent.unwrap_or_else(|error| panic!("way {number}: {error}"));
                siege.outside.waits_for(marker.as_bytes()).unwrap();
            } else {
                siege.settle();
                assert!(!siege.left(&marker), "{round:?}: way {number}: a frame has left");
            }
        }
    });
}

/// Frames that are no IP: tagged ones, of LLC, PPPoE, for experiments and of a loop test; and frames whose header the
/// kernel writes.
#[test]
fn frames_of_no_kind_leave_by_packet_sockets() {
    let mut siege = Siege::new(PROGRAM);
    let index = siege.device();
    siege.rounds(|siege, round| {
        for (what, kind, between) in [
            ("a tag", 0x8100u16, &[0u8, 5, 8, 0][..]),
            ("two tags", 0x88a8, &[0, 5, 0x81, 0, 0, 6, 8, 0]),
            ("LLC", 0x0060, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]),
            ("PPPoE", 0x8864, &[0x11, 0, 0, 1, 0, 0x60, 0, 0x21]),
            ("an experiment's", 0x88b5, &[]),
            ("a loop test's", 0x9000, &[0, 0]),
            ("MPLS", 0x8847, &[0, 1, 1, 64]),
            ("cooked", 0, &[]),
        ] {
            let marker = siege.marker();
            let plain = frame(siege, round.family, &marker);
            let code = if kind == 0 {
                let mac = hex(&[plain[..6].to_vec()]);
                let family = u16::from_be_bytes([plain[12], plain[13]]);
                format!(
                    "my $s = made(17, SOCK_DGRAM, 0);
                     defined(send($s, pack('H*', '{}'), 0, pack('S n i S C C H16', 17, {family}, {index}, 0, 0, 6, '{mac}0000')))
                         or fail('send')",
                    hex(&[plain[14..].to_vec()])
                )
            } else {
                let framed = [&plain[..12], &kind.to_be_bytes(), between, &plain[14..]].concat();
                plainly(index, &framed, false)
            };
            let sent = siege.mallory(round.arms).run(&code);
            if !round.arms.raw() {
                assert_eq!(sent.unwrap_err().errno(), EPERM);
            } else if round.control() {
                sent.unwrap_or_else(|error| panic!("{what}: {error}"));
                siege.outside.waits_for(marker.as_bytes()).unwrap_or_else(|_| panic!("{what} does not leave"));
            } else {
                siege.settle();
                assert!(!siege.left(&marker), "{round:?}: {what}: a frame has left");
            }
        }
    });
}

/// A limit: without the device's table (an older kernel, an administrator who took it away) a packet socket passes every
/// other rule.
#[test]
fn packet_sockets_send_everything_without_the_devices_hook_a_documented_limit() {
    let mut siege = Siege::new(PROGRAM);
    let index = siege.device();
    for by in [By::Cgroup, By::Uid] {
        siege.scene.stand(by);
        let mut administrator = siege.scene.lab.administrator();
        administrator.must("system('/usr/sbin/nft', 'delete table netdev sidewall') == 0 or die 'nft'");
        let marker = siege.marker();
        let code = plainly(index, &frame(&siege, 0, &marker), false);
        siege.mallory(Arms::Raw).must(&code);
        siege.outside.waits_for(marker.as_bytes()).expect("this limit is gone: tell SECURITY.md");
        // The stack's own packets are judged all the same.
        let marker = siege.marker();
        let refused = siege
            .mallory(Arms::Raw)
            .run(&format!("throw(made(AF_INET, SOCK_DGRAM), '{marker}', '198.51.100.10', 7001)"));
        siege.settle();
        assert!(refused.is_err() && !siege.left(&marker), "{by:?}: {refused:?}");
        // A loader finds that something is missing, and the next load brings it back.
        let standing = siege.scene.lab.kernel.verify(siege.scene.loaded.as_ref().unwrap()).unwrap();
        assert!(!format!("{standing:?}").starts_with("Intact"), "{standing:?}");
        siege.scene.stand(by);
        let marker = siege.marker();
        let code = plainly(index, &frame(&siege, 0, &marker), false);
        let _ = siege.mallory(Arms::Raw).run(&code);
        siege.settle();
        assert!(!siege.left(&marker), "{by:?}: the hook does not stand again");
    }
}

/// A limit: AF_XDP sends past the device's hook. Without NET_RAW there is no such socket.
#[test]
fn xdp_sockets_send_past_every_rule_a_documented_limit() {
    let mut siege = Siege::new(PROGRAM);
    let index = siege.device();
    for by in [By::Cgroup, By::Uid] {
        siege.scene.stand(by);
        for family in [0, 1] {
            let marker = siege.marker();
            let code = by_xdp(index, &frame(&siege, family, &marker));
            assert_eq!(siege.mallory(Arms::Plain).run(&code).unwrap_err().errno(), EPERM);
            let mut attacker = siege.scene.lab.attacker(sidewall_tests::scene::id(4), Arms::Raw);
            attacker.must(&code);
            siege.outside.waits_for(marker.as_bytes()).expect("this limit is gone: tell SECURITY.md");
        }
    }
}

/// Who may not send to a neighbour does not make the kernel look for it either.
#[test]
fn nobody_is_looked_for_in_the_name_of_who_is_denied() {
    let mut siege = Siege::new(PROGRAM);
    siege.rounds(|siege, round| {
        let last = u8::try_from(siege.scene.port() % 100).unwrap() + 100;
        let (to, bytes): (IpAddr, Vec<u8>) = match round.family {
            0 => (format!("10.77.0.{last}").parse().unwrap(), vec![0, 0, 0, 0, 0, 0, 10, 77, 0, last]),
            _ => {
                let to: std::net::Ipv6Addr = format!("fd77::{last:x}:{last:x}").parse().unwrap();
                (to.into(), to.octets().to_vec())
            }
        };
        let _ = siege
            .mallory(round.arms)
            .run(&format!("throw(made(family('{to}'), SOCK_DGRAM), 'anybody?', '{to}', 7000)"));
        if round.control() {
            siege.outside.waits_for(&bytes).unwrap();
        } else {
            siege.settle();
            assert!(!siege.outside.saw(&bytes).unwrap(), "{round:?}: somebody is asked for {to}");
        }
    });
}

/// A limit: the kernel reports the IPv6 groups that a process joins, 112 bits of its choice at a time. IPv4's reports are
/// packets like others.
#[test]
fn reports_of_ipv6_groups_leave_a_documented_limit() {
    let mut siege = Siege::new(PROGRAM);
    let index = siege.device();
    siege.rounds(|siege, round| {
        let mut name: Vec<u8> = siege.marker().into_bytes();
        name.resize(14, b'!');
        let (bytes, code) = if round.family == 0 {
            let group = [239, name[10], name[11], name[12]];
            (
                group.to_vec(),
                format!(
                    "option($keep{{g}} = made(AF_INET, SOCK_DGRAM), 0, 35, pack('C4 N i', {}, 0, {index}))",
                    list(&group)
                ),
            )
        } else {
            let group = [&[0xff, 0x05][..], &name].concat();
            (
                group.clone(),
                format!(
                    "option($keep{{g}} = made(AF_INET6, SOCK_DGRAM), 41, 20, pack('C16 i', {}, {index}))",
                    list(&group)
                ),
            )
        };
        siege.mallory(round.arms).must(&code);
        if round.control() || round.family == 1 {
            siege.outside.waits_for(&bytes).expect("this limit is gone: tell SECURITY.md");
        } else {
            siege.settle();
            assert!(!siege.outside.saw(&bytes).unwrap(), "{round:?}: a group's report has left");
        }
    });
}

fn list(bytes: &[u8]) -> String {
    bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

/// A limit: with NET_RAW a container hears what others receive, by packet sockets and by raw ones.
#[test]
fn raw_and_packet_sockets_hear_others_traffic_a_documented_limit() {
    let mut siege = Siege::new(PROGRAM);
    for by in [By::Cgroup, By::Uid] {
        siege.scene.stand(by);
        for family in [0, 1] {
            let listen = |protocol: &str| format!("my $s = made({protocol}); $s");
            for (what, kind) in [
                ("a raw socket", if family == 0 { "AF_INET, SOCK_RAW, 17" } else { "AF_INET6, SOCK_RAW, 17" }),
                ("a packet socket", "17, SOCK_RAW, 768"),
            ] {
                assert_eq!(siege.mallory(Arms::Plain).run(&listen(kind)).unwrap_err().errno(), EPERM);
                siege.mallory(Arms::Raw).must(&format!("$keep{{spy}} = made({kind}); 1"));
                let to = SocketAddr::new(LOOPBACK[family], 8080);
                let flow = siege.scene.flow(End::Container(PROXY), End::Container(APP), Protocol::Udp, to);
                let marker = siege.marker();
                sidewall_tests::scene::carries(&flow.client, &flow.server, marker.as_bytes()).unwrap();
                let heard = hears(siege.mallory(Arms::Raw), &marker);
                assert!(heard, "{by:?}: {what} hears nothing any more: tell SECURITY.md");
                siege.mallory(Arms::Raw).must("delete $keep{spy}; 1");
            }
        }
    }
}

/// Whether the spy has heard a text.
fn hears(attacker: &mut Attacker, text: &str) -> bool {
    let code = format!(
        "my $found = 0; my $until = time + 3;
         until ($found or time > $until) {{
             my $set = ''; vec($set, fileno($keep{{spy}}), 1) = 1; select($set, undef, undef, 0.1);
             while (defined(recv($keep{{spy}}, my $data, 65536, MSG_DONTWAIT))) {{ $found = 1 if index($data, '{text}') >= 0 }}
         }}
         $found"
    );
    attacker.must(&code) == "1"
}

/// The pod forwards (a service mesh's or a router's setting): a frame on `lo` is not carried out for its injector.
#[test]
fn a_pod_that_forwards_carries_nothing_out_for_who_may_not() {
    let mut siege = Siege::new(PROGRAM);
    for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        sidewall_netns::sysctl::set(&siege.scene.lab.pod, key, "1").unwrap();
    }
    siege.rounds(|siege, round| {
        if !round.arms.raw() {
            return;
        }
        let marker = siege.marker();
        // From somebody else, so that the routing believes it.
        let from = SocketAddr::new(sidewall_tests::scene::CLIENTS[round.family], 5000);
        let packet = raw::udp(from, SocketAddr::new(COLLECTORS[round.family], 7001), marker.as_bytes());
        let kind: u16 = if round.family == 0 { 0x0800 } else { 0x86dd };
        let frame = [&[0; 12][..], &kind.to_be_bytes(), &packet].concat();
        siege.mallory(round.arms).must(&plainly(1, &frame, false));
        siege.settle();
        if !round.control() {
            assert!(!siege.left(&marker), "{round:?}: a frame on lo was forwarded");
        } else if round.family == 1 {
            assert!(siege.left(&marker), "{round:?}: without rules it is forwarded");
        }
    });
    // What is allowed goes on.
    let ear = sockets::listen(siege.scene.app(APP), Protocol::Udp, SocketAddr::new(LOOPBACK[0], 8080)).unwrap();
    let from = siege.scene.fresh(LOOPBACK[0]);
    let other = bound(siege.scene.app(sidewall_tests::scene::MALLORY), Protocol::Udp, from).unwrap();
    let _ = send_to(&other, b"x", SocketAddr::new(LOOPBACK[0], 8080));
    assert_silent(&ear, "from mallory");
}
