//! The pod's further networks, and whose addresses are whose there.
//!
//! Both are read from what a pod's author can write. It may narrow what is allowed, and never widens it: what is doubtful
//! is left out, and a device that is left out is one that nobody knows.

use super::peers::{Resolver, resolve_ports};
use super::pods::{Allowed, whoever_comes};
use crate::addresses::Addresses;
use crate::index::lookup::{AttachedPod, Lookup, PodQuery, Selected, Within};
use crate::model::{Attached, AttachmentId, RuleName, Sides};
use crate::ports::Ports;
use crate::world::Subject;
use sidewall_api::network::ATTACHMENTS_MAX;
use sidewall_api::{Attachment, LabelSelector, NetworkName, PolicyPort};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Which pods have which addresses on the networks of one policy.
pub(super) struct Claims {
    networks: BTreeSet<NetworkName>,
    /// By address, the pods that say it is theirs.
    owners: BTreeMap<IpAddr, BTreeSet<(String, String)>>,
    /// Of those, who has them on the pod network.
    taken: BTreeMap<IpAddr, BTreeSet<(String, String)>>,
    /// Addresses that no pod can have.
    others: Addresses,
}

impl Claims {
    pub(super) fn new(cluster: &dyn Lookup, subject: &Subject, networks: &BTreeSet<NetworkName>) -> Self {
        let mut owners: BTreeMap<IpAddr, BTreeSet<(String, String)>> = BTreeMap::new();
        let mut taken: BTreeMap<IpAddr, BTreeSet<(String, String)>> = BTreeMap::new();
        let mut claim = |namespace: &str, name: &str, attachments: &[Attachment]| {
            for attachment in attachments.iter().filter(|attachment| networks.contains(&attachment.network)) {
                for address in &attachment.addresses {
                    owners.entry(*address).or_default().insert((namespace.to_owned(), name.to_owned()));
                }
            }
        };
        claim(&subject.namespace, &subject.name, &subject.networks.known);
        for pod in cluster.attached_pods(None) {
            claim(pod.namespace, pod.name, &pod.networks.known);
        }
        for address in owners.keys() {
            let mut bearers = cluster.bearers(*address, None);
            if subject.addresses.contains(address) {
                bearers.push((&subject.namespace, &subject.name));
            }
            let named = bearers.into_iter().map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
            taken.insert(*address, named.collect());
        }
        let this_node: Addresses = cluster.network().this_node.iter().copied().collect();
        let others = [&cluster.network().nodes, &this_node, &cluster.service_addresses()]
            .into_iter()
            .fold(Addresses::never_peers(), |all, more| all.union(more));
        Self { networks: networks.clone(), owners, taken, others }
    }

    /// Why a pod's claim to an address is not believed.
    fn doubt(&self, pod: &AttachedPod<'_>, address: IpAddr) -> Option<String> {
        let other = |pods: &BTreeSet<(String, String)>| {
            let mut others =
                pods.iter().filter(|(namespace, name)| (&**namespace, &**name) != (pod.namespace, pod.name));
            others.next().map(|(namespace, name)| format!("{namespace}/{name}"))
        };
        if let Some(other) = self.owners.get(&address).and_then(other) {
            return Some(format!("the pod {other} claims it too"));
        }
        if let Some(other) = self.taken.get(&address).and_then(other) {
            return Some(format!("on the pod network it is that of the pod {other}"));
        }
        self.others.contains(address).then(|| "it is that of a node or a Service, or no pod's at all".to_owned())
    }
}

