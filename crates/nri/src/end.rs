//! Why a session ended.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::handler::Veto;

/// Why a session ended. Every one but [`End::Refused`] may pass by itself: connect again ([`crate::run`] does).
#[derive(Debug, Error)]
pub enum End {
    /// Nobody is there, or nobody listens: the runtime is not running (yet), has NRI off, or its socket elsewhere.
    #[error(
        "no NRI at {}: {source}; is the container runtime running, with NRI enabled (containerd 1.7 has it off unless \
         configured) and with this socket?", socket.display()
    )]
    NotThere {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not let us connect.
    #[error("may not connect to NRI at {}: {source}; this needs root", socket.display())]
    NotPermitted {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection could not be made, or broke, for another reason.
    #[error("the connection to NRI at {}: {source}", socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The runtime does not want this plugin: its configuration may forbid plugins that connect by themselves.
    #[error("the container runtime refused the registration of the plugin: {message} (code {code})")]
    Refused {
        /// The status code, by its number in gRPC.
        code: i32,
        /// The runtime's words.
        message: String,
    },
    /// The runtime has accepted the connection but has not said what there is.
    #[error("the container runtime has not registered and synchronised the plugin within {0:?}")]
    NotSynchronised(Duration),
    /// [`crate::Handler::synchronize`] refused what there is, or panicked.
    #[error("what the container runtime has told was not taken: {0}")]
    NotTaken(Veto),
    /// The runtime closed the connection: it has ended, or the plugin was too slow for it.
    #[error("the container runtime closed the connection{}", if *synchronised { "" } else { " before it synchronised" })]
    Closed {
        /// Whether the plugin had been told what there is.
        synchronised: bool,
    },
    /// The runtime said that it is going down.
    #[error("the container runtime is going down")]
    Shutdown,
    /// The runtime does not read what it is answered.
    #[error("the container runtime has not read an answer within {0:?}")]
    Unread(Duration),
    /// More callbacks were under way than may be. Those that were are ended; the next session tells what there is.
    #[error("more than {most} callbacks were under way at once; they take longer than the runtime waits for them")]
    Overloaded {
        /// How many may be.
        most: usize,
    },
    /// The runtime sent what NRI does not allow.
    #[error("the container runtime sent what NRI does not allow: {0}")]
    Violation(#[from] Violation),
}

/// What NRI does not allow.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// A frame is too long.
    #[error("a frame of {length} bytes, more than {most}")]
    Frame {
        /// How long it says that it is.
        length: usize,
        /// How long it may be.
        most: usize,
    },
    /// A message is too long.
    #[error("a message of {length} bytes, more than {most}")]
    Message {
        /// How long it says that it is.
        length: usize,
        /// How long it may be.
        most: usize,
    },
    /// All that the runtime tells at the beginning is more than we keep.
    #[error("a synchronisation of more than {most} bytes")]
    Synchronisation {
        /// How long it may be: [`crate::Options::synchronise_most`].
        most: usize,
    },
    /// A message can't be decoded.
    #[error("not a ttrpc message: {0}")]
    Malformed(prost::DecodeError),
}

impl End {
    /// Whether the runtime had told what there is before this.
    pub(crate) fn had_session(&self) -> bool {
        match self {
            Self::Closed { synchronised } => *synchronised,
            Self::Shutdown | Self::Unread(_) | Self::Overloaded { .. } | Self::Violation(_) => true,
            Self::NotThere { .. }
            | Self::NotPermitted { .. }
            | Self::Io { .. }
            | Self::Refused { .. }
            | Self::NotSynchronised(_)
            | Self::NotTaken(_) => false,
        }
    }
}
