//! Short forms of the statements that the chains are made of.

use crate::ruleset::{Compare, Field, Rule, Statement, Verdict};

/// The index of the loopback device in every namespace.
pub const LO: u128 = 1;
/// `NFPROTO_IPV4`.
pub const IPV4: u128 = 2;
/// `NFPROTO_IPV6`.
pub const IPV6: u128 = 10;
/// TCP's protocol number.
pub const TCP: u128 = 6;
/// UDP's protocol number.
pub const UDP: u128 = 17;
/// ICMP's protocol number.
pub const ICMP: u128 = 1;
/// ICMPv6's protocol number.
pub const ICMPV6: u128 = 58;
/// What `meta skuid` gives for a packet that no process's socket sends.
pub const NO_USER: u128 = u32::MAX as u128;

/// TCP's flag FIN (RFC 9293).
pub const FIN: u32 = 0x01;
/// TCP's flag SYN.
pub const SYN: u32 = 0x02;
/// TCP's flag RST.
pub const RST: u32 = 0x04;
/// TCP's flag ACK.
pub const ACK: u32 = 0x10;

/// A rule of these statements.
pub fn rule<const N: usize>(statements: [Statement; N]) -> Rule {
    Rule { statements: statements.into(), comment: None }
}

/// A field equals a value.
pub const fn is(field: Field, value: u128) -> Statement {
    Statement::Match { field, mask: None, compare: Compare::Equal, value }
}

/// A field does not equal a value.
pub const fn is_not(field: Field, value: u128) -> Statement {
    Statement::Match { field, mask: None, compare: Compare::NotEqual, value }
}

/// A field is at most a value.
pub const fn at_most(field: Field, value: u128) -> Statement {
    Statement::Match { field, mask: None, compare: Compare::AtMost, value }
}

/// A field is at least a value.
pub const fn at_least(field: Field, value: u128) -> Statement {
    Statement::Match { field, mask: None, compare: Compare::AtLeast, value }
}

/// A field's masked bits equal a value.
pub const fn bits(field: Field, mask: u32, value: u32) -> Statement {
    Statement::Match { field, mask: Some(mask), compare: Compare::Equal, value: value as u128 }
}

/// A field's masked bits do not equal a value.
pub const fn bits_not(field: Field, mask: u32, value: u32) -> Statement {
    Statement::Match { field, mask: Some(mask), compare: Compare::NotEqual, value: value as u128 }
}

/// The connection's state is one of these.
pub const fn state(states: u32) -> Statement {
    bits_not(Field::CtState, states, 0)
}

/// The connection's mark, masked, equals a value.
pub const fn mark(mask: u32, value: u32) -> Statement {
    bits(Field::CtMark, mask, value)
}

/// The connection's mark, masked, does not equal a value.
pub const fn mark_not(mask: u32, value: u32) -> Statement {
    bits_not(Field::CtMark, mask, value)
}

/// Replaces bits of the connection's mark.
pub const fn set_mark(bits: u32, value: u32) -> Statement {
    Statement::SetMark { keep: !bits, set: value }
}

/// Into a chain for good.
pub fn goto(chain: &str) -> Verdict {
    Verdict::Goto(chain.to_owned())
}

/// The fields are in a set.
pub fn in_set<const N: usize>(fields: [Field; N], set: &str) -> Statement {
    Statement::Lookup { fields: fields.into(), mask: None, set: set.to_owned(), negate: false }
}

/// A field is not in a set.
pub fn not_in_set(field: Field, set: &str) -> Statement {
    Statement::Lookup { fields: vec![field], mask: None, set: set.to_owned(), negate: true }
}

/// The verdict of a map.
pub fn dispatch<const N: usize>(fields: [Field; N], map: &str) -> Statement {
    Statement::Dispatch { fields: fields.into(), mask: None, map: map.to_owned() }
}

/// The verdict of a map for bits of the connection's mark.
pub fn dispatch_mark(mask: u32, map: &str) -> Statement {
    Statement::Dispatch { fields: vec![Field::CtMark], mask: Some(mask), map: map.to_owned() }
}

impl From<Verdict> for Statement {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}
