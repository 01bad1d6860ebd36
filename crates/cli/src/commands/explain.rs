//! `sidewall explain`: why a flow is allowed or denied, and what would allow it.

use std::collections::BTreeMap;

use serde::Serialize;
use sidewall_flow::Action;
use sidewall_policy::evaluate;

use super::Answer;
use crate::args::Explain;
use crate::ends::{Names, flow};
use crate::error::Error;
use crate::identity::Identity;
use crate::reasons::{self, VerdictView};
use crate::scene::{Scene, Sources};
use crate::screen::Screen;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    pod: String,
    identity: &'a str,
    from: &'a str,
    to: &'a str,
    flows: Vec<Explained>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explained {
    protocol: sidewall_flow::Protocol,
    port: u16,
    #[serde(flatten)]
    verdict: VerdictView,
    /// What would allow it, in the order in which it has to be done.
    would_allow: Vec<String>,
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
    let names = Names {
        pod: &imagined.pod,
        own: &imagined.own,
        node: &imagined.node,
        world: &imagined.world,
        peers: &peers,
    };
    let (from, to) = (names.end(&options.from)?, names.end(&options.to)?);
    let ports = match &options.port {
        Some(port) => vec![names.port(port, None, &to)?],
        None => names.declared(&to).into_iter().map(|(_, protocol, port)| (protocol, port)).collect(),
    };
    if ports.is_empty() {
        return Err(Error::WhichPort(to.label));
    }
    let mut flows = Vec::new();
    for (protocol, port) in ports {
        let flow = flow(&from, &to, (protocol, port))?;
        let verdict = evaluate(&imagined.pod, &flow);
        flows.push(Explained {
            protocol,
            port,
            would_allow: reasons::would_allow(&imagined.pod, &flow, &verdict),
            verdict: reasons::view(&imagined.pod, &verdict),
        });
    }
    let denied = flows.iter().any(|flow| flow.verdict.verdict == Action::Deny);
    if screen.is_json() {
        screen.value(&Report {
            pod: format!("{}/{}", imagined.pod.namespace, imagined.pod.name),
            identity: identity.name(),
            from: &from.label,
            to: &to.label,
            flows,
        });
    } else {
        screen.diagnostics(&scene.notes(&imagined.pod));
        let paint = screen.paint();
        for (i, explained) in flows.iter().enumerate() {
            if i > 0 {
                screen.line("");
            }
            let verdict = match explained.verdict.verdict {
                Action::Allow => paint.good("allowed"),
                Action::Deny => paint.bad("denied"),
            };
            let title =
                format!("{} -> {} {}/{}: {verdict}", from.label, to.label, explained.port, explained.protocol);
            screen.line(&paint.strong(&title));
            for side in &explained.verdict.sides {
                let mark = match side.verdict {
                    Action::Allow => paint.good("+"),
                    Action::Deny => paint.bad("-"),
                };
                screen.line(&format!("  {mark} {}", side.text));
            }
            if let Some(audit) = explained.verdict.audit {
                screen.line(&paint.warn(&format!("  ~ with the Audit policies enforced it would be: {audit}")));
            }
            for (i, advice) in explained.would_allow.iter().enumerate() {
                let head = if i == 0 { "  it would be allowed by:" } else { "  and:" };
                screen.line(head);
                advice.lines().for_each(|line| screen.line(&format!("    {line}")));
            }
        }
    }
    Ok(if denied { Answer::No } else { Answer::Yes })
}
