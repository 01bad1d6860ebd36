//! What `run` tells: lines for people, JSON objects for programs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use sidewall_api::Diagnostic;
use sidewall_flow::{FlowRecord, LossPlace, Record};
use sidewall_netfilter::{Because, Missing};
use sidewall_sandbox::{ContainerState, LogLine, Phase, PodInfo, PodStatus, Stream};

use crate::error::Error;
use crate::flow_line;
use crate::screen::{Screen, visible};
use crate::walled_pod::View;
use crate::walls::{Entry, Raised};

/// Something that is told. As JSON, `event` says which.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Told<'a> {
    /// The pod runs.
    Started {
        /// Its namespace.
        namespace: &'a str,
        /// Its name.
        pod: &'a str,
        /// Its addresses.
        addresses: &'a [IpAddr],
        /// How its containers are told apart.
        identity: &'static str,
        /// Whether walls were asked for.
        walls: bool,
        /// The rules' number; none where no policy selects the pod.
        generation: Option<u8>,
        /// Its containers.
        containers: Vec<Container<'a>>,
        /// Where ports are published.
        published: Vec<PublishedPort>,
    },
    /// A container's state changed.
    Container {
        /// Which.
        container: &'a str,
        /// What it is now.
        state: &'a str,
    },
    /// A container wrote a line.
    Log {
        /// Which.
        container: &'a str,
        /// `stdout` or `stderr`.
        stream: &'static str,
        /// The line.
        text: &'a str,
    },
    /// A flow was denied, or an Audit policy would have judged otherwise.
    Flow {
        /// Which.
        flow: &'a FlowRecord,
    },
    /// Flow records that are missing before this.
    Lost {
        /// How many.
        count: u64,
        /// Where they were lost.
        place: LossPlace,
    },
    /// New policies are in force.
    Reloaded {
        /// The rules' number; none where no policy selects the pod any more. It stays where nothing was taken away.
        generation: Option<u8>,
        /// How they came into force.
        entry: Entered,
    },
    /// This kernel can't do something that the rules ask for: they stand without it.
    Missing {
        /// What.
        what: &'static str,
        /// The device that it is about, if it is about one.
        #[serde(skip_serializing_if = "Option::is_none")]
        device: Option<&'a str>,
        /// What that means.
        message: &'a str,
    },
    /// New policies were refused; the old ones are in force.
    Refused {
        /// Why.
        message: &'a str,
        /// Every finding.
        diagnostics: &'a [Diagnostic],
    },
    /// Somebody had changed the rules; they were loaded again.
    Repaired {
        /// What was wrong.
        differences: &'a [String],
        /// How many live flows are judged again, because they may owe their verdict to somebody else.
        flows: usize,
    },
    /// The rules could not be compared or repaired.
    Broken {
        /// Why.
        message: &'a str,
    },
    /// Something that the user should know.
    Warning {
        /// What.
        message: &'a str,
    },
    /// The pod is being ended.
    Ending {
        /// Without its grace period.
        at_once: bool,
    },
    /// The pod has ended, and nothing is left of it.
    Ended {
        /// How.
        phase: Phase,
    },
}

/// How rules came into force. As JSON, `by` says which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Entered {
    /// They stood already.
    Nothing,
    /// By elements that were added to sets and deleted from them.
    Elements {
        /// How many were added.
        added: usize,
        /// How many were deleted.
        deleted: usize,
    },
    /// By chains that were written anew, beside such elements.
    Rules {
        /// How many elements were added.
        added: usize,
        /// How many elements were deleted.
        deleted: usize,
        /// How many chains were written.
        chains: usize,
    },
    /// As a whole.
    Load {
        /// Why, where others stood before.
        #[serde(skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
    /// All rules were taken away.
    Removal,
}

impl From<Entry> for Entered {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Nothing => Self::Nothing,
            Entry::Amended { added, deleted, chains: 0 } => Self::Elements { added, deleted },
            Entry::Amended { added, deleted, chains } => Self::Rules { added, deleted, chains },
            Entry::Loaded(because) => Self::Load { because: because.map(|because| reason(&because)) },
            Entry::Unloaded => Self::Removal,
        }
    }
}

