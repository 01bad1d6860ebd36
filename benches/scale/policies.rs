//! The policies of the cluster, in the mix in which people write them.

use crate::cluster::{COMMON, Cluster, MONITORING, STAGES, TIERS};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{
    ContainerNetworkPolicy, ContainerNetworkPolicySpec, EgressRule, Entity, IngressRule, IpBlock, LabelSelector,
    NetworkEgressRule, NetworkIngressRule, NetworkPeer, NetworkPolicy, NetworkPolicySpec, Operator, Peer, PolicyPort,
    PolicyType, PortProtocol, Requirement,
};
use sidewall_policy::index::Change;
use sidewall_policy::testing::Draw;
use sidewall_policy::world::NAMESPACE_NAME_LABEL;

/// Every policy of a cluster: those that each namespace has, then those of applications, as many as are wanted.
pub fn policies(cluster: &Cluster) -> Vec<Change> {
    let mut draw = Draw::new(cluster.size.seed ^ 0x90_11c1e5);
    let mut policies = Vec::new();
    let wanted = cluster.size.policies;
    for namespace in 0..cluster.namespaces.len() {
        // Three a namespace, and not more than half of all.
        if (namespace + 1) * 6 <= wanted.max(6) {
            policies.extend(of_namespace(cluster, namespace));
        }
    }
    // The larger a namespace, the more policies has it, as it has more workloads.
    let mut number = 0;
    while policies.len() < wanted {
        let workload = draw.below(cluster.workloads.len());
        policies.push(of_application(cluster, &mut draw, workload, number));
        number += 1;
    }
    policies.truncate(wanted);
    policies
}

/// Default deny with DNS, the namespace's own pods, and the metrics of everybody.
fn of_namespace(cluster: &Cluster, namespace: usize) -> Vec<Change> {
    let dns = NetworkPeer {
        pod_selector: Some(LabelSelector::label("app", "coredns")),
        namespace_selector: Some(LabelSelector::label(NAMESPACE_NAME_LABEL, COMMON[0])),
        ip_block: None,
    };
    let dns_ports = vec![number(PortProtocol::Udp, 53), number(PortProtocol::Tcp, 53)];
    let deny = NetworkPolicySpec {
        policy_types: vec![PolicyType::Ingress, PolicyType::Egress],
        egress: vec![NetworkEgressRule { to: vec![dns], ports: dns_ports }],
        ..NetworkPolicySpec::default()
    };
    let mut metrics = NetworkPolicySpec {
        ingress: vec![NetworkIngressRule {
            from: vec![of_namespace_named(COMMON[MONITORING])],
            ports: vec![named("metrics")],
        }],
        ..NetworkPolicySpec::default()
    };
    if namespace == MONITORING {
        let everybody = NetworkPeer { namespace_selector: Some(LabelSelector::everything()), ..NetworkPeer::default() };
        let to = vec![NetworkEgressRule { to: vec![everybody], ports: vec![named("metrics")] }];
        metrics.policy_types = vec![PolicyType::Ingress, PolicyType::Egress];
        metrics.egress = to;
    }
    let shipper = container_spec(
        LabelSelector::everything(),
        "log-shipper",
        vec![],
        vec![EgressRule {
            to: vec![
                Peer {
                    pod_selector: Some(LabelSelector::label("app", "fluentd")),
                    namespace_selector: Some(LabelSelector::label(NAMESPACE_NAME_LABEL, COMMON[2])),
                    ..Peer::default()
                },
                Peer { entity: Some(Entity::ClusterDNS), ..Peer::default() },
            ],
            ports: vec![],
        }],
    );
    let name = &cluster.namespaces[namespace];
    vec![edge(name, "default-deny", deny), edge(name, "metrics", metrics), container(name, "log-shipper", shipper)]
}

