//! The operator as it is deployed: that a real API server takes it, that its account may do what it needs and nothing else, and that an
//! upgrade leaves what it wrote. Needs root.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;

use deployed::{Bed, CREATE, LIMIT, NAMESPACE, helm, patch, refused, rendered, root, rules};
use serde_json::{Value, json};
use sidewall_node_tests::api::Api;
use sidewall_node_tests::until::until;

mod deployed;

const APPLY: [&str; 6] = ["apply", "--server-side", "--validate=false", "--field-manager=operator", "-f", "-"];

/// What the operator's account may, everywhere.
const NEEDED: [&str; 21] = [
    "create,patch events.k8s.io/events",
    "create authorization.k8s.io/subjectaccessreviews",
    "list,watch /namespaces",
    "list,watch /pods",
    "get,create,patch,delete /pods",
    "patch /pods/status",
    "get,list,watch,create,patch k8s.cni.cncf.io/multi-networkpolicies",
    "get,list,watch,create,patch k8s.cni.cncf.io/network-attachment-definitions",
    "patch sidewall.dev/podsplits/status",
    "get,list,watch,create,patch,delete /configmaps",
    "get,list,watch,create,update /secrets",
    "get,create,update cert-manager.io/certificates",
    "list,watch sidewall.dev/containernetworkpolicies",
    "list,watch sidewall.dev/nodeenforcements",
    "list,watch sidewall.dev/podsplits",
    "list,watch sidewall.dev/sidecarproxies",
    "patch sidewall.dev/containernetworkpolicies/status",
    "patch sidewall.dev/sidecarproxies/status",
    "get,patch admissionregistration.k8s.io/mutatingwebhookconfigurations sidewall-inject",
    "get,patch admissionregistration.k8s.io/validatingwebhookconfigurations sidewall-validate",
    // What Kubernetes lets everybody do: ask about himself.
    "create authorization.k8s.io/selfsubjectaccessreviews",
];

/// And in its own namespace.
const AT_HOME: [&str; 4] = [
    "get,update coordination.k8s.io/leases sidewall-operator",
    "create coordination.k8s.io/leases",
    "get,update /secrets sidewall-operator-webhook sidewall-operator-hooks sidewall-operator-proxies",
    "create /secrets",
];

fn everybodys() -> [String; 2] {
    ["create authorization.k8s.io/selfsubjectrulesreviews", "create authentication.k8s.io/selfsubjectreviews"]
        .map(str::to_owned)
}

fn manifest() -> String {
    fs::read_to_string(root().join("deploy/manifests/kubeadm.yaml")).unwrap()
}

fn namespace(admin: &Api, name: &str) {
    admin.kubectl(&["create", "namespace", name]).unwrap();
    admin.kubectl(&["-n", name, "create", "serviceaccount", "default"]).unwrap();
}

/// A ConfigMap or Secret as the operator makes them.
fn ours(kind: &str, namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "sidewall-operator"}},
    })
}

fn plain(kind: &str, namespace: &str, name: &str) -> Value {
    let mut object = ours(kind, namespace, name);
    object["metadata"]["labels"] = json!({"a": "b"});
    object
}

fn with(mut object: Value, field: &str, value: Value) -> Value {
    object[field] = value;
    object
}

fn create(api: &Api, object: &Value) -> Result<String, String> {
    api.with_input(&CREATE, &object.to_string()).map_err(|error| error.to_string())
}

/// The operator's account, on a cluster where the product is installed; the policies are known to the API server.
fn installed() -> (Bed, Api) {
    let bed = Bed::new();
    let admin = bed.admin();
    namespace(admin, "shop");
    admin.apply(&manifest()).unwrap();
    let operator = bed.account("sidewall-operator", &[]);
    until("the admission policies", LIMIT, || {
        let dry = ["create", "--dry-run=server", "--validate=false", "-f", "-"];
        let probe = operator.with_input(&dry, &plain("ConfigMap", "shop", "probe").to_string());
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop", "annotations": {"sidewall.dev/x": "y"}}, "spec": {"containers": [{"name": "a", "image": "none"}]}});
        let said = [probe, admin.with_input(&dry, &pod.to_string())];
        Ok(if said.iter().all(|said| said.as_ref().is_err_and(|error| error.to_string().contains("ValidatingAdmissionPolicy"))) {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        })
    })
    .unwrap();
    (bed, operator)
}

