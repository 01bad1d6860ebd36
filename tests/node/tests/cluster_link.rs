//! Further networks of pods in a cluster: attached by Multus, with addresses from host-local and whereabouts, reached across
//! nodes, and walled by the node's agent device by device. Needs root.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde_json::{Value, json};
use sidewall_node_tests::api::list;
use sidewall_node_tests::linked::{self, BRIDGE, BRIDGE_RANGES, Linked, MACVLAN, MACVLAN_RANGES};
use sidewall_node_tests::multus::Form;
use sidewall_node_tests::until::until;

const LIMIT: Duration = Duration::from_secs(60);
/// The port that policies here open, and another.
const PORTS: [u16; 2] = [8080, 9090];
/// Serves a page on both.
const SERVE: &str = "mkdir -p /tmp/www; echo hello > /tmp/www/index.html; httpd -p 9090 -h /tmp/www; \
                     exec httpd -f -p 8080 -h /tmp/www";
/// Pod, node, network. `stranger` is a neighbour on the segment that no policy is for.
const PODS: [(&str, &str, &str); 5] = [
    ("left", "node1", BRIDGE),
    ("right", "node1", BRIDGE),
    ("near", "node1", MACVLAN),
    ("far", "node2", MACVLAN),
    ("stranger", "node2", MACVLAN),
];

/// Closes the pod network of every pod.
const CLOSED: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
"#;

/// Lets a pod be reached on a network by one other, on the first port.
fn opened(network: &str, pod: &str, to: &str) -> Value {
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1beta1", "kind": "MultiNetworkPolicy",
        "metadata": {
            "name": pod, "namespace": "shop", "annotations": {"k8s.v1.cni.cncf.io/policy-for": network},
        },
        "spec": {
            "podSelector": {"matchLabels": {"app": pod}}, "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{"podSelector": {"matchLabels": {"app": to}}}],
                "ports": [{"protocol": "TCP", "port": PORTS[0]}],
            }],
        },
    })
}

/// Which of a pod's ports another reaches at an address.
fn reached(linked: &Linked, from: &str, address: IpAddr) -> Vec<u16> {
    let reaches = |port: &u16| {
        let url = format!("http://{}/index.html", SocketAddr::new(address, *port));
        let fetched = linked.api().exec("shop", from, "app", &["timeout", "2", "wget", "-q", "-O-", &url]);
        fetched.is_ok_and(|page| page == "hello\n")
    };
    PORTS.into_iter().filter(reaches).collect()
}

/// Waits until a pod reaches just these ports of another at each of the addresses, and looks again whether that stays so.
fn comes_to(linked: &Linked, from: &str, addresses: &[IpAddr], wanted: &[u16]) {
    for _ in 0..2 {
        for address in addresses {
            until(&format!("{from} to {address}: {wanted:?}"), LIMIT, || {
                let found = reached(linked, from, *address);
                Ok(if found == wanted { Ok(()) } else { Err(format!("{found:?}")) })
            })
            .unwrap();
        }
    }
}

fn of_pod_network(linked: &Linked, pod: &str) -> Vec<IpAddr> {
    linked.api().addresses("shop", pod).unwrap()
}