/// A policy of an application: for a container two times in five, else for the pod.
pub fn of_application(cluster: &Cluster, draw: &mut Draw, workload: usize, index: usize) -> Change {
    let workload = &cluster.workloads[workload];
    let namespace = &cluster.namespaces[workload.namespace];
    let selects = LabelSelector::label("app", &workload.app);
    let neighbour = |draw: &mut Draw| {
        let near: Vec<&str> =
            cluster.workloads.iter().filter(|w| w.namespace == workload.namespace).map(|w| &*w.app).collect();
        LabelSelector::label("app", *draw.pick(&near))
    };
    let pods = |pods| NetworkPeer { pod_selector: Some(pods), ..NetworkPeer::default() };
    let (mut from, mut to) = (Vec::new(), Vec::new());
    let mut ports = vec![named("http")];
    match draw.below(100) {
        // From one application of the namespace to another.
        0..=39 => {
            let peers = 1 + draw.below(3);
            from.extend((0..peers).map(|_| pods(neighbour(draw))));
            to.push(pods(neighbour(draw)));
        }
        // Everybody in the namespace.
        40..=46 => from.push(pods(LabelSelector::everything())),
        // Namespaces of a team or a stage, all their pods or those of a tier.
        47..=62 => {
            let namespaces = if draw.chance(60) {
                LabelSelector::label("team", format!("team-{:02}", draw.below(24)))
            } else {
                LabelSelector::label("stage", *draw.pick(&STAGES))
            };
            let peer = NetworkPeer {
                namespace_selector: Some(namespaces),
                pod_selector: draw.chance(70).then(|| LabelSelector::label("tier", *draw.pick(&TIERS))),
                ..NetworkPeer::default()
            };
            if draw.chance(50) { from.push(peer) } else { to.push(peer) }
        }
        // From the ingress controllers.
        63..=70 => from.push(of_namespace_named(COMMON[3])),
        // Expressions.
        71..=80 => {
            let term = |key: &str, operator, values: &[&str]| Requirement {
                key: key.to_owned(),
                operator,
                values: values.iter().map(|value| (*value).to_owned()).collect(),
            };
            let mut peer = LabelSelector::everything();
            let tiers = [*draw.pick(&TIERS), *draw.pick(&TIERS)];
            peer.match_expressions = vec![
                term("tier", Operator::In, &tiers),
                match draw.below(3) {
                    0 => term("version", Operator::NotIn, &["v9"]),
                    1 => term("canary", Operator::DoesNotExist, &[]),
                    _ => term("team", Operator::Exists, &[]),
                },
            ];
            from.push(pods(peer.clone()));
            to.push(pods(peer));
        }
        // Beyond the cluster: everywhere but inside, or some company's block.
        choice => {
            let cidr = if choice < 90 { "0.0.0.0/0".to_owned() } else { format!("198.{}.0.0/16", 18 + draw.below(2)) };
            let except: &[&str] =
                if choice < 90 { &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"] } else { &[] };
            let except = except.iter().map(|net| (*net).to_owned()).collect();
            to.push(NetworkPeer { ip_block: Some(IpBlock { cidr, except }), ..NetworkPeer::default() });
            ports = vec![number(PortProtocol::Tcp, 443)];
        }
    }
    let name = format!("{}-{index}", workload.app);
    if draw.chance(60) {
        let mut spec = NetworkPolicySpec { pod_selector: selects, ..NetworkPolicySpec::default() };
        if !from.is_empty() {
            spec.policy_types.push(PolicyType::Ingress);
            spec.ingress = vec![NetworkIngressRule { from, ports: ports.clone() }];
        }
        if !to.is_empty() {
            spec.policy_types.push(PolicyType::Egress);
            spec.egress = vec![NetworkEgressRule { to, ports }];
        }
        return edge(namespace, &name, spec);
    }
    let peer = |peer: NetworkPeer| Peer {
        pod_selector: peer.pod_selector,
        namespace_selector: peer.namespace_selector,
        ip_block: peer.ip_block,
        ..Peer::default()
    };
    let local = |name: &str| Peer { container: Some(name.to_owned()), ..Peer::default() };
    let entity = |entity| Peer { entity: Some(entity), ..Peer::default() };
    let mut ingress = vec![IngressRule { from: vec![local("front-proxy"), local("metrics")], ports: vec![] }];
    let mut egress = vec![EgressRule { to: vec![entity(Entity::ClusterDNS)], ports: vec![] }];
    if !from.is_empty() {
        ingress.push(IngressRule { from: from.into_iter().map(peer).collect(), ports: ports.clone() });
    }
    if !to.is_empty() {
        egress.push(EgressRule { to: to.into_iter().map(peer).collect(), ports });
    }
    container(namespace, &name, container_spec(selects, "app", ingress, egress))
}

fn of_namespace_named(name: &str) -> NetworkPeer {
    NetworkPeer { namespace_selector: Some(LabelSelector::label(NAMESPACE_NAME_LABEL, name)), ..NetworkPeer::default() }
}

fn number(protocol: PortProtocol, port: i32) -> PolicyPort {
    PolicyPort { protocol, port: Some(IntOrString::Int(port)), end_port: None }
}

fn named(name: &str) -> PolicyPort {
    PolicyPort { protocol: PortProtocol::Tcp, port: Some(IntOrString::String(name.to_owned())), end_port: None }
}

fn edge(namespace: &str, name: &str, spec: NetworkPolicySpec) -> Change {
    let mut policy = NetworkPolicy { spec, ..NetworkPolicy::default() };
    policy.metadata.namespace = Some(namespace.to_owned());
    policy.metadata.name = Some(name.to_owned());
    Change::NetworkPolicy(Box::new(policy))
}

fn container_spec(
    selects: LabelSelector,
    container: &str,
    ingress: Vec<IngressRule>,
    egress: Vec<EgressRule>,
) -> ContainerNetworkPolicySpec {
    ContainerNetworkPolicySpec {
        pod_selector: selects,
        containers: Some(vec![container.to_owned()]),
        policy_types: vec![PolicyType::Ingress, PolicyType::Egress],
        ingress: Some(ingress),
        egress: Some(egress),
        ..ContainerNetworkPolicySpec::default()
    }
}

fn container(namespace: &str, name: &str, spec: ContainerNetworkPolicySpec) -> Change {
    let mut policy = ContainerNetworkPolicy::new(name, spec);
    policy.metadata.namespace = Some(namespace.to_owned());
    Change::Policy(Box::new(policy))
}
