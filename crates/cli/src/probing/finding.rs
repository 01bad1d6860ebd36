//! What came of an attempt.

use std::fmt;

use serde::Serialize;
use sidewall_flow::Action;

/// What the kernel did with a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "camelCase")]
pub enum Finding {
    /// The one who was meant answered.
    Allow,
    /// A wall denied it.
    Deny {
        /// The counters that went up.
        counters: Vec<String>,
    },
    /// It came to nothing, and no wall is the reason.
    Unclear {
        /// What happened.
        message: String,
    },
}

impl Finding {
    /// Nothing can be said.
    pub fn unclear(message: impl Into<String>) -> Self {
        Self::Unclear { message: message.into() }
    }

    /// The verdict, where there is one.
    pub const fn action(&self) -> Option<Action> {
        match self {
            Self::Allow => Some(Action::Allow),
            Self::Deny { .. } => Some(Action::Deny),
            Self::Unclear { .. } => None,
        }
    }

    /// In a word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny { .. } => "deny",
            Self::Unclear { .. } => "unclear",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Deny { counters } => write!(f, "deny (counted by {})", counters.join(", ")),
            Self::Unclear { message } => write!(f, "unclear: {message}"),
        }
    }
}
