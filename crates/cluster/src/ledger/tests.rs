//! Whatever order things come in, and however often everything is listed again: the index that changes made is the index of
//! what there is.

use super::*;
use crate::item::Watched;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use sidewall_api::read;
use sidewall_policy::index::Index;
use sidewall_policy::world::{World, objects};

/// What there is: objects as JSON, by kind and name.
type Cluster = BTreeMap<(Kind, Named), Value>;

const NAMES: [&str; 3] = ["a", "b", "c"];
const SPACES: [&str; 2] = ["ops", "shop"];

#[derive(Clone, Debug)]
enum Step {
    /// An object comes or changes, and the watch tells.
    Put(Kind, Named, Value),
    /// An object goes, and the watch tells.
    Remove(Kind, Named),
    /// The same while nobody watches.
    Unseen(Box<Step>),
    /// Everything is listed.
    List(Kind),
    /// A list begins, and breaks off after so many objects.
    BrokenList(Kind, usize),
    /// What has been noted is given out.
    Batch,
}

fn named(kind: Kind, space: &str, name: &str) -> Named {
    let cluster = matches!(kind, Kind::Namespace | Kind::Node | Kind::ServiceCidr);
    Named::new(if cluster { "" } else { space }, name)
}

/// An object in one of its forms.
fn object(kind: Kind, name: &Named, form: usize) -> Value {
    let metadata = json!({
        "name": name.name, "namespace": name.namespace, "uid": format!("{kind}-{}-{}", name, form / 4),
        "resourceVersion": form.to_string(), "generation": form,
    });
    let app = ["web", "db"][form % 2];
    let address = format!("10.0.0.{}", form % 5 + 1);
    let (body, version) = match kind {
        Kind::Pod => (
            json!({
                "spec": {"nodeName": (["n1", "n2"][form % 2]), "containers": [{"name": "app", "ports": [{"containerPort": 80}]}]},
                "status": {"phase": (["Running", "Pending", "Succeeded"][form % 3]), "podIP": address},
            }),
            "v1",
        ),
        Kind::Namespace => (json!({}), "v1"),
        Kind::Service => (
            json!({"spec": {
                "clusterIP": format!("10.96.0.{}", form % 3 + 1),
                "ports": [{"name": "http", "port": 80}, {"name": "metrics", "port": 90 + form % 2, "protocol": "UDP"}],
                "externalIPs": if form.is_multiple_of(3) { json!(["192.0.2.1"]) } else { Value::Null },
            }}),
            "v1",
        ),
        Kind::EndpointSlice => (
            json!({
                "addressType": "IPv4",
                "endpoints": [{"addresses": [address]}, {"addresses": [if form.is_multiple_of(4) { "who.example" } else { "10.0.0.9" }]}],
                "ports": [{"name": "http", "port": 8080 + form % 2}],
            }),
            "discovery.k8s.io/v1",
        ),
        Kind::ServiceCidr => {
            (json!({"spec": {"cidrs": [format!("10.{}.0.0/16", 96 + form % 3)]}}), "networking.k8s.io/v1")
        }
        Kind::Node => (
            json!({
                "spec": {"podCIDR": format!("10.244.{}.0/24", form % 3)},
                "status": {"addresses": [{"type": "InternalIP", "address": format!("192.168.0.{}", form % 3 + 1)},
                    {"type": "Hostname", "address": "n1"}]},
            }),
            "v1",
        ),
        Kind::ContainerNetworkPolicy => {
            let mut spec = json!({"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress"]});
            match form % 4 {
                0 => spec["unheardOf"] = json!(1),
                1 => spec["ingress"] = json!([{"from": [{"entity": "World"}]}]),
                2 => spec["podSelector"] = json!({"matchLabels": {"app": 7}}),
                _ => {}
            }
            (json!({"spec": spec, "status": {"observedGeneration": form}}), "sidewall.dev/v1alpha1")
        }
        Kind::SidecarProxy => (
            json!({"spec": {"podSelector": {}, "listeners": [{
                "port": if form.is_multiple_of(3) { 0 } else { 80 + form }, "forward": {"port": 8080, "protocol": "HTTP"},
            }]}}),
            "sidewall.dev/v1alpha1",
        ),
        Kind::NetworkPolicy => (
            json!({"spec": {"podSelector": {}, "policyTypes": [if form.is_multiple_of(3) { "Sideways" } else { "Egress" }]}}),
            "networking.k8s.io/v1",
        ),
        Kind::MultiNetworkPolicy => (
            json!({"spec": {"podSelector": {}, "ingress": if form.is_multiple_of(3) { json!([{"frm": []}]) } else { json!([]) }}}),
            "k8s.cni.cncf.io/v1beta1",
        ),
    };
    let mut object = body;
    object["metadata"] = metadata;
    object["apiVersion"] = version.into();
    object["kind"] = kind.as_str().into();
    match kind {
        Kind::EndpointSlice => {
            object["metadata"]["labels"] = json!({"kubernetes.io/service-name": (NAMES[form % 3])});
        }
        Kind::MultiNetworkPolicy => {
            object["metadata"]["annotations"] =
                json!({"k8s.v1.cni.cncf.io/policy-for": (["link", "other"][form % 2]), "noise": form.to_string()});
        }
        _ => object["metadata"]["labels"] = json!({"app": app}),
    }
    object
}

