//! How much, how many, how long.

use std::time::Duration;

/// The limits of a [`crate::Server`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of one listener at once; further ones are closed. 16 unless said otherwise.
    pub connections: usize,
    /// Calls at once. 32 unless said otherwise, half of what a hub has room for.
    pub calls: usize,
    /// Calls at once on one connection. 8 unless said otherwise.
    pub calls_of_a_connection: u32,
    /// Questions to the [`crate::Admission`] at once; further ones wait. 4 unless said otherwise.
    pub questions: usize,
    /// Octets of a request. 4 KiB unless said otherwise.
    pub request: usize,
    /// Octets of a call's headers, the token among them. 16 KiB unless said otherwise.
    pub headers: u32,
    /// Octets that wait on one call's way out. 64 KiB unless said otherwise.
    pub unsent: usize,
    /// Records that wait for a reader; what does not fit is told as lost. [`sidewall_flowlog::QUEUE`] unless said otherwise.
    pub queue: usize,
    /// How long a connection may be without a call, also at its beginning. 10 s unless said otherwise.
    pub idle: Duration,
    /// How long a request may take to come. 5 s unless said otherwise.
    pub request_within: Duration,
    /// How long an [`crate::Admission`] may take. 10 s unless said otherwise; then the answer is no.
    pub admit_within: Duration,
    /// How long somebody whom nobody knows waits for hearing it, so that guessing, and having the authority asked about it,
    /// is slow. 0.5 s unless said otherwise.
    pub refuse_after: Duration,
    /// How long an admission holds: then it is asked again, and the call ends where it is taken away. 1 min unless said
    /// otherwise.
    pub readmit: Duration,
    /// How often a connection is tried while it is quiet. 30 s unless said otherwise.
    pub ping: Duration,
    /// How long the other end may take to answer that. 20 s unless said otherwise.
    pub pong_within: Duration,
    /// How long readers may take, when the listener ends, for what still waits for them. 2 s unless said otherwise.
    pub goodbye: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16,
            calls: 32,
            calls_of_a_connection: 8,
            questions: 4,
            request: 4 << 10,
            headers: 16 << 10,
            unsent: 64 << 10,
            queue: sidewall_flowlog::QUEUE,
            idle: Duration::from_secs(10),
            request_within: Duration::from_secs(5),
            admit_within: Duration::from_secs(10),
            refuse_after: Duration::from_millis(500),
            readmit: Duration::from_secs(60),
            ping: Duration::from_secs(30),
            pong_within: Duration::from_secs(20),
            goodbye: Duration::from_secs(2),
        }
    }
}
