//! What somebody tries who may edit in a namespace, or less: to have the operator, or cert-manager through it, do what he may not do
//! himself. Needs root.
#![forbid(unsafe_code)]

use base64::Engine;
use deployed::{LIMIT, certmanager, patch, refused};
use serde_json::{Value, json};
use sidewall_node_tests::api::{Api, Credentials, list};
use sidewall_node_tests::until::until;
use sidewall_node_tests::{ControlPlane, Fabric, Operator, agent, operator};

mod deployed;

/// A SidecarProxy in the shop.
fn proxy(name: &str, listener: Value) -> Value {
    json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": name}}, "listeners": [listener]},
    })
}

fn asking(secret: &str) -> Value {
    json!({
        "port": 8443, "forward": {"port": 8080},
        "authentication": [{"basic": {"secretName": secret, "key": "htpasswd", "realm": "shop"}}],
    })
}

fn with_certificate(secret: &str, certificate: Value) -> Value {
    let tls = json!({"secretName": secret, "certificate": certificate});
    json!({"port": 8443, "forward": {"port": 8080}, "anonymous": true, "tls": tls})
}

fn pod(app: &str) -> Value {
    let container = json!({"name": "app", "image": "none", "securityContext": {"runAsUser": 20002}});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": app, "namespace": "shop", "labels": {"app": app}},
        "spec": {"containers": [container]},
    })
}

fn secret(name: &str, key: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "shop"}, "stringData": {key: value},
    })
}

/// Checks that somebody may not, and that the answer says it in these words.
fn denied(said: Result<String, impl std::fmt::Display>, words: &[&str]) {
    let error = match said {
        Ok(said) => panic!("{words:?} is allowed: {said}"),
        Err(error) => error.to_string(),
    };
    assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
}

/// Somebody, who has these rights in the shop.
fn somebody(control: &ControlPlane, name: &str, rules: Value) -> Api {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name, "namespace": "shop"},
        "rules": rules,
    });
    control.admin().apply(&role.to_string()).unwrap();
    bound(control, name, &format!("--role={name}"))
}

fn bound(control: &ControlPlane, name: &str, role: &str) -> Api {
    let user = format!("--user={name}");
    control.admin().kubectl(&["-n", "shop", "create", "rolebinding", name, role, &user]).unwrap();
    control.api(&Credentials::Certificate(control.client(name, None).unwrap())).unwrap()
}

/// Waits until a condition of a SidecarProxy is as said, and returns its message.
fn told(admin: &Api, operator: &Operator<'_>, name: &str, condition: &str, status: &str) -> String {
    let found = |object: &Value| {
        let mut all = object["status"]["conditions"].as_array().into_iter().flatten();
        all.find(|found| found["type"] == condition && found["status"] == status)
            .map(|found| found["message"].to_string())
    };
    let object =
        admin.until("the status", LIMIT, &["-n", "shop", "sidecarproxy", name], |object| found(object).is_some());
    found(&object.unwrap_or_else(|error| panic!("{error}\n{}", operator.log()))).unwrap()
}

/// Who may write SidecarProxies and no Secret gets none read for him.
fn secrets_of_others(admin: &Api, mallory: &Api) {
    admin.apply(&list(&[secret("users", "htpasswd", "a:b\n"), secret("other", "htpasswd", "a:b\n")])).unwrap();
    refused(mallory.kubectl(&["-n", "shop", "get", "secret", "users"]), "the Secret itself");
    denied(mallory.apply(&proxy("mine", asking("users")).to_string()), &["validate.sidewall.dev", "users"]);
    // What stands in somebody else's name is not led elsewhere.
    admin.apply(&proxy("web", asking("users")).to_string()).unwrap();
    let path = "/apis/sidewall.dev/v1alpha1/namespaces/shop/sidecarproxies";
    for (what, change) in [
        ("to other pods", json!({"podSelector": {"matchLabels": {"app": "mine"}}})),
        ("to another container", json!({"containerName": "mine"})),
        (
            "to another port",
            json!({"listeners": [asking("users").as_object().map(|listener| {
                let mut listener = listener.clone();
                listener.insert("port".into(), 9443.into());
                listener
            })]}),
        ),
        ("another Secret", json!({"listeners": [asking("other")]})),
    ] {
        let said = patch(mallory, path, "web", None, &json!({"spec": change}));
        denied(said.map_err(|error| format!("{what}: {error}")), &["validate.sidewall.dev", "ecret"]);
    }
    // What has nothing to do with it is his to write.
    let limits = json!({"metadata": {"annotations": {"example.com/a": "b"}}});
    patch(mallory, path, "web", None, &limits).unwrap();
    refused(patch(mallory, path, "web", Some("status"), &json!({"status": {"observedGeneration": 9}})), "status");
}

