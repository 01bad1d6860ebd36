//! What an object says of containers and ports, held against the pods that it selects.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{ContainerNetworkPolicy, LabelSelector, PeerKind, PolicyPort, SidecarProxy};
use sidewall_policy::lint::{Effort, matching_cost};

use super::facts::{Facts, KnownPod};
use super::findings::Findings;
use super::{EFFORT, hint, list};
use crate::known::slim::SlimContainer;
use crate::names::LABEL_FRONTED;

/// The pods that are selected and whose containers are known.
struct Selected<'a> {
    pods: Vec<&'a KnownPod<'a>>,
    /// Their containers by name, each pod's. None where the containers of a pod are not known.
    containers: Option<BTreeMap<&'a str, Vec<&'a SlimContainer>>>,
}

impl<'a> Selected<'a> {
    /// Those of some pods that a selector selects. None where that would be too much to look at.
    fn of(pods: &'a [KnownPod<'a>], selector: &LabelSelector, effort: &Effort) -> Option<Self> {
        if !effort.spend(matching_cost(selector, pods.len())) {
            return None;
        }
        let pods: Vec<&KnownPod<'_>> = pods.iter().filter(|pod| selector.matches(pod.labels)).collect();
        let count: usize = pods.iter().filter_map(|pod| pod.containers).map(<[_]>::len).sum();
        if !effort.spend(count / 4) {
            return None;
        }
        let mut containers: BTreeMap<&str, Vec<&SlimContainer>> = BTreeMap::new();
        let mut known = true;
        for pod in &pods {
            known &= pod.containers.is_some();
            for container in pod.containers.into_iter().flatten() {
                containers.entry(&container.name).or_default().push(container);
            }
        }
        Some(Self { pods, containers: known.then_some(containers) })
    }

    /// `the pod that it selects`, or `the 3 pods that it selects`.
    fn all(&self) -> String {
        match self.pods.len() {
            1 => "the pod that it selects".to_owned(),
            many => format!("the {many} pods that it selects"),
        }
    }

    /// `the pod that it selects is`, or `2 of the 3 pods that it selects are`.
    fn some(&self, count: usize, is: &str, are: &str) -> String {
        match self.pods.len() {
            1 => format!("the pod that it selects {is}"),
            many => format!("{count} of the {many} pods that it selects {}", if count == 1 { is } else { are }),
        }
    }

    /// `the pod that it selects has no`, or `none of the 3 pods that it selects has a`.
    fn none_has(&self) -> String {
        match self.pods.len() {
            1 => "the pod that it selects has no".to_owned(),
            many => format!("none of the {many} pods that it selects has a"),
        }
    }
}

/// What a SidecarProxy says, held against the pods that it selects.
pub(super) fn check_proxy(
    proxy: &SidecarProxy,
    by_hand: bool,
    namespace: &str,
    facts: &Facts<'_>,
    found: &mut Findings,
) {
    let Some(all) = facts.pods.filter(|pods| !pods.is_empty()) else { return };
    let spec = &proxy.spec;
    let Some(selected) = Selected::of(all, &spec.pod_selector, &Effort::of(EFFORT)) else { return };
    if selected.pods.is_empty() {
        found.warn(format!(
            "spec.podSelector: selects none of the {} pods that are in namespace {namespace} now",
            all.len()
        ));
        return;
    }
    let on_node = selected.pods.iter().filter(|pod| pod.host_network).count();
    if on_node > 0 {
        found.warn(format!(
            "spec.podSelector: {} the node's network, where nothing can stand before the application: leave it out",
            selected.some(on_node, "shares", "share")
        ));
    }
    if !by_hand {
        let without = selected
            .pods
            .iter()
            .filter(|pod| pod.labels.get(LABEL_FRONTED).is_none_or(|value| value != "true"))
            .count();
        if without > 0 {
            found.warn(format!(
                "{} without the proxy, and nobody reaches the application there until they are made anew, for example by `kubectl rollout restart`",
                selected.some(without, "runs", "run")
            ));
        }
    }
    let Some(containers) = &selected.containers else { return };
    if by_hand && !containers.contains_key(spec.container_name.as_str()) {
        let hint = hint(&spec.container_name, containers.keys().copied());
        found.warn(format!(
            "spec.containerName: {} container {:?}, which would be the proxy{hint}",
            selected.none_has(),
            spec.container_name
        ));
    }
    proxy_ports(proxy, &selected, containers, found);
}

fn proxy_ports(
    proxy: &SidecarProxy,
    selected: &Selected<'_>,
    containers: &BTreeMap<&str, Vec<&SlimContainer>>,
    found: &mut Findings,
) {
    // The proxy's own container, where it is there already, declares its listeners.
    let theirs = containers.iter().filter(|(name, _)| **name != proxy.spec.container_name);
    let mut declared: BTreeMap<u16, &str> = BTreeMap::new();
    for (name, containers) in theirs {
        let ports = containers.iter().flat_map(|container| &container.ports);
        let tcp = ports.filter(|port| port.protocol() == "TCP");
        declared.extend(tcp.filter_map(|port| Some((u16::try_from(port.container_port).ok()?, *name))));
    }
    let ports: Vec<String> = declared.keys().map(u16::to_string).collect();
    let ports = list(ports.iter().map(String::as_str));
    for (index, listener) in proxy.spec.listeners.iter().enumerate() {
        if let Some(container) = declared.get(&listener.port) {
            found.warn(format!(
                "spec.listeners[{index}].port: container {container:?} declares port {} too, and such pods are refused: let the application listen elsewhere, or take another port",
                listener.port
            ));
        }
        // Who listens on 127.0.0.1 need not declare it; who declares others has probably meant one of them.
        if !declared.is_empty() && !declared.contains_key(&listener.forward.port) {
            found.warn(format!(
                "spec.listeners[{index}].forward.port: no container of {} declares port {}; declared: {ports}",
                selected.all(),
                listener.forward.port,
            ));
        }
    }
}

