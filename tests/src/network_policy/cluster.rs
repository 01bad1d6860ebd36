//! The cluster that the cases are about: namespaces x, y and z with pods a, b and c each, and what a case changes.

use super::case::{PodChange, Step};
use super::expectation::{self, Probe};
use serde_json::{Value, json};
use sidewall_api::NetworkPolicy;
use sidewall_api::read::read_network_policy;
use sidewall_flow::{Action, ContainerId, Party, Protocol};
use sidewall_policy::model::{DeclaredPort, Identities, UserIdentities};
use sidewall_policy::world::{Network, Service, ServicePort, SubjectContainer};
use sidewall_policy::{Flow, ResolvedPod, Subject, World, evaluate, resolve, world};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The namespaces.
pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];
/// The pods of each namespace.
pub const PODS: [&str; 3] = ["a", "b", "c"];
/// The ports that every pod listens on, over each protocol.
pub const PORTS: [u16; 2] = [80, 81];
/// The transports.
pub const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
/// The device of every pod.
pub const DEVICE: &str = "eth0";

/// The pods' node, as they see it.
pub const NODE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 88, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 1))];
/// Another node.
pub const OTHER_NODE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 9))];
/// Somebody outside the cluster.
pub const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7))];

/// Everything that policies can speak of, as a case has made it by now.
#[derive(Clone, Debug)]
pub struct Cluster {
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pods: BTreeMap<String, Pod>,
    policies: BTreeMap<String, Value>,
    services: BTreeMap<String, super::case::Service>,
}

/// A pod. Its containers listen on [`PORTS`]; some of these ports have names.
#[derive(Clone, Debug, Default)]
struct Pod {
    labels: BTreeMap<String, String>,
    names: BTreeMap<String, Vec<String>>,
    addresses: Vec<IpAddr>,
    host_network: bool,
    ended: bool,
}

/// Somebody who opens flows or answers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// `namespace/name` of a pod; another end's own name.
    pub name: String,
    /// What it is.
    pub place: Place,
    /// Its addresses, at most one a family.
    pub addresses: Vec<IpAddr>,
    /// Where it answers, where that is not on all ports.
    pub ports: Option<Vec<(Protocol, u16)>>,
}

/// What an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// One of the nine pods: it has walls.
    Walled,
    /// A pod that a case adds. Its own walls are not looked at.
    Guest,
    /// The node of the nine pods.
    Node,
    /// Another node.
    OtherNode,
    /// Somebody outside the cluster.
    Outside,
    /// A Service: nobody's source, and in the pods' namespaces an address of its own.
    Service,
}

impl End {
    /// The address in a family.
    pub fn address(&self, v6: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv6() == v6)
    }

    /// Whether it answers there.
    pub fn answers(&self, probe: Probe) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&(probe.protocol, probe.port)))
    }

    /// Whether it has walls.
    pub fn is_walled(&self) -> bool {
        self.place == Place::Walled
    }
}

impl Default for Cluster {
    fn default() -> Self {
        let labels = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let mut cluster = Self {
            namespaces: NAMESPACES.iter().map(|name| ((*name).to_owned(), labels("ns", name))).collect(),
            pods: BTreeMap::new(),
            policies: BTreeMap::new(),
            services: BTreeMap::new(),
        };
        for (row, namespace) in (1..).zip(NAMESPACES) {
            for (column, name) in (10..).zip(PODS) {
                let pod = Pod { labels: labels("pod", name), ..Pod::named_by_protocol(addresses(row, column)) };
                cluster.pods.insert(format!("{namespace}/{name}"), pod);
            }
        }
        cluster
    }
}

/// The addresses of a pod: `10.88.1.10` and `fd88::1:10` are x/a's, and those after it those of x/b, x/c and y/a.
fn addresses(row: u8, column: u8) -> Vec<IpAddr> {
    // Read as decimal digits, so that both families look the same.
    let last = u16::from(column / 10) * 16 + u16::from(column % 10);
    vec![
        IpAddr::V4(Ipv4Addr::new(10, 88, row, column)),
        IpAddr::V6(Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, u16::from(row), last)),
    ]
}

impl Pod {
    /// A pod whose ports are named as upstream's tests have them: by protocol and number.
    fn named_by_protocol(addresses: Vec<IpAddr>) -> Self {
        let all = PROTOCOLS.iter().flat_map(|protocol| PORTS.map(|port| (protocol, port)));
        let name = |(protocol, port): (&Protocol, u16)| {
            (format!("{}-{port}", protocol.to_string().to_lowercase()), vec![format!("{protocol}/{port}")])
        };
        Self { names: all.map(name).collect(), addresses, ..Self::default() }
    }

