//! Flows of a cluster's pods, from the agents of their nodes.

mod follower;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sidewall_cluster::live;
use sidewall_flow::Record;
use sidewall_policy::index::Named;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::agents::Agents;
use super::filter::Filter;
use super::summary::{self, Summary};
use super::write;
use crate::args::Flows;
use crate::args::flows::Scope;
use crate::cluster::Cluster;
use crate::commands::Answer;
use crate::error::Error;
use crate::flow_line;
use crate::screen::Screen;
use follower::{Follower, News};

/// The most agents that are followed at once.
const AGENTS_MAX: usize = 128;
/// How many news of agents wait for being shown; agents wait, and lose records, which they tell.
const NEWS: usize = 64;
/// What this node is called where only its agent is asked.
const THIS_NODE: &str = "this node";

/// What is asked, of whom.
struct Asked {
    agents: Agents,
    nodes: BTreeSet<String>,
    namespace: Option<String>,
    pod: Option<String>,
    /// Nodes that have no agent.
    silent: Vec<String>,
}

/// Shows a pod's flows, those of a namespace or of all; or sums them up.
///
/// # Errors
/// Nothing can be shown. Where some nodes do not answer, that is told, and the others' flows are shown.
pub async fn run(scope: &Scope, options: &Flows, filter: &Filter, screen: &Screen) -> Result<Answer, Error> {
    let asked = Asked::of(scope, options).await?;
    let (pod, follow) = (asked.pod.clone(), options.follow);
    let ask = filter.ask(asked.namespace.as_deref(), asked.pod.as_deref(), follow);
    let (sender, mut news) = mpsc::channel(NEWS);
    let (go, gone) = watch::channel(false);
    let agents = Arc::new(asked.agents);
    let mut followers = JoinSet::new();
    for node in &asked.nodes {
        let follower = Follower::new(node.clone(), Arc::clone(&agents), ask.clone(), sender.clone(), gone.clone());
        followers.spawn(follower.run());
    }
    drop((sender, gone));
    let mut all = asked.silent.is_empty();
    if !all {
        let error = Error::NoAgent { nodes: asked.silent, namespace: options.agents.clone() };
        if asked.nodes.is_empty() {
            return Err(error);
        }
        screen.warning(&error.to_string());
    }

    // First what every one of them has kept, in the order of time.
    let (mut waiting, mut kept, mut failed) = (asked.nodes.len(), Vec::new(), Vec::new());
    while waiting > 0 {
        match news.recv().await {
            Some(News::Kept(records)) => {
                waiting -= 1;
                kept.extend(records);
            }
            Some(News::Ended { node, error }) => {
                waiting -= 1;
                failed.push((node, error));
            }
            Some(News::Trouble { node, what }) => screen.warning(&format!("{node}: {what}")),
            // Nothing comes before all that is kept has been shown.
            Some(News::Record(_)) => {}
            None => break,
        }
    }
    if !failed.is_empty() && failed.len() == asked.nodes.len() {
        let (node, error) = failed.swap_remove(0);
        failed.iter().for_each(|(node, error)| warn(screen, node, error));
        return Err(if node == THIS_NODE { error } else { Error::OfNode { node, error: Box::new(error) } });
    }
    failed.iter().for_each(|(node, error)| warn(screen, node, error));
    all &= failed.is_empty();
    kept.sort_by_key(Record::time);
    kept.retain(|record| filter.admits(record));
    if pod.is_none() && !follow {
        let mut pods: BTreeMap<(String, String), Summary> = BTreeMap::new();
        for record in &kept {
            if let Some((namespace, pod)) = record.pod() {
                let name = (namespace.to_owned(), pod.to_owned());
                pods.entry(name).or_insert_with(|| Summary::of(namespace, pod)).add(record);
            }
        }
        let pods: Vec<Summary> = pods.into_values().collect();
        summary::show(&pods, "nothing was denied of which the agents still know", screen);
        return Ok(if all { Answer::Yes } else { Answer::No });
    }
    let line = if pod.is_some() { flow_line::line } else { flow_line::line_of_pod };
    for record in filter.last(&kept, options.last) {
        if !write(record, line, screen) {
            return Ok(Answer::Yes);
        }
    }
    // Then what comes.
    let _ = go.send(true);
    while let Some(news) = news.recv().await {
        match news {
            News::Record(record) => {
                if filter.admits(&record) && !write(&record, line, screen) {
                    return Ok(Answer::Yes);
                }
                if pod.is_some() && matches!(record, Record::End(_)) {
                    return Ok(Answer::Yes);
                }
            }
            News::Kept(_) => {}
            News::Trouble { node, what } => screen.warning(&format!("{node}: {what}")),
            News::Ended { node, error } => {
                all = false;
                warn(screen, &node, &error);
            }
        }
    }
    Ok(if all { Answer::Yes } else { Answer::No })
}

