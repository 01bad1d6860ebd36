//! From Kubernetes objects to what policies can speak of.

use super::{Pod, Service, ServicePort, SubjectContainer, Unreadable};
use crate::model::{DeclaredPort, PolicyKind};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sidewall_api::{Attachments, UnreadablePolicy};
use sidewall_flow::{ContainerId, ContainerIdError, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The label by which an EndpointSlice names its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The namespace of an object that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// A pod as a peer.
pub fn pod(pod: &core::Pod) -> Pod {
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let single = status.and_then(|status| status.pod_ip.as_deref());
    let several = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten().map(|ip| ip.ip.as_str());
    let addresses: BTreeSet<IpAddr> = single.into_iter().chain(several).filter_map(|ip| ip.parse().ok()).collect();
    Pod {
        namespace: namespace(pod.metadata.namespace.as_deref()),
        name: pod.metadata.name.clone().unwrap_or_default(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        addresses: addresses.into_iter().collect(),
        ports: containers(pod).flat_map(|(container, _)| declared(container)).collect(),
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
        ended: matches!(status.and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed")),
        networks: Attachments::read(&pod.metadata, None),
    }
}

/// The containers of a pod with their numbers: init containers, then the others, in the manifest's order. That order
/// does not change while the pod lives, but for ephemeral containers, which come last.
///
/// # Errors
///
/// The pod has more than [`ContainerId::MAX`] containers.
pub fn subject_containers(pod: &core::Pod) -> Result<BTreeMap<ContainerId, SubjectContainer>, ContainerIdError> {
    let mut numbered = BTreeMap::new();
    for (index, (container, _)) in containers(pod).enumerate() {
        let id = ContainerId::try_from(u8::try_from(index + 1).unwrap_or(u8::MAX))?;
        let mut ports = declared(container);
        let probes = probes(container, &ports);
        // Under identity by user a receiver is known by the port that it declares, and a probe declares one too.
        for port in &probes {
            if !ports.iter().any(|declared| declared.protocol == Protocol::Tcp && declared.port == *port) {
                ports.push(DeclaredPort { name: None, protocol: Protocol::Tcp, port: *port });
            }
        }
        numbered.insert(id, SubjectContainer { name: container.name.clone(), ports, probes });
    }
    let ephemeral = pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_ref()).into_iter().flatten();
    for container in ephemeral {
        let id = ContainerId::try_from(u8::try_from(numbered.len() + 1).unwrap_or(u8::MAX))?;
        numbered.insert(id, SubjectContainer { name: container.name.clone(), ..SubjectContainer::default() });
    }
    Ok(numbered)
}

fn containers(pod: &core::Pod) -> impl Iterator<Item = (&core::Container, bool)> {
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten().map(|c| (c, true));
    let others = spec.into_iter().flat_map(|spec| &spec.containers).map(|c| (c, false));
    init.chain(others)
}

fn declared(container: &core::Container) -> Vec<DeclaredPort> {
    let ports = container.ports.iter().flatten();
    ports
        .filter_map(|port| {
            Some(DeclaredPort {
                name: port.name.clone(),
                protocol: port.protocol.as_deref().unwrap_or("TCP").parse().ok()?,
                port: u16::try_from(port.container_port).ok()?,
            })
        })
        .collect()
}

/// The TCP ports that a container's probes reach over the network.
fn probes(container: &core::Container, ports: &[DeclaredPort]) -> BTreeSet<u16> {
    let number = |port: &IntOrString| match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            ports.iter().find(|port| port.name.as_ref() == Some(name)).map(|port| port.port).or(name.parse().ok())
        }
    };
    [&container.liveness_probe, &container.readiness_probe, &container.startup_probe]
        .into_iter()
        .flatten()
        .flat_map(|probe| {
            let http = probe.http_get.as_ref().and_then(|http| number(&http.port));
            let tcp = probe.tcp_socket.as_ref().and_then(|tcp| number(&tcp.port));
            let grpc = probe.grpc.as_ref().and_then(|grpc| u16::try_from(grpc.port).ok());
            [http, tcp, grpc]
        })
        .flatten()
        .collect()
}

