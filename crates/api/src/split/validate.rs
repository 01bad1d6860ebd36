//! The rules of the schema and its CEL expressions once more in Rust, with places and advice.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{
    Ipam, Link, LinkType, NetworkReference, PART_CONTAINERS_MAX, PARTS_MAX, PREFIX_V4_MAX, PREFIX_V6_MAX, Part,
    PodSplit, SUBNETS_MAX,
};
use crate::names::{PART_NAME_MAX, PRIMARY, is_dns_label, is_dns_subdomain};
use crate::policy::{check_cidr, check_container_name};
use crate::problem::{FieldPath, Problem};

/// The longest name of a device (`IFNAMSIZ` of Linux, less its NUL), in octets.
const DEVICE_MAX: usize = 15;

impl PodSplit {
    /// What is wrong with it, in the order of its fields.
    ///
    /// By one with an error no pod can be split: those that it selects are refused.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let spec = FieldPath::spec();
        self.spec.pod_selector.validate(&spec.key("podSelector"), &mut problems);
        parts(&self.spec.parts, &spec.key("parts"), &mut problems);
        if let Some(link) = &self.spec.link {
            link.validate(&spec.key("link"), &mut problems);
        }
        problems
    }
}

fn parts(parts: &[Part], at: &FieldPath, problems: &mut Vec<Problem>) {
    if parts.is_empty() {
        problems.push(Problem::error(at.clone(), "no part is named: name one at least, or remove the PodSplit"));
    }
    check_size(parts.len(), PARTS_MAX, "parts", at, problems);
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut containers: BTreeMap<&str, FieldPath> = BTreeMap::new();
    for (index, part) in parts.iter().enumerate() {
        let at = at.index(index);
        part.name(&at.key("name"), problems);
        if let Some(first) = names.insert(&part.name, index) {
            let message = format!("{:?} is the name of parts[{first}] too: a part has a name of its own", part.name);
            problems.push(Problem::error(at.key("name"), message));
        }
        if part.containers.is_empty() {
            problems
                .push(Problem::error(at.key("containers"), "a part needs a container: name one, or remove the part"));
        }
        let lists = [("containers", &part.containers), ("initContainers", &part.init_containers)];
        for (field, list) in lists {
            let at = at.key(field);
            check_size(list.len(), PART_CONTAINERS_MAX, "containers", &at, problems);
            for (index, name) in list.iter().enumerate() {
                let at = at.index(index);
                check_container_name(name, &at, problems);
                if let Some(first) = containers.get(name.as_str()) {
                    let message = format!("{name:?} stands at {first} too: a container can be in one part only");
                    problems.push(Problem::error(at, message));
                } else {
                    containers.insert(name, at);
                }
            }
        }
    }
}

fn check_size(have: usize, max: usize, what: &str, at: &FieldPath, problems: &mut Vec<Problem>) {
    if have > max {
        problems.push(Problem::error(at.clone(), format!("has {have} {what}, and at most {max} are allowed")));
    }
}

impl Part {
    fn name(&self, at: &FieldPath, problems: &mut Vec<Problem>) {
        if self.name == PRIMARY {
            problems.push(Problem::error(
                at.clone(),
                format!("{PRIMARY} is the selected pod itself: choose another name; its containers need not be named"),
            ));
        } else if !is_dns_label(&self.name) || self.name.len() > PART_NAME_MAX {
            problems.push(Problem::error(
                at.clone(),
                format!(
                    "{:?} is no part's name: 1 to {PART_NAME_MAX} of a-z, 0-9 and -, a letter or digit at both ends",
                    self.name
                ),
            ));
        }
    }
}