fn item(kind: Kind, object: &Value) -> Item {
    fn typed<T: Watched>(kind: Kind, object: &Value) -> Item {
        serde_json::from_value::<T>(object.clone()).unwrap().item(kind, Some("n1"))
    }
    match kind {
        Kind::Pod => typed::<core::Pod>(kind, object),
        Kind::Namespace => typed::<core::Namespace>(kind, object),
        Kind::Service => typed::<core::Service>(kind, object),
        Kind::EndpointSlice => typed::<EndpointSlice>(kind, object),
        Kind::Node => typed::<core::Node>(kind, object),
        _ => typed::<Value>(kind, object),
    }
}

/// The world of what there is, straight from the objects.
fn world(cluster: &Cluster) -> World {
    let of = |kind: Kind| cluster.iter().filter(move |((of, _), _)| *of == kind).map(|(_, object)| object.clone());
    let slices: Vec<EndpointSlice> = of(Kind::EndpointSlice).map(|o| serde_json::from_value(o).unwrap()).collect();
    let mut world = World::default();
    for pod in of(Kind::Pod) {
        world.pods.push(objects::pod(&serde_json::from_value(pod).unwrap()));
    }
    for namespace in of(Kind::Namespace) {
        let namespace: core::Namespace = serde_json::from_value(namespace).unwrap();
        world.namespaces.insert(namespace.metadata.name.unwrap(), namespace.metadata.labels.unwrap());
    }
    for service in of(Kind::Service) {
        world.services.push(objects::service(&serde_json::from_value(service).unwrap(), &slices));
    }
    let meta = |metadata: &mut ObjectMeta, annotations: bool| {
        metadata.labels = None;
        metadata.resource_version = None;
        match &mut metadata.annotations {
            Some(all) if annotations => all.retain(|key, _| key == sidewall_api::network::POLICY_FOR),
            other => *other = None,
        }
    };
    let mut unreadable = Vec::new();
    for policy in of(Kind::ContainerNetworkPolicy) {
        match read::read_policy(policy) {
            Ok(read) => {
                let mut policy = read.object;
                meta(&mut policy.metadata, false);
                world.policies.push(policy);
            }
            Err(policy) => unreadable.push(Unreadable::from(&*policy)),
        }
    }
    for proxy in of(Kind::SidecarProxy) {
        match read::read_proxy(proxy) {
            Ok(read) => {
                let mut proxy = read.object;
                meta(&mut proxy.metadata, false);
                world.proxies.push(proxy);
            }
            Err(policy) => unreadable.push(Unreadable::from(&*policy)),
        }
    }
    for policy in of(Kind::NetworkPolicy) {
        match read::read_network_policy(policy) {
            Ok(read) => {
                let mut policy = read.object;
                meta(&mut policy.metadata, false);
                world.network_policies.push(policy);
            }
            Err(policy) => unreadable.push(Unreadable::from(&*policy)),
        }
    }
    for policy in of(Kind::MultiNetworkPolicy) {
        match read::read_multi_network_policy(policy) {
            Ok(read) => {
                let mut policy = read.object;
                meta(&mut policy.metadata, true);
                world.multi_network_policies.push(policy);
            }
            Err(policy) => unreadable.push(Unreadable::from(&*policy)),
        }
    }
    unreadable.sort_by(|a, b| (a.kind, &a.namespace, &a.name).cmp(&(b.kind, &b.namespace, &b.name)));
    world.unreadable = unreadable;
    for cidr in of(Kind::ServiceCidr) {
        let Item::Cidr(ranges) = item(Kind::ServiceCidr, &cidr) else { unreachable!() };
        world.network.services = world.network.services.union(&ranges.into_iter().collect());
    }
    for node in of(Kind::Node) {
        let node: core::Node = serde_json::from_value(node).unwrap();
        let range: ipnet::IpNet = node.spec.unwrap().pod_cidr.unwrap().parse().unwrap();
        world.network.pods = world.network.pods.union(&[range].into_iter().collect());
        let address: std::net::IpAddr = node.status.unwrap().addresses.unwrap()[0].address.parse().unwrap();
        world.network.nodes = world.network.nodes.union(&[address].into_iter().collect());
    }
    world
}

