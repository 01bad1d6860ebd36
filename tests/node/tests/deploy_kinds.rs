//! The kinds as people meet them on a real API server: explained, listed, and applied by more than one hand. Needs root.
#![forbid(unsafe_code)]

use deployed::{Bed, LIMIT};
use serde_json::{Value, json};
use sidewall_node_tests::api::Api;
use sidewall_node_tests::until::until;

mod deployed;

const KINDS: [&str; 4] = ["containernetworkpolicies", "sidecarproxies", "podsplits", "nodeenforcements"];

/// Applies a part of a SidecarProxy in somebody's name.
fn apply(api: &Api, who: &str, spec: &Value) -> Result<String, String> {
    let object = json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy", "metadata": {"name": "web", "namespace": "default"},
        "spec": spec,
    });
    let manager = format!("--field-manager={who}");
    let arguments = ["apply", "--server-side", "--validate=false", &manager, "-f", "-"];
    api.with_input(&arguments, &object.to_string()).map_err(|error| error.to_string())
}

fn listener(port: u16, forward: u16) -> Value {
    json!({"port": port, "forward": {"port": forward}, "anonymous": true})
}

fn ports(api: &Api) -> Vec<(u64, u64)> {
    let object = api.get(&["sidecarproxy", "web"]).unwrap();
    let all = object["spec"]["listeners"].as_array().unwrap().iter();
    let mut ports: Vec<_> =
        all.map(|one| (one["port"].as_u64().unwrap(), one["forward"]["port"].as_u64().unwrap())).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn people_can_read_and_share_them() {
    let bed = Bed::new();
    let admin = bed.admin();

    // The API server publishes what is said of kinds a moment after they are established.
    for kind in KINDS {
        let all = until("the kind's explanation", LIMIT, || {
            Ok(admin.kubectl(&["explain", kind, "--recursive"]).map_err(|error| error.to_string()))
        });
        let all = all.unwrap();
        assert!(all.contains("GROUP:      sidewall.dev") && all.contains("spec"), "{all}");
        assert!(!all.contains("<empty>"), "{all}");
    }
    for (path, words) in [
        ("ctnp", "Says which containers of the selected pods may talk to whom."),
        ("ctnp.spec.containers", "Omitted: every container"),
        ("ctnp.spec.egress.to.ipBlock.cidr", "CIDR"),
        ("scp", "authenticating reverse proxy"),
        ("scp.spec.listeners", "A port has one listener."),
        ("scp.spec.listeners.authentication.basic.key", "htpasswd"),
        ("scp.status.conditions", "Ready"),
        ("psplit", "localhost still works"),
        ("psplit.spec.parts.initContainers", "in the order of the pod"),
        ("nenf.status", "node"),
    ] {
        let said = admin.kubectl(&["explain", path]).unwrap();
        let plain = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain.contains(words) && !plain.contains("<empty>"), "{path}: {said}");
    }

    // Two who each apply a listener have both.
    let first = json!({"podSelector": {"matchLabels": {"app": "web"}}, "listeners": [listener(8443, 8080)]});
    apply(admin, "team", &first).unwrap();
    apply(admin, "platform", &json!({"listeners": [listener(9443, 9090)]})).unwrap();
    assert_eq!(ports(admin), [(8443, 8080), (9443, 9090)]);
    // One changes his own and leaves the other's; what is the other's he does not get by saying it.
    let mut changed = first.clone();
    changed["listeners"] = json!([listener(8443, 8081)]);
    apply(admin, "team", &changed).unwrap();
    assert_eq!(ports(admin), [(8443, 8081), (9443, 9090)]);
    let error = apply(admin, "team", &json!({"podSelector": {}, "listeners": [listener(9443, 1)]})).unwrap_err();
    assert!(error.contains("conflict") && error.contains("port=9443"), "{error}");
    // And takes his own away.
    apply(admin, "platform", &json!({})).unwrap();
    assert_eq!(ports(admin), [(8443, 8081)]);
    // One port twice is nobody's wish.
    let twice = json!({"podSelector": {}, "listeners": [listener(8443, 8080), listener(8443, 8081)]});
    let error = apply(admin, "other", &twice).unwrap_err();
    assert!(error.contains("8443") && error.to_lowercase().contains("duplicate"), "{error}");

    // What a list shows, by the short names and by the category.
    let listed = admin.kubectl(&["get", "scp", "-o", "wide"]).unwrap();
    for column in ["NAME", "PORTS", "READY", "PODS", "FRONTED", "REASON", "CONTAINER", "AGE"] {
        assert!(listed.lines().next().unwrap().contains(column), "{listed}");
    }
    assert!(listed.contains("8443") && listed.contains("front-proxy"), "{listed}");
    let policy = "apiVersion: sidewall.dev/v1alpha1\nkind: ContainerNetworkPolicy\nmetadata: {name: wall}\nspec: {podSelector: {}}\n";
    admin.apply(policy).unwrap();
    let listed = admin.kubectl(&["get", "ctnp"]).unwrap();
    for column in ["NAME", "MODE", "CONTAINERS", "SELECTED", "ENFORCED", "ACCEPTED", "AGE"] {
        assert!(listed.lines().next().unwrap().contains(column), "{listed}");
    }
    let all = admin.kubectl(&["get", "sidewall", "-o", "name"]).unwrap();
    assert!(
        all.contains("containernetworkpolicy.sidewall.dev/wall") && all.contains("sidecarproxy.sidewall.dev/web"),
        "{all}"
    );
}