#[test]
fn the_operator_has_these_rights() {
    let (bed, operator) = installed();
    let expected: BTreeSet<String> = NEEDED.into_iter().map(str::to_owned).chain(everybodys()).collect();
    assert_eq!(rules(&operator, "shop"), expected);
    let at_home: BTreeSet<String> = AT_HOME.into_iter().map(str::to_owned).collect();
    assert_eq!(rules(&operator, NAMESPACE), expected.union(&at_home).cloned().collect());
    // Where Secrets are not everywhere, they are nowhere else, and with cert-manager there is no right to change webhooks.
    let admin = bed.admin();
    admin.kubectl(&["delete", "clusterrolebinding", "sidewall-operator-secrets"]).unwrap();
    let less = ["crds.install=false", "operator.secrets={shop}", "operator.certManager=false"];
    admin.apply(&rendered(&less)).unwrap();
    namespace(admin, "bank");
    let operator = bed.account("sidewall-operator", &[]);
    let secrets = |line: &String| line.contains("/secrets");
    until("the roles", LIMIT, || {
        let (shop, bank) = (rules(&operator, "shop"), rules(&operator, "bank"));
        let right =
            shop.iter().any(secrets) && !bank.iter().any(secrets) && bank.iter().any(|line| line.contains("/pods"));
        Ok(if right { Ok(()) } else { Err(format!("{shop:?} {bank:?}")) })
    })
    .unwrap();
    assert!(!rules(&operator, "shop").iter().any(|line| line.contains("cert-manager.io")));
    refused(operator.kubectl(&["-n", "bank", "get", "secrets"]), "another namespace's Secrets");
    operator.kubectl(&["-n", "shop", "get", "secrets"]).unwrap();
    let roles = rendered(&["crds.install=false", "operator.certificates.source=CertManager"]);
    assert!(!roles.contains("mutatingwebhookconfigurations") && !roles.contains("sidewall-operator-webhook, "));
}

