//! Keys below `sidewall.dev`: that a real API server refuses them from everybody but Sidewall, and lets through what is an author's to
//! say. Needs root.
#![forbid(unsafe_code)]

use std::fs;

use deployed::{Bed, CREATE, LIMIT, NAMESPACE, root};
use serde_json::{Map, Value, json};
use sidewall_node_tests::api::Api;
use sidewall_node_tests::until::until;
use sidewall_operator::names::{AUTHORS_POD_KEYS, OWNERS_NAMESPACE_KEYS, WRITTEN_POD_KEYS};

mod deployed;

const OPERATOR: &str = "--as=system:serviceaccount:sidewall-system:sidewall-operator";
/// A ConfigMap that is called as a proxy's, and older than our policies.
const SQUATTER: &str = "sidewall-old-0123456789abcdef";
/// As many keys of one map as are looked at.
const MOST: usize = 4000;

/// What is written, and whether it may be.
struct Case {
    what: String,
    arguments: Vec<String>,
    object: Value,
    /// What the refusal says; none where it passes.
    refusal: Option<&'static str>,
}

const ALONE: Option<&str> = Some("may be written by Sidewall alone");

fn create(what: impl Into<String>, object: Value, refusal: Option<&'static str>) -> Case {
    let arguments = ["create", "--validate=false", "--dry-run=server", "-f", "-"].map(str::to_owned).to_vec();
    Case { what: what.into(), arguments, object, refusal }
}

fn change(what: impl Into<String>, target: &[&str], change: Value, refusal: Option<&'static str>) -> Case {
    let start = ["patch", "--dry-run=server", "--type=merge", "--patch-file=/dev/stdin"].into_iter();
    let arguments = start.chain(target.iter().copied()).map(str::to_owned).collect();
    Case { what: what.into(), arguments, object: change, refusal }
}

/// A change of the pod `web` by the operator, which may patch pods and not get them: `kubectl patch` would.
fn by_operator(what: &str, metadata: Value, refusal: Option<&'static str>) -> Case {
    let arguments =
        ["apply", "--server-side", "--force-conflicts", "--field-manager=sidewall-operator", "--validate=false"];
    let arguments = arguments.into_iter().chain(["--dry-run=server", OPERATOR, "-f", "-"]).map(str::to_owned).collect();
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": with(metadata, "web", "shop")});
    Case { what: what.into(), arguments, object, refusal }
}

fn judge(api: &Api, cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for case in cases {
        let arguments: Vec<&str> = case.arguments.iter().map(String::as_str).collect();
        let said = api.with_input(&arguments, &case.object.to_string()).map_err(|error| error.to_string());
        match (case.refusal, said) {
            (None, Ok(_)) => {}
            (Some(words), Err(error)) if error.contains(words) => {}
            (_, said) => {
                let said: String = format!("{said:?}").chars().take(600).collect();
                wrong.push(format!("{}: {said}", case.what));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn annotated(key: &str, value: impl Into<Value>) -> Value {
    json!({"annotations": {key: value.into(), "example.com/a": "b"}})
}

fn labelled(key: &str) -> Value {
    json!({"labels": {key: "true", "app": "web"}})
}

fn with(mut metadata: Value, name: &str, namespace: &str) -> Value {
    metadata["name"] = name.into();
    metadata["namespace"] = namespace.into();
    metadata
}

fn pod(namespace: &str, metadata: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": with(metadata, "new", namespace),
        "spec": {"containers": [{"name": "app", "image": "none"}]},
    })
}

/// Where a written key stands.
fn written(key: &str) -> Value {
    if key == "sidewall.dev/fronted" { labelled(key) } else { annotated(key, "{}") }
}

/// Whatever makes pods, with that on its pods' template, and with that on itself.
fn workloads(template: &Value, own: &Value) -> Vec<Value> {
    let mut inner = template.clone();
    inner["labels"]["app"] = "web".into();
    let template = json!({
        "metadata": inner,
        "spec": {"restartPolicy": "Always", "containers": [{"name": "app", "image": "none"}]},
    });
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = "Never".into();
    let selected = json!({"matchLabels": {"app": "web"}});
    let of = |version: &str, kind: &str, mut object: Value| {
        object["apiVersion"] = version.into();
        object["kind"] = kind.into();
        object["metadata"] = with(own.clone(), "made", "plain");
        object
    };
    vec![
        of("apps/v1", "Deployment", json!({"spec": {"selector": selected, "template": template}})),
        of("apps/v1", "ReplicaSet", json!({"spec": {"selector": selected, "template": template}})),
        of("apps/v1", "DaemonSet", json!({"spec": {"selector": selected, "template": template}})),
        of("apps/v1", "StatefulSet", json!({"spec": {"selector": selected, "serviceName": "x", "template": template}})),
        of("batch/v1", "Job", json!({"spec": {"template": once}})),
        of("batch/v1", "CronJob", json!({"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": once}}}})),
        of("v1", "ReplicationController", json!({"spec": {"selector": {"app": "web"}, "template": template}})),
        of("v1", "PodTemplate", json!({"template": template})),
    ]
}

