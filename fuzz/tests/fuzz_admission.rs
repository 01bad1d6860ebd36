//! What the API server asks the operator's webhooks, with pods and objects of ours from whoever may write them. Nothing
//! panics; a patch applies, keeps a sound pod sound, and a second call changes nothing; what of our kinds may be stored is
//! understood, and nobody gets a Secret used that he may not read. Answers are bounded and belong to their questions.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bolero::{TypeGenerator, produce};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use sidewall_api::read::{read_policy, read_proxy, read_split};
use sidewall_api::{PodSplit, SidecarProxy, UnreadablePolicy, UnreadableSplit};
use sidewall_fuzz::{Input, Tally, Tree, cost, effort};
use sidewall_operator::admission::probes::HookSecret;
use sidewall_operator::admission::review::{self, Cluster, Decision};
use sidewall_operator::admission::validate::{self, Content, Facts, KnownPod, Permission, SecretContent};
use sidewall_operator::{Settings, Surroundings, Why};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

/// What a target is given.
#[derive(Clone, Debug, TypeGenerator)]
enum Case {
    /// Reviews whose bytes are anything.
    Bytes(Input),
    /// A pod on its way into the cluster.
    Pod {
        pod: Tree,
        /// Which settings, and which SidecarProxies there are.
        surroundings: u8,
    },
    /// An object of ours that is created, or changed where there is an old one.
    Object {
        object: Tree,
        old: Option<Tree>,
        /// What is answered to each question, in their order.
        #[generator(produce::<Vec<u8>>().with().len(1..=4_usize))]
        answers: Vec<u8>,
    },
}

static READ: Tally = Tally::new();

const NAMESPACE: &str = "shop";

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("our own YAML")
}

static PODS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    [
        "{apiVersion: v1, kind: Pod, metadata: {labels: {app: web}}, spec: {containers: [{name: app, image: a}]}}",
        "
apiVersion: v1
kind: Pod
metadata:
  generateName: web-
  namespace: shop
  labels: {app: web, tier: front}
  annotations: {sidewall.dev/assign-uids: 'true', sidewall.dev/drop-capabilities: 'SETUID,SETGID', sidewall.dev/loopback-ports: '9090', x: y}
spec:
  restartPolicy: Always
  terminationGracePeriodSeconds: 30
  securityContext: {runAsNonRoot: true, fsGroup: 5, sysctls: [{name: net.ipv4.tcp_syncookies, value: '1'}]}
  initContainers:
  - {name: migrate, image: a, command: [x]}
  - {name: side, image: a, restartPolicy: Always, startupProbe: {tcpSocket: {port: 9000}}}
  containers:
  - name: app
    image: a
    ports: [{name: http, containerPort: 8080, protocol: TCP}, {containerPort: 53, protocol: UDP}]
    resources: {requests: {cpu: 1, memory: 1Gi}, limits: {cpu: '1', memory: 1Gi}}
    securityContext: {runAsUser: 1000, capabilities: {add: [NET_BIND_SERVICE], drop: [ALL]}}
    livenessProbe: {httpGet: {path: /healthz, port: http, httpHeaders: [{name: X, value: y}]}, periodSeconds: 3}
    readinessProbe: {grpc: {port: 9090, service: s}, timeoutSeconds: 2}
    lifecycle: {preStop: {httpGet: {path: /stop, port: 8080}}}
    volumeMounts: [{name: data, mountPath: /data}]
    env: [{name: PASSWORD, value: sesame}]
  - {name: log-shipper, image: a, readinessProbe: {exec: {command: [x]}}}
  volumes: [{name: data, emptyDir: {}}]
",
        "
apiVersion: v1
kind: Pod
metadata: {name: other, labels: {app: other}, annotations: {sidewall.dev/assign-uids: 'true'}}
spec: {containers: [{name: a, image: a}, {name: b, image: b, securityContext: {runAsUser: 7}}], serviceAccountName: default}
",
    ]
    .map(yaml)
    .into()
});

static OBJECTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    [
        "
apiVersion: sidewall.dev/v1alpha1
kind: SidecarProxy
metadata: {name: web, namespace: shop, creationTimestamp: 2026-01-01T00:00:00Z}
spec:
  podSelector: {matchLabels: {app: web}}
  listeners:
  - port: 80
    forward: {port: 8080}
    authentication: [{basic: {secretName: web-users, key: htpasswd, realm: Protected}}]
",
        "
apiVersion: sidewall.dev/v1alpha1
kind: SidecarProxy
metadata: {name: all, namespace: shop, creationTimestamp: 2026-02-01T00:00:00Z}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [web, other]}]}
  containerName: door
  listeners:
  - port: 8443
    forward: {port: 8080}
    tls: {secretName: web-tls, minVersion: '1.3', certificate: {source: CertManager, issuerRef: {name: ca}}}
    authentication: [{basic: {secretName: web-users, key: htpasswd}}]
  - {port: 9443, forward: {port: 9090}, tls: {secretName: web-tls}, anonymous: true}
  capture: {inbound: [8080]}
  probes: {port: 15500}
  admin: {port: 15501, address: 0.0.0.0}
