//! What is written down of a running pod, so that other processes find it and the next start can clean up after a
//! supervisor that was killed.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sidewall_netns::{Cgroup, Cgroups, Links, NetNs};

use crate::error::{Error, Result};
use crate::pod::{LivePod, PodInfo};

/// Where pods are written down unless told otherwise.
pub const DEFAULT_ROOT: &str = "/run/sidewall";

/// The cgroup below which all pods are.
pub const PODS_CGROUP: &str = "sidewall-sandbox";

/// How the names of our links on the node begin; nothing else is ever deleted.
pub(crate) const LINK_PREFIX: &str = "sw";

/// A pod as written down (`pods/NAMESPACE_NAME/state.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodState {
    /// The process that supervises the pod.
    pub supervisor: ProcessId,
    /// The pod's network namespace.
    pub netns: NsState,
    /// The namespace of the link's other end.
    pub node_netns: NsState,
    /// Whether the link's other end is in a namespace of its own, which goes away by itself.
    pub private_node: bool,
    /// What is known of the pod. Before the pod is complete, its containers are missing.
    pub pod: PodInfo,
    /// The running containers' first processes.
    pub processes: std::collections::BTreeMap<String, u32>,
}

/// A process that can't be mistaken for a later one of the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    /// The process id.
    pub pid: u32,
    /// Its start time in clock ticks after the system's start (`proc_pid_stat(5)`, field 22).
    pub start: u64,
}

/// A namespace that a living supervisor holds open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NsState {
    /// The device of the namespace's file.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// The supervisor's descriptor.
    pub fd: i32,
}

impl NsState {
    pub(crate) fn of(ns: &NetNs) -> NsState {
        use std::os::fd::AsFd;
        NsState { device: ns.id().device, inode: ns.id().inode, fd: ns.as_fd().as_raw_fd() }
    }

    /// Opens the namespace by way of the supervisor's descriptor, if that still is the same namespace.
    fn open(&self, supervisor: u32) -> Option<NetNs> {
        let ns = NetNs::from_path(format!("/proc/{supervisor}/fd/{}", self.fd)).ok()?;
        (ns.id().device == self.device && ns.id().inode == self.inode).then_some(ns)
    }
}

impl ProcessId {
    pub(crate) fn own() -> ProcessId {
        let pid = std::process::id();
        ProcessId { pid, start: start_time(pid).unwrap_or(0) }
    }

    /// Whether this very process still lives.
    pub fn alive(&self) -> bool {
        start_time(self.pid) == Some(self.start)
    }
}

/// `None` when there is no such process, or only its remains.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, in parentheses, is the name, which may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok())?
}

/// A directory of pods.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pods: PathBuf,
}

impl Store {
    pub fn new(root: &Path) -> Store {
        Store { pods: root.join("pods") }
    }

    pub fn dir(&self, namespace: &str, name: &str) -> PathBuf {
        // Neither can contain '_'.
        self.pods.join(format!("{namespace}_{name}"))
    }

    /// Makes the pod's directory, for root alone (logs may hold secrets).
    pub fn create(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let dir = self.dir(namespace, name);
        let logs = dir.join("logs");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&logs);
        made.map_err(|e| Error::file("create", &logs, e))?;
        Ok(dir)
    }

    /// Writes the state beside the old one and puts it in its place in one step.
    pub fn write(dir: &Path, state: &PodState) -> Result<()> {
        let path = dir.join("state.json");
        let new = dir.join("state.json.new");
        let text = serde_json::to_vec_pretty(state).map_err(|source| Error::State { path: path.clone(), source })?;
        let written = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&new, &path));
        written.map_err(|e| Error::file("write", &path, e))
    }

    pub fn read(&self, namespace: &str, name: &str) -> Result<Option<PodState>> {
        read_state(&self.dir(namespace, name))
    }

    fn dirs(&self) -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.pods) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::file("read", &self.pods, e)),
        };
        let mut dirs: Vec<PathBuf> = entries.filter_map(|e| e.ok()).map(|e| e.path()).filter(|p| p.is_dir()).collect();
        dirs.sort();
        Ok(dirs)
    }
}

fn read_state(dir: &Path) -> Result<Option<PodState>> {
    let path = dir.join("state.json");
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|source| Error::State { path, source }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file("read", &path, e)),
    }
}

/// Held while pods are made or cleaned up, by all processes of this machine, whatever their state directory: addresses
/// and link names belong to the machine.
pub(crate) struct MachineLock {
    pub pods: Cgroup,
    _lock: Flock<File>,
}

