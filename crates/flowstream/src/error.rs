//! What can go wrong.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The flow log can't be offered.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The socket can't be made.
    #[error("can't offer the flow log at {}: {source}", path.display())]
    Socket {
        /// Where it should be.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Something else is where the socket should be.
    #[error("can't offer the flow log at {}: something that is no socket is there; remove it", .0.display())]
    NotASocket(PathBuf),
    /// The port can't be had.
    #[error("can't offer the flow log at {address}: {source}")]
    Address {
        /// Where it should be.
        address: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
    /// The address can be reached from elsewhere.
    #[error(
        "the flow log is not offered at {0}: it is not encrypted, so it must be an address of the loopback device, such as 127.0.0.1"
    )]
    NotLoopback(SocketAddr),
}

/// A flow log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody offers it.
    #[error("no flow log is offered at {}: does the agent run?", .0.display())]
    Nobody(PathBuf),
    /// It is for root.
    #[error("the flow log at {} is for root alone", .0.display())]
    NotRoot(PathBuf),
    /// The connection can't be made.
    #[error("can't connect to the flow log: {0}")]
    NotConnected(String),
    /// The connection has ended.
    #[error("the connection to the flow log has ended: {0}")]
    Lost(String),
    /// Who asks is not known, or not any more.
    #[error("the flow log does not know who asks: {0}")]
    Nameless(String),
    /// Who asks may not see this, or not any more.
    #[error("the flow log is not shown: {0}")]
    NotAllowed(String),
    /// It can't be had now.
    #[error("the flow log can't be had now: {0}")]
    Unavailable(String),
    /// There are as many readers as there may be.
    #[error("the flow log has as many readers as it may have: {0}")]
    TooMany(String),
    /// What was asked for makes no sense to the other side.
    #[error("the agent does not understand which flows are asked for: {0}; it may be older than this program")]
    NotUnderstood(String),
    /// The other side has no such call.
    #[error("whoever answers offers no flow log ({0}): it is another program, or an agent of another version")]
    NoSuchCall(String),
    /// The other side says that something went wrong.
    #[error("the flow log failed with {code}: {message}")]
    Failed {
        /// gRPC's name for it.
        code: String,
        /// The other side's words.
        message: String,
    },
    /// What came is no event.
    #[error("the flow log sent something else than events: {0}")]
    BadEvent(String),
}
