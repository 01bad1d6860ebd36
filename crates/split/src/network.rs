//! The link: the further network that joins the parts of a pod.

use serde_json::{Map, Value, json};
use sidewall_api::names::{LINK_DEVICE, LINK_NETWORK_PREFIX};
use sidewall_api::split::{Ipam, Link, LinkType};
use sidewall_api::{NetworkName, PodSplit};

use crate::names::{object, short_hash};

/// `apiVersion` of a NetworkAttachmentDefinition.
const API_VERSION: &str = "k8s.cni.cncf.io/v1";

/// The version of the CNI configuration: the newest that every plugin of the last years reads.
const CNI_VERSION: &str = "0.3.1";

/// The longest annotation with networks that is read, in octets.
const NETWORKS_MAX: usize = 64 << 10;

/// The link's NetworkAttachmentDefinition: the user's, or the one that [`definition`] makes.
pub fn link(split: &PodSplit) -> NetworkName {
    split.network().unwrap_or_else(|| NetworkName {
        namespace: namespace(split).to_owned(),
        name: object(LINK_NETWORK_PREFIX, split.metadata.name.as_deref().unwrap_or_default()),
    })
}

/// The NetworkAttachmentDefinition that is to be made for a PodSplit, as JSON; none where its user has one. Owned by the PodSplit.
pub fn definition(split: &PodSplit) -> Option<Value> {
    if split.network().is_some() {
        return None;
    }
    let NetworkName { namespace, name } = link(split);
    let mut metadata = json!({
        "name": name,
        "namespace": namespace,
        "labels": {"app.kubernetes.io/managed-by": "sidewall-operator"},
    });
    if let Some(owner) = owner(split) {
        metadata["ownerReferences"] = json!([owner]);
    }
    Some(json!({
        "apiVersion": API_VERSION,
        "kind": "NetworkAttachmentDefinition",
        "metadata": metadata,
        "spec": {"config": config(split).to_string()},
    }))
}

/// The reference to a PodSplit as an owner; none where it has no uid yet.
pub(crate) fn owner(split: &PodSplit) -> Option<Value> {
    let (name, uid) = (split.metadata.name.as_ref()?, split.metadata.uid.as_ref()?);
    Some(json!({
        "apiVersion": sidewall_api::names::API_VERSION, "kind": "PodSplit", "name": name, "uid": uid,
        "controller": true, "blockOwnerDeletion": false,
    }))
}

/// The CNI configuration of a link that is made for a PodSplit.
///
/// There is no gateway and no route: nothing but the link's own subnets is reached by it, and no default route competes with the
/// pod network's.
fn config(split: &PodSplit) -> Value {
    let none = Link::default();
    let link = split.spec.link.as_ref().unwrap_or(&none);
    let name = split.metadata.name.as_deref().unwrap_or_default();
    // By this name the plugins keep addresses on a node: two PodSplits of one name in two namespaces have two.
    let network = format!("sidewall-{}", short_hash(&[namespace(split), name]));
    let mut config = json!({"cniVersion": CNI_VERSION, "name": network, "ipam": ipam(link, &network)});
    match link.kind() {
        LinkType::Bridge => {
            config["type"] = json!("bridge");
            // A device's name has 15 octets.
            config["bridge"] = json!(format!("sw-{}", short_hash(&[namespace(split), name])));
            config["isGateway"] = json!(false);
            config["ipMasq"] = json!(false);
        }
        LinkType::Macvlan => {
            config["type"] = json!("macvlan");
            config["mode"] = json!("bridge");
            // Without a master the plugin takes the device of the node's default route.
            if let Some(parent) = &link.parent {
                config["master"] = json!(parent);
            }
        }
    }
    config
}

fn ipam(link: &Link, network: &str) -> Value {
    let subnets = link.subnets();
    match link.ipam() {
        Ipam::HostLocal => {
            // A list of alternatives for each address that is given: one of each family.
            let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
            json!({"type": "host-local", "ranges": ranges})
        }
        Ipam::Whereabouts => {
            let ranges: Vec<Value> = subnets.iter().map(|subnet| json!({"range": subnet})).collect();
            // Without a name of the network, all of whereabouts' networks of one range share their addresses.
            json!({"type": "whereabouts", "network_name": network, "ipRanges": ranges})
        }
    }
}

