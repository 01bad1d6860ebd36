//! The policies of the parts come to what the evaluator says of the pod as if it were not split.

use std::net::IpAddr;

use proptest::prelude::*;
use sidewall_api::{Attachment, MultiNetworkPolicy};
use sidewall_policy::evaluate::Verdict;
use sidewall_policy::world;

use super::*;
use crate::fixture::{key, running, split_of};
use crate::record::annotations;
use crate::{divide, whole};

const UID: &str = "6f1c9a34-0000-4000-8000-000000000001";
const LINK: &str = "shop/sidewall-web";
const CONTAINERS: [(&str, &[(&str, u16)]); 5] = [
    ("app", &[("TCP", 8080), ("UDP", 53)]),
    ("helper", &[("TCP", 7000)]),
    ("exporter", &[("TCP", 9100), ("SCTP", 9)]),
    ("logs", &[("TCP", 24224)]),
    ("rotator", &[]),
];
const PARTS: [(&str, &[&str]); 2] = [("metrics", &["exporter"]), ("logging", &["logs", "rotator"])];

/// The primary as it runs, the whole pod, and what is written on the primary.
fn split_pod() -> (Pod, Pod, Record) {
    let containers: Vec<Value> = CONTAINERS
        .iter()
        .map(|(name, ports)| {
            let ports: Vec<Value> =
                ports.iter().map(|(protocol, port)| json!({"containerPort": port, "protocol": protocol})).collect();
            json!({"name": name, "ports": ports})
        })
        .collect();
    let metadata = json!({"namespace": "shop", "labels": {"app": "web"}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}});
    let parts: Vec<Value> =
        PARTS.iter().map(|(name, containers)| json!({"name": name, "containers": containers})).collect();
    let primary = running(divide(&pod, "shop", &split_of(json!(parts)), &key()).expect("it can be divided").pod);
    let record = Record::read(&annotations(&primary)).expect("ours");
    let typed = |value: Value| serde_json::from_value(value).expect("a pod");
    (typed(primary.clone()), typed(whole(&primary).expect("ours")), record)
}

fn world_of(policies: &[Value]) -> World {
    let policies = policies.iter().enumerate().map(|(index, spec)| {
        let mut spec = spec.clone();
        spec["podSelector"] = json!({"matchLabels": {"app": "web"}});
        let policy = json!({
            "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy",
            "metadata": {"name": format!("p{index}"), "namespace": "shop"}, "spec": spec,
        });
        serde_json::from_value(policy).expect("a policy")
    });
    World { policies: policies.collect(), ..World::default() }
}

/// A pod on the link: the parts of this pod by their names, those of another pod with `other-` before them.
fn member(name: &str) -> (IpAddr, BTreeMap<String, String>) {
    let (uid, part) = name.strip_prefix("other-").map_or((UID, name), |part| ("other", part));
    let names = ["primary", "metrics", "logging"];
    let number = names.iter().position(|known| *known == part).expect("a part") + if uid == UID { 10 } else { 20 };
    let labels = [(LABEL_PART, part), (LABEL_PRIMARY, uid)];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    (IpAddr::from([10, 213, 0, u8::try_from(number).expect("small")]), labels)
}

fn attached(address: IpAddr) -> Attachments {
    let network = NetworkName::parse(LINK, "shop").expect("a name");
    Attachments {
        known: vec![Attachment { network, device: "link0".to_owned(), addresses: vec![address] }],
        faults: Vec::new(),
    }
}

/// What a member of the link and its MultiNetworkPolicies say of a flow: one end is the member itself, the other an address.
fn judged(made: &[Value], own: &str, other: &str, outward: bool, protocol: Protocol, port: u16) -> Verdict {
    let members = ["primary", "metrics", "logging", "other-primary", "other-metrics", "other-logging"];
    let pods = members.iter().map(|name| {
        let (address, labels) = member(name);
        world::Pod {
            namespace: "shop".to_owned(),
            name: (*name).to_owned(),
            labels,
            networks: attached(address),
            ..world::Pod::default()
        }
    });
    let policies = made.iter().map(|policy| {
        let read = sidewall_api::read::read_multi_network_policy(policy.clone()).expect("a policy that is understood");
        assert_eq!(read.warnings, []);
        read.object
    });
    let world = World {
        pods: pods.collect(),
        multi_network_policies: policies.collect::<Vec<MultiNetworkPolicy>>(),
        ..World::default()
    };
    let (address, labels) = member(own);
    let pod: Pod = serde_json::from_value(
        json!({"metadata": {"namespace": "shop", "name": own}, "spec": {"containers": [{"name": "c"}]}}),
    )
    .expect("a pod");
    let mut subject = subject(&pod).expect("one container");
    (subject.labels, subject.networks, subject.interface) = (labels, attached(address), Some("eth0".to_owned()));
    let resolved = resolve(&world, &subject);
    let (link, _) = resolved.attached.iter().find(|(_, attached)| attached.device == "link0").expect("the link");
    let container = Party::Container(*resolved.containers.keys().next().expect("one container"));
    let ends = (End::Local(container), End::Attached(*link, member(other).0));
    let (sender, receiver) = if outward { ends } else { (ends.1, ends.0) };
    evaluate(&resolved, &Flow { sender, receiver, protocol, port })
}

