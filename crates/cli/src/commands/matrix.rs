//! `sidewall matrix`: who can reach whom.

mod picture;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use serde::Serialize;
use sidewall_flow::{Action, Party, Protocol};
use sidewall_policy::explain::Side;
use sidewall_policy::{End, Flow, explain};

use super::Answer;
use crate::args::Matrix;
use crate::args::cluster::{PodName, PodPlace};
use crate::cluster::{self, Cluster, addresses};
use crate::ends::{NODE, Named, Names, PORT_FORWARD, UNKNOWN};
use crate::error::Error;
use crate::identity::Identity;
use crate::inputs;
use crate::live_pod::{self, About, LivePod};
use crate::parting::Parting;
use crate::probing::{Finding, ProbePod};
use crate::scene::{Imagined, Scene, Sources};
use crate::screen::Screen;

/// A column: somebody's port.
#[derive(Clone, Debug)]
struct Column {
    to: Named,
    protocol: Protocol,
    port: u16,
}

/// What is in a field of the matrix.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Field {
    from: String,
    to: String,
    protocol: Protocol,
    port: u16,
    verdict: Action,
    /// What Audit policies would have made of it, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<Action>,
    /// Why, for each side in the pod.
    sides: Vec<Side>,
    /// What the kernel did, where it was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<Finding>,
}

