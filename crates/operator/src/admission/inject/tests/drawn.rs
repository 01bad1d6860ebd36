//! Drawn pods, from ordinary to hostile.

use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::admission::inject::{Outcome, Why};
use crate::admission::probes::{Originals, fields};
use crate::fixture::{Try, defaulted, tls, web};

/// Any JSON at all.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~äß\n/~]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z/~.]{0,8}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

fn handler() -> impl Strategy<Value = Value> {
    let port = || {
        prop_oneof![
            Just(json!(8080)),
            Just(json!(9090)),
            Just(json!("http")),
            Just(json!("nobody")),
            Just(json!(80)),
            Just(json!("8080")),
            Just(json!(0)),
            Just(json!(70000)),
            Just(json!(15411))
        ]
    };
    let host = || prop_oneof![4 => Just(Value::Null), 1 => Just(json!("127.0.0.1")), 1 => Just(json!("::1")), 1 => Just(json!("example.com"))];
    prop_oneof![
        (port(), host(), prop_oneof![Just(json!("HTTPS")), Just(json!("HTTP")), Just(Value::Null)], "(/[a-z?=%]{0,6})?")
            .prop_map(|(port, host, scheme, path)| json!({"httpGet": {"port": port, "host": host, "scheme": scheme, "path": path, "newer": 1}})),
        (port(), host()).prop_map(|(port, host)| json!({"tcpSocket": {"port": port, "host": host}})),
        Just(json!({"grpc": {"port": 8080}})),
        Just(json!({"exec": {"command": ["true"]}})),
    ]
}

fn probe() -> impl Strategy<Value = Value> {
    (handler(), -1..5000i32).prop_map(|(mut handler, timeout)| {
        handler["timeoutSeconds"] = json!(timeout);
        handler
    })
}

fn container() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        20 => "(app|log|db|cache|web)-[a-f0-9]{1,4}", 1 => Just("front-proxy".to_owned()), 1 => Just("istio-proxy".to_owned()),
        1 => Just("../..".to_owned())
    ];
    let context = prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        (0..4i64).prop_map(|uid| json!({"runAsUser": 1000 + uid})),
        Just(json!({"runAsUser": 61802})),
        Just(json!({"capabilities": {"drop": ["ALL"]}})),
        Just(json!({"capabilities": {"add": ["NET_RAW"], "drop": ["SETUID"]}, "runAsUser": 0})),
        Just(json!({"capabilities": null, "privileged": true})),
    ];
    let ports = prop::collection::vec(
        (prop_oneof![Just(8080), Just(9090), Just(5432), Just(80), Just(15410)], prop_oneof![Just("TCP"), Just("UDP")])
            .prop_map(|(port, protocol)| json!({"name": if port == 8080 { "http" } else { "other" }, "containerPort": port, "protocol": protocol})),
        0..3,
    );
    (
        name,
        context,
        ports,
        prop::option::of(probe()),
        prop::option::of(probe()),
        prop::option::of(handler()),
        anything(),
    )
        .prop_map(|(name, context, ports, liveness, startup, hook, newer)| {
            let mut container =
                json!({"name": name, "image": "i", "securityContext": context, "ports": ports, "newer": newer});
            for (key, value) in [("livenessProbe", liveness), ("startupProbe", startup)] {
                if let Some(value) = value {
                    container[key] = value;
                }
            }
            if let Some(hook) = hook {
                container["lifecycle"] = json!({"preStop": hook});
            }
            container
        })
}

fn pod() -> impl Strategy<Value = Value> {
    let annotations = prop_oneof![
        4 => Just(json!({})),
        1 => Just(Value::Null),
        2 => Just(json!({"sidewall.dev/assign-uids": "true", "a/b~c": "x"})),
        1 => Just(json!({"sidewall.dev/drop-capabilities": "SETUID,NET_ADMIN"})),
        1 => Just(json!({"sidewall.dev/loopback-ports": "5432"})),
        1 => Just(json!({"sidewall.dev/proxy": "{\"proxy\":\"web\",\"container\":\"app\",\"probePort\":1,\"config\":\"c\",\"secrets\":{}}"})),
    ];
    let spec = prop_oneof![
        4 => Just(json!({})),
        1 => Just(json!({"volumes": null, "securityContext": null})),
        1 => Just(json!({"hostUsers": false, "securityContext": {"fsGroup": 5, "runAsUser": 7}})),
        1 => Just(json!({"hostNetwork": true})),
        1 => Just(json!({"volumes": [{"name": "sidewall-config", "emptyDir": {}}]})),
        1 => Just(json!({"volumes": [{"name": "data", "newer": {"x": 1}}], "shareProcessNamespace": true})),
    ];
    let lists = (prop::collection::vec(container(), 0..3), prop::collection::vec(container(), 1..4));
    (lists, annotations, spec, any::<bool>()).prop_map(|((init, containers), annotations, mut spec, selected)| {
        spec["initContainers"] = json!(init);
        spec["containers"] = json!(containers);
        spec["nodeSelector"] = json!({"a": "b"});
        let labels = if selected { json!({"app": "web"}) } else { json!({"app": "other"}) };
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels, "annotations": annotations}, "spec": spec})
    })
}

