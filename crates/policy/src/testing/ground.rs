//! The addresses and ports that cases are drawn from.

use ipnet::IpNet;
use sidewall_flow::Protocol;
use std::net::IpAddr;

/// Where a drawn case takes its addresses and ports from. The lists of one kind must not meet those of another; a list
/// may be empty, and then there is nobody of that kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// The pod's own addresses.
    pub own: Vec<IpAddr>,
    /// The device that leads out of the pod.
    pub interface: Option<String>,
    /// Addresses that pods can have.
    pub pods: Vec<IpAddr>,
    /// The ranges that pods take their addresses from.
    pub pod_ranges: Vec<IpNet>,
    /// Addresses outside the cluster.
    pub outside: Vec<IpAddr>,
    /// The node's own addresses toward the pod.
    pub this_node: Vec<IpAddr>,
    /// Addresses of other nodes.
    pub other_nodes: Vec<IpAddr>,
    /// Addresses that Services can have.
    pub services: Vec<IpAddr>,
    /// The ranges that Services take their addresses from.
    pub service_ranges: Vec<IpNet>,
    /// The ports that containers declare and rules speak of.
    pub ports: Vec<u16>,
    /// The protocols.
    pub protocols: Vec<Protocol>,
    /// Whether NetworkPolicies are drawn.
    pub network_policies: bool,
    /// The pod's further networks. Where there are some, MultiNetworkPolicies are drawn.
    pub attachments: Vec<Link>,
}

/// A further network of a drawn pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The network, as `namespace/name`.
    pub network: String,
    /// The pod's device that leads there.
    pub device: String,
    /// The pod's own addresses there.
    pub own: Vec<IpAddr>,
    /// Addresses that others have there.
    pub hosts: Vec<IpAddr>,
}

impl Ground {
    /// The default ground with everything that it leaves out: NetworkPolicies, and two further networks.
    pub fn whole() -> Self {
        let link = |network: &str, device: &str, v4: &str, v6: &str| {
            let address = |last: u8| [format!("{v4}{last}"), format!("{v6}{last}")];
            let addresses = |first: u8, last: u8| -> Vec<IpAddr> {
                (first..=last).flat_map(address).filter_map(|text| text.parse().ok()).collect()
            };
            Link {
                network: network.to_owned(),
                device: device.to_owned(),
                own: addresses(9, 9),
                hosts: addresses(1, 6),
            }
        };
        let attachments =
            vec![link("shop/link", "net1", "10.9.0.", "fd09::"), link("ops/wide", "net2", "10.8.0.", "fd08::")];
        Self { network_policies: true, attachments, ..Self::default() }
    }
}

impl Default for Ground {
    /// Ranges for private use and for documentation (RFC 1918, RFC 5737, RFC 4193, RFC 3849).
    fn default() -> Self {
        let addresses = |prefixes: [&str; 2], first: u8, last: u8| {
            prefixes
                .into_iter()
                .flat_map(|prefix| (first..=last).map(move |i| format!("{prefix}{i}")))
                .filter_map(|text| text.parse().ok())
                .collect()
        };
        let ranges = |texts: [&str; 2]| texts.into_iter().filter_map(|text| text.parse().ok()).collect();
        Self {
            own: addresses(["10.1.0.", "fd00:1::"], 9, 9),
            interface: Some("eth0".to_owned()),
            pods: addresses(["10.1.0.", "fd00:1::"], 1, 6),
            pod_ranges: ranges(["10.1.0.0/16", "fd00:1::/64"]),
            outside: addresses(["192.0.2.", "2001:db8::"], 1, 4),
            this_node: addresses(["10.0.0.", "fd00::"], 1, 1),
            other_nodes: addresses(["10.0.0.", "fd00::"], 2, 2),
            services: addresses(["10.96.0.", "fd00:96::"], 1, 5),
            service_ranges: ranges(["10.96.0.0/24", "fd00:96::/112"]),
            ports: vec![53, 80, 443, 8080, 9090],
            protocols: Protocol::ALL.to_vec(),
            network_policies: false,
            attachments: Vec::new(),
        }
    }
}
