//! Many policies on one pod, each with pods and a port of its own. What is measured is allowed by the last alone.

use super::{DeclaredPort, NAMESPACE, PORTS, Transport, Version, container, labels, peer, pods, subject};
use crate::pod::Way;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};
use sidewall_api::{
    EgressRule, IngressRule, LabelSelector, NetworkEgressRule, NetworkIngressRule, NetworkPeer, NetworkPolicy,
    NetworkPolicySpec, Peer, PolicyPort, PolicyType, PortProtocol,
};
use sidewall_policy::model::Identities;
use sidewall_policy::world::{Pod, Subject, World};
use std::net::IpAddr;

/// How many pods each policy allows.
pub const PEERS_EACH: usize = 4;
/// One of these, in turn, is each policy's port for its pods; the measured ones are among them, so that a port alone
/// decides nothing.
const POD_PORTS: [u16; 8] = [80, 443, 5432, 6379, 8080, 8081, 8082, 8083];
/// The same for another container: none that is measured, since on loopback the port is all that tells policies apart.
const CONTAINER_PORTS: [u16; 8] = [80, 443, 5432, 6379, 9090, 9100, 9200, 9443];

/// Which kind of policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// ContainerNetworkPolicy, for every container of the pod.
    Container,
    /// NetworkPolicy, at the pod's edge.
    Network,
}

/// A policy as iptables can say it: from and to these, at these ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain {
    /// The peers.
    pub peers: Vec<IpAddr>,
    /// Their ports; every one where there is none.
    pub ports: Vec<u16>,
}

/// The ports of one of so many policies.
fn ports(index: usize, count: usize, others: &[u16; 8]) -> Vec<u16> {
    if index + 1 == count { PORTS.to_vec() } else { vec![others[index % others.len()]] }
}

/// The peers of a policy.
fn peers(version: Version, index: usize) -> impl Iterator<Item = IpAddr> {
    (index * PEERS_EACH..(index + 1) * PEERS_EACH).map(move |index| peer(version, index))
}

/// The policies as iptables can say them. On loopback they are about the other container, whose name is its address.
pub fn plain(way: Way, version: Version, count: usize) -> impl Iterator<Item = Plain> {
    (0..count).map(move |index| match way {
        Way::Loopback => Plain { peers: vec![version.loopback()], ports: ports(index, count, &CONTAINER_PORTS) },
        Way::Out | Way::In => Plain { peers: peers(version, index).collect(), ports: ports(index, count, &POD_PORTS) },
    })
}

/// A pod of two containers that so many policies select, each in both directions. Where loopback is measured, each
/// policy allows the other container too, at a port.
pub fn walled(
    identities: Identities,
    kind: Kind,
    loopback: bool,
    version: Version,
    transport: Transport,
    count: usize,
) -> (World, Subject) {
    let mut world = World::default();
    for index in 0..count {
        let app = format!("app-{index}");
        world.pods.extend(peers(version, index).enumerate().map(|(number, address)| Pod {
            namespace: NAMESPACE.to_owned(),
            name: format!("{app}-{number}"),
            labels: labels(&app),
            addresses: vec![address],
            ..Pod::default()
        }));
        let name = format!("policy-{index}");
        let pod_ports = policy_ports(transport, &ports(index, count, &POD_PORTS));
        if kind == Kind::Network {
            world.network_policies.push(network_policy(name, &app, pod_ports));
            continue;
        }
        let mut rules: Vec<(Vec<Peer>, Vec<PolicyPort>)> = vec![(vec![pods(&app)], pod_ports)];
        if loopback {
            let both = ["client", "server"].map(container).to_vec();
            rules.push((both, policy_ports(transport, &ports(index, count, &CONTAINER_PORTS))));
        }
        world.policies.push(super::policy(
            &name,
            None,
            rules.iter().cloned().map(|(from, ports)| IngressRule { from, ports }).collect(),
            rules.into_iter().map(|(to, ports)| EgressRule { to, ports }).collect(),
        ));
    }
    let declared = PORTS.map(|port| DeclaredPort { name: None, protocol: transport.protocol(), port });
    (world, subject(&[("client", &declared), ("server", &[])], identities))
}

fn network_policy(name: String, app: &str, ports: Vec<PolicyPort>) -> NetworkPolicy {
    let peers = vec![NetworkPeer { pod_selector: Some(LabelSelector::label("app", app)), ..NetworkPeer::default() }];
    NetworkPolicy {
        metadata: ObjectMeta { name: Some(name), namespace: Some(NAMESPACE.to_owned()), ..ObjectMeta::default() },
        spec: NetworkPolicySpec {
            pod_selector: LabelSelector::everything(),
            policy_types: vec![PolicyType::Ingress, PolicyType::Egress],
            ingress: vec![NetworkIngressRule { from: peers.clone(), ports: ports.clone() }],
            egress: vec![NetworkEgressRule { to: peers, ports }],
        },
    }
}

fn policy_ports(transport: Transport, ports: &[u16]) -> Vec<PolicyPort> {
    let protocol = match transport {
        Transport::Tcp => PortProtocol::Tcp,
        Transport::Udp => PortProtocol::Udp,
    };
    let port = |port: &u16| PolicyPort { protocol, port: Some(IntOrString::Int((*port).into())), end_port: None };
    ports.iter().map(port).collect()
}
