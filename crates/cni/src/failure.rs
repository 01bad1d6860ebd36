//! What the plugin can't do, with the codes of the CNI specification, and in words for whoever reads a pod's events.

use crate::args::ArgsError;
use crate::ask::AskError;
use crate::entry::{DaemonSet, EntryError};
use crate::names::{BadName, Namespace};
use crate::result::ResultError;
use crate::state::{Standing, State, StateError};
use crate::version::SpecVersion;
use serde::Serialize;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Codes of the specification, and our own from 100 on.
pub mod code {
    /// The version is not spoken here.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A field that is not known here.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// A variable is missing or can't be.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Something can't be read or opened.
    pub const IO: u32 = 5;
    /// What came is no JSON, or too much of it.
    pub const DECODING: u32 = 6;
    /// A configuration that can't be.
    pub const INVALID_CONFIG: u32 = 7;
    /// STATUS: no pod could start.
    pub const NOT_AVAILABLE: u32 = 50;
    /// The agent does not answer, and nothing says that the pod needs no walls.
    pub const NO_AGENT: u32 = 100;
    /// The agent could not do it.
    pub const REFUSED: u32 = 101;
    /// CHECK: the pod's walls do not stand.
    pub const NOT_STANDING: u32 = 102;
    /// The agent's answer does not fit the question.
    pub const NO_ANSWER: u32 = 103;
}

