//! Groups: joining them in every way there is, without end, and being asked about them.

use sidewall_netns::Links;
use sidewall_tests::lab::By;
use sidewall_tests::lab::attacker::Arms;
use sidewall_tests::raw::Sniffer;
use sidewall_tests::scene::CLIENTS;
use sidewall_tests::siege::Siege;
use std::net::IpAddr;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sidewall-party");
const STAGES: [Option<By>; 3] = [None, Some(By::Cgroup), Some(By::Uid)];

/// A group that nothing else has.
fn group(siege: &Siege, family: usize) -> IpAddr {
    let [high, low] = siege.scene.port().to_be_bytes();
    let group = if family == 0 { format!("239.77.{high}.{low}") } else { format!("ff05::77:{high:x}:{low:x}") };
    group.parse().expect("a group")
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The ways to join a group: the old ones of each family, and those of RFC 3678, for all sources and for one.
fn ways(family: usize, group: IpAddr, source: IpAddr, device: u32) -> Vec<(&'static str, String)> {
    let (level, storage) = if family == 0 {
        (0, "sub { pack('S n a4 x120', 2, 0, inet_pton(AF_INET, $_[0])) }")
    } else {
        (41, "sub { pack('S n N a16 x104', 10, 0, 0, inet_pton(AF_INET6, $_[0])) }")
    };
    let new = |name: u32, rest: &str| {
        format!(
            "my $at = {storage}; option($keep{{ear}}, {level}, {name}, pack('L x4', {device}) . $at->('{group}'){rest})"
        )
    };
    let mut ways =
        vec![("MCAST_JOIN_GROUP", new(42, "")), ("MCAST_JOIN_SOURCE_GROUP", new(46, &format!(" . $at->('{source}')")))];
    if family == 0 {
        ways.push((
            "IP_ADD_MEMBERSHIP",
            format!("option($keep{{ear}}, 0, 35, pack('a4 N i', inet_aton('{group}'), 0, {device}))"),
        ));
        ways.push((
            "IP_ADD_SOURCE_MEMBERSHIP",
            format!(
                "option($keep{{ear}}, 0, 39, inet_aton('{group}') . inet_aton('10.77.0.2') . inet_aton('{source}'))"
            ),
        ));
    } else {
        ways.push((
            "IPV6_JOIN_GROUP",
            format!("option($keep{{ear}}, 41, 20, pack('a16 i', inet_pton(AF_INET6, '{group}'), {device}))"),
        ));
    }
    ways
}

#[test]
fn who_has_joined_a_group_hears_nothing_however_it_was_joined() {
    let mut siege = Siege::new(PROGRAM);
    let device = siege.device();
    let outer = Links::of(&siege.scene.lab.network).and_then(|mut links| links.index("pod0")).unwrap();
    let mut neighbour = siege.scene.lab.neighbour();
    siege.rounds(|siege, round| {
        let count = ways(round.family, CLIENTS[0], CLIENTS[0], 0).len();
        for number in 0..count {
            let (group, source) = (group(siege, round.family), CLIENTS[round.family]);
            let (way, joins) = ways(round.family, group, source, device).swap_remove(number);
            let marker = siege.marker();
            siege.mallory(round.arms).must(&format!(
                "$keep{{ear}} = bound(SOCK_DGRAM, '{}', 9100, options => [[SOL_SOCKET, SO_REUSEADDR, pack('i', 1)]]); {joins}; 1",
                round.any()
            ));
            let (free, by) = if round.family == 0 {
                ("[0, 15, pack('i', 1)]", format!("[0, 32, pack('x8 i', {outer})]"))
            } else {
                ("[41, 78, pack('i', 1)]", format!("[41, 17, pack('i', {outer})]"))
            };
            let says = format!(
                "throw(bound(SOCK_DGRAM, '{source}', 0, options => [{free}, {by}]), '{marker}', '{group}', 9100)"
            );
            let hears = "my $set = ''; vec($set, fileno($keep{ear}), 1) = 1; select($set, undef, undef, 3); waiting($keep{ear})";
            let what = format!("{round:?}: {way}");
            if round.control() {
                neighbour.must(&says);
                assert_eq!(siege.mallory(round.arms).must(hears), format!("got {marker}"), "{what}");
            } else {
                siege.scene.denied(&what, |_| neighbour.must(&says));
                assert_eq!(siege.mallory(round.arms).must("waiting($keep{ear})"), "none", "{what}");
            }
            siege.mallory(round.arms).must("delete $keep{ear}; 1");
        }
    });
}

/// A process may join and leave as long as it likes. IPv4's reports are packets like others; those of IPv6 leave (a limit,
/// see the other test), and neither takes anything from anybody else.
#[test]
fn joining_without_end_harms_nobody() {
    const TIMES: u16 = 300;
    let mut siege = Siege::new(PROGRAM);
    let device = siege.device();
    for by in STAGES {
        if let Some(by) = by {
            siege.scene.stand(by);
        }
        for family in [0, 1] {
            let last = group(&siege, family);
            let prefix = if family == 0 { "239.66.$h.$l" } else { "ff05::66:$h:$l" };
            let (join, leave) = if family == 0 {
                (
                    "0, 35, pack('a4 N i', inet_aton($group), 0, DEVICE)",
                    "0, 36, pack('a4 N i', inet_aton($group), 0, DEVICE)",
                )
            } else {
                (
                    "41, 20, pack('a16 i', inet_pton(AF_INET6, $group), DEVICE)",
                    "41, 21, pack('a16 i', inet_pton(AF_INET6, $group), DEVICE)",
                )
            };
            let (join, leave) =
                (join.replace("DEVICE", &device.to_string()), leave.replace("DEVICE", &device.to_string()));
            let before = tracked(&siege);
            siege.mallory(Arms::Plain).must(&format!(
                "my $s = made({}, SOCK_DGRAM);
                 for my $number (1 .. {TIMES}) {{
                     my ($h, $l) = ($number >> 8, $number & 255); my $group = \"{prefix}\";
                     option($s, {join}); option($s, {leave});
                 }}
                 my $group = '{last}'; option($s, {join}); $keep{{joined}} = $s; 1",
                ["AF_INET", "AF_INET6"][family]
            ));
            if family == 1 || by.is_none() {
                siege.outside.waits_for(&bytes(last)).unwrap_or_else(|_| panic!("{by:?}: no report of {last}"));
            } else {
                siege.settle();
                assert!(!siege.outside.saw(&bytes(last)).unwrap(), "{by:?}: a report of {last} has left");
            }
            if by.is_some() {
                siege.settle();
                let grown = tracked(&siege).saturating_sub(before);
                assert!(grown < 60, "{by:?}, family {family}: reports have {grown} entries in the tracker");
            }
            siege.mallory(Arms::Plain).must("delete $keep{joined}; 1");
        }
    }
}

/// How many entries the pod's tracker has.
fn tracked(siege: &Siege) -> usize {
    let read = || std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
    siege.scene.lab.pod.run(read).unwrap().trim().parse().unwrap()
}

/// Who asks for the groups of a pod from the network (RFC 2236) is told of none.
#[test]
fn nobody_learns_a_pods_ipv4_groups_by_asking() {
    let mut siege = Siege::new(PROGRAM);
    let device = siege.device();
    let outer = Links::of(&siege.scene.lab.network).and_then(|mut links| links.index("pod0")).unwrap();
    let mut neighbour = siege.scene.lab.neighbour();
    let asks = format!(
        "my $s = made(AF_INET, SOCK_RAW, 2); option($s, 0, 32, pack('x8 i', {outer})); option($s, 0, 33, pack('i', 1));
         throw($s, pack('C C n N', 0x11, 5, 0xffff ^ 0x1105, 0), '224.0.0.1', 0)"
    );
    for by in STAGES {
        if let Some(by) = by {
            siege.scene.stand(by);
        }
        let group = group(&siege, 0);
        siege.mallory(Arms::Plain).must(&format!(
            "option($keep{{g}} = made(AF_INET, SOCK_DGRAM), 0, 35, pack('a4 N i', inet_aton('{group}'), 0, {device})); 1"
        ));
        // What the kernel says of itself when it joins, it says within a second.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let mut spy = Sniffer::new(siege.scene.outside()).unwrap();
        if by.is_none() {
            neighbour.must(&asks);
            spy.waits_for(&bytes(group)).expect("the kernel answers who asks");
        } else {
            siege.scene.denied("a question", |_| neighbour.must(&asks));
            std::thread::sleep(std::time::Duration::from_millis(700));
            siege.settle();
            assert!(!spy.saw(&bytes(group)).unwrap(), "{by:?}: the pod tells its groups");
        }
        siege.mallory(Arms::Plain).must("delete $keep{g}; 1");
    }
}
