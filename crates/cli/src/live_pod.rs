//! A pod of a cluster with everything that policies can say about it, as it is now.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;
use sidewall_api::{Loaded, NodeEnforcement};
use sidewall_cluster::live::{self, LiveError, PlacedPod};
use sidewall_cluster::{Cause, LocalPod};
use sidewall_policy::index::Named;
use sidewall_policy::model::Note;
use sidewall_policy::resolve;
use sidewall_policy::world::{Network, World, objects};

use crate::args::{CountArgs, IdentityChoice};
use crate::cluster::{Cluster, counted, kinds};
use crate::error::Error;
use crate::identity::Identity;
use crate::scene::{Imagined, node_addresses, subject};
use crate::screen::{Screen, visible};
use crate::what_if::{Supposed, suppose};
use sidewall_cluster::census::{Census, PodCensus, PodState, Seen};

/// A pod of a cluster.
pub struct LivePod {
    /// What its policies mean.
    pub imagined: Imagined,
    /// How its containers are told apart.
    pub identity: Identity,
    /// What else is to be said of it.
    pub about: About,
}

/// What is to be said of a pod before its verdicts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// How far its node enforces what is said of it.
    #[serde(flatten)]
    pod: PodCensus,
    /// Whether its node told how containers are told apart. Otherwise it was taken to be as `--identity` says.
    identity_reported: bool,
    /// The kinds of policies that were taken into account.
    counted: Vec<&'static str>,
    /// Those that were not.
    not_counted: Vec<&'static str>,
    /// The policies that were taken to be applied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    supposed: Vec<Supposed>,
    /// What is not known, and why.
    unknown: Vec<String>,
    /// What stands against its walls, as far as the pod itself tells; and that it will soon be gone.
    warnings: Vec<String>,
    /// What the policies' authors should know of this pod.
    notes: Vec<Note>,
}

/// Reads a pod and the cluster around it. The policies of `files` are taken to be applied.
///
/// # Errors
/// [`Error::Live`]; [`Error::Containers`]; [`Error::NotAPolicy`].
pub async fn read(
    cluster: &Cluster,
    name: &Named,
    choice: IdentityChoice,
    count: &CountArgs,
    files: &Loaded,
) -> Result<LivePod, Error> {
    let client = &cluster.client;
    let manifest = live::manifest(client, name).await?;
    let node = manifest.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty());
    let (mut unknown, mut warnings) = (Vec::new(), Vec::new());
    let mut unheard = false;
    let mut reports = BTreeMap::new();
    if let Some(node) = &node {
        match live::enforcement(client, node).await {
            Ok(report) => reports.extend(report.map(|report| (node.clone(), report))),
            Err(LiveError::Enforcements { cause: Cause::Forbidden, message }) => {
                unheard = true;
                unknown.push(format!("whether its node enforces this: {message}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let kinds = kinds(count, reports.values());
    let policies = live::policies(client, &kinds, Some(&name.namespace)).await?;
    let mut read = live::read(client, &kinds, Network::default()).await?;
    let supposed = suppose(&mut read.world, files, &kinds)?;
    warnings.extend(supposed.iter().filter_map(|one| one.warning(&name.namespace)));
    unknown.extend(read.unknown.iter().map(|(kind, why)| format!("{kind} objects: {why}")));

    let placed = PlacedPod { node, pod: LocalPod::of(&manifest) };
    let pod = census(&placed, &policies, &reports, unheard);
    let (identity, identity_reported) = match (choice, pod.identity) {
        (IdentityChoice::Auto, Some(kind)) => (Identity::reported(kind), true),
        _ => (Identity::imagined(choice), false),
    };
    // A node that reports has looked at what runs.
    if !identity_reported && let Err(error) = identity.check(&manifest, &read.world.proxies) {
        warnings.push(error.to_string());
    }
    if placed.pod.deleting {
        warnings.push("the pod is being deleted: its walls stand until it is gone".to_owned());
    }
    let imagined = imagine(&manifest, read.world, identity)?;
    let (counted, not_counted) = counted(&kinds);
    let notes = imagined.pod.notes.clone();
    let about = About { pod, identity_reported, counted, not_counted, supposed, unknown, warnings, notes };
    Ok(LivePod { imagined, identity, about })
}

/// How far the pod's walls hold. Where its node could not be heard, nobody can say.
fn census(
    placed: &PlacedPod,
    policies: &[live::ListedPolicy],
    reports: &BTreeMap<String, NodeEnforcement>,
    unheard: bool,
) -> PodCensus {
    let seen = Seen { now: Timestamp::now(), pods: std::slice::from_ref(placed), policies, nodes: Some(&[]), reports };
    let mut pod = Census::take(&seen).pods.remove(0);
    if unheard && pod.state == PodState::NotEnforced {
        pod.state = PodState::Unknown;
        pod.reasons.clear();
    }
    pod
}

/// The pod as its policies see it. Where it has no address yet, and its node none, there is none.
fn imagine(manifest: &Pod, mut world: World, identity: Identity) -> Result<Imagined, Error> {
    let (own, node) = (objects::pod(manifest).addresses, node_addresses(manifest));
    world.network.this_node = node.iter().copied().collect();
    let subject = subject(manifest, own.clone(), identity.unnumbered())?;
    Ok(Imagined { pod: resolve(&world, &subject), node, own, world })
}

impl About {
    /// Says it.
    pub fn show(&self, screen: &Screen, identity: Identity) {
        let paint = screen.paint();
        let on = self.pod.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        let name = format!("{}/{}{on}", self.pod.namespace, self.pod.name);
        let said = match self.pod.state {
            PodState::Enforced => paint.good("enforced"),
            PodState::Pending => paint.warn("not enforced yet"),
            PodState::NotEnforced => paint.bad("NOT ENFORCED: what follows is what the policies say, not what happens"),
            PodState::Unknown => paint.bad("nobody can say whether this is enforced"),
            PodState::NotSelected => "no policy selects it".to_owned(),
            PodState::NotRunning => paint.warn("nothing of it runs"),
        };
        screen.line(&format!("{name}: {said}"));
        for reason in &self.pod.reasons {
            screen.line(&format!("  {}", visible(reason)));
        }
        let by = if self.identity_reported { "as its node reports" } else { "as is assumed" };
        let mut counted =
            format!("containers are told apart by {}, {by}; counted: {}", identity.name(), self.counted.join(", "));
        if !self.not_counted.is_empty() {
            counted.push_str(&format!("; not counted: {}", self.not_counted.join(", ")));
        }
        screen.line(&paint.faint(&counted));
        for supposed in self.supposed.iter().filter(|supposed| supposed.counts) {
            let place = if supposed.replaces { ", in place of the cluster's own" } else { "" };
            screen.line(&paint.warn(&format!("as if applied: {}{place}", supposed.policy)));
        }
        screen.line("");
        for unknown in &self.unknown {
            screen.warning(&format!("not known: {}", visible(unknown)));
        }
        for warning in &self.warnings {
            screen.warning(warning);
        }
        for note in &self.notes {
            let of = note.policy.as_ref().map(|policy| format!("{policy}: ")).unwrap_or_default();
            screen.warning(&visible(&format!("{of}{}", note.message)));
        }
    }
}