/// Two namespaces, one of them opted in, with accounts; and our policies, known to the API server.
fn bed() -> Bed {
    let bed = Bed::new();
    let admin = bed.admin();
    for (namespace, labels) in [("shop", json!({"sidewall.dev/injection": "enabled"})), ("plain", json!({}))] {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
        admin.apply(&object.to_string()).unwrap();
    }
    for namespace in ["shop", "plain", NAMESPACE] {
        admin.kubectl(&["-n", namespace, "create", "serviceaccount", "default"]).unwrap();
    }
    bed
}

fn install(admin: &Api) {
    admin.apply(&fs::read_to_string(root().join("deploy/manifests/kubeadm.yaml")).unwrap()).unwrap();
    // Nobody answers here; a pod of a namespace that opted in would wait.
    until("the webhook to be asked", LIMIT, || {
        Ok(match admin.with_input(&["create", "--dry-run=server", "-f", "-"], &pod("shop", json!({})).to_string()) {
            Err(error) if error.to_string().contains("inject.sidewall.dev") => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
    .unwrap();
    admin.with_input(&["create", "--dry-run=server", "-f", "-"], &pod("plain", json!({})).to_string()).unwrap();
    admin.kubectl(&["delete", "mutatingwebhookconfiguration", "sidewall-inject"]).unwrap();
    until("the webhook to be gone and the policies to be known", LIMIT, || {
        let asked = |object: Value| {
            let said = admin.with_input(&["create", "--dry-run=server", "-f", "-"], &object.to_string());
            said.map_or_else(|error| error.to_string(), |_| "created".to_owned())
        };
        let reserved = annotated("sidewall.dev/x", "y");
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": with(reserved.clone(), "n", "")});
        let template = workloads(&reserved, &json!({})).remove(0);
        let marked = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": with(json!({"labels": {"app.kubernetes.io/managed-by": "sidewall-operator"}}), "c", "plain"),
        });
        let mut named = managed("ConfigMap", "sidewall-web-0123456789abcdef");
        named["metadata"]["labels"] = json!({"a": "b"});
        let said = [pod("plain", reserved), namespace, template, marked, named].map(asked);
        let refused = said.iter().all(|said| said.contains("by Sidewall alone"));
        let free = asked(pod("shop", json!({})));
        Ok(if refused && free == "created" { Ok(()) } else { Err(format!("{said:?}, {free}")) })
    })
    .unwrap();
}

fn pods() -> Vec<Case> {
    let mut cases = Vec::new();
    for namespace in ["shop", "plain"] {
        for key in AUTHORS_POD_KEYS {
            cases.push(create(format!("an author's {key} in {namespace}"), pod(namespace, annotated(key, "x")), None));
            cases.push(create(format!("{key} as a label"), pod(namespace, labelled(key)), ALONE));
        }
        for key in ["sidewall.dev/injection", "sidewall.dev/trusted", "x.sidewall.dev/y"] {
            cases.push(create(format!("{key} in {namespace}"), pod(namespace, annotated(key, "x")), ALONE));
            cases.push(create(format!("label {key} in {namespace}"), pod(namespace, labelled(key)), ALONE));
        }
        for key in ["notsidewall.dev/x", "sidewall.dev.example.com/x", "sidewall.dev", "a/sidewall.dev"] {
            cases.push(create(format!("{key} in {namespace}"), pod(namespace, annotated(key, "x")), None));
            cases.push(create(format!("label {key} in {namespace}"), pod(namespace, labelled(key)), None));
        }
    }
    for key in WRITTEN_POD_KEYS {
        // The webhook has just written it, in the creator's name.
        cases.push(create(format!("{key} where it is injected"), pod("shop", written(key)), None));
        cases.push(create(format!("a forged {key} where nothing is"), pod("plain", written(key)), ALONE));
        cases.push(create(format!("a forged {key} in an excluded namespace"), pod(NAMESPACE, written(key)), ALONE));
        // The webhook is not asked about these.
        let mut mirror = pod("shop", written(key));
        mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "x".into();
        mirror["spec"]["nodeName"] = "n1".into();
        cases.push(create(format!("{key} on the image of a static pod"), mirror, ALONE));
        let elsewhere = if key == "sidewall.dev/fronted" { annotated(key, "true") } else { labelled(key) };
        cases.push(create(format!("{key} where injection does not write it"), pod("shop", elsewhere), ALONE));
    }
    cases
}

/// A pod that has a proxy.
fn fronted() -> Value {
    let mut fronted = pod(
        "shop",
        json!({
            "annotations": {
                "sidewall.dev/proxy": "{}", "sidewall.dev/probes": "{}", "sidewall.dev/refreshed": "0",
                "sidewall.dev/assign-uids": "true",
            },
            "labels": {"sidewall.dev/fronted": "true", "app": "web"},
        }),
    );
    fronted["metadata"]["name"] = "web".into();
    fronted
}

fn changes() -> Vec<Case> {
    let mut cases = Vec::new();
    let web = |more: &'static [&'static str]| -> Vec<&'static str> {
        ["-n", "shop", "pod", "web"].into_iter().chain(more.iter().copied()).collect()
    };
    let metadata = |metadata: Value| json!({"metadata": metadata});
    for subresource in [&[][..], &["--subresource=status"], &["--subresource=resize"]] {
        let target = web(subresource);
        for key in WRITTEN_POD_KEYS {
            let (mut other, mut none) = (written(key), written(key));
            for (map, value) in [(&mut other, json!("other")), (&mut none, Value::Null)] {
                for place in ["annotations", "labels"] {
                    if map[place].get(key).is_some() {
                        map[place][key] = value.clone();
                    }
                }
            }
            // What a change of resources says of annotations counts for nothing.
            let refusal = if subresource == ["--subresource=resize"] { None } else { ALONE };
            cases.push(change(format!("to change {key} {subresource:?}"), &target, metadata(other), refusal));
            cases.push(change(format!("to remove {key} {subresource:?}"), &target, metadata(none), refusal));
        }
        let refusal = if subresource == ["--subresource=resize"] { None } else { ALONE };
        let refreshed = metadata(annotated("sidewall.dev/refreshed", "1"));
        cases.push(change(format!("to refresh {subresource:?}"), &target, refreshed, refusal));
        cases.push(change("another's annotation", &target, metadata(annotated("example.com/b", "1")), None));
        cases.push(change("another's label", &target, metadata(json!({"labels": {"tier": "front"}})), None));
        let authors = annotated("sidewall.dev/assign-uids", "false");
        cases.push(change("an author's annotation", &target, metadata(authors), None));
    }
    cases.push(change("a condition", &web(&["--subresource=status"]), json!({"status": {"message": "x"}}), None));
    let ephemeral = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "none"}]}});
    cases.push(change("an ephemeral container", &web(&["--subresource=ephemeralcontainers"]), ephemeral, None));
    let refuses = Some("may change nothing of a pod but");
    for (what, annotations, refusal) in [
        ("the operator refreshes", json!({"sidewall.dev/refreshed": "1"}), None),
        (
            "the operator and another's annotation",
            json!({"sidewall.dev/refreshed": "1", "example.com/a": "b"}),
            refuses,
        ),
        ("the operator and its record", json!({"sidewall.dev/proxy": "x"}), refuses),
    ] {
        cases.push(by_operator(what, json!({"annotations": annotations}), refusal));
    }
    cases
}

