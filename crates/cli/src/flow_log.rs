//! The flow log of a pod that this process runs: read, shown, written to a file, offered to other processes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sidewall_flow::Record;
use sidewall_flowlog::{Backlog, Drain, Followed, Gatherer, Hub, Next, RotatingFile, Server, Subscription};
use sidewall_netfilter::nflog::LogReader;
use sidewall_policy::ruleset::Statement;
use sidewall_sandbox::LivePod;

use crate::error::Error;
use crate::parting::PRIMARY;
use crate::walled_pod::View;

/// Where records are written, beside being shown and offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To standard output, as JSON lines.
    Stdout,
    /// To a file, as JSON lines; at a size it is put away and begun anew.
    File {
        /// Which.
        path: PathBuf,
        /// How many octets it may have.
        limit: u64,
    },
}

/// A pod's flow log. Dropping it tells what is still to be told, and then its end.
pub struct FlowLog {
    hub: Hub,
    shown: Subscription,
    followed: Option<Followed>,
    _gatherer: Gatherer,
    drain: Option<Drain>,
    server: Option<Server>,
}

impl Output {
    /// Where a part of a split pod writes: the parts but the primary have files of their own, because a file has one writer.
    #[must_use]
    pub fn of_part(self, part: &str) -> Self {
        match self {
            Self::File { path, limit } if part != PRIMARY => {
                let mut name = path.into_os_string();
                name.push(".");
                name.push(part);
                Self::File { path: name.into(), limit }
            }
            output => output,
        }
    }
}

impl FlowLog {
    /// Follows the log of a pod in which nothing runs yet, and offers it in the pod's directory.
    ///
    /// # Errors
    /// [`Error::Netlink`] where somebody else reads it; a file or socket that can't be made.
    pub fn start(pod: &LivePod, view: &View, directory: &Path, output: Option<&Output>) -> Result<Self, Error> {
        let hub = Hub::new();
        let full = |error: sidewall_flowlog::TooManySubscribers| Error::System {
            action: "read the flow log",
            source: io::Error::other(error),
        };
        let system = |source| Error::System { action: "start a thread", source };
        let shown = hub.subscribe(Backlog::None).map_err(full)?;
        let drain = match output {
            None => None,
            Some(Output::Stdout) => {
                let subscription = hub.subscribe(Backlog::None).map_err(full)?;
                let print = |record: &Record| writeln!(io::stdout().lock(), "{}", record.to_line());
                Some(Drain::start(subscription, print).map_err(system)?)
            }
            Some(Output::File { path, limit }) => {
                let subscription = hub.subscribe(Backlog::None).map_err(full)?;
                let mut file = RotatingFile::open(path, *limit)?;
                Some(Drain::start(subscription, move |record| file.write(record)).map_err(system)?)
            }
        };
        let reader = LogReader::open(pod.netns(), Statement::LOG_GROUP)?;
        let gatherer = Gatherer::start(hub.clone())?;
        let followed = Some(gatherer.follow(reader, pod.netns(), view.recorder())?);
        let server = Some(Server::start(directory, hub.clone())?);
        Ok(Self { hub, shown, followed, _gatherer: gatherer, drain, server })
    }

    /// Other policies have come into force.
    pub fn update(&self, view: &View) {
        if let Some(followed) = &self.followed {
            followed.update(view.recorder());
        }
    }

    /// The next record that has not been shown, if there is one.
    pub fn take(&self) -> Option<Arc<Record>> {
        match self.shown.next(Duration::ZERO) {
            Next::Record(record) => Some(record),
            Next::Nothing | Next::Ended => None,
        }
    }

    /// Whether the rules' counters are worth a look: where no message comes, none was left out.
    pub fn is_due(&mut self) -> bool {
        self.followed.as_mut().is_some_and(Followed::is_due)
    }

    /// Tells how many judgements the rules counted and did not write. `counted` is the sum of the decisions' counters.
    pub fn account(&mut self, counted: u64) {
        if let Some(followed) = &mut self.followed {
            followed.account(counted);
        }
    }

    /// Tells what the kernel still had, what was counted by then and never written, and the pod's end. What has not been
    /// shown can still be taken.
    pub fn finish(&mut self, counted: u64) {
        let Some(followed) = self.followed.take() else { return };
        followed.end(Some(counted));
        self.hub.end();
        self.drain = None;
        self.server = None;
    }
}

impl Drop for FlowLog {
    fn drop(&mut self) {
        self.finish(0);
    }
}
