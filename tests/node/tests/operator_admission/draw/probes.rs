//! What the kubelet asks of a container, and hooks.

use serde_json::{Value, json};

use super::Draw;

impl Draw {
    pub(super) fn probe(&mut self, occasion: &str) -> Value {
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

    pub(super) fn handler(&mut self, hook: bool) -> Value {
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
}
