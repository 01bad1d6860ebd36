//! What is told of one judged flow.

use crate::{Action, Direction, Protocol};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// One judged flow, as a log line or a stream carries it. Its encoding is JSON, one record a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlowRecord {
    /// When the kernel judged it: seconds since the Unix epoch.
    pub time: f64,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container whose side was judged, where one is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<String>,
    /// Which side of the flow that is.
    pub direction: Direction,
    /// The other end.
    pub peer: RecordPeer,
    /// The transport protocol, where it is one that rules can name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub protocol: Option<Protocol>,
    /// The port that the flow was opened to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// The UID of the sending socket, where the kernel told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// The verdict, or for an audit record the one that was not enforced.
    pub verdict: Action,
    /// True where Audit policies would have given this verdict and the enforced one differs.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub audit: bool,
    /// The place in the ruleset that judged.
    pub decision: String,
}

/// The other end of a judged flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordPeer {
    /// The container, where the flow stayed in the pod and both ends are known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<String>,
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_json_line_that_reads_back() {
        let record = FlowRecord {
            time: 1.5,
            namespace: "shop".into(),
            pod: "web".into(),
            container: Some("app".into()),
            direction: Direction::Egress,
            peer: RecordPeer { container: None, address: Some("10.0.0.1".parse().unwrap()) },
            protocol: Some(Protocol::Tcp),
            port: Some(443),
            uid: Some(1001),
            verdict: Action::Deny,
            audit: false,
            decision: "sw:deny/egress/c1".into(),
        };
        let line = serde_json::to_string(&record).unwrap();
        assert!(!line.contains('\n') && !line.contains("audit"));
        assert_eq!(serde_json::from_str::<FlowRecord>(&line).unwrap(), record);
    }
}