/// Nobody is where a proxy looks for its configuration before the operator is, or after.
fn configurations(admin: &Api, mallory: &Api, operator: &Operator<'_>) {
    let create = ["create", "-o", "json", "-f", "-"];
    let dry = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
    let made: Value = serde_json::from_str(&admin.with_input(&dry, &pod("web").to_string()).unwrap()).unwrap();
    let annotation = made["metadata"]["annotations"]["sidewall.dev/proxy"].as_str().unwrap();
    let record: Value = serde_json::from_str(annotation).unwrap();
    let name = record["config"].as_str().unwrap();
    let open = json!({"listeners": [{"port": 8443, "forward": {"port": 8080}, "anonymous": true}]}).to_string();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, "data": {"proxy.yaml": open},
    });
    let forged = |api: &Api| api.with_input(&create, &map.to_string());
    denied(forged(mallory), &["sidewall-reserved-names", "by Sidewall alone"]);
    // It is there, and is put away: the operator makes it again, and nobody comes first.
    admin.with_input(&create, &pod("web").to_string()).unwrap();
    let there = ["-n", "shop", "configmap", name];
    let ours = |map: &Value| map["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "sidewall-operator";
    let kept = admin.until("the configuration", LIMIT, &there, ours);
    let kept = kept.unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
    let path = "/api/v1/namespaces/shop/configmaps";
    denied(patch(mallory, path, name, None, &json!({"data": {"proxy.yaml": open}})), &["by Sidewall alone"]);
    let label = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}});
    denied(patch(mallory, path, name, None, &label), &["by Sidewall alone"]);
    mallory.kubectl(&["-n", "shop", "delete", "configmap", name]).unwrap();
    denied(forged(mallory), &["sidewall-reserved-names", "by Sidewall alone"]);
    let again = admin.until("the configuration again", LIMIT, &there, ours);
    let again = again.unwrap_or_else(|error| panic!("{error}\n{}", operator.log()));
    assert_eq!(kept["data"], again["data"]);
    assert_ne!(kept["metadata"]["uid"], again["metadata"]["uid"]);
}

/// A container that is added to a pod has neither the proxy's user nor its files.
fn added_containers(admin: &Api) {
    let pods = "/api/v1/namespaces/shop/pods";
    let add = |name: &str, more: Value| {
        let mut container = json!({"name": name, "image": "none"});
        for (key, value) in more.as_object().into_iter().flatten() {
            container[key] = value.clone();
        }
        patch(admin, pods, "web", Some("ephemeralcontainers"), &json!({"spec": {"ephemeralContainers": [container]}}))
    };
    denied(add("a", json!({"securityContext": {"runAsUser": 61802}})), &["sidewall-fronted-pods", "the user of"]);
    let kept = admin.get(&["-n", "shop", "pod", "web"]).unwrap();
    let volumes = kept["spec"]["volumes"].as_array().unwrap();
    let ours = volumes.iter().filter_map(|volume| volume["name"].as_str()).filter(|name| name.starts_with("sidewall-"));
    let ours: Vec<&str> = ours.collect();
    assert!(ours.iter().any(|name| name.starts_with("sidewall-secret-")), "{volumes:?}");
    for volume in ours {
        let mounts = json!({"volumeMounts": [{"name": volume, "mountPath": "/mnt"}]});
        denied(add("b", mounts), &["sidewall-fronted-pods", "volumes"]);
    }
    add("c", json!({"securityContext": {"runAsUser": 20003}})).unwrap();
}

