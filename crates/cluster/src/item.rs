//! From objects, as they come over the wire, to what is kept of them.
//!
//! It happens as soon as an object has been read, so that no whole object waits anywhere.

use crate::kind::Kind;
use crate::local::LocalPod;
use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sidewall_api::names::LABEL_SERVICE_NAME;
use sidewall_api::network::POLICY_FOR;
use sidewall_api::read::{self, Read};
use sidewall_api::{ContainerNetworkPolicy, MultiNetworkPolicy, NetworkPolicy, SidecarProxy, UnreadablePolicy};
use sidewall_policy::index::Named;
use sidewall_policy::world::{self, Labels, Unreadable, objects};
use std::net::IpAddr;

/// Something that a feed saw.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Everything of the kind is told anew, from here to [`Event::Listed`].
    Begin(Kind),
    /// An object is there, and is so.
    Put(Kind, Named, Item),
    /// An object is no more.
    Gone(Kind, Named),
    /// That was everything: what was not told since [`Event::Begin`] is no more.
    Listed(Kind),
    /// The kind is not served, and need not be.
    Absent(Kind),
}

/// What is kept of an object.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Pod(Box<world::Pod>, Option<Box<LocalPod>>),
    Namespace(Labels),
    Service(Box<core::Service>),
    Slice(Slice),
    Cidr(Vec<IpNet>),
    Node(NodeFacts),
    Container(Box<ContainerNetworkPolicy>),
    Proxy(Box<SidecarProxy>),
    Network(Box<NetworkPolicy>),
    Multi(Box<MultiNetworkPolicy>),
    Unreadable(Box<Unreadable>),
}

/// An EndpointSlice: whose it is, and who stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The name of its Service; none where it belongs to none.
    pub service: Option<Box<str>>,
    ports: Box<[(Box<str>, Option<i32>)]>,
    /// None for an address that can't be read: somebody stands there, and nobody knows who.
    addresses: Box<[Option<IpAddr>]>,
}

/// What a Node says of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub addresses: Vec<IpAddr>,
    pub pods: Vec<IpNet>,
}

/// An object that a feed can read.
pub(crate) trait Watched: Clone + DeserializeOwned + Send + 'static {
    fn metadata(&self) -> Meta<'_>;
    fn item(self, kind: Kind, node: Option<&str>) -> Item;

    fn named(&self) -> Named {
        let meta = self.metadata();
        Named::new(meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default())
    }
}

/// What a feed needs of an object's metadata.
pub(crate) struct Meta<'a> {
    pub namespace: Option<&'a str>,
    pub name: Option<&'a str>,
    pub version: Option<&'a str>,
}

fn meta(metadata: &ObjectMeta) -> Meta<'_> {
    Meta {
        namespace: metadata.namespace.as_deref(),
        name: metadata.name.as_deref(),
        version: metadata.resource_version.as_deref(),
    }
}

impl Watched for core::Pod {
    fn metadata(&self) -> Meta<'_> {
        meta(&self.metadata)
    }

    fn item(self, _: Kind, node: Option<&str>) -> Item {
        let bound = self.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let local = node.filter(|node| bound == Some(node)).map(|_| Box::new(LocalPod::of(&self)));
        Item::Pod(Box::new(objects::pod(&self)), local)
    }
}

impl Watched for core::Namespace {
    fn metadata(&self) -> Meta<'_> {
        meta(&self.metadata)
    }

    fn item(self, _: Kind, _: Option<&str>) -> Item {
        Item::Namespace(self.metadata.labels.unwrap_or_default())
    }
}

impl Watched for core::Service {
    fn metadata(&self) -> Meta<'_> {
        meta(&self.metadata)
    }

    fn item(self, _: Kind, _: Option<&str>) -> Item {
        Item::Service(Box::new(pruned_service(self)))
    }
}

impl Watched for EndpointSlice {
    fn metadata(&self) -> Meta<'_> {
        meta(&self.metadata)
    }

    fn item(self, _: Kind, _: Option<&str>) -> Item {
        Item::Slice(Slice::of(&self))
    }
}

impl Watched for core::Node {
    fn metadata(&self) -> Meta<'_> {
        meta(&self.metadata)
    }

    fn item(self, _: Kind, _: Option<&str>) -> Item {
        let spec = self.spec.as_ref();
        let single = spec.and_then(|spec| spec.pod_cidr.as_ref());
        let several = spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten();
        let addresses = self.status.as_ref().and_then(|status| status.addresses.as_ref()).into_iter().flatten();
        let mut facts = NodeFacts {
            // Names among them are no addresses.
            addresses: addresses.filter_map(|address| address.address.parse().ok()).collect(),
            pods: single.into_iter().chain(several).filter_map(|cidr| cidr.parse().ok()).collect(),
        };
        facts.addresses.sort();
        facts.addresses.dedup();
        facts.pods.sort();
        facts.pods.dedup();
        Item::Node(facts)
    }
}

