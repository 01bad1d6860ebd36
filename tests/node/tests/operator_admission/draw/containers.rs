//! Containers, with what they declare and mount.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Draw;

impl Draw {
    /// `init` is whether it is a sidecar, of those that come first.
    pub(super) fn container(&mut self, names: &mut BTreeSet<String>, volumes: &Value, init: Option<bool>) -> Value {
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
}
