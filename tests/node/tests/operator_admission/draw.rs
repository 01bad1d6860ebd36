//! Drawn pods, from ordinary to hostile. The API server takes most of them as they are.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sidewall_node_tests::random::Random;

use super::meddler;

/// What pod security asks of a namespace's pods.
pub const LEVELS: [&str; 3] = ["privileged", "baseline", "restricted"];

/// All that a pod's annotations may take together, keys and values.
const ANNOTATIONS_MAX: usize = 256 << 10;

/// Draws one pod after the other.
pub struct Draw {
    random: Random,
    /// The pod that is drawn has to be as modest as this.
    level: &'static str,
    /// Whether it has what must be refused, here and there.
    hostile: bool,
    ports: u16,
}

impl Draw {
    pub fn new(random: Random) -> Draw {
        Draw { random, level: LEVELS[0], hostile: false, ports: 20_000 }
    }

    /// A pod, and the pod security that it is drawn for.
    pub fn pod(&mut self) -> (Value, &'static str) {
        self.level = self.of(&LEVELS);
        self.hostile = self.one_in(3);
        self.ports = 20_000;
        let windows = self.one_in(25);
        let volumes = self.volumes();
        let mut spec =
            json!({"volumes": volumes, "restartPolicy": self.of(&["Always", "Always", "OnFailure", "Never"])});
        let mut names = BTreeSet::new();
        let init = (0..self.random.below(4)).map(|_| {
            let sidecar = self.one_in(2);
            self.container(&mut names, &volumes, Some(sidecar))
        });
        spec["initContainers"] = init.collect();
        let app = (0..=self.random.below(6)).map(|_| self.container(&mut names, &volumes, None));
        spec["containers"] = app.collect();
        self.further(&mut spec);
        if windows {
            spec["os"] = json!({"name": "windows"});
            for list in ["containers", "initContainers"] {
                for container in spec[list].as_array_mut().into_iter().flatten() {
                    container["securityContext"] = json!({"runAsNonRoot": true});
                }
            }
            for key in ["securityContext", "hostUsers", "shareProcessNamespace", "hostPID", "hostIPC", "hostNetwork"] {
                spec.as_object_mut().unwrap().remove(key);
            }
        } else if self.one_in(10) {
            spec["os"] = json!({"name": "linux"});
        }
        let mut metadata = json!({"labels": self.labels()});
        match self.random.below(8) {
            0 => metadata["generateName"] = json!("drawn-"),
            1 => {
                metadata["name"] =
                    json!(format!("{}.{}.{}.{}", "n".repeat(63), "a".repeat(63), "m".repeat(63), "e".repeat(61)))
            }
            _ => metadata["name"] = json!("drawn"),
        }
        let annotations = self.annotations();
        if !annotations.is_empty() {
            metadata["annotations"] = Value::Object(annotations);
        }
        (json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}), self.level)
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        self.random.of(all).unwrap().clone()
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.random.below(many) == 0
    }

    fn hostile_in(&mut self, many: u64) -> bool {
        self.hostile && self.one_in(many)
    }

    fn is(&self, level: &str) -> bool {
        self.level == level
    }

    fn labels(&mut self) -> Value {
        let mut labels = Map::new();
        let mut add = |key: &str, value: &str| labels.insert(key.to_owned(), json!(value));
        match self.random.below(8) {
            0..=3 => drop(add("app", "web")),
            4 | 5 => drop(add("app", "low")),
            6 => drop(add("app", "other")),
            _ => {}
        }
        if self.one_in(4) {
            add("tier", "tls");
        }
        if self.one_in(3) {
            add(meddler::LABEL, self.of(&meddler::WAYS));
        }
        if self.hostile_in(12) {
            add("sidewall.dev/fronted", "true");
        }
        if self.one_in(20) {
            add(&format!("{}.example/{}", "l".repeat(240), "k".repeat(63)), &"v".repeat(63));
        }
        Value::Object(labels)
    }

    fn annotations(&mut self) -> Map<String, Value> {
        let mut all = Map::new();
        let mut add = |key: &str, value: String| all.insert(key.to_owned(), Value::String(value));
        if self.one_in(5) {
            add(
                "sidewall.dev/assign-uids",
                if self.hostile_in(2) { "yes" } else { self.of(&["true", "true", "false"]) }.into(),
            );
        }
        if self.one_in(5) {
            let asked = ["SETUID,SETGID", "NET_ADMIN", "CAP_NET_RAW, SETUID", "NET_RAW"];
            let asked = if self.hostile_in(2) { self.of(&["SYS_ADMIN", "", "KILL,"]) } else { self.of(&asked) };
            add("sidewall.dev/drop-capabilities", asked.into());
        }
        if self.one_in(5) {
            let ports = if self.hostile_in(2) {
                self.of(&["0", "x", "1,,2"])
            } else {
                self.of(&["5432", "5432, 9090", "9090"])
            };
            add("sidewall.dev/loopback-ports", ports.into());
        }
        if self.hostile_in(12) {
            let forged = r#"{"proxy":"web","container":"app","probePort":15411,"config":"c","secrets":{}}"#;
            add("sidewall.dev/proxy", self.of(&[forged, "{}", ""]).into());
        }
        if self.hostile_in(12) {
            add("sidewall.dev/probes", self.of(&["{}", r#"{"app":{"liveness":{}}}"#]).into());
        }
        if self.one_in(10) {
            for number in 0..self.random.below(200) {
                add(&format!("bed.example/{number}"), "~/\u{e4}\"\\\n\u{1f980}".repeat(3));
            }
        }
        if self.one_in(12) {
            let left = self.of(&[0, 100, 400, 1000, 3000, 20_000]);
            let size: usize = all.iter().map(|(key, value)| key.len() + value.as_str().unwrap_or_default().len()).sum();
            let key = "bed.example/big";
            let rest = ANNOTATIONS_MAX.saturating_sub(size + key.len() + left);
            all.insert(key.into(), Value::String("x".repeat(rest)));
        }
        all
    }

    fn volumes(&mut self) -> Value {
        let mut volumes = Vec::new();
        for number in 0..self.random.below(5) {
            let mut volume = match self.random.below(9) {
                0 => json!({"emptyDir": {}}),
                1 => json!({"emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}),
                2 => {
                    json!({"configMap": {"name": "settings", "optional": true, "items": [{"key": "a", "path": "b/c"}]}})
                }
                3 => json!({"secret": {"secretName": "web-users", "defaultMode": 0o400}}),
                4 => json!({"projected": {"sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 600, "audience": "bed"}},
                    {"configMap": {"name": "settings"}},
                    {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                ]}}),
                5 => json!({"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}),
                6 => json!({"persistentVolumeClaim": {"claimName": "data"}}),
                7 => json!({"ephemeral": {"volumeClaimTemplate": {"spec": {
                    "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}),
                _ if self.is("privileged") => json!({"hostPath": {"path": "/var/log"}}),
                _ => json!({"emptyDir": {}}),
            };
            let ours = ["sidewall-config", "sidewall-secret-0", "sidewall-no-token"];
            volume["name"] = match self.random.below(12) {
                0 if self.hostile => json!(ours[usize::try_from(number).unwrap() % ours.len()]),
                1 => json!(format!("sidewall-other-{number}")),
                2 => json!(format!("{}{number}", "v".repeat(62))),
                _ => json!(format!("volume-{number}")),
            };
            volumes.push(volume);
        }
        Value::Array(volumes)
    }

    /// `init` is whether it is a sidecar, of those that come first.
    fn container(&mut self, names: &mut BTreeSet<String>, volumes: &Value, init: Option<bool>) -> Value {
        let plain = ["app", "log", "db", "cache", "web-1", "a"];
        let name = match self.random.below(40) {
            0 if self.hostile => "front-proxy".to_owned(),
            1 if self.hostile => "guard".to_owned(),
            2 => self.of(&["istio-proxy", "istio-init", "linkerd-proxy"]).to_owned(),
            4 => "c".repeat(63),
            _ => self.of(&plain).to_owned(),
        };
        let name = if names.contains(&name) { format!("c-{}", names.len()) } else { name };
        names.insert(name.clone());
        let mut container = json!({"name": name, "image": self.of(&["bed.example/app:1", "app", "bed.example:5000/a/b@sha256:\
            aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"])});
        container["securityContext"] = self.context();
        container["ports"] = self.container_ports();
        container["resources"] = self.resources();
        if init == Some(true) {
            container["restartPolicy"] = json!("Always");
        }
        if init != Some(false) {
            for occasion in ["startupProbe", "livenessProbe", "readinessProbe"] {
                if self.one_in(2) {
                    container[occasion] = self.probe(occasion);
                }
            }
            if self.one_in(4) {
                let hook = self.of(&["postStart", "preStop"]);
                container["lifecycle"] = json!({hook: self.handler(true)});
            }
        }
        let mounts = volumes.as_array().into_iter().flatten().enumerate();
        let mut mounts: Vec<Value> = mounts
            .map(|(number, volume)| json!({"name": volume["name"], "mountPath": format!("/mnt/{number}")}))
            .collect();
        mounts.truncate(usize::try_from(self.random.below(4)).unwrap());
        if let Some(mount) = mounts.first_mut().filter(|_| self.random.below(6) == 0) {
            let at = [
                "/etc/sidewall/proxy",
                "/var/run/secrets/kubernetes.io/serviceaccount",
                "/etc/sidewall/secrets/web-users",
            ];
            mount["mountPath"] = json!(self.of(&at));
        }
        container["volumeMounts"] = Value::Array(mounts);
        if self.one_in(3) {
            container["env"] = json!([
                {"name": "A", "value": "b"},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "web-users", "key": "htpasswd"}}},
            ]);
        }
        for (key, value) in [
            ("command", json!(["sh", "-c", "exec app \"$@\""])),
            ("args", json!([])),
            ("tty", json!(true)),
            ("workingDir", json!("/srv")),
            ("imagePullPolicy", json!("Always")),
            ("terminationMessagePolicy", json!("FallbackToLogsOnError")),
            ("envFrom", json!([{"prefix": "X_", "configMapRef": {"name": "settings", "optional": true}}])),
        ] {
            if self.one_in(6) {
                container[key] = value;
            }
        }
        container
    }

    fn container_ports(&mut self) -> Value {
        let mut ports = Vec::new();
        let mut seen = BTreeSet::new();
        for _ in 0..self.random.below(4) {
            let port: u16 = match self.random.below(20) {
                0 if self.hostile => self.of(&[8000, 443, 80, 9443]),
                1 if self.hostile => self.of(&[15_411, 15_410, 15_412, 15_500]),
                _ => self.of(&[8080, 9090, 5432, 53, 3000]),
            };
            if !seen.insert(port) {
                continue;
            }
            let protocol = if port == 53 { self.of(&["UDP", "SCTP"]) } else { "TCP" };
            let mut declared = json!({"containerPort": port, "protocol": protocol});
            if self.one_in(2) {
                declared["name"] = json!(if port == 8080 { "http".to_owned() } else { format!("p-{port}") });
            }
            if self.is("privileged") && self.one_in(15) {
                self.ports += 1;
                declared["hostPort"] = json!(self.ports);
            }
            ports.push(declared);
        }
        Value::Array(ports)
    }

    fn resources(&mut self) -> Value {
        match self.random.below(6) {
            0 => json!({"limits": {"cpu": "0.5", "memory": "64Mi"}}),
            1 => json!({"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "0.5", "memory": "65536Ki"}}),
            2 => json!({"requests": {"cpu": "10m"}}),
            3 => json!({"limits": {"ephemeral-storage": "1Gi", "bed.example/device": "1"}}),
            4 => json!({}),
            _ => Value::Null,
        }
    }

    fn handler(&mut self, hook: bool) -> Value {
        let port = match self.random.below(24) {
            0 => json!("nobody"),
            1 if self.hostile => json!(15_411),
            2 => json!(8000),
            3..=5 => json!("http"),
            6 | 7 => json!(5432),
            8..=10 => json!(9090),
            11 => json!(65_535),
            _ => json!(8080),
        };
        // Pod security has it that a probe aims at its own pod.
        let host = match self.random.below(if self.is("privileged") || self.hostile { 30 } else { 1000 }) {
            0 => Some("127.0.0.1"),
            1 => Some("localhost"),
            2 => Some("::1"),
            3 => Some("example.com"),
            _ => None,
        };
        match self.random.below(8) {
            0 => json!({"exec": {"command": ["true"]}}),
            1 | 2 => {
                let mut tcp = json!({"port": port});
                host.into_iter().for_each(|host| tcp["host"] = json!(host));
                json!({"tcpSocket": tcp})
            }
            3 if hook => json!({"sleep": {"seconds": 1}}),
            3 | 4 if !hook => {
                let port = port.as_u64().unwrap_or(8080);
                match self.random.below(3) {
                    0 => json!({"grpc": {"port": port}}),
                    1 => json!({"grpc": {"port": port, "service": ""}}),
                    _ if self.hostile_in(3) => json!({"grpc": {"port": port, "service": "hostile \n \u{e4} service"}}),
                    _ => json!({"grpc": {"port": port, "service": "a.b.C"}}),
                }
            }
            _ => {
                let paths = ["/healthz", "/", "ready?x=1&y=%20", "/a/../b//", "/probe/app/liveness"];
                let mut http = json!({"port": port, "path": self.of(&paths)});
                match self.random.below(15) {
                    0 if self.hostile => {
                        http["path"] = json!(self.of(&[
                            "/hostile \u{e4}\r\nx: y",
                            "http://hostile.example/x",
                            "/hostile#x",
                            "/hostile%zz"
                        ]))
                    }
                    1 if self.hostile => http["path"] = json!(format!("/{}", "long".repeat(2000))),
                    3 => http["path"] = json!(format!("/{}", "l".repeat(4000))),
                    2 => drop(http.as_object_mut().unwrap().remove("path")),
                    _ => {}
                }
                if self.one_in(4) {
                    http["scheme"] = json!(self.of(&["HTTP", "HTTPS"]));
                }
                host.into_iter().for_each(|host| http["host"] = json!(host));
                if self.one_in(4) {
                    http["httpHeaders"] = match self.random.below(6) {
                        0 if self.hostile => json!([{"name": "X-A", "value": "hostile\r\nx: y"}]),
                        1 => json!([{"name": "Host", "value": "a.example"}, {"name": "host", "value": "b.example"}]),
                        2 => {
                            json!([{"name": "Content-Length", "value": "hostile"}, {"name": "Connection", "value": "close"}])
                        }
                        3 => json!([{"name": "X-A", "value": ""}]),
                        _ => {
                            json!([{"name": "Authorization", "value": "Basic YWRtaW46YWRtaW4="}, {"name": "User-Agent", "value": "x"}])
                        }
                    };
                }
                json!({"httpGet": http})
            }
        }
    }

    fn probe(&mut self, occasion: &str) -> Value {
        let mut probe = self.handler(false);
        for key in ["timeoutSeconds", "periodSeconds", "failureThreshold", "initialDelaySeconds"] {
            if self.one_in(3) {
                probe[key] = json!(self.of(&[1, 2, 30, 3600, 86_400, i32::MAX]));
            }
        }
        if self.one_in(4) {
            let most = if occasion == "readinessProbe" { 3 } else { 1 };
            probe["successThreshold"] = json!(self.random.between(1, most + 1));
        }
        if occasion != "readinessProbe" && self.one_in(4) {
            probe["terminationGracePeriodSeconds"] = json!(self.of(&[1, 10, 86_400]));
        }
        probe
    }

    fn user(&mut self) -> u64 {
        match self.random.below(20) {
            0 if self.hostile => 61_802,
            1 if !self.is("restricted") => 0,
            2 => 62_000,
            3 => 2_147_483_647,
            _ => self.random.between(1000, 1020),
        }
    }

    fn context(&mut self) -> Value {
        if self.is("restricted") && !self.one_in(30) {
            let mut context = json!({
                "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": self.of(&["RuntimeDefault", "RuntimeDefault", "Localhost"])},
            });
            if context["seccompProfile"]["type"] == "Localhost" {
                context["seccompProfile"]["localhostProfile"] = json!("profiles/app.json");
            }
            if self.one_in(2) {
                context["runAsUser"] = json!(self.user());
            }
            if self.one_in(6) {
                context["capabilities"]["add"] = json!(["NET_BIND_SERVICE"]);
            }
            return context;
        }
        let mut context = json!({});
        if self.one_in(2) {
            context["runAsUser"] = json!(self.user());
        }
        if self.one_in(3) {
            let modest = [
                json!({"drop": ["ALL"]}),
                json!({"drop": ["NET_RAW"]}),
                json!({"add": ["SETUID"], "drop": ["ALL"]}),
                json!({}),
            ];
            let bold = [
                json!({"add": ["NET_RAW", "NET_ADMIN"]}),
                json!({"add": ["ALL"]}),
                json!({"add": ["CAP_SYS_PTRACE"], "drop": ["net_raw"]}),
            ];
            context["capabilities"] =
                if self.is("privileged") && self.one_in(3) { self.of(&bold) } else { self.of(&modest) };
        }
        for (key, values) in [
            ("runAsNonRoot", vec![json!(true), json!(false)]),
            ("readOnlyRootFilesystem", vec![json!(true)]),
            ("seccompProfile", vec![json!({"type": "RuntimeDefault"})]),
            (
                "appArmorProfile",
                vec![json!({"type": "RuntimeDefault"}), json!({"type": "Localhost", "localhostProfile": "p"})],
            ),
            ("seLinuxOptions", vec![json!({"type": "container_t", "level": "s0:c123,c456"})]),
            ("runAsGroup", vec![json!(1000)]),
        ] {
            if self.one_in(6) {
                context[key] = self.of(&values);
            }
        }
        if self.is("privileged") && self.one_in(12) {
            context["privileged"] = json!(true);
        } else if self.one_in(4) && context["capabilities"]["add"] != json!(["CAP_SYS_PTRACE"]) {
            context["allowPrivilegeEscalation"] = json!(false);
        }
        if context["capabilities"].is_null() {
            context.as_object_mut().unwrap().remove("capabilities");
        }
        if self.one_in(6) { Value::Null } else { context }
    }

    /// What a pod says beside its containers and volumes.
    fn further(&mut self, spec: &mut Value) {
        let mut context = json!({});
        let privileged = self.is("privileged");
        let users = [json!(1000), json!(7), json!(if self.hostile { 61_802 } else { 61_803 })];
        for (key, values) in [
            ("fsGroup", vec![json!(5), json!(65_534)]),
            ("runAsUser", users.to_vec()),
            ("runAsGroup", vec![json!(0), json!(1000)]),
            ("runAsNonRoot", vec![json!(true)]),
            ("supplementalGroups", vec![json!([1, 2, 3])]),
            ("supplementalGroupsPolicy", vec![json!("Strict")]),
            ("fsGroupChangePolicy", vec![json!("OnRootMismatch")]),
            ("seccompProfile", vec![json!({"type": "RuntimeDefault"})]),
            (
                "appArmorProfile",
                vec![json!({"type": "RuntimeDefault"}), json!({"type": "Localhost", "localhostProfile": "p"})],
            ),
            ("seLinuxOptions", vec![json!({"level": "s0:c1,c2"})]),
            (
                "sysctls",
                vec![
                    json!([{"name": "kernel.shm_rmid_forced", "value": "1"}]),
                    json!([{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]),
                    json!([{"name": "net.ipv4.ip_unprivileged_port_start", "value": "9000"}]),
                    json!([{"name": "net/ipv4/ip_unprivileged_port_start", "value": "53"}]),
                    json!([{"name": "net.ipv4.ping_group_range", "value": "0 1"}, {"name": "net.ipv4.tcp_syncookies", "value": "1"}]),
                ],
            ),
        ] {
            if self.one_in(7) {
                context[key] = self.of(&values);
            }
        }
        match self.random.below(4) {
            0 if context == json!({}) => {}
            1 if context == json!({}) => spec["securityContext"] = Value::Null,
            _ => spec["securityContext"] = context,
        }
        match self.random.below(20) {
            0 if privileged => spec["hostNetwork"] = json!(true),
            1 if privileged => spec["hostPID"] = json!(true),
            2 if privileged => spec["hostIPC"] = json!(true),
            3 => spec["shareProcessNamespace"] = json!(true),
            4..=6 => spec["hostUsers"] = json!(false),
            7 => spec["hostUsers"] = json!(true),
            _ => {}
        }
        if self.one_in(12) {
            // Enough for all that containers of this draw ask for.
            spec["resources"] = self.of(&[
                json!({"requests": {"cpu": "20", "memory": "4Gi"}, "limits": {"cpu": "40", "memory": "8Gi"}}),
                json!({"limits": {"cpu": "5", "memory": "1Gi"}}),
                json!({"limits": {"memory": "100Mi"}}),
                json!({"requests": {"cpu": "10m"}}),
                json!({"requests": {"cpu": "1", "memory": "16Mi"}}),
            ]);
        }
        for (key, values) in [
            ("terminationGracePeriodSeconds", vec![json!(0), json!(1), json!(86_400), json!(i64::from(i32::MAX))]),
            ("activeDeadlineSeconds", vec![json!(600)]),
            ("automountServiceAccountToken", vec![json!(false), json!(true)]),
            ("serviceAccountName", vec![json!("default"), json!("other")]),
            ("subdomain", vec![json!("group")]),
            ("hostname", vec![json!("h".repeat(63))]),
            ("setHostnameAsFQDN", vec![json!(true)]),
            ("enableServiceLinks", vec![json!(false)]),
            ("priorityClassName", vec![json!("")]),
            ("nodeName", vec![json!("node-1")]),
            ("nodeSelector", vec![json!({"kubernetes.io/os": "linux"})]),
            ("schedulerName", vec![json!("other")]),
            ("runtimeClassName", vec![json!("missing")]),
            ("dnsPolicy", vec![json!("Default"), json!("ClusterFirstWithHostNet")]),
            ("dnsConfig", vec![json!({"searches": ["example.com"], "options": [{"name": "ndots", "value": "2"}]})]),
            ("hostAliases", vec![json!([{"ip": "10.0.0.1", "hostnames": ["a", "b"]}])]),
            ("imagePullSecrets", vec![json!([{"name": "pull"}])]),
            ("readinessGates", vec![json!([{"conditionType": "bed.example/gate"}])]),
            ("schedulingGates", vec![json!([{"name": "bed.example/gate"}])]),
            ("tolerations", vec![json!([{"operator": "Exists"}])]),
            ("preemptionPolicy", vec![json!("PreemptLowerPriority")]),
            (
                "topologySpreadConstraints",
                vec![json!([{
                    "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["tier"],
                }])],
            ),
            (
                "affinity",
                vec![json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                    "weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}},
                }]}})],
            ),
        ] {
            let many = if key == "runtimeClassName" { 60 } else { 10 };
            if self.one_in(many) {
                spec[key] = self.of(&values);
            }
        }
        if self.one_in(60) {
            // The API server drops what it does not know.
            spec["newer"] = json!({"field": [1]});
        }
        if spec["initContainers"].as_array().is_some_and(Vec::is_empty) && self.one_in(2) {
            spec.as_object_mut().unwrap().remove("initContainers");
        }
    }
}
