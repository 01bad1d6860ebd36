//! Multipath TCP: further subflows, which the kernels of both ends open by themselves, to and from other addresses and by
//! other devices than the first one.

use serde_json::json;
use sidewall_api::ContainerNetworkPolicy;
use sidewall_netns::NetNs;
use sidewall_tests::lab::attacker::{Arms, Attacker};
use sidewall_tests::lab::{self, By, Lab};
use sidewall_tests::raw::Sniffer;
use sidewall_tests::scene::{COLLECTORS, LIMIT, MALLORY, POD, id, policy, ports, walls};
use sidewall_tests::siege::Siege;
use sidewall_tests::siege::networks::{ETH0, NET1, Pod, own};
use std::net::IpAddr;
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");

/// A further address of a peer, which no other attempt has: one that is allowed, or one that is not.
fn another(siege: &Siege, family: usize, allowed: bool) -> IpAddr {
    let number = siege.scene.port() % 200 + 40;
    let address = match (family, allowed) {
        (0, true) => format!("198.51.100.{number}"),
        (0, false) => format!("203.0.113.{number}"),
        (_, true) => format!("2001:db8:1::{number}"),
        (_, false) => format!("2001:db8:2::{number}"),
    };
    address.parse().expect("an address")
}

/// Two addresses as they stand in a packet's header.
fn header(from: IpAddr, to: IpAddr) -> Vec<u8> {
    let bytes = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    [bytes(from), bytes(to)].concat()
}

/// Whom the attacker may reach, and who may reach it: the subnets of the collectors.
fn collectors_only() -> Vec<ContainerNetworkPolicy> {
    let collectors = json!([{"ipBlock": {"cidr": "198.51.100.0/24"}}, {"ipBlock": {"cidr": "2001:db8:1::/64"}}]);
    let mallory = json!({
        "containers": ["mallory"], "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": collectors, "ports": ports(&[9100])}],
        "egress": [{"to": collectors, "ports": ports(&[7000])}],
    });
    walls().into_iter().take(3).chain([policy("mallory", mallory)]).collect()
}

/// Lets both ends take whatever subflow they are told of. Says so where the kernel has no MPTCP: nothing is tried then.
fn prepared(namespaces: [&NetNs; 2]) -> bool {
    if !std::path::Path::new("/proc/sys/net/mptcp").exists() {
        eprintln!("this kernel has no MPTCP: there is nothing to try");
        return false;
    }
    for ns in namespaces {
        lab::ip(ns, "mptcp limits set subflows 8 add_addr_accepted 8").unwrap();
    }
    true
}

/// Code that listens on every address.
fn listens(family: usize, port: u16) -> String {
    format!(
        "delete $keep{{$_}} for qw(l a);
         $keep{{l}} = bound(SOCK_STREAM, '{}', {port}, protocol => 262,
             options => [[SOL_SOCKET, SO_REUSEADDR, pack('i', 1)]{}]);
         listen($keep{{l}}, 8) or fail('listen'); 1",
        ["0.0.0.0", "::"][family],
        ["", ", [41, 26, pack('i', 1)]"][family]
    )
}

/// Code that connects from an address, and says hello.
fn calls(from: IpAddr, to: IpAddr, port: u16) -> String {
    format!(
        "delete $keep{{c}}; $keep{{c}} = bound(SOCK_STREAM, '{from}', 0, protocol => 262, options => [[{}, pack('i', 1)]]);
         dial($keep{{c}}, 'hello', '{to}', {port})",
        // IP_FREEBIND, IPV6_FREEBIND: every address is the network's, and no device has it.
        if from.is_ipv4() { "0, 15" } else { "41, 78" }
    )
}

const ACCEPTS: &str =
    "my $set = ''; vec($set, fileno($keep{l}), 1) = 1; select($set, undef, undef, 5) or die \"nobody calls\\n\";
     accept($keep{a}, $keep{l}) or fail('accept'); $set = ''; vec($set, fileno($keep{a}), 1) = 1;
     select($set, undef, undef, 5); waiting($keep{a})";

