//! `sidewall flows`: what the walls of running pods denied.

mod filter;
mod summary;

use std::io::{self, Write};
use std::path::Path;

use sidewall_flow::{Record, Timestamp};
use sidewall_flowlog::{Client, ClientError};
use sidewall_sandbox::PodState;

use super::Answer;
use crate::args::Flows;
use crate::error::Error;
use crate::flow_line;
use crate::screen::Screen;
use filter::Filter;
use summary::{Summary, Unavailable};

/// Shows one pod's flows, or sums up those of all.
///
/// # Errors
/// No such pod, or its log can't be read.
pub fn run(options: &Flows, screen: &Screen) -> Result<Answer, Error> {
    let root = options.state.state_dir.as_path();
    let filter = Filter::new(options, Timestamp::now());
    match &options.pod {
        Some(name) => {
            let (namespace, name) = named(&sidewall_sandbox::list(root)?, name)?;
            let directory = sidewall_sandbox::directory(root, &namespace, &name);
            let client = Client::connect(&directory, options.follow)?;
            show(client, options, &filter, screen)
        }
        None => {
            let pods = sidewall_sandbox::list(root)?;
            let summaries = pods.iter().map(|pod| sum_up(root, pod, &filter)).collect::<Result<Vec<_>, Error>>()?;
            summary::show(&summaries, screen);
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
        if !write(record, screen) {
            return Ok(Answer::Yes);
        }
    }
    for record in client {
        let record = record?;
        ended = matches!(record, Record::End(_));
        if filter.admits(&record) && !write(&record, screen) {
            return Ok(Answer::Yes);
        }
    }
    if options.follow && !ended {
        screen.warning("the flow log has ended, and nobody said that the pod has: `sidewall run` may have been killed");
        return Ok(Answer::No);
    }
    Ok(Answer::Yes)
}

/// Writes a record; says `false` where nobody reads on.
fn write(record: &Record, screen: &Screen) -> bool {
    let line = if screen.is_json() { record.to_line() } else { flow_line::line(record, screen.paint()) };
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
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
