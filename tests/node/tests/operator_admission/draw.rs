//! Drawn pods, from ordinary to hostile. The API server takes most of them as they are.

#[path = "draw/containers.rs"]
mod containers;
#[path = "draw/further.rs"]
mod further;
#[path = "draw/probes.rs"]
mod probes;
#[path = "draw/security.rs"]
mod security;
#[path = "draw/volumes.rs"]
mod volumes;

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
}