fn templates() -> Vec<Case> {
    let mut cases = Vec::new();
    let none = json!({});
    for key in WRITTEN_POD_KEYS.into_iter().chain(["x.sidewall.dev/y"]) {
        for metadata in [annotated(key, "x"), labelled(key)] {
            for object in workloads(&metadata, &none).into_iter().chain(workloads(&none, &metadata)) {
                cases.push(create(format!("{metadata} in {object}"), object, ALONE));
            }
        }
    }
    for key in AUTHORS_POD_KEYS {
        for object in workloads(&annotated(key, "x"), &annotated(key, "x")) {
            cases.push(create(format!("an author's {key} in {object}"), object, None));
        }
        for object in workloads(&labelled(key), &none) {
            cases.push(create(format!("{key} as a label in {object}"), object, ALONE));
        }
    }
    for object in workloads(&annotated("notsidewall.dev/x", "y"), &labelled("a/sidewall.dev")) {
        cases.push(create(format!("nothing of ours in {object}"), object, None));
    }
    // A job's own metadata in a CronJob.
    let mut cron = workloads(&none, &none).remove(5);
    assert_eq!(cron["kind"], "CronJob");
    cron["spec"]["jobTemplate"]["metadata"] = annotated("sidewall.dev/proxy", "x");
    cases.push(create("on a CronJob's jobs", cron, ALONE));
    cases
}

