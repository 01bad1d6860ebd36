//! From policies and the cluster to what they mean for one pod.
//!
//! Nothing is skipped here. A policy that can't be understood isolates what it selects, a peer that can't be found
//! allows nothing, and whatever does not mean what it seems to becomes a [`Note`].

mod edges;
mod link;
mod networks;
mod peers;
mod pods;
mod proxy;
#[cfg(test)]
mod tests;

use crate::index::lookup::Lookup;
use crate::model::{
    Container, Isolation, Layer, Note, PolicyKind, PolicyName, Reach, ResolvedPod, Rule, RuleName, Scope, Side, Sides,
};
use crate::world::objects::namespace;
use crate::world::{Subject, SubjectContainer, Unreadable, World};
pub(crate) use peers::{API_SERVER, DNS, resolve_ports};
use peers::{Resolver, awaits};
use sidewall_api::network::SELECTOR_LIMITS;
use sidewall_api::{ContainerNetworkPolicy, FieldPath, LabelSelector, PolicyType, Problem, SelectorLimits};
use sidewall_flow::{Direction, Party};

/// Says what all policies together mean for a pod. The order of anything in the world does not matter.
pub fn resolve(world: &World, subject: &Subject) -> ResolvedPod {
    resolve_in(world, subject)
}

/// The same of whatever knows the cluster.
pub(crate) fn resolve_in(cluster: &dyn Lookup, subject: &Subject) -> ResolvedPod {
    let mut resolver = Resolver::new(cluster, subject);
    let mut policies: Vec<&ContainerNetworkPolicy> = cluster
        .policies(&subject.namespace)
        .into_iter()
        .filter(|policy| selects_own(subject, policy.metadata.namespace.as_deref(), &policy.spec.pod_selector))
        .collect();
    // Names are unique in a cluster, but not in files.
    in_order(&mut policies, |policy| &policy.metadata.name, |policy| format!("{:?}", policy.spec));

    let mut base = Layer::default();
    resolver.unreadable(&mut base);
    let captured = resolver.proxy(&mut base);
    resolver.probes(&mut base);
    let mut enforced = base;
    // One that can't be understood isolates, whatever mode it seems to have.
    let (enforce, audit): (Vec<_>, Vec<_>) =
        policies.into_iter().partition(|policy| policy.spec.enforces() || !errors(&policy.validate()).is_empty());
    for policy in &enforce {
        resolver.policy(&mut enforced, policy);
    }
    let audit = (!audit.is_empty()).then(|| {
        let mut layer = enforced.clone();
        for policy in &audit {
            resolver.policy(&mut layer, policy);
        }
        close(&mut layer);
        layer
    });
    close(&mut enforced);

    let probe_port = resolver.probe_port();
    let ports_of = |id, container: &SubjectContainer| match probe_port {
        Some((proxy, port)) => proxy::declared(container, proxy == id, port),
        None => container.ports.clone(),
    };
    let edges = resolver.edges();
    let link = resolver.link();
    let mut notes = resolver.into_notes();
    notes.sort();
    notes.dedup();
    ResolvedPod {
        namespace: subject.namespace.clone(),
        name: subject.name.clone(),
        interface: subject.interface.clone(),
        addresses: subject.addresses.iter().copied().collect(),
        edge: edges.edge,
        attached: edges.attached,
        elsewhere: edges.elsewhere,
        containers: subject
            .containers
            .iter()
            .map(|(id, container)| (*id, Container { name: container.name.clone(), ports: ports_of(*id, container) }))
            .collect(),
        identities: subject.identities.clone(),
        captured,
        link,
        enforced,
        audit,
        notes,
    }
}

/// Sorts policies by name; those of one name by what they say.
fn in_order<T>(policies: &mut [&T], name: impl Fn(&T) -> &Option<String>, says: impl Fn(&T) -> String) {
    policies.sort_by(|a, b| name(a).cmp(name(b)).then_with(|| says(a).cmp(&says(b))));
}

/// The default deny of a pod whose policies are not known yet: nothing passes but what the kernel itself needs. Its
/// edges need not be isolated too: no container passes on any device.
pub fn guard(subject: &Subject) -> ResolvedPod {
    let name = PolicyName { kind: PolicyKind::Guard, namespace: subject.namespace.clone(), name: subject.name.clone() };
    let isolation = Isolation { by: name, loopback: Scope::all(), network: Scope::all() };
    let side = || Side { isolations: vec![isolation.clone()], rules: Vec::new() };
    let mut enforced = Layer::default();
    for party in parties(subject) {
        enforced.parties.insert(party, Sides { ingress: side(), egress: side() });
    }
    close(&mut enforced);
    let mut pod = resolve(&World::default(), subject);
    pod.enforced = enforced;
    pod
}

