//! Names that are written down outside this program: annotations, labels, paths, volumes.

/// The label of a namespace that lets pods in: see [`INJECTION_ENABLED`].
pub const LABEL_INJECTION: &str = "sidewall.dev/injection";

/// The value of [`LABEL_INJECTION`] that switches injection on.
pub const INJECTION_ENABLED: &str = "enabled";

/// The label of a pod that has our proxy, with the value `true`: by it the operator finds them.
pub const LABEL_FRONTED: &str = "sidewall.dev/fronted";

/// The annotation of a pod that says which proxy it got: a [`Record`](crate::admission::inject::Record) as JSON.
pub const ANNOTATION_PROXY: &str = "sidewall.dev/proxy";

/// The annotation of a pod that keeps what its probes and hooks asked before they were led through the proxy:
/// [`Originals`](crate::admission::probes::Originals) as JSON.
pub const ANNOTATION_PROBES: &str = "sidewall.dev/probes";

/// The annotation of a pod that changes when its Secrets or its configuration have: the kubelet then looks at the pod's files at
/// once, and not within a minute. Injection writes the first: see [`crate::proxies::refreshed`]. On the ConfigMap it says of what all its
/// pods have been told.
pub const ANNOTATION_REFRESHED: &str = "sidewall.dev/refreshed";

/// `true` gives each container that has no user of its own a number of its own. On a pod, or on a namespace for all its pods;
/// the pod's word counts.
pub const ANNOTATION_ASSIGN_UIDS: &str = "sidewall.dev/assign-uids";

/// Capabilities that no container of the pod shall have, with commas between them: any of `NET_ADMIN`, `NET_RAW`, `SETGID`
/// and `SETUID`. On a pod, or on a namespace for all its pods; both count.
pub const ANNOTATION_DROP_CAPABILITIES: &str = "sidewall.dev/drop-capabilities";

/// Ports on which the application listens on 127.0.0.1 only, beside those that a SidecarProxy forwards to, with commas
/// between them. Probes of them are led through the proxy. On a pod.
pub const ANNOTATION_LOOPBACK_PORTS: &str = "sidewall.dev/loopback-ports";

/// OpenShift's range of users of a namespace: `1000650000/10000`, or first and last with `-` between them.
pub const ANNOTATION_OPENSHIFT_RANGE: &str = "openshift.io/sa.scc.uid-range";

/// What OpenShift writes on a pod that it gave its security context.
pub const ANNOTATION_OPENSHIFT_SCC: &str = "openshift.io/scc";

/// What the kubelet writes on the image of a static pod in the API server.
pub const ANNOTATION_MIRROR: &str = "kubernetes.io/config.mirror";

/// Our keys that authors of pods may write.
pub const AUTHORS_POD_KEYS: [&str; 3] =
    [ANNOTATION_ASSIGN_UIDS, ANNOTATION_DROP_CAPABILITIES, ANNOTATION_LOOPBACK_PORTS];

/// Our keys that owners of namespaces may write.
pub const OWNERS_NAMESPACE_KEYS: [&str; 3] = [LABEL_INJECTION, ANNOTATION_ASSIGN_UIDS, ANNOTATION_DROP_CAPABILITIES];

/// Our keys that injection itself writes on a pod. No author may, and none gains by it: they are made anew at each call.
pub const WRITTEN_POD_KEYS: [&str; 4] = [LABEL_FRONTED, ANNOTATION_PROXY, ANNOTATION_PROBES, ANNOTATION_REFRESHED];

/// Kubernetes' own label for who looks after an object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// What our objects in users' namespaces have in [`LABEL_MANAGED_BY`].
pub const MANAGED_BY: &str = "sidewall-operator";

/// The volume with the proxy's configuration.
pub const VOLUME_CONFIG: &str = "sidewall-config";

/// What the names of volumes with Secrets begin with; a number follows.
pub const VOLUME_SECRET: &str = "sidewall-secret-";

/// The empty volume that stands where the service account's token would be mounted.
pub const VOLUME_NO_TOKEN: &str = "sidewall-no-token";

/// What the names of all our volumes begin with.
pub const VOLUME_PREFIX: &str = "sidewall-";

/// The directory of the proxy's configuration in its container.
pub const DIRECTORY_CONFIG: &str = "/etc/sidewall/proxy";

/// The file of the proxy's configuration, and the key of the ConfigMap that holds it.
pub const FILE_CONFIG: &str = "proxy.yaml";

/// The directory of the proxy's Secrets in its container; each has a directory of its own there.
pub const DIRECTORY_SECRETS: &str = "/etc/sidewall/secrets";

/// Where Kubernetes mounts the token of a pod's service account.
pub const DIRECTORY_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The sysctl that says from which port on a process needs no privilege to listen.
pub const SYSCTL_PORT_START: &str = "net.ipv4.ip_unprivileged_port_start";

/// The first port for which no privilege is needed where nobody says otherwise.
pub const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// The init containers and sidecars of meshes, which stand before the proxy.
pub const MESH_CONTAINERS: [&str; 6] =
    ["istio-init", "istio-validation", "istio-proxy", "linkerd-init", "linkerd-network-validator", "linkerd-proxy"];

/// Whether a container is one of a mesh's.
pub fn is_mesh(container: &str) -> bool {
    MESH_CONTAINERS.contains(&container)
}

/// The file in which the proxy finds a key of a Secret.
pub fn secret_file(secret: &str, key: &str) -> String {
    format!("{DIRECTORY_SECRETS}/{secret}/{key}")
}
