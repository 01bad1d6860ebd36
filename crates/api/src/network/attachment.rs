//! The further networks that a pod says it is attached to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::{NETWORK_STATUS, NetworkName};
use crate::names::DEFAULT_NAMESPACE;

/// The longest annotation [`NETWORK_STATUS`] that is read, in octets.
pub const NETWORK_STATUS_MAX: usize = 64 << 10;

/// The most attachments of one pod.
pub const ATTACHMENTS_MAX: usize = 32;

/// The most addresses of one attachment.
const ADDRESSES_MAX: usize = 32;

/// The longest name of a device (`IFNAMSIZ` of Linux, less its NUL), in octets.
const DEVICE_MAX: usize = 15;

/// A further network that a pod is attached to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    /// The network.
    pub network: NetworkName,
    /// The device in the pod that leads there.
    pub device: String,
    /// The pod's addresses there.
    pub addresses: Vec<IpAddr>,
}

/// The further networks that a pod is attached to, as far as that can be made out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachments {
    /// Those that can be made out, by device. No device is named twice.
    pub known: Vec<Attachment>,
    /// What of the pod's own words can't be, each with its reason. The devices meant are unknown.
    pub faults: Vec<String>,
}

/// An entry as Multus writes it (Network Plumbing Working Group, "Kubernetes Network Custom Resource Definition De-facto
/// Standard", §4.1.2). Fields that say nothing of addresses are passed over: plugins add their own.
#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    interface: String,
    #[serde(default)]
    ips: Option<Vec<String>>,
    #[serde(default)]
    default: bool,
}

impl Attachments {
    /// Reads the annotation of a pod whose device toward the pod network is `own`, where that is known.
    ///
    /// What is read here is only what the pod's author lets us read. Who can look at the node itself, should.
    pub fn read(metadata: &ObjectMeta, own: Option<&str>) -> Self {
        let text = metadata.annotations.as_ref().and_then(|annotations| annotations.get(NETWORK_STATUS));
        let namespace = metadata.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or(DEFAULT_NAMESPACE);
        text.map(|text| Self::parse(text, namespace, own)).unwrap_or_default()
    }

    fn parse(text: &str, namespace: &str, own: Option<&str>) -> Self {
        if text.trim().is_empty() {
            return Self::default();
        }
        if text.len() > NETWORK_STATUS_MAX {
            let fault = format!("has {} octets, and at most {NETWORK_STATUS_MAX} are read", text.len());
            return Self { known: Vec::new(), faults: vec![fault] };
        }
        let entries: Vec<Entry> = match serde_json::from_str(text) {
            Ok(entries) => entries,
            Err(error) => {
                let fault = format!("is no list of networks as Multus writes it: {error}");
                return Self { known: Vec::new(), faults: vec![fault] };
            }
        };
        if entries.len() > ATTACHMENTS_MAX {
            let fault = format!("has {} entries, and at most {ATTACHMENTS_MAX} are read", entries.len());
            return Self { known: Vec::new(), faults: vec![fault] };
        }
        let mut faults = Vec::new();
        let mut by_device: BTreeMap<String, Vec<Attachment>> = BTreeMap::new();
        for entry in entries {
            match entry.attachment(namespace, own) {
                Ok(Some(attachment)) => by_device.entry(attachment.device.clone()).or_default().push(attachment),
                Ok(None) => {}
                Err(fault) => faults.push(fault),
            }
        }
        let mut known = Vec::new();
        for (device, attachments) in by_device {
            match <[Attachment; 1]>::try_from(attachments) {
                Ok([only]) => known.push(only),
                Err(several) => {
                    faults.push(format!("names the device {device:?} {} times: no entry is believed", several.len()));
                }
            }
        }
        faults.sort();
        Self { known, faults }
    }
}

impl Entry {
    /// The attachment; none where it is the pod network's.
    fn attachment(self, namespace: &str, own: Option<&str>) -> Result<Option<Attachment>, String> {
        let shown = |text: &str| format!("{:?}", text.chars().take(80).collect::<String>());
        let device = self.interface;
        if self.default {
            // The pod network's own entry; some plugins leave the device out.
            return match own {
                Some(own) if !device.is_empty() && device != own => {
                    Err(format!("calls the device {} the pod network's, which is {own:?}", shown(&device)))
                }
                _ => Ok(None),
            };
        }
        if !is_device(&device) {
            return Err(format!("{} is no device for the network {}", shown(&device), shown(&self.name)));
        }
        if device == "lo" || own == Some(&device) {
            return Err(format!("calls {device:?} the device of the network {}, which it can't be", shown(&self.name)));
        }
        let Some(network) = NetworkName::parse(&self.name, namespace) else {
            return Err(format!("{} names no network", shown(&self.name)));
        };
        let ips = self.ips.unwrap_or_default();
        if ips.len() > ADDRESSES_MAX {
            return Err(format!("gives {device:?} {} addresses, and at most {ADDRESSES_MAX} are read", ips.len()));
        }
        let mut addresses = Vec::new();
        for text in &ips {
            // Some plugins write the length of the prefix too.
            let address = text.parse::<IpAddr>().or_else(|_| text.parse::<ipnet::IpNet>().map(|net| net.addr()));
            addresses.push(address.map_err(|_| format!("{} is no address", shown(text)))?);
        }
        addresses.sort();
        addresses.dedup();
        Ok(Some(Attachment { network, device, addresses }))
    }
}

/// Whether a text can be a device's name (`dev_valid_name` of Linux).
fn is_device(name: &str) -> bool {
    (1..=DEVICE_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':')
}
