//! What the API server knows: namespaces of teams, each with its applications, their front proxies and their walls; and what the
//! agents of the nodes would say of them.

use serde_json::{Value, json};

use crate::objects::Write;

/// SidecarProxies of a namespace, one for each application.
pub const PROXIES: usize = 10;
/// ContainerNetworkPolicies of a namespace, five for each application.
pub const POLICIES: usize = 50;
/// Pods of a namespace, ten of each application.
pub const PODS: usize = 100;
/// Pods of an application that are behind its proxy.
pub const FRONTED: usize = 3;

/// The name of a namespace.
pub fn namespace(number: usize) -> String {
    format!("team-{number:03}")
}

/// A namespace that has opted in, the service account without which no pod is admitted, and users for its proxies.
pub fn namespaces(count: usize) -> [Vec<Write>; 2] {
    let mut first = Vec::new();
    let mut second = Vec::new();
    for name in (0..count).map(namespace) {
        let labels = json!({"sidewall.dev/injection": "enabled", "stage": "live", "team": name});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        first.push(Write::Create("/api/v1/namespaces".into(), object));
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        second.push(Write::Create(format!("/api/v1/namespaces/{name}/serviceaccounts"), account));
        for application in 0..PROXIES {
            let users = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("users-{application}")},
                "stringData": {"htpasswd": "admin:$2y$05$gaghfYAf/DrQU93nYP6L1.2IAVtZ9MfXKgiz6AB4rsJ6Q3bv1K9MS\n"},
            });
            second.push(Write::Create(format!("/api/v1/namespaces/{name}/secrets"), users));
        }
    }
    [first, second]
}

/// The path of a namespace's objects of a kind of ours.
fn ours(namespace: usize, plural: &str) -> String {
    format!("/apis/sidewall.dev/v1alpha1/namespaces/{}/{plural}", self::namespace(namespace))
}

/// The SidecarProxies.
pub fn proxies(count: usize) -> impl Iterator<Item = Write> {
    pairs(count, PROXIES).map(|(namespace, application)| {
        Write::Create(ours(namespace, "sidecarproxies"), proxy(application, "Applications"))
    })
}

/// A change of every SidecarProxy: what its users are asked for has another name.
pub fn other_realms(count: usize, realm: String) -> impl Iterator<Item = Write> {
    pairs(count, PROXIES).map(move |(namespace, application)| {
        let path = format!("{}/app-{application}", ours(namespace, "sidecarproxies"));
        Write::Merge(path, json!({"spec": {"listeners": proxy(application, &realm)["spec"]["listeners"]}}))
    })
}

/// The SidecarProxy of an application.
pub fn proxy(application: usize, realm: &str) -> Value {
    let users = json!({"secretName": format!("users-{application}"), "key": "htpasswd", "realm": realm});
    json!({
        "apiVersion": "sidewall.dev/v1alpha1", "kind": "SidecarProxy", "metadata": {"name": format!("app-{application}")},
        "spec": {
            "podSelector": {"matchLabels": {"app": format!("app-{application}"), "tier": "front"}},
            "listeners": [{"port": 8000, "forward": {"port": 8080}, "authentication": [{"basic": users}]}],
            "capture": {"inbound": [8080]},
        },
    })
}

/// The ContainerNetworkPolicies.
pub fn policies(count: usize) -> impl Iterator<Item = Write> {
    pairs(count, POLICIES).map(|(namespace, number)| {
        Write::Create(ours(namespace, "containernetworkpolicies"), policy(number, &format!("policy-{number}")))
    })
}

