//! Why the runtime could not be asked, or did not answer.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use sidewall_runtime_ids::BadId;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the call of that name in CRI v1")]
pub enum Call {
    Version,
    Status,
    ListPodSandbox,
    PodSandboxStatus,
    ListContainers,
    ContainerStatus,
    GetContainerEvents,
    RunPodSandbox,
    StopPodSandbox,
    RemovePodSandbox,
    CreateContainer,
    StartContainer,
    StopContainer,
    RemoveContainer,
    ExecSync,
    ImageStatus,
}

impl Call {
    /// The call's path in gRPC.
    pub(crate) fn path(self) -> http::uri::PathAndQuery {
        http::uri::PathAndQuery::from_static(match self {
            Self::Version => "/runtime.v1.RuntimeService/Version",
            Self::Status => "/runtime.v1.RuntimeService/Status",
            Self::ListPodSandbox => "/runtime.v1.RuntimeService/ListPodSandbox",
            Self::PodSandboxStatus => "/runtime.v1.RuntimeService/PodSandboxStatus",
            Self::ListContainers => "/runtime.v1.RuntimeService/ListContainers",
            Self::ContainerStatus => "/runtime.v1.RuntimeService/ContainerStatus",
            Self::GetContainerEvents => "/runtime.v1.RuntimeService/GetContainerEvents",
            Self::RunPodSandbox => "/runtime.v1.RuntimeService/RunPodSandbox",
            Self::StopPodSandbox => "/runtime.v1.RuntimeService/StopPodSandbox",
            Self::RemovePodSandbox => "/runtime.v1.RuntimeService/RemovePodSandbox",
            Self::CreateContainer => "/runtime.v1.RuntimeService/CreateContainer",
            Self::StartContainer => "/runtime.v1.RuntimeService/StartContainer",
            Self::StopContainer => "/runtime.v1.RuntimeService/StopContainer",
            Self::RemoveContainer => "/runtime.v1.RuntimeService/RemoveContainer",
            Self::ExecSync => "/runtime.v1.RuntimeService/ExecSync",
            Self::ImageStatus => "/runtime.v1.ImageService/ImageStatus",
        })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum Error {
    /// Nobody is there, or nobody listens: the runtime is not running (yet), or has its socket elsewhere.
    #[error("no container runtime at {}: {source}; is it running, and is this its socket?", socket.display())]
    NotThere {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not let us connect.
    #[error("may not connect to the container runtime at {}: {source}; this needs root", socket.display())]
    NotPermitted {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection could not be made for another reason, or who answers does not speak HTTP/2.
    #[error("could not connect to the container runtime at {}: {why}; is this a CRI socket?", socket.display())]
    NotConnected {
        /// The socket that was tried.
        socket: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// The connection has ended, as it does when the runtime restarts. Connect again, and ask for everything again.
    #[error("the connection to the container runtime ended during {call}: {why}")]
    Lost {
        /// What was asked.
        call: Call,
        /// What went wrong.
        why: String,
    },
    /// It took longer than it may.
    #[error("the container runtime took more than {limit:?} for {call}")]
    TooSlow {
        /// What was asked.
        call: Call,
        /// How long it might have taken.
        limit: Duration,
    },
    /// This runtime does not know the call. Where it was for events, poll instead.
    #[error("the container runtime does not implement {call} of CRI v1: {message}")]
    NotImplemented {
        /// What was asked.
        call: Call,
        /// The runtime's words.
        message: String,
    },
    /// What was asked for is not there (any more).
    #[error("the container runtime knows nothing of what {call} asks for: {message}")]
    NotFound {
        /// What was asked.
        call: Call,
        /// The runtime's words.
        message: String,
    },
    /// The runtime answered with an error.
    #[error("the container runtime refused {call}: {code}: {message}")]
    Refused {
        /// What was asked.
        call: Call,
        /// The status code by its name in gRPC.
        code: &'static str,
        /// The runtime's words.
        message: String,
    },
    /// The answer makes no sense.
    #[error("the container runtime answered {call} with what CRI v1 does not allow: {problem}")]
    BadAnswer {
        /// What was asked.
        call: Call,
        /// What is wrong with it.
        problem: BadAnswer,
    },
}

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadAnswer {
    /// It has more bytes than [`crate::Options::answer_most`].
    #[error("more than {most} bytes")]
    TooLarge {
        /// How many it might have had.
        most: usize,
    },
    /// It is no such message.
    #[error("not a message of that kind: {0}")]
    Malformed(prost::DecodeError),
    /// A field that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// An id that is none.
    #[error("`{field}`: {problem}")]
    Id {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: BadId,
    },
    /// An address that is none.
    #[error("`{0}` is not an IP address")]
    Address(&'static str),
    /// The details are not the JSON that we expect. The values are left out: a specification has secrets in it.
    #[error("the details are not as expected, at line {line}, column {column}")]
    Details {
        /// Line, from 1.
        line: usize,
        /// Column, from 1; 0 where the line's end was reached.
        column: usize,
    },
    /// The stream of events ended without an error.
    #[error("the stream ended")]
    Ended,
}
