//! Nothing that is sent panics, and everything that is answered is bounded.

use proptest::prelude::*;

use super::*;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u16..100).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "TCP",
            "Ingress",
            "World",
            "a\u{0}b",
            "10.0.0.0/8",
            "1.3",
            "..",
            "In",
            "\u{1b}[2J"
        ])
        .prop_map(Value::from),
    ];
    let keys = prop::sample::select(vec![
        "matchLabels",
        "matchExpressions",
        "key",
        "operator",
        "values",
        "port",
        "forward",
        "tls",
        "secretName",
        "basic",
        "authentication",
        "container",
        "ports",
        "from",
        "to",
        "ipBlock",
        "cidr",
        "except",
        "entity",
        "x",
        "certificate",
    ]);
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(keys.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Every place of an object.
fn places(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                places_of(value, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), places);
            }
        }
        Value::Array(items) => {
            for (i, value) in items.iter().enumerate() {
                places_of(value, format!("{at}/{i}"), places);
            }
        }
        _ => {}
    }
}

fn places_of(value: &Value, at: String, all: &mut Vec<String>) {
    all.push(at.clone());
    places(value, at, all);
}

/// Answers, whatever is found out, and holds the answer to its bounds.
fn check(review: &Value) {
    let Ok(question) = read(&serde_json::to_vec(review).unwrap()) else { return };
    let pods = [pod(&["app: http=8080"]), pod(&["log-shipper", "app: 80"]).labelled("tier", "front")];
    let known: Vec<KnownPod<'_>> = pods.iter().map(TestPod::known).collect();
    let other = crate::fixture::tls();
    let surroundings = namespace();
    let names: Vec<String> = question
        .wants()
        .access
        .iter()
        .filter_map(|access| match access {
            Access::Secret(name) => Some(name.clone()),
            Access::Certificates => None,
        })
        .collect();
    let contents = names.into_iter().zip([
        content(&[
            ("htpasswd", "a:b\n:\n"),
            ("tls.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            ("tls.key", ""),
        ]),
        Content::Missing,
        Content::Unread("x".repeat(10_000)),
    ]);
    let facts = Facts {
        contents: contents.collect(),
        now: Some(i64::MAX),
        namespace: Some(&surroundings),
        pods: Some(&known),
        proxies: &[&other],
        ..allowed(&question)
    };
    for facts in [&facts, &Facts::default()] {
        let answer = question.answer(facts, &settings()).unwrap();
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let response = &body["response"];
        assert_eq!(response["uid"], review["request"]["uid"]);
        assert!(response["allowed"].is_boolean());
        let texts: Vec<&str> =
            response["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        assert!(texts.len() <= 16 && texts.iter().all(|text| text.chars().count() <= 256));
        let message = response["status"]["message"].as_str().unwrap_or_default();
        assert!(message.chars().count() <= 4096);
        assert!(!texts.iter().chain([&message]).any(|text| text.contains(char::is_control)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn an_object_with_anything_in_it_is_answered(
        which in 0usize..3, place in any::<prop::sample::Index>(), new in value(), update in any::<bool>(), remove in any::<bool>(),
    ) {
        let good = [proxy(USERS), proxy(TLS), policy(SHIPPER)][which].clone();
        let whole = review(&good, update.then_some(&good));
        let mut all = Vec::new();
        places_of(&whole["request"], "/request".to_owned(), &mut all);
        let place = place.get(&all);
        let mut changed = whole.clone();
        if let Some(at) = changed.pointer_mut(place) {
            *at = new;
        }
        if remove
            && let Some((parent, key)) = place.rsplit_once('/')
            && let Some(Value::Object(fields)) = changed.pointer_mut(parent)
        {
            fields.remove(key);
        }
        check(&changed);
    }

    #[test]
    fn a_spec_that_is_anything_is_answered(proxy in any::<bool>(), spec in value()) {
        let kind = if proxy { "SidecarProxy" } else { "ContainerNetworkPolicy" };
        check(&review(&json!({"kind": kind, "metadata": {"name": "web"}, "spec": spec}), None));
    }
}

const SHIPPER: &str = "
podSelector: {matchLabels: {app: web}, matchExpressions: [{key: tier, operator: In, values: [front]}]}
containers: [log-shipper]
policyTypes: [Ingress, Egress]
ingress: [{from: [{container: app}, {namespaceSelector: {}, podSelector: {}}], ports: [{port: http, protocol: TCP}]}]
egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, {entity: World}], ports: [{port: 1, endPort: 9}]}]
";
