//! Many policies that all select one pod: what resolving and compiling them takes, without a kernel.

use crate::{Arguments, MS, Result, node, processor};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{
    ContainerNetworkPolicy, ContainerNetworkPolicySpec, EgressRule, IngressRule, LabelSelector, NetworkEgressRule,
    NetworkIngressRule, NetworkPeer, NetworkPolicy, NetworkPolicySpec, Peer, PolicyPort, PolicyType, PortProtocol,
};
use sidewall_benches::report::Row;
use sidewall_flow::ContainerId;
use sidewall_policy::index::{Change, Index};
use sidewall_policy::model::Identities;
use sidewall_policy::world::{Pod, Subject, SubjectContainer, World};
use sidewall_policy::{Generation, compile};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

const NAMESPACE: &str = "shop";
/// How many pods each policy allows.
const PEERS: usize = 4;
/// One of these, in turn, is each policy's port.
const PORTS: [i32; 8] = [80, 443, 5432, 6379, 8080, 8081, 8082, 8083];

/// Measures both kinds at each number, in processor time.
pub fn run(arguments: &Arguments, tell: &mut dyn FnMut(Row)) -> Result<()> {
    let quick = arguments.options.quick;
    for count in arguments.one.iter().filter(|count| !quick || **count <= 1_000) {
        for (kind, at_edge) in [("ContainerNetworkPolicies", false), ("NetworkPolicies", true)] {
            let times = if quick { 1 } else { 3 };
            let took = (0..times).map(|_| once(*count, at_edge)).collect::<Result<Vec<Took>>>()?;
            for (part, of) in [
                ("into the index", (|took| took.index) as fn(&Took) -> f64),
                ("resolve", |took| took.resolve),
                ("compile", |took| took.compile),
            ] {
                let took: Vec<f64> = took.iter().map(of).collect();
                tell(Row::alone(format!("one pod, {count} {kind}, {part}"), MS, None, &took));
            }
        }
    }
    Ok(())
}

/// What each part took, in milliseconds of processor time.
struct Took {
    index: f64,
    resolve: f64,
    compile: f64,
}

fn once(count: usize, at_edge: bool) -> Result<Took> {
    let (world, subject) = (world(count, at_edge), subject());
    let begin = processor();
    let mut index = Index::new(world);
    let id = index.apply(Change::Subject(subject)).into_iter().next().ok_or("the subject is not there")?;
    let indexed = processor();
    let pod = index.resolve(id).ok_or("the subject is not there")?;
    let resolved = processor();
    let compiled = compile(&pod, Generation::FIRST);
    let compile = processor() - resolved;
    let elements: usize = compiled.ruleset.tables.iter().flat_map(|table| &table.sets).map(|s| s.elements.len()).sum();
    if elements < count * PEERS {
        return Err(format!("{elements} elements are too few for {count} policies").into());
    }
    Ok(Took { index: indexed - begin, resolve: resolved - indexed, compile })
}

/// So many policies, each with pods of its own and a port.
fn world(count: usize, at_edge: bool) -> World {
    let mut world = World::default();
    for policy in 0..count {
        let app = format!("app-{policy}");
        world.pods.extend((policy * PEERS..(policy + 1) * PEERS).map(|number| Pod {
            namespace: NAMESPACE.to_owned(),
            name: format!("{app}-{number}"),
            labels: [("app".to_owned(), app.clone())].into(),
            // The machine has not the memory for more of them than the block has.
            addresses: vec![IpAddr::V4(Ipv4Addr::from_bits(0x0a80_0000 + number as u32))],
            ..Pod::default()
        }));
        let metadata = ObjectMeta {
            name: Some(format!("policy-{policy}")),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        };
        let port = IntOrString::Int(PORTS[policy % PORTS.len()]);
        let ports = vec![PolicyPort { protocol: PortProtocol::Tcp, port: Some(port), end_port: None }];
        let pod_selector = LabelSelector::everything();
        let policy_types = vec![PolicyType::Ingress, PolicyType::Egress];
        let selector = Some(LabelSelector::label("app", &app));
        if at_edge {
            let peers = vec![NetworkPeer { pod_selector: selector, ..NetworkPeer::default() }];
            let ingress = vec![NetworkIngressRule { from: peers.clone(), ports: ports.clone() }];
            let egress = vec![NetworkEgressRule { to: peers, ports }];
            let spec = NetworkPolicySpec { pod_selector, policy_types, ingress, egress };
            world.network_policies.push(NetworkPolicy { metadata, spec });
        } else {
            let peers = vec![Peer { pod_selector: selector, ..Peer::default() }];
            let ingress = Some(vec![IngressRule { from: peers.clone(), ports: ports.clone() }]);
            let egress = Some(vec![EgressRule { to: peers, ports }]);
            let spec = ContainerNetworkPolicySpec {
                pod_selector,
                policy_types,
                ingress,
                egress,
                ..ContainerNetworkPolicySpec::default()
            };
            world.policies.push(ContainerNetworkPolicy { metadata, spec, status: None });
        }
    }
    world
}

/// A pod of two containers.
fn subject() -> Subject {
    let ids: Vec<ContainerId> = (1..=2).filter_map(|number| ContainerId::try_from(number).ok()).collect();
    let container =
        |id: &ContainerId| SubjectContainer { name: format!("container-{}", id.get()), ..Default::default() };
    Subject {
        namespace: NAMESPACE.to_owned(),
        name: "walled".to_owned(),
        labels: BTreeMap::new(),
        addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1))],
        interface: Some(node::DEVICE.to_owned()),
        containers: ids.iter().map(|id| (*id, container(id))).collect(),
        identities: Identities::Cgroup {
            level: 5,
            containers: ids.iter().map(|id| (*id, BTreeSet::from([1_000 + u64::from(id.get())]))).collect(),
            pods_level: 2,
            pods: 2_000,
        },
        networks: Default::default(),
        link: None,
    }
}
