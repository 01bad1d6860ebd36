//! Flows of the pods that `sidewall run` runs on this machine.

use std::path::Path;

use sidewall_flow::Record;
use sidewall_flowlog::{Client, ClientError};
use sidewall_sandbox::PodState;

use super::filter::Filter;
use super::summary::{self, Summary, Unavailable};
use super::write;
use crate::args::Flows;
use crate::commands::Answer;
use crate::error::Error;
use crate::flow_line;
use crate::screen::Screen;

/// Shows one pod's flows, or sums up those of all.
///
/// # Errors
/// No such pod, or its log can't be read.
pub fn run(pod: Option<&str>, options: &Flows, filter: &Filter, screen: &Screen) -> Result<Answer, Error> {
    let root = options.state.state_dir.as_path();
    match pod {
        Some(name) => {
            let (namespace, name) = named(&sidewall_sandbox::list(root)?, name)?;
            let directory = sidewall_sandbox::directory(root, &namespace, &name);
            let client = Client::connect(&directory, options.follow)?;
            show(client, options, filter, screen)
        }
        None => {
            let pods = sidewall_sandbox::list(root)?;
            let summaries = pods.iter().map(|pod| sum_up(root, pod, filter)).collect::<Result<Vec<_>, Error>>()?;
            summary::show(&summaries, "no pod runs here", screen);
            Ok(Answer::Yes)
        }
    }
}

/// The running pod of a name.
fn named(pods: &[PodState], text: &str) -> Result<(String, String), Error> {
    let full = |pod: &PodState| format!("{}/{}", pod.pod.namespace, pod.pod.name);
    let found: Vec<&PodState> = match text.contains('/') {
        true => pods.iter().filter(|pod| full(pod) == text).collect(),
        false => pods.iter().filter(|pod| pod.pod.name == text).collect(),
    };
    match found.as_slice() {
        [one] => Ok((one.pod.namespace.clone(), one.pod.name.clone())),
        [] => Err(Error::NotRunning { name: text.to_owned(), running: pods.iter().map(full).collect() }),
        several => {
            let pods = several.iter().map(|pod| full(pod)).collect();
            Err(Error::SeveralRunning { name: text.to_owned(), pods })
        }
    }
}

fn show(mut client: Client, options: &Flows, filter: &Filter, screen: &Screen) -> Result<Answer, Error> {
    let mut kept = Vec::new();
    let how_many = client.kept();
    for record in client.by_ref().take(how_many) {
        kept.push(record?);
    }
    let mut ended = kept.last().is_some_and(|record| matches!(record, Record::End(_)));
    for record in filter.last(&kept, options.last) {
        if !write(record, flow_line::line, screen) {
            return Ok(Answer::Yes);
        }
    }
    for record in client {
        let record = record?;
        ended = matches!(record, Record::End(_));
        if filter.admits(&record) && !write(&record, flow_line::line, screen) {
            return Ok(Answer::Yes);
        }
    }
    if options.follow && !ended {
        screen.warning("the flow log has ended, and nobody said that the pod has: `sidewall run` may have been killed");
        return Ok(Answer::No);
    }
    Ok(Answer::Yes)
}

fn sum_up(root: &Path, pod: &PodState, filter: &Filter) -> Result<Summary, Error> {
    let (namespace, name) = (&pod.pod.namespace, &pod.pod.name);
    let mut summary = Summary::of(namespace, name);
    let directory = sidewall_sandbox::directory(root, namespace, name);
    let client = match Client::connect(&directory, false) {
        Ok(client) => client,
        // One pod that can't say anything does not keep the others from it.
        Err(error @ (ClientError::Nobody(_) | ClientError::Refused { .. })) => {
            summary.unavailable = Some(Unavailable(error.to_string()));
            return Ok(summary);
        }
        Err(error) => return Err(error.into()),
    };
    for record in client {
        let record = record?;
        if filter.admits(&record) {
            summary.add(&record);
        }
    }
    Ok(summary)
}
