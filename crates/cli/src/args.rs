//! What can be written on the command line.

pub mod cluster;
pub mod flows;
pub mod install;
mod judging;
mod status;
mod values;
pub mod wall;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::flow_log;

pub use cluster::{ClusterArgs, CountArgs};
pub use flows::Flows;
pub use install::Install;
pub use judging::{Explain, Matrix};
pub use status::Status;
pub use values::Publish;

/// The exit codes, as `--help` tells them.
const EXIT_CODES: &str = "\
Exit codes:
  0  done; the answer is yes
  1  the answer is no: a flow is denied, an expectation failed, kernel and evaluator disagree, the pod failed,
     something is not enforced
  2  bad usage or bad input: an unknown option, a file with an error
  3  it could not be done: not root, the kernel lacks something, a pod could not be made, a cluster can't be read

Files are YAML or JSON with one or more documents; `-` is standard input. Kinds that are read:
ContainerNetworkPolicy and SidecarProxy (sidewall.dev/v1alpha1) and, as what policies speak of, Pod, Namespace,
Service and EndpointSlice. NO_COLOR and a pipe turn colours off.

`status`, `explain`, `matrix` and `flows` ask a cluster, too. As a plugin, which kubectl finds by its name, this same program is
`kubectl sidewall`:
  ln -s \"$(command -v sidewall)\" /usr/local/bin/kubectl-sidewall";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Green.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Gives every container in a pod its own network identity and its own firewall.
#[derive(Debug, Parser)]
#[command(name = "sidewall", version, styles = STYLES, after_help = EXIT_CODES, max_term_width = 110)]
pub struct Cli {
    /// How results are written
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The form of results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// For programs: one JSON value, or for `run` and `flows POD` one JSON object a line
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a Pod manifest on this machine behind the walls that its policies ask for (needs root)
    Run(Run),
    /// Look for mistakes in manifests and policies
    Check(Check),
    /// Show who can reach whom in a pod
    Matrix(Matrix),
    /// Say why a flow is allowed or denied, and what would allow it
    Explain(Explain),
    /// Show what of the policies is in force in a cluster, and what is not and why
    Status(Status),
    /// Show the flows that pods' walls denied, and what Audit policies would have changed: on this machine or in a cluster
    Flows(Flows),
    /// Compare expectations about flows with what policies say
    Test(Test),
    /// Show on a real pod what walls and a front proxy change (needs root)
    Demo(Demo),
    /// Write the manifests that install Sidewall in a cluster, for `kubectl apply -f -`
    Install(Install),
    /// Write a completion script for a shell
    #[command(after_help = "Example:\n  sidewall completions bash > /etc/bash_completion.d/sidewall")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Programs that pods of the examples and of probes run
    #[command(hide = true)]
    Internal {
        /// Which.
        #[command(subcommand)]
        program: Internal,
    },
}

/// How the kernel is to tell the containers' sockets apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IdentityChoice {
    /// By cgroup where this kernel can (`socket cgroupv2`), else by user
    #[default]
    Auto,
    /// By the cgroup in which a socket was made
    Cgroup,
    /// By the user who made a socket; each container needs a UID of its own
    Uid,
    /// By the group of the process that made a socket; each container needs a GID of its own
    Gid,
}

/// `--identity`.
#[derive(Args, Clone, Copy, Debug)]
pub struct IdentityArg {
    /// How containers are told apart
    #[arg(long, value_enum, default_value_t, value_name = "BY")]
    pub identity: IdentityChoice,
}

/// A pod and its policies.
#[derive(Args, Debug)]
pub struct PodAndPolicies {
    /// The file with the Pod; policies in it count too
    #[arg(value_name = "POD.yaml")]
    pub pod: PathBuf,
    /// Files with policies, and with objects that policies speak of
    #[arg(long = "policy", short = 'p', num_args = 1.., value_name = "FILE")]
    pub policies: Vec<PathBuf>,
    /// Which Pod of the file it is, where there are several
    #[arg(long = "pod", value_name = "NAME")]
    pub name: Option<String>,
}

/// Where running pods are written down.
#[derive(Args, Debug, Clone)]
pub struct StateDir {
    /// Where running pods are written down
    #[arg(long, value_name = "DIR", default_value = sidewall_sandbox::DEFAULT_ROOT)]
    pub state_dir: PathBuf,
}

/// `sidewall run`.
#[derive(Debug, Args)]
#[command(after_help = "\
The containers' commands run as processes of this machine: each container in a cgroup and under a user of its own,
without capabilities, all in one network namespace. They start only when the rules stand. Programs are looked up in
PATH, with the directory of `sidewall` first; a container without a workingDir starts in the manifest's directory.

With --wall split the containers run in parts of the pod, each with a network namespace of its own. Where the policies let a
container reach a declared port of one in another part, it does so at localhost:PORT (IPv4) as before; a link joins the
parts, and carries nothing else. The manifest and the policies stay as they are.

Policy files are watched: a change is loaded at once and ends the connections that it denies. A version with an error is
refused, and the rules stay as they were.

Denied flows are told as they come, and `sidewall flows` shows them elsewhere. --flow-log writes them as JSON lines too,
one record a line; with `-` they go to standard output, and everything else to standard error.

Examples:
  sidewall run pod.yaml --policy policy.yaml --publish 8080:80
  sidewall run pod.yaml --policy policy.yaml --flow-log flows.json
  sidewall run pod.yaml --policy policy.yaml --wall split --part metrics=metrics-exporter
  sidewall run pod.yaml -p policy.yaml proxy.yaml --identity uid --output json

