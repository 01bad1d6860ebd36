//! What can go wrong when the operator writes to the API server.

use std::time::Duration;

use thiserror::Error;

use crate::certificates::CertificateError;

/// Why something was not written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The API server refuses, or can't be reached.
    #[error("{0}")]
    Api(kube::Error),
    /// A certificate can't be read or made.
    #[error("{0}")]
    Certificate(CertificateError),
    /// An object can't be written as one.
    #[error("it can't be written as an object: {0}")]
    Object(serde_json::Error),
    /// It does not answer.
    #[error("the API server has not answered within {} s", .0.as_secs())]
    Late(Duration),
    /// Somebody else has an object of this name.
    #[error("{kind} {namespace}/{name} is not Sidewall's: rename or delete it")]
    Foreign {
        /// Its kind.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl From<kube::Error> for WriteError {
    fn from(error: kube::Error) -> Self {
        Self::Api(error)
    }
}

impl WriteError {
    /// Whether what was to be changed is not there, or is another by now: the news of it are on their way.
    pub fn is_overtaken(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if matches!(status.code, 404 | 409))
    }
}
