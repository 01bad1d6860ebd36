//! A ruleset as text, in the manner of `nft`: for golden files and for people, not for loading.

use super::{Chain, Compare, Element, Family, Field, HookPoint, Kind, Rule, Ruleset, Set, Statement, Table, Verdict};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# generation {}", self.generation)?;
        self.tables.iter().try_for_each(|table| write!(f, "{table}"))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Inet => "inet",
            Family::Netdev => "netdev",
        };
        writeln!(f, "table {family} {} {{", Ruleset::TABLE)?;
        for counter in &self.counters {
            writeln!(f, "  counter {}", counter.name)?;
        }
        self.sets.iter().try_for_each(|set| write!(f, "{set}"))?;
        self.chains.iter().try_for_each(|chain| write!(f, "{chain}"))?;
        writeln!(f, "}}")
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match (self.map, self.counts) {
            (true, _) => "map",
            (false, true) => "counter map",
            (false, false) => "set",
        };
        let key: Vec<String> = self.key.iter().map(|kind| format!("{kind:?}").to_lowercase()).collect();
        let interval = if self.interval { " interval" } else { "" };
        let grows = if self.grows { ", grows" } else { "" };
        writeln!(f, "  {what} {} {{ # {}{interval}{grows}", self.name, key.join(" . "))?;
        for element in &self.elements {
            writeln!(f, "    {}", element_text(element, &self.key))?;
        }
        writeln!(f, "  }}")
    }
}

