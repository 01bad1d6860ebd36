//! Starting and ending pods, as a kubelet does: for tests, and for tools that play the kubelet.
//!
//! The calls take a time of their own each ([`Control::within`]): running a pod may take as long as its CNI plugins do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::client::Client;
use crate::error::{BadAnswer, Call, Error};
use crate::model::{Network, PodIdentity};
use crate::wire::control as wire;
use sidewall_runtime_ids::{ContainerId, SandboxId};

/// A pod to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodConfig {
    /// Which pod it is.
    pub pod: PodIdentity,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The cgroup that its own is made in; empty for the runtime's choice.
    pub cgroup_parent: String,
    /// Where its containers' output goes; `None` for nowhere.
    pub log_directory: Option<PathBuf>,
    /// Whose network it uses. [`Network::Unknown`] is taken for the pod's own.
    pub network: Network,
    /// The runtime handler; empty for the default.
    pub handler: String,
    /// Kernel settings of the pod's namespaces, such as `net.ipv4.ip_unprivileged_port_start`.
    pub sysctls: BTreeMap<String, String>,
    /// Whether privileged containers may be made in it.
    pub privileged: bool,
}

impl PodConfig {
    /// An ordinary pod.
    pub fn new(pod: PodIdentity) -> Self {
        Self {
            pod,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            cgroup_parent: String::new(),
            log_directory: None,
            network: Network::Pod,
            handler: String::new(),
            sysctls: BTreeMap::new(),
            privileged: false,
        }
    }
}

/// A container to make.
#[derive(Clone, PartialEq, Eq)]
pub struct ContainerConfig {
    /// Its name in the pod.
    pub name: String,
    /// Which attempt to run it this is, from 0. A name and attempt may be used once in a sandbox.
    pub attempt: u32,
    /// The image, by a name or an id that the runtime has.
    pub image: String,
    /// What to run; empty for what the image says.
    pub command: Vec<String>,
    /// Its arguments; empty for what the image says.
    pub arguments: Vec<String>,
    /// Its environment, beside the image's.
    pub environment: BTreeMap<String, String>,
    /// Where it begins; empty for what the image says.
    pub working_directory: String,
    /// The user; `None` for what the image says.
    pub uid: Option<u32>,
    /// The primary group, which needs a user beside it.
    pub gid: Option<u32>,
    /// Further groups.
    pub further_gids: Vec<u32>,
    /// Capabilities beside the runtime's default ones, without `CAP_`.
    pub add_capabilities: Vec<String>,
    /// Capabilities that it does not get (`ALL` for every one), without `CAP_`.
    pub drop_capabilities: Vec<String>,
    /// Whether it may do everything.
    pub privileged: bool,
    /// Whether it can't gain privileges by running a program.
    pub no_new_privileges: bool,
    /// Whether its root file system can't be written.
    pub read_only: bool,
    /// Directories and files of the node.
    pub mounts: Vec<Mount>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A directory or a file of the node in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is in the container.
    pub inside: String,
    /// Where it is on the node.
    pub outside: String,
    /// Whether it can't be written there.
    pub read_only: bool,
}

/// The environment and the arguments may hold secrets and are left out.
impl std::fmt::Debug for ContainerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContainerConfig")
            .field("name", &self.name)
            .field("attempt", &self.attempt)
            .field("image", &self.image)
            .field("uid", &self.uid)
            .finish_non_exhaustive()
    }
}

