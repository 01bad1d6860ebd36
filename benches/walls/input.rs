//! The pods, policies and peers that rules are made for.

pub mod policies;

pub use policies::Kind;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};
use sidewall_api::{
    ContainerNetworkPolicy, ContainerNetworkPolicySpec, EgressRule, Entity, IngressRule, IpBlock, LabelSelector, Peer,
    PolicyPort, PolicyType, PortProtocol,
};
use sidewall_flow::{ContainerId, Protocol};
use sidewall_policy::model::{DeclaredPort, Identities};
use sidewall_policy::world::{Pod, Subject, SubjectContainer, World};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The ports that are connected to: several, so that no pair of address and port comes round again while the kernel
/// still remembers the last connection between the two.
pub const PORTS: [u16; 4] = [8080, 8081, 8082, 8083];
/// A port that no policy allows.
pub const CLOSED: u16 = 7999;

const NAMESPACE: &str = "shop";
/// More ranges than this do not fit into one rule.
const BLOCKS_A_RULE: usize = 256;
/// More rules than this do not fit into one policy.
const RULES_A_POLICY: usize = 32;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// The loopback address.
    pub const fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// As iptables spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    const fn protocol(self) -> Protocol {
        match self {
            Self::Tcp => Protocol::Tcp,
            Self::Udp => Protocol::Udp,
        }
    }
}

/// What the peers of a policy are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// Pods, by a selector: a set of single addresses in one rule.
    Pods,
    /// Address blocks: ranges, as many in a rule as it holds, and as many rules and policies as that takes.
    Blocks,
}

/// The address of a peer. No two are neighbours, so that none melt into one range.
pub fn peer(version: Version, index: usize) -> IpAddr {
    // At most some ten thousand.
    let number = index as u32 * 32;
    match version {
        Version::V4 => IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(10, 128, 0, 1).to_bits() + number)),
        Version::V6 => {
            let first = Ipv6Addr::new(0xfd80, 0, 0, 0, 0, 0, 0, 1).to_bits();
            IpAddr::V6(Ipv6Addr::from_bits(first + u128::from(number)))
        }
    }
}

/// An address that is no peer.
pub fn stranger(version: Version) -> IpAddr {
    match version {
        Version::V4 => IpAddr::V4(Ipv4Addr::new(10, 200, 0, 1)),
        Version::V6 => IpAddr::V6(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1)),
    }
}

/// A pod of two containers, `client` and `server`, each walled in both directions: it may speak with the other, and with
/// so many peers.
pub fn walled(identities: Identities, version: Version, peers: Peers, count: usize) -> (World, Subject) {
    let mut world = World::default();
    let containers = ["client", "server"];
    let peer_lists: Vec<Vec<Peer>> = match peers {
        Peers::Pods => {
            world.pods = (0..count)
                .map(|index| Pod {
                    namespace: NAMESPACE.to_owned(),
                    name: format!("peer-{index}"),
                    labels: labels("peer"),
                    addresses: vec![peer(version, index)],
                    ..Pod::default()
                })
                .collect();
            vec![vec![pods("peer")]]
        }
        Peers::Blocks => {
            let blocks: Vec<Peer> = (0..count)
                .map(|index| {
                    let prefix = if version == Version::V4 { 29 } else { 125 };
                    let net = ipnet::IpNet::new(peer(version, index), prefix).map(|net| net.trunc());
                    block(&net.map(|net| net.to_string()).unwrap_or_default())
                })
                .collect();
            blocks.chunks(BLOCKS_A_RULE).map(<[Peer]>::to_vec).collect()
        }
    };
    world.policies.push(policy(
        "pod",
        Some(&containers),
        vec![ingress(containers.map(container).to_vec(), &[])],
        vec![egress(containers.map(container).to_vec(), &[])],
    ));
    for (number, lists) in peer_lists.chunks(RULES_A_POLICY).enumerate() {
        world.policies.push(policy(
            &format!("peers-{number}"),
            Some(&containers),
            lists.iter().map(|list| ingress(list.clone(), &[])).collect(),
            lists.iter().map(|list| egress(list.clone(), &[])).collect(),
        ));
    }
    let subject = subject(&[("client", &PORTS.map(declared)), ("server", &[])], identities);
    (world, subject)
}

