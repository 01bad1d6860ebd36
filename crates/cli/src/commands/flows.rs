//! `sidewall flows`: what the walls of pods denied, on this machine or in a cluster.

mod agents;
mod filter;
mod here;
mod remote;
mod summary;

use std::io::{self, Write};

use sidewall_flow::{Record, Timestamp};

use super::Answer;
use crate::args::Flows;
use crate::args::flows::Whose;
use crate::cluster;
use crate::error::Error;
use crate::screen::{Paint, Screen};
use filter::Filter;

/// Shows flows, or sums them up.
///
/// # Errors
/// No such pod, or a log that can't be read.
pub fn run(options: &Flows, screen: &Screen) -> Result<Answer, Error> {
    let filter = Filter::new(options, Timestamp::now());
    match options.whose()? {
        Whose::Here(pod) => here::run(pod.as_deref(), options, &filter, screen),
        Whose::Cluster(scope) => cluster::ask(remote::run(&scope, options, &filter, screen)),
    }
}

/// Writes a record; says `false` where nobody reads on.
fn write(record: &Record, line: impl FnOnce(&Record, Paint) -> String, screen: &Screen) -> bool {
    let line = if screen.is_json() { record.to_line() } else { line(record, screen.paint()) };
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}
