//! `sidewall status`: what of the policies is in force in a cluster, and what is not and why.

mod picture;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use sidewall_api::enforcement::EnforcedKind;
use sidewall_cluster::live::{self, LiveError};
use sidewall_cluster::{Cause, Kind};
use sidewall_policy::index::Named;

use super::Answer;
use crate::args::Status;
use crate::args::cluster::Target;
use crate::cluster::{self, Cluster, counted, kinds};
use crate::error::Error;
use crate::screen::Screen;
use sidewall_cluster::census::{Census, Counts, NodeState, PodState, PolicyRef, Seen};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// Whether everything that is shown is enforced.
    enforced: bool,
    /// The namespace, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    /// The numbers of the pods that are shown.
    counts: Counts,
    /// The kinds of policies that were taken into account.
    counted: Vec<&'static str>,
    /// Those that were not.
    not_counted: Vec<&'static str>,
    /// What is not known, and why.
    unknown: Vec<String>,
    #[serde(flatten)]
    census: Census,
}

/// What it is about, with its namespace.
enum About {
    All,
    Pod(Named),
    Policy(Option<EnforcedKind>, Named),
    Node(String),
}

/// Adds up what the nodes say.
///
/// # Errors
/// A cluster that can't be read, or what was asked for is not there.
pub fn run(options: &Status, screen: &Screen) -> Result<Answer, Error> {
    let report = cluster::ask(read(options))?;
    if screen.is_json() {
        screen.value(&report);
    } else {
        picture::show(screen, &report, options.target.is_some());
    }
    Ok(if report.enforced { Answer::Yes } else { Answer::No })
}

async fn read(options: &Status) -> Result<Report, Error> {
    let cluster = Cluster::of(&options.scope.cluster).await?;
    let client = &cluster.client;
    let (about, namespace) = match &options.target {
        None => (About::All, options.scope.cluster.namespace.clone()),
        Some(Target::Node(name)) => (About::Node(name.clone()), options.scope.cluster.namespace.clone()),
        Some(Target::Pod(name)) => {
            let name = cluster.named(name);
            let namespace = name.namespace.clone();
            (About::Pod(name), Some(namespace))
        }
        Some(Target::Policy(kind, name)) => {
            let name = cluster.named(name);
            let namespace = name.namespace.clone();
            (About::Policy(*kind, name), Some(namespace))
        }
    };
    let within = namespace.as_deref();
    let whole = |error: LiveError| match &error {
        LiveError::Kind { cause: Cause::Forbidden, .. } if within.is_none() => Error::LiveWhole(error),
        _ => error.into(),
    };
    let reports = live::enforcements(client).await?;
    let kinds = kinds(&options.count, reports.values());
    let policies = live::policies(client, &kinds, within).await.map_err(whole)?;
    let mut pods = live::pods(client, within).await.map_err(whole)?;
    let mut unknown = Vec::new();
    let nodes = match live::nodes(client).await {
        Ok(nodes) => Some(nodes),
        Err(LiveError::Kind { cause: Cause::Forbidden, message, .. }) => {
            unknown.push(format!("which nodes there are beside those that report or run pods: {message}"));
            None
        }
        Err(error) => return Err(error.into()),
    };
    match &about {
        About::Pod(name) => {
            pods.retain(|placed| placed.pod.name == name.name);
            if pods.is_empty() {
                return Err(LiveError::Missing { kind: Kind::Pod.as_str(), name: name.to_string() }.into());
            }
        }
        About::Node(node) => pods.retain(|placed| placed.node.as_ref() == Some(node)),
        About::All | About::Policy(..) => {}
    }
    let mut census = Census::take(&Seen {
        now: Timestamp::now(),
        pods: &pods,
        policies: &policies,
        nodes: nodes.as_deref(),
        reports: &reports,
    });
    narrow(&mut census, &about, within.is_some())?;
    let (counted, not_counted) = counted(&kinds);
    let enforced = census.is_enforced();
    Ok(Report { enforced, namespace, counts: census.counts(), counted, not_counted, unknown, census })
}

/// Leaves what was asked for.
fn narrow(census: &mut Census, about: &About, one_namespace: bool) -> Result<(), Error> {
    match about {
        About::All => census.pods.retain(|pod| pod.state.is_selected()),
        // Shown whatever it is.
        About::Pod(_) => {
            let selecting = census.pods.first().map(|pod| pod.policies.clone()).unwrap_or_default();
            census.policies.retain(|policy| selecting.contains(&policy.named()));
        }
        About::Policy(kind, name) => {
            let is = |policy: &PolicyRef| {
                kind.is_none_or(|kind| kind == policy.kind)
                    && (&policy.namespace, &policy.name) == (&name.namespace, &name.name)
            };
            census.policies.retain(|policy| is(&policy.named()));
            if census.policies.is_empty() {
                let kind = kind.map_or("a policy", kind_name);
                return Err(LiveError::Missing { kind, name: name.to_string() }.into());
            }
            census.pods.retain(|pod| pod.state.is_selected() && pod.policies.iter().any(is));
        }
        About::Node(node) => {
            census.nodes.retain(|other| other.name == *node);
            if census.nodes.is_empty() {
                return Err(Error::NoNode(node.clone()));
            }
            census.pods.retain(|pod| pod.state.is_selected());
            census.policies.retain(|policy| policy.selected > 0);
            return Ok(());
        }
    }
    // Of a part of the cluster, other nodes say nothing.
    if one_namespace {
        let mine: BTreeSet<&str> = census
            .pods
            .iter()
            .filter(|pod| !matches!(pod.state, PodState::NotRunning | PodState::NotSelected))
            .filter_map(|pod| pod.node.as_deref())
            .collect();
        census.nodes.retain(|node| mine.contains(node.name.as_str()));
    }
    Ok(())
}

/// A kind of policy, as it is written.
fn kind_name(kind: EnforcedKind) -> &'static str {
    match kind {
        EnforcedKind::ContainerNetworkPolicy => "ContainerNetworkPolicy",
        EnforcedKind::SidecarProxy => "SidecarProxy",
        EnforcedKind::NetworkPolicy => "NetworkPolicy",
        EnforcedKind::MultiNetworkPolicy => "MultiNetworkPolicy",
    }
}

/// How well a node can be heard, in words.
fn node_word(state: NodeState) -> &'static str {
    match state {
        NodeState::Reporting => "reporting",
        NodeState::Behind => "behind",
        NodeState::Silent => "silent",
        NodeState::NoAgent => "no agent",
    }
}

#[cfg(test)]
mod tests;