/// A pod as there are many: an application behind a proxy, with a log shipper and a metrics exporter; six policies.
pub fn usual(identities: Identities) -> (World, Subject) {
    let mut world = World::default();
    let mut pod = |name: &str, app: &str, last: u8| {
        world.pods.push(Pod {
            namespace: NAMESPACE.to_owned(),
            name: name.to_owned(),
            labels: labels(app),
            addresses: vec![
                IpAddr::V4(Ipv4Addr::new(10, 128, 0, last)),
                IpAddr::V6(Ipv6Addr::new(0xfd80, 0, 0, 0, 0, 0, 0, last.into())),
            ],
            ports: vec![declared(5432)],
            ..Pod::default()
        });
    };
    for (app, first, count) in [("web", 1, 6), ("db", 11, 3), ("collector", 21, 2), ("prometheus", 31, 2)] {
        for index in 0..count {
            pod(&format!("{app}-{index}"), app, first + index * 2);
        }
    }
    world.network.this_node = [IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1))].into();
    world.network.dns = [(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), Protocol::Udp, 53)].into();
    let dns = || egress(vec![entity(Entity::ClusterDNS)], &[]);
    world.policies = vec![
        policy("default-deny", None, vec![], vec![dns()]),
        policy(
            "front",
            Some(&["front-proxy"]),
            vec![
                ingress(vec![pods("web"), block("192.0.2.0/24")], &[443]),
                ingress(vec![entity(Entity::Node)], &[8443]),
            ],
            vec![egress(vec![container("app")], &[8080])],
        ),
        policy(
            "app",
            Some(&["app"]),
            vec![
                ingress(vec![container("front-proxy")], &[8080]),
                ingress(vec![container("log-shipper"), container("metrics")], &[9090]),
            ],
            vec![egress(vec![pods("db")], &[5432]), egress(vec![block("198.51.100.0/24")], &[443, 8443])],
        ),
        policy(
            "log-shipper",
            Some(&["log-shipper"]),
            vec![],
            vec![egress(vec![container("app")], &[9090]), egress(vec![pods("collector")], &[4317, 4318])],
        ),
        policy(
            "metrics",
            Some(&["metrics"]),
            vec![ingress(vec![pods("prometheus")], &[9100])],
            vec![egress(vec![container("app")], &[9090]), egress(vec![container("front-proxy")], &[9091])],
        ),
        policy("monitoring", Some(&["front-proxy", "app"]), vec![ingress(vec![container("metrics")], &[9091])], vec![]),
    ];
    let front = [declared(443), declared(8443), declared(9091)];
    let app = [declared(8080), declared(9090)];
    let containers: [(&str, &[DeclaredPort]); 4] =
        [("front-proxy", &front), ("app", &app), ("log-shipper", &[]), ("metrics", &[declared(9100)])];
    (world, subject(&containers, identities))
}

fn subject(containers: &[(&str, &[DeclaredPort])], identities: Identities) -> Subject {
    let containers: BTreeMap<ContainerId, SubjectContainer> = (1..)
        .filter_map(|number| ContainerId::try_from(number).ok())
        .zip(containers)
        .map(|(id, (name, ports))| {
            let container =
                SubjectContainer { name: (*name).to_owned(), ports: ports.to_vec(), ..SubjectContainer::default() };
            (id, container)
        })
        .collect();
    Subject {
        namespace: NAMESPACE.to_owned(),
        name: "subject".to_owned(),
        labels: labels("subject"),
        addresses: vec![crate::pod::POD4, crate::pod::POD6],
        interface: Some(crate::pod::DEVICE.to_owned()),
        containers,
        identities,
        networks: Default::default(),
        link: None,
    }
}

fn labels(app: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), app.to_owned())])
}

fn declared(port: u16) -> DeclaredPort {
    DeclaredPort { name: None, protocol: Protocol::Tcp, port }
}

fn policy(
    name: &str,
    containers: Option<&[&str]>,
    ingress: Vec<IngressRule>,
    egress: Vec<EgressRule>,
) -> ContainerNetworkPolicy {
    let spec = ContainerNetworkPolicySpec {
        pod_selector: LabelSelector::everything(),
        containers: containers.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        policy_types: vec![PolicyType::Ingress, PolicyType::Egress],
        ingress: Some(ingress),
        egress: Some(egress),
        ..ContainerNetworkPolicySpec::default()
    };
    let mut policy = ContainerNetworkPolicy::new(name, spec);
    policy.metadata.namespace = Some(NAMESPACE.to_owned());
    policy
}

fn ingress(from: Vec<Peer>, ports: &[i32]) -> IngressRule {
    IngressRule { from, ports: ports.iter().map(|number| port(*number)).collect() }
}

fn egress(to: Vec<Peer>, ports: &[i32]) -> EgressRule {
    EgressRule { to, ports: ports.iter().map(|number| port(*number)).collect() }
}

fn port(number: i32) -> PolicyPort {
    PolicyPort { protocol: PortProtocol::Tcp, port: Some(IntOrString::Int(number)), end_port: None }
}

fn container(name: &str) -> Peer {
    Peer { container: Some(name.to_owned()), ..Peer::default() }
}

fn pods(app: &str) -> Peer {
    Peer { pod_selector: Some(LabelSelector::label("app", app)), ..Peer::default() }
}

fn block(cidr: &str) -> Peer {
    Peer { ip_block: Some(IpBlock { cidr: cidr.to_owned(), except: Vec::new() }), ..Peer::default() }
}

fn entity(entity: Entity) -> Peer {
    Peer { entity: Some(entity), ..Peer::default() }
}
