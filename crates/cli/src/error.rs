//! What ends a command, and the exit code that it ends with.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use sidewall_api::Diagnostic;
use sidewall_cluster::client::ClientError;
use sidewall_cluster::live::LiveError;
use sidewall_policy::index::Named;

/// Why a command could not give an answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Files with errors.
    #[error("{}", summary(.0))]
    Input(Vec<Diagnostic>),
    /// A file that can't be read.
    #[error("can't read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A file that should have a pod.
    #[error("there is no Pod in {}", .0.display())]
    NoPod(PathBuf),
    /// A file with several pods.
    #[error("{} has several Pods ({}): say which with {how}", path.display(), names.join(", "))]
    ManyPods {
        /// The file.
        path: PathBuf,
        /// Their names.
        names: Vec<String>,
        /// Where to say it.
        how: &'static str,
    },
    /// A pod of another name.
    #[error("{} has no Pod {name:?}; it has {}", path.display(), names.join(", "))]
    OtherPod {
        /// The file.
        path: PathBuf,
        /// The name asked for.
        name: String,
        /// Those that there are.
        names: Vec<String>,
    },
    /// A pod with more containers than a ruleset can number.
    #[error(transparent)]
    Containers(#[from] sidewall_flow::ContainerIdError),
    /// A word that names no end of a flow.
    #[error(
        "{word:?} is nobody here: write one of {}, or unknown, port-forward, node, an IP address, or NAMESPACE/POD of a Pod that is known here and has an address; in a cluster also pod/NAME and svc/NAME",
        containers.join(", ")
    )]
    NoEnd {
        /// The word.
        word: String,
        /// The pod's containers.
        containers: Vec<String>,
    },
    /// An address that is the pod's own.
    #[error("{0} is this pod's own address: name the container instead")]
    OwnAddress(std::net::IpAddr),
    /// Both ends are outside the pod.
    #[error("neither {from} nor {to} is in the pod: nothing here can see such a flow")]
    Elsewhere {
        /// Who opens it.
        from: String,
        /// Who is to answer it.
        to: String,
    },
    /// A text that is no port.
    #[error(
        "{port:?} is no port of {to}: write a number from 1 to 65535, or a name that it declares, with /UDP or /SCTP where it is not TCP"
    )]
    Port {
        /// The text.
        port: String,
        /// Whose port it should be.
        to: String,
    },
    /// A port that has to be given.
    #[error("{0} declares no ports: say which with --port")]
    WhichPort(String),
    /// A file, where a pod of a cluster was asked for.
    #[error(
        "--kubeconfig, --context and --namespace are for a pod of a cluster, and {} is a file: write pod/NAME",
        .0.display()
    )]
    FileOfCluster(PathBuf),
    /// Files beside a pod of a cluster.
    #[error("{0} is for a pod of a file: of a cluster's pod, everything is read from the cluster")]
    FilesForCluster(&'static str),
    /// A name without its kind, where a pod of a cluster was asked for.
    #[error("{0} is the form of a pod of this machine: of a cluster, write pod/{0}")]
    PodOfCluster(String),
    /// An option that is about one pod.
    #[error("{0} needs a POD, or a cluster (`sidewall flows --help`)")]
    NeedsPod(&'static str),
    /// Nodes without an agent.
    #[error(
        "no agent runs on {}: nothing there is enforced by one, and nothing is logged; agents were looked for in namespace {namespace} (--agents)",
        nodes.join(", ")
    )]
    NoAgent {
        /// The nodes.
        nodes: Vec<String>,
        /// Where agents were looked for.
        namespace: String,
    },
    /// A pod that no node has.
    #[error("the pod {0} is on no node yet")]
    NotPlaced(String),
    /// More agents than are followed at once.
    #[error("{agents} agents would have to be followed, and {most} is the most: name a pod")]
    TooManyAgents {
        /// How many there are.
        agents: usize,
        /// The most.
        most: usize,
    },
    /// What is wrong with a node's agent.
    #[error("{node}: {error}")]
    OfNode {
        /// The node.
        node: String,
        /// What it is.
        error: Box<Error>,
    },
    /// The way to agents' flow logs.
    #[error(transparent)]
    AgentFlows(#[from] sidewall_cluster::flows::FlowsError),
    /// An agent's flow log that can't be read.
    #[error(transparent)]
    FlowStream(#[from] sidewall_flowstream::ClientError),
    /// Something else than policies beside a pod of a cluster.
    #[error(
        "a file has a {0}: with a cluster's pod, files give the policies that would be applied, and everything else is the cluster's"
    )]
    NotAPolicy(&'static str),
    /// A probe in a cluster.
    #[error("nothing is tried in a cluster's pods: --probe is for a pod of a file")]
    ProbeOfCluster,
    /// Something that makes pods, and has none.
    #[error("{kind} {name} has no pod that runs: `kubectl get pods` shows why")]
    NoPodOf {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: Named,
    },
    /// A node that is not there.
    #[error("there is no node {0}, or it can't be seen")]
    NoNode(String),
    /// There is no way to a cluster.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A cluster that can't be read.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// A cluster that can't be read as a whole.
    #[error("{0} in the whole cluster, or name a namespace with --namespace where you have that right")]
    LiveWhole(LiveError),
    /// The pod can't be walled.
    #[error("the pod {pod} can't be walled off{}:{}", by.map(|by| format!(" by {by}")).unwrap_or_default(), lines(.reasons))]
    Unenforceable {
        /// The pod.
        pod: String,
        /// The identity.
        by: Option<&'static str>,
        /// Why.
        reasons: Vec<String>,
    },
    /// A pod that can't be divided so.
    #[error("the pod can't be split so:{}", lines(.0))]
    Parting(Vec<String>),
    /// An option of split pods for one that is not split.
    #[error("{0} is for a split pod: add --wall split")]
    NotSplit(&'static str),
    /// A split pod without rules.
    #[error("a split pod's link is carried by its rules: --no-walls is for --wall shared")]
    SplitWithoutWalls,
    /// A split pod of a cluster.
    #[error("--wall split is for a pod of a file: a cluster's pod is split where a PodSplit says so")]
    SplitOfCluster,
    /// A split pod's link that can't be opened.
    #[error(transparent)]
    Loopback(#[from] sidewall_netfilter::LoopbackError),
    /// The kernel has no way to tell sockets apart by cgroup.
    #[error(
        "this kernel can't tell sockets apart by cgroup (CONFIG_NFT_SOCKET, `socket cgroupv2`): use --identity uid"
    )]
    NoCgroupMatch,
    /// Not root.
    #[error("this makes network namespaces, cgroups and packet rules: run it as root")]
    NotRoot,
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] sidewall_sandbox::Error),
    /// Namespaces and links.
    #[error(transparent)]
    Netns(#[from] sidewall_netns::Error),
    /// Netfilter's socket.
    #[error(transparent)]
    Netlink(#[from] sidewall_netfilter::NetlinkError),
    /// Rules that the kernel did not take.
    #[error("the rules could not be loaded: {0}")]
    Load(#[from] sidewall_netfilter::LoadError),
    /// Rules that this kernel can't enforce.
    #[error("the rules can't be enforced here: {0}")]
    Lacking(#[from] sidewall_netfilter::Unenforceable),
    /// A flow log on a kernel that can't write one.
    #[error(
        "denials can't be logged: this kernel has no NFLOG (CONFIG_NFT_LOG, CONFIG_NETFILTER_NETLINK_LOG); run it without --flow-log"
    )]
    NoLog,
    /// A pod's log that can't be followed.
    #[error(transparent)]
    Follow(#[from] sidewall_flowlog::FollowError),
    /// A flow log that can't be offered.
    #[error(transparent)]
    Serve(#[from] sidewall_flowlog::ServeError),
    /// A flow log that can't be read.
    #[error(transparent)]
    Flows(#[from] sidewall_flowlog::ClientError),
    /// A flow log that can't be written.
    #[error(transparent)]
    FlowFile(#[from] sidewall_flowlog::FileError),
    /// A pod that does not run here.
    #[error("no pod {name} runs here{}; `sidewall run` starts one, and --state-dir says where it is written down", others(.running))]
    NotRunning {
        /// The name asked for.
        name: String,
        /// Those that run.
        running: Vec<String>,
    },
    /// A name that pods of several namespaces have.
    #[error("several pods are called {name}: write one of {}", pods.join(", "))]
    SeveralRunning {
        /// The name.
        name: String,
        /// Namespaces and names.
        pods: Vec<String>,
    },
    /// A program that should lie beside this one.
    #[error("{} is not there: build it (cargo build -p sidewall-proxy), or install it beside sidewall", .0.display())]
    NoProgram(PathBuf),
    /// A file or directory of our own.
    #[error("can't {action} {}: {source}", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// With which.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// An address on which nobody can listen.
    #[error("can't listen on {at}: {source}")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
    /// A thread or a signal handler.
    #[error("can't {action}: {source}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// A container that does not get ready.
    #[error("the pod did not become ready within {seconds} s:{}", lines(.states))]
    NotReady {
        /// How long it was waited for.
        seconds: u64,
        /// How its containers are.
        states: Vec<String>,
    },
    /// It was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// An attempt that says nothing.
    #[error("the probe of {0} did not work: {1}")]
    Probe(String, String),
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|d| d.is_error()).count();
    format!("{errors} error{}", if errors == 1 { "" } else { "s" })
}

fn others(pods: &[String]) -> String {
    if pods.is_empty() { String::new() } else { format!(" (but {})", pods.join(", ")) }
}

fn lines(of: &[String]) -> String {
    of.iter().map(|line| format!("\n  {line}")).collect()
}

impl Error {
    /// The exit code: 2 for what the user wrote, 3 for what could not be done.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Input(_)
            | Self::Read { .. }
            | Self::NoPod(_)
            | Self::ManyPods { .. }
            | Self::OtherPod { .. }
            | Self::Containers(_)
            | Self::NoEnd { .. }
            | Self::OwnAddress(_)
            | Self::Elsewhere { .. }
            | Self::Port { .. }
            | Self::WhichPort(_)
            | Self::SeveralRunning { .. }
            | Self::FileOfCluster(_)
            | Self::FilesForCluster(_)
            | Self::NotAPolicy(_)
            | Self::ProbeOfCluster
            | Self::PodOfCluster(_)
            | Self::NeedsPod(_)
            | Self::Client(ClientError::Kubeconfig { .. } | ClientError::Context { .. })
            | Self::Unenforceable { .. }
            | Self::Parting(_)
            | Self::NotSplit(_)
            | Self::SplitWithoutWalls
            | Self::SplitOfCluster
            | Self::Sandbox(sidewall_sandbox::Error::Manifest(_)) => 2,
            _ => 3,
        }
    }
}
