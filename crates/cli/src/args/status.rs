//! `sidewall status`.

use clap::Args;

use super::cluster::{CountArgs, ScopeArgs, Target};

/// `sidewall status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each node's agent reports what is in force there (`kubectl get nodeenforcements`). What it says is compared with the
cluster's pods and policies: a pod is called enforced only where its node's agent says so, was heard of within the last
15 minutes, and has taken up the present generation of every policy that selects the pod. Nothing else is: a node
without a report has no agent, and a report that is older says nothing of now.

  reporting   the agent reports what it does
  behind      the agent reports, and works on old news of the cluster since a while
  silent      the agent was last heard of too long ago, or its clock can't be right
  no agent    no agent has ever reported

States of pods: Enforced; Pending (the guard stands, or a policy is on its way); NotEnforced, with the reasons; Unknown
(nobody can say).

It takes the rights to list nodeenforcements, containernetworkpolicies and sidecarproxies (sidewall.dev) and pods;
multi-networkpolicies where they are served, networkpolicies where they count; pods and policies of one namespace with
--namespace. Without the right to list nodes it goes on: nodes on which no pod runs and no agent reports are not shown
then.

Exit codes: 0 everything that is selected is enforced, and every node's agent reports; 1 something is not; 2 bad usage;
3 the cluster can't be read.

Examples:
  sidewall status
  sidewall status -n shop
  sidewall status -n shop pod/web-0
  sidewall status -n shop policy/log-shipper --output json")]
pub struct Status {
    /// One pod, policy or node: pod/NAME, policy/NAME, node/NAME, or pod/NAMESPACE/NAME; by default all
    #[arg(value_name = "WHAT", conflicts_with = "all_namespaces")]
    pub target: Option<Target>,
    #[command(flatten)]
    pub scope: ScopeArgs,
    #[command(flatten)]
    pub count: CountArgs,
}
