//! What the containers of a split pod may say to each other, as MultiNetworkPolicies of the link.
//!
//! They say no more than the ContainerNetworkPolicies do, in the words that every enforcer of MultiNetworkPolicies has: numbers of
//! ports with their protocol, `matchLabels`, and a namespace beside every pod selector. Each part of each pod is selected by exactly
//! one of them at any time, because some enforcers take several as alternatives, and others let a packet pass only where all of them
//! do.
//!
//! A MultiNetworkPolicy is about pods. Where two containers are in one part, it allows what either may: what each of them may, the
//! walls inside the parts tell apart. So a split that must do without those walls has one container in each part.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sidewall_api::names::{LABEL_NAMESPACE_NAME, LABEL_PART, LABEL_PRIMARY, PRIMARY};
use sidewall_api::network::POLICY_FOR;
use sidewall_api::{Attachments, NetworkName, PodSplit};
use sidewall_flow::{Action, Party, Protocol};
use sidewall_policy::evaluate::{End, Flow, evaluate};
use sidewall_policy::model::{Identities, ResolvedPod};
use sidewall_policy::world::objects::{namespace, subject_containers};
use sidewall_policy::{Subject, World, resolve};

use crate::names::object;
use crate::network::{link, owner};
use crate::record::Record;

/// The value of the label `sidewall.dev/primary` of a primary that the operator has not seen yet, and whose parts are not there. A
/// pod has no uid when it is admitted.
pub const PENDING: &str = "pending";

/// The version whose words are used; every enforcer reads it.
const API_VERSION: &str = "k8s.cni.cncf.io/v1beta1";

/// The most ports of one rule. One rule more has the rest.
const PORTS_MAX: usize = 256;

/// Whom each part may reach: from one part to another, at which ports.
pub type Allowed = BTreeMap<(String, String), BTreeSet<(Protocol, u16)>>;

/// The pod that policies are resolved for, from a whole pod ([`crate::whole`]): as if it were not split.
///
/// # Errors
///
/// It has more containers than can be told apart.
pub fn subject(whole: &Pod) -> Result<Subject, sidewall_flow::ContainerIdError> {
    Ok(Subject {
        namespace: namespace(whole.metadata.namespace.as_deref()),
        name: whole.metadata.name.clone().unwrap_or_default(),
        labels: whole.metadata.labels.clone().unwrap_or_default(),
        // Only containers of one pod are asked about here, and those meet by loopback.
        addresses: Vec::new(),
        interface: None,
        containers: subject_containers(whole)?,
        identities: Identities::Cgroup { level: 0, containers: BTreeMap::new(), pods_level: 0, pods: 0 },
        networks: Attachments::default(),
        link: None,
    })
}

/// What the parts of a pod may say to each other by the policies of its world: a port of a part is open to another where one of its
/// containers declares it, and some container of the other may reach that one.
///
/// # Errors
///
/// The pod has more containers than can be told apart.
pub fn allowed(whole: &Pod, record: &Record, world: &World) -> Result<Allowed, sidewall_flow::ContainerIdError> {
    Ok(between(&resolve(world, &subject(whole)?), record))
}

fn between(pod: &ResolvedPod, record: &Record) -> Allowed {
    let part_of = record.part_of();
    let part = |name: &str| part_of.get(name).copied().unwrap_or(PRIMARY).to_owned();
    let mut allowed = Allowed::new();
    for (to, receiver) in &pod.containers {
        let declared = record.ports.get(&receiver.name).into_iter().flatten();
        for (protocol, port) in declared.filter_map(|port| Some((port.protocol.parse().ok()?, port.container_port))) {
            for (from, sender) in &pod.containers {
                let (one, other) = (part(&sender.name), part(&receiver.name));
                let ends = (End::Local(Party::Container(*from)), End::Local(Party::Container(*to)));
                let flow = Flow { sender: ends.0, receiver: ends.1, protocol, port };
                if one != other && evaluate(pod, &flow).action == Action::Allow {
                    allowed.entry((one, other)).or_default().insert((protocol, port));
                }
            }
        }
    }
    allowed
}

/// The policy of primaries that the operator has not seen yet: nothing passes. Owned by the PodSplit.
pub fn pending(split: &PodSplit) -> Value {
    let name = split.metadata.name.as_deref().unwrap_or_default();
    let NetworkName { namespace, .. } = link(split);
    let namespace = split.metadata.namespace.clone().unwrap_or(namespace);
    let name = object("sidewall-pending-", name);
    let labels = json!({LABEL_PART: PRIMARY, LABEL_PRIMARY: PENDING});
    policy(&namespace, &name, owner(split), &link(split).to_string(), &labels, Vec::new(), Vec::new())
}

/// The policies of a pod's parts, the primary's first: one each, whether anything passes or nothing. Owned by the primary, with which
/// they go.
pub fn of_pod(primary: &Pod, record: &Record, allowed: &Allowed) -> Vec<Value> {
    let namespace = namespace(primary.metadata.namespace.as_deref());
    let (name, uid) =
        (primary.metadata.name.clone().unwrap_or_default(), primary.metadata.uid.clone().unwrap_or_default());
    let owner = json!({
        "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": false,
    });
    let labels = |part: &str| json!({LABEL_PART: part, LABEL_PRIMARY: uid});
    let peer = |part: &str| {
        json!({
            "podSelector": {"matchLabels": labels(part)},
            "namespaceSelector": {"matchLabels": {LABEL_NAMESPACE_NAME: namespace}},
        })
    };
    let parts = [PRIMARY].into_iter().chain(record.parts.iter().map(|part| part.name.as_str()));
    parts
        .map(|part| {
            let rules = |side: &str, end: fn(&(String, String)) -> (&String, &String)| -> Vec<Value> {
                let own = allowed.iter().filter(|(pair, _)| end(pair).0 == part);
                own.flat_map(|(pair, ports)| {
                    let other = peer(end(pair).1);
                    let ports: Vec<Value> = ports
                        .iter()
                        .map(|(protocol, port)| json!({"protocol": protocol.to_string(), "port": port}))
                        .collect();
                    ports.chunks(PORTS_MAX).map(|ports| json!({side: [other], "ports": ports})).collect::<Vec<_>>()
                })
                .collect()
            };
            let ingress = rules("from", |(from, to)| (to, from));
            let egress = rules("to", |(from, to)| (from, to));
            let name = format!("sidewall-{uid}-{part}");
            policy(&namespace, &name, Some(owner.clone()), &record.link, &labels(part), ingress, egress)
        })
        .collect()
}

fn policy(
    namespace: &str,
    name: &str,
    owner: Option<Value>,
    link: &str,
    labels: &Value,
    ingress: Vec<Value>,
    egress: Vec<Value>,
) -> Value {
    let mut policy = json!({
        "apiVersion": API_VERSION,
        "kind": "MultiNetworkPolicy",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "sidewall-operator"},
            "annotations": {POLICY_FOR: link},
        },
        "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress", "Egress"]},
    });
    if let Some(owner) = owner {
        policy["metadata"]["ownerReferences"] = json!([owner]);
    }
    for (section, rules) in [("ingress", ingress), ("egress", egress)] {
        if !rules.is_empty() {
            policy["spec"][section] = Value::Array(rules);
        }
    }
    policy
}

#[cfg(test)]
mod tests;
