//! As whom containers run, and what they may.

use serde_json::{Value, json};

use super::Draw;

impl Draw {
    pub(super) fn context(&mut self) -> Value {
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

    fn user(&mut self) -> u64 {
        match self.random.below(20) {
            0 if self.hostile => 61_802,
            1 if !self.is("restricted") => 0,
            2 => 62_000,
            3 => 2_147_483_647,
            _ => self.random.between(1000, 1020),
        }
    }
}