fn element_text(element: &Element, key: &[Kind]) -> String {
    let mut parts: Vec<String> = element.key.iter().zip(key).map(|(value, kind)| value_text(*kind, *value)).collect();
    if let (Some(last), Some(kind), Some(first)) = (element.last, key.first(), parts.first_mut())
        && element.key.first() != Some(&last)
    {
        *first = format!("{first}-{}", value_text(*kind, last));
    }
    let key = parts.join(" . ");
    match (&element.verdict, &element.counter) {
        (Some(verdict), _) => format!("{key} : {verdict}"),
        (None, Some(counter)) => format!("{key} : {counter}"),
        (None, None) => key,
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  chain {} {{", self.name)?;
        if let Some(hook) = &self.hook {
            let point = match &hook.point {
                HookPoint::Prerouting | HookPoint::PreroutingNat => "prerouting".to_owned(),
                HookPoint::Input | HookPoint::InputNat => "input".to_owned(),
                HookPoint::Output | HookPoint::OutputNat => "output".to_owned(),
                HookPoint::PostroutingNat => "postrouting".to_owned(),
                HookPoint::DeviceEgress(device) => format!("egress device {device}"),
            };
            let policy = if hook.accept { "accept" } else { "drop" };
            let kind = if hook.point.is_nat() { "nat" } else { "filter" };
            writeln!(f, "    type {kind} hook {point} priority {}; policy {policy}", hook.priority)?;
        }
        for rule in &self.rules {
            writeln!(f, "    {rule}")?;
        }
        writeln!(f, "  }}")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statements: Vec<String> = self.statements.iter().map(ToString::to_string).collect();
        f.write_str(&statements.join(" "))?;
        match &self.comment {
            Some(comment) => write!(f, " # {comment}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match { field, mask, compare, value } => {
                let compare = match compare {
                    Compare::Equal => "==",
                    Compare::NotEqual => "!=",
                    Compare::AtMost => "<=",
                    Compare::AtLeast => ">=",
                };
                write!(f, "{} {compare} {}", loaded(&[*field], *mask), match_value(*field, *value))
            }
            Self::Lookup { fields, mask, set, negate } => {
                write!(f, "{} {}@{set}", loaded(fields, *mask), if *negate { "!= " } else { "" })
            }
            Self::Dispatch { fields, mask, map } => {
                write!(f, "{} vmap @{map}", loaded(fields, *mask))
            }
            Self::SetMark { keep, set } => {
                write!(f, "ct mark set ct mark & {keep:#010x} | {set:#010x}")
            }
            Self::Count(name) => write!(f, "counter {name}"),
            Self::CountBy { fields, map } => write!(f, "counter name {} map @{map}", loaded(fields, None)),
            Self::Limit { per_second, burst } => {
                write!(f, "limit {per_second}/second burst {burst}")
            }
            Self::Log(decision) => write!(f, "log \"{decision}\" group {}", Self::LOG_GROUP),
            Self::FindListener4 => f.write_str("tproxy ip to ip daddr"),
            Self::FindListener6 => f.write_str("tproxy ip6 to ip6 daddr"),
            Self::Redirect { port } => write!(f, "redirect to :{port}"),
            Self::LeadTo { address } => write!(f, "dnat ip to {address}"),
            Self::SpeakAs { address } => write!(f, "snat ip to {address}"),
            Self::ClampSegments => f.write_str("tcp option maxseg size set rt mtu"),
            Self::RejectTcpReset => f.write_str("reject with tcp reset"),
            Self::RejectProhibited => f.write_str("reject with icmpx admin-prohibited"),
            Self::Verdict(verdict) => verdict.fmt(f),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

fn loaded(fields: &[Field], mask: Option<u32>) -> String {
    let names: Vec<String> = fields.iter().map(|field| field_name(*field)).collect();
    let names = names.join(" . ");
    match mask {
        Some(mask) => format!("{names} & {mask:#x}"),
        None => names,
    }
}

fn field_name(field: Field) -> String {
    match field {
        Field::NfProtocol => "meta nfproto",
        Field::Protocol => "meta l4proto",
        Field::InputDevice => "iif",
        Field::OutputDevice => "oif",
        Field::InputDeviceName => "iifname",
        Field::OutputDeviceName => "oifname",
        Field::Length => "meta length",
        Field::PacketType => "meta pkttype",
        Field::EtherType => "meta protocol",
        Field::RouteClass => "meta rtclassid",
        Field::SocketUid => "meta skuid",
        Field::SocketGid => "meta skgid",
        Field::SocketCgroup { level } => return format!("socket cgroupv2 level {level}"),
        Field::SocketWildcard => "socket wildcard",
        Field::SocketTransparent => "socket transparent",
        Field::CtState => "ct state",
        Field::CtDirection => "ct direction",
        Field::CtMark => "ct mark",
        Field::CtOriginalSource4 => "ct original ip saddr",
        Field::CtOriginalSource6 => "ct original ip6 saddr",
        Field::CtOriginalDestination4 => "ct original ip daddr",
        Field::CtOriginalDestination6 => "ct original ip6 daddr",
        Field::CtOriginalDestinationPort => "ct original proto-dst",
        Field::FibSourceType => "fib saddr type",
        Field::FibDestinationType => "fib daddr type",
        Field::FibSourceTypeOut => "fib saddr . oif type",
        Field::FibDestinationTypeIn => "fib daddr . iif type",
        Field::NetworkHeaderStart => "@nh,0,8",
        Field::Ipv4Source => "ip saddr",
        Field::Ipv4Destination => "ip daddr",
        Field::Ipv6Source => "ip6 saddr",
        Field::Ipv6Destination => "ip6 daddr",
        Field::Ipv6NextHeader => "ip6 nexthdr",
        Field::HopLimit => "ip6 hoplimit",
        Field::IcmpType => "icmp type",
        Field::Icmpv6Type => "icmpv6 type",
        Field::SourcePort => "th sport",
        Field::DestinationPort => "th dport",
        Field::TcpFlags => "tcp flags",
        Field::TcpDataOffset => "@th,96,8",
        Field::LooseSourceRoute => "ip option lsrr",
        Field::StrictSourceRoute => "ip option ssrr",
        Field::RoutingHeader => "exthdr rt",
    }
    .to_owned()
}

fn match_value(field: Field, value: u128) -> String {
    match (field, value) {
        (Field::InputDevice | Field::OutputDevice, 1) => "lo".to_owned(),
        (Field::CtState | Field::CtMark, _) => format!("{value:#x}"),
        (Field::CtDirection, 0) => "original".to_owned(),
        (Field::CtDirection, _) => "reply".to_owned(),
        _ => value_text(field.kind(), value),
    }
}

fn value_text(kind: Kind, value: u128) -> String {
    match (kind, value) {
        // The cast keeps what a value of that kind can hold.
        (Kind::Ipv4, _) => Ipv4Addr::from_bits(value as u32).to_string(),
        (Kind::Ipv6, _) => Ipv6Addr::from_bits(value).to_string(),
        (Kind::Protocol, 6) => "tcp".to_owned(),
        (Kind::Protocol, 17) => "udp".to_owned(),
        (Kind::Protocol, 132) => "sctp".to_owned(),
        (Kind::DeviceName, _) => format!("{:?}", String::from_utf8_lossy(&value.to_be_bytes()).trim_end_matches('\0')),
        (Kind::Mark, _) => format!("{value:#010x}"),
        (Kind::Short, _) => format!("{value:#06x}"),
        _ => value.to_string(),
    }
}
