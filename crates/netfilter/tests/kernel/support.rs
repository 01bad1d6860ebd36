//! Namespaces, rulesets by hand, and `nft` as a second opinion.

use sidewall_flow::{Decision, Place};
use sidewall_netfilter::Kernel;
use sidewall_netns::{Links, NetNs};
use sidewall_policy::ruleset::{
    Chain, Compare, Counter, Element, Family, Field, Generation, Hook, HookPoint, Kind, Rule, Ruleset, Set, Statement,
    Table, Verdict,
};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Output};

/// A namespace with `lo` up, and netfilter in it.
pub fn namespace() -> (NetNs, Kernel) {
    let namespace = NetNs::new().expect("a network namespace: this test needs root");
    Links::of(&namespace).and_then(|mut links| links.set_up("lo")).expect("lo is up");
    let kernel = Kernel::open(&namespace).expect("netfilter");
    (namespace, kernel)
}

/// Runs a program inside a namespace.
pub fn inside(namespace: &NetNs, program: &str, arguments: &[&str]) -> Output {
    let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd());
    Command::new("nsenter")
        .arg(format!("--net={path}"))
        .arg("--")
        .arg(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("nsenter {program}: {error}"))
}

/// Runs `nft` inside a namespace and gives what it says; it must succeed.
pub fn nft(namespace: &NetNs, arguments: &[&str]) -> String {
    let output = inside(namespace, "nft", arguments);
    assert!(output.status.success(), "nft {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("nft writes UTF-8")
}

pub fn rule(statements: impl Into<Vec<Statement>>) -> Rule {
    Rule { statements: statements.into(), comment: None }
}

pub fn equal(field: Field, value: u128) -> Statement {
    compare(field, None, Compare::Equal, value)
}

pub fn compare(field: Field, mask: Option<u32>, compare: Compare, value: u128) -> Statement {
    Statement::Match { field, mask, compare, value }
}

pub fn verdict(verdict: Verdict) -> Statement {
    Statement::Verdict(verdict)
}

pub fn chain(name: &str, rules: impl Into<Vec<Rule>>) -> Chain {
    Chain { name: name.to_owned(), hook: None, rules: rules.into() }
}

pub fn base(name: &str, point: HookPoint, accept: bool, rules: impl Into<Vec<Rule>>) -> Chain {
    Chain { name: name.to_owned(), hook: Some(Hook { point, priority: 0, accept }), rules: rules.into() }
}

pub fn set(name: &str, key: &[Kind], interval: bool, elements: Vec<Element>) -> Set {
    Set {
        name: name.to_owned(),
        key: key.into(),
        interval,
        map: elements.first().is_some_and(|element| element.verdict.is_some()),
        counts: elements.first().is_some_and(|element| element.counter.is_some()),
        grows: false,
        elements,
    }
}

/// The set, as one whose elements may come and go.
pub fn growing(set: Set) -> Set {
    Set { grows: true, ..set }
}

pub fn element(key: &[u128]) -> Element {
    Element { key: key.into(), last: None, verdict: None, counter: None }
}

pub fn range(first: u128, last: u128) -> Element {
    Element { key: first.into(), last: Some(last), verdict: None, counter: None }
}

pub fn to(key: &[u128], verdict: Verdict) -> Element {
    Element { key: key.into(), last: None, verdict: Some(verdict), counter: None }
}

pub fn counter(name: &str) -> Counter {
    Counter { name: name.to_owned() }
}

pub fn table(counters: &[&str], sets: Vec<Set>, chains: Vec<Chain>) -> Table {
    Table { family: Family::Inet, counters: counters.iter().map(|name| counter(name)).collect(), sets, chains }
}

pub fn ruleset(tables: Vec<Table>) -> Ruleset {
    Ruleset { generation: Generation::FIRST, tables }
}

pub fn ip4(text: &str) -> u128 {
    text.parse::<std::net::Ipv4Addr>().expect("an address").to_bits().into()
}

pub fn ip6(text: &str) -> u128 {
    text.parse::<std::net::Ipv6Addr>().expect("an address").to_bits()
}

/// Every field that a rule can look at.
pub const FIELDS: &[Field] = &[
    Field::NfProtocol,
    Field::Protocol,
    Field::InputDevice,
    Field::OutputDevice,
    Field::Length,
    Field::PacketType,
    Field::EtherType,
    Field::RouteClass,
    Field::SocketUid,
    Field::SocketGid,
    Field::SocketCgroup { level: 1 },
    Field::SocketWildcard,
    Field::SocketTransparent,
    Field::CtState,
    Field::CtDirection,
    Field::CtMark,
    Field::CtOriginalSource4,
    Field::CtOriginalSource6,
    Field::CtOriginalDestination4,
    Field::CtOriginalDestination6,
    Field::CtOriginalDestinationPort,
    Field::FibSourceType,
    Field::FibDestinationType,
    Field::NetworkHeaderStart,
    Field::Ipv4Source,
    Field::Ipv4Destination,
    Field::Ipv6Source,
    Field::Ipv6Destination,
    Field::Ipv6NextHeader,
    Field::HopLimit,
    Field::IcmpType,
    Field::Icmpv6Type,
    Field::SourcePort,
    Field::DestinationPort,
    Field::TcpFlags,
    Field::LooseSourceRoute,
    Field::StrictSourceRoute,
    Field::RoutingHeader,
];

/// A ruleset with every statement, every field, every comparison, both families.
pub fn everything() -> Ruleset {
    let mut fields = Vec::new();
    for field in FIELDS {
        for how in [Compare::Equal, Compare::NotEqual, Compare::AtMost, Compare::AtLeast] {
            fields.push(rule([compare(*field, None, how, 1), verdict(Verdict::Return)]));
        }
        fields.push(rule([compare(*field, Some(0x7f), Compare::NotEqual, 0)]));
    }
    let sets = vec![
        set("peers4", &[Kind::Ipv4], true, vec![range(ip4("10.0.0.0"), ip4("10.0.0.255"))]),
        set("peers6", &[Kind::Ipv6], true, vec![range(ip6("fd00::"), ip6("fd00::ffff"))]),
        set("uids", &[Kind::Uid], true, vec![range(1000, 1999)]),
        set("flows4", &[Kind::Ipv4, Kind::Protocol, Kind::Port], false, vec![element(&[ip4("10.0.0.1"), 6, 80])]),
        set("flows6", &[Kind::Ipv6, Kind::Protocol, Kind::Port], false, vec![element(&[ip6("fd00::1"), 17, 53])]),
        set(
            "senders",
            &[Kind::Mark],
            false,
            vec![
                to(&[0x0020_0000], Verdict::Goto("leaf".into())),
                to(&[0x0040_0000], Verdict::Jump("leaf".into())),
                to(&[0x0060_0000], Verdict::Accept),
                to(&[0x0080_0000], Verdict::Drop),
                to(&[0x00a0_0000], Verdict::Return),
            ],
        ),
        set("owners", &[Kind::Cgroup], false, vec![to(&[0x1_2345_6789], Verdict::Goto("leaf".into()))]),
        set("ports", &[Kind::Port], false, vec![element(&[53]), element(&[443])]),
    ];
    let lookup = |fields: &[Field], set: &str, negate| {
        rule([Statement::Lookup { fields: fields.to_vec(), mask: None, set: set.to_owned(), negate }])
    };
    let chains = vec![
        base(
            "pre",
            HookPoint::Prerouting,
            true,
            [
                rule([compare(Field::CtState, Some(Field::CT_INVALID), Compare::NotEqual, 0)]),
                rule([compare(Field::Protocol, None, Compare::Equal, 6), Statement::FindListener4]),
                rule([compare(Field::Protocol, None, Compare::Equal, 6), Statement::FindListener6]),
            ],
        ),
        base(
            "lead",
            HookPoint::PreroutingNat,
            true,
            [rule([compare(Field::Protocol, None, Compare::Equal, 6), Statement::Redirect { port: 15412 }])],
        ),
        base("led", HookPoint::OutputNat, true, [rule([Statement::LeadTo { address: [10, 0, 0, 1].into() }])]),
        base("spoken", HookPoint::PostroutingNat, true, [rule([Statement::SpeakAs { address: [10, 0, 0, 2].into() }])]),
        base("heard", HookPoint::InputNat, true, [rule([Statement::SpeakAs { address: [127, 0, 0, 1].into() }])]),
        base(
            "in",
            HookPoint::Input,
            true,
            [lookup(&[Field::Ipv4Source], "peers4", false), lookup(&[Field::Ipv6Source], "peers6", true)],
        ),
        base(
            "out",
            HookPoint::Output,
            true,
            [
                rule([verdict(Verdict::Jump("fields".into()))]),
                lookup(&[Field::SocketUid], "uids", false),
                lookup(&[Field::Ipv4Destination, Field::Protocol, Field::DestinationPort], "flows4", false),
                lookup(
                    &[Field::CtOriginalDestination6, Field::Protocol, Field::CtOriginalDestinationPort],
                    "flows6",
                    true,
                ),
                lookup(&[Field::DestinationPort], "ports", false),
                rule([Statement::Dispatch {
                    fields: vec![Field::CtMark],
                    mask: Some(0x07e0_0000),
                    map: "senders".into(),
                }]),
                rule([Statement::Dispatch {
                    fields: vec![Field::SocketCgroup { level: 2 }],
                    mask: None,
                    map: "owners".into(),
                }]),
                Rule {
                    statements: vec![
                        Statement::SetMark { keep: 0xf81f_bfff, set: 0x0020_4000 },
                        Statement::Count("denied".into()),
                        Statement::Limit { per_second: 20, burst: 40 },
                        Statement::Log(Decision::denied(Place::Forged)),
                    ],
                    comment: Some("shop/log-shipper rule 1".into()),
                },
                rule([equal(Field::Protocol, 6), Statement::ClampSegments]),
                rule([equal(Field::Protocol, 6), Statement::RejectTcpReset]),
                rule([equal(Field::Protocol, 17), Statement::RejectProhibited]),
                rule([verdict(Verdict::Goto("leaf".into()))]),
            ],
        ),
        chain("leaf", [rule([verdict(Verdict::Accept)])]),
        chain("fields", fields),
        chain("end", [rule([verdict(Verdict::Drop)])]),
    ];
    let netdev = Table {
        family: Family::Netdev,
        counters: vec![counter("leaked")],
        sets: Vec::new(),
        chains: vec![Chain {
            name: "egress".into(),
            hook: Some(Hook { point: HookPoint::DeviceEgress("lo".into()), priority: 0, accept: true }),
            rules: vec![
                rule([compare(Field::RouteClass, None, Compare::AtLeast, 0), verdict(Verdict::Accept)]),
                rule([
                    equal(Field::EtherType, 0x0806),
                    compare(Field::SocketUid, None, Compare::NotEqual, u128::from(u32::MAX)),
                    verdict(Verdict::Drop),
                ]),
                rule([
                    equal(Field::Ipv4Source, ip4("127.0.0.1")),
                    equal(Field::Icmpv6Type, 135),
                    Statement::Count("leaked".into()),
                    verdict(Verdict::Drop),
                ]),
            ],
        }],
    };
    ruleset(vec![table(&["denied"], sets, chains), netdev])
}

/// How many packets each counter has counted.
pub fn counted(kernel: &mut Kernel) -> BTreeMap<String, u64> {
    kernel.counters().unwrap().into_iter().map(|(name, count)| (name, count.packets)).collect()
}
