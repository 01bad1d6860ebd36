//! The flow log of a pod that this process runs: read, shown, written to a file, offered to other processes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sidewall_flow::{EndRecord, LossPlace, LostRecord, Record, Timestamp, Version};
use sidewall_flowlog::{Backlog, Counts, Drain, Follower, Hub, Next, RotatingFile, Server, Subscription, Untold};
use sidewall_netfilter::nflog::LogReader;
use sidewall_policy::ruleset::Statement;
use sidewall_sandbox::LivePod;

use crate::error::Error;
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
    namespace: String,
    pod: String,
    hub: Hub,
    shown: Subscription,
    untold: Untold,
    /// What had been read at the last look at the counters, and how many looks are still to come.
    looked: (Counts, u8),
    follower: Option<Follower>,
    drain: Option<Drain>,
    server: Option<Server>,
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
        let follower = Follower::start(reader, pod.netns(), view.recorder(), hub.clone())?;
        let server = Server::start(directory, hub.clone())?;
        let info = pod.info();
        Ok(Self {
            namespace: info.namespace.clone(),
            pod: info.name.clone(),
            hub,
            shown,
            untold: Untold::default(),
            looked: (Counts::default(), 0),
            follower: Some(follower),
            drain,
            server: Some(server),
        })
    }

    /// Other policies have come into force.
    pub fn update(&self, view: &View) {
        if let Some(follower) = &self.follower {
            follower.update(view.recorder());
        }
    }

    /// The next record that has not been shown, if there is one.
    pub fn take(&self) -> Option<Arc<Record>> {
        match self.shown.next(Duration::ZERO) {
            Next::Record(record) => Some(record),
            Next::Nothing | Next::Ended => None,
        }
    }

    /// Whether the rules' counters are worth a look: where no message comes, none was left out. After the last, it takes two
    /// looks until all is told.
    pub fn is_due(&mut self) -> bool {
        let Some(counts) = self.follower.as_ref().map(Follower::counts) else { return false };
        let (before, left) = self.looked;
        let left = if counts == before { left } else { 2 };
        self.looked = (counts, left.saturating_sub(1));
        left > 0
    }

    /// Tells how many judgements the rules counted and did not write. `counted` is the sum of the decisions' counters.
    pub fn account(&mut self, counted: u64) {
        if let Some(counts) = self.follower.as_ref().map(Follower::counts) {
            self.tell_untold(counted, counts);
        }
    }

    fn tell_untold(&mut self, counted: u64, counts: Counts) {
        let count = self.untold.look(counted, counts.records + counts.lost);
        if count > 0 {
            let (namespace, pod) = (Some(self.namespace.clone()), Some(self.pod.clone()));
            let (version, time, place) = (Version, Timestamp::now(), LossPlace::RateLimit);
            self.hub.publish(Record::Lost(LostRecord { version, time, namespace, pod, count, place }));
        }
    }

    /// Tells what the kernel still had, what was counted by then and never written, and the pod's end. What has not been
    /// shown can still be taken.
    pub fn finish(&mut self, counted: u64) {
        self.account(counted);
        let Some(follower) = self.follower.take() else { return };
        self.tell_untold(counted, follower.stop());
        let (namespace, pod) = (self.namespace.clone(), self.pod.clone());
        self.hub.publish(Record::End(EndRecord { version: Version, time: Timestamp::now(), namespace, pod }));
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
