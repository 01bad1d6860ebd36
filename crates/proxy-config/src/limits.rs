//! How much the proxy takes and how long it waits. Every bound has a default that is written here.

use serde::{Deserialize, Serialize};

/// How much the proxy accepts before it refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a request's head (request line and headers). 1024 to 1048576. Above it: 431. An answer of the application
    /// with a larger head is a 502.
    pub header_bytes: u32,
    /// Header lines of a request. 8 to 1000. Above it: 431. An answer of the application with more is a 502.
    pub headers: u32,
    /// Client connections that each worker serves at a time. 1 to 1000000. Above it, new ones wait in the kernel's
    /// backlog.
    pub connections_per_worker: u32,
    /// Idle connections to the application that each worker keeps. 0 to 10000.
    pub idle_upstream_per_worker: u32,
    /// Password hashes computed at the same time, in the whole process. 1 to 256.
    pub password_checks: u32,
    /// Requests that may wait for a password hash, in the whole process. 1 to 100000. Above it: 503 with Retry-After.
    pub waiting_password_checks: u32,
    /// Verified credentials that each worker remembers. 1 to 1000000.
    pub remembered_credentials: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 32 * 1024,
            headers: 100,
            connections_per_worker: 4096,
            idle_upstream_per_worker: 64,
            password_checks: 2,
            waiting_password_checks: 128,
            remembered_credentials: 4096,
        }
    }
}

/// How long the proxy waits, in whole seconds, before it gives up. Each is 1 to 86400, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timeouts {
    /// From a request's first byte (or the connection's start) to the end of its head; also for the TLS handshake.
    pub header_seconds: u32,
    /// Between two requests of one connection.
    pub idle_seconds: u32,
    /// The longest pause while a client sends a request's body. After it: 408.
    pub request_body_seconds: u32,
    /// The longest time in which a client takes none of a response.
    pub send_seconds: u32,
    /// To connect to the application. After it: 504.
    pub connect_seconds: u32,
    /// From the end of a request to the head of the application's response. After it: 504.
    pub response_seconds: u32,
    /// The longest pause of the application within a response's body. After it the connection is cut.
    pub response_body_seconds: u32,
    /// How long an idle connection to the application is kept.
    pub upstream_idle_seconds: u32,
    /// How long a password that was verified is remembered.
    pub credential_seconds: u32,
    /// How long new connections are still taken after the signal to stop, while `/readyz` says no already, so that whoever
    /// sends them learns of it first. 0 to 300.
    pub unready_seconds: u32,
    /// How long requests in flight may go on after that.
    pub drain_seconds: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header_seconds: 10,
            idle_seconds: 75,
            request_body_seconds: 60,
            send_seconds: 60,
            connect_seconds: 5,
            response_seconds: 60,
            response_body_seconds: 300,
            upstream_idle_seconds: 30,
            credential_seconds: 300,
            unready_seconds: 3,
            drain_seconds: 30,
        }
    }
}
