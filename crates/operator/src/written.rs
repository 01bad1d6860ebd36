//! Asking the API server: how long it is waited for, and what can go wrong.

use std::time::Duration;

use thiserror::Error;
use tokio::time::timeout;

use crate::certificates::CertificateError;

/// How long the API server is waited for where nobody waits for the operator meanwhile.
const ANSWER: Duration = Duration::from_secs(10);

/// The API server's answer, if it comes within ten seconds.
///
/// # Errors
/// [`WriteError::Api`] or [`WriteError::Late`].
pub async fn answered<T>(answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, WriteError> {
    within(ANSWER, answer).await
}

/// The API server's answer, if it comes in time.
///
/// # Errors
/// [`WriteError::Api`] or [`WriteError::Late`].
pub async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, WriteError> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(WriteError::Api),
        Err(_) => Err(WriteError::Late(limit)),
    }
}

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

impl WriteError {
    /// The HTTP status with which the API server refuses, where it does.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// Whether what was to be changed is not there, or is another by now: the news of it are on their way.
    pub fn is_overtaken(&self) -> bool {
        matches!(self.status(), Some(404 | 409))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(kube::core::Status { code, ..kube::core::Status::default() }))
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_longer_than_is_said() {
        let begun = tokio::time::Instant::now();
        let late = answered(std::future::pending::<Result<(), _>>()).await.unwrap_err();
        assert_eq!((begun.elapsed(), late.status(), late.is_overtaken()), (ANSWER, None, false));
        assert_eq!(late.to_string(), "the API server has not answered within 10 s");
        assert!(within(Duration::from_secs(1), async { Ok(()) }).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_gone_or_another_is_told_from_what_is_refused() {
        for (code, overtaken) in [(404, true), (409, true), (403, false), (500, false)] {
            let error = answered(async { Err::<(), _>(refused(code)) }).await.unwrap_err();
            assert_eq!((error.status(), error.is_overtaken()), (Some(code), overtaken));
        }
    }
}