impl Resolver<'_> {
    /// The networks that the pod is attached to, by the devices that lead there.
    pub(super) fn attached(&mut self) -> BTreeMap<AttachmentId, Attached> {
        let subject = self.subject;
        let mut faults = subject.networks.faults.clone();
        let mut by_device: BTreeMap<&str, Vec<&Attachment>> = BTreeMap::new();
        for attachment in &subject.networks.known {
            by_device.entry(&attachment.device).or_default().push(attachment);
        }
        let mut attached = BTreeMap::new();
        let pod_network = subject.interface.as_deref().unwrap_or("the pod network's");
        let mut owners: BTreeMap<IpAddr, &str> = subject.addresses.iter().map(|own| (*own, pod_network)).collect();
        let mut shared = Vec::new();
        for (device, attachments) in by_device {
            let [only] = attachments[..] else {
                faults.push(format!("names the device {device:?} more than once: no entry is believed"));
                continue;
            };
            if device == "lo" || subject.interface.as_deref() == Some(device) {
                faults.push(format!("calls {device:?} the device of the network {}, which it can't be", only.network));
                continue;
            }
            let id = match u8::try_from(attached.len()) {
                Ok(id) if attached.len() < ATTACHMENTS_MAX => AttachmentId(id),
                _ => {
                    faults.push(format!("names more than {ATTACHMENTS_MAX} devices: {device:?} is left out"));
                    continue;
                }
            };
            let network = only.network.to_string();
            for address in &only.addresses {
                let owner = *owners.entry(*address).or_insert(device);
                if owner != device {
                    shared.push(format!(
                        "the pod has the address {address} on two devices, {owner} and {device}: on {device} nothing passes under it"
                    ));
                }
            }
            let addresses = only.addresses.iter().copied().collect();
            attached.insert(id, Attached { network, device: device.to_owned(), addresses, edge: Sides::default() });
        }
        for note in shared {
            self.note(None, note);
        }
        for fault in faults {
            self.note(
                None,
                format!("the pod's list of its networks {fault}; where a MultiNetworkPolicy selects the pod, a device that is not known is isolated"),
            );
        }
        attached
    }

    /// The addresses that a pod has on the networks of a policy, but for those that are not believed.
    pub(super) fn claimed(&mut self, rule: &RuleName, claims: &Claims, pod: &AttachedPod<'_>) -> BTreeSet<IpAddr> {
        if !pod.networks.faults.is_empty() {
            self.note_rule(
                rule,
                format!(
                    "selects the pod {}/{}, whose list of networks {}",
                    pod.namespace, pod.name, pod.networks.faults[0]
                ),
            );
        }
        let mut addresses = BTreeSet::new();
        for attachment in pod.networks.known.iter().filter(|attachment| claims.networks.contains(&attachment.network)) {
            for address in &attachment.addresses {
                match claims.doubt(pod, *address) {
                    None => {
                        addresses.insert(*address);
                    }
                    Some(why) => self.note_rule(
                        rule,
                        format!(
                            "does not allow {address}, which the pod {}/{} claims on the network {}: {why}",
                            pod.namespace, pod.name, attachment.network
                        ),
                    ),
                }
            }
        }
        addresses
    }

    /// What pods have on the networks of a policy, by their ports.
    pub(super) fn selected_there(
        &mut self,
        rule: &RuleName,
        claims: &Claims,
        pods: &[AttachedPod<'_>],
        ports: Option<&[PolicyPort]>,
    ) -> Selected {
        let mut hosts: BTreeMap<Ports, BTreeSet<IpAddr>> = BTreeMap::new();
        for pod in pods {
            let ports = ports.map_or_else(Ports::all, |ports| resolve_ports(ports, pod.ports));
            hosts.entry(ports).or_default().extend(self.claimed(rule, claims, pod));
        }
        hosts.retain(|ports, addresses| !ports.is_empty() && !addresses.is_empty());
        let hosts = hosts.into_iter().map(|(ports, addresses)| (ports, Arc::new(addresses))).collect();
        whoever_comes(Selected { hosts, ..Selected::default() }, ports)
    }

    /// Every pod there, by the numbers that a rule's ports have where these are more than they are everywhere.
    pub(super) fn everybody_there(
        &mut self,
        rule: &RuleName,
        claims: &Claims,
        ports: &[PolicyPort],
        numbers: &Ports,
    ) -> Allowed {
        let anywhere = LabelSelector::everything();
        let query = PodQuery { within: Within::Labelled(&anywhere), pods: None, ports: None, own: None };
        let mut attached = self.cluster.attached_pods(Some(&query));
        attached.retain(|pod| !resolve_ports(ports, pod.ports).subtract(numbers).is_empty());
        let mut all = Allowed::default();
        all.add(self.selected_there(rule, claims, &attached, Some(ports)));
        all
    }
}
