//! Makes a pod in two steps: [`Sandbox::prepare`] makes all that packet rules need to know (namespace, link, cgroups,
//! users), [`Prepared::start`] runs the first process. In between the caller raises the walls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use sidewall_netns::{Cgroup, NetNs};

use crate::address::{Addresses, Pools};
use crate::error::{Error, Result};
use crate::lifecycle::BackOff;
use crate::logs::LogSink;
use crate::network;
use crate::plan::{ContainerPlan, Facts, PlanOptions, PodPlan, plan};
use crate::pod::{CgroupRef, ContainerInfo, INTERFACE, LivePod, PodInfo};
use crate::state::{self, DEFAULT_ROOT, MachineLock, NsState, PodState, ProcessId, Store};
use crate::supervisor::Running;

/// How to make a pod.
#[derive(Clone)]
pub struct Options {
    /// Where pods are written down: [`DEFAULT_ROOT`] unless a test has its own.
    pub state_root: PathBuf,
    /// The namespace of the link's other end; the calling thread's (the machine itself) unless given. In one of its
    /// own a test may forward between pods, or have its own firewall, without touching the machine.
    pub node: Option<NetNs>,
    /// Where addresses come from.
    pub pools: Pools,
    /// How to read the manifest.
    pub plan: PlanOptions,
    /// How long to wait between restarts.
    pub back_off: BackOff,
    /// Receives the containers' output, beside the files.
    pub log_sink: Option<LogSink>,
    /// Where the log files go; unless given, below the pod's state, which goes when the pod goes.
    pub log_dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            state_root: DEFAULT_ROOT.into(),
            node: None,
            pools: Pools::default(),
            plan: PlanOptions::default(),
            back_off: BackOff::default(),
            log_sink: None,
            log_dir: None,
        }
    }
}

/// Makes pods.
pub struct Sandbox;

impl Sandbox {
    /// Makes everything of a pod but its processes. First removes what dead supervisors have left.
    ///
    /// # Errors
    /// [`Error::Manifest`] with every problem; [`Error::Running`]; [`Error::NoAddress`]; [`Error::Kernel`];
    /// [`Error::Teardown`] when a dead supervisor's pod of this name can't be removed. What had been made by then is
    /// removed.
    pub fn prepare(pod: &Pod, options: &Options) -> Result<Prepared> {
        let plan = plan(pod, &options.plan).map_err(Error::Manifest)?;
        let lock = MachineLock::take()?;
        let cleaned = state::cleanup_locked(&options.state_root, &lock);
        let store = Store::new(&options.state_root);
        if let Some(state) = store.read(&plan.namespace, &plan.name)? {
            lock.release();
            let name = format!("{}/{}", plan.namespace, plan.name);
            return match cleaned {
                Err(error) if !state.supervisor.alive() => Err(error),
                _ => Err(Error::Running { name, supervisor: state.supervisor.pid }),
            };
        }
        if let Err(error) = cleaned {
            // What is left of another pod does not stand in this one's way.
            tracing::warn!(%error, "cleaning up after a dead supervisor");
        }
        let dir = store.dir(&plan.namespace, &plan.name);
        let mut resources = None;
        match make(&plan, options, &store, &lock, &mut resources) {
            Ok((pod, state)) => Ok(Prepared { plan, pod, state, resources, options: options.clone() }),
            Err(error) => {
                let problems = match resources {
                    Some(resources) => resources.remove_under(&lock),
                    None => state::remove(&dir, None, None, None, &lock),
                };
                for problem in problems {
                    tracing::warn!(%problem, "after a failure");
                }
                lock.release();
                Err(error)
            }
        }
    }
}

/// Makes the pod. What is to be removed after a failure is left in `made`.
fn make(
    plan: &PodPlan,
    options: &Options,
    store: &Store,
    lock: &MachineLock,
    made: &mut Option<Resources>,
) -> Result<(LivePod, PodState)> {
    let netns = NetNs::new()?;
    let node = options.node.clone().map_or_else(NetNs::current, Ok)?;
    let full = format!("{}/{}", plan.namespace, plan.name);
    let (addresses, link) = network::choose(&options.pools, &node, &full)?;
    let uid = plan.uid.clone().map_or_else(random_uid, Ok)?;
    let pods_cgroup = reference(&lock.pods)?;
    let info = PodInfo {
        namespace: plan.namespace.clone(),
        name: plan.name.clone(),
        uid: uid.clone(),
        interface: INTERFACE.to_owned(),
        node_interface: link.clone(),
        addresses: addresses.pod.iter().map(|n| n.addr()).collect(),
        node_addresses: addresses.node.iter().map(|n| n.addr()).collect(),
        cgroup: CgroupRef { path: pods_cgroup.path.join(&uid), id: 0, level: pods_cgroup.level + 1 },
        pods_cgroup,
        containers: Vec::new(),
    };
    if info.cgroup.path.exists() {
        return Err(Error::UidTaken { uid, cgroup: info.cgroup.path });
    }
    let mut state = PodState {
        supervisor: ProcessId::own(),
        netns: NsState::of(&netns),
        node_netns: NsState::of(&node),
        private_node: options.node.is_some(),
        pod: info,
        processes: BTreeMap::new(),
    };
    // Written down before anything of it is made, so that nothing can be left behind that nobody knows of.
    let dir = store.create(&plan.namespace, &plan.name)?;
    Store::write(&dir, &state)?;
    let cgroup = state.pod.cgroup.path.clone();
    *made = Some(Resources { dir: dir.clone(), cgroup, link, node: node.clone(), done: false });
    let commands = build(plan, &mut state, &addresses, &netns, &node, lock, &dir)?;
    Ok((LivePod::new(state.pod.clone(), netns, node, commands), state))
}

