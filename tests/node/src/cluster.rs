//! A whole cluster: a control plane with controllers, and nodes with kubelets.

use std::thread;
use std::time::Duration;

use crate::api::Api;
use crate::control::ControlPlane;
use crate::error::{BedError, Result};
use crate::fabric::Fabric;
use crate::kubelet;
use crate::node::{Node, Options};

/// How long the controllers may take to make a namespace's service account.
const LIMIT: Duration = Duration::from_secs(60);

/// A cluster in which `kubectl apply` is enough: API server, controller manager, scheduler, and nodes called `node1`, `node2`, …
/// with kubelet and containerd. It has no kube-proxy and no cluster DNS.
#[derive(Debug)]
pub struct Cluster {
    // In this order they end.
    nodes: Vec<Node>,
    control: ControlPlane,
    fabric: Fabric,
}

impl Cluster {
    /// Starts a cluster and returns when its nodes are ready and pods can be made in the namespace `default`.
    ///
    /// # Errors
    /// When a part is missing or does not start, with the end of its log.
    pub fn start(nodes: u8) -> Result<Cluster> {
        Cluster::with(nodes, &Options::default())
    }

    /// [`Cluster::start`], with options for the nodes.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn with(nodes: u8, options: &Options) -> Result<Cluster> {
        let fabric = Fabric::new()?;
        let (control, nodes) = thread::scope(|scope| {
            let control = scope.spawn(|| ControlPlane::start(&fabric));
            let nodes: Result<Vec<Node>> = (1..=nodes).map(|number| Node::with(&fabric, number, options)).collect();
            let control = control.join().unwrap_or_else(|_| {
                Err(BedError::Cell { cell: "control".into(), said: "the thread that started it panicked".into() })
            });
            (control, nodes)
        });
        let cluster = Cluster { nodes: nodes?, control: control?, fabric };
        cluster.control.start_controllers()?;
        for node in &cluster.nodes {
            kubelet::start(node, &cluster.control)?;
        }
        for node in &cluster.nodes {
            kubelet::ready(node, &cluster.control)?;
        }
        // Without it no pod is admitted.
        cluster.api().until("the default service account", LIMIT, &["serviceaccount", "default"], |_| true)?;
        Ok(cluster)
    }

    /// The API server as whoever may do anything sees it.
    pub fn api(&self) -> &Api {
        self.control.admin()
    }

    /// The control plane.
    pub fn control(&self) -> &ControlPlane {
        &self.control
    }

    /// The nodes: `node1` is the first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The network between them.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }
}