#[test]
fn the_operator_may_do_what_it_needs_and_nothing_else() {
    let (bed, operator) = installed();
    let admin = bed.admin();
    // What it reads.
    for watched in [
        "namespaces",
        "pods",
        "configmaps",
        "secrets",
        "containernetworkpolicies.sidewall.dev",
        "sidecarproxies.sidewall.dev",
        "podsplits.sidewall.dev",
        "nodeenforcements.sidewall.dev",
    ] {
        operator.kubectl(&["get", "--all-namespaces", watched]).unwrap();
    }
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "a", "resourceAttributes": {"resource": "secrets", "verb": "get", "namespace": "shop", "name": "x"}},
    });
    create(&operator, &review).unwrap();

    // What it keeps for itself.
    let replace =
        |object: &Value| operator.with_input(&["replace", "--validate=false", "-f", "-"], &object.to_string());
    for secret in ["sidewall-operator-webhook", "sidewall-operator-hooks", "sidewall-operator-proxies"] {
        let object = with(ours("Secret", NAMESPACE, secret), "data", json!({"tls.key": "eA=="}));
        create(&operator, &object).unwrap();
        replace(&with(object, "data", json!({"tls.key": "eQ=="}))).unwrap();
        operator.kubectl(&["-n", NAMESPACE, "get", "secret", secret]).unwrap();
    }
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "sidewall-operator", "namespace": NAMESPACE},
        "spec": {"holderIdentity": "a"},
    });
    create(&operator, &lease).unwrap();
    replace(&with(lease, "spec", json!({"holderIdentity": "b"}))).unwrap();
    let webhooks = "/apis/admissionregistration.k8s.io/v1";
    for (kind, name, webhook) in [
        ("mutatingwebhookconfigurations", "sidewall-inject", "inject.sidewall.dev"),
        ("validatingwebhookconfigurations", "sidewall-validate", "validate.sidewall.dev"),
    ] {
        operator.kubectl(&["get", kind, name]).unwrap();
        let bundle = json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": authority()}]);
        let arguments = ["patch", kind, name, "--type=json", "-p", &bundle.to_string()];
        operator.kubectl(&arguments).unwrap();
        let told = admin.get(&[kind, name]).unwrap();
        assert_eq!(told["webhooks"][0]["name"], webhook);
        assert_eq!(told["webhooks"][0]["clientConfig"]["caBundle"], authority());
        let other = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": told["kind"], "metadata": {"name": "other"}});
        create(admin, &other).unwrap();
        refused(
            patch(
                &operator,
                &format!("{webhooks}/{kind}"),
                "other",
                None,
                &json!({"metadata": {"labels": {"a": "b"}}}),
            ),
            kind,
        );
        refused(operator.kubectl(&["delete", kind, name]), kind);
    }
    admin.kubectl(&["delete", "validatingwebhookconfiguration", "sidewall-validate"]).unwrap();

    // What it writes for proxies.
    for kind in ["ConfigMap", "Secret"] {
        let object = with(ours(kind, "shop", "ours"), "data", json!({"proxy.yaml": "eA=="}));
        let changed = with(object.clone(), "data", json!({"proxy.yaml": "eQ=="}));
        if kind == "ConfigMap" {
            operator.with_input(&APPLY, &object.to_string()).unwrap();
            operator.with_input(&APPLY, &changed.to_string()).unwrap();
        } else {
            create(&operator, &object).unwrap();
            replace(&changed).unwrap();
        }
        create(admin, &with(plain(kind, "shop", "theirs"), "data", json!({"x": "eA=="}))).unwrap();
        create(admin, &with(plain(kind, NAMESPACE, "theirs"), "data", json!({"x": "eA=="}))).unwrap();
        let path = |namespace: &str| format!("/api/v1/namespaces/{namespace}/{}s", kind.to_lowercase());
        let label = |value: Value| json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": value}}});
        for (what, said) in [
            ("to make an unmarked one", create(&operator, &plain(kind, "shop", "new"))),
            ("to make one in its own namespace", create(&operator, &ours(kind, NAMESPACE, "new"))),
            ("to make one in kube-system", create(&operator, &ours(kind, "kube-system", "new"))),
            ("to replace somebody's", replace(&ours(kind, "shop", "theirs")).map_err(|error| error.to_string())),
            (
                "to replace its own with somebody's",
                replace(&plain(kind, "shop", "ours")).map_err(|error| error.to_string()),
            ),
            ("to replace one at home", replace(&ours(kind, NAMESPACE, "theirs")).map_err(|error| error.to_string())),
            ("to change somebody's", patch(&operator, &path("shop"), "theirs", None, &json!({"data": {"x": "eQ=="}}))),
            // Else the answer would show what is in it.
            ("to change nothing", patch(&operator, &path("shop"), "theirs", None, &json!({}))),
            ("to change nothing at home", patch(&operator, &path(NAMESPACE), "theirs", None, &json!({}))),
            ("to take somebody's", patch(&operator, &path("shop"), "theirs", None, &label("sidewall-operator".into()))),
            ("to give its own away", patch(&operator, &path("shop"), "ours", None, &label(Value::Null))),
        ] {
            refused(said, &format!("{kind}: {what}"));
        }
        let name = kind.to_lowercase();
        refused(operator.kubectl(&["-n", "shop", "delete", &name, "theirs"]), "to delete somebody's");
        refused(
            operator.kubectl(&["-n", NAMESPACE, "delete", &name, "theirs"]),
            "to delete what is not its own at home",
        );
        let deleted = operator.kubectl(&["-n", "shop", "delete", &name, "ours"]);
        if kind == "ConfigMap" {
            deleted.unwrap();
        } else {
            refused(deleted, "to delete a Secret");
        }
    }
    let tls = with(ours("Secret", "shop", "tls"), "type", "kubernetes.io/tls".into());
    create(&operator, &with(tls, "data", json!({"tls.crt": "eA==", "tls.key": "eA=="}))).unwrap();
    // A token that Kubernetes itself would put in.
    let mut token = with(ours("Secret", "shop", "token"), "type", "kubernetes.io/service-account-token".into());
    token["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
    refused(create(&operator, &token), "a Secret that gets somebody's token");

    // Status, and nothing else of our kinds.
    let proxy = json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"podSelector": {}, "listeners": [{"port": 8443, "forward": {"port": 8080}, "anonymous": true}]},
    });
    let policy = json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"podSelector": {}},
    });
    // The API server's own knowledge of the webhook goes a moment later.
    for object in [&proxy, &policy] {
        until(
            "the kinds without their webhook",
            LIMIT,
            || Ok(create(admin, object).map_err(|error| error.to_string())),
        )
        .unwrap();
    }
    let ours_at = "/apis/sidewall.dev/v1alpha1/namespaces/shop";
    for kind in ["containernetworkpolicies", "sidecarproxies"] {
        let path = format!("{ours_at}/{kind}");
        patch(&operator, &path, "web", Some("status"), &json!({"status": {"observedGeneration": 1}})).unwrap();
        refused(
            patch(&operator, &path, "web", None, &json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}}})),
            kind,
        );
        refused(operator.kubectl(&["-n", "shop", "delete", kind, "web"]), kind);
    }
    refused(create(&operator, &policy), "to write policies");

    // Pods: one annotation.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}, "annotations": {"a": "b"}},
        "spec": {"containers": [{"name": "app", "image": "none"}]},
    });
    create(admin, &pod).unwrap();
    let pods = "/api/v1/namespaces/shop/pods";
    let touch = |value: &str| json!({"metadata": {"annotations": {"sidewall.dev/refreshed": value}}});
    patch(&operator, pods, "web", None, &touch("1")).unwrap();
    patch(&operator, pods, "web", None, &touch("2")).unwrap();
    for (what, change) in [
        ("another's annotation", json!({"metadata": {"annotations": {"a": "c"}}})),
        ("a new annotation", json!({"metadata": {"annotations": {"c": "d"}}})),
        ("to take an annotation", json!({"metadata": {"annotations": {"a": null}}})),
        ("its own record", json!({"metadata": {"annotations": {"sidewall.dev/proxy": "{}"}}})),
        ("a label", json!({"metadata": {"labels": {"app": "other"}}})),
        ("an image", json!({"spec": {"containers": [{"name": "app", "image": "other"}]}})),
        ("a finalizer", json!({"metadata": {"finalizers": ["a.example/b"]}})),
        (
            "an owner",
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}]}}),
        ),
    ] {
        refused(patch(&operator, pods, "web", None, &change), what);
    }
    for part in ["status", "ephemeralcontainers", "resize"] {
        refused(patch(&operator, pods, "web", Some(part), &touch("3")), part);
    }
    refused(create(&operator, &pod), "to make pods");

    // Parts of split pods, and nothing that is none.
    let part = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "web-part", "namespace": "shop",
            "labels": {"app.kubernetes.io/managed-by": "sidewall-operator", "sidewall.dev/part": "logs"},
            "annotations": {"sidewall.dev/part": "{}"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u", "controller": true}],
        },
        "spec": {"containers": [{"name": "logs", "image": "none"}]},
    });
    for (what, way, value) in [
        ("a part that is not marked as the operator's", "/metadata/labels/app.kubernetes.io~1managed-by", json!("x")),
        ("a primary", "/metadata/labels/sidewall.dev~1part", json!("primary")),
        ("a part without a word of its own", "/metadata/annotations", json!({})),
        ("a part that is nobody's", "/metadata/ownerReferences", json!([])),
        ("a part of what is no pod", "/metadata/ownerReferences/0/kind", json!("ReplicaSet")),
    ] {
        let mut other = part.clone();
        *other.pointer_mut(way).unwrap() = value;
        refused(create(&operator, &other), what);
    }
    create(&operator, &part).unwrap();
    let gate = json!({"status": {"conditions": [{"type": "sidewall.dev/parts-ready", "status": "True"}]}});
    patch(&operator, pods, "web", Some("status"), &gate).unwrap();
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    refused(patch(&operator, pods, "web", Some("status"), &ready), "another condition");
    refused(patch(&operator, pods, "web", Some("status"), &json!({"status": {"phase": "Failed"}})), "a phase");
    let primary = |value: &str| json!({"metadata": {"labels": {"sidewall.dev/primary": value}}});
    refused(patch(&operator, pods, "web", None, &primary("u")), "the label of a pod that is not split");
    patch(&operator, pods, "web-part", None, &primary("u")).unwrap();
    operator.kubectl(&["-n", "shop", "delete", "pod", "web-part"]).unwrap();

    // Events in its own name.
    create(&operator, &event("mine", "sidewall.dev/operator")).unwrap();
    refused(create(&operator, &event("kubelets", "kubelet")), "an event of the kubelet's");
    create(admin, &event("kubelets", "kubelet")).unwrap();
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}});
    let events = "/apis/events.k8s.io/v1/namespaces/shop/events";
    patch(&operator, events, "mine", None, &series).unwrap();
    refused(patch(&operator, events, "kubelets", None, &series), "to change the kubelet's event");

    // And all the rest.
    for request in [
        &["-n", "shop", "exec", "web", "--", "true"][..],
        &["-n", "shop", "logs", "web"],
        &["-n", "shop", "delete", "pod", "web"],
        &["get", "nodes"],
        &["get", "serviceaccounts", "--all-namespaces"],
        &["-n", "shop", "create", "token", "default"],
        &["get", "clusterroles"],
        &["get", "validatingadmissionpolicies"],
        &["delete", "validatingadmissionpolicy", "sidewall-operator-objects"],
        &["delete", "validatingadmissionpolicybinding", "sidewall-operator-objects"],
        &["get", "crds"],
        &["-n", NAMESPACE, "get", "deployments"],
        &["-n", NAMESPACE, "delete", "lease", "sidewall-operator"],
        &["-n", NAMESPACE, "delete", "secret", "sidewall-operator-hooks"],
        &["label", "namespace", "shop", "a=b"],
        &["get", "--raw", "/metrics"],
    ] {
        refused(operator.kubectl(request), &request.join(" "));
    }
}