",
        "
apiVersion: sidewall.dev/v1alpha1
kind: ContainerNetworkPolicy
metadata: {name: shipper, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  containers: [log-shipper]
  policyTypes: [Ingress, Egress]
  ingress: [{from: [{container: app}, {podSelector: {}, namespaceSelector: {}}], ports: [{port: http, protocol: TCP}]}]
  egress:
  - {to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, {entity: World}], ports: [{port: 1, endPort: 9}]}
  - {to: [{entity: ClusterDNS}]}
",
    ]
    .map(yaml)
    .into()
});

static VALUES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let texts = [
        "",
        " ",
        "app",
        "web",
        "front-proxy",
        "door",
        "http",
        "TCP",
        "UDP",
        "8080",
        "80",
        "/",
        "..",
        "a/b",
        "A",
        "true",
        "shop",
        "sidewall-config",
        "sidewall-secret-0",
        "/etc/sidewall/proxy",
        "/etc/sidewall/secrets/web-users",
        "Always",
        "localhost",
        "10.0.0.0/8",
        "::1",
        "\u{0}",
        "\u{1b}[2J",
        "ä",
        "NET_ADMIN",
        "ALL",
        "linux",
        "windows",
        "1Gi",
        "NaN",
        "null",
        "{}",
        "net.ipv4.ip_unprivileged_port_start",
        "{\"proxy\":\"web\",\"container\":\"front-proxy\"}",
        "web-users",
        "web-tls",
    ];
    let numbers = [
        -1_i64,
        0,
        1,
        22,
        53,
        80,
        443,
        1000,
        1024,
        8080,
        8443,
        9090,
        15_021,
        61_802,
        65_535,
        65_536,
        i64::MAX,
        i64::MIN,
    ];
    let mut values: Vec<Value> = texts.iter().map(|text| json!(text)).chain(numbers.map(Value::from)).collect();
    values.extend([
        json!(null),
        json!(true),
        json!(false),
        json!(1.5),
        json!([]),
        json!({}),
        json!([null]),
        json!([[]]),
    ]);
    values.push(json!("x".repeat(3000)));
    values.push(json!({"httpGet": {"path": "/a b?c=\u{1}", "port": 8080, "scheme": "HTTPS", "host": "10.0.0.1"}}));
    values.push(json!({"tcpSocket": {"port": "http"}}));
    values.push(json!({"name": "front-proxy", "image": "forged", "restartPolicy": "Always"}));
    values.push(json!({"name": "app", "image": "a", "ports": [{"containerPort": 80, "hostPort": 80}]}));
    values.push(json!({"name": "sidewall-config", "emptyDir": {}}));
    values.push(json!({"runAsUser": 0, "privileged": true, "capabilities": {"add": ["NET_RAW", "SYS_ADMIN"]}}));
    values
});

const NAMES: &[&str] = &[
    "securityContext",
    "startupProbe",
    "livenessProbe",
    "readinessProbe",
    "lifecycle",
    "preStop",
    "postStart",
    "ports",
    "hostPort",
    "initContainers",
    "containers",
    "ephemeralContainers",
    "volumes",
    "volumeMounts",
    "name",
    "hostNetwork",
    "hostUsers",
    "os",
    "shareProcessNamespace",
    "runAsUser",
    "runAsGroup",
    "sysctls",
    "annotations",
    "labels",
    "sidewall.dev/proxy",
    "sidewall.dev/probes",
    "sidewall.dev/fronted",
    "sidewall.dev/refreshed",
    "sidewall.dev/assign-uids",
    "sidewall.dev/drop-capabilities",
    "sidewall.dev/loopback-ports",
    "kubernetes.io/config.mirror",
    "app",
    "restartPolicy",
    "unheardOf",
    "resources",
    "tls",
    "secretName",
    "certFile",
    "certificate",
    "authentication",
    "anonymous",
    "matchLabels",
    "matchExpressions",
    "podSelector",
    "capture",
    "containerName",
    "ipBlock",
    "entity",
    "container",
    "port",
    "endPort",
    "status",
    "spec",
    "metadata",
    "automountServiceAccountToken",
];

