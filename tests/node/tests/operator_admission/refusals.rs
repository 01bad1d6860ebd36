//! Why the webhook may refuse a drawn pod: each reason, and that the pod gives it.

use serde_json::Value;

/// What stands before the webhook's own words.
const DENIED: &str = "admission webhook \"inject.sidewall.dev\" denied the request: ";

/// What the webhook says, and what must then be in the pod.
type Reason = (&'static str, fn(&Value) -> bool);

const REASONS: &[Reason] = &[
    ("spec.hostNetwork is true", |pod| pod["spec"]["hostNetwork"] == true),
    ("the proxy runs on Linux only", |pod| pod["spec"]["os"]["name"] == "windows"),
    ("has the name that SidecarProxy", |pod| has(pod, "\"name\":\"front-proxy\"") || has(pod, "\"name\":\"guard\"")),
    (", as a volume of the proxy is: rename it", |pod| {
        ["config", "secret-0", "no-token"].iter().any(|name| has(pod, &format!("\"name\":\"sidewall-{name}\"")))
    }),
    (", which the proxy opens on the pod's address", |pod| {
        let own = [80, 443, 8000, 9443, 15_410, 15_411, 15_412, 15_500, 15_501];
        own.iter().any(|port| {
            has(pod, &format!("\"containerPort\":{port},")) || has(pod, &format!("\"containerPort\":{port}}}"))
        })
    }),
    ("without privileges, and spec.securityContext.sysctls", |pod| {
        has(pod, "ip_unprivileged_port_start") && has(pod, "\"9000\"") || has(pod, "\"53\"")
    }),
    ("sidewall.dev/assign-uids asks for one each", |pod| has(pod, "sidewall.dev/assign-uids")),
    (", which is that of the proxy", |pod| has(pod, "\"runAsUser\":61802")),
    ("the proxy's own, and the pod does not say what it asked before", |pod| has(pod, "\"port\":15411")),
    ("cannot be asked by the proxy", |pod| has(pod, "hostile")),
    ("the proxy cannot be configured for this pod", |pod| {
        has(pod, "hostile") || has(pod, "b.example") || has(pod, "longlong")
    }),
    ("the annotation sidewall.dev/assign-uids of the pod is", |pod| has(pod, "\"yes\"")),
    ("the annotation sidewall.dev/drop-capabilities of the pod is", |pod| has(pod, "sidewall.dev/drop-capabilities")),
    ("the annotation sidewall.dev/loopback-ports of the pod is", |pod| has(pod, "sidewall.dev/loopback-ports")),
    ("is written by Sidewall alone", |pod| has(pod, "sidewall.dev/pro") || has(pod, "sidewall.dev/fronted")),
    ("the probes of this pod are", |pod| has(pod, "longlong")),
    ("the annotations of this pod would be", |pod| has(pod, "bed.example/big")),
];

fn has(pod: &Value, text: &str) -> bool {
    pod.to_string().contains(text)
}

/// Which of the reasons it is; none where the pod does not give it, or nobody of ours has said so.
pub fn reason(message: &str, pod: &Value) -> Option<&'static str> {
    let said = message.split_once(DENIED)?.1;
    REASONS.iter().find(|(words, given)| said.contains(words) && given(pod)).map(|(words, _)| *words)
}