/// Kinds that are read from JSON as it came, so that no field is lost.
impl Watched for Value {
    fn metadata(&self) -> Meta<'_> {
        let text = |name| self.get("metadata").and_then(|metadata| metadata.get(name)).and_then(Value::as_str);
        Meta { namespace: text("namespace"), name: text("name"), version: text("resourceVersion") }
    }

    fn item(self, kind: Kind, _: Option<&str>) -> Item {
        let name = self.named();
        match kind {
            Kind::ServiceCidr => Item::Cidr(cidrs(&self)),
            Kind::ContainerNetworkPolicy => policy(self, &name, read::PolicyKind::ContainerNetworkPolicy, |value| {
                read::read_policy(value).map(|Read { mut object, .. }| {
                    object.status = None;
                    Item::Container(Box::new(object))
                })
            }),
            Kind::SidecarProxy => policy(self, &name, read::PolicyKind::SidecarProxy, |value| {
                read::read_proxy(value).map(|Read { mut object, .. }| {
                    object.status = None;
                    Item::Proxy(Box::new(object))
                })
            }),
            Kind::NetworkPolicy => policy(self, &name, read::PolicyKind::NetworkPolicy, |value| {
                read::read_network_policy(value).map(|read| Item::Network(Box::new(read.object)))
            }),
            Kind::MultiNetworkPolicy => policy(self, &name, read::PolicyKind::MultiNetworkPolicy, |value| {
                read::read_multi_network_policy(value).map(|read| Item::Multi(Box::new(read.object)))
            }),
            Kind::Namespace | Kind::Node | Kind::Service | Kind::EndpointSlice | Kind::Pod => {
                unreachable!("{kind} is read by its own type")
            }
        }
    }
}

/// Reads a policy. Its metadata is the API server's own, and only what means something of it is read: what a newer
/// server adds there says nothing about whom the policy is about.
fn policy(
    mut value: Value,
    name: &Named,
    kind: read::PolicyKind,
    read: impl FnOnce(Value) -> Result<Item, Box<UnreadablePolicy>>,
) -> Item {
    const KEPT: [&str; 5] = ["name", "namespace", "uid", "generation", "creationTimestamp"];
    if let Some(object) = value.as_object_mut() {
        // Entries of a list don't repeat these.
        object.entry("apiVersion").or_insert_with(|| kind.api_versions()[0].into());
        object.entry("kind").or_insert_with(|| kind.as_str().into());
        object.remove("status");
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|key, value| {
                if key == "annotations" && kind == read::PolicyKind::MultiNetworkPolicy {
                    if let Some(annotations) = value.as_object_mut() {
                        annotations.retain(|key, _| key == POLICY_FOR);
                    }
                    return true;
                }
                KEPT.contains(&key.as_str())
            });
        }
    }
    read(value).unwrap_or_else(|unreadable| {
        let mut unreadable = Unreadable::from(&*unreadable);
        unreadable.namespace = Some(objects::namespace(Some(&name.namespace)));
        unreadable.name = Some(name.name.clone());
        unreadable.reason = crate::trouble::shortened(&unreadable.reason);
        Item::Unreadable(Box::new(unreadable))
    })
}

/// The ranges of a ServiceCIDR.
fn cidrs(value: &Value) -> Vec<IpNet> {
    #[derive(Deserialize)]
    struct Spec {
        #[serde(default)]
        cidrs: Vec<String>,
    }
    let spec = value.get("spec").and_then(|spec| Spec::deserialize(spec).ok());
    spec.into_iter().flat_map(|spec| spec.cidrs).filter_map(|cidr| cidr.parse().ok()).collect()
}

/// A Service without what no verdict depends on.
fn pruned_service(service: core::Service) -> core::Service {
    let metadata = ObjectMeta {
        name: service.metadata.name,
        namespace: service.metadata.namespace,
        labels: service.metadata.labels,
        ..ObjectMeta::default()
    };
    let spec = service.spec.map(|spec| core::ServiceSpec {
        cluster_ip: spec.cluster_ip,
        cluster_ips: spec.cluster_ips,
        external_ips: spec.external_ips,
        external_name: spec.external_name,
        load_balancer_ip: spec.load_balancer_ip,
        ports: spec.ports,
        type_: spec.type_,
        ..core::ServiceSpec::default()
    });
    let status = service
        .status
        .filter(|status| status.load_balancer.is_some())
        .map(|status| core::ServiceStatus { load_balancer: status.load_balancer, ..core::ServiceStatus::default() });
    core::Service { metadata, spec, status }
}

impl Slice {
    fn of(slice: &EndpointSlice) -> Self {
        let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_SERVICE_NAME));
        let ports = slice.ports.iter().flatten();
        let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
        Self {
            service: service.map(|name| name.as_str().into()),
            ports: ports.map(|port| (port.name.clone().unwrap_or_default().into(), port.port)).collect(),
            addresses: addresses.map(|address| address.parse().ok()).collect(),
        }
    }

    /// The slice as it was, as far as it is kept.
    pub fn restored(&self, namespace: &str) -> EndpointSlice {
        let labels = self.service.iter().map(|name| (LABEL_SERVICE_NAME.to_owned(), name.to_string()));
        let addresses = self.addresses.iter().map(|address| address.map_or_else(String::new, |a| a.to_string()));
        let ports = self.ports.iter().map(|(name, port)| EndpointPort {
            name: Some(name.to_string()),
            port: *port,
            ..EndpointPort::default()
        });
        EndpointSlice {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_owned()),
                labels: Some(labels.collect()),
                ..ObjectMeta::default()
            },
            endpoints: vec![Endpoint { addresses: addresses.collect(), ..Endpoint::default() }],
            ports: Some(ports.collect()),
            ..EndpointSlice::default()
        }
    }
}
