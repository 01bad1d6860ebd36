//! A pod of this node, in more detail than others: what its walls depend on.

use k8s_openapi::api::core::v1 as core;
use sidewall_api::Attachments;
use sidewall_api::network::NETWORK_STATUS;
use sidewall_flow::ContainerId;
use sidewall_policy::model::Identities;
use sidewall_policy::world::objects::{namespace, subject_containers};
use sidewall_policy::world::{Labels, Subject, SubjectContainer};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A pod of this node, as the API server has it.
///
/// All of it is what somebody asked for, not what runs: its author wrote it. Whether the pod's walls can be enforced is
/// found out from what runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The API server's identity of it.
    pub uid: String,
    /// The identity that the container runtime knows it by. It is another where the kubelet has the pod from a file and
    /// only mirrors it in the API server. Anybody who may choose a pod's node can claim it, so that a pod is known by
    /// its namespace and name too.
    pub runtime_uid: String,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations that mean something here: its networks, and our own.
    pub annotations: BTreeMap<String, String>,
    /// Its addresses as the kubelet reports them.
    pub addresses: Vec<IpAddr>,
    /// Its service account.
    pub service_account: String,
    /// It shares the node's network.
    pub host_network: bool,
    /// It shares the node's processes.
    pub host_pid: bool,
    /// It has a user namespace of its own: its users are others on the node.
    pub own_users: bool,
    /// Its containers see each other's processes.
    pub shares_processes: bool,
    /// Its RuntimeClass.
    pub runtime_class: Option<String>,
    /// The operating system that it asks for.
    pub os: Option<String>,
    /// Its phase: `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: String,
    /// It is being deleted.
    pub deleting: bool,
    /// Its containers: init containers, the others, ephemeral ones.
    pub containers: Vec<LocalContainer>,
    /// The containers as policies number them; or why they can't be numbered.
    pub numbered: Result<BTreeMap<ContainerId, SubjectContainer>, String>,
}

/// A container of a pod of this node, as its spec has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalContainer {
    /// Its name.
    pub name: String,
    /// What sort of container it is.
    pub form: ContainerForm,
    /// The user that the spec asks for: the container's own words, else the pod's.
    pub user: Option<i64>,
    /// The group that the spec asks for.
    pub group: Option<i64>,
    /// It is privileged.
    pub privileged: bool,
    /// Capabilities that the spec adds, without `CAP_`.
    pub added: Vec<String>,
    /// Capabilities that the spec drops.
    pub dropped: Vec<String>,
    /// The runtime's name for it, where the kubelet has reported it: `containerd://…`.
    pub id: Option<String>,
}

/// What sort of container it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerForm {
    /// It runs before the others.
    Init,
    /// An init container that stays.
    Sidecar,
    /// One of the pod's main containers.
    App,
    /// It was added to the running pod.
    Ephemeral,
}

/// The annotation of a pod that the kubelet has from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";

impl LocalPod {
    /// Takes from a pod what matters.
    pub fn of(pod: &core::Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let peer = sidewall_policy::world::objects::pod(pod);
        let annotations = pod.metadata.annotations.clone().unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let runtime_uid = annotations.get(MIRROR).filter(|mirror| !mirror.is_empty()).unwrap_or(&uid).clone();
        let mine = |key: &str| key == NETWORK_STATUS || sidewall_api::names::is_reserved_key(key);
        Self {
            namespace: namespace(pod.metadata.namespace.as_deref()),
            name: peer.name,
            uid,
            runtime_uid,
            labels: peer.labels,
            annotations: annotations.into_iter().filter(|(key, _)| mine(key)).collect(),
            addresses: peer.addresses,
            service_account: spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
            host_network: peer.host_network,
            host_pid: spec.and_then(|spec| spec.host_pid).unwrap_or(false),
            own_users: spec.and_then(|spec| spec.host_users) == Some(false),
            shares_processes: spec.and_then(|spec| spec.share_process_namespace).unwrap_or(false),
            runtime_class: spec.and_then(|spec| spec.runtime_class_name.clone()),
            os: spec.and_then(|spec| spec.os.as_ref()).map(|os| os.name.clone()),
            phase: status.and_then(|status| status.phase.clone()).unwrap_or_default(),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            containers: containers(pod),
            numbered: subject_containers(pod).map_err(|error| error.to_string()),
        }
    }

    /// Whether all its containers have ended for good.
    pub fn ended(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// The networks that its annotation claims; `own` is its device toward the pod network, where that is known.
    pub fn claimed_networks(&self, own: Option<&str>) -> Attachments {
        let metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            namespace: Some(self.namespace.clone()),
            annotations: Some(self.annotations.clone()),
            ..Default::default()
        };
        Attachments::read(&metadata, own)
    }

    /// The pod as one that rules are made for, with what its author can't say: the addresses and devices that the node
    /// found, and how the kernel tells the containers' sockets apart.
    ///
    /// # Errors
    ///
    /// Why its containers can't be numbered.
    pub fn subject(
        &self,
        addresses: Vec<IpAddr>,
        interface: Option<String>,
        identities: Identities,
        networks: Attachments,
    ) -> Result<Subject, String> {
        Ok(Subject {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            labels: self.labels.clone(),
            addresses,
            interface,
            containers: self.numbered.clone()?,
            identities,
            networks,
            link: None,
        })
    }
}

fn containers(pod: &core::Pod) -> Vec<LocalContainer> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let status = pod.status.as_ref();
    let pod_context = spec.security_context.as_ref();
    let user = pod_context.and_then(|context| context.run_as_user);
    let group = pod_context.and_then(|context| context.run_as_group);
    let ids: BTreeMap<&str, &str> = [
        status.and_then(|status| status.init_container_statuses.as_ref()),
        status.and_then(|status| status.container_statuses.as_ref()),
        status.and_then(|status| status.ephemeral_container_statuses.as_ref()),
    ]
    .into_iter()
    .flatten()
    .flatten()
    .filter_map(|status| Some((status.name.as_str(), status.container_id.as_deref()?)))
    .collect();
    let one = |name: &str, form: ContainerForm, context: Option<&core::SecurityContext>| {
        let capabilities = context.and_then(|context| context.capabilities.as_ref());
        LocalContainer {
            name: name.to_owned(),
            form,
            user: context.and_then(|context| context.run_as_user).or(user),
            group: context.and_then(|context| context.run_as_group).or(group),
            privileged: context.and_then(|context| context.privileged).unwrap_or(false),
            added: capabilities.and_then(|all| all.add.clone()).unwrap_or_default(),
            dropped: capabilities.and_then(|all| all.drop.clone()).unwrap_or_default(),
            id: ids.get(name).filter(|id| !id.is_empty()).map(|id| (*id).to_owned()),
        }
    };
    let form = |container: &core::Container| match container.restart_policy.as_deref() {
        Some("Always") => ContainerForm::Sidecar,
        _ => ContainerForm::Init,
    };
    let init = spec.init_containers.iter().flatten().map(|c| one(&c.name, form(c), c.security_context.as_ref()));
    let apps = spec.containers.iter().map(|c| one(&c.name, ContainerForm::App, c.security_context.as_ref()));
    let added = spec.ephemeral_containers.iter().flatten();
    let added = added.map(|c| one(&c.name, ContainerForm::Ephemeral, c.security_context.as_ref()));
    init.chain(apps).chain(added).collect()
}

#[cfg(test)]
mod tests;