fn warn(screen: &Screen, node: &str, error: &Error) {
    screen.warning(&format!("{node}: {error}"));
}

impl Asked {
    async fn of(scope: &Scope, options: &Flows) -> Result<Self, Error> {
        if let Some(socket) = &options.agent {
            let (namespace, pod) = match scope {
                Scope::Pod(name) => {
                    let namespace = name.namespace.clone().or_else(|| options.cluster.namespace.clone());
                    (Some(namespace.unwrap_or_else(|| "default".to_owned())), Some(name.name.clone()))
                }
                Scope::Namespace | Scope::All => (options.cluster.namespace.clone(), None),
            };
            let nodes = [THIS_NODE.to_owned()].into();
            return Ok(Self { agents: Agents::Here(socket.clone()), nodes, namespace, pod, silent: Vec::new() });
        }
        let cluster = Cluster::of(&options.cluster).await?;
        let (namespace, pod) = match scope {
            Scope::Pod(name) => {
                let name = cluster.named(name);
                (Some(name.namespace), Some(name.name))
            }
            Scope::Namespace => (Some(cluster.namespace.clone()), None),
            Scope::All => (None, None),
        };
        let home = namespace.as_ref().unwrap_or(&options.agents);
        let account = match &options.service_account {
            Some(name) => Named::new(name.namespace.as_ref().unwrap_or(home), &name.name),
            None => Named::new(home, sidewall_cluster::flows::READER),
        };
        let wanted = match (&namespace, &pod) {
            (Some(namespace), Some(pod)) => {
                let manifest = live::manifest(&cluster.client, &Named::new(namespace, pod)).await?;
                let node = manifest.spec.and_then(|spec| spec.node_name).filter(|node| !node.is_empty());
                Some([node.ok_or_else(|| Error::NotPlaced(format!("{namespace}/{pod}")))?].into())
            }
            // Where pods come later is not known.
            (Some(namespace), None) if !options.follow => {
                let pods = live::pods(&cluster.client, Some(namespace)).await?;
                Some(pods.into_iter().filter_map(|placed| placed.node).collect::<BTreeSet<String>>())
            }
            _ => None,
        };
        let agents = Agents::cluster(cluster.client, &options.agents, account);
        let with_agent: BTreeSet<String> = agents.by_node().await?.into_keys().collect();
        let (nodes, silent) = match wanted {
            Some(wanted) => wanted.into_iter().partition(|node| with_agent.contains(node)),
            None => (with_agent, BTreeSet::new()),
        };
        if nodes.is_empty() && silent.is_empty() && (options.follow || namespace.is_none()) {
            return Err(Error::NoAgent { nodes: vec!["any node".to_owned()], namespace: options.agents.clone() });
        }
        if options.follow && nodes.len() > AGENTS_MAX {
            return Err(Error::TooManyAgents { agents: nodes.len(), most: AGENTS_MAX });
        }
        Ok(Self { agents, nodes, namespace, pod, silent: silent.into_iter().collect() })
    }
}