impl Field {
    /// Whether kernel and evaluator agree; where nothing was tried, they do.
    fn agrees(&self) -> bool {
        self.probe.as_ref().is_none_or(|finding| finding.action() == Some(self.verdict))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    pod: String,
    identity: &'a str,
    probed: bool,
    disagreements: usize,
    flows: &'a [Field],
    notes: Vec<sidewall_api::Diagnostic>,
    /// What is to be said of a cluster's pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a About>,
}

/// Judges every pair, and tries them where asked to.
///
/// # Errors
/// Bad input; a cluster that can't be read; with `--probe` whatever keeps a pod from being made.
pub fn run(options: &Matrix, screen: &Screen) -> Result<Answer, Error> {
    match PodPlace::of(&options.input.pod, &options.cluster)? {
        PodPlace::File(path) => in_files(options, &path, screen),
        PodPlace::Cluster(name) => in_cluster(options, &name, screen),
    }
}

fn in_cluster(options: &Matrix, name: &PodName, screen: &Screen) -> Result<Answer, Error> {
    if options.probe {
        return Err(Error::ProbeOfCluster);
    }
    if options.input.name.is_some() {
        return Err(Error::FilesForCluster("--pod"));
    }
    if options.wall.split()?.is_some() {
        return Err(Error::SplitOfCluster);
    }
    let files = inputs::sound(inputs::read(&options.input.policies)?)?;
    let (LivePod { imagined, identity, about }, namespace) = cluster::ask(async {
        let cluster = Cluster::of(&options.cluster).await?;
        let name = cluster.pod(name).await?;
        let pod = live_pod::read(&cluster, &name, options.identity.identity, &options.count, &files).await?;
        Ok((pod, name.namespace))
    })?;
    let peers = options.peer.iter().map(|peer| peer.name.as_str());
    let words = addresses(peers, &namespace, &imagined.world);
    let ends = ends(options, &imagined, words)?;
    let fields = judge(std::slice::from_ref(&imagined), None, &ends, |_, _| Ok(None))?;
    if screen.is_json() {
        screen.value(&Report {
            pod: imagined.name(),
            identity: identity.name(),
            probed: false,
            disagreements: 0,
            flows: &fields,
            notes: files.diagnostics,
            cluster: Some(&about),
        });
    } else {
        screen.diagnostics(&files.diagnostics);
        about.show(screen, identity);
        picture::show(screen, &fields, &ends.1, &ends.0);
    }
    Ok(Answer::Yes)
}

fn in_files(options: &Matrix, pod: &Path, screen: &Screen) -> Result<Answer, Error> {
    let sources = Sources::new(pod, options.input.name.as_ref(), &options.input.policies);
    let scene = Scene::read(&sources)?;
    let choice = options.identity.identity;
    let split = options.wall.split()?;
    let parting = match &split {
        Some(split) => Some(Parting::of(&scene.manifest, &split.parts)?),
        None => None,
    };
    let imagined = match &parting {
        Some(parting) => scene.imagine_split(parting, Identity::imagined(choice))?,
        None => vec![scene.imagine(Identity::imagined(choice))?],
    };
    let mut probing = if options.probe {
        // The addresses on the network have to be there before the pod is.
        let remotes = remotes(&imagined[0], &ends(options, &imagined[0], BTreeMap::new())?);
        let state = &options.state.state_dir;
        Some(match (&parting, &split) {
            (Some(parting), Some(split)) => {
                ProbePod::make_split(&scene, parting.clone(), split.kind, choice, state, &remotes)?
            }
            _ => ProbePod::find_or_make(&scene, choice, state, &remotes)?,
        })
    } else {
        None
    };
    let (imagined, identity) = match &probing {
        // What the kernel is compared with is the very pod that it was told of.
        Some(pod) => (pod.imagine(&scene), pod.identity()),
        None => (imagined, Identity::imagined(choice)),
    };
    let ends = ends(options, &imagined[0], BTreeMap::new())?;
    let fields = judge(&imagined, parting.as_ref(), &ends, |imagined, flow| match &mut probing {
        Some(pod) => pod.attempt(&imagined.pod, flow),
        None => Ok(None),
    })?;
    let imagined = &imagined[0];
    let disagreements = fields.iter().filter(|field| !field.agrees()).count();
    let notes = scene.notes(&imagined.pod);
    if screen.is_json() {
        screen.value(&Report {
            pod: imagined.name(),
            identity: identity.name(),
            probed: options.probe,
            disagreements,
            flows: &fields,
            notes,
            cluster: None,
        });
    } else {
        screen.diagnostics(&notes);
        picture::show(screen, &fields, &ends.1, &ends.0);
        if probing.is_some() {
            let tried = fields.iter().filter(|field| field.probe.is_some()).count();
            screen.line(&format!("{tried} flows tried, {disagreements} not as the policies say"));
        }
    }
    if let Some(pod) = probing {
        pod.end();
    }
    Ok(if disagreements == 0 { Answer::Yes } else { Answer::No })
}

/// Judges every pair, and tries it. Of a split pod `imagined` are the parts, and a flow is judged in its sender's; in its
/// receiver's where the sender is no container.
fn judge(
    imagined: &[Imagined],
    parting: Option<&Parting>,
    (senders, columns): &Ends,
    mut attempt: impl FnMut(&Imagined, &Flow) -> Result<Option<Finding>, Error>,
) -> Result<Vec<Field>, Error> {
    let part_of = |end: End| match end {
        End::Local(party @ Party::Container(_)) => parting?.index_of(imagined[0].pod.party_name(party)),
        _ => None,
    };
    let mut fields = Vec::new();
    for from in senders {
        for column in columns {
            let Some(flow) = possible(from, column) else { continue };
            let part = part_of(flow.sender).or_else(|| part_of(flow.receiver)).unwrap_or(0);
            let flow = at_part(flow, &imagined[0], &imagined[part]);
            let imagined = &imagined[part];
            let explanation = explain(&imagined.pod, &flow, Some(&imagined.world));
            fields.push(Field {
                from: from.label.clone(),
                to: column.to.label.clone(),
                protocol: column.protocol,
                port: column.port,
                verdict: explanation.verdict,
                audit: explanation.audit.map(|audit| audit.verdict),
                sides: explanation.sides,
                probe: attempt(imagined, &flow)?,
            });
        }
    }
    Ok(fields)
}

/// Rows and columns.
type Ends = (Vec<Named>, Vec<Column>);

/// The rows and columns. `peers` are addresses of words that the cluster is known by.
fn ends(options: &Matrix, imagined: &Imagined, mut peers: BTreeMap<String, IpAddr>) -> Result<Ends, Error> {
    peers.extend(options.peer.iter().filter_map(|peer| Some((peer.name.clone(), peer.address?))));
    let names =
        Names { pod: &imagined.pod, own: &imagined.own, node: &imagined.node, world: &imagined.world, peers: &peers };
    let containers: Vec<Named> = imagined
        .pod
        .containers
        .iter()
        .map(|(id, container)| Named { label: container.name.clone(), end: End::Local(Party::Container(*id)) })
        .collect();
    let mut senders = containers.clone();
    // A pod that is on no node yet has none.
    let node = (!imagined.node.is_empty()).then_some(NODE);
    let words = [UNKNOWN, PORT_FORWARD].into_iter().chain(node);
    for word in words.chain(options.peer.iter().map(|peer| peer.name.as_str())) {
        senders.push(names.end(word)?);
    }
    let mut columns: Vec<Column> = Vec::new();
    for to in &containers {
        for (_, protocol, port) in names.declared(to) {
            columns.push(Column { to: to.clone(), protocol, port });
        }
    }
    for to in &options.to {
        let named = names.end(&to.at.ip().to_string())?;
        columns.push(Column { to: named, protocol: to.protocol, port: to.at.port() });
    }
    Ok((senders, columns))
}

/// The addresses on the network but for the node's own, which every pod has at its other end.
fn remotes(imagined: &Imagined, (senders, columns): &Ends) -> Vec<IpAddr> {
    let ends = senders.iter().chain(columns.iter().map(|column| &column.to));
    ends.filter_map(|named| match named.end {
        End::Remote(address) => Some(address),
        End::Local(_) | End::Attached(..) => None,
    })
    .filter(|address| !imagined.node.contains(address))
    .collect()
}

/// The flow of a field, where there can be one: at least one end in the pod, and one family on the network.
fn possible(from: &Named, column: &Column) -> Option<Flow> {
    if let (End::Remote(_), End::Remote(_)) = (from.end, column.to.end) {
        return None;
    }
    Some(Flow { sender: from.end, receiver: column.to.end, protocol: column.protocol, port: column.port })
}

/// The flow as the part sees it: each part has a node's address of its own.
fn at_part(flow: Flow, primary: &Imagined, part: &Imagined) -> Flow {
    let end = |end| match end {
        End::Remote(address) => {
            let number = primary.node.iter().position(|own| *own == address);
            End::Remote(number.and_then(|number| part.node.get(number)).copied().unwrap_or(address))
        }
        end => end,
    };
    Flow { sender: end(flow.sender), receiver: end(flow.receiver), ..flow }
}

/// A verdict in a word.
fn word(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
    }
}