#[test]
fn a_link_is_a_network_of_its_own_with_walls_of_its_own() {
    let start = Instant::now();
    let linked = Linked::start().unwrap();
    let _multus = linked.multus(Form::Thin).unwrap();
    let _agents = linked.agents(&json!({"policies": {"networkPolicies": true}})).unwrap();
    let api = linked.api();
    println!("a cluster with links in {:?}", start.elapsed());
    let start = Instant::now();
    let pods: Vec<Value> = PODS.iter().map(|(name, node, network)| linked::pod(name, node, network, SERVE)).collect();
    api.apply(&list(&pods)).unwrap();
    for (name, ..) in PODS {
        api.ready("shop", name, LIMIT).unwrap();
    }
    println!("five pods with links in {:?}", start.elapsed());

    // Each has an address of each family, of its network, its own alone; Multus tells of the same.
    let of = |pod: &str| linked.addresses(pod).unwrap();
    let mut all = BTreeSet::new();
    for (name, _, network) in PODS {
        let (addresses, ranges) = (of(name), if network == BRIDGE { BRIDGE_RANGES } else { MACVLAN_RANGES });
        assert_eq!(addresses.len(), 2, "{name}: {addresses:?}");
        for (address, range) in addresses.iter().zip(ranges) {
            assert!(range.parse::<IpNet>().unwrap().contains(address), "{name}: {addresses:?}");
            assert!(all.insert(*address), "{name}: {addresses:?}");
        }
        assert_eq!(linked.told(name).unwrap(), addresses, "{name}");
    }
    let mut given = [of("left"), of("right")].concat();
    given.sort();
    assert_eq!(linked.given(&linked.nodes()[0], BRIDGE).unwrap(), given);
    let mut reserved = Vec::new();
    for range in MACVLAN_RANGES {
        reserved.extend(["far", "near", "stranger"].map(|pod| format!("{range} shop/{pod}")));
    }
    assert_eq!(linked.reserved().unwrap(), reserved);

    // Neighbours on one bridge reach each other, and devices over both nodes; nobody else does.
    for (from, to) in [("left", "right"), ("right", "left"), ("near", "far"), ("far", "near"), ("stranger", "far")] {
        comes_to(&linked, from, &of(to), &PORTS);
    }
    for (from, to) in [("left", "far"), ("near", "right")] {
        assert_eq!(of(to).iter().flat_map(|address| reached(&linked, from, *address)).count(), 0, "{from} to {to}");
    }
    comes_to(&linked, "near", &of_pod_network(&linked, "far"), &PORTS);

    // What closes the pod network does not touch links.
    api.apply(CLOSED).unwrap();
    comes_to(&linked, "near", &of_pod_network(&linked, "far"), &[]);
    comes_to(&linked, "right", &of_pod_network(&linked, "left"), &[]);
    comes_to(&linked, "near", &of("far"), &PORTS);
    comes_to(&linked, "left", &of("right"), &PORTS);

    // A policy for a link holds there, for those that it names.
    let policies = list(&[opened(MACVLAN, "far", "near"), opened(BRIDGE, "right", "left")]);
    api.apply(&policies).unwrap();
    comes_to(&linked, "near", &of("far"), &PORTS[..1]);
    comes_to(&linked, "left", &of("right"), &PORTS[..1]);
    comes_to(&linked, "stranger", &of("far"), &[]);
    for (from, to) in [("far", "near"), ("right", "left"), ("stranger", "near")] {
        comes_to(&linked, from, &of(to), &PORTS);
    }

    // And it does not touch the pod network.
    api.delete(CLOSED).unwrap();
    comes_to(&linked, "stranger", &of_pod_network(&linked, "far"), &PORTS);
    comes_to(&linked, "stranger", &of("far"), &[]);

    // Another pod that it selects has its walls from the first moment, whatever its address is.
    let again = linked::pod("far", "node2", MACVLAN, SERVE).to_string();
    api.delete(&again).unwrap();
    // The object is gone before the sandbox is. whereabouts would give a pod of the same name the same addresses, which the old
    // one still has then, and IPv6 would find out (duplicate address detection) and never use its own.
    until("the end of the old one's reservations", LIMIT, || {
        let reserved = linked.reserved()?;
        let there = reserved.iter().any(|entry| entry.ends_with(" shop/far"));
        Ok(if there { Err(format!("{reserved:?}")) } else { Ok(()) })
    })
    .unwrap();
    api.apply(&again).unwrap();
    api.ready("shop", "far", LIMIT).unwrap();
    for address in of("far") {
        assert_eq!(reached(&linked, "stranger", address), Vec::<u16>::new());
    }
    comes_to(&linked, "near", &of("far"), &PORTS[..1]);

    // Without it all is as before; and at the end nobody holds an address.
    api.delete(&policies).unwrap();
    comes_to(&linked, "stranger", &of("far"), &PORTS);
    comes_to(&linked, "left", &of("right"), &PORTS);
    api.delete(&list(&pods)).unwrap();
    until("the end of all reservations", LIMIT, || {
        let (reserved, given) = (linked.reserved()?, linked.given(&linked.nodes()[0], BRIDGE)?);
        Ok(if reserved.is_empty() && given.is_empty() { Ok(()) } else { Err(format!("{reserved:?} {given:?}")) })
    })
    .unwrap();
    let others = api.get(&["-A", "overlappingrangeipreservations.whereabouts.cni.cncf.io"]).unwrap();
    assert_eq!(others["items"], json!([]));
}