Ctrl-C or SIGTERM ends the pod in good order and removes everything; a second one does so at once.")]
pub struct Run {
    #[command(flatten)]
    pub input: PodAndPolicies,
    #[command(flatten)]
    pub identity: IdentityArg,
    #[command(flatten)]
    pub wall: wall::WallArgs,
    /// Make a port of the pod reachable on this machine; on 127.0.0.1 unless ADDR says otherwise
    #[arg(long, value_name = "[ADDR:]HOST:POD")]
    pub publish: Vec<Publish>,
    /// Load no rules, for comparison
    #[arg(long)]
    pub no_walls: bool,
    /// Write flow records, as JSON lines, to a file, or to standard output (`-`); of a split pod, to FILE.PART for other parts than
    /// the primary
    #[arg(long, value_name = "FILE|-", conflicts_with = "no_walls", value_hint = clap::ValueHint::FilePath)]
    pub flow_log: Option<PathBuf>,
    /// How large that file may grow; then it is renamed to FILE.1, in the place of an older one, and begun anew
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65536), requires = "flow_log")]
    pub flow_log_size: u32,
    /// Tell of each reload how the rules came into force: by elements, by chains, or as a whole
    #[arg(long, short)]
    pub verbose: bool,
    #[command(flatten)]
    pub state: StateDir,
}

impl Run {
    /// Where flow records are written.
    pub fn flow_log(&self) -> Option<flow_log::Output> {
        let path = self.flow_log.clone()?;
        let limit = u64::from(self.flow_log_size) << 20;
        Some(if path.as_os_str() == "-" { flow_log::Output::Stdout } else { flow_log::Output::File { path, limit } })
    }
}

/// `sidewall check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every mistake is shown with its file, line and column. Where the files have Pods, the policies are also read for each of
them: a container that no pod has, a port name that nobody declares, a Service that is only partly allowed.

Warnings also tell what is understood but hardly meant: rules that others make needless, policies and peers that match
nobody, containers that are let out but not to DNS, and capabilities that no wall holds; with --identity uid (or gid) also
what makes that identity worthless.

Exit codes: 0 no errors, 1 warnings with --strict, 2 errors.

Examples:
  sidewall check policies/*.yaml
  sidewall check --strict pod.yaml policy.yaml --output json
  sidewall check --identity uid pod.yaml policy.yaml")]
pub struct Check {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Exit with 1 when there are warnings
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub identity: IdentityArg,
}

/// `sidewall test`.
#[derive(Debug, Args)]
#[command(after_help = "\
CASES.yaml (file names in it are relative to it; a field that is not listed here is an error):

  pod: pod.yaml                    # the file with the Pod
  podName: web                     # which Pod, where the file has several
  policies: [policy.yaml]
  identity: cgroup                 # cgroup (the default), uid or gid
  peers: {office: 203.0.113.7}     # names for addresses on the network
  cases:
  - name: the shipper reads metrics
    from: log-shipper              # a container, unknown, port-forward, node, an address, a peer, NAMESPACE/POD
    to: app
    port: metrics                  # a number, or a name that `to` declares
    protocol: TCP                  # TCP (the default), UDP or SCTP
    expect: Allow                  # or Deny

With --kernel each flow is tried in a real pod with the manifest's containers, users and ports, in which nothing runs
but probes; the network around it, with every address of the cases, is a namespace made for it.

Exit codes: 0 all as expected, 1 some are not.

Examples:
  sidewall test cases.yaml
  sidewall test cases.yaml --kernel --output json")]
pub struct Test {
    /// The file with the expectations
    #[arg(value_name = "CASES.yaml")]
    pub cases: PathBuf,
    /// Try each flow in a real pod (needs root)
    #[arg(long)]
    pub kernel: bool,
    #[command(flatten)]
    pub state: StateDir,
}

/// `sidewall demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Runs the pod of examples/hello twice, first without walls and then with them, tries the same connections in both and
shows what changed. Every line of the table comes from an attempt made then: `denied` means that a denial counter of the
rules went up, `nobody listens` that the kernel refused without one. The collector and `elsewhere` are listeners of the
demo on this machine, on addresses of the documentation range 198.51.100.0/24 that it puts on the pod's link.

Exit codes: 0 every line is as expected, 1 some are not.

Examples:
  sidewall demo
  sidewall demo --keep")]
pub struct Demo {
    /// Leave the walled pod running until Ctrl-C, and print commands to try
    #[arg(long)]
    pub keep: bool,
    /// Use the files of this directory instead of the built-in examples/hello
    #[arg(long, value_name = "DIR")]
    pub example: Option<PathBuf>,
    /// The port of this machine on which the front proxy is published; by default 8080 with --keep, else any free one
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    #[command(flatten)]
    pub identity: IdentityArg,
    #[command(flatten)]
    pub state: StateDir,
}

/// Programs that pods run.
#[derive(Debug, Subcommand)]
pub enum Internal {
    /// Answers what the sandbox's client asks over standard input
    Prober {
        /// The name that listeners answer with.
        name: String,
    },
    /// An application that answers `Hello World!`, asks nobody who they are, and counts requests
    Hello {
        /// Where the application listens.
        #[arg(long)]
        listen: SocketAddr,
        /// Where its metrics are.
        #[arg(long)]
        metrics: SocketAddr,
    },
    /// Reads metrics and sends them to a collector, again and again
    Ship {
        /// Where the metrics are.
        #[arg(long)]
        metrics: SocketAddr,
        /// Where they are sent.
        #[arg(long)]
        collector: SocketAddr,
        /// How long it waits in between.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
