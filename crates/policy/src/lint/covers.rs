//! Whether one selector, peer or rule says all that another says.
//!
//! Only by what is written, so that it stays true whatever pods come and go. Where it cannot be told, the answer is no; so it
//! is where the [`Effort`] is used up.

use super::effort::Effort;
use super::{Written, WrittenRule};
use crate::addresses::Addresses;
use crate::ports::Ports;
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{IpBlock, LabelSelector, Operator, Peer, PeerKind, PolicyPort, PortProtocol, Requirement};
use sidewall_flow::Protocol;
use std::collections::{BTreeMap, BTreeSet};

/// Whether everything that `narrow` selects is selected by `wide`.
pub fn selector(wide: &LabelSelector, narrow: &LabelSelector) -> bool {
    Terms::of(narrow).within(wide)
}

/// How many words a selector has.
pub fn size(selector: &LabelSelector) -> usize {
    selector.match_labels.len()
        + selector.match_expressions.iter().map(|requirement| 1 + requirement.values.len()).sum::<usize>()
}

/// Whether no object can have labels that a selector asks for.
pub fn impossible(selector: &LabelSelector) -> bool {
    let terms = Terms::of(selector);
    terms.keys.values().any(Key::impossible)
}

/// What a selector says of each label.
pub struct Terms<'a> {
    keys: BTreeMap<&'a str, Key<'a>>,
}

#[derive(Default)]
struct Key<'a> {
    present: bool,
    absent: bool,
    /// The values that it may have, where they are listed.
    among: Option<BTreeSet<&'a str>>,
    not: BTreeSet<&'a str>,
}

impl<'a> Terms<'a> {
    /// Those of a selector.
    pub fn of(selector: &'a LabelSelector) -> Self {
        #[cfg(test)]
        super::tests::work::note(1 + size(selector));
        let mut keys: BTreeMap<&str, Key<'_>> = BTreeMap::new();
        for (key, value) in &selector.match_labels {
            keys.entry(key).or_default().one_of(BTreeSet::from([value.as_str()]));
        }
        for requirement in &selector.match_expressions {
            let key = keys.entry(&requirement.key).or_default();
            let values = || requirement.values.iter().map(String::as_str);
            match requirement.operator {
                Operator::In => key.one_of(values().collect()),
                Operator::NotIn => key.not.extend(values()),
                Operator::Exists => key.present = true,
                Operator::DoesNotExist => key.absent = true,
            }
        }
        Self { keys }
    }

    /// Whether everything of which this is said is selected by a selector.
    pub fn within(&self, wide: &LabelSelector) -> bool {
        #[cfg(test)]
        super::tests::work::note(1 + size(wide));
        let labels = wide.match_labels.iter().all(|(key, value)| self.has(key, |v| v == value));
        labels && wide.match_expressions.iter().all(|requirement| self.imply(requirement))
    }

    /// Whether the label is there, with a value that fits for certain.
    fn has(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        self.keys
            .get(key)
            .and_then(|key| Some(key.among.as_ref()?.iter().filter(|v| !key.not.contains(*v)).all(|value| fits(value))))
            == Some(true)
    }

    fn imply(&self, requirement: &Requirement) -> bool {
        let Some(key) = self.keys.get(requirement.key.as_str()) else { return false };
        let named = |value: &str| requirement.values.iter().any(|v| v == value);
        match requirement.operator {
            Operator::In => self.has(&requirement.key, named),
            Operator::NotIn => {
                key.absent
                    || self.has(&requirement.key, |value| !named(value))
                    || requirement.values.iter().all(|value| key.not.contains(value.as_str()))
            }
            Operator::Exists => key.present || key.among.is_some(),
            Operator::DoesNotExist => key.absent,
        }
    }
}

impl<'a> Key<'a> {
    fn one_of(&mut self, values: BTreeSet<&'a str>) {
        self.present = true;
        self.among = Some(match self.among.take() {
            Some(among) => among.intersection(&values).copied().collect(),
            None => values,
        });
    }

    fn impossible(&self) -> bool {
        let none_left = self.among.as_ref().is_some_and(|among| among.iter().all(|value| self.not.contains(value)));
        (self.present && self.absent) || none_left
    }
}

/// What it costs to ask of two policies whether one is about everything that the other is about.
pub fn selection_cost(one: &Written<'_>, other: &Written<'_>) -> usize {
    let count = |policy: &Written<'_>| policy.containers.map_or(0, <[String]>::len);
    1 + (size(one.pods) + size(other.pods)) / 2 + count(one).saturating_mul(count(other)) / 16
}

