//! What can go wrong with a flow log.

use std::io;
use std::path::PathBuf;

/// A hub has as many subscribers as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the flow log has {} readers already, which is the most: end one of them", crate::SUBSCRIBERS_MAX)]
pub struct TooManySubscribers;

/// A pod's log can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The devices of the pod's namespace can't be listed.
    #[error("can't list the devices of the pod's network namespace: {0}")]
    Devices(#[from] sidewall_netns::Error),
    /// Nobody would be woken when something is logged.
    #[error("can't wait for what is logged: {0}; this process may have too many open files")]
    Wait(#[source] io::Error),
    /// No thread.
    #[error("can't start the thread that reads the log: {0}; there may be too many processes on this machine")]
    Thread(#[source] io::Error),
}

/// A flow log can't be offered to other processes.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket can't be made.
    #[error("can't offer the flow log at {}: {source}", path.display())]
    Socket {
        /// Where it should be.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// No thread.
    #[error("can't start the thread that offers the flow log: {0}; there may be too many processes on this machine")]
    Thread(#[source] io::Error),
}

/// Another process's flow log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody offers it.
    #[error(
        "no flow log is offered at {}: the pod may run without walls, under an older version, or may just be ending",
        .0.display()
    )]
    Nobody(PathBuf),
    /// Not allowed.
    #[error("the flow log at {} is for root and for the user who runs the pod: run this as one of them", .0.display())]
    NotAllowed(PathBuf),
    /// The other side says no.
    #[error("the flow log at {} refuses: {reason}", path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// Its words.
        reason: String,
    },
    /// The connection failed.
    #[error("can't read the flow log at {}: {source}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// It sent what is no record.
    #[error("the flow log at {} sent something else: {source}", path.display())]
    Record {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        source: sidewall_flow::ReadRecordError,
    },
    /// It sent more in one line than a record can have.
    #[error("the flow log at {} sent a line of more than {} octets, which is no record", .0.display(), crate::wire::LINE_MAX)]
    TooLong(PathBuf),
}

/// A file of records can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't {action} the flow log {}: {source}", path.display())]
pub struct FileError {
    /// What was to be done.
    pub action: &'static str,
    /// With which file.
    pub path: PathBuf,
    /// The system's word.
    pub source: io::Error,
}
