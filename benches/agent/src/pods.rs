//! Runs pods, as a kubelet does: the object is in the API server first, then come sandbox and containers over CRI with its name
//! and UID, and at last the status is written back.

use crate::objects::Objects;
use crate::{Result, world};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use sidewall_cri::control::{ContainerConfig, Control, PodConfig};
use sidewall_cri::{Client, Options, PodIdentity, SandboxId};
use sidewall_netns::NetNs;
use sidewall_node_tests::Node;
use std::time::{Duration, Instant};

/// How long a call of the runtime may take. Many pods at once on a few processors take their time.
const LIMIT: Duration = Duration::from_secs(60);
/// How many pods are started at once where their number is what matters.
const AT_ONCE: usize = 3;
/// The containers of a pod, and whose processes they are.
const CONTAINERS: [(&str, u32); 2] = [("app", 1001), ("log-shipper", 1002)];

/// A node's runtime.
pub struct Runtime<'a> {
    node: &'a Node,
    client: Client,
    control: Control,
}

/// A pod to be run.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which labels it has.
    pub number: usize,
}

/// A pod that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// What was wanted.
    pub pod: Wanted,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// What its start took.
    pub took: Took,
}

/// What the calls of a pod's start took, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    /// `RunPodSandbox`: the CNI plugins are in it.
    pub sandbox: f64,
    /// `CreateContainer`.
    pub create: f64,
    /// `StartContainer`: NRI asks in it.
    pub start: f64,
}

impl Took {
    /// All of it.
    pub fn all(self) -> f64 {
        self.sandbox + self.create + self.start
    }
}

impl<'a> Runtime<'a> {
    /// Connects to the node's containerd.
    pub async fn connect(node: &'a Node) -> Result<Self> {
        let client = Client::connect(Options::new(node.cri_socket())).await?;
        Ok(Self { node, control: client.control(LIMIT), client })
    }

    /// Makes a pod's object; returns its UID.
    pub async fn admit(&self, objects: &Objects, pod: &Wanted) -> Result<String> {
        let object = world::pod(self.node.name(), &pod.name, pod.number);
        let made = objects.create(format!("/api/v1/namespaces/{}/pods", pod.namespace), object).await?;
        let uid = made.pointer("/metadata/uid").and_then(Value::as_str);
        Ok(uid.ok_or("the API server gave a pod no UID")?.to_owned())
    }

    /// Runs sandbox and containers, as many as are wanted of them.
    pub async fn start(&self, pod: &Wanted, uid: String, containers: usize) -> Result<Running> {
        let identity =
            PodIdentity { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: uid.clone(), attempt: 0 };
        let mut config = PodConfig::new(identity);
        // As a kubelet labels them.
        for (key, value) in [("namespace", &pod.namespace), ("name", &pod.name), ("uid", &uid)] {
            config.labels.insert(format!("io.kubernetes.pod.{key}"), value.clone());
        }
        let mut took = Took::default();
        let begin = Instant::now();
        let sandbox = self.control.run_pod_sandbox(&config).await?;
        took.sandbox = milliseconds(begin);
        for (name, uid) in CONTAINERS.into_iter().take(containers) {
            let mut container = ContainerConfig::new(name, "localhost/busybox:1", ["sleep", "2147483647"]);
            (container.uid, container.no_new_privileges) = (Some(uid), true);
            container.drop_capabilities = vec!["ALL".into()];
            let begin = Instant::now();
            let id = self.control.create_container(&sandbox, &config, &container).await?;
            took.create += milliseconds(begin);
            let begin = Instant::now();
            self.control.start_container(&id).await?;
            took.start += milliseconds(begin);
        }
        Ok(Running { pod: pod.clone(), sandbox, took })
    }

    /// Ends a pod, and takes its object away.
    pub async fn end(&self, objects: &Objects, pod: &Running) -> Result<()> {
        self.control.stop_pod_sandbox(&pod.sandbox).await?;
        self.control.remove_pod_sandbox(&pod.sandbox).await?;
        objects.delete(world::pod_path(&pod.pod.namespace, &pod.pod.name)).await.map(drop)
    }

    /// Runs pods, some at once, and says of each that it runs.
    pub async fn run(&self, objects: &Objects, wanted: Vec<Wanted>) -> Result<Vec<Running>> {
        let one = |pod: Wanted| async move {
            let uid = self.admit(objects, &pod).await?;
            let running = self.start(&pod, uid, CONTAINERS.len()).await?;
            let addresses: Vec<String> = self.addresses(&running).await?;
            world::say_running(objects, &pod.namespace, &pod.name, &addresses).await?;
            Result::Ok(running)
        };
        stream::iter(wanted).map(one).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// A pod's addresses.
    pub async fn addresses(&self, pod: &Running) -> Result<Vec<String>> {
        let status = self.client.sandbox_status(&pod.sandbox).await?;
        Ok(status.addresses.iter().map(ToString::to_string).collect())
    }

    /// A pod's network namespace.
    pub async fn netns(&self, pod: &Running) -> Result<NetNs> {
        let status = self.client.sandbox_status(&pod.sandbox).await?;
        let specification = status.details.and_then(|details| details.specification);
        let path = specification.as_ref().and_then(|specification| specification.namespace("network")?.path.as_ref());
        let path = path.ok_or("the runtime does not tell where a sandbox's network is")?;
        Ok(NetNs::from_path(self.node.cell().path(path))?)
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