impl ContainerConfig {
    /// An ordinary container that runs `command`.
    pub fn new<T: Into<String>>(
        name: impl Into<String>,
        image: impl Into<String>,
        command: impl IntoIterator<Item = T>,
    ) -> Self {
        Self {
            name: name.into(),
            attempt: 0,
            image: image.into(),
            command: command.into_iter().map(Into::into).collect(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            working_directory: String::new(),
            uid: None,
            gid: None,
            further_gids: Vec::new(),
            add_capabilities: Vec::new(),
            drop_capabilities: Vec::new(),
            privileged: false,
            no_new_privileges: false,
            read_only: false,
            mounts: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// What a command in a container came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What it ended with.
    pub exit_code: i32,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: Vec<u8>,
}

/// An image that the runtime has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: String,
    /// The names by which it is known.
    pub names: Vec<String>,
    /// Its size in bytes.
    pub size: u64,
    /// The user that it asks for, by number.
    pub uid: Option<i64>,
    /// The user that it asks for, by name; empty if it asks by number or not at all.
    pub user: String,
}

/// The calls of a kubelet.
#[derive(Debug, Clone)]
pub struct Control {
    client: Client,
    within: Duration,
}

impl Client {
    /// The calls of a kubelet, each of which may take so long.
    pub fn control(&self, within: Duration) -> Control {
        Control { client: self.clone(), within }
    }
}

impl Control {
    /// How long each call may take.
    pub fn within(&self) -> Duration {
        self.within
    }

    async fn ask<A: prost::Message + Default>(&self, call: Call, question: &impl prost::Message) -> Result<A, Error> {
        self.client.caller.ask(call, question, self.within).await
    }

    async fn tell(&self, call: Call, question: &impl prost::Message) -> Result<(), Error> {
        self.ask::<wire::Nothing>(call, question).await.map(drop)
    }

    /// Makes a sandbox with its network, and starts it.
    pub async fn run_pod_sandbox(&self, pod: &PodConfig) -> Result<SandboxId, Error> {
        let call = Call::RunPodSandbox;
        let question =
            wire::RunPodSandboxRequest { config: Some(pod_config(pod)), runtime_handler: pod.handler.clone() };
        let answer: wire::RunPodSandboxResponse = self.ask(call, &question).await?;
        let bad = |problem| Error::BadAnswer { call, problem: BadAnswer::Id { field: "pod_sandbox_id", problem } };
        answer.pod_sandbox_id.try_into().map_err(bad)
    }

    /// Ends a sandbox's processes and gives back its network. It may have been stopped before.
    pub async fn stop_pod_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let question = wire::StopPodSandboxRequest { pod_sandbox_id: id.to_string() };
        self.tell(Call::StopPodSandbox, &question).await
    }

    /// Takes a sandbox away, with its containers. It may have been taken away before.
    pub async fn remove_pod_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let question = wire::RemovePodSandboxRequest { pod_sandbox_id: id.to_string() };
        self.tell(Call::RemovePodSandbox, &question).await
    }

    /// Makes a container. `pod` is what the sandbox was run with.
    pub async fn create_container(
        &self,
        sandbox: &SandboxId,
        pod: &PodConfig,
        container: &ContainerConfig,
    ) -> Result<ContainerId, Error> {
        let call = Call::CreateContainer;
        let question = wire::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_string(),
            config: Some(container_config(pod, container)),
            sandbox_config: Some(pod_config(pod)),
        };
        let answer: wire::CreateContainerResponse = self.ask(call, &question).await?;
        let bad = |problem| Error::BadAnswer { call, problem: BadAnswer::Id { field: "container_id", problem } };
        answer.container_id.try_into().map_err(bad)
    }

    /// Starts a container.
    pub async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        self.tell(Call::StartContainer, &wire::StartContainerRequest { container_id: id.to_string() }).await
    }

    /// Ends a container's processes: asks them, and after `grace` (in whole seconds, rounded down) kills them.
    pub async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        let question = wire::StopContainerRequest { container_id: id.to_string(), timeout: seconds(grace) };
        self.tell(Call::StopContainer, &question).await
    }

    /// Takes a container away. It may have been taken away before.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        self.tell(Call::RemoveContainer, &wire::RemoveContainerRequest { container_id: id.to_string() }).await
    }

    /// Runs a command in a container and waits for its end. The runtime kills it when the call's time is over.
    pub async fn exec_sync<T: AsRef<str>>(&self, id: &ContainerId, command: &[T]) -> Result<Output, Error> {
        let cmd = command.iter().map(|word| word.as_ref().to_owned()).collect();
        // 0 would mean for ever.
        let timeout = seconds(self.within).max(1);
        let question = wire::ExecSyncRequest { container_id: id.to_string(), cmd, timeout };
        let answer: wire::ExecSyncResponse = self.ask(Call::ExecSync, &question).await?;
        Ok(Output { exit_code: answer.exit_code, stdout: answer.stdout.into(), stderr: answer.stderr.into() })
    }

    /// The image of a name or an id; `None` if the runtime has none such.
    pub async fn image_status(&self, image: &str) -> Result<Option<Image>, Error> {
        let question = wire::ImageStatusRequest { image: Some(wire::ImageSpec { image: image.to_owned() }) };
        let answer: wire::ImageStatusResponse = self.ask(Call::ImageStatus, &question).await?;
        Ok(answer.image.map(|image| Image {
            id: image.id,
            names: image.repo_tags,
            size: image.size,
            uid: image.uid.map(|uid| uid.value),
            user: image.username,
        }))
    }
}

