//! Pods, SidecarProxies and a namespace for tests.

use serde_json::{Value, json};
use sidewall_api::SidecarProxy;

use crate::admission::inject::{Outcome, Patched, Request, Surroundings, inject};
use crate::admission::probes::HookSecret;
use crate::settings::Settings;

pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("a test's YAML")
}

pub fn proxy(text: &str) -> SidecarProxy {
    serde_json::from_value(yaml(text)).expect("a test's SidecarProxy")
}

/// The proxy of the example: users in a Secret, port 80 before port 8080.
pub fn web() -> SidecarProxy {
    proxy(
        "
apiVersion: sidewall.dev/v1alpha1
kind: SidecarProxy
metadata: {name: web, namespace: shop, creationTimestamp: 2026-01-01T00:00:00Z}
spec:
  podSelector: {matchLabels: {app: web}}
  listeners:
  - port: 80
    forward: {port: 8080}
    authentication:
    - basic: {secretName: web-users, key: htpasswd, realm: Protected}
",
    )
}

pub fn tls() -> SidecarProxy {
    proxy(
        "
apiVersion: sidewall.dev/v1alpha1
kind: SidecarProxy
metadata: {name: web, namespace: shop, creationTimestamp: 2026-01-01T00:00:00Z}
spec:
  podSelector: {matchLabels: {app: web}}
  listeners:
  - port: 8443
    forward: {port: 8080}
    tls: {secretName: web-tls}
    authentication:
    - basic: {secretName: web-users, key: htpasswd}
  - port: 9443
    forward: {port: 9090}
    tls: {secretName: web-tls}
    authentication:
    - basic: {secretName: web-users, key: metrics.users}
",
    )
}

pub fn namespace() -> Surroundings {
    Surroundings {
        name: "shop".to_owned(),
        labels: [("sidewall.dev/injection".to_owned(), "enabled".to_owned())].into(),
        annotations: [].into(),
    }
}

pub fn secret() -> HookSecret {
    HookSecret::new(&[7; 32]).expect("32 bytes")
}

pub fn settings() -> Settings {
    Settings::of_image("registry.example/sidewall-proxy:1.0.0")
}

/// A test's surroundings, to be changed before the call.
pub struct Try {
    pub pod: Value,
    pub proxies: Vec<SidecarProxy>,
    pub namespace: Surroundings,
    pub settings: Settings,
}

impl Try {
    pub fn new(pod: Value) -> Self {
        Self { pod, proxies: vec![web()], namespace: namespace(), settings: settings() }
    }

    pub fn yaml(text: &str) -> Self {
        Self::new(yaml(text))
    }

    /// A pod `app: web` of these containers, in YAML's flow form.
    pub fn containers(containers: &str) -> Self {
        Self::yaml(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{labels: {{app: web}}}}, spec: {{containers: [{containers}]}}}}"
        ))
    }

    pub fn by(mut self, proxy: SidecarProxy) -> Self {
        self.proxies = vec![proxy];
        self
    }

    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        let parent = self.pod.pointer_mut(parent).expect("the parent is there");
        parent.as_object_mut().expect("an object").insert(key.replace("~1", "/"), value);
        self
    }

    pub fn annotated(mut self, key: &str, value: &str) -> Self {
        let metadata = self.pod["metadata"].as_object_mut().expect("metadata");
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        annotations[key] = json!(value);
        self
    }

    pub fn outcome(&self) -> Outcome {
        self.outcome_of(&self.pod)
    }

    pub fn outcome_of(&self, pod: &Value) -> Outcome {
        let proxies: Vec<&SidecarProxy> = self.proxies.iter().collect();
        let secret = secret();
        let versions = |_: &str| Some("1".to_owned());
        let request = Request {
            pod,
            namespace: &self.namespace,
            proxies: &proxies,
            unreadable: &[],
            versions: &versions,
            secret: &secret,
        };
        inject(&request, &self.settings)
    }

    pub fn patched(&self) -> (Value, Patched) {
        match self.outcome() {
            Outcome::Patched(patched) => {
                let mut pod = self.pod.clone();
                json_patch::patch(&mut pod, &patched.patch).expect("our patch applies");
                (pod, *patched)
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn refusal(&self) -> String {
        match self.outcome() {
            Outcome::Refused(refusal) => refusal.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

/// What the API server fills into a pod, as far as it matters to what we write.
pub fn defaulted(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let spec = pod["spec"].as_object_mut().expect("spec");
    let fill = |object: &mut Value, key: &str, value: Value| {
        if let Some(object) = object.as_object_mut() {
            object.entry(key).or_insert(value);
        }
    };
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            fill(container, "imagePullPolicy", json!("IfNotPresent"));
            fill(container, "terminationMessagePath", json!("/dev/termination-log"));
            fill(container, "terminationMessagePolicy", json!("File"));
            fill(container, "resources", json!({}));
            for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                fill(port, "protocol", json!("TCP"));
            }
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                if let Some(probe) = container.get_mut(probe) {
                    fill(probe, "timeoutSeconds", json!(1));
                    fill(probe, "periodSeconds", json!(10));
                    fill(probe, "successThreshold", json!(1));
                    fill(probe, "failureThreshold", json!(3));
                    if let Some(http) = probe.get_mut("httpGet") {
                        fill(http, "path", json!("/"));
                        fill(http, "scheme", json!("HTTP"));
                    }
                    if let Some(grpc) = probe.get_mut("grpc") {
                        fill(grpc, "service", json!(""));
                    }
                }
            }
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        for source in ["secret", "configMap"] {
            if let Some(source) = volume.get_mut(source) {
                fill(source, "defaultMode", json!(420));
            }
        }
    }
    for (key, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
    ] {
        spec.entry(key).or_insert(value);
    }
    pod
}