fn reason(because: &Because) -> String {
    match because {
        Because::Shape => "tables, chains or sets are others".to_owned(),
        Because::RulesAndElements => "rules and the elements that they look for both differ".to_owned(),
        Because::Unknown => "what stood there was not known".to_owned(),
        Because::Moved => "somebody else changed tables meanwhile".to_owned(),
        Because::Refused(place) => format!("the kernel refused a change of {place}"),
        other => format!("{other:?}"),
    }
}

impl fmt::Display for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing to be changed in the kernel"),
            Self::Elements { added, deleted } => write!(f, "changed by elements: {added} added, {deleted} deleted"),
            Self::Rules { added, deleted, chains } => {
                write!(f, "changed by rules: {chains} chains written, {added} elements added, {deleted} deleted")
            }
            Self::Load { because: Some(because) } => write!(f, "loaded as a whole: {because}"),
            Self::Load { because: None } => f.write_str("loaded as a whole: there were none"),
            Self::Removal => f.write_str("taken away"),
        }
    }
}

/// A container as it is started.
#[derive(Serialize)]
pub struct Container<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    ports: Vec<String>,
}

/// A published port.
#[derive(Serialize)]
pub struct PublishedPort {
    at: SocketAddr,
    port: u16,
}

/// Tells it.
#[derive(Clone, Copy)]
pub struct Voice {
    screen: Screen,
    quiet: bool,
    verbose: bool,
}

impl Voice {
    /// Tells everything.
    pub const fn new(screen: Screen) -> Self {
        Self { screen, quiet: false, verbose: false }
    }

    /// Tells nothing but trouble, on standard error: for a pod that is not what the command is about.
    pub const fn quiet(screen: Screen) -> Self {
        Self { screen, quiet: true, verbose: false }
    }

    /// The same, and whether lines for people tell how rules came into force. JSON always does.
    #[must_use]
    pub const fn verbose(self, verbose: bool) -> Self {
        Self { verbose, ..self }
    }

    /// Tells something.
    pub fn tell(&self, told: &Told<'_>) {
        if self.quiet {
            if let Told::Broken { message } = told {
                self.screen.warning(message);
            }
        } else if self.screen.is_json() {
            self.screen.event(told);
        } else {
            self.words(told);
        }
    }

