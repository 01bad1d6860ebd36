//! A pod that is there: what is known of it, and processes in its containers' identities.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sidewall_netns::{Cgroups, Launch, NetNs};

use crate::error::{Error, Result};
use crate::plan::{Command, DEFAULT_PATH, Kind, Port};

/// The pod's interface in its namespace.
pub const INTERFACE: &str = "eth0";

/// A cgroup as packet rules see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRef {
    /// The directory.
    pub path: PathBuf,
    /// What `socket cgroupv2` compares.
    pub id: u64,
    /// At which level.
    pub level: u32,
}

/// What is known of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// Its name.
    pub name: String,
    /// What kind it is.
    pub kind: Kind,
    /// Its processes' user id.
    pub uid: u32,
    /// Their group id.
    pub gid: u32,
    /// Their supplementary groups.
    #[serde(default)]
    pub groups: Vec<u32>,
    /// The ports it declares.
    pub ports: Vec<Port>,
    /// Its cgroup. It stays the same when the container restarts.
    pub cgroup: CgroupRef,
}

/// What is known of a pod: what rules are compiled from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodInfo {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its interface: [`INTERFACE`].
    pub interface: String,
    /// The node's end of the veth pair.
    pub node_interface: String,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The node's addresses toward it, IPv4 first: the source of probes.
    pub node_addresses: Vec<IpAddr>,
    /// The cgroup below which all pods are.
    pub pods_cgroup: CgroupRef,
    /// The pod's own cgroup, with the containers' below it.
    pub cgroup: CgroupRef,
    /// Its containers: init containers and sidecars in their order, then app containers.
    pub containers: Vec<ContainerInfo>,
}

impl PodInfo {
    /// Finds a container.
    ///
    /// # Errors
    /// [`Error::NoContainer`] with the names that there are.
    pub fn container(&self, name: &str) -> Result<&ContainerInfo> {
        self.containers.iter().find(|c| c.name == name).ok_or_else(|| Error::NoContainer {
            name: name.to_owned(),
            known: self.containers.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }
}

/// As whom a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A container: its cgroup, user, groups, environment and directory. What `kubectl exec` does.
    Container(String),
    /// A container's cgroup, under another user: a container that took a user id.
    ContainerAs {
        /// The container.
        container: String,
        /// The user and group id.
        uid: u32,
    },
    /// The pod's own cgroup and no container's, under some user: an unknown socket.
    Unknown {
        /// The user and group id.
        uid: u32,
    },
    /// The node itself, inside the pod's network namespace: root with its privileges, in this process's own cgroup. What a
    /// port-forward of the container runtime is.
    Node,
}

/// What a finished command said.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// How much of a command's output is kept, in bytes, of each stream; the rest is read and dropped.
pub const OUTPUT_LIMIT: usize = 1 << 20;

/// A handle to a pod that is there, whoever supervises it. Cheap to clone; dropping it ends nothing.
#[derive(Clone, Debug)]
pub struct LivePod {
    info: PodInfo,
    netns: NetNs,
    node: NetNs,
    commands: BTreeMap<String, Command>,
}

impl LivePod {
    pub(crate) fn new(info: PodInfo, netns: NetNs, node: NetNs, commands: BTreeMap<String, Command>) -> LivePod {
        LivePod { info, netns, node, commands }
    }

    /// What is known of the pod.
    pub fn info(&self) -> &PodInfo {
        &self.info
    }

    /// The pod's network namespace.
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// The namespace in which the node's end of the pod's link is.
    pub fn node_netns(&self) -> &NetNs {
        &self.node
    }

    /// What a container runs; `None` for a pod attached to from another process.
    pub fn command(&self, container: &str) -> Option<&Command> {
        self.commands.get(container)
    }

    /// A process in an identity of this pod, to be started by the caller; it dies with this process. A program without
    /// a `/` is looked up in the identity's `PATH`.
    ///
    /// # Errors
    /// [`Error::NoContainer`], [`Error::NoProgram`], [`Error::NoCommand`], [`Error::Kernel`] when the cgroup is gone.
    pub fn launch<S: AsRef<str>>(&self, identity: &Identity, argv: &[S]) -> Result<Launch> {
        let env = self.environment(identity)?;
        let (program, args) = argv.split_first().ok_or(Error::NoCommand)?;
        let program = find_program(program.as_ref(), env.get("PATH").map_or(DEFAULT_PATH, String::as_str))?;
        let launch = Launch::new(program).args(args.iter().map(AsRef::as_ref));
        self.confine(identity, launch)
    }

