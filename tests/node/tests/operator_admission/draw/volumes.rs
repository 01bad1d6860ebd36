//! Volumes, some of them with names of ours.

use serde_json::{Value, json};

use super::Draw;

impl Draw {
    pub(super) fn volumes(&mut self) -> Value {
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
}
