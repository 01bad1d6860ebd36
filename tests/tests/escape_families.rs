//! Kinds of sockets: which ones a container may make at all, what of them the rules see, and what is left to the node.

use sidewall_tests::lab::By;
use sidewall_tests::lab::attacker::Arms;
use sidewall_tests::scene::{COLLECTORS, MALLORY, PROXY, id};
use sidewall_tests::siege::Siege;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
const EPERM: Option<i32> = Some(1);

/// Address families that have nothing to do with IP, by their numbers, and what SECURITY.md calls them. The kernels of
/// distributions have many as modules that are loaded when somebody asks; which ones there are is the node's business.
const FAMILIES: [(u32, &str); 32] = [
    (3, "AX.25"),
    (4, "IPX"),
    (5, "AppleTalk"),
    (6, "NET/ROM"),
    (8, "ATM"),
    (9, "X.25"),
    (11, "ROSE"),
    (15, "AF_KEY"),
    (19, "Econet"),
    (20, "ATM"),
    (21, "RDS"),
    (23, "IrDA"),
    (24, "PPPoE"),
    (26, "LLC"),
    (27, "InfiniBand"),
    (28, "MPLS"),
    (29, "CAN"),
    (30, "TIPC"),
    (31, "Bluetooth"),
    (33, "RxRPC"),
    (34, "ISDN"),
    (35, "Phonet"),
    (36, "IEEE 802.15.4"),
    (37, "CAIF"),
    (38, "AF_ALG"),
    (39, "NFC"),
    (40, "vsock"),
    (41, "KCM"),
    (42, "QRTR"),
    (43, "SMC"),
    (45, "MCTP"),
    (12, "DECnet"),
];