/// What there is beside the first subflow, after a while in which it is used; none where the rules have denied something.
fn further_subflows(lab: &mut Lab, client: &mut Attacker, walls: bool) -> u8 {
    let (start, before) = (Instant::now(), if walls { lab.denials() } else { 0 });
    loop {
        // Addresses are told with what is acknowledged.
        client.must("defined(send($keep{c}, 'more', MSG_NOSIGNAL)) or fail('send')");
        // MPTCP_INFO begins with the number.
        let count = client.must("unpack('C', getsockopt($keep{c}, 284, 1) // fail('MPTCP_INFO'))");
        let count = count.parse().expect("a number");
        if count > 0 || start.elapsed() > LIMIT || walls && lab.denials() > before {
            return count;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The stages, and in each with what the attacker is tried.
const STAGES: [(Option<By>, &[Arms]); 3] = [
    (None, &[Arms::Plain]),
    (Some(By::Cgroup), &[Arms::Plain, Arms::Root]),
    (Some(By::Uid), &[Arms::Plain, Arms::Raw]),
];

/// The peer says that it has another address, and the pod's kernel connects to it. By user, no further subflow is opened
/// from the pod at all.
#[test]
fn a_peers_further_address_is_judged_like_its_first() {
    let mut siege = Siege::new(PROGRAM);
    let network = siege.scene.lab.network.clone();
    if !prepared([&siege.scene.lab.pod, &network]) {
        return;
    }
    let mut accomplice = siege.scene.lab.neighbour();
    for (by, arms) in STAGES {
        if let Some(by) = by {
            siege.scene.by = by;
            siege.scene.enforce(&collectors_only());
        }
        for (arms, family) in arms.iter().flat_map(|arms| [(*arms, 0), (*arms, 1)]) {
            for allowed in [true, false] {
                let offered = another(&siege, family, allowed);
                let what = format!("{by:?}, {arms:?}: {offered}");
                lab::ip(&network, "mptcp endpoint flush").unwrap();
                lab::ip(&network, &format!("mptcp endpoint add {offered} signal")).unwrap();
                accomplice.must(&listens(family, 7000));
                let mut client = siege.scene.lab.attacker(id(MALLORY), arms);
                client.must(&calls(POD[family], COLLECTORS[family], 7000));
                assert_eq!(accomplice.must(ACCEPTS), "got hello", "{what}");
                let further = further_subflows(&mut siege.scene.lab, &mut client, by.is_some());
                siege.settle();
                let sent = siege.outside.saw(&header(POD[family], offered)).unwrap();
                // By user, the kernel's own subflow is nobody's while it connects.
                let wanted = by.is_none() || allowed && by == Some(By::Cgroup);
                let wanted = (u8::from(wanted), wanted);
                assert_eq!((further, sent), wanted, "{what}; {}", siege.scene.moved());
                // The first one goes on.
                client.must("defined(send($keep{c}, 'still', MSG_NOSIGNAL)) or fail('send')");
                let heard = accomplice.must(
                    "my $all = ''; my $until = time + 5;
                     until ($all =~ /still/ or time > $until) { my $set = ''; vec($set, fileno($keep{a}), 1) = 1;
                         select($set, undef, undef, 0.1); $all .= waiting($keep{a}) } $all",
                );
                assert!(heard.contains("still"), "{what}: {heard}");
            }
        }
    }
}

/// A client on the network that may connect joins a subflow from an address that may not.
#[test]
fn a_subflow_from_another_address_is_judged_like_the_first() {
    let mut siege = Siege::new(PROGRAM);
    let network = siege.scene.lab.network.clone();
    if !prepared([&siege.scene.lab.pod, &network]) {
        return;
    }
    let mut client = siege.scene.lab.neighbour();
    for (by, _) in STAGES {
        if let Some(by) = by {
            siege.scene.by = by;
            siege.scene.enforce(&collectors_only());
        }
        for family in [0, 1] {
            for allowed in [true, false] {
                let from = another(&siege, family, allowed);
                let what = format!("{by:?}: from {from}");
                lab::ip(&network, "mptcp endpoint flush").unwrap();
                lab::ip(&network, &format!("mptcp endpoint add {from} subflow")).unwrap();
                siege.mallory(Arms::Plain).must(&listens(family, 9100));
                client.must(&calls(COLLECTORS[family], POD[family], 9100));
                assert_eq!(siege.mallory(Arms::Plain).must(ACCEPTS), "got hello", "{what}");
                let further = further_subflows(&mut siege.scene.lab, &mut client, by.is_some());
                let wanted = u8::from(by.is_none() || allowed);
                // Its own end counts a subflow when the other has answered, for a moment or for good.
                let heard =
                    siege.mallory(Arms::Plain).must("unpack('C', getsockopt($keep{a}, 284, 1) // fail('INFO'))");
                assert_eq!(heard, wanted.to_string(), "{what}: {further}; {}", siege.scene.moved());
            }
        }
    }
}

/// The pod's kernel joins by a further network of the pod, where its policies are others.
#[test]
fn a_subflow_by_another_network_is_judged_there() {
    let mut pod = Pod::new(PROGRAM);
    let inside = pod.siege.scene.lab.pod.clone();
    if !prepared([&inside, &pod.siege.scene.lab.network]) {
        return;
    }
    let mut accomplice = pod.siege.scene.lab.neighbour();
    lab::ip(&inside, &format!("mptcp endpoint add {} dev net1 subflow", own(NET1, 0))).unwrap();
    lab::ip(&inside, &format!("mptcp endpoint add {} dev net1 subflow", own(NET1, 1))).unwrap();
    pod.stages(|pod, by| {
        for family in [0, 1] {
            accomplice.must(&listens(family, 7000));
            let mut client = pod.siege.scene.lab.attacker(id(MALLORY), Arms::Plain);
            let (from, to) = (own(NET1, family), COLLECTORS[family]);
            let mut spy = Sniffer::new(pod.network(NET1)).unwrap();
            client.must(&calls(own(ETH0, family), to, 7000));
            assert_eq!(accomplice.must(ACCEPTS), "got hello", "{by:?}");
            let start = Instant::now();
            let denials = if by.is_some() { pod.siege.scene.lab.denials() } else { 0 };
            let sent = loop {
                client.must("defined(send($keep{c}, 'more', MSG_NOSIGNAL)) or fail('send')");
                let sent = spy.saw(&header(from, to)).unwrap();
                let denied = by.is_some() && pod.siege.scene.lab.denials() > denials;
                if sent || denied || start.elapsed() > LIMIT {
                    break sent;
                }
                std::thread::sleep(Duration::from_millis(10));
            };
            assert_eq!(sent, by.is_none(), "{by:?}, family {family}; {}", pod.siege.scene.moved());
        }
    });
}
