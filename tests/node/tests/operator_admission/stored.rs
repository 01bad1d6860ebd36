//! What the API server has made of a pod: with Sidewall's webhook, and without.

use serde_json::{Value, json};
use sidewall_node_tests::operator::PROXY;

/// What a pod has that nobody sends.
const SERVERS: [&str; 6] = ["uid", "creationTimestamp", "managedFields", "resourceVersion", "generation", "selfLink"];
/// What the kubelet asks over the network.
const WAYS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];
/// Where it does.
const OCCASIONS: [&str; 5] =
    ["/startupProbe", "/livenessProbe", "/readinessProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
/// The containers that stand before the proxy.
const MESH: [&str; 3] = ["istio-proxy", "istio-init", "linkerd-proxy"];

/// A pod that gets a proxy and could run anywhere.
pub fn ordinary(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{
            "name": "app", "image": "bed.example/app:1", "readinessProbe": {"httpGet": {"port": 8080, "path": "/"}},
            "securityContext": {
                "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }]},
    })
}

/// A pod as one would send it who had it from the API server.
pub fn as_sent(pod: &Value) -> Value {
    let mut pod = pod.clone();
    for key in SERVERS {
        pod["metadata"].as_object_mut().unwrap().remove(key);
    }
    pod.as_object_mut().unwrap().remove("status");
    pod
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
}

/// Compares what was made of a pod with what would have been made without Sidewall; says whether it has a proxy.
pub fn check(plain: &Value, made: &Value) -> Result<bool, String> {
    let ours = &made["metadata"]["annotations"]["sidewall.dev/proxy"];
    let asks = ["sidewall.dev/assign-uids", "sidewall.dev/drop-capabilities"];
    let asked = asks.iter().any(|key| made["metadata"]["annotations"].get(key).is_some());
    let Some(record) = ours.as_str() else {
        let same = asked || comparable(plain)["spec"] == comparable(made)["spec"];
        keeps(&comparable(plain), &comparable(made), "")?;
        return if same { Ok(false) } else { Err("is changed, and has no proxy".to_owned()) };
    };
    let record: Value = serde_json::from_str(record).map_err(|error| format!("has a record that is none: {error}"))?;
    let own = |container: &&Value| container["name"] == record["container"];
    let init: Vec<&Value> = made["spec"]["initContainers"].as_array().into_iter().flatten().collect();
    let place = init.iter().position(own).ok_or("has no proxy")?;
    let mesh = |container: &&Value| MESH.iter().any(|mesh| container["name"] == *mesh);
    let after = init.iter().rposition(mesh).map_or(0, |last| last + 1);
    if place != after {
        return Err(format!("has its proxy at {place} of the init containers, and not at {after}"));
    }
    if containers(made).filter(own).count() != 1 {
        return Err("has not one proxy".to_owned());
    }
    if init[place]["image"] != PROXY || init[place].get("env").is_some() {
        return Err(format!("has a proxy that is not as it should be: {}", init[place]));
    }
    for container in containers(made).filter(|container| !own(container)) {
        for occasion in OCCASIONS {
            let asked = container.pointer(occasion).unwrap_or(&Value::Null);
            let past = WAYS.iter().find(|way| {
                let hook = occasion.starts_with("/lifecycle") && **way != "httpGet";
                asked[**way]["port"] == 8080 && asked[**way].get("host").is_none() && !hook
            });
            if let Some(way) = past {
                return Err(format!("has a {way} past its proxy in {} {occasion}", container["name"]));
            }
        }
    }
    keeps(&comparable(plain), &comparable(made), "")?;
    Ok(true)
}

/// The pod without what differs from call to call, and without what is led through the proxy.
fn comparable(pod: &Value) -> Value {
    let mut pod = as_sent(pod);
    pod["metadata"] = json!({"labels": pod["metadata"]["labels"], "annotations": pod["metadata"]["annotations"]});
    if let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() {
        // What the API server tells of its own doings, the proxy's container among them.
        annotations.remove("kubernetes.io/limit-ranger");
    }
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            for occasion in OCCASIONS {
                if let Some(asked) = container.pointer_mut(occasion).and_then(Value::as_object_mut) {
                    asked.retain(|key, _| !WAYS.contains(&key.as_str()));
                }
            }
        }
    }
    if let Some(all) = pod.pointer_mut("/spec/resources").and_then(Value::as_object_mut) {
        // Where the pod leaves it open, the API server adds up what its containers ask for, and another may have given the
        // proxy's something before it is asked for it again.
        all.remove("requests");
    }
    token(&mut pod);
    pod
}

/// The volume with the service account's token has another name each time.
fn token(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("kube-api-access-") => *text = "kube-api-access".to_owned(),
        Value::Array(all) => all.iter_mut().for_each(token),
        Value::Object(all) => all.values_mut().for_each(token),
        _ => {}
    }
}

/// Whether everything of `before` is in `after`: fields under their names, elements in their order.
fn keeps(before: &Value, after: &Value, at: &str) -> Result<(), String> {
    match (before, after) {
        (Value::Null, _) => Ok(()),
        (Value::Object(before), Value::Object(after)) => before
            .iter()
            .try_for_each(|(key, value)| keeps(value, after.get(key).unwrap_or(&Value::Null), &format!("{at}/{key}"))),
        (Value::Array(before), Value::Array(after)) => {
            let mut rest = after.iter();
            before.iter().enumerate().try_for_each(|(index, value)| {
                let at = format!("{at}/{index}");
                let mut last = format!("loses {at}");
                let found = rest.any(|after| {
                    let kept = keeps(value, after, &at);
                    let named = value.get("name").is_some() && value.get("name") == after.get("name");
                    if let Some(why) = kept.as_ref().err().filter(|_| named) {
                        last.clone_from(why);
                    }
                    kept.is_ok()
                });
                if found { Ok(()) } else { Err(last) }
            })
        }
        (before, after) if before == after => Ok(()),
        (before, after) => Err(format!("has {after} for {before} at {at}")),
    }
}