fn namespace(split: &PodSplit) -> &str {
    let namespace = split.metadata.namespace.as_deref().filter(|name| !name.is_empty());
    namespace.unwrap_or(sidewall_api::names::DEFAULT_NAMESPACE)
}

/// The annotation that attaches a part to its link alone.
pub(crate) fn attach_only(link: &NetworkName) -> String {
    json!([entry(link)]).to_string()
}

fn entry(link: &NetworkName) -> Value {
    json!({"name": link.name, "namespace": link.namespace, "interface": LINK_DEVICE})
}

/// Why a pod cannot be attached to its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttachError {
    /// Another network has the link's device.
    Taken,
    /// The annotation is not understood.
    Unreadable(&'static str),
}

/// The annotation that attaches a pod to its link beside what it was attached to before, in the form in which it was written.
/// `before` is the link that we have added to it earlier, where we have.
pub(crate) fn attach(
    text: Option<&str>,
    own: &str,
    link: &NetworkName,
    before: Option<&NetworkName>,
) -> Result<String, AttachError> {
    let text = text.unwrap_or_default().trim();
    if text.is_empty() {
        return Ok(attach_only(link));
    }
    if text.len() > NETWORKS_MAX {
        return Err(AttachError::Unreadable("it is too long"));
    }
    // As Multus tells the two forms apart.
    if text.contains(['[', '{', '"']) {
        attach_json(text, own, link, before)
    } else {
        attach_list(text, own, link, before)
    }
}

fn attach_json(text: &str, own: &str, link: &NetworkName, before: Option<&NetworkName>) -> Result<String, AttachError> {
    let entries: Vec<Map<String, Value>> =
        serde_json::from_str(text).map_err(|_| AttachError::Unreadable("it is no JSON list of networks"))?;
    let word = |entry: &Map<String, Value>, field: &str| entry.get(field).and_then(Value::as_str).map(str::to_owned);
    let mut kept = Vec::new();
    let mut there = false;
    for entry in entries {
        if word(&entry, "interface").as_deref() == Some(LINK_DEVICE) {
            let name = word(&entry, "name").unwrap_or_default();
            let network = NetworkName { namespace: word(&entry, "namespace").unwrap_or_else(|| own.to_owned()), name };
            match known(&network, link, before)? {
                Known::Now => there = true,
                Known::Before => continue,
            }
        }
        kept.push(Value::Object(entry));
    }
    if there {
        // Nothing was changed but where the link was another before, and then it is not there yet.
        return Ok(text.to_owned());
    }
    kept.push(entry(link));
    Ok(Value::Array(kept).to_string())
}

fn attach_list(text: &str, own: &str, link: &NetworkName, before: Option<&NetworkName>) -> Result<String, AttachError> {
    let mut kept = Vec::new();
    for item in text.split(',').map(str::trim) {
        let Some(network) = item.strip_suffix(LINK_DEVICE).and_then(|rest| rest.strip_suffix('@')) else {
            kept.push(item.to_owned());
            continue;
        };
        let network = NetworkName::parse(network, own).ok_or(AttachError::Taken)?;
        match known(&network, link, before)? {
            Known::Now => return Ok(text.to_owned()),
            Known::Before => {}
        }
    }
    kept.push(format!("{link}@{LINK_DEVICE}"));
    Ok(kept.join(","))
}

/// A network that has the link's device.
enum Known {
    /// It is the link.
    Now,
    /// It was the link before, and we have added it.
    Before,
}

fn known(network: &NetworkName, link: &NetworkName, before: Option<&NetworkName>) -> Result<Known, AttachError> {
    // Without one of ours before, the pod's author has taken the device.
    match before {
        Some(_) if network == link => Ok(Known::Now),
        Some(before) if network == before => Ok(Known::Before),
        _ => Err(AttachError::Taken),
    }
}

#[cfg(test)]
mod tests;
