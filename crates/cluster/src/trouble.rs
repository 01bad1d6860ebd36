//! What can go wrong between us and the API server.

use crate::kind::Kind;
use std::fmt;
use std::time::{Duration, SystemTime};

/// Why news of a kind don't come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The API server can't be reached, or does not answer in time.
    Unreachable,
    /// It does not know who we are (401).
    Unauthorized,
    /// We may not read it (403).
    Forbidden,
    /// It is not served (404).
    Absent,
    /// Its CustomResourceDefinition is being deleted, or nobody may say whether it is.
    Ending,
    /// What we have is too old to go on from, and everything is listed again (410).
    Expired,
    /// The API server is too busy, or fails (429, 5xx).
    Failing,
    /// What it said can't be understood.
    Unintelligible,
}

impl Cause {
    /// The word for it, for labels of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Absent => "absent",
            Self::Ending => "ending",
            Self::Expired => "expired",
            Self::Failing => "failing",
            Self::Unintelligible => "unintelligible",
        }
    }
}

/// A kind of which no news come, and since when. The last known state stands meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Since when.
    pub since: SystemTime,
    /// Why.
    pub cause: Cause,
    /// What happened last, and what can be done.
    pub message: String,
}

/// One failure, before it has a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub cause: Cause,
    pub message: String,
    /// What the API server asks us to wait.
    pub wait: Option<Duration>,
    /// An object of that name is already there.
    pub exists: bool,
}

impl Failure {
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), wait: None, exists: false }
    }

    /// What a request's error means where it was about a kind.
    pub fn of(kind: Kind, error: &kube::Error) -> Self {
        Self::plain(error).about(kind)
    }

    /// The same, with what can be done where it was about reading a kind.
    pub fn about(self, kind: Kind) -> Self {
        let advice = match self.cause {
            Cause::Forbidden => {
                format!("; grant list and watch on {}", kind.paths()[0].rsplit('/').next().unwrap_or_default())
            }
            Cause::Absent => format!("; {}", kind.advice()),
            Cause::Unauthorized => "; is the token or certificate still valid?".to_owned(),
            _ => return self,
        };
        Self { message: format!("{}{advice}", self.message), ..self }
    }

    /// What a request's error means.
    pub fn plain(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status),
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) | kube::Error::LinesCodecMaxLineLengthExceeded => {
                Self::new(Cause::Unintelligible, format!("the answer can't be understood: {}", root(error)))
            }
            // The error itself may quote what a credential plugin printed.
            kube::Error::Auth(_) => Self::new(Cause::Unauthorized, "credentials can't be had by what is configured"),
            _ => Self::new(Cause::Unreachable, format!("the API server can't be reached: {}", root(error))),
        }
    }

    pub fn of_status(status: &kube::core::Status) -> Self {
        let cause = match status.code {
            // The client library takes whatever it does not understand for a status that says nothing.
            0 => Cause::Unintelligible,
            401 => Cause::Unauthorized,
            403 => Cause::Forbidden,
            404 => Cause::Absent,
            410 => Cause::Expired,
            _ => Cause::Failing,
        };
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        Self {
            cause,
            message: format!("{}: {}", status.code, shortened(&status.message)),
            wait: (seconds > 0).then(|| Duration::from_secs(u64::from(seconds))),
            exists: status.is_already_exists(),
        }
    }
}

/// The innermost cause: the outer ones only say that something failed.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    shortened(&error.to_string())
}

/// What others say, cut to a length that a status can bear.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 300;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain(['…']).collect()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