fn passes(made: &[Value], from: &str, to: &str, protocol: Protocol, port: u16) -> bool {
    let out = judged(made, from, to, true, protocol, port).action == Action::Allow;
    let into = judged(made, to, from, false, protocol, port).action == Action::Allow;
    // Each end has what the other has: whoever looks at one only comes to the same.
    assert_eq!(out, into, "{from} -> {to} {protocol}/{port}");
    out
}

fn part_of(container: &str) -> &'static str {
    PARTS.iter().find(|(_, containers)| containers.contains(&container)).map_or(PRIMARY, |(part, _)| part)
}

/// Compares every port of every part with every other part, in both kinds of words.
fn compare(policies: &[Value]) {
    let (primary, whole, record) = split_pod();
    let world = world_of(policies);
    let resolved = resolve(&world, &subject(&whole).expect("few containers"));
    let made = of_pod(&primary, &record, &allowed(&whole, &record, &world).expect("few containers"));
    assert_eq!(made.len(), 3);
    let ids: BTreeMap<&str, Party> =
        resolved.containers.iter().map(|(id, c)| (c.name.as_str(), Party::Container(*id))).collect();
    let parts = ["primary", "metrics", "logging"];
    for (from, to) in
        parts.iter().flat_map(|from| parts.iter().map(move |to| (*from, *to))).filter(|(from, to)| from != to)
    {
        let ports = CONTAINERS.iter().flat_map(|(name, ports)| ports.iter().map(move |port| (*name, *port)));
        for (owner, (protocol, port)) in ports.chain([("app", ("TCP", 1)), ("logs", ("UDP", 24224))]) {
            let protocol: Protocol = protocol.parse().expect("a protocol");
            let declared = |name: &str| {
                let (_, ports) = CONTAINERS.iter().find(|(known, _)| *known == name).expect("a container");
                ports.iter().any(|(p, n)| p.parse() == Ok(protocol) && *n == port)
            };
            let whole = part_of(owner) == to
                && declared(owner)
                && CONTAINERS.iter().any(|(sender, _)| {
                    let flow =
                        Flow { sender: End::Local(ids[sender]), receiver: End::Local(ids[owner]), protocol, port };
                    part_of(sender) == from && evaluate(&resolved, &flow).action == Action::Allow
                });
            assert_eq!(
                passes(&made, from, to, protocol, port),
                whole,
                "{from} -> {to} {protocol}/{port} ({owner}): {policies:?}"
            );
            // A pod of the same PodSplit is a neighbour and no part of this one.
            assert_eq!(judged(&made, to, &format!("other-{from}"), false, protocol, port).action, Action::Deny);
            assert_eq!(judged(&made, from, &format!("other-{to}"), true, protocol, port).action, Action::Deny);
        }
    }
}

#[test]
fn without_policies_the_declared_ports_are_open() {
    compare(&[]);
    let (primary, whole, record) = split_pod();
    let allowed = allowed(&whole, &record, &World::default()).expect("few containers");
    let made = of_pod(&primary, &record, &allowed);
    assert!(passes(&made, "metrics", "primary", Protocol::Tcp, 8080));
    assert!(!passes(&made, "metrics", "primary", Protocol::Tcp, 8081));
}