/// Whether a policy of a kind of ours is about a pod.
fn selects_own(subject: &Subject, policy_namespace: Option<&str>, selector: &LabelSelector) -> bool {
    selects(subject, policy_namespace, selector, &SelectorLimits::default())
}

/// Whether a policy of a namespace is about a pod. A selector that can't be understood may be about any.
pub(crate) fn selects(
    subject: &Subject,
    policy_namespace: Option<&str>,
    selector: &LabelSelector,
    limits: &SelectorLimits,
) -> bool {
    let mut problems = Vec::new();
    selector.validate_within(limits, &FieldPath::spec().key("podSelector"), &mut problems);
    namespace(policy_namespace) == subject.namespace
        && (selector.matches(&subject.labels) || problems.iter().any(Problem::is_error))
}

fn errors(problems: &[Problem]) -> Vec<String> {
    let errors = problems.iter().filter(|problem| problem.is_error());
    errors.map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

fn parties(subject: &Subject) -> impl Iterator<Item = Party> + '_ {
    subject.containers.keys().copied().map(Party::Container).chain([Party::Unknown])
}

/// Fills in what follows from the containers' isolation for sockets that are no container's.
///
/// An unknown socket is isolated as soon as any container is: otherwise taking an unused user would be an escape. The
/// node's own processes are judged by the receiver on loopback (so that a port-forward works where it is allowed), and
/// are isolated as unknown ones are on the network, where no rule speaks of them.
fn close(layer: &mut Layer) {
    for direction in [Direction::Ingress, Direction::Egress] {
        let mut isolations: Vec<Isolation> =
            layer.parties.values_mut().flat_map(|sides| sides.side_mut(direction).isolations.clone()).collect();
        isolations.sort();
        isolations.dedup();
        for sides in layer.parties.values_mut() {
            let side = sides.side_mut(direction);
            side.isolations.sort();
            side.isolations.dedup();
            side.rules.sort_by(|a, b| a.name.cmp(&b.name));
        }
        layer.parties.entry(Party::Unknown).or_default().side_mut(direction).isolations = isolations;
    }
    let unknown = layer.parties.get(&Party::Unknown).cloned().unwrap_or_default();
    let egress = Side {
        isolations: unknown
            .egress
            .isolations
            .iter()
            .map(|isolation| Isolation { loopback: Scope::none(), ..isolation.clone() })
            .collect(),
        rules: Vec::new(),
    };
    layer.parties.insert(Party::Node, Sides { ingress: unknown.ingress, egress });
}