    /// Puts a process that the caller has described into an identity of this pod: cgroup, namespace, user, environment
    /// and directory. For programs that can't be named by a path (see [`Launch::from_file`]).
    ///
    /// # Errors
    /// As [`LivePod::launch`].
    pub fn confine(&self, identity: &Identity, launch: Launch) -> Result<Launch> {
        let mut launch = launch.netns(&self.netns).die_with_parent();
        for (name, value) in self.environment(identity)? {
            launch = launch.env(name, value);
        }
        let cgroup = |r: &CgroupRef| Cgroups::find()?.open(&r.path);
        Ok(match identity {
            Identity::Container(name) => {
                let container = self.info.container(name)?;
                let directory = self.commands.get(name).map(|c| c.directory.clone()).unwrap_or_else(|| "/".into());
                launch
                    .cgroup(&cgroup(&container.cgroup)?)
                    .identity(container.uid, container.gid)
                    .groups(container.groups.iter().copied())
                    .directory(directory)
            }
            Identity::ContainerAs { container, uid } => {
                launch.cgroup(&cgroup(&self.info.container(container)?.cgroup)?).identity(*uid, *uid).directory("/")
            }
            Identity::Unknown { uid } => launch.cgroup(&cgroup(&self.info.cgroup)?).identity(*uid, *uid).directory("/"),
            Identity::Node => launch.privileged(),
        })
    }

    fn environment(&self, identity: &Identity) -> Result<BTreeMap<String, String>> {
        let own = match identity {
            Identity::Container(name) | Identity::ContainerAs { container: name, .. } => {
                self.info.container(name)?;
                self.commands.get(name).map(|c| c.env.clone())
            }
            Identity::Unknown { .. } | Identity::Node => None,
        };
        Ok(own.unwrap_or_else(|| BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())])))
    }

    /// Runs a command in an identity of this pod to its end.
    ///
    /// # Errors
    /// As [`LivePod::launch`]; [`Error::Timeout`] after `limit`, when the command and its process group were killed.
    pub fn exec<S: AsRef<str>>(&self, identity: &Identity, argv: &[S], limit: Duration) -> Result<Output> {
        let launch = self.launch(identity, argv)?.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = launch.spawn()?;
        let program = process.program().to_owned();
        let start = Instant::now();
        let stdout = process.take_stdout().map(collect).transpose()?;
        let stderr = process.take_stderr().map(collect).transpose()?;
        let id = Pid::from_raw(process.pid() as i32);
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let mut pause = Duration::from_micros(200);
        let mut in_time = true;
        // An error here means that there is nothing to wait for.
        while in_time && matches!(waitid(Id::Pid(id), look), Ok(WaitStatus::StillAlive) | Err(Errno::EINTR)) {
            in_time = start.elapsed() < limit;
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
        // What it left in the background would keep the pipes open. Before it is reaped, so that the id is still its own.
        let _ = killpg(id, Signal::SIGKILL);
        let status = process.wait().map_err(|source| Error::file("wait for", &program, source));
        let text = |reader: Option<thread::JoinHandle<Vec<u8>>>| reader.and_then(|r| r.join().ok()).unwrap_or_default();
        let (stdout, stderr) = (text(stdout), text(stderr));
        if !in_time {
            return Err(Error::Timeout { program, limit_ms: limit.as_millis() });
        }
        Ok(Output { status: status?, stdout, stderr })
    }
}

fn collect(mut from: impl Read + Send + 'static) -> Result<thread::JoinHandle<Vec<u8>>> {
    thread::Builder::new()
        .name("output".into())
        .spawn(move || {
            let mut kept = Vec::new();
            let mut buffer = [0; 8192];
            // A read error is the end, like a closed pipe.
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                kept.extend_from_slice(&buffer[..n.min(OUTPUT_LIMIT - kept.len())]);
            }
            kept
        })
        .map_err(Error::Thread)
}

/// Finds a program as a shell would. That the user may run it is the kernel's to say.
pub(crate) fn find_program(program: &str, path: &str) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    if program.is_empty() {
        return Err(Error::NoCommand);
    }
    if program.contains('/') {
        return Ok(program.into());
    }
    let runs = |p: &PathBuf| p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    path.split(':')
        .map(|dir| PathBuf::from(if dir.is_empty() { "." } else { dir }).join(program))
        .find(runs)
        .ok_or_else(|| Error::NoProgram { program: program.to_owned(), path: path.to_owned() })
}
