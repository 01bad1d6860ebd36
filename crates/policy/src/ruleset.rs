//! The typed rules of one pod, as pure data.
//!
//! The words are netfilter's own (tables, chains, sets, statements), without its wire format: `sidewall-netfilter`
//! turns a [`Ruleset`] into netlink messages and knows nothing of policies; [`crate::compile()`] makes one and knows
//! nothing of netlink. Its [`std::fmt::Display`] is a text in the manner of `nft`, made for golden files and for people.

mod change;
mod field;
mod key;
mod renumber;
mod text;

pub use change::{Change, ChangeError, Changes, SetChange, TableChange, Taken};
pub use field::{ByteOrder, Field, Kind, device_name};
pub use key::Key;

use sidewall_flow::Decision;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The number of a ruleset in its pod's life, 1 to 31; it is kept in the five highest bits of the conntrack mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u8);

impl Generation {
    /// The generation of a pod's first ruleset.
    pub const FIRST: Self = Self(1);
    /// How many there are before a number comes round again.
    pub const COUNT: u8 = 31;

    /// The generation of a number in 1 to 31.
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number <= Self::COUNT { Some(Self(number)) } else { None }
    }

    /// 1 to 31.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The generation that follows, round the clock. Before it is loaded, the conntrack entries that bear it must be
    /// cleared of it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 % Self::COUNT + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Every rule of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// The number that this ruleset's verdicts carry.
    pub generation: Generation,
    /// The tables, each replaced whole, all in one transaction.
    pub tables: Vec<Table>,
}

impl Ruleset {
    /// The name of every table of ours.
    pub const TABLE: &'static str = "sidewall";
}

/// A table: its sets, counters and chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The family.
    pub family: Family,
    /// Named counters, in the order of their names.
    pub counters: Vec<Counter>,
    /// Named sets and verdict maps. A map's verdicts may name any chain of the table.
    pub sets: Vec<Set>,
    /// Chains. A rule may name any chain of the table, earlier or later.
    pub chains: Vec<Chain>,
}

/// A table's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// Frames of one device.
    Netdev,
}

/// A named counter of packets and bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counter {
    /// Its name in the table.
    pub name: String,
}

/// A named set, verdict map or map to counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name in the table.
    pub name: String,
    /// The kinds of the concatenated key.
    pub key: Vec<Kind>,
    /// Whether elements are ranges. Never together with a key of more than one kind.
    pub interval: bool,
    /// Whether elements carry a verdict.
    pub map: bool,
    /// Whether elements carry a counter (never together with a verdict).
    pub counts: bool,
    /// Whether elements may be added and deleted while the set stands: peers come and go, containers restart. One that
    /// may not keeps the elements that it was made with.
    pub grows: bool,
    /// The elements, ascending and without overlap.
    pub elements: Vec<Element>,
}

/// An element of a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The key, a value for each kind of the set's key; the range's first value in an interval set.
    pub key: Key,
    /// The range's last value, in an interval set.
    pub last: Option<u128>,
    /// The verdict, in a verdict map.
    pub verdict: Option<Verdict>,
    /// The counter's name, in a map to counters.
    pub counter: Option<Arc<str>>,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name in the table.
    pub name: String,
    /// Where the kernel enters it; `None` for one that is only jumped to.
    pub hook: Option<Hook>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// Where the kernel enters a base chain. Every one of ours is of type `filter`, but for those that [`HookPoint::is_nat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The point on a packet's way.
    pub point: HookPoint,
    /// The priority among the chains of that point (`NF_IP_PRI_RAW` is −300, `NF_IP_PRI_FILTER` 0).
    pub priority: i32,
    /// Whether a packet that leaves the chain undecided passes.
    pub accept: bool,
}

/// A point on a packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// `NF_INET_PRE_ROUTING`.
    Prerouting,
    /// The same in a chain of type `nat`, which a connection's first packet meets alone (of family inet since kernel 5.2).
    PreroutingNat,
    /// The same at `NF_INET_LOCAL_IN`: who a packet is from, before its receiver sees it.
    InputNat,
    /// The same at `NF_INET_LOCAL_OUT`: where a packet of our own goes.
    OutputNat,
    /// The same at `NF_INET_POST_ROUTING`: who a packet that leaves is from.
    PostroutingNat,
    /// `NF_INET_LOCAL_IN`.
    Input,
    /// `NF_INET_LOCAL_OUT`.
    Output,
    /// `NF_NETDEV_EGRESS` of the named device (kernel 5.16).
    DeviceEgress(String),
}