fn event(name: &str, controller: &str) -> Value {
    let event: Value = serde_json::from_str(&deployed::event(name, controller, "one")).unwrap();
    let mut event = event;
    event["metadata"]["namespace"] = "shop".into();
    event["regarding"]["namespace"] = "shop".into();
    event
}

/// Somebody's certificate, base64 of PEM: the API server takes nothing else for a bundle.
fn authority() -> String {
    use base64::Engine;
    let certificate = sidewall_node_tests::certificates::Authority::new().unwrap();
    static PEM: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    PEM.get_or_init(|| base64::engine::general_purpose::STANDARD.encode(certificate.pem())).clone()
}

#[test]
fn an_upgrade_leaves_what_the_operator_told_the_api_server() {
    let bed = Bed::new();
    let admin = bed.admin();
    let told = |admin: &Api| -> Vec<(Value, Value)> {
        [("mutatingwebhookconfiguration", "sidewall-inject"), ("validatingwebhookconfiguration", "sidewall-validate")]
            .map(|(kind, name)| {
                let webhook = admin.get(&[kind, name]).unwrap()["webhooks"][0].clone();
                (webhook["clientConfig"]["caBundle"].clone(), webhook["timeoutSeconds"].clone())
            })
            .to_vec()
    };
    let tell = |operator: &Api| {
        for (kind, name) in [
            ("mutatingwebhookconfiguration", "sidewall-inject"),
            ("validatingwebhookconfiguration", "sidewall-validate"),
        ] {
            let bundle = json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": authority()}]);
            operator.kubectl(&["patch", kind, name, "--type=json", "-p", &bundle.to_string()]).unwrap();
        }
    };
    let kubeconfig = format!("--kubeconfig={}", admin.kubeconfig().display());
    let helm = |arguments: &[&str]| {
        let own = ["--namespace", NAMESPACE, &kubeconfig];
        helm(&arguments.iter().copied().chain(own).collect::<Vec<_>>()).unwrap()
    };
    helm(&["install", "sidewall", "sidewall", "--set=crds.install=false"]);
    assert_eq!(told(admin), vec![(Value::Null, json!(10)); 2]);
    let operator = bed.account("sidewall-operator", &[]);
    until("the operator's role", LIMIT, || {
        Ok(operator
            .kubectl(&["get", "mutatingwebhookconfiguration", "sidewall-inject"])
            .map(drop)
            .map_err(|error| error.to_string()))
    })
    .unwrap();
    tell(&operator);
    let as_told = |seconds: u64| vec![(Value::from(authority()), json!(seconds)); 2];
    assert_eq!(told(admin), as_told(10));
    helm(&["upgrade", "sidewall", "sidewall", "--reuse-values", "--set=operator.webhook.timeoutSeconds=7"]);
    assert_eq!(told(admin), as_told(7));
    // While the product is taken away nobody waits for it; what serves running pods stays.
    helm(&["upgrade", "sidewall", "sidewall", "--reuse-values", "--set=uninstall.enabled=true"]);
    refused_as_gone(admin, "mutatingwebhookconfiguration", "sidewall-inject");
    refused_as_gone(admin, "validatingwebhookconfiguration", "sidewall-validate");
    admin.get(&["-n", NAMESPACE, "deployment", "sidewall-operator"]).unwrap();
    helm(&["uninstall", "sidewall"]);
    refused_as_gone(admin, "clusterrole", "sidewall-operator");

    // The other way, with kubectl's two ways to apply.
    admin.apply(&manifest()).unwrap();
    assert_eq!(told(admin), vec![(Value::Null, json!(10)); 2]);
    tell(admin);
    let changed = manifest().replace("timeoutSeconds: 10", "timeoutSeconds: 8");
    admin.apply(&changed).unwrap();
    assert_eq!(told(admin), as_told(8));
    let server_side = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    admin.with_input(&server_side, &manifest()).unwrap();
    assert_eq!(told(admin), as_told(10));
}

