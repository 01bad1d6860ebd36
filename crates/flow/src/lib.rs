//! Flows and verdicts: the words that rules, verdicts and logs share.
//!
//! A [`Party`] is one end of a flow inside a pod, a [`Decision`] names the place in the ruleset that judged a flow
//! (it travels through the kernel as the prefix of an NFLOG message), and a [`Record`] is what is told of one.
#![forbid(unsafe_code)]

mod decision;
mod party;
mod record;

pub use decision::{Decision, ParseDecisionError, Place};
pub use party::{ContainerId, ContainerIdError, Party};
pub use record::{
    Columns, EndRecord, FlowRecord, IpProtocol, LossPlace, LostRecord, ParseIpProtocolError, ParseTimestampError,
    ReadRecordError, Record, RecordCause, RecordEnd, RecordIcmp, RecordLevel, RecordParty, RecordPeer, RecordPeerKind,
    RecordPolicy, RecordRule, RecordVerdict, RecordWay, RecordWire, Timestamp, VERSION, Version,
};

use serde::{Deserialize, Serialize};
use std::fmt;

/// A transport protocol that a rule can allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// Transmission Control Protocol, RFC 9293.
    Tcp,
    /// User Datagram Protocol, RFC 768.
    Udp,
    /// Stream Control Transmission Protocol, RFC 9260.
    Sctp,
}

impl Protocol {
    /// Every protocol, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The number that the IP header carries (IANA "Assigned Internet Protocol Numbers").
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol of an IP header's number, if a rule can allow it.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.number() == number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

impl std::str::FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|p| p.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownProtocol(text.to_owned()))
    }
}

/// A protocol name that is none of TCP, UDP and SCTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownProtocol(pub String);

impl fmt::Display for UnknownProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown protocol {:?}: write TCP, UDP or SCTP", self.0)
    }
}

impl std::error::Error for UnknownProtocol {}

/// The side of a flow that a policy speaks about, as in NetworkPolicy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// What the container receives.
    Ingress,
    /// What the container opens.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// What happens to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It passes.
    Allow,
    /// It is refused or dropped.
    Deny,
}

impl Action {
    /// `Allow` where `allowed` holds, else `Deny`.
    pub const fn from_allowed(allowed: bool) -> Self {
        if allowed { Self::Allow } else { Self::Deny }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}