/// Certificates: by cert-manager for who may have them, under names of the namespace, and over nobody's Secret.
fn certificates(admin: &Api, control: &ControlPlane, mallory: &Api, eve: &Api, operator: &Operator<'_>) {
    certmanager::issuer(admin, "shop", "shop");
    let managed =
        |secret: &str| with_certificate(secret, json!({"source": "CertManager", "issuerRef": {"name": "shop"}}));
    // `edit` has no right to cert-manager's kinds unless cert-manager's own roles give it.
    for (who, api) in [("mallory", mallory), ("eve", eve)] {
        let said = api.apply(&proxy("asked", managed("asked-tls")).to_string());
        denied(said.map_err(|error| format!("{who}: {error}")), &["validate.sidewall.dev", "ertificates"]);
    }
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "cert-manager-edit", "labels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}},
        "rules": [{"apiGroups": ["cert-manager.io"], "resources": ["certificates"], "verbs": ["create", "get"]}],
    });
    admin.apply(&role.to_string()).unwrap();
    until("cert-manager's role", LIMIT, || {
        Ok(eve.apply(&proxy("asked", managed("asked-tls")).to_string()).map_err(|error| error.to_string()))
    })
    .unwrap();
    certmanager::ready(admin, "shop", "certificates", "asked-tls");
    told(admin, operator, "asked", "CertificatesReady", "True");

    // Somebody's Secret is nobody's to be filled, whoever is asked to fill it.
    let key = "somebody's own key";
    for (name, listener) in
        [("taken", managed("taken-tls")), ("taken2", with_certificate("taken2-tls", json!({"source": "SelfManaged"})))]
    {
        let held = format!("{name}-tls");
        admin.apply(&secret(&held, "tls.key", key).to_string()).unwrap();
        eve.apply(&proxy(name, listener).to_string()).unwrap();
        let said = told(admin, operator, name, "CertificatesReady", "False");
        assert!(said.contains("there already"), "{said}");
        let kept = admin.get(&["-n", "shop", "secret", &held]).unwrap();
        let kept = base64::prelude::BASE64_STANDARD.decode(kept["data"]["tls.key"].as_str().unwrap()).unwrap();
        assert_eq!(kept, key.as_bytes());
        refused_as_missing(admin, &["-n", "shop", "certificates.cert-manager.io", &held]);
    }
    // The operator's own authority signs no names of other namespaces.
    for (index, name) in
        ["web.bank.svc", "sidewall-operator.sidewall-system.svc", "*.svc", "shop.example"].into_iter().enumerate()
    {
        let (called, held) = (format!("named{index}"), format!("named{index}-tls"));
        let listener = with_certificate(&held, json!({"source": "SelfManaged", "dnsNames": [name]}));
        match eve.apply(&proxy(&called, listener).to_string()) {
            Err(error) => assert!(error.to_string().contains("dnsNames"), "{name}: {error}"),
            // Which namespace it is for, the operator alone knows.
            Ok(_) => {
                let said = told(admin, operator, &called, "CertificatesReady", "False");
                assert!(said.contains(name), "{said}");
                refused_as_missing(admin, &["-n", "shop", "secret", &held]);
            }
        }
    }
    assert!(!certmanager::log(control).contains(key));
    assert!(!operator.whole_log().contains(key));
}

fn refused_as_missing(admin: &Api, what: &[&str]) {
    let error = admin.get(what).unwrap_err().to_string();
    assert!(error.contains("NotFound"), "{error}");
}

#[test]
fn who_edits_a_namespace_gets_nothing_done_that_he_may_not_do() {
    let fabric = Fabric::new().unwrap();
    let control = ControlPlane::start(&fabric).unwrap();
    control.start_controllers().unwrap();
    let admin = control.admin();
    agent::install(admin).unwrap();
    operator::install(admin).unwrap();
    certmanager::start(&control);
    let operator = Operator::start(&control, 0, json!({})).unwrap();
    operator::serve(admin, &[&operator]).unwrap();
    for (name, labels) in [("shop", json!({"sidewall.dev/injection": "enabled"})), ("bank", json!({}))] {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        admin.apply(&object.to_string()).unwrap();
        admin.until("its account", LIMIT, &["-n", name, "serviceaccount", "default"], |_| true).unwrap();
    }
    let mallory = somebody(
        &control,
        "mallory",
        json!([
            {"apiGroups": ["sidewall.dev"], "resources": ["sidecarproxies"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]},
        ]),
    );
    let eve = bound(&control, "eve", "--clusterrole=edit");
    // The webhooks answer, and `edit` has our kinds.
    let probe = proxy("probe", json!({"port": 8443, "forward": {"port": 8080}, "anonymous": true})).to_string();
    until("the front door", LIMIT, || Ok(eve.apply(&probe).map_err(|error| format!("{error}\n{}", operator.log()))))
        .unwrap();

    // The namespace is another's, and other namespaces are.
    refused(eve.kubectl(&["label", "namespace", "shop", "sidewall.dev/injection-"]), "to opt out");
    refused(eve.kubectl(&["annotate", "namespace", "shop", "sidewall.dev/assign-uids=true"]), "to have users given");
    refused(eve.kubectl(&["-n", "bank", "get", "sidecarproxies"]), "another namespace");
    let path = "/apis/sidewall.dev/v1alpha1/namespaces/shop/sidecarproxies";
    refused(patch(&eve, path, "probe", Some("status"), &json!({"status": {"observedGeneration": 9}})), "status");
    secrets_of_others(admin, &mallory);
    configurations(admin, &mallory, &operator);
    added_containers(admin);
    certificates(admin, &control, &mallory, &eve, &operator);
}