    fn change(&mut self, change: &PodChange) {
        if let Some(labels) = &change.labels {
            self.labels.clone_from(labels);
        }
        if let Some(names) = &change.ports {
            self.names.clone_from(names);
        }
        if let Some(addresses) = &change.addresses {
            self.addresses.clone_from(addresses);
        }
        self.host_network |= change.host_network;
        self.ended |= change.ended;
    }

    /// Every port it listens on, with its names.
    fn declared(&self) -> Vec<DeclaredPort> {
        let mut declared = Vec::new();
        for (name, ports) in &self.names {
            for (protocol, port) in ports.iter().map(|text| expectation::port(text)) {
                declared.push(DeclaredPort { name: Some(name.clone()), protocol, port });
            }
        }
        for (protocol, port) in PROTOCOLS.iter().flat_map(|protocol| PORTS.map(|port| (*protocol, port))) {
            if !declared.iter().any(|named| named.protocol == protocol && named.port == port) {
                declared.push(DeclaredPort { name: None, protocol, port });
            }
        }
        declared
    }

    fn is_peer(&self) -> bool {
        !self.ended && !self.host_network && !self.addresses.is_empty()
    }
}

impl Cluster {
    /// Changes what a step changes.
    ///
    /// # Panics
    /// Where the step deletes what there is not, or takes one of the nine pods away, which the kernel's runner could not.
    pub fn apply(&mut self, step: &Step) {
        for (name, labels) in &step.namespaces {
            match labels {
                Some(labels) => {
                    self.namespaces.insert(name.clone(), labels.clone());
                }
                None => {
                    assert!(self.namespaces.remove(name).is_some(), "there is no namespace {name}");
                    let within = |key: &String| key.split('/').next() == Some(name);
                    self.pods.retain(|key, _| !within(key));
                    self.policies.retain(|key, _| !within(key));
                }
            }
        }
        for (name, change) in &step.pods {
            match change {
                Some(change) => {
                    let pod = || Pod::named_by_protocol(Vec::new());
                    self.pods.entry(name.clone()).or_insert_with(pod).change(change);
                }
                None => assert!(self.pods.remove(name).is_some(), "there is no pod {name}"),
            }
        }
        for name in &step.delete {
            assert!(self.policies.remove(name).is_some(), "there is no policy {name}");
        }
        self.policies.extend(step.apply.clone());
        self.services.extend(step.services.clone());
        let nine = NAMESPACES.iter().flat_map(|namespace| PODS.map(|pod| format!("{namespace}/{pod}")));
        for name in nine {
            assert!(self.pods.get(&name).is_some_and(Pod::is_peer), "{name} is one of the nine pods, and must stay");
        }
    }

    /// Everybody who opens flows or answers them.
    pub fn ends(&self) -> Vec<End> {
        let pods = self.pods.iter().filter(|(_, pod)| pod.is_peer()).map(|(name, pod)| {
            let nine = name.split_once('/').is_some_and(|(ns, pod)| NAMESPACES.contains(&ns) && PODS.contains(&pod));
            let place = if nine { Place::Walled } else { Place::Guest };
            End { name: name.clone(), place, addresses: pod.addresses.clone(), ports: None }
        });
        let others = [("node", Place::Node, NODE), ("other-node", Place::OtherNode, OTHER_NODE)];
        let others = others.into_iter().chain([("outside", Place::Outside, OUTSIDE)]);
        let others = others.map(|(name, place, addresses)| End {
            name: name.to_owned(),
            place,
            addresses: addresses.to_vec(),
            ports: None,
        });
        let services = self.services.iter().map(|(name, service)| End {
            name: format!("service/{name}"),
            place: Place::Service,
            addresses: service.addresses.clone(),
            ports: Some(service.ports.keys().map(|port| expectation::port(port)).collect()),
        });
        pods.chain(others).chain(services).collect()
    }

