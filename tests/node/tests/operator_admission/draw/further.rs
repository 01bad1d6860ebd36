//! What a pod says beside its containers and volumes.

use serde_json::{Value, json};

use super::Draw;

impl Draw {
    /// What a pod says beside its containers and volumes.
    pub(super) fn further(&mut self, spec: &mut Value) {
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
