//! A table as the kernel holds it: what is encoded into messages, what is read back, and what the two are compared by.

use crate::abi;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The tables of a network namespace that bear our name, by family number (`NFPROTO_*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub(crate) tables: BTreeMap<u8, TableImage>,
    /// Parts of messages that could not be read: never empty of meaning, because such a table is not what was loaded.
    pub(crate) unreadable: usize,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableImage {
    /// `NFT_TABLE_F_*`.
    pub(crate) flags: u32,
    pub(crate) counters: Vec<String>,
    /// Named objects that are no counters, as `TYPE NAME`.
    pub(crate) other_objects: Vec<String>,
    /// In the order in which they are made.
    pub(crate) sets: Vec<SetImage>,
    pub(crate) chains: Vec<ChainImage>,
}

/// A set or map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SetImage {
    pub(crate) name: String,
    /// `NFT_SET_*`.
    pub(crate) flags: u32,
    /// nft's datatype, which the kernel keeps and does not look at.
    pub(crate) key_type: u32,
    /// In bytes.
    pub(crate) key_length: u32,
    /// `NFT_DATA_VERDICT` in a verdict map.
    pub(crate) data_type: Option<u32>,
    /// Whether elements may come and go; written, never compared.
    pub(crate) grows: bool,
    /// The order of the key's bytes for `nft`'s listing; written, never compared.
    pub(crate) network_order: bool,
    pub(crate) elements: Vec<ElementImage>,
}

/// An element, or the end of a range: a range is its first value and, marked as end, the value after its last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ElementImage {
    pub(crate) key: Vec<u8>,
    pub(crate) end: bool,
    pub(crate) data: Option<Data>,
    /// It carries something that no element of ours has: a timeout, an object, an expression.
    pub(crate) foreign: bool,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChainImage {
    pub(crate) name: String,
    pub(crate) hook: Option<HookImage>,
    /// `NFT_CHAIN_*` beside `NFT_CHAIN_BASE`, which the hook says.
    pub(crate) flags: u32,
    pub(crate) rules: Vec<RuleImage>,
}

/// Where the kernel enters a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HookImage {
    pub(crate) number: u32,
    pub(crate) priority: i32,
    pub(crate) devices: Vec<String>,
    pub(crate) policy: u32,
    pub(crate) kind: String,
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RuleImage {
    pub(crate) expressions: Vec<Expression>,
    pub(crate) user_data: Vec<u8>,
}

/// An expression: its name and its attributes, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expression {
    pub(crate) name: Cow<'static, str>,
    pub(crate) attributes: Vec<(u16, Value)>,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    Data(Data),
}

/// `NFTA_DATA_*`: what is loaded into a register or compared with one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Data {
    Value(Vec<u8>),
    Verdict {
        code: u32,
        chain: Option<String>,
    },
    /// The counter of an element: `NFTA_SET_ELEM_OBJREF`.
    Counter(String),
}

impl Expression {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), attributes: Vec::with_capacity(6) }
    }

    /// Adds a number in network order. Attributes are added in ascending order.
    pub(crate) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, value.to_be_bytes())
    }

    pub(crate) fn bytes(mut self, kind: u16, value: impl Into<Vec<u8>>) -> Self {
        self.attributes.push((kind, Value::Bytes(value.into())));
        self
    }

    pub(crate) fn string(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, bytes)
    }

    pub(crate) fn data(mut self, kind: u16, value: Data) -> Self {
        self.attributes.push((kind, Value::Data(value)));
        self
    }

    /// Whether an attribute of an expression is nested data.
    pub(crate) fn is_data(name: &str, kind: u16) -> bool {
        matches!(
            (name, kind),
            ("cmp", abi::NFTA_CMP_DATA)
                | ("bitwise", abi::NFTA_BITWISE_MASK | abi::NFTA_BITWISE_XOR)
                | ("immediate", abi::NFTA_IMMEDIATE_DATA)
        )
    }

    /// Whether the kernel's `found` expression is this one. A kernel newer than this program may tell more than it
    /// was given; what it then adds must be zero, which is what leaving it out means.
    pub(crate) fn is(&self, found: &Self) -> bool {
        let known = |kind: u16| self.attributes.iter().any(|(own, _)| *own == kind);
        self.name == found.name
            && self.attributes.iter().all(|attribute| found.attributes.contains(attribute))
            && found.attributes.iter().all(|(kind, value)| {
                known(*kind) || matches!(value, Value::Bytes(bytes) if bytes.iter().all(|byte| *byte == 0))
            })
    }
}
