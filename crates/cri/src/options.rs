//! Where the runtime is, and how long and how much it may answer.

use std::path::PathBuf;
use std::time::Duration;

/// Where the runtime is, and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The runtime's socket, such as `/run/containerd/containerd.sock` or `/var/run/crio/crio.sock`.
    pub socket: PathBuf,
    /// How long connecting may take, the first exchange of HTTP/2 included. 2 s unless said otherwise.
    pub connect_within: Duration,
    /// How long one call may take. 10 s unless said otherwise. It does not hold for waiting on the next event, nor for
    /// the calls of `control`, which take a time of their own.
    pub answer_within: Duration,
    /// How many bytes one answer or one event may have. 16 MiB unless said otherwise, which is what the kubelet allows.
    pub answer_most: usize,
}

impl Options {
    /// The socket, with all limits as they are unless said otherwise.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            connect_within: Duration::from_secs(2),
            answer_within: Duration::from_secs(10),
            answer_most: 16 << 20,
        }
    }
}