#[test]
fn what_policies_say_of_containers_holds_for_parts() {
    compare(&[json!({"containers": ["app"]})]);
    compare(&[json!({"containers": ["logs"], "egress": [{"to": [{"container": "app"}], "ports": [{"port": 8080}]}]})]);
    compare(&[
        json!({"containers": ["app"], "ingress": [{"from": [{"container": "exporter"}], "ports": [{"protocol": "UDP", "port": 53}]}]}),
        json!({"containers": ["exporter"], "policyTypes": ["Egress"], "egress": [{"to": [{"container": "app"}, {"container": "logs"}]}]}),
    ]);
    compare(&[json!({"policyTypes": ["Ingress", "Egress"]})]);
    compare(&[json!({"containers": ["app"], "mode": "Audit"})]);
}

#[test]
fn they_are_said_in_words_that_every_enforcer_has() {
    let (primary, whole, record) = split_pod();
    let allowed = allowed(&whole, &record, &World::default()).expect("few containers");
    let made = of_pod(&primary, &record, &allowed);
    for policy in &made {
        assert_eq!(policy["metadata"]["annotations"]["k8s.v1.cni.cncf.io/policy-for"], LINK);
        assert_eq!(policy["metadata"]["ownerReferences"][0]["uid"], UID);
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        for (section, side) in [("ingress", "from"), ("egress", "to")] {
            for rule in policy["spec"][section].as_array().into_iter().flatten() {
                let ports = rule["ports"].as_array().expect("an empty list would be every port");
                assert!(
                    !ports.is_empty() && ports.iter().all(|port| port["port"].is_u64() && port["protocol"].is_string())
                );
                for peer in rule[side].as_array().expect("an empty list would be everybody") {
                    let words: Vec<&String> = peer.as_object().expect("a peer").keys().collect();
                    assert_eq!(words, ["namespaceSelector", "podSelector"]);
                    assert!(!peer.to_string().contains("matchExpressions"));
                }
            }
        }
    }
    // One for each part, and none selects what another does.
    let selected: BTreeSet<String> = made.iter().map(|policy| policy["spec"]["podSelector"].to_string()).collect();
    assert_eq!(selected.len(), made.len());
    assert_eq!(made, of_pod(&primary, &record, &allowed));
}

#[test]
fn who_is_not_known_yet_is_closed() {
    let split = split_of(json!([{"name": "metrics", "containers": ["exporter"]}]));
    let pending = pending(&split);
    assert_eq!(pending["spec"]["podSelector"]["matchLabels"], json!({LABEL_PART: PRIMARY, LABEL_PRIMARY: PENDING}));
    assert!(pending["spec"].get("ingress").is_none() && pending["spec"].get("egress").is_none());
    assert_eq!(
        (&pending["metadata"]["name"], &pending["metadata"]["ownerReferences"][0]["kind"]),
        (&json!("sidewall-pending-web"), &json!("PodSplit"))
    );
    let read = sidewall_api::read::read_multi_network_policy(pending).expect("a policy that is understood");
    assert_eq!(read.object.networks().expect("networks").len(), 1);
}

prop_compose! {
    fn rules()(
        peers in proptest::collection::vec(0..CONTAINERS.len(), 0..3),
        ports in proptest::sample::subsequence(vec![("TCP", 8080), ("UDP", 53), ("TCP", 7000), ("TCP", 9100), ("SCTP", 9), ("TCP", 24224)], 0..3),
    ) -> (Vec<Value>, Vec<Value>) {
        let peers = peers.into_iter().map(|peer| json!({"container": CONTAINERS[peer].0})).collect();
        (peers, ports.into_iter().map(|(protocol, port)| json!({"protocol": protocol, "port": port})).collect())
    }
}

prop_compose! {
    fn policy_spec()(
        containers in proptest::sample::subsequence(CONTAINERS.map(|(name, _)| name).to_vec(), 0..4),
        ingress in proptest::option::of(rules()),
        egress in proptest::option::of(rules()),
    ) -> Value {
        let mut spec = json!({"policyTypes": []});
        let mut types = Vec::new();
        if !containers.is_empty() {
            spec["containers"] = json!(containers);
        }
        for (section, side, word, rule) in [("ingress", "from", "Ingress", ingress), ("egress", "to", "Egress", egress)] {
            if let Some((peers, ports)) = rule {
                types.push(word);
                spec[section] = json!([{side: peers, "ports": ports}]);
            }
        }
        spec["policyTypes"] = json!(types);
        spec
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_policies_say(policies in proptest::collection::vec(policy_spec(), 0..4)) {
        compare(&policies);
    }
}
