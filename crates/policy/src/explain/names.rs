//! Who has an address.

use super::EndName;
use super::advice::Adviser;
use crate::evaluate::End;
use crate::model::AttachmentId;
use crate::world::{Pod, World};
use std::net::IpAddr;

impl<'a> Adviser<'a> {
    /// An end of the flow, for people.
    pub fn end(&self, end: End) -> EndName {
        match end {
            End::Local(party) => {
                EndName { container: Some(self.pod.party_name(party).to_owned()), address: None, known_as: Vec::new() }
            }
            End::Remote(address) => {
                EndName { container: None, address: Some(address), known_as: self.known_as(address) }
            }
            // Another network's address says nothing of who has it on the pod network.
            End::Attached(attachment, address) => {
                EndName { container: None, address: Some(address), known_as: self.known_on(attachment, address) }
            }
        }
    }

    /// Who says that he has an address on a further network.
    fn known_on(&self, attachment: AttachmentId, address: IpAddr) -> Vec<String> {
        let Some(attached) = self.pod.attached.get(&attachment) else {
            return vec!["on a device that is not known".to_owned()];
        };
        let mut names: Vec<String> = self
            .claimants(&attached.network, address)
            .iter()
            .map(|pod| format!("pod {}/{}, by its own word", pod.namespace, pod.name))
            .collect();
        names.sort();
        names.insert(0, format!("on {}", attached.network));
        names
    }

    /// The pods that say they have an address on a further network.
    pub fn claimants(&self, network: &str, address: IpAddr) -> Vec<&'a Pod> {
        let has = |pod: &&Pod| {
            let known = &pod.networks.known;
            known.iter().any(|one| one.network.to_string() == network && one.addresses.contains(&address))
        };
        let pods = self.world.into_iter().flat_map(|world| &world.pods);
        pods.filter(|pod| !pod.ended && !pod.host_network).filter(has).collect()
    }

    /// Whom the cluster knows under an address.
    pub fn known_as(&self, address: IpAddr) -> Vec<String> {
        let Some(world) = self.world else { return Vec::new() };
        let mut names: Vec<String> =
            pods_at(world, address).map(|pod| format!("pod {}/{}", pod.namespace, pod.name)).collect();
        let services = world.services.iter().filter(|service| service.addresses.contains(&address));
        let services: Vec<String> =
            services.map(|service| format!("Service {}/{}", service.namespace, service.name)).collect();
        if services.is_empty() && world.network.services.contains(address) {
            names.push("an unknown Service".to_owned());
        }
        names.extend(services);
        let claimed = world.services.iter().filter(|service| service.claimed.contains(&address));
        names.extend(claimed.map(|service| format!("claimed by the Service {}/{}", service.namespace, service.name)));
        if world.network.this_node.contains(&address) {
            names.push("this node".to_owned());
        } else if world.network.nodes.contains(address) {
            names.push("a node".to_owned());
        }
        names.sort();
        names
    }

    /// The pods that a rule can name and that have an address. Of a container's peers, this pod itself is none.
    pub fn peers_at(&self, address: IpAddr) -> Vec<&'a Pod> {
        let mut pods = self.pods_at(address);
        pods.retain(|pod| (&pod.namespace, &pod.name) != (&self.pod.namespace, &self.pod.name));
        pods
    }

    /// The pods that have an address.
    pub fn pods_at(&self, address: IpAddr) -> Vec<&'a Pod> {
        let Some(world) = self.world else { return Vec::new() };
        let mut pods: Vec<&Pod> = pods_at(world, address).collect();
        pods.sort_by_key(|pod| (&pod.namespace, &pod.name));
        pods
    }
}

fn pods_at(world: &World, address: IpAddr) -> impl Iterator<Item = &Pod> {
    world.pods.iter().filter(move |pod| !pod.ended && !pod.host_network && pod.addresses.contains(&address))
}