    fn words(&self, told: &Told<'_>) {
        let paint = self.screen.paint();
        let say = |text: String| self.screen.line(&text);
        match told {
            Told::Started { namespace, pod, addresses, identity, walls, generation, containers, published } => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                say(paint.strong(&format!("{namespace}/{pod} runs at {}", addresses.join(" and "))));
                for container in containers {
                    let ports = match container.ports.is_empty() {
                        true => String::new(),
                        false => format!(", ports {}", container.ports.join(" ")),
                    };
                    say(format!("  {}: user {}{ports}", container.name, container.uid));
                }
                say(match (walls, generation) {
                    (false, _) => paint.warn("  no walls, as asked"),
                    (true, None) => paint.warn("  no policy selects this pod: there are no walls"),
                    (true, Some(_)) => format!("  walls by {identity}: {}", paint.good("up")),
                });
                for port in published {
                    say(format!("  port {} is at {}", port.port, port.at));
                }
            }
            Told::Container { container, state } => say(paint.faint(&format!("{container}: {state}"))),
            Told::Log { container, text, .. } => {
                let number =
                    container.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
                say(format!("{} {}", paint.nth(number, &format!("[{container}]")), visible(text)));
            }
            // They have a form of their own, which `record` writes.
            Told::Flow { .. } | Told::Lost { .. } => {}
            Told::Reloaded { generation, entry } => {
                say(match generation {
                    Some(generation) => paint.good(&format!("policies reloaded: rules {generation} are in force")),
                    None => paint.warn("policies reloaded: none selects this pod, so there are no walls"),
                });
                if self.verbose {
                    say(paint.faint(&format!("  {entry}")));
                }
            }
            Told::Missing { message, .. } => self.screen.warning(message),
            Told::Refused { message, diagnostics } => {
                self.screen.diagnostics(diagnostics);
                say(paint.bad(&format!("POLICIES REFUSED ({message}): the rules stay as they were")));
            }
            Told::Repaired { differences, flows } => {
                say(paint.bad("SOMEBODY CHANGED THE RULES; they have been loaded again:"));
                differences.iter().for_each(|difference| say(format!("  {difference}")));
                if *flows > 0 {
                    say(format!("  {flows} live flows are judged again"));
                }
            }
            Told::Broken { message } => say(paint.bad(&format!("THE RULES COULD NOT BE VERIFIED: {message}"))),
            Told::Warning { message } => self.screen.warning(message),
            Told::Ending { at_once: false } => say("ending; once more ends it at once".to_owned()),
            Told::Ending { at_once: true } => say("ending at once".to_owned()),
            Told::Ended { phase } => say(format!("ended: {phase:?}")),
        }
    }

    /// Tells that the pod runs. `raised` is none where no walls were asked for.
    pub fn started(&self, info: &PodInfo, view: &View, raised: Option<Raised>, published: &[(SocketAddr, u16)]) {
        let port = |port: &sidewall_sandbox::Port| match &port.name {
            Some(name) => format!("{name}={}/{}", port.port, port.protocol),
            None => format!("{}/{}", port.port, port.protocol),
        };
        self.tell(&Told::Started {
            namespace: &info.namespace,
            pod: &info.name,
            addresses: &info.addresses,
            identity: view.identity.name(),
            walls: raised.is_some(),
            generation: raised.and_then(super::generation),
            containers: info
                .containers
                .iter()
                .map(|c| Container { name: &c.name, uid: c.uid, gid: c.gid, ports: c.ports.iter().map(port).collect() })
                .collect(),
            published: published.iter().map(|(at, port)| PublishedPort { at: *at, port: *port }).collect(),
        });
    }

    /// Tells what a container wrote.
    pub fn output(&self, line: &LogLine) {
        let stream = match line.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        self.tell(&Told::Log { container: &line.container, stream, text: &line.text });
    }

    /// Tells what the flow log tells. The pod's end is told otherwise.
    pub fn record(&self, record: &Record) {
        match record {
            Record::End(_) => {}
            _ if !self.quiet && !self.screen.is_json() => {
                self.screen.line(&flow_line::line(record, self.screen.paint()));
            }
            Record::Flow(flow) => self.tell(&Told::Flow { flow }),
            Record::Lost(lost) => self.tell(&Told::Lost { count: lost.count, place: lost.place }),
        }
    }

    /// Tells what the rules stand without.
    pub fn missing(&self, missing: &Missing) {
        let (what, device) = match missing {
            Missing::Log => ("log", None),
            Missing::Reject => ("reject", None),
            Missing::SecondLine { device } => ("secondLine", Some(device.as_str())),
            Missing::Ownership => ("ownership", None),
            Missing::FindListener => ("findListener", None),
            Missing::Redirect => ("redirect", None),
            Missing::Link => ("link", None),
            _ => ("other", None),
        };
        self.tell(&Told::Missing { what, device, message: &missing.to_string() });
    }

    /// Tells why new policies are not in force.
    pub fn refused(&self, error: &Error) {
        let none = Vec::new();
        let diagnostics = if let Error::Input(diagnostics) = error { diagnostics } else { &none };
        self.tell(&Told::Refused { message: &error.to_string(), diagnostics });
    }

    /// Tells what the policies' authors should know.
    pub fn notes(&self, notes: &[Diagnostic]) {
        if self.screen.is_json() {
            notes.iter().for_each(|note| self.tell(&Told::Warning { message: &note.to_string() }));
        } else if !self.quiet {
            self.screen.diagnostics(notes);
        }
    }
}

/// Each container's state in a word or two.
pub fn states(status: &PodStatus) -> Vec<(String, String)> {
    let describe = |container: &sidewall_sandbox::ContainerStatus| {
        let exit = container.last_exit.map(|code| format!(" (exit code {code})")).unwrap_or_default();
        let why = container.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        match container.state {
            ContainerState::Waiting => "waiting".to_owned(),
            ContainerState::CrashLoopBackOff => format!("waits before it starts again{exit}{why}"),
            ContainerState::Running { .. } if container.ready => "ready".to_owned(),
            ContainerState::Running { .. } => format!("running{why}"),
            ContainerState::Terminating => format!("ending{why}"),
            ContainerState::Terminated => format!("ended{exit}{why}"),
        }
    };
    status.containers.iter().map(|container| (container.name.clone(), describe(container))).collect()
}