struct World {
    namespace: Surroundings,
    proxies: Vec<SidecarProxy>,
    unreadable: Vec<UnreadablePolicy>,
    splits: Vec<PodSplit>,
}

impl Cluster for World {
    fn namespace(&self, name: &str) -> Option<&Surroundings> {
        (name == NAMESPACE).then_some(&self.namespace)
    }

    fn proxies(&self, _: &str) -> Vec<&SidecarProxy> {
        self.proxies.iter().collect()
    }

    fn unreadable(&self, _: &str) -> Vec<&UnreadablePolicy> {
        self.unreadable.iter().collect()
    }

    fn secret_version(&self, _: &str, secret: &str) -> Option<&str> {
        (secret == "web-users").then_some("1")
    }

    fn splits(&self, _: &str) -> Vec<&PodSplit> {
        self.splits.iter().collect()
    }

    fn unreadable_splits(&self, _: &str) -> Vec<&UnreadableSplit> {
        Vec::new()
    }
}

fn namespace() -> Surroundings {
    let labels = [("sidewall.dev/injection".to_owned(), "enabled".to_owned())].into();
    Surroundings { name: NAMESPACE.to_owned(), labels, annotations: BTreeMap::new() }
}

fn world(surroundings: u8) -> World {
    let proxies: Vec<SidecarProxy> =
        OBJECTS.iter().take(2).map(|object| read_proxy(object.clone()).expect("our own").object).collect();
    let proxies = match surroundings % 4 {
        0 => proxies[..1].to_vec(),
        1 => proxies[1..].to_vec(),
        _ => proxies,
    };
    let mut namespace = namespace();
    if surroundings & 4 != 0 {
        namespace.annotations.insert("openshift.io/sa.scc.uid-range".to_owned(), "1000650000/10000".to_owned());
    }
    let broken = json!({"kind": "SidecarProxy", "metadata": {"name": "b", "namespace": NAMESPACE}, "spec": {"podSelector": {"matchLabels": {"app": "other"}}}});
    let unreadable =
        if surroundings & 8 == 0 { Vec::new() } else { vec![*read_proxy(broken).expect_err("it has no listener")] };
    // A container that pods are drawn with often.
    let split = json!({"apiVersion": "sidewall.dev/v1alpha1", "kind": "PodSplit",
        "metadata": {"name": "s", "namespace": NAMESPACE},
        "spec": {"podSelector": {}, "parts": [{"name": "logs", "containers": ["log-shipper"]}]}});
    let splits = if surroundings & 32 == 0 { Vec::new() } else { vec![read_split(split).expect("our own").object] };
    World { namespace, proxies, unreadable, splits }
}

fn settings(surroundings: u8) -> Settings {
    let identity = if surroundings & 16 == 0 { "cgroup" } else { "uid" };
    serde_json::from_value(json!({"proxy": {"image": "proxy:1"}, "identity": identity})).expect("our own settings")
}

fn secret() -> HookSecret {
    HookSecret::new(&[7; 32]).expect("32 bytes")
}

fn review(resource: &Value, operation: &str, object: &Value, old: &Value) -> Vec<u8> {
    let review = json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5", "resource": resource, "namespace": NAMESPACE, "operation": operation,
            "userInfo": {"username": "mallory", "groups": ["dev"]}, "object": object, "oldObject": old,
        },
    });
    serde_json::to_vec(&review).expect("a tree can be written")
}

