//! `sidewall matrix`: who can reach whom.

mod picture;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use sidewall_flow::{Action, Party, Protocol};
use sidewall_policy::explain::Side;
use sidewall_policy::{End, Flow, explain};

use super::Answer;
use crate::args::Matrix;
use crate::ends::{NODE, Named, Names, PORT_FORWARD, UNKNOWN};
use crate::error::Error;
use crate::identity::Identity;
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
}

/// Judges every pair, and tries them where asked to.
///
/// # Errors
/// Bad input; with `--probe` whatever keeps a pod from being made.
pub fn run(options: &Matrix, screen: &Screen) -> Result<Answer, Error> {
    let sources = Sources::new(&options.input.pod, options.input.name.as_ref(), &options.input.policies);
    let scene = Scene::read(&sources)?;
    let choice = options.identity.identity;
    let imagined = scene.imagine(Identity::imagined(choice))?;
    let mut probing = if options.probe {
        // The addresses on the network have to be there before the pod is.
        let remotes = remotes(&imagined, &ends(options, &imagined)?);
        Some(ProbePod::find_or_make(&scene, choice, &options.state.state_dir, &remotes)?)
    } else {
        None
    };
    let (imagined, identity) = match &probing {
        // What the kernel is compared with is the very pod that it was told of.
        Some(pod) => (pod.imagine(&scene), pod.identity()),
        None => (imagined, Identity::imagined(choice)),
    };
    let (senders, columns) = ends(options, &imagined)?;
    let mut fields = Vec::new();
    for from in &senders {
        for column in &columns {
            let Some(flow) = possible(from, column) else { continue };
            let explanation = explain(&imagined.pod, &flow, Some(&imagined.world));
            let probe = match &mut probing {
                Some(pod) => pod.attempt(&imagined.pod, &flow)?,
                None => None,
            };
            fields.push(Field {
                from: from.label.clone(),
                to: column.to.label.clone(),
                protocol: column.protocol,
                port: column.port,
                verdict: explanation.verdict,
                audit: explanation.audit.map(|audit| audit.verdict),
                sides: explanation.sides,
                probe,
            });
        }
    }
    let disagreements = fields.iter().filter(|field| !field.agrees()).count();
    let notes = scene.notes(&imagined.pod);
    if screen.is_json() {
        screen.value(&Report {
            pod: format!("{}/{}", imagined.pod.namespace, imagined.pod.name),
            identity: identity.name(),
            probed: options.probe,
            disagreements,
            flows: &fields,
            notes,
        });
    } else {
        screen.diagnostics(&notes);
        picture::show(screen, &fields, &columns, &senders);
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

fn ends(options: &Matrix, imagined: &Imagined) -> Result<(Vec<Named>, Vec<Column>), Error> {
    let peers: BTreeMap<String, IpAddr> =
        options.peer.iter().filter_map(|peer| Some((peer.name.clone(), peer.address?))).collect();
    let names =
        Names { pod: &imagined.pod, own: &imagined.own, node: &imagined.node, world: &imagined.world, peers: &peers };
    let containers: Vec<Named> = imagined
        .pod
        .containers
        .iter()
        .map(|(id, container)| Named { label: container.name.clone(), end: End::Local(Party::Container(*id)) })
        .collect();
    let mut senders = containers.clone();
    for word in [UNKNOWN, PORT_FORWARD, NODE].into_iter().chain(options.peer.iter().map(|peer| peer.name.as_str())) {
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
fn remotes(imagined: &Imagined, (senders, columns): &(Vec<Named>, Vec<Column>)) -> Vec<IpAddr> {
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

/// A verdict in a word.
fn word(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
    }
}
