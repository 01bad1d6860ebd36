//! What happens in a cluster all day: pods come, go, move and change.

use crate::cluster::{Cluster, Replica};
use crate::policies;
use sidewall_policy::index::{Change, Named};
use sidewall_policy::model::PolicyKind;
use sidewall_policy::testing::Draw;
use std::collections::BTreeMap;

/// A sort of happening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A replica comes up on another node.
    Comes,
    /// One goes.
    Goes,
    /// One is replaced by another elsewhere, as in a roll-out.
    Moves,
    /// Labels of one change.
    Labels,
    /// A container of this node starts again, in another cgroup.
    Restarts,
    /// A pod starts on this node.
    StartsHere,
    /// A policy of an application that runs here comes, or goes.
    Policy,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Comes, Self::Goes, Self::Moves, Self::Labels, Self::Restarts, Self::StartsHere, Self::Policy];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Comes => "a pod comes on another node",
            Self::Goes => "a pod goes on another node",
            Self::Moves => "a pod moves between other nodes",
            Self::Labels => "a pod's labels change",
            Self::Restarts => "a container here restarts",
            Self::StartsHere => "a pod starts here",
            Self::Policy => "a policy comes or goes",
        }
    }
}

/// A happening: what the API server would tell of it, in order.
pub struct Happening {
    pub changes: Vec<Change>,
    /// The pod that starts here.
    pub starts: Option<Named>,
}

/// Draws happenings.
pub struct Churn {
    draw: Draw,
    restarts: u64,
    policies: usize,
    /// The policy that came last, and goes next: there are not more of them all the time.
    last: Option<(PolicyKind, Named)>,
    by_workload: BTreeMap<usize, Vec<usize>>,
}

impl Churn {
    pub fn new(cluster: &Cluster) -> Self {
        let mut by_workload: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, replica) in cluster.replicas.iter().enumerate() {
            by_workload.entry(replica.workload).or_default().push(index);
        }
        Self { draw: Draw::new(cluster.size.seed ^ 0xc4), restarts: 0, policies: 0, last: None, by_workload }
    }

    /// The next happening of a sort; none where there is nobody to whom it could happen.
    pub fn next(&mut self, cluster: &mut Cluster, kind: Kind) -> Option<Happening> {
        let mut changes = Vec::new();
        let mut starts = None;
        match kind {
            Kind::Comes => {
                let workload = self.some_workload();
                let node = self.elsewhere(cluster)?;
                self.come(cluster, workload, node, &mut changes);
            }
            Kind::Goes => {
                let gone = self.take(cluster)?;
                changes.push(Change::PodGone(self.named(cluster, gone)));
                changes.push(self.service(cluster, cluster.replicas[gone].workload));
            }
            Kind::Moves => {
                let gone = self.take(cluster)?;
                let node = self.elsewhere(cluster)?;
                self.come(cluster, cluster.replicas[gone].workload, node, &mut changes);
                changes.push(Change::PodGone(self.named(cluster, gone)));
            }
            Kind::Labels => {
                let index = self.some_replica(cluster, |replica| replica.node != 0)?;
                cluster.replicas[index].marked ^= true;
                changes.push(Change::Pod(cluster.pod(&cluster.replicas[index])));
            }
            Kind::Restarts => {
                let index = self.some_replica(cluster, |replica| replica.node == 0)?;
                self.restarts += 1;
                changes.push(Change::Subject(cluster.subject(&cluster.replicas[index], self.restarts)));
            }
            Kind::StartsHere => {
                let workload = self.some_workload();
                let index = self.come(cluster, workload, 0, &mut changes);
                starts = Some(self.named(cluster, index));
                changes.push(Change::Subject(cluster.subject(&cluster.replicas[index], 0)));
            }
            Kind::Policy if self.last.is_some() => {
                changes.extend(self.last.take().map(|(kind, name)| Change::PolicyGone(kind, name)));
            }
            Kind::Policy => {
                let here = self.some_replica(cluster, |replica| replica.node == 0)?;
                let workload = cluster.replicas[here].workload;
                let policy = policies::of_application(cluster, &mut self.draw, workload, 1_000_000 + self.policies);
                let (kind, metadata) = match &policy {
                    Change::NetworkPolicy(policy) => (PolicyKind::NetworkPolicy, Some(&policy.metadata)),
                    Change::Policy(policy) => (PolicyKind::ContainerNetworkPolicy, Some(&policy.metadata)),
                    _ => (PolicyKind::ContainerNetworkPolicy, None),
                };
                self.last = metadata.and_then(|metadata| {
                    Some((kind, Named::new(metadata.namespace.as_ref()?, metadata.name.as_ref()?)))
                });
                changes.push(policy);
                self.policies += 1;
            }
        }
        Some(Happening { changes, starts })
    }

    fn come(&mut self, cluster: &mut Cluster, workload: usize, node: usize, changes: &mut Vec<Change>) -> usize {
        let pod = cluster.add(workload, node).clone();
        changes.push(Change::Pod(cluster.pod(&pod)));
        let index = cluster.replicas.len() - 1;
        self.by_workload.entry(workload).or_default().push(index);
        changes.push(self.service(cluster, workload));
        index
    }

    /// A pod of another node that goes.
    fn take(&mut self, cluster: &Cluster) -> Option<usize> {
        let index = self.some_replica(cluster, |replica| replica.node != 0)?;
        if let Some(replicas) = self.by_workload.get_mut(&cluster.replicas[index].workload) {
            replicas.retain(|other| *other != index);
        }
        Some(index)
    }

    fn named(&self, cluster: &Cluster, index: usize) -> Named {
        let replica = &cluster.replicas[index];
        let namespace = cluster.workloads[replica.workload].namespace;
        Named::new(&cluster.namespaces[namespace], cluster.pod_name(replica))
    }

    fn service(&self, cluster: &Cluster, workload: usize) -> Change {
        let replicas: Vec<&Replica> =
            self.by_workload.get(&workload).into_iter().flatten().map(|index| &cluster.replicas[*index]).collect();
        Change::Service(cluster.service(workload, &replicas))
    }

    /// A workload; one with many replicas comes up as often as it has.
    fn some_workload(&mut self) -> usize {
        let all: Vec<usize> = self.by_workload.iter().flat_map(|(id, pods)| pods.iter().map(|_| *id)).collect();
        *self.draw.pick(&all)
    }

    fn some_replica(&mut self, cluster: &Cluster, wanted: impl Fn(&Replica) -> bool) -> Option<usize> {
        let all: Vec<usize> =
            self.by_workload.values().flatten().copied().filter(|index| wanted(&cluster.replicas[*index])).collect();
        (!all.is_empty()).then(|| *self.draw.pick(&all))
    }

    fn elsewhere(&mut self, cluster: &Cluster) -> Option<usize> {
        (cluster.nodes > 1).then(|| 1 + self.draw.below(cluster.nodes - 1))
    }
}
