//! What is told of flows, as a log line or a stream carries it.
//!
//! Its encoding is JSON, one record a line; [`Record::to_line`] and [`Record::from_line`] are the two ways. A line has a
//! `record` (which kind it is) and a `version` ([`VERSION`]). Within a version no field goes away or changes its meaning;
//! a reader refuses fields that it does not know, so a new field is a new version.
//!
//! No record holds anything that a packet carries beyond its headers' addresses, ports and types.

mod peer;
mod protocol;
mod read;
mod text;
mod time;

#[cfg(test)]
mod tests;

pub use peer::{RecordEnd, RecordPeer, RecordPeerKind};
pub use protocol::{IpProtocol, ParseIpProtocolError};
pub use read::{ReadRecordError, VERSION, Version};
pub use text::Columns;
pub use time::{ParseTimestampError, Timestamp};

use crate::{Action, Direction};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing that a flow log tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "camelCase")]
pub enum Record {
    /// A flow was denied, or an Audit policy would have judged it otherwise.
    Flow(Box<FlowRecord>),
    /// Records that are missing before this one.
    Lost(LostRecord),
    /// Nothing comes after this: the pod has ended.
    End(EndRecord),
}

/// One judged flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlowRecord {
    /// The version of this form.
    pub version: Version,
    /// When the kernel saw the packet or, where it did not say, when its message was read.
    pub time: Timestamp,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// What kind of party the pod's side of the flow is: of a flow within the pod, who opened it.
    pub party: RecordParty,
    /// That party's container.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<String>,
    /// Which side of the flow the party is: `egress` where it opened it.
    pub direction: Direction,
    /// The way that the flow takes.
    pub wire: RecordWire,
    /// The device that the packet came by or was to leave by, where it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interface: Option<String>,
    /// The network of that device, `namespace/name`, where it is a further network of the pod.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub network: Option<String>,
    /// The protocol, where the packet's headers could be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub protocol: Option<IpProtocol>,
    /// The type and code of an ICMP or ICMPv6 message.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub icmp: Option<RecordIcmp>,
    /// The port that the flow was opened to, on whichever side that is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// The party's own end.
    pub local: RecordEnd,
    /// The other end.
    pub peer: RecordPeer,
    /// Whether the packet that met the wall was leaving a socket of the pod or arriving.
    pub way: RecordWay,
    /// Whether that packet was an answer of the flow: live flows are judged again after a change, at either end.
    pub reply: bool,
    /// What was decided.
    pub verdict: RecordVerdict,
    /// Why, as far as the policies in force when the message was read can tell.
    pub cause: RecordCause,
    /// The policies that isolate: for `audit-would-deny` those that would, Enforce and Audit together; of a flow that is
    /// denied at one side only, that side's.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub policies: Vec<RecordPolicy>,
    /// How many more policies isolate: a record names a few.
    #[serde(skip_serializing_if = "none", default)]
    pub more_policies: usize,
    /// The rule that allowed the flow (`audit-would-deny`), or would have (`audit-would-allow`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<RecordRule>,
    /// The user of the socket that the kernel found with the packet: the sender's where it was leaving, else the
    /// receiver's. Packets without a socket have none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// The group of that socket.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gid: Option<u32>,
    /// The place in the ruleset that judged: a [`crate::Decision`], and the name of the counter that counted it.
    pub decision: String,
}

/// Records that are missing, for a reason that says where they were lost. Nothing ever waited for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LostRecord {
    /// The version of this form.
    pub version: Version,
    /// When the loss was noticed.
    pub time: Timestamp,
    /// The pod's namespace; none where records of several pods are missing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespace: Option<String>,
    /// The pod's name; none where records of several pods are missing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<String>,
    /// How many.
    pub count: u64,
    /// Where.
    pub place: LossPlace,
}

/// Where records are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LossPlace {
    /// In the kernel's queue: messages came faster than they were read. Every subscriber misses them.
    Kernel,
    /// In the subscriber's own queue: it reads more slowly than records come. Only it misses them.
    Subscriber,
    /// Nowhere: the rules limit how many messages a decision writes, and these judgements were only counted.
    RateLimit,
}