impl Link {
    fn validate(&self, at: &FieldPath, problems: &mut Vec<Problem>) {
        if let Some(network) = &self.network {
            let own = [
                ("type", self.kind.is_some()),
                ("parent", self.parent.is_some()),
                ("subnets", !self.subnets.is_empty()),
                ("ipam", self.ipam.is_some()),
            ];
            let own: Vec<&str> = own.into_iter().filter(|(_, there)| *there).map(|(field, _)| field).collect();
            if !own.is_empty() {
                let message = format!(
                    "network is a link that is there already, and says {} itself: remove {}, or network",
                    own.join(", "),
                    if own.len() == 1 { "it" } else { "them" },
                );
                problems.push(Problem::error(at.key("network"), message));
            }
            network.validate(&at.key("network"), problems);
        }
        self.parent(&at.key("parent"), problems);
        self.check_subnets(&at.key("subnets"), problems);
        if self.kind() == LinkType::Macvlan && self.ipam() == Ipam::HostLocal && self.network.is_none() {
            problems.push(Problem::warning(
                at.key("ipam"),
                "each node gives out the same addresses on one segment: where PodSplits of several nodes share it, let ipam be \
                 Whereabouts",
            ));
        }
    }

    fn parent(&self, at: &FieldPath, problems: &mut Vec<Problem>) {
        let Some(parent) = &self.parent else { return };
        if self.kind() != LinkType::Macvlan && self.network.is_none() {
            problems.push(Problem::error(at.clone(), "parent needs type Macvlan: add it, or remove parent"));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'@' | b'-');
        let first = parent.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if !first || parent.len() > DEVICE_MAX || !parent.bytes().all(plain) {
            let message =
                format!("{parent:?} is no device's name: 1 to {DEVICE_MAX} of letters, digits, _, ., @ and -");
            problems.push(Problem::error(at.clone(), message));
        }
    }

    fn check_subnets(&self, at: &FieldPath, problems: &mut Vec<Problem>) {
        check_size(self.subnets.len(), SUBNETS_MAX, "subnets", at, problems);
        let mut first: [Option<usize>; 2] = [None, None];
        for (index, text) in self.subnets.iter().enumerate() {
            let at = at.index(index);
            let Some(net) = check_cidr(text, &at, problems) else { continue };
            let (family, slot, longest) = match net {
                IpNet::V4(_) => ("IPv4", 0, PREFIX_V4_MAX),
                IpNet::V6(_) => ("IPv6", 1, PREFIX_V6_MAX),
            };
            if let Some(before) = first[slot] {
                let message = format!("subnets[{before}] is of {family} too: give at most one of each family");
                problems.push(Problem::error(at.clone(), message));
            }
            first[slot].get_or_insert(index);
            if net.prefix_len() > longest {
                let message = format!("{net} is too small for the parts of several pods: /{longest} at most");
                problems.push(Problem::error(at.clone(), message));
            }
            if let Some(what) = nobodys(&net) {
                let message = format!("{net} is {what}: choose a private range that nobody has addresses in");
                problems.push(Problem::error(at, message));
            }
        }
    }
}

/// What a range is in which no device of a link can have an address of its own.
fn nobodys(net: &IpNet) -> Option<&'static str> {
    let overlaps =
        |text: &str| text.parse::<IpNet>().is_ok_and(|special| special.contains(net) || net.contains(&special));
    [
        ("127.0.0.0/8", "a part of loopback"),
        ("::1/128", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("fe80::/10", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("ff00::/8", "multicast"),
    ]
    .into_iter()
    .find(|(special, _)| overlaps(special))
    .map(|(_, what)| what)
}

impl NetworkReference {
    fn validate(&self, at: &FieldPath, problems: &mut Vec<Problem>) {
        if !is_dns_subdomain(&self.name) {
            let message =
                format!("{:?} is no name: at most 253 of a-z, 0-9, - and ., a letter or digit at both ends", self.name);
            problems.push(Problem::error(at.key("name"), message));
        }
        if let Some(namespace) = self.namespace.as_ref().filter(|namespace| !is_dns_label(namespace)) {
            let message =
                format!("{namespace:?} is no namespace: 1 to 63 of a-z, 0-9 and -, a letter or digit at both ends");
            problems.push(Problem::error(at.key("namespace"), message));
        }
    }
}
