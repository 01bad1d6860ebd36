//! Rulesets for kernels that lack something: what is left out, what is told of it, and where nothing is loaded at all. Pure.
//!
//! | the kernel has no | then |
//! |---|---|
//! | tables of family inet, conntrack, its mark | nothing can be enforced: refused |
//! | `socket` | identity by cgroup is refused; identity by UID or GID does without |
//! | `fib`, `exthdr` | a ruleset that uses them is refused: forged sources and source routes could not be told |
//! | `log` | nothing is logged; counters still count |
//! | `tproxy` | a SYN onto TIME_WAIT is judged at the first packet with data: until then its listener may take it for a connection |
//! | `redir`, chains of type `nat` | nothing is captured: what aims at the application's ports is denied |
//! | `nat`, `rt`, writing of TCP options | a split pod's link carries nothing: connections to its other parts are refused |
//! | `reject` | what is refused is dropped: applications wait instead of failing fast |
//! | egress hook of devices | the second line against packet sockets is missing |
//! | table owners | another program with CAP_NET_ADMIN in the namespace can change the rules, until they are repaired |

#[cfg(test)]
mod tests;

use crate::features::Features;
use crate::place::{Part, Place};
use sidewall_policy::ruleset::{Field, HookPoint, Rule, Ruleset, Statement, Table, Verdict};
use std::collections::BTreeSet;
use std::fmt;

/// Something that a ruleset does without.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Missing {
    /// Denials are not logged.
    Log,
    /// A connection without data is not judged where its source port was used to the same port within the last minute.
    FindListener,
    /// What aims at ports that a front proxy captures is denied instead of being led to the proxy.
    Redirect,
    /// Nothing is carried to the other parts of a split pod.
    Link,
    /// Denied packets are dropped without an answer.
    Reject,
    /// What packet sockets send by a device is not stopped.
    SecondLine {
        /// The device.
        device: String,
    },
    /// The tables have no owner.
    Ownership,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log => f.write_str("denials are not logged: this kernel has no NFLOG (CONFIG_NFT_LOG)"),
            Self::FindListener => f.write_str(
                "a denied connection from a port that was used a minute ago is ended by its first data and not before: this kernel has no tproxy (4.19, CONFIG_NFT_TPROXY)",
            ),
            Self::Redirect => f.write_str(
                "traffic that a front proxy captures is denied: this kernel cannot redirect it (5.2, CONFIG_NFT_REDIR)",
            ),
            Self::Link => f.write_str(
                "connections to the pod's other parts are refused: this kernel cannot carry them (5.2, CONFIG_NFT_NAT, CONFIG_NFT_EXTHDR)",
            ),
            Self::Reject => f.write_str(
                "denied connections hang instead of being refused: this kernel has no reject (CONFIG_NFT_REJECT_INET)",
            ),
            Self::SecondLine { device } => write!(
                f,
                "packet sockets can send by {device}: this kernel has no egress hook of devices (5.16, CONFIG_NETFILTER_EGRESS)"
            ),
            Self::Ownership => f.write_str(
                "other programs with CAP_NET_ADMIN can change the rules: this kernel has no tables that outlive their owner (6.9)",
            ),
        }
    }
}

/// A ruleset that this kernel cannot enforce. Nothing may be loaded in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unenforceable {
    /// No tables of family inet, or no conntrack in them.
    #[error(
        "this kernel cannot filter by connection (CONFIG_NF_TABLES_INET, CONFIG_NFT_CT): no rule can be enforced on this node"
    )]
    Filter,
    /// No mark on connections.
    #[error(
        "this kernel keeps no mark on connections (CONFIG_NF_CONNTRACK_MARK): no rule can be enforced on this node"
    )]
    Mark,
    /// Identity by cgroup is not possible.
    #[error(
        "{0}: this kernel cannot tell a socket's cgroup (5.13, CONFIG_NFT_SOCKET): give each container a UID of its own and use UID identity"
    )]
    Cgroup(Place),
    /// Addresses cannot be told from the host's own.
    #[error(
        "{0}: this kernel cannot tell its own addresses from others (CONFIG_NFT_FIB_INET), so that forged sources would pass: load the module or build the kernel with it"
    )]
    Addresses(Place),
    /// Options of the network header cannot be seen.
    #[error(
        "{0}: this kernel cannot see IP options (5.3, CONFIG_NFT_EXTHDR), so that source routes would pass: load the module or build the kernel with it"
    )]
    Headers(Place),
}

