//! What is loaded is what stands there, by our own reading and by `nft`'s.

use crate::support::*;
use sidewall_netfilter::{Features, Kernel, LoadError, LoadOptions, Part, Standing};
use sidewall_policy::ruleset::{Family, HookPoint, Kind, Verdict};
use std::time::Instant;

#[test]
fn every_statement_loads_and_reads_back() {
    let (namespace, mut kernel) = namespace();
    let ruleset = everything();
    let start = Instant::now();
    let loaded = kernel.load(&ruleset, LoadOptions::default()).unwrap();
    println!("{} messages in {:?}", loaded.messages, start.elapsed());
    let start = Instant::now();
    (0..1000).for_each(|_| drop(kernel.counters().unwrap()));
    println!("counters in {:?}", start.elapsed() / 1000);
    assert!(!loaded.owner && loaded.messages > 200);
    assert_eq!(kernel.verify(&ruleset).unwrap(), Standing::AsLoaded);
    let text = nft(&namespace, &["list", "ruleset"]);
    for line in [
        "elements = { 10.0.0.0/24 }",
        "elements = { fd00::/112 }",
        "elements = { 1000-1999 }",
        "elements = { 10.0.0.1 . tcp . 80 }",
        "elements = { fd00::1 . udp . 53 }",
        "elements = { 0x00200000 : goto a.leaf, 0x00400000 : jump a.leaf, 0x00600000 : accept, 0x00800000 : drop, 0x00a00000 : return }",
        "elements = { 4886718345 : goto a.leaf }",
        "type filter hook input priority filter; policy accept;",
        "type filter hook egress device \"lo\" priority filter; policy accept;",
        "ct state invalid",
        "type nat hook prerouting priority filter; policy accept;",
        "meta l4proto tcp redirect to :15412",
        "tproxy ip to ip daddr",
        "tproxy ip6 to ip6 daddr",
        "ip saddr @a.peers4",
        "ip6 saddr != @a.peers6",
        "ip daddr . meta l4proto . th dport @a.flows4",
        "ct original ip6 daddr . meta l4proto . ct original proto-dst != @a.flows6",
        "ct mark & 0x07e00000 vmap @a.senders",
        "socket cgroupv2 level 2 vmap @a.owners",
        "ct mark set ct mark & 0xf83fffff | 0x00204000 counter name \"a.denied\" limit rate 20/second burst 40 packets log prefix \"sw:deny/forged\" group 5 snaplen 256 comment \"shop/log-shipper rule 1\"",
        "meta l4proto tcp reject with tcp reset",
        "meta l4proto udp reject with icmpx admin-prohibited",
        "meta length >= 1 return",
        "meta skuid <= 1 return",
        "th dport != 1 return",
        "fib daddr type unicast return",
        "ip option lsrr exists return",
        "exthdr rt exists return",
        "meta protocol arp meta skuid != 4294967295 drop",
        "ip saddr 127.0.0.1 icmpv6 type nd-neighbor-solicit counter name \"a.leaked\" drop",
    ] {
        assert!(text.lines().any(|own| listed(own).ends_with(&listed(line))), "no {line:?} in\n{text}");
    }
}

/// A line of a listing, with its blanks made even.
fn listed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn this_kernel_is_probed() {
    let features = Features::probe().unwrap();
    assert_eq!(features, Features::ALL, "{features}");
    let lesser = Features { socket_cgroup: false, ..Features::ALL };
    assert!(!features.masked(lesser).socket_cgroup && features.masked(lesser).fib);
}

