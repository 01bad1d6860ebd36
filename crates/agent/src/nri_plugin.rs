//! What the agent does when the runtime tells of pods and containers.

use crate::found::{Found, FoundContainer, Message, Place};
use crate::known::Known;
use crate::metrics::{Metrics, Told};
use crate::running;
use sidewall_netfilter::Features;
use sidewall_netns::{Cgroups, NetNs};
use sidewall_nri::{Container, End, Handler, Late, LateCallback, Network, Pod, RuntimeInfo, Veto};
use sidewall_policy::index::Named;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// The NRI plugin.
#[derive(Debug)]
pub struct Plugin {
    /// The brain.
    pub to: mpsc::UnboundedSender<Message>,
    /// What the kernel can do.
    pub features: Features,
    /// The cgroup tree.
    pub cgroups: Option<Cgroups>,
    /// Told when the runtime should be asked for all it has.
    pub list: Arc<Notify>,
    /// What the brain knows.
    pub known: Known,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Plugin {
    /// Looks at a sandbox where it is not known, and at a container in it, on a thread that may wait.
    async fn look(
        &self,
        pod: Pod,
        container: Option<Container>,
    ) -> Result<(Option<Found>, Option<FoundContainer>), Veto> {
        let (features, cgroups) = (self.features, self.cgroups.clone());
        let is_known = self.known.has_sandbox(&pod.id);
        let looked = tokio::task::spawn_blocking(move || {
            let found = (!is_known).then(|| found(&pod, features)).transpose()?;
            let container = container.map(|container| found_container(container, cgroups.as_ref())).transpose()?;
            Ok((found, container))
        });
        looked.await.unwrap_or_else(|_| Err("the thread that looked at it has ended".to_owned())).map_err(|error| {
            Veto::new(format!("Sidewall can't tell whether the pod is walled, so it does not start: {error}"))
        })
    }

    async fn starts(&self, pod: Pod, container: Container) -> Result<(), Veto> {
        if pod.network == Network::Node {
            // Nothing can be put in force there; the status says so.
            return Ok(());
        }
        let (found, container) = self.look(pod, Some(container)).await?;
        let Some(container) = container else { return Ok(()) };
        let (reply, answer) = oneshot::channel();
        let ending = || Veto::new("Sidewall's agent is ending; the container is started when it is back");
        self.to.send(Message::Start(found, container, reply)).map_err(|_| ending())?;
        answer.await.unwrap_or_else(|_| Err(ending()))
    }
}

/// A sandbox as NRI tells of it.
fn found(pod: &Pod, features: Features) -> Result<Found, String> {
    let netns = match (&pod.network, pod.pid) {
        // The path may not be seen in this mount namespace; the sandbox's process is in the same namespace.
        (Network::At(path), Some(pid)) => NetNs::from_path(path).or_else(|_| NetNs::from_pid(pid)),
        (Network::At(path), None) => NetNs::from_path(path),
        // Made with the sandbox's process, or not told: then it is where that process is.
        (Network::New | Network::Unknown, Some(pid)) => NetNs::from_pid(pid),
        (Network::New | Network::Unknown, None) => {
            return Err("the runtime does not tell its network namespace".to_owned());
        }
        (Network::Node, _) => return Err("it uses the node's network".to_owned()),
    };
    let place = Place::open(netns.map_err(|error| error.to_string())?, features).map_err(|error| error.to_string())?;
    Ok(Found {
        id: pod.id.clone(),
        pod: Named::new(&pod.namespace, &pod.name),
        uid: pod.uid.clone().try_into().ok(),
        handler: Some(pod.handler.clone()),
        made: std::collections::BTreeMap::new(),
        reported: pod.addresses.clone(),
        place,
    })
}

fn found_container(container: Container, cgroups: Option<&Cgroups>) -> Result<FoundContainer, String> {
    let pid = container.pid.ok_or("the runtime does not tell the container's process")?;
    let running = running::look(pid, container.id.as_str(), cgroups).map_err(|error| error.to_string())?;
    Ok(FoundContainer { id: container.id, sandbox: container.pod, name: container.name, running })
}

impl Handler for Plugin {
    fn connected(&self, runtime: &RuntimeInfo) {
        tracing::info!(
            runtime = runtime.runtime, version = runtime.version, timeout = ?runtime.request_timeout,
            "the runtime tells of containers before they start"
        );
        self.metrics.nri.set(1);
        let _ = self.to.send(Message::Nri);
    }

    async fn synchronize(&self, _pods: Vec<Pod>, _containers: Vec<Container>) -> Result<(), Veto> {
        // CRI tells the same, and more of each.
        self.list.notify_one();
        Ok(())
    }

    async fn run_pod(&self, pod: Pod) -> Result<(), Veto> {
        // What can't be looked at now is looked at before its first container starts.
        if pod.network != Network::Node
            && let Ok((Some(found), _)) = self.look(pod, None).await
        {
            let _ = self.to.send(Message::Sandbox(found));
        }
        Ok(())
    }

    async fn start_container(&self, pod: Pod, container: Container) -> Result<(), Veto> {
        let (namespace, name, what) = (pod.namespace.clone(), pod.name.clone(), container.name.clone());
        let answer = self.starts(pod, container).await;
        let told = if answer.is_ok() { "accepted" } else { "refused" };
        self.metrics.starts.get_or_create(&Told { answer: told }).inc();
        if let Err(veto) = &answer {
            tracing::warn!(namespace, pod = name, container = what, "a container may not start: {veto}");
        }
        answer
    }

    async fn container_stopped(&self, _pod: Pod, _container: Container) {
        // It may be about to be ended, and need its network for that. Its cgroup's id never comes again.
    }

    async fn container_removed(&self, pod: Pod, container: Container) {
        let _ = self.to.send(Message::ContainerGone(pod.id, container.id));
    }

    async fn pod_removed(&self, pod: Pod) {
        let _ = self.to.send(Message::SandboxGone(pod.id));
    }

    fn late(&self, late: &LateCallback) -> Late {
        tracing::warn!(event = %late.event, id = ?late.id, limit = ?late.limit, "an answer to the runtime is late");
        match late.event {
            sidewall_nri::Event::StartContainer => Late::Veto,
            _ => Late::Accept,
        }
    }

    fn ended(&self, end: &End, again_in: Duration) {
        self.metrics.nri.set(0);
        tracing::debug!(?again_in, "the runtime does not tell of containers: {end}");
    }
}