fn refused_as_gone(admin: &Api, kind: &str, name: &str) {
    let error = admin.get(&[kind, name]).unwrap_err().to_string();
    assert!(error.contains("NotFound"), "{error}");
}

#[test]
fn the_operators_pod_is_one_of_the_restricted() {
    let bed = Bed::new();
    let admin = bed.admin();
    let labels = json!({
        "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest",
    });
    let strict = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict", "labels": labels}});
    admin.apply(&strict.to_string()).unwrap();
    admin.kubectl(&["-n", "strict", "create", "serviceaccount", "sidewall-operator"]).unwrap();
    for values in [&[][..], &["preset=openshift"], &["operator.certificates.source=CertManager"]] {
        let all: Vec<&str> = values.iter().copied().chain(["crds.install=false", "agent.enabled=false"]).collect();
        let text = rendered(&all);
        let deployment = text.split("\n---\n").find(|text| text.contains("\nkind: Deployment\n")).unwrap();
        let printed = admin.with_input(&["create", "--dry-run=client", "-o", "json", "-f", "-"], deployment).unwrap();
        let deployment: Value = serde_json::from_str(&printed).unwrap();
        let spec = &deployment["spec"]["template"]["spec"];
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator", "namespace": "strict"}, "spec": spec});
        let dry = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
        admin.with_input(&dry, &pod.to_string()).unwrap_or_else(|error| panic!("{values:?}: {error}"));
        // That the namespace is as strict as it says.
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
        refused(admin.with_input(&dry, &pod.to_string()), "a pod that is not restricted");
    }
}