/// The plugin can't do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Standard input can't be read.
    #[error("the network configuration can't be read from standard input")]
    Stdin(#[source] io::Error),
    /// Standard input is too long.
    #[error("the network configuration is longer than {} octets", crate::config::CONFIG_MAX)]
    Long,
    /// Standard input is no text.
    #[error("the network configuration is not UTF-8")]
    NotText(#[source] std::str::Utf8Error),
    /// Standard input is no JSON object.
    #[error("the network configuration is no JSON object")]
    NotJson(#[source] serde_json::Error),
    /// A field stands there twice.
    #[error("the network configuration can be read in two ways: {0} stands there twice")]
    Twice(String),
    /// A field is missing.
    #[error("the network configuration has no {0}")]
    Missing(&'static str),
    /// A field that nobody knows.
    #[error("the network configuration has a field {0}, which sidewall-cni does not know")]
    UnknownField(String),
    /// A field with something else in it.
    #[error("the network configuration's {field} can't be understood")]
    Field {
        /// Which.
        field: String,
        /// What is wrong.
        #[source]
        error: serde_json::Error,
    },
    /// One of our own settings can't be.
    #[error("the network configuration's entry for sidewall-cni can't be used: {0}")]
    Entry(#[source] EntryError),
    /// The network's name can't be.
    #[error("the network's name can't be used: {reason}")]
    Network {
        /// Why.
        reason: BadName,
    },
    /// A version that is not spoken here.
    #[error("sidewall-cni does not speak version {0} of the CNI specification")]
    Version(String),
    /// A command that its version does not have.
    #[error("version {version} of the CNI specification has no {command}")]
    TooOld {
        /// The command.
        command: &'static str,
        /// The version.
        version: SpecVersion,
    },
    /// Not chained.
    #[error("sidewall-cni is not behind another plugin: it got no prevResult")]
    NotChained,
    /// What the plugin before wrote can't be passed on.
    #[error("the result of the plugin before sidewall-cni can't be passed on: {0}")]
    Previous(#[from] ResultError),
    /// Variables are missing.
    #[error("variables are missing: {}", .0.join(", "))]
    Variables(Vec<&'static str>),
    /// A variable can't be.
    #[error("{name}: {reason}")]
    Variable {
        /// Which.
        name: &'static str,
        /// Why.
        reason: BadName,
    },
    /// A variable is no text.
    #[error("{0} is not UTF-8")]
    VariableNotText(&'static str),
    /// A command that nobody knows.
    #[error("CNI_COMMAND must be ADD, DEL, CHECK, STATUS, GC or VERSION")]
    Command,
    /// `CNI_ARGS` can't be read.
    #[error("{0}")]
    Args(#[from] ArgsError),
    /// The namespace can't be opened.
    #[error("the pod's network namespace can't be opened")]
    OpenNamespace {
        /// Where it should be.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// `CNI_NETNS` is something else.
    #[error("CNI_NETNS is no network namespace")]
    NoNamespace(PathBuf),
    /// The agent does not answer.
    #[error(
        "{consequence}: Sidewall's agent on this node can't be asked, and policies may select pods of namespace \
         {namespace}"
    )]
    NoAgent {
        /// What this means for the pod.
        consequence: &'static str,
        /// The pod's namespace.
        namespace: Namespace,
        /// What went wrong.
        error: Box<AskError>,
        /// What the agent's file says.
        known: Box<Known>,
        /// The agent's DaemonSet.
        daemon_set: DaemonSet,
    },
    /// The agent could not do it.
    #[error("the pod can't start: Sidewall's agent could not set up its walls")]
    Refused {
        /// In the agent's words.
        message: String,
        /// The agent's DaemonSet.
        daemon_set: DaemonSet,
    },
    /// The walls do not stand.
    #[error("the pod's walls do not stand as they should")]
    NotStanding {
        /// In the agent's words.
        message: String,
        /// The agent's DaemonSet.
        daemon_set: DaemonSet,
    },
    /// An answer to another question.
    #[error("Sidewall's agent gave an answer that does not fit the question")]
    NoAnswer {
        /// The agent's DaemonSet.
        daemon_set: DaemonSet,
    },
    /// STATUS: no pod could start.
    #[error("Sidewall's agent on this node can't be asked: pods that policies may select would not start")]
    NotAvailable {
        /// What went wrong.
        error: Box<AskError>,
        /// The agent's DaemonSet.
        daemon_set: DaemonSet,
    },
}

/// What the agent's state file says about a namespace that it does not set free.
#[derive(Debug)]
pub enum Known {
    /// It says that policies select pods of the namespace.
    Selected(Duration),
    /// It does not name the namespace.
    NotNamed(Duration),
    /// It can't be believed.
    Nothing(StateError),
}

impl Known {
    /// What the file says; `None` when it sets the namespace free.
    pub fn about(namespace: &Namespace, state: Result<State, StateError>) -> Option<Self> {
        match state {
            Err(error) => Some(Self::Nothing(error)),
            Ok(state) => match state.standing(namespace) {
                Standing::NothingSelects | Standing::Exempt => None,
                Standing::Selected if state.names(namespace) => Some(Self::Selected(state.age())),
                Standing::Selected => Some(Self::NotNamed(state.age())),
            },
        }
    }
}

/// An age, roughly, for people.
fn roughly(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Where to look.
fn look(DaemonSet { namespace, name }: &DaemonSet) -> String {
    format!(
        "Look at this node's pod of DaemonSet {name} in namespace {namespace} (kubectl -n {namespace} get pods -o wide)"
    )
}

impl Failure {
    /// The code for the runtime.
    pub fn code(&self) -> u32 {
        match self {
            Self::Version(_) | Self::TooOld { .. } => code::INCOMPATIBLE_VERSION,
            Self::UnknownField(_) => code::UNSUPPORTED_FIELD,
            Self::Variables(_) | Self::Variable { .. } | Self::VariableNotText(_) | Self::Command | Self::Args(_) => {
                code::INVALID_ENVIRONMENT
            }
            Self::NoNamespace(_) => code::INVALID_ENVIRONMENT,
            Self::Stdin(_) | Self::OpenNamespace { .. } => code::IO,
            Self::Long | Self::NotText(_) | Self::NotJson(_) => code::DECODING,
            Self::Twice(_)
            | Self::Missing(_)
            | Self::Field { .. }
            | Self::Entry(_)
            | Self::Network { .. }
            | Self::NotChained => code::INVALID_CONFIG,
            Self::Previous(ResultError::Version { .. }) => code::INCOMPATIBLE_VERSION,
            Self::Previous(_) => code::DECODING,
            Self::NoAgent { .. } => code::NO_AGENT,
            Self::Refused { .. } => code::REFUSED,
            Self::NotStanding { .. } => code::NOT_STANDING,
            Self::NoAnswer { .. } => code::NO_ANSWER,
            Self::NotAvailable { .. } => code::NOT_AVAILABLE,
        }
    }

    /// What is behind it, and what to do.
    pub fn details(&self) -> String {
        match self {
            Self::Stdin(error) => error.to_string(),
            Self::NotText(error) => error.to_string(),
            Self::NotJson(error) | Self::Field { error, .. } => error.to_string(),
            Self::UnknownField(_) => {
                "The agent's installer writes this entry: agent and plugin may be of different versions, or \
                                      somebody has edited the list by hand."
                    .to_owned()
            }
            Self::Version(_) => {
                let spoken: Vec<_> = SpecVersion::ALL.iter().map(|version| version.as_str()).collect();
                format!(
                    "It speaks {}. Set cniVersion of the network's configuration to one of them.",
                    spoken.join(", ")
                )
            }
            Self::NotChained => {
                "Its entry must stand in a network's list of plugins, behind the one that makes the pod's device."
                    .to_owned()
            }
            Self::OpenNamespace { path, source } => format!("{}: {source}", path.display()),
            Self::NoNamespace(path) => path.display().to_string(),
            Self::NoAgent { namespace, error, known, daemon_set, .. } => {
                let known = match &**known {
                    Known::Selected(age) => format!("When it last wrote its state, {} ago, they did.", roughly(*age)),
                    Known::NotNamed(age) => {
                        format!("Its last state, of {} ago, does not name the namespace.", roughly(*age))
                    }
                    Known::Nothing(error) => format!("Its last state does not tell: {error}."),
                };
                format!(
                    "The agent: {error}. {known} The kubelet tries again by itself, and the pod starts when the agent is \
                     back. {}. To let pods of {namespace} start without walls, name it in the agent's exemptNamespaces.",
                    look(daemon_set)
                )
            }
            Self::Refused { message, daemon_set } | Self::NotStanding { message, daemon_set } => {
                format!("{}. {}.", message.trim_end_matches('.'), look(daemon_set))
            }
            Self::NotAvailable { error, daemon_set } => format!("The agent: {error}. {}.", look(daemon_set)),
            Self::NoAnswer { daemon_set } => {
                format!("Agent and plugin may be of different versions. {}.", look(daemon_set))
            }
            Self::Long
            | Self::Twice(_)
            | Self::Missing(_)
            | Self::Entry(_)
            | Self::Network { .. }
            | Self::TooOld { .. }
            | Self::Previous(_)
            | Self::Variables(_)
            | Self::Variable { .. }
            | Self::VariableNotText(_)
            | Self::Command
            | Self::Args(_) => String::new(),
        }
    }

    /// The error as the specification has it, in a version of it.
    pub fn write(&self, version: SpecVersion) -> String {
        #[derive(Serialize)]
        struct Error<'a> {
            #[serde(rename = "cniVersion")]
            version: SpecVersion,
            code: u32,
            msg: &'a str,
            #[serde(skip_serializing_if = "String::is_empty")]
            details: String,
        }
        let error = Error { version, code: self.code(), msg: &self.to_string(), details: self.details() };
        // Numbers and text: nothing of this can fail to be written.
        serde_json::to_string(&error).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