/// That the pod has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndRecord {
    /// The version of this form.
    pub version: Version,
    /// When.
    pub time: Timestamp,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
}

/// The kinds of parties, as records name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordParty {
    /// A container.
    Container,
    /// A socket of no known container.
    Unknown,
    /// A process of the node itself inside the pod's namespace.
    Node,
    /// Nobody said: the packet was refused before anybody asked whose it is.
    Undetermined,
}

/// The way that a flow takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordWire {
    /// The pod's loopback device, which also carries what is sent to the pod's own addresses.
    Loopback,
    /// A device that leads out of the pod.
    Network,
}

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordWay {
    /// From a socket of the pod.
    Leaving,
    /// To a socket of the pod.
    Arriving,
}

/// The type and code of an ICMP (RFC 792) or ICMPv6 (RFC 4443) message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordIcmp {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: u8,
    /// Its code.
    pub code: u8,
}

/// What was decided of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordVerdict {
    /// It was denied.
    Deny,
    /// It passed.
    Allow,
    /// It passed; Enforce and Audit policies together would have denied it.
    AuditWouldDeny,
    /// It was denied; Enforce and Audit policies together would have let it pass.
    AuditWouldAllow,
    /// The packet pretended to belong to somebody else's flow, and was dropped.
    Forged,
    /// No policy can allow such a packet: source routing, multicast under isolation, and the like. It was refused.
    Improper,
}

/// Why a flow came out as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordCause {
    /// Policies isolate, and no rule of theirs allows it.
    Isolated,
    /// Under identity by user or group: the container that answers does not declare the port.
    NotDeclared,
    /// It has nothing to do with policies: a forged or improper packet.
    NoPolicy,
    /// The policies in force by now judge it otherwise: rules that have been replaced since wrote the message.
    Superseded,
    /// The packet's headers could not be read.
    Unreadable,
}

/// A policy, as a record names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordPolicy {
    /// Its kind: `ContainerNetworkPolicy`, for example.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which side of the flow it isolates.
    pub direction: Direction,
    /// At which grain.
    pub level: RecordLevel,
}

/// The grain at which a policy isolates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordLevel {
    /// The pod as a whole.
    Pod,
    /// A container.
    Container,
}

/// A policy's rule, as a record names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordRule {
    /// The policy's kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The list in which the rule stands.
    pub direction: Direction,
    /// Its place there, from 0.
    pub index: usize,
}

/// Whether there is nothing to count.
const fn none(count: &usize) -> bool {
    *count == 0
}

impl Record {
    /// When it happened, or was noticed.
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Flow(flow) => flow.time,
            Self::Lost(lost) => lost.time,
            Self::End(end) => end.time,
        }
    }

    /// The pod's namespace and name, where it is about one pod.
    pub fn pod(&self) -> Option<(&str, &str)> {
        match self {
            Self::Flow(flow) => Some((&flow.namespace, &flow.pod)),
            Self::Lost(lost) => lost.namespace.as_deref().zip(lost.pod.as_deref()),
            Self::End(end) => Some((&end.namespace, &end.pod)),
        }
    }

    /// The flow, where it tells of one.
    pub fn flow(&self) -> Option<&FlowRecord> {
        match self {
            Self::Flow(flow) => Some(flow),
            Self::Lost(_) | Self::End(_) => None,
        }
    }
}

impl RecordVerdict {
    /// What was done, whatever anybody would have done.
    pub const fn enforced(self) -> Action {
        match self {
            Self::Allow | Self::AuditWouldDeny => Action::Allow,
            Self::Deny | Self::AuditWouldAllow | Self::Forged | Self::Improper => Action::Deny,
        }
    }

    /// Whether it tells what Audit policies would have changed.
    pub const fn is_audit(self) -> bool {
        matches!(self, Self::AuditWouldDeny | Self::AuditWouldAllow)
    }
}

impl fmt::Display for RecordVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
            Self::AuditWouldDeny => "audit-would-deny",
            Self::AuditWouldAllow => "audit-would-allow",
            Self::Forged => "forged",
            Self::Improper => "improper",
        })
    }
}
