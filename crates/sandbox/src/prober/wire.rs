//! What prober and client say to each other: one JSON object a line.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, one-to-one style, where the kernel has it.
    Sctp,
}

/// An attempt to reach somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// By which protocol.
    pub protocol: Protocol,
    /// Whom.
    pub to: SocketAddr,
    /// From which address and port, if it matters (port 0: any).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<SocketAddr>,
    /// How long it may take, in milliseconds, the answer included.
    pub deadline_ms: u64,
    /// Whether to wait for the other end's name; always with UDP, which has no other sign of success.
    #[serde(default)]
    pub await_name: bool,
    /// Whether to keep the connection for later; else it is closed at once.
    #[serde(default)]
    pub keep: bool,
}

impl Connect {
    /// An attempt of at most `deadline_ms` that waits for the other end's name and closes.
    pub fn new(protocol: Protocol, to: SocketAddr, deadline_ms: u64) -> Connect {
        Connect { protocol, to, from: None, deadline_ms, await_name: true, keep: false }
    }
}

/// What the prober is told to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Listen (port 0: any). Answers every connection, or datagram, with the party's name; then sends back what comes.
    Listen {
        /// By which protocol.
        protocol: Protocol,
        /// Where.
        at: SocketAddr,
    },
    /// Try to reach somebody.
    Connect(Connect),
    /// Send on a kept connection.
    Send {
        /// The connection.
        handle: u64,
        /// What.
        text: String,
    },
    /// Receive on a kept connection.
    Receive {
        /// The connection.
        handle: u64,
        /// How long to wait, in milliseconds.
        deadline_ms: u64,
    },
    /// Close a connection or listener.
    Close {
        /// Which.
        handle: u64,
    },
    /// Give a copy of a connection's or listener's descriptor to the prober that awaits one under this name.
    PassFd {
        /// Which.
        handle: u64,
        /// The name of an abstract UNIX socket, which belongs to the network namespace.
        name: String,
    },
    /// Await a descriptor under a name. Answered at once with `Awaiting`, and once more when it has come or the time is up.
    TakeFd {
        /// The name of an abstract UNIX socket.
        name: String,
        /// How long to wait, in milliseconds.
        deadline_ms: u64,
    },
}

/// A request with its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Repeated in the answer.
    pub id: u64,
    /// What to do.
    pub request: Request,
}

/// The outcome of the request of that number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The request's number.
    pub id: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It listens.
    Listening {
        /// To close it by.
        handle: u64,
        /// Where, with the port that was chosen.
        at: SocketAddr,
    },
    /// Somebody was reached.
    Connected {
        /// To go on with, if it was to be kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        handle: Option<u64>,
        /// Our own address and port.
        from: SocketAddr,
        /// The other end's name, if it was waited for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// ECONNREFUSED: nobody listens there, or a rule rejected it with a reset or as an unreachable port.
    Refused,
    /// ECONNRESET or EPIPE: it was connected, and the connection was broken off.
    Reset,
    /// The kernel or the network said that it may not, or can't, go there: EPERM, EACCES, EHOSTUNREACH, ENETUNREACH.
    Prohibited {
        /// The error number.
        errno: i32,
    },
    /// Nothing happened in time.
    Timeout,
    /// All of it was sent.
    Sent,
    /// This came.
    Received {
        /// What.
        text: String,
    },
    /// The other end has closed, or what was to be closed is.
    Closed,
    /// The descriptor is awaited.
    Awaiting,
    /// A descriptor has come.
    Taken {
        /// To use it by.
        handle: u64,
    },
    /// The descriptor is on its way.
    Passed,
    /// This kernel does not have the protocol.
    Unsupported,
    /// Something else went wrong.
    Failed {
        /// What.
        message: String,
    },
}

impl Outcome {
    /// Whether somebody was reached.
    pub fn connected(&self) -> bool {
        matches!(self, Outcome::Connected { .. })
    }
}
