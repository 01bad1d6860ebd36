//! The names of the places in a ruleset that judge, as NFLOG prefixes carry them.

use crate::{Action, Party};
use std::fmt;
use std::str::FromStr;

/// Which judgement a log message or counter tells of.
///
/// The text form ([`fmt::Display`], [`FromStr`]) is the NFLOG prefix. It names parties by number, which are stable
/// while the pod lives, so that a message can be read whichever generation of the ruleset wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decision {
    /// Where the flow was judged.
    pub place: Place,
    /// What was decided, or what Audit policies would have decided.
    pub action: Action,
    /// The enforced verdict is the other one; this is what Enforce and Audit policies together would have given.
    pub audit: bool,
}

/// Where in the ruleset a flow is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A party's packets to the network.
    Egress(Party),
    /// A party's packets from the network.
    Ingress(Party),
    /// Two parties over loopback.
    Loopback {
        /// Who opened the flow.
        sender: Party,
        /// Who answers it.
        receiver: Party,
    },
    /// A party's packets over loopback whose receiver no rule knows.
    LoopbackFrom(Party),
    /// A packet that no policy can allow: source routing, multicast under isolation, and the like.
    Improper,
    /// A packet that pretends to belong to somebody else's flow.
    Forged,
}

impl Decision {
    /// What the text of every decision begins with, in the log and nowhere else.
    pub const PREFIX: &'static str = "sw:";

    /// An enforced denial.
    pub const fn denied(place: Place) -> Self {
        Self { place, action: Action::Deny, audit: false }
    }

    /// What the Audit policies would have made of a flow that got the other verdict.
    pub const fn audit(place: Place, action: Action) -> Self {
        Self { place, action, audit: true }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let audit = if self.audit { "audit-" } else { "" };
        write!(f, "{}{audit}{}/", Self::PREFIX, self.action)?;
        match self.place {
            Place::Egress(party) => write!(f, "egress/{party}"),
            Place::Ingress(party) => write!(f, "ingress/{party}"),
            Place::Loopback { sender, receiver } => write!(f, "loopback/{sender}/{receiver}"),
            Place::LoopbackFrom(party) => write!(f, "loopback/{party}"),
            Place::Improper => f.write_str("improper"),
            Place::Forged => f.write_str("forged"),
        }
    }
}

/// A text that is not a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseDecisionError(pub String);

impl fmt::Display for ParseDecisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not the name of a Sidewall decision", self.0)
    }
}

impl std::error::Error for ParseDecisionError {}

impl FromStr for Decision {
    type Err = ParseDecisionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text.trim_end()).ok_or_else(|| ParseDecisionError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Decision> {
    let mut parts = text.strip_prefix(Decision::PREFIX)?.split('/');
    let (action, audit) = match parts.next()? {
        "deny" => (Action::Deny, false),
        "allow" => (Action::Allow, false),
        "audit-deny" => (Action::Deny, true),
        "audit-allow" => (Action::Allow, true),
        _ => return None,
    };
    let party = |text: Option<&str>| text?.parse::<Party>().ok();
    let place = match parts.next()? {
        "egress" => Place::Egress(party(parts.next())?),
        "ingress" => Place::Ingress(party(parts.next())?),
        "loopback" => {
            let sender = party(parts.next())?;
            match parts.next() {
                Some(text) => Place::Loopback { sender, receiver: party(Some(text))? },
                None => Place::LoopbackFrom(sender),
            }
        }
        "improper" => Place::Improper,
        "forged" => Place::Forged,
        _ => return None,
    };
    parts.next().is_none().then_some(Decision { place, action, audit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ContainerId;

    #[test]
    fn every_decision_reads_back() {
        let app = Party::Container(ContainerId::try_from(7).unwrap());
        for place in [
            Place::Egress(app),
            Place::Ingress(Party::Unknown),
            Place::Loopback { sender: Party::Node, receiver: app },
            Place::LoopbackFrom(app),
            Place::Improper,
            Place::Forged,
        ] {
            for action in [Action::Allow, Action::Deny] {
                for audit in [false, true] {
                    let decision = Decision { place, action, audit };
                    assert_eq!(decision.to_string().parse(), Ok(decision));
                }
            }
        }
    }

    #[test]
    fn other_texts_are_no_decisions() {
        for text in ["", "sw:", "sw:deny", "sw:deny/egress", "sw:deny/forged/x"] {
            assert!(text.parse::<Decision>().is_err(), "{text}");
        }
        for party in ["c0", "c61", "c01", "c+1", "c-1", "c", "C1"] {
            assert!(format!("sw:deny/egress/{party}").parse::<Decision>().is_err(), "{party}");
            assert!(format!("sw:deny/loopback/{party}/c1").parse::<Decision>().is_err(), "{party}");
        }
    }
}