fn namespaces() -> Vec<Case> {
    let mut cases = Vec::new();
    let namespace =
        |metadata: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": with(metadata, "new", "")});
    for key in OWNERS_NAMESPACE_KEYS {
        let (free, not) = if key == "sidewall.dev/injection" {
            (labelled(key), annotated(key, "enabled"))
        } else {
            (annotated(key, "true"), labelled(key))
        };
        cases.push(create(format!("an owner's {key}"), namespace(free.clone()), None));
        cases.push(create(format!("{key} where nobody reads it"), namespace(not), ALONE));
        cases.push(change(format!("to set {key}"), &["namespace", "plain"], json!({"metadata": free}), None));
    }
    for key in ["sidewall.dev/proxy", "sidewall.dev/trusted", "x.sidewall.dev/y"] {
        for metadata in [annotated(key, "x"), labelled(key)] {
            cases.push(create(format!("{metadata} on a namespace"), namespace(metadata.clone()), ALONE));
            let target = ["namespace", "plain"];
            cases.push(change(format!("to set {metadata}"), &target, json!({"metadata": metadata}), ALONE));
            let target = ["namespace", "plain", "--subresource=status"];
            cases.push(change(format!("to set {metadata} by status"), &target, json!({"metadata": metadata}), ALONE));
        }
    }
    let opt_out = json!({"metadata": {"labels": {"sidewall.dev/injection": null}}});
    cases.push(change("to opt out", &["namespace", "shop"], opt_out, None));
    cases
}

fn managed(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": kind,
        "metadata": {"name": name, "namespace": "shop", "labels": {"app.kubernetes.io/managed-by": "sidewall-operator"}},
        "data": {"proxy.yaml": "e30="},
    })
}