#[test]
fn twenty_thousand_elements_load() {
    let (namespace, mut kernel) = namespace();
    let net = |index: u128| ip4("10.0.0.0") + index * 256;
    let intervals = (0..20_000).map(|i| range(net(i), net(i) + 127)).collect();
    let plain = (0..20_000).map(|i| element(&[net(i), 6, 1 + i])).collect();
    let verdicts = (0..20_000).map(|i| to(&[0x1_0000_0000 + i], Verdict::Goto("leaf".into()))).collect();
    let ruleset = ruleset(vec![table(
        &[],
        vec![
            set("intervals", &[Kind::Ipv4], true, intervals),
            set("plain", &[Kind::Ipv4, Kind::Protocol, Kind::Port], false, plain),
            set("verdicts", &[Kind::Cgroup], false, verdicts),
        ],
        vec![base("out", HookPoint::Output, true, []), chain("leaf", [rule([verdict(Verdict::Accept)])])],
    )]);
    let start = Instant::now();
    kernel.load(&ruleset, LoadOptions::default()).unwrap();
    let loaded = start.elapsed();
    assert_eq!(kernel.verify(&ruleset).unwrap(), Standing::AsLoaded);
    println!("loaded {loaded:?}, verified {:?}", start.elapsed() - loaded);
    let listed = nft(&namespace, &["-j", "list", "set", "inet", "sidewall", "a.intervals"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let elements = listed["nftables"]
        .as_array()
        .and_then(|objects| objects.iter().find_map(|object| object["set"]["elem"].as_array()))
        .expect("nft lists the elements");
    assert_eq!(elements.len(), 20_000);
}

#[test]
fn loading_replaces_all_of_ours_and_nothing_else() {
    let (namespace, mut kernel) = namespace();
    nft(&namespace, &["add table inet other; add chain inet other sidewall; add table ip sidewall"]);
    kernel.load(&everything(), LoadOptions::default()).unwrap();
    let small = ruleset(vec![table(&["kept"], Vec::new(), vec![base("out", HookPoint::Output, true, [])])]);
    kernel.load(&small, LoadOptions::default()).unwrap();
    assert_eq!(kernel.verify(&small).unwrap(), Standing::AsLoaded);
    let tables = nft(&namespace, &["list", "tables"]);
    assert_eq!(tables.lines().collect::<Vec<_>>(), ["table inet other", "table ip sidewall", "table inet sidewall"]);
    let foreign: Vec<String> = kernel.foreign_tables().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(foreign, ["inet other", "ip sidewall"]);
    assert_eq!(kernel.counters().unwrap().len(), 1);
    assert!(kernel.counter(Family::Inet, "kept").unwrap().is_some());
    assert!(kernel.counter(Family::Inet, "other").unwrap().is_none());
    assert!(kernel.counter(Family::Netdev, "kept").unwrap().is_none());
    kernel.unload().unwrap();
    kernel.unload().unwrap();
    assert_eq!(nft(&namespace, &["list", "tables"]).lines().count(), 2, "only the foreign tables stay");
}

#[test]
fn a_refusal_names_the_rule_and_changes_nothing() {
    let (namespace, mut kernel) = namespace();
    let good = ruleset(vec![table(&[], Vec::new(), vec![base("out", HookPoint::Output, true, [])])]);
    kernel.load(&good, LoadOptions::default()).unwrap();
    let before = nft(&namespace, &["list", "ruleset"]);
    // The kernel refuses chains that jump in a circle.
    let circle = ruleset(vec![table(
        &[],
        Vec::new(),
        vec![
            base("out", HookPoint::Output, true, [rule([verdict(Verdict::Jump("a".into()))])]),
            chain("a", [rule([verdict(Verdict::Jump("b".into()))])]),
            chain("b", [rule([]), rule([verdict(Verdict::Jump("a".into()))])]),
        ],
    )]);
    let error = kernel.load(&circle, LoadOptions::default()).unwrap_err();
    println!("{error}");
    assert!(
        matches!(
            &error,
            LoadError::Refused { place, source, .. }
                if matches!(source.raw_os_error(), Some(libc::ELOOP | libc::EMLINK))
                && matches!(&place.part, Part::Rule { chain, .. } if chain == "a" || chain == "b")
        ),
        "{error:?}"
    );
    assert_eq!(kernel.verify(&good).unwrap(), Standing::AsLoaded);
    assert_eq!(nft(&namespace, &["list", "ruleset"]), before);
}

#[test]
fn without_privilege_the_error_says_what_to_do() {
    let namespace = sidewall_netns::NetNs::new().unwrap();
    // A process without capabilities, in the namespace.
    let output = inside(
        &namespace,
        "setpriv",
        &[
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--bounding-set=-all",
            std::env::current_exe().unwrap().to_str().unwrap(),
            "--ignored",
            "--exact",
            "load::unprivileged_half",
            "--nocapture",
        ],
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("SAID: ") && text.contains("CAP_NET_ADMIN"),
        "{text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "run by without_privilege_the_error_says_what_to_do, without privilege"]
fn unprivileged_half() {
    let error = Kernel::here()
        .map_err(LoadError::from)
        .and_then(|mut kernel| kernel.load(&everything(), LoadOptions::default()))
        .expect_err("nothing may be loaded");
    println!("SAID: {error}");
}