/// A policy of an application.
pub fn policy(number: usize, name: &str) -> Value {
    let application = number % PROXIES;
    let app = |number: usize| json!({"matchLabels": {"app": format!("app-{}", number % PROXIES)}});
    let http = json!([{"protocol": "TCP", "port": 8080}]);
    let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"];
    let spec = match number / PROXIES {
        0 => json!({
            "podSelector": app(application), "containers": ["app"], "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"container": "front-proxy"}], "ports": http}],
        }),
        1 => json!({
            "podSelector": app(application), "containers": ["app"], "policyTypes": ["Egress"],
            "egress": [{"to": [{"podSelector": app(application + 1)}], "ports": http}],
        }),
        2 => json!({
            "podSelector": app(application), "containers": ["app"], "policyTypes": ["Egress"],
            "egress": [{
                "to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": private}}],
                "ports": [{"protocol": "TCP", "port": 443}],
            }],
        }),
        3 => json!({
            "podSelector": app(application), "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{"namespaceSelector": {"matchLabels": {"stage": "live"}}, "podSelector": app(application + 2)}],
                "ports": http,
            }],
        }),
        _ => json!({
            "podSelector": app(application), "containers": ["log-shipper"], "policyTypes": ["Egress"],
            "egress": [{"to": [{"entity": "ClusterDNS"}]}],
        }),
    };
    json!({"apiVersion": "sidewall.dev/v1alpha1", "kind": "ContainerNetworkPolicy", "metadata": {"name": name}, "spec": spec})
}

/// The pods.
pub fn pods(count: usize) -> impl Iterator<Item = Write> {
    pairs(count, PODS).map(move |(namespace, number)| {
        let path = format!("/api/v1/namespaces/{}/pods", self::namespace(namespace));
        Write::Create(path, pod(namespace, number, &node(namespace, number)))
    })
}

/// The name of a pod.
fn pod_name(number: usize) -> String {
    format!("app-{}-6b7f9c8d5-{number:05}", number % PROXIES)
}

/// Whether a pod is to be behind a proxy.
pub const fn fronted(number: usize) -> bool {
    number / PROXIES < FRONTED
}

/// The node of a pod: a node has one of each namespace.
fn node(namespace: usize, number: usize) -> String {
    format!("node-{:03}", (namespace + number) % PODS)
}