fn objects() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, target) in [("ConfigMap", ["-n", "shop", "configmap"]), ("Secret", ["-n", "shop", "secret"])] {
        let of = |name: &'static str| target.into_iter().chain([name]).collect::<Vec<_>>();
        cases.push(create(format!("a forged {kind}"), managed(kind, "new"), ALONE));
        let mut others = managed(kind, "new");
        others["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm".into();
        cases.push(create(format!("another's {kind}"), others, None));
        let change = |what: &str, name, to, refusal| change(format!("{kind}: {what}"), &of(name), to, refusal);
        let label = |value: Value| json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": value}}});
        cases.extend([
            change("content", "ours", json!({"data": {"proxy.yaml": "eA=="}}), ALONE),
            change("more content", "ours", json!({"data": {"x": "eA=="}}), ALONE),
            change("immutable", "ours", json!({"immutable": true}), ALONE),
            change("to take the label off", "ours", label(Value::Null), ALONE),
            change("another label", "ours", json!({"metadata": {"labels": {"a": "b"}}}), ALONE),
            change("an annotation", "ours", json!({"metadata": {"annotations": {"a": "b"}}}), ALONE),
            change("to put the label on", "theirs", label("sidewall-operator".into()), ALONE),
            change(
                "a finalizer, as Kubernetes itself does",
                "ours",
                json!({"metadata": {"finalizers": ["a.example/b"]}}),
                None,
            ),
            change("their own content", "theirs", json!({"data": {"x": "eA=="}}), None),
        ]);
    }
    // Proxies' configurations are found by their names.
    for (name, refusal) in [
        ("sidewall-web-0123456789abcdef", ALONE),
        ("sidewall-web.example-0123456789abcdef", ALONE),
        ("sidewall-web-0123456789abcde", None),
        ("sidewall-web-0123456789abcdefg", None),
        ("other-sidewall-web-0123456789abcdef", None),
    ] {
        let mut squatter = managed("ConfigMap", name);
        squatter["metadata"]["labels"] = json!({"a": "b"});
        cases.push(create(format!("a ConfigMap called {name}"), squatter, refusal));
    }
    let squatter = ["-n", "shop", "configmap", SQUATTER];
    let content = json!({"data": {"proxy.yaml": "eA=="}});
    cases.push(change("what somebody has put into its place before", &squatter, content, ALONE));
    let finalizer = json!({"metadata": {"finalizers": ["a.example/b"]}});
    cases.push(change("nothing of it", &squatter, finalizer, None));
    cases
}

/// A map of that many keys, which are as long as may be and take as long to look at as any.
fn many(count: usize) -> Value {
    let prefix = format!("{}.{}.{}.notsidewall.dev", "a".repeat(63), "b".repeat(63), "c".repeat(60));
    let key = |at: usize| format!("{prefix}/k{at:062}");
    Value::Object((0..count).map(|at| (key(at), json!("v"))).collect::<Map<_, _>>())
}

