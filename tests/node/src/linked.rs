//! A cluster of two nodes whose pods can have a further network, `link0`: by a bridge on their own node, or by macvlan over
//! a segment that both nodes are on.

use std::net::IpAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::agent::{self, Agent};
use crate::api::Api;
use crate::cluster::Cluster;
use crate::error::{BedError, Result};
use crate::multus::{self, Form, Multus};
use crate::node::Node;
use crate::segment;
use crate::shop;

/// The device in pods.
pub const DEVICE: &str = "link0";
/// The network of one node's bridge; addresses from host-local.
pub const BRIDGE: &str = "beside";
/// The ranges of [`BRIDGE`].
pub const BRIDGE_RANGES: [&str; 2] = ["10.213.0.0/24", "fd00:213::/64"];
/// The network of macvlan devices on both nodes; addresses from whereabouts.
pub const MACVLAN: &str = "across";
/// The ranges of [`MACVLAN`].
pub const MACVLAN_RANGES: [&str; 2] = ["10.214.0.0/24", "fd00:214::/112"];
/// The annotation by which a pod asks Multus for networks.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The annotation in which Multus says what it has done.
pub const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// The networks are of the namespace `shop`.
#[derive(Debug)]
pub struct Linked {
    cluster: Cluster,
}

impl Linked {
    /// Starts the cluster, with the networks and all kinds. Neither Multus nor an agent runs.
    ///
    /// # Errors
    /// When a part is missing or something does not start.
    pub fn start() -> Result<Linked> {
        let linked = Linked { cluster: Cluster::start(2)? };
        let api = linked.api();
        segment::join(&linked.cluster)?;
        agent::install(api)?;
        multus::install(api)?;
        api.apply(r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}"#)?;
        let account = ["-n", "shop", "serviceaccount", "default"];
        api.until("a service account", std::time::Duration::from_secs(60), &account, |_| true)?;
        let bridge = json!({
            "cniVersion": "1.0.0", "name": BRIDGE, "type": "bridge", "bridge": "link-beside",
            "ipam": {"type": "host-local", "ranges": BRIDGE_RANGES.map(|range| json!([{"subnet": range}]))},
        });
        let macvlan = json!({
            "cniVersion": "1.0.0", "name": MACVLAN, "type": "macvlan", "master": segment::DEVICE, "mode": "bridge",
            "ipam": {"type": "whereabouts", "ipRanges": MACVLAN_RANGES.map(|range| json!({"range": range}))},
        });
        for (name, configuration) in [(BRIDGE, bridge), (MACVLAN, macvlan)] {
            let definition = json!({
                "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": name, "namespace": "shop"}, "spec": {"config": configuration.to_string()},
            });
            api.apply(&definition.to_string())?;
        }
        Ok(linked)
    }

    /// Starts Multus on both nodes.
    ///
    /// # Errors
    /// As [`Multus::start`].
    pub fn multus(&self, form: Form) -> Result<Vec<Multus<'_>>> {
        self.nodes().iter().map(|node| Multus::start(node, self.cluster.control(), form)).collect()
    }

    /// Starts an agent on both nodes.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn agents(&self, further: &Value) -> Result<Vec<Agent<'_>>> {
        self.nodes().iter().map(|node| Agent::start(node, self.cluster.control(), further.clone())).collect()
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[Node] {
        self.cluster.nodes()
    }

    /// Its API server.
    pub fn api(&self) -> &Api {
        self.cluster.api()
    }

    /// The addresses of a pod's [`DEVICE`], IPv4 before IPv6, as its namespace has them.
    ///
    /// # Errors
    /// When the pod has no such device, or can't be asked.
    pub fn addresses(&self, pod: &str) -> Result<Vec<IpAddr>> {
        let shown = self.api().exec("shop", pod, "app", &["ip", "-o", "addr", "show", "dev", DEVICE])?;
        let mut addresses: Vec<IpAddr> = shown
            .lines()
            .filter(|line| !line.contains("scope link"))
            .filter_map(|line| {
                let mut words = line.split_ascii_whitespace().skip_while(|word| !matches!(*word, "inet" | "inet6"));
                words.nth(1)?.split('/').next()?.parse().ok()
            })
            .collect();
        addresses.sort();
        Ok(addresses)
    }

    /// What Multus says that a pod's addresses on its [`DEVICE`] are, IPv4 before IPv6.
    ///
    /// # Errors
    /// When there is no such pod, or Multus says nothing of it.
    pub fn told(&self, pod: &str) -> Result<Vec<IpAddr>> {
        let object = self.api().get(&["-n", "shop", "pod", pod])?;
        let text = object["metadata"]["annotations"][STATUS].as_str().unwrap_or_default();
        let status: Vec<Value> = serde_json::from_str(text)
            .map_err(|source| BedError::Json { what: format!("what Multus says of {pod}, {text:?},"), source })?;
        let entry = status.iter().filter(|entry| entry["interface"] == DEVICE);
        let ips = entry.flat_map(|entry| entry["ips"].as_array().cloned().unwrap_or_default());
        let mut addresses: Vec<IpAddr> = ips.filter_map(|ip| ip.as_str()?.parse().ok()).collect();
        addresses.sort();
        Ok(addresses)
    }

    /// Whose reservations whereabouts has: `NAMESPACE/POD` by address range, sorted.
    ///
    /// # Errors
    /// When the API server can't be asked.
    pub fn reserved(&self) -> Result<Vec<String>> {
        let pools = self.api().get(&["-A", "ippools.whereabouts.cni.cncf.io"])?;
        let pools = pools["items"].as_array().cloned().unwrap_or_default();
        let of_pool = |pool: &Value| {
            let all = pool["spec"]["allocations"].as_object().cloned().unwrap_or_default();
            let range = pool["spec"]["range"].as_str().unwrap_or_default().to_owned();
            all.into_iter()
                .map(move |(_, entry)| format!("{range} {}", entry["podref"].as_str().unwrap_or_default()))
                .collect::<Vec<_>>()
        };
        let mut reserved: Vec<String> = pools.iter().flat_map(of_pool).collect();
        reserved.sort();
        Ok(reserved)
    }

    /// The addresses that host-local has given on a node, for one of its networks.
    ///
    /// # Errors
    /// When its folder can't be read.
    pub fn given(&self, node: &Node, network: &str) -> Result<Vec<IpAddr>> {
        let folder = node.cell().path(Path::new("/var/lib/cni/networks").join(network));
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let entries = std::fs::read_dir(&folder).map_err(BedError::file("read", &folder))?;
        let mut given: Vec<IpAddr> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        given.sort();
        Ok(given)
    }
}

/// A pod of one container `app`, which runs this in its shell, on a node, with [`DEVICE`] on a network of its namespace.
pub fn pod(name: &str, node: &str, network: &str, command: &str) -> Value {
    let mut pod = shop::pod(name, name, Some(node), &shop::confined(), &[("app", 1001, command)]);
    let asked = json!([{"name": network, "interface": DEVICE}]);
    pod["metadata"]["annotations"] = json!({NETWORKS: asked.to_string()});
    pod
}
