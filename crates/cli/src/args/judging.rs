//! `sidewall matrix` and `sidewall explain`: of files and of a cluster.

use std::path::PathBuf;

use clap::Args;

use super::values::{Destination, Named};
use super::{ClusterArgs, CountArgs, IdentityArg, PodAndPolicies, StateDir};

/// `sidewall matrix`.
#[derive(Debug, Args)]
#[command(after_help = "\
Rows are who opens a flow: every container, `unknown` (a socket of no container), `port-forward` (the runtime's own
process on the pod's loopback), `node` (this node's address, over the network) and every --peer. Columns are every
port that a container declares, and every --to.

With --probe each pair is tried for real, one after the other. Where `sidewall run` has the pod running, it is tried
there; otherwise in a pod made for it, with the manifest's containers, users and ports, in which nothing runs but
probes. A probe listens on the port as the receiving container where nobody else does, and the answer must come from
it. Where the container itself listens, being connected counts; with UDP, being denied by no counter does. An attempt
counts as denied only when a denial counter of the rules went up; one that came to nothing without is shown as unclear.
In a running pod, addresses of --peer and --to are not tried, because they are not ours, and what the pod's own
containers do meanwhile can move a counter too.

With --wall split the same is asked of the pod's parts: each flow in the part that its sender is in, where one is. Who is no
container is then in the part of whom it asks. The same policies give the same matrix; --probe shows it.

With pod/NAME, the pod and all policies are a cluster's, as they are now, as with `sidewall explain`; --peer may then be
pod/NAME and svc/NAME too. Nothing is tried in a cluster's pods.

Exit codes: 0, or with --probe 1 when kernel and evaluator disagree or an attempt is unclear.

Examples:
  sidewall matrix pod.yaml --policy policy.yaml
  sidewall matrix -n shop pod/web-0 --peer pod/db-0
  sidewall matrix pod.yaml -p policy.yaml --peer office=203.0.113.7 --to 10.0.0.5:5432/TCP
  sidewall matrix pod.yaml -p policy.yaml --probe --output json
  sidewall matrix pod.yaml -p policy.yaml --wall split --link macvlan --probe")]
#[command(mut_arg("pod", |arg| arg.value_name("POD.yaml|pod/NAME").help(POD_HELP)))]
pub struct Matrix {
    #[command(flatten)]
    pub input: PodAndPolicies,
    #[command(flatten)]
    pub identity: IdentityArg,
    #[command(flatten)]
    pub wall: super::wall::WallArgs,
    /// An address on the network that also sends; NAME is a label of yours, or NAMESPACE/POD alone for a Pod of the files
    #[arg(long, value_name = "NAME=IP")]
    pub peer: Vec<Named>,
    /// A destination on the network
    #[arg(long, value_name = "IP:PORT[/PROTO]")]
    pub to: Vec<Destination>,
    /// Try every pair in a real pod (needs root)
    #[arg(long)]
    pub probe: bool,
    #[command(flatten)]
    pub state: StateDir,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    #[command(flatten)]
    pub count: CountArgs,
}

/// What `explain` and `matrix` take.
const POD_HELP: &str =
    "The file with the Pod, where policies count too; or a cluster's pod: pod/NAME, deploy/NAME, pod/NAMESPACE/NAME";

/// `sidewall explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
FROM and TO are a container's name, `unknown` (a socket of no container), `port-forward` (the runtime's own process
on the pod's loopback), `node` (this node's address, over the network), an IP address, or NAMESPACE/POD of a Pod in the
files. IP%DEVICE and NAMESPACE/POD%DEVICE are on the further network that a device of the pod leads to. Without --port,
every port that the container TO declares is explained.

With pod/NAME, the pod and all policies are a cluster's, as they are now; FROM and TO may then also be pod/NAME and
svc/NAME (pod/NAMESPACE/NAME, svc/NAMESPACE/NAME). deploy/NAME, sts/NAME, ds/NAME, rs/NAME and job/NAME stand for the
first of their running pods. How far the pod's node enforces what is explained is said first, and containers are told
apart as they are there. It takes the rights to get pods, and to list what policies speak of in the whole cluster: pods,
namespaces, services, endpointslices, containernetworkpolicies, sidecarproxies, multi-networkpolicies where they are
served; networkpolicies where they count. nodes and servicecidrs to list and nodeenforcements to get are better had;
without them the output says what is not known. Policies of --policy files are taken to be applied, each in place of the
cluster's own of its name: so a change can be tried before it is made.

Exit codes: 0 all allowed, 1 something is denied.

Examples:
  sidewall explain -n shop pod/web-0 log-shipper app --port 8080
  sidewall explain -n shop deploy/web app svc/db --port 5432
  sidewall explain -n shop deploy/web app svc/db --port 5432 --policy changed.yaml
  sidewall explain pod.yaml --policy policy.yaml log-shipper app --port 8080
  sidewall explain pod.yaml --policy policy.yaml log-shipper 203.0.113.7 --port 443/TCP
  sidewall explain pod.yaml --policy policy.yaml node front-proxy --port http")]
pub struct Explain {
    #[arg(value_name = "POD.yaml|pod/NAME", help = POD_HELP)]
    pub pod: PathBuf,
    /// Who opens the flow
    pub from: String,
    /// Who is to answer it
    pub to: String,
    /// A file with policies, or with objects that policies speak of; may be given several times
    #[arg(long = "policy", short = 'p', value_name = "FILE")]
    pub policies: Vec<PathBuf>,
    /// Which Pod of the file it is, where there are several
    #[arg(long = "pod", value_name = "NAME")]
    pub name: Option<String>,
    /// The port: a number or a name that TO declares, with /UDP or /SCTP where it is not TCP
    #[arg(long, value_name = "PORT[/PROTO]")]
    pub port: Option<String>,
    #[command(flatten)]
    pub identity: IdentityArg,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    #[command(flatten)]
    pub count: CountArgs,
}