/// A Service with what its EndpointSlices put behind it.
pub fn service(service: &core::Service, slices: &[EndpointSlice]) -> Service {
    let namespace_of = namespace(service.metadata.namespace.as_deref());
    let name = service.metadata.name.clone().unwrap_or_default();
    let slices: Vec<&EndpointSlice> = slices
        .iter()
        .filter(|slice| {
            let label = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL));
            label == Some(&name) && namespace(slice.metadata.namespace.as_deref()) == namespace_of
        })
        .collect();
    let spec = service.spec.as_ref();
    let single = spec.and_then(|spec| spec.cluster_ip.as_deref());
    let several = spec.and_then(|spec| spec.cluster_ips.as_ref()).into_iter().flatten().map(String::as_str);
    let external = spec.is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName"));
    let external_name = external.then(|| spec.and_then(|spec| spec.external_name.clone()).unwrap_or_default());
    // "None" is no address, and a Service that is only another name has none.
    let addresses: BTreeSet<IpAddr> =
        single.into_iter().chain(several).filter(|_| !external).filter_map(|ip| ip.parse().ok()).collect();
    let ports = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
    let ports = ports
        .map(|port| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP").parse::<Protocol>().ok();
            let number = u16::try_from(port.port).ok();
            ServicePort { port: protocol.zip(number), endpoints: endpoints(port, &slices) }
        })
        .collect();
    Service {
        namespace: namespace_of,
        name,
        addresses: addresses.into_iter().collect(),
        ports,
        labels: service.metadata.labels.clone().unwrap_or_default(),
        external_name,
        claimed: claimed(service),
    }
}

/// Addresses that a Service claims without anybody having given them to it.
fn claimed(service: &core::Service) -> BTreeSet<IpAddr> {
    let spec = service.spec.as_ref();
    let external = spec.and_then(|spec| spec.external_ips.as_ref()).into_iter().flatten();
    let asked = spec.and_then(|spec| spec.load_balancer_ip.as_ref());
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let given = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    let given = given.filter_map(|ingress| ingress.ip.as_ref());
    external.chain(asked).chain(given).filter_map(|ip| ip.parse().ok()).collect()
}

fn endpoints(port: &core::ServicePort, slices: &[&EndpointSlice]) -> BTreeSet<(IpAddr, Option<u16>)> {
    let name = port.name.as_deref().unwrap_or_default();
    let mut all = BTreeSet::new();
    for slice in slices {
        // Names are unique in a slice, but not in files.
        let targets = slice.ports.iter().flatten().filter(|target| target.name.as_deref().unwrap_or_default() == name);
        let mut targets: BTreeSet<Option<u16>> =
            targets.map(|target| target.port.and_then(|number| u16::try_from(number).ok())).collect();
        if targets.is_empty() {
            targets.insert(None);
        }
        for address in slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses) {
            match address.parse() {
                Ok(address) => all.extend(targets.iter().map(|target| (address, *target))),
                // Somebody stands there, and nobody knows who: no rule can cover that.
                Err(_) => {
                    all.insert((IpAddr::from([0; 4]), None));
                }
            }
        }
    }
    all
}

impl From<&UnreadablePolicy> for Unreadable {
    fn from(policy: &UnreadablePolicy) -> Self {
        let reasons: Vec<String> = policy.problems.iter().map(ToString::to_string).collect();
        Self {
            kind: match policy.kind {
                sidewall_api::PolicyKind::ContainerNetworkPolicy => PolicyKind::ContainerNetworkPolicy,
                sidewall_api::PolicyKind::SidecarProxy => PolicyKind::SidecarProxy,
                sidewall_api::PolicyKind::NetworkPolicy => PolicyKind::NetworkPolicy,
                sidewall_api::PolicyKind::MultiNetworkPolicy => PolicyKind::MultiNetworkPolicy,
            },
            namespace: policy.namespace.clone(),
            name: policy.name.clone(),
            pod_selector: policy.pod_selector.clone(),
            reason: reasons.join("; "),
        }
    }
}

/// An object's namespace.
pub fn namespace(namespace: Option<&str>) -> String {
    namespace.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_NAMESPACE).to_owned()
}
