//! What is tried, and what should come of it without walls and with them.

use super::tries::{DENIED, HELLO, NOBODY};
use crate::identity::Identity;

/// Who tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    /// This machine: outside the pod.
    Host,
    /// A container.
    Container(&'static str),
    /// A process in the pod's network, of no container, under a user that none has.
    Unknown,
    /// A process in the shipper's cgroup under the application's user.
    Disguised,
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The front proxy, as published on this machine, with these credentials.
    Published(Option<&'static str>),
    /// The application.
    Application,
    /// Its metrics.
    Metrics,
    /// The front proxy, from within.
    Front,
    /// The collector.
    Collector,
    /// Anywhere else.
    Elsewhere,
}

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Line {
    /// Lines of one group stand together.
    pub group: &'static str,
    /// What is tried, for people.
    pub attempt: String,
    /// Who tries.
    pub sender: Sender,
    /// What.
    pub target: Target,
    /// What should come of it without walls.
    pub before: String,
    /// What should come of it with them.
    pub after: String,
}

const INSIDE: [(Target, &str, &str); 5] = [
    (Target::Application, "application", HELLO),
    (Target::Metrics, "metrics", "200"),
    (Target::Front, "front proxy", "401"),
    (Target::Collector, "collector", "reached"),
    (Target::Elsewhere, "elsewhere", "reached"),
];

/// Every line.
pub fn lines(identity: Identity) -> Vec<Line> {
    let line = |attempt: &str, target, before: &str, after: &str| Line {
        group: "host",
        attempt: format!("host -> {attempt}"),
        sender: Sender::Host,
        target,
        before: before.to_owned(),
        after: after.to_owned(),
    };
    let mut all = vec![
        line("GET / without credentials", Target::Published(None), "401", "401"),
        line("GET / as admin:admin", Target::Published(Some("admin:admin")), HELLO, HELLO),
        line("GET / with a wrong password", Target::Published(Some("admin:wrong")), "401", "401"),
        line("application, past the proxy", Target::Application, NOBODY, DENIED),
        line("metrics", Target::Metrics, "200", DENIED),
    ];
    for (sender, group, name) in [
        (Sender::Container("front-proxy"), "front-proxy", "front-proxy"),
        (Sender::Container("app"), "app", "app"),
        (Sender::Container("log-shipper"), "log-shipper", "log-shipper"),
        (Sender::Unknown, "unknown", "unused user"),
        (Sender::Disguised, "disguised", "log-shipper as app's user"),
    ] {
        for (target, to, open) in INSIDE {
            let after = if may(rights(sender, identity), target) { open } else { DENIED };
            all.push(Line {
                group,
                attempt: format!("{name} -> {to}"),
                sender,
                target,
                before: open.to_owned(),
                after: after.to_owned(),
            });
        }
    }
    all
}

/// Whose rights a sender has. A cgroup can't be taken; a user is what the kernel goes by where it goes by users.
const fn rights(sender: Sender, identity: Identity) -> Sender {
    match (sender, identity) {
        (Sender::Disguised, Identity::Cgroup) => Sender::Container("log-shipper"),
        (Sender::Disguised, Identity::Uid | Identity::Gid) => Sender::Container("app"),
        (sender, _) => sender,
    }
}

/// What policy.yaml and sidecarproxy.yaml say, in the words of the demo.
fn may(sender: Sender, target: Target) -> bool {
    match sender {
        Sender::Container("front-proxy") => matches!(target, Target::Application | Target::Front),
        Sender::Container("app") => matches!(target, Target::Application | Target::Metrics),
        Sender::Container("log-shipper") => matches!(target, Target::Metrics | Target::Collector),
        _ => false,
    }
}
