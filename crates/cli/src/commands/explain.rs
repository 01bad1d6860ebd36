//! `sidewall explain`: why a flow is allowed or denied, and what would allow it.

use std::collections::BTreeMap;

use serde::Serialize;
use sidewall_flow::Action;
use sidewall_policy::{Explanation, explain};

use super::Answer;
use crate::args::Explain;
use crate::ends::{Names, flow};
use crate::error::Error;
use crate::identity::Identity;
use crate::scene::{Scene, Sources};
use crate::screen::Screen;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    identity: &'a str,
    from: &'a str,
    to: &'a str,
    flows: Vec<Explanation>,
}

/// Explains one flow, or one for each port that the receiver declares.
///
/// # Errors
/// Bad input.
pub fn run(options: &Explain, screen: &Screen) -> Result<Answer, Error> {
    let sources = Sources::new(&options.pod, options.name.as_ref(), &options.policies);
    let scene = Scene::read(&sources)?;
    let identity = Identity::imagined(options.identity.identity);
    let imagined = scene.imagine(identity)?;
    let peers = BTreeMap::new();
    let names =
        Names { pod: &imagined.pod, own: &imagined.own, node: &imagined.node, world: &imagined.world, peers: &peers };
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
    let denied = flows.iter().any(|flow| flow.verdict == Action::Deny);
    if screen.is_json() {
        screen.value(&Report { identity: identity.name(), from: &from.label, to: &to.label, flows });
    } else {
        screen.diagnostics(&scene.notes(&imagined.pod));
        for (i, explanation) in flows.iter().enumerate() {
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
    Ok(if denied { Answer::No } else { Answer::Yes })
}