fn build(
    plan: &PodPlan,
    state: &mut PodState,
    addresses: &Addresses,
    netns: &NetNs,
    node: &NetNs,
    lock: &MachineLock,
    dir: &Path,
) -> Result<BTreeMap<String, crate::plan::Command>> {
    let cgroup = lock.pods.create(&state.pod.uid)?;
    state.pod.cgroup = reference(&cgroup)?;
    for container in &plan.containers {
        state.pod.containers.push(describe(container, &cgroup.create(&container.name)?)?);
    }
    network::connect(netns, node, &state.pod.node_interface, addresses, &plan.sysctls)?;
    Store::write(dir, state)?;
    let facts = Facts {
        uid: &state.pod.uid,
        pod_ips: &state.pod.addresses,
        host_ip: state.pod.node_addresses.first().copied(),
    };
    Ok(plan.containers.iter().map(|c| (c.name.clone(), plan.command(c, &facts))).collect())
}

fn describe(plan: &ContainerPlan, cgroup: &Cgroup) -> Result<ContainerInfo> {
    Ok(ContainerInfo {
        name: plan.name.clone(),
        kind: plan.kind,
        uid: plan.uid,
        gid: plan.gid,
        groups: plan.groups.clone(),
        ports: plan.ports.clone(),
        cgroup: reference(cgroup)?,
    })
}

fn reference(cgroup: &Cgroup) -> Result<CgroupRef> {
    Ok(CgroupRef { path: cgroup.path().into(), id: cgroup.id()?.0, level: cgroup.level() })
}

fn random_uid() -> Result<String> {
    let path = "/proc/sys/kernel/random/uuid";
    std::fs::read_to_string(path).map(|u| u.trim().to_owned()).map_err(|e| Error::file("read", path, e))
}

/// A pod that is there but for its processes: raise the walls now. Dropping it removes it.
pub struct Prepared {
    pub(crate) plan: PodPlan,
    pub(crate) pod: LivePod,
    pub(crate) state: PodState,
    /// There from the moment the pod is.
    pub(crate) resources: Option<Resources>,
    pub(crate) options: Options,
}

impl Prepared {
    /// The pod, with all that rules are compiled from.
    pub fn pod(&self) -> &LivePod {
        &self.pod
    }

    /// Runs the pod's containers, in their order, under a supervising thread.
    ///
    /// # Errors
    /// [`Error::Thread`], [`Error::File`] for the logs. That a container can't be started is not an error of the pod: it
    /// is in the container's status, and the restart policy applies.
    pub fn start(self) -> Result<Running> {
        Running::start(self)
    }
}

/// What a pod consists of outside this process; removed when dropped.
pub(crate) struct Resources {
    dir: PathBuf,
    cgroup: PathBuf,
    link: String,
    node: NetNs,
    done: bool,
}

impl Resources {
    /// Removes everything now.
    pub fn remove(mut self) -> Result<()> {
        let errors = self.take_down();
        if errors.is_empty() { Ok(()) } else { Err(Error::Teardown(errors)) }
    }

    fn take_down(&mut self) -> Vec<Error> {
        self.done = true;
        match MachineLock::take() {
            Ok(lock) => {
                let errors = state::remove(&self.dir, Some(&self.cgroup), Some(&self.link), Some(&self.node), &lock);
                lock.release();
                errors
            }
            Err(error) => vec![error],
        }
    }

    /// For who holds the machine's lock already.
    fn remove_under(mut self, lock: &MachineLock) -> Vec<Error> {
        self.done = true;
        state::remove(&self.dir, Some(&self.cgroup), Some(&self.link), Some(&self.node), lock)
    }
}

impl Drop for Resources {
    fn drop(&mut self) {
        if !self.done {
            for error in self.take_down() {
                tracing::error!(%error, "removing a pod");
            }
        }
    }
}
