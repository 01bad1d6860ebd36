//! Small pods, clusters and flows in few words, for tests.

use crate::evaluate::{End, Flow, evaluate};
use crate::model::{AttachmentId, DeclaredPort, Identities, ResolvedPod, UserIdentities};
use crate::world::{Pod, Service, ServicePort, Subject, SubjectContainer, World};
use crate::{Explanation, explain, resolve};
use serde_json::{Value, json};
use sidewall_api::{Attachment, NetworkName};
use sidewall_flow::{Action, ContainerId, Party, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The pod `shop/web` with the label `app: web` at 10.1.0.9 and fd00:1::9, and what is around it: Services in
/// 10.96.0.0/16 and fd00:96::/112, pods in 10.1.0.0/16, this node at 10.0.0.1, another at 10.0.0.2.
pub struct Fixture {
    pub world: World,
    pub subject: Subject,
}

impl Fixture {
    /// Containers with the ports that they declare, such as `http=TCP/8080` or `UDP/53`.
    pub fn new(containers: &[(&str, &[&str])]) -> Self {
        let containers: BTreeMap<ContainerId, SubjectContainer> = (1..)
            .zip(containers)
            .map(|(number, (name, declared))| {
                let ports = declared.iter().map(|text| port(text)).collect();
                let container = SubjectContainer { name: (*name).to_owned(), ports, probes: BTreeSet::new() };
                (ContainerId::try_from(number).unwrap(), container)
            })
            .collect();
        let identities = Identities::Cgroup {
            level: 3,
            containers: containers.keys().map(|id| (*id, BTreeSet::from([100 + u64::from(id.get())]))).collect(),
            pods_level: 1,
            pods: 100,
        };
        let subject = Subject {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            labels: labels("app=web"),
            addresses: vec![address("10.1.0.9"), address("fd00:1::9")],
            interface: Some("eth0".to_owned()),
            containers,
            identities,
            networks: sidewall_api::Attachments::default(),
            link: None,
        };
        let mut world = World::default();
        let ranges = |texts: [&str; 2]| texts.iter().map(|text| text.parse::<ipnet::IpNet>().unwrap()).collect();
        world.network.services = ranges(["10.96.0.0/16", "fd00:96::/112"]);
        world.network.pods = ranges(["10.1.0.0/16", "fd00:1::/64"]);
        world.network.this_node = BTreeSet::from([address("10.0.0.1")]);
        world.network.nodes = [address("10.0.0.1"), address("10.0.0.2")].into_iter().collect();
        Self { world, subject }
    }

    /// The same pod with identity by user: 1001, 1002 and so on, and the node as 0.
    pub fn by_uid(mut self) -> Self {
        let containers = self.subject.containers.keys().map(|id| (*id, 1000 + u32::from(id.get()))).collect();
        self.subject.identities = Identities::Uid(UserIdentities { containers, node: BTreeSet::from([0]) });
        self
    }

    /// A policy in the pod's namespace; a `podSelector` that is not given selects everything.
    pub fn policy(mut self, name: &str, mut spec: Value) -> Self {
        if spec.get("podSelector").is_none() {
            spec["podSelector"] = json!({});
        }
        let policy = json!({
            "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy",
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec,
        });
        self.world.policies.push(serde_json::from_value(policy).unwrap());
        self
    }

    /// A NetworkPolicy in the pod's namespace; a `podSelector` that is not given selects everything.
    pub fn network_policy(mut self, name: &str, spec: Value) -> Self {
        let policy = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
        self.world.network_policies.push(serde_json::from_value(policy).unwrap());
        self
    }

    /// A MultiNetworkPolicy in the pod's namespace for some networks.
    pub fn multi_network_policy(mut self, name: &str, networks: &str, spec: Value) -> Self {
        let annotations = json!({sidewall_api::network::POLICY_FOR: networks});
        let metadata = json!({"name": name, "namespace": "shop", "annotations": annotations});
        let policy = json!({"metadata": metadata, "spec": spec});
        self.world.multi_network_policies.push(serde_json::from_value(policy).unwrap());
        self
    }

    /// A further network of the pod, as `namespace/name`, with the device that leads there and the pod's addresses.
    pub fn attached(mut self, network: &str, device: &str, addresses: &[&str]) -> Self {
        self.subject.networks.known.push(attachment(network, device, addresses));
        self
    }

    /// A further network of the pod that was added last.
    pub fn on(self, network: &str, device: &str, addresses: &[&str]) -> Self {
        self.with(|pod| pod.networks.known.push(attachment(network, device, addresses)))
    }

    /// The Service that was added last, changed.
    pub fn with_service(mut self, change: impl FnOnce(&mut Service)) -> Self {
        change(self.world.services.last_mut().unwrap());
        self
    }

    /// A SidecarProxy of `front-proxy` with anonymous listeners, each the port and the port that it forwards to.
    pub fn proxy(mut self, name: &str, created: &str, listeners: &[(u16, u16)]) -> Self {
        let listeners: Vec<Value> = listeners
            .iter()
            .map(|(port, forward)| json!({"port": port, "forward": {"port": forward}, "anonymous": true}))
            .collect();
        let proxy = json!({
            "apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy",
            "metadata": {"name": name, "namespace": "shop", "creationTimestamp": created},
            "spec": {"podSelector": {}, "listeners": listeners},
        });
        self.world.proxies.push(serde_json::from_value(proxy).unwrap());
        self
    }

    /// The ports that the SidecarProxy that was added last captures.
    pub fn captures(mut self, ports: &[u16]) -> Self {
        let capture = json!({"inbound": ports});
        self.world.proxies.last_mut().unwrap().spec.capture = serde_json::from_value(capture).unwrap();
        self
    }

    /// A pod, as `namespace/name`, with labels as `key=value,key=value`.
    pub fn pod(mut self, name: &str, labels_text: &str, addresses: &[&str], ports: &[&str]) -> Self {
        let (namespace, name) = name.split_once('/').unwrap();
        self.world.pods.push(Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            labels: labels(labels_text),
            addresses: addresses.iter().map(|text| address(text)).collect(),
            ports: ports.iter().map(|text| port(text)).collect(),
            host_network: false,
            ended: false,
            networks: sidewall_api::Attachments::default(),
        });
        self
    }

    /// The pod that was added last, changed.
    pub fn with(mut self, change: impl FnOnce(&mut Pod)) -> Self {
        change(self.world.pods.last_mut().unwrap());
        self
    }

    /// A namespace's labels.
    pub fn namespace(mut self, name: &str, labels_text: &str) -> Self {
        self.world.namespaces.insert(name.to_owned(), labels(labels_text));
        self
    }

    /// A Service, as `namespace/name`, with one port and its endpoints, such as `10.1.0.2:8080` or `10.1.0.2`.
    pub fn service(mut self, name: &str, addresses: &[&str], service_port: &str, endpoints: &[&str]) -> Self {
        let (namespace, name) = name.split_once('/').unwrap();
        let DeclaredPort { protocol, port: number, .. } = port(service_port);
        let endpoints = endpoints
            .iter()
            .map(|text| match text.parse::<std::net::SocketAddr>() {
                Ok(socket) => (socket.ip(), Some(socket.port())),
                Err(_) => (address(text), None),
            })
            .collect();
        let ports = vec![ServicePort { port: Some((protocol, number)), endpoints }];
        let addresses = addresses.iter().map(|text| address(text)).collect();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.world.services.push(Service { namespace, name, addresses, ports, ..Service::default() });
        self
    }

    /// The ports of a container that the kubelet probes.
    pub fn probes(mut self, container: &str, ports: &[u16]) -> Self {
        let container = self.subject.containers.values_mut().find(|c| c.name == container).unwrap();
        container.probes = ports.iter().copied().collect();
        self
    }

    pub fn resolved(&self) -> ResolvedPod {
        resolve(&self.world, &self.subject)
    }

    /// A flow, such as `app -> 10.0.0.1 TCP/443`, `unknown -> app UDP/53` or `app -> 10.9.0.2%net1 TCP/443`.
    pub fn flow(&self, text: &str) -> Flow {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [sender, "->", receiver, socket] = words[..] else { panic!("{text:?} is no flow") };
        let DeclaredPort { protocol, port, .. } = port(socket);
        Flow { sender: self.end(sender), receiver: self.end(receiver), protocol, port }
    }

    fn end(&self, text: &str) -> End {
        let container = self.subject.containers.iter().find(|(_, container)| container.name == text);
        match (text, container) {
            ("unknown", _) => End::Local(Party::Unknown),
            ("node", _) => End::Local(Party::Node),
            (_, Some((id, _))) => End::Local(Party::Container(*id)),
            _ if text.contains('%') => {
                let (text, device) = text.split_once('%').unwrap();
                let known = self.resolved().attached;
                let id = known.into_iter().find(|(_, attached)| attached.device == device).map(|(id, _)| id);
                // One that no network has stands for a device that nobody knows.
                End::Attached(id.unwrap_or(AttachmentId(200)), address(text))
            }
            _ => End::Remote(text.parse().unwrap_or_else(|_| panic!("{text:?} is neither a container nor an address"))),
        }
    }

    pub fn explained(&self, flow: &str) -> Explanation {
        explain(&self.resolved(), &self.flow(flow), Some(&self.world))
    }

    /// Checks flows against what the pod's policies come to.
    #[track_caller]
    pub fn expect(&self, allowed: &[&str], denied: &[&str]) {
        let pod = self.resolved();
        for (flows, action) in [(allowed, Action::Allow), (denied, Action::Deny)] {
            for text in flows {
                let verdict = evaluate(&pod, &self.flow(text));
                assert_eq!(verdict.action, action, "{text}: {:#?}", verdict.halves);
            }
        }
    }

    /// What the notes say.
    pub fn notes(&self) -> Vec<String> {
        self.resolved().notes.into_iter().map(|note| note.message).collect()
    }

    /// Checks that some note contains a text.
    #[track_caller]
    pub fn expect_note(&self, text: &str) {
        let notes = self.notes();
        assert!(notes.iter().any(|note| note.contains(text)), "{text:?} is not in {notes:#?}");
    }
}

fn labels(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn attachment(network: &str, device: &str, addresses: &[&str]) -> Attachment {
    Attachment {
        network: NetworkName::parse(network, "shop").unwrap(),
        device: device.to_owned(),
        addresses: addresses.iter().map(|text| address(text)).collect(),
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no address"))
}

fn port(text: &str) -> DeclaredPort {
    let (name, socket) = match text.split_once('=') {
        Some((name, socket)) => (Some(name.to_owned()), socket),
        None => (None, text),
    };
    let (protocol, number) = socket.split_once('/').unwrap_or_else(|| panic!("{text:?} is no port"));
    DeclaredPort { name, protocol: protocol.parse::<Protocol>().unwrap(), port: number.parse().unwrap() }
}