    /// The cluster as policies see it.
    ///
    /// # Panics
    /// Where a policy of the case cannot be read.
    pub fn world(&self) -> World {
        let pod = |(key, pod): (&String, &Pod)| {
            let (namespace, name) = split(key);
            world::Pod {
                namespace,
                name,
                labels: pod.labels.clone(),
                addresses: pod.addresses.clone(),
                ports: pod.declared(),
                host_network: pod.host_network,
                ended: pod.ended,
                ..world::Pod::default()
            }
        };
        let service = |(key, service): (&String, &super::case::Service)| {
            let (namespace, name) = split(key);
            let port = |(port, behind): (&String, &u16)| ServicePort {
                port: Some(expectation::port(port)),
                endpoints: service
                    .pods
                    .iter()
                    .flat_map(|pod| &self.pods[pod].addresses)
                    .map(|address| (*address, Some(*behind)))
                    .collect(),
            };
            let ports = service.ports.iter().map(port).collect();
            Service { namespace, name, addresses: service.addresses.clone(), ports, ..Service::default() }
        };
        World {
            namespaces: self.namespaces.clone(),
            pods: self.pods.iter().map(pod).collect(),
            services: self.services.iter().map(service).collect(),
            network: Network {
                pods: ["10.88.0.0/16", "fd88::/64"]
                    .iter()
                    .map(|net| net.parse::<ipnet::IpNet>().expect("a net"))
                    .collect(),
                nodes: NODE.into_iter().chain(OTHER_NODE).collect(),
                this_node: NODE.into_iter().collect(),
                ..Network::default()
            },
            network_policies: self.policies.iter().map(|(key, spec)| policy(key, spec)).collect(),
            ..World::default()
        }
    }

    /// One of the pods as its own policies see it.
    ///
    /// # Panics
    /// Where there is no such pod.
    pub fn subject(&self, key: &str, identities: Identities) -> Subject {
        let pod = &self.pods[key];
        let (namespace, name) = split(key);
        let app = SubjectContainer { name: "app".to_owned(), ports: pod.declared(), probes: BTreeSet::new() };
        Subject {
            namespace,
            name,
            labels: pod.labels.clone(),
            addresses: pod.addresses.clone(),
            interface: Some(DEVICE.to_owned()),
            containers: BTreeMap::from([(app_id(), app)]),
            identities,
            networks: Default::default(),
            link: None,
        }
    }
}

fn split(key: &str) -> (String, String) {
    let (namespace, name) = key.split_once('/').unwrap_or_else(|| panic!("{key:?} is not namespace/name"));
    (namespace.to_owned(), name.to_owned())
}

fn policy(key: &str, spec: &Value) -> NetworkPolicy {
    let (namespace, name) = split(key);
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name}, "spec": spec,
    });
    read_network_policy(object).unwrap_or_else(|unreadable| panic!("{key}: {:?}", unreadable.problems)).object
}

/// The number of a pod's only container.
pub fn app_id() -> ContainerId {
    ContainerId::try_from(1).expect("a container's number")
}

/// Identities that nothing in a kernel answers to, for runs without one.
pub fn imaginary(by_user: bool) -> Identities {
    if by_user {
        return Identities::Uid(UserIdentities { containers: [(app_id(), 20_001)].into(), node: [0].into() });
    }
    Identities::Cgroup { level: 3, containers: [(app_id(), [7].into())].into(), pods_level: 1, pods: 5 }
}

/// The walls of the nine pods.
#[derive(Clone, Debug)]
pub struct Walls(pub BTreeMap<String, ResolvedPod>);

impl Walls {
    /// What the policies of a cluster mean for each of the nine pods.
    pub fn of(cluster: &Cluster, identities: impl Fn(&str) -> Identities) -> Self {
        let world = cluster.world();
        let walled = cluster.ends().into_iter().filter(End::is_walled);
        let pod = |end: End| (resolve(&world, &cluster.subject(&end.name, identities(&end.name))), end.name);
        Self(walled.map(pod).map(|(pod, name)| (name, pod)).collect())
    }

    /// What the walls at both ends make of a flow.
    pub fn verdict(&self, from: &End, to: &End, probe: Probe) -> Option<Action> {
        let (source, destination) = (from.address(probe.v6)?, to.address(probe.v6)?);
        let app = sidewall_policy::End::Local(Party::Container(app_id()));
        let judge = |name: &str, sender, receiver| {
            let Some(pod) = self.0.get(name) else { return true };
            let flow = Flow { sender, receiver, protocol: probe.protocol, port: probe.port };
            evaluate(pod, &flow).action == Action::Allow
        };
        if from.name == to.name {
            return Some(Action::from_allowed(judge(&from.name, app, app)));
        }
        let leaves = judge(&from.name, app, sidewall_policy::End::Remote(destination));
        let enters = judge(&to.name, sidewall_policy::End::Remote(source), app);
        Some(Action::from_allowed(leaves && enters))
    }
}