/// Whether a policy is about everything that another is about.
pub fn selection(wide: &Written<'_>, narrow: &Written<'_>) -> bool {
    let containers = match (&wide.containers, &narrow.containers) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => narrow.iter().all(|name| wide.contains(name)),
    };
    wide.name.kind == narrow.name.kind
        && wide.name.namespace == narrow.name.namespace
        && wide.networks == narrow.networks
        && containers
        && selector(wide.pods, narrow.pods)
}

/// Whether a rule allows everything that another allows. Both are of one direction and one namespace.
pub fn rule(wide: &WrittenRule<'_>, narrow: &WrittenRule<'_>, effort: &Effort) -> bool {
    ports(wide.ports, narrow.ports, effort)
        && (wide.peers.is_empty()
            || (!narrow.peers.is_empty()
                && narrow.peers.iter().all(|narrow| wide.peers.iter().any(|wide| peer(wide, narrow, effort)))))
}

/// Whether a peer is everybody that another is.
pub fn peer(wide: &Peer, narrow: &Peer, effort: &Effort) -> bool {
    if !effort.spend(1 + (words(wide) + words(narrow)) / 4) {
        return false;
    }
    match (wide.kind(), narrow.kind()) {
        (Ok(PeerKind::Container(wide)), Ok(PeerKind::Container(narrow))) => wide == narrow,
        (Ok(PeerKind::Entity(wide)), Ok(PeerKind::Entity(narrow))) => wide == narrow,
        (Ok(PeerKind::IpBlock(wide)), Ok(PeerKind::IpBlock(narrow))) => {
            let narrow = addresses(narrow);
            !narrow.is_empty() && narrow.subtract(&addresses(wide)).is_empty()
        }
        (
            Ok(PeerKind::Pods { pods: wide, namespaces: wide_in }),
            Ok(PeerKind::Pods { pods: narrow, namespaces: narrow_in }),
        ) => {
            let everything = LabelSelector::everything();
            let namespaces = match (wide_in, narrow_in) {
                (None, None) => true,
                (None, Some(_)) => false,
                (Some(wide), None) => wide.is_everything(),
                (Some(wide), Some(narrow)) => selector(wide, narrow),
            };
            namespaces && selector(wide.unwrap_or(&everything), narrow.unwrap_or(&everything))
        }
        _ => false,
    }
}

/// How many words a peer has.
pub fn words(peer: &Peer) -> usize {
    let selectors = [&peer.pod_selector, &peer.namespace_selector];
    let exceptions = peer.ip_block.as_ref().map_or(0, |block| block.except.len());
    exceptions + selectors.into_iter().flatten().map(size).sum::<usize>()
}

/// The addresses of a block.
pub fn addresses(block: &IpBlock) -> Addresses {
    #[cfg(test)]
    super::tests::work::note(1 + block.except.len());
    let within: Addresses = block.cidr.parse::<IpNet>().ok().into_iter().collect();
    let except: Addresses = block.except.iter().filter_map(|net| net.parse::<IpNet>().ok()).collect();
    within.subtract(&except)
}

/// Whether ports are all that others are. None at all means every port.
pub fn ports(wide: &[PolicyPort], narrow: &[PolicyPort], effort: &Effort) -> bool {
    if wide.is_empty() {
        return true;
    }
    // Sorting some numbers costs about as much as comparing two addresses.
    if !effort.spend(1 + (wide.len() + narrow.len()) / 4) {
        return false;
    }
    let allowed = numbers(wide);
    if narrow.is_empty() {
        return allowed.is_all();
    }
    narrow.iter().all(|port| match &port.port {
        Some(IntOrString::String(name)) => {
            let same = |other: &PolicyPort| {
                other.protocol == port.protocol
                    && matches!(&other.port, Some(IntOrString::String(other)) if other == name)
            };
            let all = Ports::of(protocol(port.protocol), 0, u16::MAX);
            wide.iter().any(same) || all.subtract(&allowed).is_empty()
        }
        _ => numbers(std::slice::from_ref(port)).subtract(&allowed).is_empty(),
    })
}

/// The ports that are given by number.
pub fn numbers(ports: &[PolicyPort]) -> Ports {
    #[cfg(test)]
    super::tests::work::note(1 + ports.len());
    ports
        .iter()
        .filter_map(|port| {
            let protocol = protocol(port.protocol);
            match &port.port {
                None => Some((protocol, 0, u16::MAX)),
                Some(IntOrString::Int(first)) => {
                    let last = port.end_port.unwrap_or(*first);
                    Some((protocol, u16::try_from(*first).ok()?, u16::try_from(last).ok()?))
                }
                Some(IntOrString::String(_)) => None,
            }
        })
        .collect()
}

const fn protocol(protocol: PortProtocol) -> Protocol {
    match protocol {
        PortProtocol::Tcp => Protocol::Tcp,
        PortProtocol::Udp => Protocol::Udp,
        PortProtocol::Sctp => Protocol::Sctp,
    }
}
