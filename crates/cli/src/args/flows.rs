//! `sidewall flows`: whose flows, and which.

use std::path::PathBuf;

use clap::Args;
use sidewall_cluster::flows::AGENTS;

use super::StateDir;
use super::cluster::{ClusterArgs, ObjectName, POD};
use super::values::Since;
use crate::error::Error;

/// Where an agent offers its flows to root on its node.
const AGENT_SOCKET: &str = "/run/sidewall/flows.sock";

/// `sidewall flows`.
#[derive(Debug, Args)]
#[command(after_help = "\
The walls of a pod log what they deny; a pod without policies has no walls, and logs nothing. The last records are kept:
1024 of a pod that `sidewall run` runs, 128 of a pod of a cluster. Each line has the time (UTC), the verdict and the flow:
who opened it, to whom, the port; then who isolates. Verdicts:

  deny               policies isolate, and no rule allows it
  audit-would-deny   it passed; Enforce and Audit policies together would have denied it
  audit-would-allow  it was denied; Enforce and Audit policies together would have let it pass
  forged             the packet pretended to belong to another's flow
  improper           no policy can allow it: source routing, multicast under isolation, and the like

Rules write at most 20 messages a second for each decision, and nothing ever waits for a reader: what is missing is told
in its place (`lost`), with where it was lost. --output json gives one record a line, the form of --flow-log. Without
POD and without --follow, the kept records of every pod are summed up, equal flows together.

POD is a pod that `sidewall run` runs on this machine (as root). pod/NAME, or an option of the cluster, asks the agents of a
cluster's nodes, through the API server (port-forward). They are shown a token of a service account, made for that and
good for ten minutes: it needs the right to get flows.sidewall.dev in the namespace, and you the rights to create tokens of
it (create serviceaccounts/token), to get and list pods in the namespace, and to list pods and get and create
pods/portforward where the agents are. An agent shares its node's network, so the last of these lets its owner reach whatever listens on a node's
loopback device: it is a right for administrators. --agent asks the agent of this very node, as root, and needs no cluster.

Exit codes: 0 shown, even if there was nothing; 1 not all of it could be shown: a node did not answer, or, with --follow,
`sidewall run` went away before the pod had ended; 2 bad usage; 3 no such pod, not allowed.

Examples:
  sidewall flows
  sidewall flows web --follow --denied
  sidewall flows shop/web --since 10m --container app --output json
  sidewall flows -n shop
  sidewall flows -n shop pod/web-7d9f --follow
  sidewall flows -A --follow --service-account ops/auditor
  sidewall flows --agent")]
pub struct Flows {
    /// The pod: of this machine, NAME or NAMESPACE/NAME; of a cluster, pod/NAME
    #[arg(value_name = "POD")]
    pub pod: Option<String>,
    /// Go on with what comes, until the pod ends
    #[arg(long, short)]
    pub follow: bool,
    /// Only what is younger than so long (90s, 10m, 2h), or not before a time (2026-11-22T02:29:48Z)
    #[arg(long, value_name = "AGO|TIME")]
    pub since: Option<Since>,
    /// Only so many of the kept flows, the latest
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
    /// Only what was denied
    #[arg(long, conflicts_with = "audit")]
    pub denied: bool,
    /// Only what Audit policies would have changed
    #[arg(long)]
    pub audit: bool,
    /// Only flows that this container opened or answered
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    #[command(flatten)]
    pub state: StateDir,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Of all namespaces, which not everybody may see
    #[arg(long, short = 'A', conflicts_with_all = ["namespace", "pod"], help_heading = "Cluster")]
    pub all_namespaces: bool,
    /// The service account that is shown to agents [default: sidewall-flows in the namespace; with -A, where agents are]
    #[arg(long, value_name = "[NAMESPACE/]NAME", value_parser = account, help_heading = "Cluster")]
    pub service_account: Option<ObjectName>,
    /// The namespace in which agents run
    #[arg(long, value_name = "NAME", default_value = AGENTS, help_heading = "Cluster")]
    pub agents: String,
    /// Ask the agent of this node at its socket (needs root)
    #[arg(
        long,
        value_name = "SOCKET",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = AGENT_SOCKET,
        conflicts_with_all = ["kubeconfig", "context", "service_account", "agents"],
        help_heading = "Cluster"
    )]
    pub agent: Option<PathBuf>,
}