fn seconds(duration: Duration) -> i64 {
    duration.as_secs().try_into().unwrap_or(i64::MAX)
}

/// A container has a PID namespace of its own, and shares the pod's network and IPC, as Kubernetes has it by default.
fn namespaces(pod: &PodConfig) -> wire::NamespaceOption {
    let shared = match pod.network {
        Network::Node => wire::NamespaceMode::Node,
        Network::Pod | Network::Unknown => wire::NamespaceMode::Pod,
    };
    wire::NamespaceOption { network: shared.into(), pid: wire::NamespaceMode::Container.into(), ipc: 0 }
}

fn pod_config(pod: &PodConfig) -> wire::PodSandboxConfig {
    let PodIdentity { namespace, name, uid, attempt } = pod.pod.clone();
    wire::PodSandboxConfig {
        // The node's own name stands where its network is used: CRI wants none then.
        hostname: if pod.network == Network::Node { String::new() } else { name.clone() },
        metadata: Some(wire::PodSandboxMetadata { name, uid, namespace, attempt }),
        log_directory: pod.log_directory.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        labels: pod.labels.clone(),
        annotations: pod.annotations.clone(),
        linux: Some(wire::LinuxPodSandboxConfig {
            cgroup_parent: pod.cgroup_parent.clone(),
            security_context: Some(wire::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(pod)),
                privileged: pod.privileged,
            }),
            sysctls: pod.sysctls.clone(),
        }),
    }
}

fn container_config(pod: &PodConfig, container: &ContainerConfig) -> wire::ContainerConfig {
    let number = |id: u32| wire::Int64Value { value: id.into() };
    let mount = |mount: &Mount| wire::Mount {
        container_path: mount.inside.clone(),
        host_path: mount.outside.clone(),
        readonly: mount.read_only,
    };
    let variable = |(key, value): (&String, &String)| wire::KeyValue { key: key.clone(), value: value.clone() };
    let security = wire::LinuxContainerSecurityContext {
        capabilities: Some(wire::Capability {
            add_capabilities: container.add_capabilities.clone(),
            drop_capabilities: container.drop_capabilities.clone(),
        }),
        privileged: container.privileged,
        namespace_options: Some(namespaces(pod)),
        run_as_user: container.uid.map(number),
        readonly_rootfs: container.read_only,
        supplemental_groups: container.further_gids.iter().map(|gid| (*gid).into()).collect(),
        no_new_privs: container.no_new_privileges,
        run_as_group: container.gid.map(number),
    };
    wire::ContainerConfig {
        metadata: Some(wire::ContainerMetadata { name: container.name.clone(), attempt: container.attempt }),
        image: Some(wire::ImageSpec { image: container.image.clone() }),
        command: container.command.clone(),
        args: container.arguments.clone(),
        working_dir: container.working_directory.clone(),
        envs: container.environment.iter().map(variable).collect(),
        mounts: container.mounts.iter().map(mount).collect(),
        labels: container.labels.clone(),
        annotations: container.annotations.clone(),
        log_path: match pod.log_directory {
            Some(_) => format!("{}.{}.log", container.name, container.attempt),
            None => String::new(),
        },
        linux: Some(wire::LinuxContainerConfig { security_context: Some(security) }),
    }
}
