//! Records for people: one line each, in columns that stand below each other.

use super::{
    FlowRecord, LossPlace, Record, RecordCause, RecordLevel, RecordParty, RecordPeer, RecordPeerKind, RecordRule,
    RecordVerdict, RecordWire,
};
use crate::Direction;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// The parts of a record's line. Their reader may colour them; `{time} {what} {text}` is the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The time of day in UTC, to the millisecond.
    pub time: String,
    /// The verdict, or `lost` or `end`; always of the same width.
    pub what: String,
    /// Who, whom, by what and why.
    pub text: String,
}

/// As wide as the longest verdict.
const WIDTH: usize = "audit-would-allow".len();

impl Record {
    /// The parts of the record's line.
    pub fn columns(&self) -> Columns {
        let (what, text) = match self {
            Self::Flow(flow) => (flow.verdict.to_string(), flow.sentence()),
            Self::Lost(lost) => {
                let records = if lost.count == 1 { "record is" } else { "records are" };
                let why = match lost.place {
                    LossPlace::Kernel => "the kernel's queue was full",
                    LossPlace::Subscriber => "they were not taken in time",
                    LossPlace::RateLimit => "the rules limit how many are written",
                };
                ("lost".to_owned(), format!("{} {records} missing before this: {why}", lost.count))
            }
            Self::End(end) => ("end".to_owned(), format!("the pod {}/{} has ended", end.namespace, end.pod)),
        };
        // 2026-11-22T02:29:48.123456Z
        let time = self.time().to_string();
        Columns { time: time.get(11..23).unwrap_or(&time).to_owned(), what: format!("{what:<WIDTH$}"), text }
    }
}

impl FlowRecord {
    /// Who opened it, to whom, and what.
    pub fn route(&self) -> String {
        let who = match (&self.container, self.party) {
            (Some(container), _) => container.clone(),
            (None, RecordParty::Unknown) => "(unknown)".to_owned(),
            (None, RecordParty::Node) => "(node)".to_owned(),
            (None, RecordParty::Container | RecordParty::Undetermined) => "(somebody)".to_owned(),
        };
        let peer = self.peer.label();
        let (from, to) = match self.direction {
            Direction::Egress => (who, peer),
            Direction::Ingress => (peer, who),
        };
        let mut text = format!("{from} -> {to}");
        if let Some(what) = self.what() {
            let _ = write!(text, " {what}");
        }
        text
    }

    /// The route, by what and why, in words.
    pub fn sentence(&self) -> String {
        let mut text = self.route();
        if let (RecordWire::Network, Some(device)) = (self.wire, &self.interface) {
            let _ = write!(text, " on {device}");
        }
        if let Some(uid) = self.uid {
            let _ = write!(text, ", uid {uid}");
        }
        if let Some(why) = self.why() {
            let _ = write!(text, ": {why}");
        }
        text
    }

    /// `8080/TCP`, or `ICMP type 8 code 0`, or a protocol.
    fn what(&self) -> Option<String> {
        let protocol = self.protocol?;
        Some(match (self.port, self.icmp) {
            (Some(port), _) => format!("{port}/{protocol}"),
            (None, Some(icmp)) => format!("{protocol} type {} code {}", icmp.kind, icmp.code),
            (None, None) => match protocol.to_string() {
                name if name.starts_with(|first: char| first.is_ascii_digit()) => format!("protocol {name}"),
                name => name,
            },
        })
    }

    fn why(&self) -> Option<String> {
        let mut parts = Vec::new();
        match self.cause {
            RecordCause::Isolated => {}
            RecordCause::NotDeclared => parts.push("the port is not declared by the container that answers".to_owned()),
            RecordCause::NoPolicy => {}
            RecordCause::Superseded => parts.push("the policies have changed since".to_owned()),
            RecordCause::Unreadable => parts.push("its headers could not be read".to_owned()),
        }
        if !self.policies.is_empty() {
            let mut names: Vec<String> = self
                .policies
                .iter()
                .map(|policy| {
                    let level = if policy.level == RecordLevel::Pod { " (pod)" } else { "" };
                    format!("{} {}/{} {}{level}", policy.kind, policy.namespace, policy.name, policy.direction)
                })
                .collect();
            if self.more_policies > 0 {
                names.push(format!("{} more", self.more_policies));
            }
            parts.push(format!("isolated by {}", names.join(", ")));
        }
        if let Some(rule) = &self.rule {
            let RecordRule { kind, namespace, name, direction, index } = rule;
            let would = if self.verdict == RecordVerdict::AuditWouldAllow { "would be " } else { "" };
            parts.push(format!("{would}allowed by {kind} {namespace}/{name} {direction}[{index}]"));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl RecordPeer {
    /// Its name, with its address behind it where it has both.
    pub fn label(&self) -> String {
        let name = match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
            _ => None,
        };
        let known = match (self.kind, name) {
            (RecordPeerKind::Container, _) => self.container.clone(),
            (RecordPeerKind::Unknown, _) => Some("(unknown)".to_owned()),
            (RecordPeerKind::Process, _) => Some("(node)".to_owned()),
            (RecordPeerKind::SamePod, _) => Some("(this pod)".to_owned()),
            (RecordPeerKind::Pod, Some(name)) => Some(format!("pod {name}")),
            (RecordPeerKind::Service, Some(name)) => Some(format!("Service {name}")),
            (RecordPeerKind::Service, None) => Some("(unknown Service)".to_owned()),
            (RecordPeerKind::Node, _) => Some("node".to_owned()),
            (RecordPeerKind::Pod | RecordPeerKind::Address, _) => None,
        };
        let inside = matches!(
            self.kind,
            RecordPeerKind::Container | RecordPeerKind::Unknown | RecordPeerKind::Process | RecordPeerKind::SamePod
        );
        match (known, self.address) {
            (Some(known), Some(address)) if !inside => format!("{known} ({address})"),
            (Some(known), _) => known,
            (None, Some(address)) => address.to_string(),
            (None, None) => "(somebody)".to_owned(),
        }
    }

    /// The address with its port, where it has both.
    pub fn socket(&self) -> Option<SocketAddr> {
        let address: IpAddr = self.address?;
        Some(SocketAddr::new(address, self.port?))
    }
}