/// Makes every kind of socket there is, and tells of those that could be made, as family and type.
const KINDS: &str = "my @made;
     for my $family (1 .. 47) { next if $family == 2 or $family == 10;
         for my $type (1 .. 6) { socket(my $s, $family, $type, 0) and push @made, \"$family:$type\" } }
     join ' ', @made";

/// A limit: what sends no packets of IP meets no rule. A container has them where the kernel has; each is named.
#[test]
fn sockets_of_other_families_are_the_kernels_business_a_documented_limit() {
    let mut siege = Siege::new(PROGRAM);
    let page = include_str!("../../SECURITY.md");
    for by in [By::Cgroup, By::Uid] {
        siege.scene.stand(by);
        for arms in [Arms::Plain, Arms::Raw, Arms::Root] {
            if (by, arms) == (By::Uid, Arms::Root) {
                continue;
            }
            let made = siege.mallory(arms).must(KINDS);
            let mut found = std::collections::BTreeSet::new();
            for kind in made.split(' ') {
                let (family, kind) = kind.split_once(':').expect("a family and a type");
                let family: u32 = family.parse().expect("a number");
                match family {
                    // UNIX and netlink; with NET_RAW also packets and AF_XDP: tests of their own are about them.
                    1 | 16 => {}
                    17 | 44 => assert!(arms.raw(), "{by:?}, {arms:?}: a packet socket without NET_RAW"),
                    _ => {
                        let known = FAMILIES.iter().find(|(number, _)| *number == family);
                        let (_, name) =
                            known.unwrap_or_else(|| panic!("the family {family} ({kind}) is none we know of"));
                        assert!(page.contains(name), "SECURITY.md does not speak of {name}");
                        found.insert(*name);
                    }
                }
            }
            assert!(made.contains("1:1") && made.contains("16:3"), "{by:?}, {arms:?}: {made}");
            eprintln!("{by:?}, {arms:?}: this kernel has {found:?}");
        }
    }
}

/// A limit: netlink's channel for users (`NETLINK_USERSOCK`) carries what one container says to another, as an abstract
/// UNIX socket does: it belongs to the network namespace that they share.
#[test]
fn a_netlink_socket_carries_data_between_containers_a_documented_limit() {
    let mut siege = Siege::new(PROGRAM);
    for by in [By::Cgroup, By::Uid] {
        siege.scene.stand(by);
        let mut hears = siege.scene.lab.attacker(id(PROXY), Arms::Plain);
        let mut says = siege.scene.lab.attacker(id(MALLORY), Arms::Plain);
        let port = hears.must(
            "$keep{n} = made(16, SOCK_RAW, 2); bind($keep{n}, pack('S S L L', 16, 0, 0, 0)) or fail('bind');
             (unpack('S S L L', getsockname($keep{n})))[2]",
        );
        says.must(&format!(
            "my $data = 'by no packet'; my $s = made(16, SOCK_RAW, 2);
             defined(send($s, pack('L S S L L', 16 + length $data, 16, 0, 0, 0) . $data, 0, pack('S S L L', 16, 0, {port}, 0)))
                 or fail('send')"
        ));
        let got = hears.must("my $got = waiting($keep{n}); $got =~ /by no packet/ ? 'heard' : $got");
        assert_eq!(got, "heard", "this limit is gone: tell SECURITY.md");
    }
}

/// Tries every protocol that has sockets of its own in a family, and tells which: as type and protocol.
fn tries_all(family: &str, to: &str, text: &str) -> String {
    format!(
        "my @made;
         for my $protocol (0 .. 262) {{ for my $type (1, 2, 5, 6, 10) {{
             socket(my $s, {family}, $type, $protocol) or next;
             push @made, \"$type:$protocol\";
             fcntl($s, 4, 2048 | fcntl($s, 3, 0));
             # Echo, where this is a ping socket.
             my $data = $protocol == 1 || $protocol == 58 ? pack('C4 n n', {family} == AF_INET ? 8 : 128, 0, 0, 0, 1, 1) : '';
             if ($type == 2) {{ send($s, \"${{data}}{text}$protocol-\", MSG_NOSIGNAL, address('{to}', 7000)) }}
             else {{ connect($s, address('{to}', 7000)); select(undef, undef, undef, 0.02); send($s, '{text}', MSG_NOSIGNAL) }}
         }} }}
         join ' ', @made"
    )
}

/// SCTP, DCCP, UDP-Lite, L2TP, SMC, echo: whatever the kernel has sockets for, nothing of it leaves. Those that a policy
/// can name are denied; the others no policy can name.
#[test]
fn every_protocol_that_has_sockets_is_denied() {
    let mut siege = Siege::new(PROGRAM);
    sidewall_netns::sysctl::set(&siege.scene.lab.pod, "net.ipv4.ping_group_range", "0 2147483647").unwrap();
    siege.rounds(|siege, round| {
        let marker = siege.marker();
        let family = ["AF_INET", "AF_INET6"][round.family];
        let to = COLLECTORS[round.family].to_string();
        let made = siege.mallory(round.arms).must(&tries_all(family, &to, &marker));
        let datagrams: Vec<&str> = made.split(' ').filter_map(|kind| kind.strip_prefix("2:")).collect();
        // UDP, by both its numbers, and UDP-Lite at least; and ping sockets.
        for wanted in ["0", "17", "136", ["1", "58"][round.family]] {
            assert!(datagrams.contains(&wanted), "{round:?}: {made}");
        }
        if round.control() {
            for protocol in datagrams {
                let sent = siege.outside.waits_for(format!("{marker}{protocol}-").as_bytes());
                sent.unwrap_or_else(|_| panic!("{round:?}: protocol {protocol} does not leave"));
            }
        } else {
            siege.settle();
            assert!(!siege.left(&marker), "{round:?}: one of {made} has left; {}", siege.scene.moved());
        }
    });
}

/// What would make another connection of a socket, or lead its data past the stack: each takes an administrator.
#[test]
fn nobody_but_an_administrator_rewrites_a_connection() {
    let mut siege = Siege::new(PROGRAM);
    let attempts = [
        ("TCP_REPAIR", "option(made(AF_INET, SOCK_STREAM), 6, 19, pack('i', 1)); 1"),
        // A map of sockets, which sends from one to another without a packet (`BPF_MAP_TYPE_SOCKMAP`).
        ("a map of sockets", "my $map = pack('L5', 15, 4, 4, 1, 0) . \"\\0\" x 100; call('bpf', 0, $map, 120); 1"),
        // One for programs that a cgroup's packets go through (`BPF_MAP_TYPE_CGROUP_ARRAY`).
        ("a map of cgroups", "my $map = pack('L5', 8, 4, 4, 1, 0) . \"\\0\" x 100; call('bpf', 0, $map, 120); 1"),
        ("SO_PRIORITY above six", "option(made(AF_INET, SOCK_DGRAM), 1, 12, pack('i', 7)); 1"),
        ("SO_RCVBUFFORCE", "option(made(AF_INET, SOCK_DGRAM), 1, 33, pack('i', 65536)); 1"),
    ];
    siege.scene.stand(By::Cgroup);
    let mut administrator = siege.scene.lab.administrator();
    for (what, code) in attempts {
        administrator.run(code).unwrap_or_else(|error| panic!("{what} is no attack: {error}"));
        for arms in [Arms::Plain, Arms::Raw, Arms::Root] {
            // NET_RAW is enough for a priority, which no rule believes.
            let answer = siege.mallory(arms).run(code);
            if what.starts_with("SO_PRIORITY") && arms.raw() {
                assert!(answer.is_ok(), "{arms:?}: {answer:?}");
                continue;
            }
            assert_eq!(answer.as_ref().err().and_then(|error| error.errno()), EPERM, "{arms:?}: {what}: {answer:?}");
        }
    }
}