/// The response, which belongs to the question and is bounded.
fn response(body: &[u8]) -> Value {
    let mut body: Value = serde_json::from_slice(body).expect("an answer is JSON");
    let response = body["response"].take();
    assert!(response["uid"] == "705ab4f5" && response["allowed"].is_boolean(), "{response}");
    let warnings = response["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(warnings.len() <= 16, "{warnings:?}");
    for text in warnings.iter().chain([&response["status"]["message"]]).filter_map(Value::as_str) {
        assert!(text.chars().count() <= 4096 && !text.contains(char::is_control), "{text:?}");
        // The pod has it in its environment, and no message has reason to speak of that.
        assert!(!text.contains("sesame"), "{text:?}");
    }
    assert!(warnings.iter().filter_map(Value::as_str).all(|text| text.chars().count() <= 256), "{warnings:?}");
    assert_eq!(response["allowed"] == false, response["status"]["message"].is_string(), "{response}");
    response
}

fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// What of the API server's rules injection could break.
fn unsound(pod: &Value) -> Option<String> {
    if let Err(error) = serde_json::from_value::<Pod>(pod.clone()) {
        return Some(format!("it is no pod: {error}"));
    }
    let label = |name: &str| {
        let inner = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !name.is_empty() && name.len() <= 63 && !name.starts_with('-') && !name.ends_with('-')
    };
    let volumes: Vec<&str> = list(pod, "/spec/volumes").filter_map(|volume| volume["name"].as_str()).collect();
    let mut seen = BTreeSet::new();
    if let Some(bad) = volumes.iter().find(|name| !label(name) || !seen.insert(**name)) {
        return Some(format!("volume {bad:?}"));
    }
    let mut names = BTreeSet::new();
    for container in list(pod, "/spec/initContainers").chain(list(pod, "/spec/containers")) {
        let name = container["name"].as_str().unwrap_or_default();
        if !label(name) || !names.insert(name) {
            return Some(format!("container {name:?}"));
        }
        let mut paths = BTreeSet::new();
        for mount in list(container, "/volumeMounts") {
            let (volume, path) =
                (mount["name"].as_str().unwrap_or_default(), mount["mountPath"].as_str().unwrap_or_default());
            if !volumes.contains(&volume) || path.is_empty() || !paths.insert(path) {
                return Some(format!("mount {volume:?} at {path:?}"));
            }
        }
        let mut ports = BTreeSet::new();
        for port in list(container, "/ports").filter_map(|port| port["name"].as_str()).filter(|name| !name.is_empty()) {
            if !ports.insert(port) {
                return Some(format!("port {port:?}"));
            }
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let ways = ["httpGet", "tcpSocket", "grpc", "exec"]
                .iter()
                .filter(|way| !container[probe][**way].is_null())
                .count();
            if !container[probe].is_null() && ways != 1 {
                return Some(format!("{probe} asks in {ways} ways"));
            }
        }
    }
    let mut sysctls = BTreeSet::new();
    for sysctl in list(pod, "/spec/securityContext/sysctls").filter_map(|sysctl| sysctl["name"].as_str()) {
        if !sysctls.insert(sysctl.replace('/', ".")) {
            return Some(format!("sysctl {sysctl:?}"));
        }
    }
    let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object).into_iter().flatten();
    let size: usize = annotations.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    (size > 256 << 10).then(|| format!("{size} octets of annotations"))
}

fn check_pod(pod: &Value, surroundings: u8) {
    let (world, settings, secret) = (world(surroundings), settings(surroundings), secret());
    let pods = json!({"group": "", "version": "v1", "resource": "pods"});
    let ask = |pod: &Value| {
        let bytes = review(&pods, "CREATE", pod, &Value::Null);
        let (answer, cost) = cost::of(|| review::answer(&bytes, &world, &secret, &settings).expect("it is a review"));
        cost.at_most(Duration::from_millis(500), 32 << 20);
        let response = response(&answer.body);
        (answer, response)
    };
    let (answer, first) = ask(pod);
    match &answer.decision {
        Decision::Patched => {
            READ.reached();
            let patch = BASE64_STANDARD.decode(first["patch"].as_str().expect("a patch")).expect("base64");
            let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("RFC 6902");
            let mut patched = pod.clone();
            json_patch::patch(&mut patched, &patch).expect("our patch applies");
            if unsound(pod).is_none() {
                assert_eq!(unsound(&patched), None, "{pod}\nbecame\n{patched}");
            }
            let (again, second) = ask(&patched);
            assert_eq!(again.decision, Decision::Untouched(Why::Done), "{pod}\nbecame\n{patched}");
            assert_eq!(second.get("patch"), None);
        }
        Decision::Refused(_) => assert_eq!(first["allowed"], false),
        Decision::Untouched(_) | Decision::NotOurs => {
            assert!(first["allowed"] == true && first.get("patch").is_none(), "{first}");
        }
    }
}

