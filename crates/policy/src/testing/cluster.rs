//! Draws the pod, and the pods, Services and nodes around it.

use super::{Case, Draw, Ground};
use crate::model::{DeclaredPort, Identities, UserIdentities};
use crate::world::{Labels, Pod, Service, ServicePort, Subject, SubjectContainer};
use sidewall_flow::{ContainerId, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The names of containers; the proxy of a SidecarProxy is mostly the first.
pub const CONTAINERS: [&str; 4] = ["front-proxy", "app", "log-shipper", "metrics"];
/// The names of ports.
pub const PORT_NAMES: [&str; 3] = ["http", "metrics", "dns"];
/// The namespaces; the pod is in the first.
pub const NAMESPACES: [&str; 3] = ["shop", "ops", "kube-system"];
/// The labels that objects can have.
pub const LABELS: [(&str, [&str; 2]); 2] = [("app", ["web", "db"]), ("tier", ["front", "back"])];

/// A pod with one to four containers.
pub fn subject(draw: &mut Draw, ground: &Ground) -> Subject {
    let mut names = CONTAINERS.to_vec();
    names.truncate(draw.between(1, 4));
    draw.shuffle(&mut names);
    let containers: BTreeMap<ContainerId, SubjectContainer> = (1..)
        .filter_map(|number| ContainerId::try_from(number).ok())
        .zip(names)
        .map(|(id, name)| {
            let probes = if draw.chance(20) { draw.some(&ground.ports, 2) } else { Vec::new() };
            let container = SubjectContainer {
                name: name.to_owned(),
                ports: declared(draw, ground),
                probes: probes.into_iter().collect(),
            };
            (id, container)
        })
        .collect();
    let identities = identities(draw, &containers);
    Subject {
        namespace: NAMESPACES[0].to_owned(),
        name: "subject".to_owned(),
        labels: labels(draw),
        addresses: ground.own.clone(),
        interface: ground.interface.clone(),
        containers,
        identities,
        networks: sidewall_api::Attachments::default(),
        link: None,
    }
}

fn identities(draw: &mut Draw, containers: &BTreeMap<ContainerId, SubjectContainer>) -> Identities {
    let users = |draw: &mut Draw| UserIdentities {
        containers: containers.keys().map(|id| (*id, 1000 + u32::from(id.get()))).collect(),
        node: if draw.chance(50) { BTreeSet::from([0]) } else { BTreeSet::new() },
    };
    match draw.below(3) {
        0 => Identities::Cgroup {
            level: 3,
            containers: containers.keys().map(|id| (*id, BTreeSet::from([5000 + u64::from(id.get())]))).collect(),
            pods_level: 1,
            pods: 5000,
        },
        1 => Identities::Uid(users(draw)),
        _ => Identities::Gid(users(draw)),
    }
}

fn declared(draw: &mut Draw, ground: &Ground) -> Vec<DeclaredPort> {
    let mut names = PORT_NAMES.to_vec();
    draw.shuffle(&mut names);
    let ports = draw.some(&ground.ports, 3);
    ports
        .into_iter()
        .map(|port| DeclaredPort {
            name: if draw.chance(70) { names.pop().map(str::to_owned) } else { None },
            protocol: protocol(draw, ground),
            port,
        })
        .collect()
}

/// A protocol: TCP more often than others.
pub fn protocol(draw: &mut Draw, ground: &Ground) -> Protocol {
    match ground.protocols.first() {
        Some(first) if draw.chance(50) => *first,
        Some(_) => *draw.pick(&ground.protocols),
        None => Protocol::Tcp,
    }
}

fn labels(draw: &mut Draw) -> Labels {
    let mut labels = Labels::new();
    for (key, values) in LABELS {
        if draw.chance(75) {
            labels.insert(key.to_owned(), (*draw.pick(&values)).to_owned());
        }
    }
    labels
}

/// Fills the world around the pod.
pub fn fill(draw: &mut Draw, case: &mut Case) {
    let ground = &case.ground;
    let world = &mut case.world;
    for namespace in NAMESPACES {
        if draw.chance(80) {
            world.namespaces.insert(namespace.to_owned(), labels(draw));
        }
    }
    world.network.this_node = ground.this_node.iter().copied().collect();
    world.network.nodes = ground.this_node.iter().chain(&ground.other_nodes).copied().collect();
    world.network.services = ground.service_ranges.iter().copied().collect();
    world.network.pods = ground.pod_ranges.iter().copied().collect();
    world.pods = pods(draw, ground, &case.subject);
    let behind: Vec<(IpAddr, Vec<DeclaredPort>)> = world
        .pods
        .iter()
        .filter(|pod| !pod.ended)
        .flat_map(|pod| pod.addresses.iter().map(|address| (*address, pod.ports.clone())))
        .chain(ground.outside.iter().map(|address| (*address, Vec::new())))
        .collect();
    world.services = services(draw, ground, &behind);
    if draw.chance(15) && !ground.outside.is_empty() {
        world.network.dns = BTreeSet::from([(*draw.pick(&ground.outside), Protocol::Udp, 53)]);
    }
}

/// What a cluster has besides what is usual: addresses that are used again, claimed or shared, Services without addresses.
pub fn forms(draw: &mut Draw, case: &mut Case) {
    let world = &mut case.world;
    let addresses: Vec<IpAddr> = world.pods.iter().skip(1).flat_map(|pod| pod.addresses.iter().copied()).collect();
    if draw.chance(20) && !addresses.is_empty() {
        world.pods.push(Pod {
            namespace: (*draw.pick(&NAMESPACES)).to_owned(),
            name: "ended".to_owned(),
            labels: labels(draw),
            addresses: vec![*draw.pick(&addresses)],
            ended: true,
            ..Pod::default()
        });
    }
    if draw.chance(25) {
        world.services.push(Service {
            namespace: (*draw.pick(&NAMESPACES)).to_owned(),
            name: "other-name".to_owned(),
            labels: labels(draw),
            external_name: Some("example.org".to_owned()),
            ..Service::default()
        });
    }
    for i in 0..world.services.len() {
        let service = &mut world.services[i];
        match draw.below(16) {
            0 | 1 => service.claimed.extend(draw.some(&addresses, 2)),
            // Headless, or somebody else's address, or another Service's.
            2 => service.addresses.clear(),
            3 => service.addresses.extend(draw.some(&addresses, 1)),
            4 => {
                let others = draw.some(&case.ground.services, 1);
                service.addresses.extend(others);
            }
            _ => {}
        }
    }
}

fn pods(draw: &mut Draw, ground: &Ground, subject: &Subject) -> Vec<Pod> {
    let mut pods = vec![Pod {
        namespace: subject.namespace.clone(),
        name: subject.name.clone(),
        labels: subject.labels.clone(),
        addresses: subject.addresses.clone(),
        ports: subject.containers.values().flat_map(|container| container.ports.clone()).collect(),
        ..Pod::default()
    }];
    // A pod has an address of each family, as far as they reach.
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = ground.pods.iter().partition(|address| address.is_ipv4());
    for i in 0..draw.between(0, v4.len().max(v6.len())) {
        let host_network = draw.chance(8);
        let mut addresses: Vec<IpAddr> = v4.get(i).into_iter().chain(v6.get(i)).copied().collect();
        match draw.below(10) {
            0 => addresses.clear(),
            1 | 2 => addresses.truncate(1),
            _ => {}
        }
        if host_network {
            addresses.clone_from(&ground.other_nodes);
        }
        pods.push(Pod {
            namespace: (*draw.pick(&NAMESPACES)).to_owned(),
            name: format!("pod-{i}"),
            labels: labels(draw),
            addresses,
            ports: declared(draw, ground),
            host_network,
            ended: draw.chance(8),
            networks: sidewall_api::Attachments::default(),
        });
    }
    pods
}

/// Services whose endpoints are pods, mostly at ports that they declare, and sometimes what is no pod.
fn services(draw: &mut Draw, ground: &Ground, behind: &[(IpAddr, Vec<DeclaredPort>)]) -> Vec<Service> {
    let names =
        [("kube-system", "kube-dns"), ("default", "kubernetes"), ("shop", "web"), ("ops", "db"), ("shop", "mail")];
    let mut services = Vec::new();
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = ground.services.iter().partition(|address| address.is_ipv4());
    for (i, (namespace, name)) in names.into_iter().enumerate() {
        if draw.chance(40) {
            continue;
        }
        let addresses: Vec<IpAddr> = v4.get(i).into_iter().chain(v6.get(i)).copied().collect();
        let mut ports = Vec::new();
        for number in draw.some(&ground.ports, 2) {
            let protocol = protocol(draw, ground);
            let mut endpoints = BTreeSet::new();
            for (address, declared) in draw.some(behind, 3) {
                let own: Vec<u16> = declared.iter().filter(|d| d.protocol == protocol).map(|d| d.port).collect();
                let port = match draw.below(10) {
                    0 => None,
                    1..=7 if !own.is_empty() => Some(*draw.pick(&own)),
                    _ => Some(*draw.pick(&ground.ports)),
                };
                endpoints.insert((address, port));
            }
            ports.push(ServicePort { port: Some((protocol, number)), endpoints });
        }
        services.push(Service {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            addresses,
            ports,
            ..Service::default()
        });
    }
    services
}
