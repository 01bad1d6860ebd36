//! The oldest API server that the chart is for, 1.29: it takes the kinds and the manifests, asks the operator, and keeps the pod that
//! the operator makes of it. Needs root.
#![forbid(unsafe_code)]

use deployed::{LIMIT, NAMESPACE, helm};
use serde_json::{Value, json};
use sidewall_node_tests::api::list;
use sidewall_node_tests::fabric::Addresses;
use sidewall_node_tests::operator::Operator;
use sidewall_node_tests::until::until;
use sidewall_node_tests::{Api, ControlPlane, Fabric, parts};

mod deployed;

/// The API server, which `cargo xtask` keeps apart from that of the other tests.
fn oldest() -> std::path::PathBuf {
    let folders = parts::parts().filter(|folder| {
        folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubernetes-oldest-"))
    });
    let mut programs = folders.map(|folder| folder.join("kube-apiserver"));
    programs.find(|path| path.is_file()).expect("no part kubernetes-oldest: run `cargo xtask parts`")
}

fn dry(api: &Api, object: &Value) -> Result<Value, String> {
    let create = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
    let text = api.with_input(&create, &object.to_string()).map_err(|error| error.to_string())?;
    Ok(serde_json::from_str(&text).unwrap())
}

fn pod(namespace: &str) -> Value {
    let container = json!({
        "name": "app", "image": "none", "securityContext": {"runAsUser": 20002},
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}}, "ports": [{"containerPort": 8080}],
    });
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": namespace, "labels": {"app": "web"}},
        "spec": {"containers": [container]},
    })
}

fn proxy(port: Value) -> Value {
    json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "web"}},
            "listeners": [{"port": port, "forward": {"port": 8080}, "anonymous": true}],
        },
    })
}

#[test]
fn kubernetes_1_29_takes_the_product_and_keeps_what_is_injected() {
    let fabric = Fabric::new().unwrap();
    let control = ControlPlane::of(&fabric, oldest()).unwrap();
    let api = control.admin();
    let version: Value = serde_json::from_str(&api.kubectl(&["get", "--raw", "/version"]).unwrap()).unwrap();
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("29")), "{version}");

    // Everything is taken, and means what it says: an API server drops what it does not know.
    let template = ["template", "sidewall", "sidewall", "--namespace", NAMESPACE, "--kube-version=1.29.15"];
    let values = ["--set=admissionPolicies=false", "--set=namespace.create=true"];
    let text = helm(&template.into_iter().chain(values).collect::<Vec<_>>()).unwrap();
    let apply = ["apply", "--server-side", "--validate=strict", "-f", "-"];
    let namespace = text.split("\n---\n").find(|text| text.contains("\nkind: Namespace\n")).unwrap();
    api.with_input(&apply, namespace).unwrap();
    api.with_input(&apply, &text).unwrap();
    for kind in ["containernetworkpolicies", "sidecarproxies", "nodeenforcements"] {
        let name = format!("crd/{kind}.sidewall.dev");
        api.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &name]).unwrap();
    }
    // No controllers run here: what they would make, and the operator as a program beside the API server.
    let address = Addresses::hub().node()[0].to_string();
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "sidewall-operator", "namespace": NAMESPACE},
        "subsets": [{"addresses": [{"ip": address}], "ports": [{"name": "webhook", "port": 9443, "protocol": "TCP"}]}],
    });
    let opted = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let namespaces = [opted("shop", json!({"sidewall.dev/injection": "enabled"})), opted("plain", json!({}))];
    api.apply(&list(&namespaces)).unwrap();
    let account = |namespace: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}});
    api.apply(&list(&[endpoints, account("shop"), account("plain")])).unwrap();
    let operator = Operator::start(&control, 0, json!({})).unwrap();

    until("a SidecarProxy", LIMIT, || {
        Ok(api.apply(&proxy(json!(8443)).to_string()).map_err(|error| error.to_string()))
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
    // The schema's rules, and the webhook's, are asked.
    let refused = api.apply(&proxy(json!(0)).to_string()).unwrap_err().to_string();
    assert!(refused.contains("spec.listeners[0].port"), "{refused}");
    let refused = api.apply(&proxy(json!(15411)).to_string()).unwrap_err().to_string();
    assert!(refused.contains("validate.sidewall.dev"), "{refused}");

    let policy = |egress: Value| {
        json!({
            "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy",
            "metadata": {"name": "web", "namespace": "shop"}, "spec": {"podSelector": {}, "egress": [egress]},
        })
    };
    let port = |port: Value| policy(json!({"ports": [{"port": port}]}));
    let block = |cidr: &str, except: &str| policy(json!({"to": [{"ipBlock": {"cidr": cidr, "except": [except]}}]}));
    for good in [port(json!(80)), port(json!("http-2a")), port(json!("8-a")), block("10.0.0.0/8", "10.1.0.0/16")] {
        dry(api, &good).unwrap();
    }
    // These the schema refuses by itself, without a webhook.
    for bad in
        [0, -1, 65_536].map(Value::from).into_iter().chain(["", "80", "8-0", "A", "a--b", "-a", "a-"].map(Value::from))
    {
        let said = dry(api, &port(bad.clone())).unwrap_err();
        assert!(said.contains("ports[0].port") && !said.contains("admission webhook"), "{bad}: {said}");
    }
    for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/129", "web", "10.0.0.0/-1", ""] {
        for (what, object) in [("cidr", block(bad, "10.1.0.0/16")), ("except", block("10.0.0.0/8", bad))] {
            let said = dry(api, &object).unwrap_err();
            assert!(said.contains(what) && !said.contains("admission webhook"), "{what} {bad}: {said}");
        }
    }
    // And these the webhook, which knows ranges.
    for bad in [block("10.0.0.0/8", "11.0.0.0/16"), policy(json!({"ports": [{"port": 81, "endPort": 80}]}))] {
        let said = dry(api, &bad).unwrap_err();
        assert!(said.contains("validate.sidewall.dev"), "{said}");
    }

    // The pod that is kept has the proxy as a native sidecar, its probe and its record.
    let made = until("a pod with a proxy", LIMIT, || {
        Ok(dry(api, &pod("shop")).and_then(|pod| match pod["spec"]["initContainers"][0]["name"] == "front-proxy" {
            true => Ok(pod),
            false => Err(pod.to_string()),
        }))
    });
    made.unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
    api.apply(&pod("shop").to_string()).unwrap();
    let kept = api.get(&["-n", "shop", "pod", "web"]).unwrap();
    let front = &kept["spec"]["initContainers"][0];
    assert_eq!((&front["name"], &front["restartPolicy"]), (&json!("front-proxy"), &json!("Always")), "{kept}");
    assert_eq!(kept["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"], 15411, "{kept}");
    let annotations = &kept["metadata"]["annotations"];
    let record: Value = serde_json::from_str(annotations["sidewall.dev/proxy"].as_str().unwrap()).unwrap();
    assert_eq!(kept["metadata"]["labels"]["sidewall.dev/fronted"], "true");
    // What it reads is there, and what is known of it is told.
    let config = record["config"].as_str().unwrap();
    api.until("its configuration", LIMIT, &["-n", "shop", "configmap", config], |_| true)
        .unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
    api.until("its status", LIMIT, &["-n", "shop", "sidecarproxy", "web"], |object| {
        object["status"]["pods"]["selected"] == 1
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
    // Nobody else is asked about.
    let plain = dry(api, &pod("plain")).unwrap();
    assert!(plain["spec"].get("initContainers").is_none(), "{plain}");
}