fn hostile() -> Vec<Case> {
    let most = || many(MOST);
    let more = || many(MOST + 1);
    let refusal = Some("more than 4000 annotations or labels");
    let mut cases = vec![
        create("as many labels as are looked at", pod("shop", json!({"labels": most()})), None),
        create("one more label", pod("shop", json!({"labels": more()})), refusal),
        change(
            "more labels on a pod that is there",
            &["-n", "shop", "pod", "web"],
            json!({"metadata": {"labels": more()}}),
            refusal,
        ),
        change(
            "the most on a pod that is there",
            &["-n", "shop", "pod", "web"],
            json!({"metadata": {"labels": many(MOST - 2)}}),
            None,
        ),
        change(
            "more labels by status",
            &["-n", "shop", "pod", "web", "--subresource=status"],
            json!({"metadata": {"labels": more()}}),
            refusal,
        ),
        // What has had as many before stays what it is, and its status goes on.
        change(
            "the status of a pod with very many",
            &["-n", "shop", "pod", "old", "--subresource=status"],
            json!({"status": {"message": "x"}}),
            None,
        ),
        change(
            "another of very many",
            &["-n", "shop", "pod", "old"],
            json!({"metadata": {"labels": {"a": "b"}}}),
            refusal,
        ),
        create(
            "a namespace",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": more()}}),
            refusal,
        ),
    ];
    let mut with_one = most();
    with_one["sidewall.dev/x"] = "y".into();
    let object = with_one.as_object_mut().unwrap();
    let first = object.keys().next().unwrap().clone();
    object.remove(&first);
    cases.push(create("one of ours among as many", pod("shop", json!({"labels": with_one})), ALONE));
    // Each key may be short, and there may be many more.
    let short: Map<String, Value> = (0..20_000).map(|at| (format!("{at:x}"), json!(""))).collect();
    cases.push(create("20,000 short labels", pod("shop", json!({"labels": short})), refusal));
    let kinds = workloads(&json!({"annotations": {}}), &json!({"labels": more()}));
    cases.extend(kinds.into_iter().map(|object| create(format!("a {}", object["kind"]), object, refusal)));
    // As many as an object of this size can have in two places.
    let kinds = workloads(&json!({"labels": many(2000)}), &json!({"labels": many(2000)}));
    cases.extend(kinds.into_iter().map(|object| create(format!("a full {}", object["kind"]), object, None)));
    cases
}

#[test]
fn reserved_keys_are_sidewalls_alone() {
    let bed = bed();
    let admin = bed.admin();
    // What was there before, with more than anybody has.
    let mut old = pod("shop", json!({"labels": many(3000)}));
    old["metadata"]["name"] = "old".into();
    let short: Map<String, Value> = (0..5000).map(|at| (format!("{at:x}"), json!(""))).collect();
    old["metadata"]["labels"] = Value::Object(short);
    admin.with_input(&CREATE, &old.to_string()).unwrap();
    let mut squatter = managed("ConfigMap", SQUATTER);
    squatter["metadata"]["labels"] = json!({"a": "b"});
    admin.with_input(&CREATE, &squatter.to_string()).unwrap();
    install(admin);
    admin.with_input(&CREATE, &fronted().to_string()).unwrap();
    for kind in ["ConfigMap", "Secret"] {
        let ours = ["create", "--validate=false", "-f", "-", OPERATOR];
        admin.with_input(&ours, &managed(kind, "ours").to_string()).unwrap();
        let mut theirs = managed(kind, "theirs");
        theirs["metadata"]["labels"] = json!({"a": "b"});
        admin.with_input(&CREATE, &theirs.to_string()).unwrap();
    }
    let all = [pods(), changes(), templates(), namespaces(), objects(), hostile()];
    judge(admin, all.into_iter().flatten().collect());

    // Whoever binds a pod to a node writes its annotations.
    let bind = |annotations: Value| {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "web", "annotations": annotations},
            "target": {"kind": "Node", "name": "n1"},
        });
        let path = "/api/v1/namespaces/shop/pods/web/binding";
        admin.with_input(&["create", "--raw", path, "-f", "-"], &binding.to_string())
    };
    let error = bind(json!({"sidewall.dev/proxy": "{\"forged\":1}"})).unwrap_err().to_string();
    assert!(error.contains("by Sidewall alone"), "{error}");
    bind(json!({"example.com/a": "b"})).unwrap();
    let bound = admin.get(&["-n", "shop", "pod", "web"]).unwrap();
    assert_eq!(bound["metadata"]["annotations"]["example.com/a"], "b", "a Binding's annotations are the pod's");
    assert_eq!(bound["metadata"]["annotations"]["sidewall.dev/proxy"], "{}");

    // What is the operator's may be deleted, as Kubernetes itself deletes what has lost its owner.
    admin.kubectl(&["-n", "shop", "delete", "configmap", "ours"]).unwrap();
}