fn account(text: &str) -> Result<ObjectName, String> {
    ObjectName::of(text).ok_or_else(|| format!("{text:?} is neither NAME nor NAMESPACE/NAME of a service account"))
}

/// Whose flows are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Pods of this machine, or the one of this name.
    Here(Option<String>),
    /// A cluster's, or those of this node's agent: of a pod, of a namespace (the usual one, if none is named), or of all.
    Cluster(Scope),
}

/// Which of a cluster's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One.
    Pod(ObjectName),
    /// Those of the namespace.
    Namespace,
    /// All.
    All,
}

impl Flows {
    /// Whose flows these options ask for.
    ///
    /// # Errors
    /// Options that need another, or a pod's name of the wrong form.
    pub fn whose(&self) -> Result<Whose, Error> {
        let given = self.cluster.is_given()
            || self.all_namespaces
            || self.service_account.is_some()
            || self.agent.is_some()
            || self.agents != AGENTS;
        let named = self.pod.as_deref().and_then(|text| ObjectName::prefixed(text, &POD));
        let whose = match (named, &self.pod) {
            (Some(name), _) => Whose::Cluster(Scope::Pod(name)),
            (None, Some(pod)) if given => return Err(Error::PodOfCluster(pod.clone())),
            (None, None) if self.all_namespaces => Whose::Cluster(Scope::All),
            (None, None) if given => Whose::Cluster(Scope::Namespace),
            (None, pod) => Whose::Here(pod.clone()),
        };
        match whose {
            Whose::Here(None) if self.follow => Err(Error::NeedsPod("--follow")),
            Whose::Here(None) | Whose::Cluster(Scope::Namespace | Scope::All)
                if self.last.is_some() && !self.follow =>
            {
                Err(Error::NeedsPod("--last"))
            }
            whose => Ok(whose),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn whose(args: &[&str]) -> Result<Whose, String> {
        let cli = Cli::try_parse_from([&["sidewall", "flows"], args].concat()).map_err(|error| error.to_string())?;
        let Command::Flows(options) = cli.command else { panic!("it is flows") };
        options.whose().map_err(|error| error.to_string())
    }

    fn pod(namespace: Option<&str>, name: &str) -> Result<Whose, String> {
        let (namespace, name) = (namespace.map(str::to_owned), name.to_owned());
        Ok(Whose::Cluster(Scope::Pod(ObjectName { namespace, name })))
    }

    #[test]
    fn whose_flows_are_meant() {
        assert_eq!(whose(&[]), Ok(Whose::Here(None)));
        assert_eq!(whose(&["shop/web", "-f"]), Ok(Whose::Here(Some("shop/web".to_owned()))));
        assert_eq!(whose(&["pod/web", "--last", "3"]), pod(None, "web"));
        assert_eq!(whose(&["po/shop/web", "-n", "x"]), pod(Some("shop"), "web"));
        assert_eq!(whose(&["-n", "shop", "-f"]), Ok(Whose::Cluster(Scope::Namespace)));
        assert_eq!(whose(&["-A"]), Ok(Whose::Cluster(Scope::All)));
        assert_eq!(whose(&["--agent"]), Ok(Whose::Cluster(Scope::Namespace)));
        assert_eq!(whose(&["--agent=/x", "pod/shop/web"]), pod(Some("shop"), "web"));
        for (args, why) in [
            (&["-f"][..], "--follow needs a POD"),
            (&["--last", "3"], "--last needs a POD"),
            (&["-n", "shop", "--last", "3"], "--last needs a POD"),
            (&["-n", "shop", "web"], "write pod/web"),
            (&["-A", "pod/web"], "cannot be used with"),
            (&["-A", "-n", "shop"], "cannot be used with"),
            (&["--agent", "--context", "x"], "cannot be used with"),
            (&["-n", "shop", "--service-account", "a/b/c"], "neither NAME nor"),
        ] {
            let error = whose(args).unwrap_err();
            assert!(error.contains(why), "{args:?}: {error}");
        }
    }
}