impl HookPoint {
    /// Whether chains there are of type `nat`.
    pub const fn is_nat(&self) -> bool {
        matches!(self, Self::PreroutingNat | Self::InputNat | Self::OutputNat | Self::PostroutingNat)
    }
}

/// A rule: its statements in order; the first match that fails ends it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Rule {
    /// The statements.
    pub statements: Vec<Statement>,
    /// What the rule is for, kept in the rule's user data: a policy rule's name, for example. At most 127 bytes.
    pub comment: Option<String>,
}

/// A step of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Statement {
    /// Goes on where the field, after `& mask`, compares so with the value. A field that the packet does not have (no
    /// socket, another family's header) ends the rule, whatever the comparison.
    Match {
        /// What is loaded.
        field: Field,
        /// What it is masked with, where it is.
        mask: Option<u32>,
        /// How it is compared.
        compare: Compare,
        /// What with.
        value: u128,
    },
    /// Goes on where the fields are in the set (or are not, where `negate`).
    Lookup {
        /// What is loaded: a field for each kind of the set's key.
        fields: Vec<Field>,
        /// What a single field is masked with, where it is.
        mask: Option<u32>,
        /// The set.
        set: String,
        /// Goes on where there is no such element.
        negate: bool,
    },
    /// Takes the verdict that the map has for the fields; goes on to the next rule where it has none.
    Dispatch {
        /// What is loaded: a field for each kind of the map's key.
        fields: Vec<Field>,
        /// What a single field is masked with, where it is.
        mask: Option<u32>,
        /// The map.
        map: String,
    },
    /// `ct mark set (ct mark & keep) | set`; `keep` and `set` share no bit.
    SetMark {
        /// The bits that stay.
        keep: u32,
        /// The bits that are set.
        set: u32,
    },
    /// Counts in a named counter.
    Count(String),
    /// Counts in the counter that the map has for the fields; ends the rule where it has none.
    CountBy {
        /// What is loaded: a field for each kind of the map's key.
        fields: Vec<Field>,
        /// The map to counters.
        map: String,
    },
    /// Goes on at most so often.
    Limit {
        /// Packets a second.
        per_second: u32,
        /// How many more may come at once.
        burst: u32,
    },
    /// Sends the packet to NFLOG's [`Statement::LOG_GROUP`] with the decision as prefix.
    Log(Decision),
    /// Has a SYN of IPv4 onto what is left of a connection (TIME_WAIT) find the listener at its own address and port, where
    /// there is one, as a SYN of a tuple that is new does: what was left goes. For PREROUTING, behind
    /// [`Field::SocketTransparent`] and a look at the flags. The rule ends there, unless the listener is transparent.
    FindListener4,
    /// The same for IPv6.
    FindListener6,
    /// Leads a connection to a port of this host, at an address of the device that it has come by; accepts. For
    /// [`HookPoint::PreroutingNat`], behind a look at the protocol.
    Redirect {
        /// The port.
        port: u16,
    },
    /// Leads a connection to an IPv4 address, at the port that it aims at; accepts. For [`HookPoint::OutputNat`] and
    /// [`HookPoint::PreroutingNat`].
    LeadTo {
        /// The address.
        address: Ipv4Addr,
    },
    /// Has a connection come from an IPv4 address; accepts. For [`HookPoint::PostroutingNat`] and [`HookPoint::InputNat`].
    SpeakAs {
        /// The address.
        address: Ipv4Addr,
    },
    /// Lessens what a SYN says of the greatest segment to what its route carries. For OUTPUT, behind a look at the flags.
    ClampSegments,
    /// Answers with a TCP reset and drops.
    RejectTcpReset,
    /// Answers with ICMP or ICMPv6 "administratively prohibited" and drops.
    RejectProhibited,
    /// Ends the rule with a verdict.
    Verdict(Verdict),
}

impl Statement {
    /// The NFLOG group of every log statement.
    pub const LOG_GROUP: u16 = 5;
}

/// How a field is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compare {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// At most, as a number.
    AtMost,
    /// At least, as a number.
    AtLeast,
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It passes this hook.
    Accept,
    /// It ends here.
    Drop,
    /// Back to the chain that jumped here.
    Return,
    /// Into a chain, and back where it decides nothing.
    Jump(String),
    /// Into a chain; where it decides nothing, back to where the last jump came from.
    Goto(String),
}