fn step() -> impl Strategy<Value = Step> {
    let kind = || select(Kind::ALL.to_vec());
    let put =
        (kind(), select(SPACES.to_vec()), select(NAMES.to_vec()), 0..12_usize).prop_map(|(kind, space, name, form)| {
            let name = named(kind, space, name);
            let object = object(kind, &name, form);
            Step::Put(kind, name, object)
        });
    let remove = (kind(), select(SPACES.to_vec()), select(NAMES.to_vec()))
        .prop_map(|(kind, space, name)| Step::Remove(kind, named(kind, space, name)));
    let seen = prop_oneof![3 => put, 1 => remove].boxed();
    prop_oneof![
        6 => seen.clone(),
        2 => seen.prop_map(|step| Step::Unseen(Box::new(step))),
        1 => kind().prop_map(Step::List),
        1 => (kind(), 0..3_usize).prop_map(|(kind, many)| Step::BrokenList(kind, many)),
        1 => Just(Step::Batch),
    ]
}

/// What a program that reads the batches has.
struct Reader {
    index: Index,
    local: BTreeMap<Named, LocalPod>,
}

impl Reader {
    fn absorb(&mut self, batch: Option<Batch>) {
        for change in batch.iter().flat_map(|batch| batch.changes.clone()) {
            self.index.apply(change);
        }
        for change in batch.into_iter().flat_map(|batch| batch.local) {
            match change {
                LocalChange::Put(pod) => {
                    let name = Named::new(&pod.namespace, &pod.name);
                    let before = self.local.insert(name, *pod.clone());
                    assert!(before.is_none_or(|before| before.uid == pod.uid), "another pod, and the first never went");
                }
                LocalChange::Gone { name, uid } => {
                    assert_eq!(self.local.remove(&name).map(|pod| pod.uid), Some(uid), "one went that never came");
                }
            }
        }
    }
}

fn play(steps: Vec<Step>) {
    let mut cluster = Cluster::new();
    let mut ledger = Ledger::new(Kind::ALL.into(), Network::default());
    let mut reader = Reader { index: Index::new(World::default()), local: BTreeMap::new() };
    let list = |ledger: &mut Ledger, cluster: &Cluster, kind: Kind, many: usize| {
        ledger.note(Event::Begin(kind));
        for ((_, name), object) in cluster.iter().filter(|((of, _), _)| *of == kind).take(many) {
            ledger.note(Event::Put(kind, name.clone(), item(kind, object)));
        }
    };
    let happen = |cluster: &mut Cluster, ledger: Option<&mut Ledger>, step: Step| match step {
        Step::Put(kind, name, object) => {
            if let Some(ledger) = ledger {
                ledger.note(Event::Put(kind, name.clone(), item(kind, &object)));
            }
            cluster.insert((kind, name), object);
        }
        Step::Remove(kind, name) => {
            if let Some(ledger) = ledger {
                ledger.note(Event::Gone(kind, name.clone()));
            }
            cluster.remove(&(kind, name));
        }
        _ => unreachable!("only these happen in a cluster"),
    };
    for step in steps {
        match step {
            Step::Put(..) | Step::Remove(..) => happen(&mut cluster, Some(&mut ledger), step),
            Step::Unseen(step) => happen(&mut cluster, None, *step),
            Step::List(kind) => {
                list(&mut ledger, &cluster, kind, usize::MAX);
                ledger.note(Event::Listed(kind));
            }
            Step::BrokenList(kind, many) => list(&mut ledger, &cluster, kind, many),
            Step::Batch => {
                let batch = ledger.batch();
                assert!(ledger.batch().is_none(), "everything is told once");
                reader.absorb(batch);
            }
        }
    }
    // In the end everything has been listed once more.
    for kind in Kind::ALL {
        list(&mut ledger, &cluster, kind, usize::MAX);
        ledger.note(Event::Listed(kind));
    }
    reader.absorb(ledger.batch());
    assert!(ledger.synced());
    let wanted = Index::new(world(&cluster)).world();
    assert_eq!(reader.index.world(), wanted);
    let local: BTreeMap<Named, LocalPod> = cluster
        .iter()
        .filter(|((kind, _), pod)| *kind == Kind::Pod && pod["spec"]["nodeName"] == "n1")
        .map(|((_, name), pod)| (name.clone(), LocalPod::of(&serde_json::from_value(pod.clone()).unwrap())))
        .collect();
    assert_eq!(reader.local, local);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_of_changes_is_the_index_of_what_there_is(steps in proptest::collection::vec(step(), 0..60)) {
        play(steps);
    }
}

