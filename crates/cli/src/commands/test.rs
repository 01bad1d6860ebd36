//! `sidewall test`: expectations about flows, compared with policies or with a kernel.

mod cases;

use std::net::IpAddr;

use serde::Serialize;
use sidewall_flow::{Action, Protocol};
use sidewall_policy::{End, Explanation, Flow, explain};

use super::Answer;
use crate::args::Test;
use crate::ends::{Names, flow};
use crate::error::Error;
use crate::identity::Identity;
use crate::probing::{Finding, ProbePod};
use crate::scene::{Imagined, Scene, Sources};
use crate::screen::Screen;
use cases::Cases;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    pod: String,
    identity: &'a str,
    kernel: bool,
    passed: usize,
    failed: usize,
    cases: Vec<Outcome>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    name: String,
    passed: bool,
    from: String,
    to: String,
    protocol: Protocol,
    port: u16,
    expect: Action,
    /// What came of it; none where the kernel's answer was unclear.
    actual: Option<Action>,
    /// What the policies say, why, and what would allow it.
    policies: Explanation,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<Finding>,
}

/// Tries every case.
///
/// # Errors
/// Bad input; with `--kernel` whatever keeps a pod from being made.
pub fn run(options: &Test, screen: &Screen) -> Result<Answer, Error> {
    let cases = Cases::read(&options.cases)?;
    let sources = Sources {
        pod: cases.beside(&options.cases, &cases.pod),
        name: cases.pod_name.clone(),
        how: "podName",
        policies: cases.policies.iter().map(|policy| cases.beside(&options.cases, policy)).collect(),
    };
    let scene = Scene::read(&sources)?;
    let choice = cases.identity.into();
    let (imagined, identity, mut probing) = if options.kernel {
        // First without a kernel: the addresses that the cases name have to be there before the pod is.
        let imagined = scene.imagine(Identity::imagined(choice))?;
        let mut remotes: Vec<IpAddr> = flows(&cases, &imagined)?.iter().flat_map(remote).collect();
        // The node's own are at the other end of every pod.
        remotes.retain(|address| !imagined.node.contains(address));
        let pod = ProbePod::make(&scene, choice, &options.state.state_dir, &remotes)?;
        (pod.imagine(&scene).swap_remove(0), pod.identity(), Some(pod))
    } else {
        let identity = Identity::imagined(choice);
        (scene.imagine(identity)?, identity, None)
    };
    if !screen.is_json() {
        screen.diagnostics(&scene.notes(&imagined.pod));
    }
    let mut results = Vec::new();
    for (case, flow) in cases.cases.iter().zip(flows(&cases, &imagined)?) {
        let policies = explain(&imagined.pod, &flow, Some(&imagined.world));
        let kernel = match &mut probing {
            Some(pod) => pod.attempt(&imagined.pod, &flow)?,
            None => None,
        };
        let actual = if options.kernel { kernel.as_ref().and_then(Finding::action) } else { Some(policies.verdict) };
        let expect = case.expect.into();
        let result = Outcome {
            name: case.name.clone(),
            passed: actual == Some(expect),
            from: case.from.clone(),
            to: case.to.clone(),
            protocol: flow.protocol,
            port: flow.port,
            expect,
            actual,
            policies,
            kernel,
        };
        if !screen.is_json() {
            show(screen, &result);
        }
        results.push(result);
    }
    if let Some(pod) = probing {
        pod.end();
    }
    let failed = results.iter().filter(|result| !result.passed).count();
    let passed = results.len() - failed;
    if screen.is_json() {
        let pod = format!("{}/{}", imagined.pod.namespace, imagined.pod.name);
        let report = Report { pod, identity: identity.name(), kernel: options.kernel, passed, failed, cases: results };
        screen.value(&report);
    } else {
        let by = if options.kernel { "in a real pod" } else { "by the policies" };
        screen.line(&format!("{passed} passed, {failed} failed ({by})"));
    }
    Ok(if failed == 0 { Answer::Yes } else { Answer::No })
}

fn flows(cases: &Cases, imagined: &Imagined) -> Result<Vec<Flow>, Error> {
    let names = Names {
        pod: &imagined.pod,
        own: &imagined.own,
        node: &imagined.node,
        world: &imagined.world,
        peers: &cases.peers,
    };
    cases
        .cases
        .iter()
        .map(|case| {
            let (from, to) = (names.end(&case.from)?, names.end(&case.to)?);
            flow(&from, &to, names.port(&case.port.text(), case.protocol, &to)?)
        })
        .collect()
}

fn remote(flow: &Flow) -> Vec<IpAddr> {
    [flow.sender, flow.receiver]
        .into_iter()
        .filter_map(|end| match end {
            End::Remote(address) => Some(address),
            End::Local(_) | End::Attached(..) => None,
        })
        .collect()
}

fn show(screen: &Screen, result: &Outcome) {
    let paint = screen.paint();
    let flow = format!("{} -> {} {}/{}", result.from, result.to, result.port, result.protocol);
    if result.passed {
        screen.line(&format!("{} {} ({flow}: {})", paint.good("ok  "), result.name, result.expect));
        return;
    }
    let actual = match (&result.kernel, result.actual) {
        (Some(finding), _) => finding.to_string(),
        (None, Some(actual)) => actual.to_string(),
        (None, None) => "not tried".to_owned(),
    };
    screen.line(&format!("{} {} ({flow}: expected {}, got {actual})", paint.bad("FAIL"), result.name, result.expect));
    result.policies.to_string().lines().for_each(|line| screen.line(&format!("       {line}")));
}
