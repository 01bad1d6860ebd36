//! Who may see what.

use crate::token::Token;
use std::future::Future;
use tonic::{Code, Status};

/// Says who may see what.
pub trait Admission: Send + Sync + 'static {
    /// Whether whoever shows this token may see the flows of a namespace's pods or, of none, of all namespaces'. It is asked
    /// again while the call lasts; it may take [`crate::Limits::admit_within`].
    ///
    /// # Errors
    /// [`Refusal`]; a call that is under way ends with it.
    fn admit(
        &self,
        token: Option<&Token>,
        namespace: Option<&str>,
    ) -> impl Future<Output = Result<Admitted, Refusal>> + Send;
}

/// Somebody who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Who it is, for the log.
    pub who: String,
}

/// Why somebody may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no token.
    NoToken,
    /// The token is nobody's, or nobody's any more.
    Nobody,
    /// It is somebody's, but he may not see this.
    NotAllowed {
        /// Who it is.
        who: String,
    },
    /// Nobody could be asked.
    Unanswered {
        /// Why, for the log: whoever asked is not told.
        why: String,
    },
}

/// Lets everybody see everything: for a connection that only root can have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Everything;

impl Admission for Everything {
    async fn admit(&self, _: Option<&Token>, _: Option<&str>) -> Result<Admitted, Refusal> {
        Ok(Admitted { who: "root".to_owned() })
    }
}

impl Refusal {
    /// What the caller is told.
    pub(crate) fn status(&self, namespace: Option<&str>) -> Status {
        match self {
            Self::NoToken => Status::new(Code::Unauthenticated, "show a bearer token: who are you?"),
            Self::Nobody => Status::new(
                Code::Unauthenticated,
                "the token is not valid here, or not any more: show one that was made for this service",
            ),
            Self::NotAllowed { who } => {
                let what = match namespace {
                    Some(namespace) => format!("the flows of namespace {namespace}"),
                    None => "the flows of all namespaces".to_owned(),
                };
                Status::new(Code::PermissionDenied, format!("{who} may not see {what}"))
            }
            Self::Unanswered { .. } => {
                Status::new(Code::Unavailable, "nobody can be asked at the moment what you may see: try again later")
            }
        }
    }

    /// What the log is told.
    pub(crate) fn log(&self, namespace: Option<&str>) {
        let namespace = namespace.unwrap_or("(all)");
        match self {
            Self::NoToken => tracing::debug!(namespace, "flows are not shown to somebody without a token"),
            Self::Nobody => {
                tracing::debug!(namespace, "flows are not shown to the bearer of a token that is not valid")
            }
            Self::NotAllowed { who } => {
                tracing::info!(who, namespace, "flows are not shown to somebody who may not see them")
            }
            Self::Unanswered { why } => {
                tracing::warn!(why, namespace, "flows are not shown: nobody says who may see them")
            }
        }
    }
}
