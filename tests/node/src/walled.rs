//! A cluster of one node whose pods have walls, with probers everywhere.

use serde_json::{Value, json};

use crate::agent::{self, Agent};
use crate::api::{Api, list};
use crate::cluster::Cluster;
use crate::error::Result;
use crate::fabric::Addresses;
use crate::node::{Node, Options};
use crate::probe::{self, Plan, REPORTS, Report, Then};

/// The prober outside of every node, at [`Addresses::hub`].
pub const HUB: &str = "hub";

/// A cluster of one node that knows Sidewall's kinds and has the probers' image. No agent runs.
#[derive(Debug)]
pub struct Walled {
    cluster: Cluster,
}

/// A container of a pod that is a prober.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its name in the pod.
    pub name: String,
    /// Whose its processes are.
    pub user: u32,
    /// What it does. Its name is the prober's, and should name the pod too.
    pub plan: Plan,
}

/// A pod of probers.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its label `app`.
    pub app: String,
    /// Its containers.
    pub containers: Vec<Container>,
}

impl Walled {
    /// Starts the cluster, and a prober outside of it that answers on these ports.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start(options: &Options, hub: &[u16]) -> Result<Walled> {
        let walled = Walled { cluster: Cluster::with(1, options)? };
        agent::install(walled.api())?;
        walled.node().import(&probe::image()?)?;
        probe::prepare(walled.node().cell())?;
        probe::start(walled.cluster.control().cell(), &Plan::new(HUB, hub, Vec::new(), Then::Rest))?;
        Ok(walled)
    }

    /// Starts the agent, which chains its plugin, and returns when it is ready.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn agent(&self, further: Value) -> Result<Agent<'_>> {
        Agent::start(self.node(), self.cluster.control(), further)
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Its node.
    pub fn node(&self) -> &Node {
        // It was started with one.
        &self.cluster.nodes()[0]
    }

    /// Its API server.
    pub fn api(&self) -> &Api {
        self.cluster.api()
    }

    /// What all probers have written down.
    ///
    /// # Errors
    /// As [`probe::report`].
    pub fn report(&self) -> Result<Report> {
        Ok(probe::report(self.node().cell())?.and(probe::report(self.cluster.control().cell())?))
    }

    /// Makes a namespace, and waits until pods can be made in it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn namespace(&self, name: &str) -> Result<()> {
        let api = self.api();
        api.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).to_string())?;
        let account = ["-n", name, "serviceaccount", "default"];
        api.until("a service account", std::time::Duration::from_secs(60), &account, |_| true).map(drop)
    }

    /// Makes pods.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub fn make(&self, pods: &[Pod]) -> Result<()> {
        if pods.is_empty() {
            return Ok(());
        }
        let items: Vec<Value> = pods.iter().map(|pod| pod.manifest(self.node().name())).collect();
        self.api().apply(&list(&items)).map(drop)
    }

    /// As [`Api::addresses`].
    ///
    /// # Errors
    /// As [`Api::addresses`].
    pub fn addresses(&self, namespace: &str, pod: &str) -> Result<Vec<std::net::IpAddr>> {
        self.api().addresses(namespace, pod)
    }
}

/// The address of the prober outside.
pub fn hub() -> std::net::IpAddr {
    let [address, _] = Addresses::hub().node();
    address
}

impl Container {
    /// A prober.
    pub fn new(name: &str, user: u32, plan: Plan) -> Container {
        Container { name: name.into(), user, plan }
    }
}

impl Pod {
    fn manifest(&self, node: &str) -> Value {
        let containers: Vec<Value> = self
            .containers
            .iter()
            .map(|container| {
                // Where users tell containers apart, it is by their declared ports that it is known who listens.
                let ports = container.plan.listen.iter();
                let ports: Vec<_> = ports
                    .flat_map(|port| ["TCP", "UDP"].map(|protocol| json!({"containerPort": port, "protocol": protocol})))
                    .collect();
                json!({
                    "name": container.name, "image": probe::IMAGE, "command": container.plan.command(), "ports": ports,
                    "securityContext": {
                        "runAsUser": container.user, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "probe", "mountPath": REPORTS}],
                })
            })
            .collect();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": {"app": self.app}},
            "spec": {
                "nodeName": node, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                "enableServiceLinks": false, "containers": containers,
                "volumes": [{"name": "probe", "hostPath": {"path": REPORTS, "type": "Directory"}}],
            },
        })
    }
}