impl<'a> Resolver<'a> {
    /// The policies of which nothing is certain but what they select, and often not even that.
    fn unreadables(&self) -> Vec<&'a Unreadable> {
        let mine = |policy: &&Unreadable| match (&policy.namespace, &policy.pod_selector) {
            (Some(name), _) if *name != self.subject.namespace => false,
            (_, Some(selector)) => selects(self.subject, Some(&self.subject.namespace), selector, &SELECTOR_LIMITS),
            (_, None) => true,
        };
        self.cluster.unreadable().into_iter().filter(mine).collect()
    }

    fn unreadable(&mut self, layer: &mut Layer) {
        let subject = self.subject;
        for policy in self.unreadables() {
            // The others are about the pod's edges.
            if matches!(policy.kind, PolicyKind::NetworkPolicy | PolicyKind::MultiNetworkPolicy) {
                continue;
            }
            let name = PolicyName {
                kind: policy.kind,
                namespace: policy.namespace.clone().unwrap_or_else(|| subject.namespace.clone()),
                name: policy.name.clone().unwrap_or_else(|| "(nameless)".to_owned()),
            };
            self.not_understood(layer, name, &policy.reason);
        }
    }

    /// A policy that can't be understood isolates what it selects, in both directions.
    fn not_understood(&mut self, layer: &mut Layer, name: PolicyName, why: &str) {
        let isolation = Isolation { by: name.clone(), loopback: Scope::all(), network: Scope::all() };
        for party in parties(self.subject) {
            let sides = layer.parties.entry(party).or_default();
            sides.ingress.isolations.push(isolation.clone());
            sides.egress.isolations.push(isolation.clone());
        }
        self.note(Some(name), format!("isolates everything it selects, because it can't be understood: {why}"));
    }

    fn policy(&mut self, layer: &mut Layer, policy: &ContainerNetworkPolicy) {
        let name = PolicyName {
            kind: PolicyKind::ContainerNetworkPolicy,
            namespace: self.subject.namespace.clone(),
            name: policy.metadata.name.clone().unwrap_or_default(),
        };
        let errors = errors(&policy.validate());
        if !errors.is_empty() {
            self.not_understood(layer, name, &errors.join("; "));
            return;
        }
        let spec = &policy.spec;
        for missing in spec.containers.iter().flatten() {
            if !self.has_container(missing) {
                let message = format!("names the container {missing:?}, which this pod does not have");
                self.note(Some(name.clone()), message);
            }
        }
        let selected: Vec<Party> = parties(self.subject)
            .filter(|party| match party {
                Party::Container(id) => spec.selects_container(&self.subject.containers[id].name),
                _ => spec.selects_every_container(),
            })
            .collect();
        for kind in spec.directions() {
            let direction = match kind {
                PolicyType::Ingress => Direction::Ingress,
                PolicyType::Egress => Direction::Egress,
            };
            for party in &selected {
                let rules = self.rules(&name, spec, direction, *party);
                let side = layer.parties.entry(*party).or_default().side_mut(direction);
                side.isolations.push(Isolation { by: name.clone(), loopback: Scope::all(), network: Scope::all() });
                side.rules.extend(rules);
            }
        }
    }

    fn rules(
        &mut self,
        policy: &PolicyName,
        spec: &sidewall_api::ContainerNetworkPolicySpec,
        direction: Direction,
        party: Party,
    ) -> Vec<Rule> {
        let written: Vec<_> = match direction {
            Direction::Ingress => spec.ingress.iter().flatten().map(|rule| (&rule.from, &rule.ports)).collect(),
            Direction::Egress => spec.egress.iter().flatten().map(|rule| (&rule.to, &rule.ports)).collect(),
        };
        written
            .into_iter()
            .enumerate()
            .map(|(index, (peers, ports))| {
                let name = RuleName { policy: policy.clone(), direction, index };
                let grants = self.grants(&name, peers, ports, party);
                Rule { name, grants, awaits: awaits(direction, peers, ports) }
            })
            .collect()
    }

    /// The kubelet reaches the probe ports that the pod declares, but for those that a proxy stands before: what the
    /// whole world sends can carry the node's address there. Such probes are led through the proxy's own probe port.
    fn probes(&mut self, layer: &mut Layer) {
        let subject = self.subject;
        let fronted = self.fronted_ports();
        let led = self.probe_port();
        let policy =
            PolicyName { kind: PolicyKind::Probes, namespace: subject.namespace.clone(), name: subject.name.clone() };
        for (index, (id, container)) in subject.containers.iter().enumerate() {
            let ports: crate::ports::Ports = container
                .probes
                .iter()
                .copied()
                // What is led through the proxy is asked of nobody else.
                .filter(|port| led.is_none_or(|(_, led)| led != *port))
                .chain(led.filter(|(proxy, _)| proxy == id).map(|(_, port)| port))
                .filter(|port| !fronted.contains(sidewall_flow::Protocol::Tcp, *port))
                .map(|port| (sidewall_flow::Protocol::Tcp, port, port))
                .collect();
            if ports.is_empty() || self.cluster.network().this_node.is_empty() {
                continue;
            }
            let name = RuleName { policy: policy.clone(), direction: Direction::Ingress, index };
            let grants = vec![crate::model::Grant { peers: self.this_node(), ports, reach: Reach::PodNetwork }];
            let sides = layer.parties.entry(Party::Container(*id)).or_default();
            sides.ingress.rules.push(Rule { name, grants, awaits: false });
        }
    }
}

impl Resolver<'_> {
    fn into_notes(self) -> Vec<Note> {
        self.notes
    }

    fn note(&mut self, policy: Option<PolicyName>, message: String) {
        self.notes.push(Note { policy, message });
    }

    fn has_container(&self, name: &str) -> bool {
        self.subject.containers.values().any(|container| container.name == name)
    }
}