#[test]
fn every_kind_must_have_been_listed() {
    let mut ledger = Ledger::new(Kind::ALL.into(), Network::default());
    let mut last = Kind::ALL.to_vec();
    let first = last.pop().unwrap();
    for kind in last {
        ledger.note(Event::Begin(kind));
        ledger.note(Event::Listed(kind));
        assert!(ledger.batch().is_none_or(|batch| !batch.synced), "{kind}");
    }
    ledger.note(Event::Begin(first));
    assert!(ledger.batch().is_none());
    ledger.note(Event::Listed(first));
    assert!(ledger.batch().is_some_and(|batch| batch.synced));
    assert!(ledger.batch().is_none());
}

#[test]
fn nothing_that_isolates_goes_before_what_takes_its_place() {
    let kind = Kind::ContainerNetworkPolicy;
    let name = Named::new("shop", "a");
    let (bad, good) = (object(kind, &name, 0), object(kind, &name, 3));
    let mut ledger = Ledger::new(Kind::ALL.into(), Network::default());
    let mut told = |object: &Value| {
        ledger.note(Event::Put(kind, name.clone(), item(kind, object)));
        let changes = ledger.batch().unwrap().changes;
        let words = changes.iter().filter_map(|change| match change {
            Change::Unreadable(all) => Some(format!("{} unreadable", all.len())),
            Change::Policy(_) => Some("policy".to_owned()),
            Change::PolicyGone(..) => Some("gone".to_owned()),
            _ => None,
        });
        words.collect::<Vec<_>>()
    };
    assert_eq!(told(&good), ["policy"]);
    assert_eq!(told(&bad), ["1 unreadable", "gone"]);
    assert_eq!(told(&good), ["policy", "0 unreadable"]);
}

#[test]
fn what_only_looks_new_is_not_told() {
    let mut ledger = Ledger::new(Kind::ALL.into(), Network::default());
    for kind in Kind::ALL {
        let name = named(kind, "shop", "a");
        ledger.note(Event::Put(kind, name.clone(), item(kind, &object(kind, &name, 5))));
    }
    assert!(ledger.batch().is_some());
    for kind in Kind::ALL {
        let name = named(kind, "shop", "a");
        let mut same = object(kind, &name, 5);
        same["metadata"]["resourceVersion"] = json!("77");
        same["metadata"]["managedFields"] = json!([{"manager": "kubelet"}]);
        ledger.note(Event::Begin(kind));
        ledger.note(Event::Put(kind, name.clone(), item(kind, &same)));
    }
    assert!(ledger.batch().is_none());
}

#[test]
fn a_service_is_told_with_what_stands_behind_it() {
    let mut ledger = Ledger::new(Kind::ALL.into(), Network::default());
    let (service, slice) = (Named::new("shop", "a"), Named::new("shop", "slice"));
    // The slice comes first, and belongs to a Service that is not there yet.
    ledger.note(Event::Put(
        Kind::EndpointSlice,
        slice.clone(),
        item(Kind::EndpointSlice, &object(Kind::EndpointSlice, &slice, 3)),
    ));
    let early = ledger.batch().unwrap();
    assert!(!early.changes.iter().any(|change| matches!(change, Change::Service(_) | Change::ServiceGone(_))));
    ledger.note(Event::Put(Kind::Service, service.clone(), item(Kind::Service, &object(Kind::Service, &service, 1))));
    let behind = |batch: Option<Batch>| {
        batch.unwrap().changes.into_iter().find_map(|change| match change {
            Change::Service(service) => Some(service.ports[0].endpoints.len()),
            _ => None,
        })
    };
    assert_eq!(behind(ledger.batch()), Some(2));
    ledger.note(Event::Gone(Kind::EndpointSlice, slice));
    assert_eq!(behind(ledger.batch()), Some(0));
    ledger.note(Event::Gone(Kind::Service, service));
    assert!(matches!(ledger.batch().unwrap().changes[..], [Change::ServiceGone(_)]));
}
