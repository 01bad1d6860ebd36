//! Kubernetes' own kubelet on a node.

use std::time::Duration;

use serde_json::json;

use crate::api::Credentials;
use crate::control::ControlPlane;
use crate::error::{BedError, Result};
use crate::node::{CONTAINERD, Node};
use crate::parts;

/// How long a node may take to be ready.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts the kubelet; it registers the node with the control plane.
///
/// # Errors
/// When it is missing or can't be started. That it works is known by [`ready`].
pub fn start(node: &Node, control: &ControlPlane) -> Result<()> {
    let name = node.name();
    let pair = control.client(&format!("system:node:{name}"), Some("system:nodes"))?;
    let cell = node.cell();
    cell.write("/etc/kubernetes/kubelet.conf", control.inner_kubeconfig(&Credentials::Certificate(pair)))?;
    cell.write("/etc/kubernetes/pki/ca.crt", control.authority())?;
    cell.write("/etc/kubernetes/kubelet.yaml", configuration().to_string())?;
    let addresses = node.addresses().node().map(|address| address.to_string()).join(",");
    let command = [
        parts::kubernetes("kubelet")?.display().to_string(),
        "--config=/etc/kubernetes/kubelet.yaml".into(),
        "--kubeconfig=/etc/kubernetes/kubelet.conf".into(),
        format!("--hostname-override={name}"),
        format!("--node-ip={addresses}"),
    ];
    cell.start("kubelet", &command, &[])
}

/// Waits until the control plane says that the node is ready.
///
/// # Errors
/// When the kubelet ends, or the node does not become ready; with the end of its log.
pub fn ready(node: &Node, control: &ControlPlane) -> Result<()> {
    let ready = |node: &serde_json::Value| {
        let conditions = node.pointer("/status/conditions").and_then(serde_json::Value::as_array);
        let tainted = node.pointer("/spec/taints").is_some();
        let good = |c: &serde_json::Value| c["type"] == "Ready" && c["status"] == "True";
        !tainted && conditions.is_some_and(|all| all.iter().any(good))
    };
    let waited = control.admin().until("a ready node", LIMIT, &["node", node.name()], ready);
    node.cell().still_runs("kubelet")?;
    match waited {
        Ok(_) => Ok(()),
        Err(BedError::Late { what, limit, last }) => {
            Err(BedError::Late { what, limit, last: format!("{last}\n{}", node.cell().log("kubelet")) })
        }
        Err(other) => Err(other),
    }
}

/// Everything that would measure or change the whole machine is off: limits of QoS classes, reservations, evictions, image
/// deletion.
fn configuration() -> serde_json::Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true},
            "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "cgroupDriver": "cgroupfs", "cgroupsPerQOS": false, "enforceNodeAllocatable": [],
        "failCgroupV1": false, "failSwapOn": false, "protectKernelDefaults": false, "makeIPTablesUtilChains": false,
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99, "maxPods": 300, "serializeImagePulls": false,
        "resolvConf": "/etc/resolv.conf", "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "registryPullQPS": 0, "eventRecordQPS": 0, "kubeAPIQPS": 200, "kubeAPIBurst": 400,
        "shutdownGracePeriod": "0s", "nodeStatusUpdateFrequency": "5s",
        // Containers that end start again at once, however often they do.
        "featureGates": {"KubeletCrashLoopBackOffMax": true}, "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
    })
}