#[test]
fn kubernetes_itself_has_no_doubt_about_any_expression() {
    let bed = Bed::new();
    let admin = bed.admin();
    bed.control.start_controllers().unwrap();
    admin.apply(&rendered(&["crds.install=false", "startupTaint.remove=true"])).unwrap();
    let all = admin.get(&["validatingadmissionpolicies"]).unwrap();
    let names: Vec<&str> =
        all["items"].as_array().unwrap().iter().filter_map(|policy| policy["metadata"]["name"].as_str()).collect();
    assert_eq!(names.len(), 12, "{names:?}");
    for name in names {
        let checked = |policy: &Value| policy["status"]["observedGeneration"] == policy["metadata"]["generation"];
        let policy = admin.until("a checked policy", LIMIT, &["validatingadmissionpolicy", name], checked).unwrap();
        assert!(policy["status"]["typeChecking"].get("expressionWarnings").is_none(), "{name}: {}", policy["status"]);
    }
}

#[test]
fn kubernetes_1_29_is_taken_by_who_says_what_goes_missing() {
    let template = |more: &[&str]| {
        let start = ["template", "sidewall", "sidewall", "--namespace", NAMESPACE, "--kube-version=1.29.9"];
        helm(&start.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>())
    };
    let error = template(&[]).unwrap_err();
    assert!(error.contains("admissionPolicies=false"), "{error}");
    let text = template(&["--set=admissionPolicies=false"]).unwrap();
    assert!(!text.contains("kind: ValidatingAdmissionPolicy") && !text.contains("preStop:"), "{text}");
    assert!(text.contains("kind: MutatingWebhookConfiguration"));
}

#[test]
fn each_half_can_be_left_out() {
    let kinds = |values: &[&str]| -> BTreeSet<String> {
        let text = rendered(values);
        text.lines().filter_map(|line| line.strip_prefix("  name: ")).map(str::to_owned).collect()
    };
    let (walls, proxies) = (kinds(&["operator.enabled=false"]), kinds(&["agent.enabled=false"]));
    assert!(walls.contains("sidewall-agent") && !walls.iter().any(|name| name.contains("operator")), "{walls:?}");
    assert!(!walls.contains("sidewall-inject") && !walls.contains("sidewall-validate"));
    assert!(proxies.contains("sidewall-operator") && !proxies.iter().any(|name| name.contains("agent")), "{proxies:?}");
    for names in [walls, proxies] {
        assert!(names.contains("sidewall-reserved-pod-keys") && names.contains("sidewall-view"), "{names:?}");
    }
}
