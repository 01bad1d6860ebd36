//! From the wire's messages.

use super::{
    Condition, Container, ContainerState, ContainerStatus, Network, PodIdentity, RuntimeHandler, RuntimeStatus,
    Sandbox, SandboxState, SandboxStatus, Version, time,
};
use crate::details::User;
use crate::error::BadAnswer;
use crate::wire::runtime as wire;
use sidewall_runtime_ids::{ContainerId, SandboxId};

impl From<wire::VersionResponse> for Version {
    fn from(from: wire::VersionResponse) -> Self {
        Self {
            runtime: from.runtime_name,
            runtime_version: from.runtime_version,
            api_version: from.runtime_api_version,
        }
    }
}

impl From<wire::StatusResponse> for RuntimeStatus {
    fn from(from: wire::StatusResponse) -> Self {
        let condition = |from: wire::RuntimeCondition| {
            (from.r#type, Condition { holds: from.status, reason: from.reason, message: from.message })
        };
        let handler = |from: wire::RuntimeHandler| RuntimeHandler {
            name: from.name,
            user_namespaces: from.features.is_some_and(|features| features.user_namespaces),
        };
        Self {
            conditions: from.status.unwrap_or_default().conditions.into_iter().map(condition).collect(),
            handlers: from.runtime_handlers.into_iter().map(handler).collect(),
        }
    }
}

fn sandbox_id(id: String) -> Result<SandboxId, BadAnswer> {
    id.try_into().map_err(|problem| BadAnswer::Id { field: "pod_sandbox_id", problem })
}

pub(crate) fn container_id(id: String) -> Result<ContainerId, BadAnswer> {
    id.try_into().map_err(|problem| BadAnswer::Id { field: "container_id", problem })
}

fn identity(metadata: Option<wire::PodSandboxMetadata>) -> Result<PodIdentity, BadAnswer> {
    let metadata = metadata.ok_or(BadAnswer::Missing("metadata"))?;
    Ok(PodIdentity { namespace: metadata.namespace, name: metadata.name, uid: metadata.uid, attempt: metadata.attempt })
}

fn sandbox_state(state: i32) -> SandboxState {
    match wire::PodSandboxState::try_from(state) {
        Ok(wire::PodSandboxState::SandboxReady) => SandboxState::Ready,
        Ok(wire::PodSandboxState::SandboxNotready) => SandboxState::NotReady,
        Err(_) => SandboxState::Unknown,
    }
}

fn container_state(state: i32) -> ContainerState {
    match wire::ContainerState::try_from(state) {
        Ok(wire::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(wire::ContainerState::ContainerRunning) => ContainerState::Running,
        Ok(wire::ContainerState::ContainerExited) => ContainerState::Exited,
        Ok(wire::ContainerState::ContainerUnknown) | Err(_) => ContainerState::Unknown,
    }
}

impl TryFrom<wire::PodSandbox> for Sandbox {
    type Error = BadAnswer;

    fn try_from(from: wire::PodSandbox) -> Result<Self, BadAnswer> {
        Ok(Self {
            id: sandbox_id(from.id)?,
            pod: identity(from.metadata)?,
            state: sandbox_state(from.state),
            created: time(from.created_at),
            labels: from.labels,
            annotations: from.annotations,
            handler: from.runtime_handler,
        })
    }
}

impl TryFrom<wire::PodSandboxStatus> for SandboxStatus {
    type Error = BadAnswer;

    fn try_from(from: wire::PodSandboxStatus) -> Result<Self, BadAnswer> {
        let address = |text: String| text.parse().map_err(|_| BadAnswer::Address("network.ip"));
        let network = from.network.unwrap_or_default();
        let texts = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|pod_ip| pod_ip.ip));
        let addresses = texts.filter(|text| !text.is_empty()).map(address).collect::<Result<_, _>>()?;
        let options = from.linux.and_then(|linux| linux.namespaces).and_then(|namespaces| namespaces.options);
        let network = match options.map(|options| wire::NamespaceMode::try_from(options.network)) {
            Some(Ok(wire::NamespaceMode::Pod)) => Network::Pod,
            Some(Ok(wire::NamespaceMode::Node)) => Network::Node,
            _ => Network::Unknown,
        };
        let sandbox = Sandbox {
            id: sandbox_id(from.id)?,
            pod: identity(from.metadata)?,
            state: sandbox_state(from.state),
            created: time(from.created_at),
            labels: from.labels,
            annotations: from.annotations,
            handler: from.runtime_handler,
        };
        Ok(Self { sandbox, addresses, network, details: None })
    }
}

impl TryFrom<wire::Container> for Container {
    type Error = BadAnswer;

    fn try_from(from: wire::Container) -> Result<Self, BadAnswer> {
        let metadata = from.metadata.ok_or(BadAnswer::Missing("metadata"))?;
        Ok(Self {
            id: container_id(from.id)?,
            sandbox: sandbox_id(from.pod_sandbox_id)?,
            name: metadata.name,
            attempt: metadata.attempt,
            state: container_state(from.state),
            created: time(from.created_at),
            labels: from.labels,
            annotations: from.annotations,
        })
    }
}

impl TryFrom<wire::ContainerStatus> for ContainerStatus {
    type Error = BadAnswer;

    fn try_from(from: wire::ContainerStatus) -> Result<Self, BadAnswer> {
        let metadata = from.metadata.ok_or(BadAnswer::Missing("metadata"))?;
        Ok(Self {
            id: container_id(from.id)?,
            name: metadata.name,
            attempt: metadata.attempt,
            state: container_state(from.state),
            created: time(from.created_at),
            started: time(from.started_at),
            finished: time(from.finished_at),
            exit_code: from.exit_code,
            reason: from.reason,
            message: from.message,
            labels: from.labels,
            annotations: from.annotations,
            user: from.user.and_then(|user| user.linux).and_then(user),
            details: None,
        })
    }
}

/// CRI's numbers are signed and wide; a user that Linux can't have is none.
fn user(from: wire::LinuxContainerUser) -> Option<User> {
    let groups = from.supplemental_groups.into_iter().map(u32::try_from);
    Some(User {
        uid: from.uid.try_into().ok()?,
        gid: from.gid.try_into().ok()?,
        further_gids: groups.collect::<Result<_, _>>().ok()?,
    })
}
