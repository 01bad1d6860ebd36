//! The networks of a pod: what holds at the edge of each, and which of a container's rules count there.

use super::builder::{Builder, Size};
use super::question::{Answers, Other, Question};
use super::statements::{IPV4, IPV6, LO, dispatch, in_set, is, is_not, not_in_set, rule};
use crate::model::{Layer, Reach, Sides, Wire};
use crate::ruleset::{Chain, Field, Hook, HookPoint, Kind, Rule, Statement, Verdict, device_name};
use sidewall_flow::{Direction, Party};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The device that a packet of the network leaves by, and the one that it comes by: one of them is there.
const DEVICES: [Field; 2] = [Field::OutputDeviceName, Field::InputDeviceName];

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

const fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "to",
        Direction::Egress => "from",
    }
}

impl Builder<'_> {
    /// The packets that may pass only by the device that has their address, so that a flow's mark carries no verdict from
    /// one network to another, for a process chooses its packets' device and a neighbour an address: those of every
    /// network, or of no network that is known. `None` where all networks are alike. `number` and `name` are fields of the
    /// device.
    pub fn bound_to_device(&self, number: Field, name: Field) -> Option<Vec<Statement>> {
        let mut which = vec![is_not(number, LO)];
        if !self.pod.attached.is_empty() {
            return Some(which);
        }
        let device = self.pod.interface.as_ref()?;
        if self.pod.elsewhere.isolate() || self.pod.edge.isolate() {
            return Some(which);
        }
        // What passes elsewhere passes on the pod network too, but not the other way round.
        self.is_more_open_on_pod_network().then(|| {
            which.push(is_not(name, device_name(device)));
            which
        })
    }

    /// The rules for packets that go by, or for, an address that is another device's, where two devices may have it: the
    /// kernel takes such an address for either's, and a flow could be moved from one to the other. An address is the pod
    /// network's before it is a further network's, and of these the first one's. They are for the packets that
    /// [`Builder::bound_to_device`] gives; `name` is the field of their device, `addresses` those of their addresses.
    pub fn foreign_addresses(&mut self, name: Field, addresses: [Field; 2], deny: &Verdict) -> Vec<Rule> {
        let pod = self.pod;
        let mut owners: BTreeMap<IpAddr, Option<&str>> =
            pod.addresses.iter().map(|address| (*address, pod.interface.as_deref())).collect();
        for attached in pod.attached.values() {
            for address in &attached.addresses {
                owners.entry(*address).or_insert(Some(&attached.device));
            }
        }
        let further = pod.attached.values().map(|attached| attached.device.as_str());
        let devices: Vec<&str> = pod.interface.as_deref().into_iter().chain(further).collect();
        let mut rules = Vec::new();
        for (field, (family, kind, suffix)) in
            addresses.into_iter().zip([(IPV4, Kind::Ipv4, "ipv4"), (IPV6, Kind::Ipv6, "ipv6")])
        {
            let ours: Vec<(u128, Option<&str>)> = owners
                .iter()
                .filter(|(address, _)| address.is_ipv4() == (family == IPV4))
                .map(|(address, owner)| (bits_of(*address), *owner))
                .collect();
            let mut drop = |statements: &[Statement]| {
                let mut all = vec![is(Field::NfProtocol, family)];
                all.extend_from_slice(statements);
                all.push(deny.clone().into());
                rules.push(Rule { statements: all, comment: None });
            };
            let pairs: Vec<Vec<u128>> = devices
                .iter()
                .flat_map(|device| {
                    let others = ours.iter().filter(move |(_, owner)| *owner != Some(*device));
                    others.map(move |(address, _)| vec![device_name(device), *address])
                })
                .collect();
            if !pairs.is_empty() {
                let set = self.set(&format!("foreign-{suffix}"), vec![Kind::DeviceName, kind], pairs);
                drop(&[in_set([name, field], &set)]);
            }
            // Without the pod network's device there is no telling which one is unknown.
            let Some(device) = &pod.interface else { continue };
            if !ours.is_empty() {
                let set =
                    self.set(&format!("own-{suffix}"), vec![kind], ours.iter().map(|(address, _)| vec![*address]));
                let unknown = if pod.attached.is_empty() {
                    is_not(name, device_name(device))
                } else {
                    let names = devices.iter().map(|device| vec![device_name(device)]);
                    not_in_set(name, &self.set("known-devices", vec![Kind::DeviceName], names))
                };
                drop(&[unknown, in_set([field], &set)]);
            }
        }
        rules
    }

    /// Whether a container has a grant that holds on the pod network alone, or may get one when a pod comes.
    fn is_more_open_on_pod_network(&self) -> bool {
        let sides = |sides| [Direction::Ingress, Direction::Egress].map(|direction| Sides::side(sides, direction));
        let mut rules = self.pod.enforced.parties.values().flat_map(sides).flat_map(|side| &side.rules);
        rules.any(|rule| rule.grants.is_empty() || rule.grants.iter().any(|grant| grant.reach == Reach::PodNetwork))
    }

    /// The rules that deny what is not on the pod network; none where there is no telling.
    pub fn off_pod_network(&mut self, deny: &Verdict) -> Vec<Rule> {
        if let Some(device) = &self.pod.interface {
            let name = device_name(device);
            let [out, into] = DEVICES.map(|device| is_not(device, name));
            // One of the two is of no device, and has no name.
            return vec![rule([out, into, deny.clone().into()])];
        }
        if self.pod.attached.is_empty() {
            return Vec::new();
        }
        // Without a name of its own, the pod network's device is whichever is none of the others.
        let names: Vec<_> = self.pod.attached.values().map(|attached| vec![device_name(&attached.device)]).collect();
        let set = self.set("attached-devices", vec![Kind::DeviceName], names);
        DEVICES.map(|device| rule([in_set([device], &set), deny.clone().into()])).into()
    }

    /// Whether anything is isolated at any edge, in a direction.
    pub fn has_isolated_edge(&self, direction: Direction) -> bool {
        self.edges().any(|sides| !sides.side(direction).scope(Wire::Network).is_none())
    }

    fn edges(&self) -> impl Iterator<Item = &Sides> {
        let attached = self.pod.attached.values().map(|attached| &attached.edge);
        attached.chain([&self.pod.edge, &self.pod.elsewhere])
    }

    /// The rule by which a chain goes through the edge of a packet's network: none where there is none.
    pub fn edge(&mut self, direction: Direction, deny: &Verdict) -> Option<Rule> {
        let pod = self.pod;
        let name = format!("edge-{}", way(direction));
        let answers = Answers::unless(deny.clone());
        let ask = |builder: &mut Self, name: &str, sides: &Sides| {
            let (name, side) = (name.to_owned(), sides.side(direction));
            let question = Question { name: name.clone(), side, direction, other: Other::Edge, counted: true };
            builder.ask(&name, &question, &answers)
        };
        let mut verdicts = Vec::new();
        for (id, attached) in &pod.attached {
            let verdict = ask(self, &format!("{name}-{}", id.0), &attached.edge);
            verdicts.push((vec![device_name(&attached.device)], verdict));
        }
        let pod_network = ask(self, &name, &pod.edge);
        let others = match &pod.interface {
            Some(device) => {
                verdicts.push((vec![device_name(device)], pod_network));
                ask(self, &format!("{name}-elsewhere"), &pod.elsewhere)
            }
            None => pod_network,
        };
        if verdicts.iter().all(|(_, verdict)| *verdict == others) {
            return self.on_the_way(others, deny);
        }
        let map = self.map(&format!("{name}-devices"), vec![Kind::DeviceName], Size::Fixed, verdicts);
        let mut rules: Vec<Rule> = DEVICES.map(|device| rule([dispatch([device], &map)])).into();
        rules.push(rule([others.into()]));
        let verdict = self.shared_chain(&format!("{name}-by-device"), rules);
        self.on_the_way(verdict, deny)
    }

    /// Asks a layer what a party may on the network of a packet. Parties of equal rules share the chain, where the
    /// answers are the same: it is called by the first of them.
    pub fn ask_network(
        &mut self,
        prefix: &str,
        layer: &Layer,
        party: Party,
        direction: Direction,
        answers: &Answers,
    ) -> Verdict {
        let side = layer.side(party, direction);
        let same = |other: &Party| layer.side(*other, direction) == side;
        let first = self.parties().into_iter().find(same).unwrap_or(party);
        let name = format!("network-{}-{first}", way(direction));
        // What an answer leads to may be of the party alone.
        let chain = match (prefix, &answers.allow) {
            ("", Verdict::Return) => name.clone(),
            _ => format!("{prefix}network-{}-{party}", way(direction)),
        };
        let key = (chain.clone(), answers.clone());
        if let Some(verdict) = self.networks_asked.get(&key) {
            return verdict.clone();
        }
        let counted = self.is_enforced(layer);
        let name = if counted { name } else { format!("audit.{name}") };
        let question = Question { name, side, direction, other: Other::Network, counted };
        let verdict = self.ask(&chain, &question, answers);
        self.networks_asked.insert(key, verdict.clone());
        verdict
    }

    /// The chains that guard the egress of each device.
    pub fn links(&self) -> Vec<Chain> {
        let further = self.pod.attached.values().map(|attached| &attached.device);
        let link = self.pod.link.iter().map(|link| &link.device);
        let mut devices: Vec<&String> = self.pod.interface.iter().chain(further).chain(link).collect();
        let mut seen = std::collections::BTreeSet::new();
        devices.retain(|device| seen.insert(*device));
        devices
            .into_iter()
            .enumerate()
            .map(|(index, device)| Chain {
                name: if index == 0 { "egress".to_owned() } else { format!("egress-{device}") },
                hook: Some(Hook { point: HookPoint::DeviceEgress(device.clone()), priority: 0, accept: false }),
                rules: Self::link_rules(),
            })
            .collect()
    }
}
