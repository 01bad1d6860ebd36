//! A pod's devices and addresses as its network namespace has them, and which network each leads to.
//!
//! What is in the namespace counts. The CNI result tells which device leads to which network, and an annotation of the pod
//! may tell it of networks whose chain does not have our plugin; but a device that is not there, or does not have the addresses
//! that are claimed for it, is nobody's.

use crate::memory;
use sidewall_api::{Attachment, Attachments};
use sidewall_netns::Links;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A device of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its addresses but those of the link alone (`fe80::/10`).
    pub addresses: Vec<IpAddr>,
}

/// Where a pod is in the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// The device that leads to the pod network; none where it is not there, or can't be told.
    pub interface: Option<String>,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// Its further networks.
    pub networks: Attachments,
}

/// The device that runtimes give the pod network's (`CNI_IFNAME` of containerd and CRI-O).
const USUAL: &str = "eth0";
/// The loopback device.
const LOOPBACK: &str = "lo";

/// The devices of a namespace but loopback.
///
/// # Errors
/// [`sidewall_netns::Error`] where it can't be asked.
pub fn devices(links: &mut Links) -> Result<Vec<Device>, sidewall_netns::Error> {
    let own = |device: &sidewall_netns::Device| device.link.name != LOOPBACK;
    Ok(links.devices()?.into_iter().filter(own).map(Device::from).collect())
}

impl From<sidewall_netns::Device> for Device {
    fn from(device: sidewall_netns::Device) -> Self {
        let addresses = device.addresses.iter().map(|address| address.net.addr());
        Self { name: device.link.name, addresses: addresses.filter(|address| !is_of_the_link(address)).collect() }
    }
}

fn is_of_the_link(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Makes out where a pod is. `made` is what CNI told of devices, and `claimed` gives what the pod's annotation says, by the
/// name of its device toward the pod network. `reported` are the addresses that the runtime has from CNI, for pods of which
/// nothing is remembered.
pub fn situation(
    found: &[Device],
    made: &BTreeMap<String, memory::Device>,
    reported: &[IpAddr],
    claimed: impl FnOnce(Option<&str>) -> Attachments,
) -> Situation {
    let told = made.iter().find(|(_, device)| device.network.is_none()).map(|(name, _)| name.as_str());
    let by_address = || found.iter().find(|device| reported.iter().any(|address| device.addresses.contains(address)));
    let usual = || found.iter().find(|device| device.name == USUAL);
    let own = match told {
        Some(name) => found.iter().find(|device| device.name == name),
        None => by_address().or_else(usual),
    };
    let interface = own.map(|device| device.name.clone());
    let claimed = claimed(interface.as_deref());
    let mut networks = Attachments { known: Vec::new(), faults: claimed.faults };
    for device in found.iter().filter(|device| Some(&device.name) != interface.as_ref()) {
        // The name by which policies know a network is the annotation's; CNI knows it by the name in its configuration, which
        // may be any. So the claim is needed, and the namespace must bear it out.
        let Some(claim) = claimed.known.iter().find(|claim| claim.device == device.name) else { continue };
        if !claim.addresses.iter().all(|address| device.addresses.contains(address)) {
            networks.faults.push(format!(
                "network-status claims addresses for {} that it does not have: it counts as leading to no known network",
                claim.device
            ));
            continue;
        }
        let network = claim.network.clone();
        networks.known.push(Attachment { network, device: device.name.clone(), addresses: device.addresses.clone() });
    }
    let there = |name: &str| found.iter().any(|device| device.name == name);
    for claim in claimed.known.iter().filter(|claim| !there(&claim.device)) {
        networks.faults.push(format!("network-status claims the device {}, which is not there", claim.device));
    }
    Situation { interface, addresses: own.map(|device| device.addresses.clone()).unwrap_or_default(), networks }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, addresses: &[&str]) -> Device {
        Device { name: name.to_owned(), addresses: addresses.iter().map(|text| text.parse().unwrap()).collect() }
    }

    fn attachment(network: &str, device: &str, address: &str) -> Attachment {
        let (namespace, name) = network.split_once('/').unwrap();
        Attachment {
            network: sidewall_api::network::NetworkName { namespace: namespace.to_owned(), name: name.to_owned() },
            device: device.to_owned(),
            addresses: vec![address.parse().unwrap()],
        }
    }

    fn claims(known: Vec<Attachment>) -> impl FnOnce(Option<&str>) -> Attachments {
        move |_| Attachments { known, faults: Vec::new() }
    }

    #[test]
    fn what_cni_made_is_the_pod_network() {
        let made = BTreeMap::from([("cn0".to_owned(), memory::Device { network: None, addresses: vec![] })]);
        let found = [device("eth0", &["10.9.0.1"]), device("cn0", &["10.1.0.2"])];
        let situation = situation(&found, &made, &[], claims(vec![]));
        assert_eq!(situation.interface.as_deref(), Some("cn0"));
        assert_eq!(situation.addresses, ["10.1.0.2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn of_a_pod_that_nobody_told_of_the_runtimes_address_tells() {
        let found = [device("eth0", &["10.9.0.1"]), device("cn0", &["10.1.0.2"])];
        let reported = ["10.1.0.2".parse().unwrap()];
        assert_eq!(situation(&found, &BTreeMap::new(), &reported, claims(vec![])).interface.as_deref(), Some("cn0"));
        assert_eq!(situation(&found, &BTreeMap::new(), &[], claims(vec![])).interface.as_deref(), Some("eth0"));
        assert_eq!(situation(&found[1..], &BTreeMap::new(), &[], claims(vec![])).interface, None);
    }

    #[test]
    fn a_claim_that_the_namespace_does_not_bear_out_is_none() {
        let found = [device("eth0", &["10.1.0.2"]), device("net1", &["10.2.0.2"]), device("net2", &["10.3.0.2"])];
        let claimed = vec![
            attachment("shop/link", "net1", "10.2.0.2"),
            attachment("shop/other", "net2", "10.7.7.7"),
            attachment("shop/none", "net9", "10.8.8.8"),
        ];
        let situation = situation(&found, &BTreeMap::new(), &[], claims(claimed));
        let known: Vec<_> = situation.networks.known.iter().map(|known| known.device.as_str()).collect();
        assert_eq!(known, ["net1"]);
        assert_eq!(situation.networks.faults.len(), 2, "{:?}", situation.networks.faults);
    }
}