fn check_object(object: &Value, old: Option<&Value>, answers: &[u8]) {
    let proxy = object["kind"] != "ContainerNetworkPolicy";
    let resource = if proxy { "sidecarproxies" } else { "containernetworkpolicies" };
    let resource = json!({"group": "sidewall.dev", "version": "v1alpha1", "resource": resource});
    let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
    let bytes = review(&resource, operation, object, old.unwrap_or(&Value::Null));
    let others = world(2).proxies;
    let proxies: Vec<&SidecarProxy> = others.iter().collect();
    let policies = [read_policy(OBJECTS[2].clone()).expect("our own").object];
    let policies: Vec<_> = policies.iter().collect();
    let own = namespace();
    let labels: BTreeMap<String, String> = [("app".to_owned(), "web".to_owned())].into();
    let pods = [KnownPod { labels: &labels, host_network: false, containers: None }];
    let ((answer, refuses), cost) = cost::of(|| {
        let question = validate::read(&bytes).expect("it is a review");
        let mut facts = Facts {
            now: Some(0),
            namespace: Some(&own),
            pods: Some(&pods),
            proxies: &proxies,
            policies: &policies,
            ..Facts::default()
        };
        let mut refuses = false;
        for (access, answer) in question.wants().access.into_iter().zip(answers.iter().cycle()) {
            let permission = match answer % 8 {
                0 => Permission::Denied,
                1 => Permission::Unanswered("sesame".repeat(usize::from(*answer)).replace("sesame", "later ")),
                _ => Permission::Allowed,
            };
            refuses |= permission != Permission::Allowed;
            facts.access.insert(access.clone(), permission);
            if let validate::Access::Secret(name) = access {
                let content = match answer % 3 {
                    0 => Content::Missing,
                    1 => Content::Unread("\u{1b}[2J".to_owned()),
                    _ => Content::Found(secret_content()),
                };
                facts.contents.insert(name.clone(), content);
            }
        }
        (question.answer(&facts, &settings(0)).expect("an answer can be written"), refuses)
    });
    cost.at_most(Duration::from_millis(500), 32 << 20);
    let response = response(&answer.body);
    if refuses {
        assert_eq!(response["allowed"], false, "{object}");
    } else if matches!(answer.decision, validate::Decision::Allowed { .. }) {
        READ.reached();
        let stays = old.is_some_and(|old| old.get("spec").is_some() && old.get("spec") == object.get("spec"));
        // The API server has seen to the metadata, and nobody but us writes the status.
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
            fields.insert("metadata".to_owned(), json!({"name": "x", "namespace": NAMESPACE}));
        }
        let understood = if proxy { read_proxy(object.clone()).is_ok() } else { read_policy(object.clone()).is_ok() };
        assert!(understood || stays, "{object}");
    }
}

fn secret_content() -> SecretContent {
    let data = [("htpasswd", "admin:sesame\nsesame\n"), ("tls.crt", "sesame"), ("tls.key", "sesame")]
        .map(|(key, value)| (key.to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec())));
    SecretContent::of(k8s_openapi::api::core::v1::Secret { data: Some(data.into()), ..Default::default() })
}

fn check_bytes(bytes: &[u8]) {
    let world = world(2);
    if let Ok(answer) = review::answer(bytes, &world, &secret(), &settings(0)) {
        serde_json::from_slice::<Value>(&answer.body).expect("an answer is JSON");
    }
    if let Ok(question) = validate::read(bytes) {
        let answer = question.answer(&Facts::default(), &settings(0)).expect("an answer can be written");
        serde_json::from_slice::<Value>(&answer.body).expect("an answer is JSON");
    }
}

const WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\u0000",
    b"null",
    b"1e400",
    b"-0",
    b"\xff",
    b"\"CREATE\"",
    b"\"UPDATE\"",
    b"\"pods\"",
    b"\"sidecarproxies\"",
    b"\"sidewall.dev\"",
    b"\"object\":",
    b"\"oldObject\":",
    b"\"subResource\":\"status\",",
    b"\"uid\":\"\",",
];

#[test]
fn fuzz_admission() {
    let mut reviews: Vec<Vec<u8>> = Vec::new();
    for pod in PODS.iter() {
        let pods = json!({"group": "", "version": "v1", "resource": "pods"});
        reviews.push(review(&pods, "CREATE", pod, &Value::Null));
    }
    for object in OBJECTS.iter() {
        let resource = if object["kind"] == "SidecarProxy" { "sidecarproxies" } else { "containernetworkpolicies" };
        let resource = json!({"group": "sidewall.dev", "version": "v1alpha1", "resource": resource});
        reviews.push(review(&resource, "CREATE", object, &Value::Null));
        // What is made once, at the first question, is not what a question costs.
        check_object(object, None, &[7]);
    }
    for pod in PODS.iter() {
        check_pod(pod, 2);
    }
    bolero::check!().with_type::<Case>().with_test_time(effort::time()).for_each(|case| {
        READ.input();
        match case {
            Case::Bytes(input) => check_bytes(&input.bytes(&reviews, WORDS)),
            Case::Pod { pod, surroundings } => check_pod(&pod.value(&PODS, &VALUES, NAMES), *surroundings),
            Case::Object { object, old, answers } => {
                let old = old.as_ref().map(|old| old.value(&OBJECTS, &VALUES, NAMES));
                check_object(&object.value(&OBJECTS, &VALUES, NAMES), old.as_ref(), answers);
            }
        }
    });
    READ.expect_per_mille(60);
}