impl MachineLock {
    /// Waits for its turn, and makes the cgroup that contains all pods.
    pub fn take() -> Result<MachineLock> {
        let top = Cgroups::find()?.top();
        loop {
            let pods = top.create(PODS_CGROUP)?;
            let opened = match File::open(pods.path()) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened.map_err(|e| Error::file("open", pods.path(), e))?,
            };
            let inode = std::os::unix::fs::MetadataExt::ino(
                &opened.metadata().map_err(|e| Error::file("read", pods.path(), e))?,
            );
            let lock = Flock::lock(opened, FlockArg::LockExclusive)
                .map_err(|(_, e)| Error::file("lock", pods.path(), e.into()))?;
            // Who removed the last pod removes the directory too; then this lock is one on a thing of the past.
            if pods.id().is_ok_and(|id| id.0 == inode) {
                return Ok(MachineLock { pods, _lock: lock });
            }
        }
    }

    /// Removes the common cgroup when no pod is left in it.
    pub fn release(self) {
        // Busy or not empty: somebody else's to remove.
        let _ = fs::remove_dir(self.pods.path());
    }
}

/// Removes what supervisors that no longer live have left behind: processes, cgroups, links, state. Returns the pods
/// that it removed. State that can't be read is left alone, with a warning.
///
/// # Errors
/// [`Error::Teardown`] with everything that could not be removed; the rest was.
pub fn cleanup_stale(root: &Path) -> Result<Vec<String>> {
    let lock = MachineLock::take()?;
    let result = cleanup_locked(root, &lock);
    lock.release();
    result
}

pub(crate) fn cleanup_locked(root: &Path, lock: &MachineLock) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    let mut errors = Vec::new();
    for dir in Store::new(root).dirs()? {
        let name = dir.file_name().map(|n| n.to_string_lossy().replace('_', "/")).unwrap_or_default();
        match read_state(&dir) {
            Ok(Some(state)) if state.supervisor.alive() => continue,
            Ok(state) => {
                // Without a state file nothing else had been made: the file is written first.
                let link = state.as_ref().filter(|s| !s.private_node).map(|s| s.pod.node_interface.clone());
                let cgroup = state.as_ref().map(|s| s.pod.cgroup.path.clone());
                let problems = remove(&dir, cgroup.as_deref(), link.as_deref(), None, lock);
                if problems.is_empty() {
                    removed.push(name);
                }
                errors.extend(problems);
            }
            Err(error) => tracing::warn!(%error, "left alone"),
        }
    }
    if errors.is_empty() { Ok(removed) } else { Err(Error::Teardown(errors)) }
}

/// Removes everything of one pod, as far as it goes.
pub(crate) fn remove(
    dir: &Path,
    cgroup: Option<&Path>,
    link: Option<&str>,
    node: Option<&NetNs>,
    lock: &MachineLock,
) -> Vec<Error> {
    let mut errors = Vec::new();
    // Only what lies directly below our own cgroup, whatever the file says.
    if let Some(path) = cgroup.filter(|p| p.parent() == Some(lock.pods.path())) {
        // One that can't be opened is gone, or was never made.
        if let Some(Ok(cgroup)) = path.file_name().and_then(|n| n.to_str()).map(|name| lock.pods.open(name)) {
            errors.extend(cgroup.remove_tree().err().map(Error::from));
        }
    }
    if let Some(link) = link.filter(|l| l.starts_with(LINK_PREFIX)) {
        let result = node.map_or_else(Links::current, Links::of).and_then(|mut links| match links.delete(link) {
            // It goes with the pod's namespace, which the last process has just left.
            Err(sidewall_netns::Error::NoLink(_)) => Ok(()),
            Err(e) if e.errno() == Some(nix::libc::ENODEV) => Ok(()),
            other => other,
        });
        errors.extend(result.err().map(Error::from));
    }
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => errors.push(Error::file("remove", dir, e)),
        _ => {}
    }
    errors
}

/// The directory in which a pod is written down: for its owner alone, and removed with the pod.
pub fn directory(root: &Path, namespace: &str, name: &str) -> PathBuf {
    Store::new(root).dir(namespace, name)
}

/// The pods that are running, by name. State of dead supervisors is left out.
///
/// # Errors
/// [`Error::File`], [`Error::State`].
pub fn list(root: &Path) -> Result<Vec<PodState>> {
    let mut pods = Vec::new();
    for dir in Store::new(root).dirs()? {
        pods.extend(read_state(&dir)?.filter(|s| s.supervisor.alive()));
    }
    Ok(pods)
}

/// Finds a running pod of another process.
///
/// # Errors
/// [`Error::NoPod`], [`Error::LostNamespace`], and as [`list`].
pub fn attach(root: &Path, namespace: &str, name: &str) -> Result<LivePod> {
    let full = format!("{namespace}/{name}");
    let state = Store::new(root).read(namespace, name)?.filter(|s| s.supervisor.alive());
    let state = state.ok_or_else(|| Error::NoPod { name: full.clone() })?;
    let open = |ns: &NsState| ns.open(state.supervisor.pid).ok_or_else(|| Error::LostNamespace { name: full.clone() });
    Ok(LivePod::new(state.pod.clone(), open(&state.netns)?, open(&state.node_netns)?, Default::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_no_other() {
        let own = ProcessId::own();
        assert!(own.start > 0 && own.alive());
        assert!(!ProcessId { start: own.start + 1, ..own }.alive());
        assert!(!ProcessId { pid: u32::MAX / 2, start: 1 }.alive());
    }
}