/// A pod in which something has been replaced by anything.
fn broken() -> impl Strategy<Value = Value> {
    (pod(), any::<prop::sample::Index>(), anything()).prop_map(|(mut pod, index, value)| {
        let mut places = Vec::new();
        walk(&pod, String::new(), &mut places);
        if let Some(place) = pod.pointer_mut(index.get(&places).as_str()) {
            *place = value;
        }
        pod
    })
}

fn walk(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                walk(value, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), places);
            }
        }
        Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| walk(value, format!("{at}/{i}"), places)),
        _ => {}
    }
    places.push(at);
}

/// Whether everything of `before` is in `after`: fields under their names, elements in their order.
fn keeps(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Null, _) => true,
        (Value::Object(before), Value::Object(after)) => {
            before.iter().all(|(key, value)| value.is_null() || after.get(key).is_some_and(|after| keeps(value, after)))
        }
        (Value::Array(before), Value::Array(after)) => {
            let mut rest = after.iter();
            before.iter().all(|value| rest.any(|after| keeps(value, after)))
        }
        (before, after) => before == after,
    }
}

/// The pod with what is kept in our annotation back in its place.
fn restored(pod: &Value, originals: &Originals) -> Value {
    let mut pod = pod.clone();
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let name = container["name"].as_str().unwrap().to_owned();
            for (occasion, original) in originals.get(&name).into_iter().flatten() {
                let mut at = &mut *container;
                for field in fields(*occasion) {
                    at = &mut at[*field];
                }
                let at = at.as_object_mut().unwrap();
                at.remove("httpGet");
                for (key, words) in
                    [("httpGet", &original.http_get), ("tcpSocket", &original.tcp_socket), ("grpc", &original.grpc)]
                {
                    if let Some(words) = words {
                        at.insert(key.to_owned(), words.clone());
                    }
                }
            }
        }
    }
    pod
}

fn check(of: &Try) -> Result<(), TestCaseError> {
    match of.outcome() {
        Outcome::Untouched(_) => {}
        Outcome::Refused(refusal) => prop_assert!(!refusal.to_string().is_empty()),
        Outcome::Patched(patched) => {
            prop_assert!(!patched.patch.0.is_empty());
            let mut after = of.pod.clone();
            json_patch::patch(&mut after, &patched.patch).unwrap();
            prop_assert!(Pod::deserialize(&after).is_ok(), "{after}");
            let forged = of.pod.pointer("/metadata/annotations/sidewall.dev~1proxy").is_some();
            if !forged {
                let originals = patched.needs.as_ref().map(|needs| needs.originals.clone()).unwrap_or_default();
                let before = restored(&after, &originals);
                prop_assert!(keeps(&of.pod, &before), "{}\n{before}", of.pod);
            }
            let second = of.outcome_of(&after);
            prop_assert!(matches!(second, Outcome::Untouched(Why::Done)), "{second:?} of {after}");
            let names = |list: &str| after["spec"][list].as_array().map_or(0, Vec::len);
            if patched.needs.is_some() && !forged {
                let of_list = |list: &str| of.pod["spec"][list].as_array().map_or(0, Vec::len);
                prop_assert_eq!(names("initContainers"), of_list("initContainers") + 1);
                prop_assert_eq!(names("containers"), of_list("containers"));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), ..ProptestConfig::default() })]

    #[test]
    fn ordinary_pods(pod in pod(), by_tls in any::<bool>(), strict in any::<bool>()) {
        let mut of = Try::new(pod).by(if by_tls { tls() } else { web() });
        if strict {
            of.settings.identity = crate::settings::Identity::Uid;
        }
        check(&of)?;
    }

    #[test]
    fn ordinary_pods_as_the_api_server_fills_them(pod in pod()) {
        let of = Try::new(pod);
        if let Outcome::Patched(patched) = of.outcome() {
            let mut after = of.pod.clone();
            json_patch::patch(&mut after, &patched.patch).unwrap();
            // A second call finds nulls gone and defaults filled in.
            if after["spec"]["securityContext"].is_null() {
                after["spec"].as_object_mut().unwrap().remove("securityContext");
            }
            let second = of.outcome_of(&defaulted(&after));
            prop_assert!(matches!(second, Outcome::Untouched(Why::Done)), "{second:?}");
        }
    }

    #[test]
    fn broken_pods(pod in broken()) {
        check(&Try::new(pod))?;
    }

    #[test]
    fn anything_at_all(pod in anything()) {
        check(&Try::new(pod))?;
    }
}

/// The properties above would hold of a webhook that refuses everything.
#[test]
fn most_drawn_pods_that_are_selected_are_patched() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = pod();
    let mut patched = 0;
    for _ in 0..300 {
        let pod = strategy.new_tree(&mut runner).unwrap().current();
        patched += usize::from(matches!(Try::new(pod).outcome(), Outcome::Patched(_)));
    }
    assert!(patched >= 30, "{patched} of 300");
}
