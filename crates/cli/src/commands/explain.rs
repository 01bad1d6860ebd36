//! `sidewall explain`: why a flow is allowed or denied, and what would allow it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use sidewall_flow::Action;
use sidewall_policy::{Explanation, explain};

use super::Answer;
use crate::args::Explain;
use crate::args::cluster::{PodName, PodPlace};
use crate::cluster::{self, Cluster, addresses};
use crate::ends::{Names, flow};
use crate::error::Error;
use crate::identity::Identity;
use crate::inputs;
use crate::live_pod::{self, About, LivePod};
use crate::scene::{Imagined, Scene, Sources};
use crate::screen::Screen;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    identity: &'a str,
    from: &'a str,
    to: &'a str,
    flows: &'a [Explanation],
    /// What is to be said of a cluster's pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a About>,
}

/// Explains one flow, or one for each port that the receiver declares.
///
/// # Errors
/// Bad input; a cluster that can't be read.
pub fn run(options: &Explain, screen: &Screen) -> Result<Answer, Error> {
    match PodPlace::of(&options.pod, &options.cluster)? {
        PodPlace::File(path) => {
            let sources = Sources::new(&path, options.name.as_ref(), &options.policies);
            let scene = Scene::read(&sources)?;
            let identity = Identity::imagined(options.identity.identity);
            let imagined = scene.imagine(identity)?;
            let judged = judge(options, &imagined, &BTreeMap::new())?;
            if !screen.is_json() {
                screen.diagnostics(&scene.notes(&imagined.pod));
            }
            Ok(judged.show(screen, identity, None))
        }
        PodPlace::Cluster(name) => in_cluster(options, &name, screen),
    }
}

fn in_cluster(options: &Explain, name: &PodName, screen: &Screen) -> Result<Answer, Error> {
    if options.name.is_some() {
        return Err(Error::FilesForCluster("--pod"));
    }
    let files = inputs::sound(inputs::read(&options.policies)?)?;
    let (LivePod { imagined, identity, about }, namespace) = cluster::ask(async {
        let cluster = Cluster::of(&options.cluster).await?;
        let name = cluster.pod(name).await?;
        let pod = live_pod::read(&cluster, &name, options.identity.identity, &options.count, &files).await?;
        Ok((pod, name.namespace))
    })?;
    let words = addresses([options.from.as_str(), options.to.as_str()], &namespace, &imagined.world);
    let judged = judge(options, &imagined, &words)?;
    if !screen.is_json() {
        screen.diagnostics(&files.diagnostics);
        about.show(screen, identity);
    }
    Ok(judged.show(screen, identity, Some(&about)))
}

/// What came of it.
struct Judged {
    from: String,
    to: String,
    flows: Vec<Explanation>,
}

fn judge(options: &Explain, imagined: &Imagined, peers: &BTreeMap<String, IpAddr>) -> Result<Judged, Error> {
    let names = Names { pod: &imagined.pod, own: &imagined.own, node: &imagined.node, world: &imagined.world, peers };
    let (from, to) = (names.end(&options.from)?, names.end(&options.to)?);
    let ports = match &options.port {
        Some(port) => vec![names.port(port, None, &to)?],
        None => names.declared(&to).into_iter().map(|(_, protocol, port)| (protocol, port)).collect(),
    };
    if ports.is_empty() {
        return Err(Error::WhichPort(to.label));
    }
    let mut flows = Vec::new();
    for port in ports {
        flows.push(explain(&imagined.pod, &flow(&from, &to, port)?, Some(&imagined.world)));
    }
    Ok(Judged { from: from.label, to: to.label, flows })
}

impl Judged {
    fn show(self, screen: &Screen, identity: Identity, cluster: Option<&About>) -> Answer {
        let denied = self.flows.iter().any(|flow| flow.verdict == Action::Deny);
        if screen.is_json() {
            let Self { from, to, flows } = &self;
            screen.value(&Report { identity: identity.name(), from, to, flows, cluster });
        } else {
            for (i, explanation) in self.flows.iter().enumerate() {
                if i > 0 {
                    screen.line("");
                }
                let text = explanation.to_string();
                let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
                let paint = screen.paint();
                screen.line(&match explanation.verdict {
                    Action::Allow => paint.good(first),
                    Action::Deny => paint.bad(first),
                });
                rest.lines().for_each(|line| screen.line(line));
            }
        }
        if denied { Answer::No } else { Answer::Yes }
    }
}