/// The ruleset as a kernel with these features can enforce it, and what it then does without, in order. What stands is never
/// more than the ruleset allows.
///
/// # Errors
/// [`Unenforceable`] where the kernel lacks what enforcement itself needs.
pub fn degrade(ruleset: &Ruleset, features: Features) -> Result<(Ruleset, Vec<Missing>), Unenforceable> {
    if !features.inet {
        return Err(Unenforceable::Filter);
    }
    let mut missing = BTreeSet::new();
    let mut lesser = Ruleset { generation: ruleset.generation, tables: Vec::with_capacity(ruleset.tables.len()) };
    for table in &ruleset.tables {
        let mut table = table.clone();
        if !features.redirect {
            leave_out(&mut table, Missing::Redirect, &mut missing);
        }
        if !features.link {
            leave_out(&mut table, Missing::Link, &mut missing);
        }
        if !features.device_egress {
            leave_out_devices(&mut table, &mut missing);
        }
        for chain in &mut table.chains {
            for (index, rule) in chain.rules.iter().enumerate() {
                let place = || Place::new(table.family, Part::Rule { chain: chain.name.clone(), number: index + 1 });
                rule.statements.iter().try_for_each(|statement| check(statement, features, place))?;
            }
            chain.rules = chain.rules.drain(..).filter_map(|rule| lessen(rule, features, &mut missing)).collect();
        }
        let is_needed = !table.chains.is_empty() || features.device_egress;
        lesser.tables.extend(is_needed.then_some(table));
    }
    if !features.owner_persist {
        missing.insert(Missing::Ownership);
    }
    Ok((lesser, missing.into_iter().collect()))
}

/// Without their hook, the chains of devices cannot stand.
fn leave_out_devices(table: &mut Table, missing: &mut BTreeSet<Missing>) {
    table.chains.retain(|chain| match chain.hook.as_ref().map(|hook| &hook.point) {
        Some(HookPoint::DeviceEgress(device)) => {
            missing.insert(Missing::SecondLine { device: device.clone() });
            false
        }
        _ => true,
    });
}

/// Leaves out the chains of type nat for want of what they do. What was meant for somebody else than who receives it is then
/// denied by the rest of the ruleset.
fn leave_out(table: &mut Table, what: Missing, missing: &mut BTreeSet<Missing>) {
    let leads = |statement: &Statement| match statement {
        Statement::Redirect { .. } => what == Missing::Redirect,
        Statement::LeadTo { .. } | Statement::SpeakAs { .. } => what == Missing::Link,
        _ => false,
    };
    let before = table.chains.len();
    table.chains.retain(|chain| {
        let is_nat = chain.hook.as_ref().is_some_and(|hook| hook.point.is_nat());
        !is_nat || !chain.rules.iter().flat_map(|rule| &rule.statements).any(leads)
    });
    if table.chains.len() < before {
        missing.insert(what);
    }
}

fn check(statement: &Statement, features: Features, place: impl Fn() -> Place) -> Result<(), Unenforceable> {
    let fields: &[Field] = match statement {
        Statement::Match { field, .. } => std::slice::from_ref(field),
        Statement::Lookup { fields, .. } | Statement::Dispatch { fields, .. } | Statement::CountBy { fields, .. } => {
            fields
        }
        Statement::SetMark { .. } => &[Field::CtMark],
        _ => &[],
    };
    for field in fields {
        match field {
            Field::CtMark if !features.ct_mark => return Err(Unenforceable::Mark),
            Field::SocketCgroup { .. } | Field::SocketWildcard | Field::SocketTransparent
                if !features.socket_cgroup =>
            {
                return Err(Unenforceable::Cgroup(place()));
            }
            Field::FibSourceType
            | Field::FibDestinationType
            | Field::FibSourceTypeOut
            | Field::FibDestinationTypeIn
                if !features.fib =>
            {
                return Err(Unenforceable::Addresses(place()));
            }
            Field::LooseSourceRoute | Field::StrictSourceRoute | Field::RoutingHeader if !features.headers => {
                return Err(Unenforceable::Headers(place()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The rule without what the kernel lacks; `None` where nothing is left that it would do.
fn lessen(mut rule: Rule, features: Features, missing: &mut BTreeSet<Missing>) -> Option<Rule> {
    let before = rule.statements.len();
    rule.statements.retain_mut(|statement| match statement {
        Statement::Log(_) if !features.log => {
            missing.insert(Missing::Log);
            false
        }
        Statement::FindListener4 | Statement::FindListener6 if !features.find_listener => {
            missing.insert(Missing::FindListener);
            false
        }
        Statement::ClampSegments if !features.link => false,
        Statement::RejectTcpReset | Statement::RejectProhibited if !features.reject => {
            missing.insert(Missing::Reject);
            *statement = Statement::Verdict(Verdict::Drop);
            true
        }
        _ => true,
    });
    let asks_only = |statement: &Statement| {
        matches!(statement, Statement::Match { .. } | Statement::Lookup { .. } | Statement::Limit { .. })
    };
    let is_idle = rule.statements.len() < before && rule.statements.iter().all(asks_only);
    (!is_idle).then_some(rule)
}