/// A pod as a controller makes it, on a node or on none yet: three containers with what they usually have, 8 KB as JSON.
pub fn pod(namespace: usize, number: usize, node: &str) -> Value {
    let application = number % PROXIES;
    let tier = if fronted(number) { "front" } else { "back" };
    let name = pod_name(number);
    let containers: Vec<Value> = [("app", 8080_u16, 1001), ("log-shipper", 2020, 1002), ("metrics", 9090, 1003)]
        .into_iter()
        .map(|(container, port, uid)| {
            let mut environment: Vec<Value> = (0..8)
                .map(|number| {
                    json!({"name": format!("SETTING_{number}"), "value": format!("https://service-{number}.{container}.example.com:8443/api")})
                })
                .collect();
            for (name, field) in [("POD_NAME", "metadata.name"), ("POD_IP", "status.podIP"), ("NODE", "spec.nodeName")] {
                environment.push(json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": field}}}));
            }
            let probe = |path: &str| json!({
                "httpGet": {"path": path, "port": port, "scheme": "HTTP"}, "timeoutSeconds": 3, "periodSeconds": 10,
                "successThreshold": 1, "failureThreshold": 3,
            });
            json!({
                "name": container, "image": format!("registry.example/{container}-{application}@sha256:{application:064x}"),
                "imagePullPolicy": "IfNotPresent", "args": ["--config", format!("/etc/{container}/config.yaml"), "--log-level=info"],
                "ports": [{"containerPort": port, "name": if container == "app" { "http" } else { container }, "protocol": "TCP"}],
                "env": environment,
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "readinessProbe": probe("/ready"), "livenessProbe": probe("/live"),
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "volumeMounts": [
                    {"name": "settings", "mountPath": format!("/etc/{container}"), "readOnly": true},
                    {"name": "scratch", "mountPath": "/tmp"},
                ],
                "securityContext": {
                    "runAsUser": uid, "runAsNonRoot": true, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
                },
            })
        })
        .collect();
    let same = json!({"matchLabels": {"app": format!("app-{application}")}});
    let metadata = json!({
        "name": name, "namespace": self::namespace(namespace),
        "labels": {
            "app": format!("app-{application}"), "tier": tier, "pod-template-hash": "6b7f9c8d5",
            "app.kubernetes.io/name": format!("app-{application}"), "app.kubernetes.io/part-of": "shop",
            "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "shop-4.2.1",
        },
        "annotations": {
            "prometheus.io/scrape": "true", "prometheus.io/port": "9090", "prometheus.io/path": "/metrics",
            "checksum/config": format!("{application:064x}"), "checksum/secrets": format!("{:064x}", application + 1),
        },
    });
    let spread = json!({
        "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": same,
    });
    let apart =
        json!({"weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": same}});
    let tolerated =
        |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let tolerations = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(tolerated);
    let volumes = json!([
        {"name": "settings", "configMap": {"name": format!("app-{application}"), "defaultMode": 420}},
        {"name": "scratch", "emptyDir": {"sizeLimit": "64Mi"}},
    ]);
    let mut spec = json!({
        "serviceAccountName": "default", "automountServiceAccountToken": false, "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
        "schedulerName": "default-scheduler", "securityContext": {"fsGroup": 2000, "supplementalGroups": [3000]},
        "containers": containers, "volumes": volumes, "tolerations": tolerations, "topologySpreadConstraints": [spread],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]}},
    });
    if !node.is_empty() {
        spec["nodeName"] = json!(node);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// What the agents say when all is in force, with the pods' identities: objects, and then their statuses.
pub fn reports(count: usize, uids: &[String]) -> [Vec<Write>; 2] {
    let path = "/apis/sidewall.dev/v1alpha1/nodeenforcements";
    let now = jiff::Timestamp::now().to_string();
    let mut objects = Vec::new();
    let mut statuses = Vec::new();
    for number in 0..PODS {
        let name = node(0, number);
        let mut pods = Vec::new();
        let mut policies = Vec::new();
        for namespace in 0..count {
            // The only one of its namespace on this node.
            let pod = (0..PODS).find(|pod| node(namespace, *pod) == name).unwrap_or_default();
            pods.push(json!({
                "namespace": self::namespace(namespace), "name": pod_name(pod), "uid": uids[namespace * PODS + pod],
                "state": "Enforced", "identity": "Cgroup", "since": now,
            }));
            policies.extend((0..POLICIES).filter(|policy| policy % PROXIES == pod % PROXIES).map(|policy| {
                json!({
                    "kind": "ContainerNetworkPolicy", "namespace": self::namespace(namespace),
                    "name": format!("policy-{policy}"), "observedGeneration": 1, "selected": 1, "enforced": 1,
                })
            }));
        }
        let object = json!({
            "apiVersion": "sidewall.dev/v1alpha1", "kind": "NodeEnforcement", "metadata": {"name": name},
            "spec": {"nodeName": name},
        });
        objects.push(Write::Create(path.into(), object));
        let status = json!({"status": {
            "agentVersion": "0.1.0", "updated": now, "podList": pods, "policyList": policies,
            "pods": {"total": count, "selected": count, "enforced": count, "notEnforced": 0},
        }});
        statuses.push(Write::Merge(format!("{path}/{name}/status"), status));
    }
    [objects, statuses]
}

/// News as they come in such a cluster all the time, the one of that number: a kubelet says something of a pod, and one time in
/// ten an agent says again what it said before.
pub fn news(namespaces: usize, number: usize) -> Write {
    if number.is_multiple_of(10) {
        let path = format!("/apis/sidewall.dev/v1alpha1/nodeenforcements/{}/status", node(0, number / 10));
        return Write::Merge(path, json!({"status": {"updated": jiff::Timestamp::now().to_string()}}));
    }
    let (namespace, pod) = (namespace(number % namespaces), pod_name(number / namespaces % PODS));
    let status = json!({"status": {"phase": "Running", "message": format!("news {number}")}});
    Write::Merge(format!("/api/v1/namespaces/{namespace}/pods/{pod}/status"), status)
}

fn pairs(namespaces: usize, each: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..namespaces).flat_map(move |namespace| (0..each).map(move |number| (namespace, number)))
}