/// What a ContainerNetworkPolicy says of containers, held against the pods that it selects.
pub(super) fn check_policy(policy: &ContainerNetworkPolicy, facts: &Facts<'_>, found: &mut Findings) {
    let spec = &policy.spec;
    let effort = Effort::of(EFFORT);
    let Some(selected) = Selected::of(facts.pods.unwrap_or_default(), &spec.pod_selector, &effort) else { return };
    if selected.pods.is_empty() {
        return;
    }
    let Some(containers) = &selected.containers else { return };
    let mut names: BTreeSet<&str> = containers.keys().copied().collect();
    // A proxy's container comes with the next pod.
    for proxy in facts.proxies {
        let (name, selector) = (proxy.spec.container_name.as_str(), &proxy.spec.pod_selector);
        if names.contains(name) {
            continue;
        }
        // Without having looked at all of them, of no name can it be said that no pod will have it.
        if !effort.spend(matching_cost(selector, selected.pods.len())) {
            return;
        }
        if selected.pods.iter().any(|pod| selector.matches(pod.labels)) {
            names.insert(name);
        }
    }
    let mut unknown = |name: &str, field: String| {
        if !names.contains(name) && !found.is_full() {
            let hint = hint(name, names.iter().copied());
            let known = list(names.iter().copied());
            found.warn(format!("{field}: {} container {name:?}{hint}; they have {known}", selected.none_has()));
        }
    };
    for (index, name) in spec.containers.iter().flatten().enumerate() {
        unknown(name, format!("spec.containers[{index}]"));
    }
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        for (i, peer) in rule.from.iter().enumerate() {
            if let Ok(PeerKind::Container(name)) = peer.kind() {
                unknown(name, format!("spec.ingress[{index}].from[{i}].container"));
            }
        }
    }
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        for (i, peer) in rule.to.iter().enumerate() {
            if let Ok(PeerKind::Container(name)) = peer.kind() {
                unknown(name, format!("spec.egress[{index}].to[{i}].container"));
            }
        }
    }
    named_ports(policy, containers, &effort, found);
}

/// A port's name and its protocol.
type PortName<'a> = (&'a str, &'a str);

/// Ports by names that no container declares which the rule is about.
fn named_ports(
    policy: &ContainerNetworkPolicy,
    containers: &BTreeMap<&str, Vec<&SlimContainer>>,
    effort: &Effort,
    found: &mut Findings,
) {
    let spec = &policy.spec;
    let mut declared: BTreeMap<&str, BTreeSet<PortName<'_>>> = BTreeMap::new();
    for (name, containers) in containers {
        let ports = containers.iter().flat_map(|container| &container.ports);
        declared.insert(name, ports.map(|port| (port.name.as_str(), port.protocol())).collect());
    }
    let of = |names: &mut dyn Iterator<Item = &str>| -> BTreeSet<PortName<'_>> {
        names.filter_map(|name| declared.get(name)).flatten().copied().collect()
    };
    let all: usize = declared.values().map(BTreeSet::len).sum();
    let own = match &spec.containers {
        Some(names) => of(&mut names.iter().map(String::as_str)),
        None => of(&mut declared.keys().copied()),
    };
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        undeclared(&rule.ports, &format!("spec.ingress[{index}].ports"), &own, found);
    }
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        let peers: Option<Vec<&str>> = rule
            .to
            .iter()
            .map(|peer| match peer.kind() {
                Ok(PeerKind::Container(name)) => Some(name),
                _ => None,
            })
            .collect();
        // Where there are others among the peers, the name may be theirs.
        if let Some(peers) = peers.filter(|peers| !peers.is_empty()) {
            // One container may be named as often as there are peers.
            if !effort.spend(peers.len() + peers.len().saturating_mul(all) / 4) {
                return;
            }
            undeclared(&rule.ports, &format!("spec.egress[{index}].ports"), &of(&mut peers.into_iter()), found);
        }
    }
}

fn undeclared(ports: &[PolicyPort], at: &str, declared: &BTreeSet<PortName<'_>>, found: &mut Findings) {
    for (index, port) in ports.iter().enumerate() {
        let Some(IntOrString::String(name)) = &port.port else { continue };
        let known = declared.contains(&(name.as_str(), port.protocol.as_str()));
        if !known && !found.is_full() {
            let hint =
                hint(name, declared.iter().map(|(near, _)| *near).filter(|near| !near.is_empty() && near != name));
            found.warn(format!(
                "{at}[{index}].port: no container that this rule leads to declares a {} port {name:?}, so that it allows nothing{hint}",
                port.protocol
            ));
        }
    }
}
