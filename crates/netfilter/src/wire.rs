//! Netlink messages and attributes as bytes: written by [`Writer`], read by [`messages`] and [`attributes`].
//!
//! The readers take whatever bytes there are: a length that cannot be ends the walk, nothing panics.

use crate::abi::{NFGENMSG, NLA_F_NESTED, NLA_TYPE_MASK, NLMSG_HEADER};

/// The greatest length of an attribute, its header included (`nla_len` has 16 bits).
pub(crate) const ATTRIBUTE_MAX: usize = u16::MAX as usize;

const ALIGN: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;

/// Rounds up to netlink's alignment.
const fn aligned(length: usize) -> usize {
    length.next_multiple_of(ALIGN)
}

/// Builds a buffer of netlink messages.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

/// The place of a header whose length is filled in when its content is complete.
#[must_use]
#[derive(Debug)]
pub(crate) struct Open(usize);

impl Writer {
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Sets flags in the header of the message that starts at `start`.
    pub(crate) fn add_flags(&mut self, start: usize, flags: u16) {
        let flags = u16_at(&self.bytes, start + 6).unwrap_or_default() | flags;
        self.bytes[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
    }

    /// Starts a message with netlink's header and nfnetlink's `nfgenmsg`.
    pub(crate) fn message(&mut self, header: Header) -> Open {
        let start = self.bytes.len();
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(header.kind.to_ne_bytes());
        self.bytes.extend(header.flags.to_ne_bytes());
        self.bytes.extend(header.sequence.to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend([header.family, 0]);
        self.bytes.extend(header.resource.to_be_bytes());
        Open(start)
    }

    pub(crate) fn end_message(&mut self, open: Open) {
        // A batch of ours is bounded by the ruleset, far below 4 GiB; a message too long for its field is cut there by
        // the kernel's own check, never accepted in part.
        let length = u32::try_from(self.bytes.len() - open.0).unwrap_or(u32::MAX);
        self.bytes[open.0..open.0 + 4].copy_from_slice(&length.to_ne_bytes());
    }

    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
    }

    /// A name, ended by a NUL as the kernel wants it.
    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len() + 1).unwrap_or(u16::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    /// A number in network order, as all of nfnetlink has it.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub(crate) fn nest(&mut self, kind: u16) -> Open {
        let start = self.bytes.len();
        self.bytes.extend(0u16.to_ne_bytes());
        self.bytes.extend((kind | NLA_F_NESTED).to_ne_bytes());
        Open(start)
    }

    pub(crate) fn end_nest(&mut self, open: Open) {
        let length = u16::try_from(self.bytes.len() - open.0).unwrap_or(u16::MAX);
        self.bytes[open.0..open.0 + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// How long the open attribute is so far.
    pub(crate) fn nest_length(&self, open: &Open) -> usize {
        self.bytes.len() - open.0
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

/// What stands at the head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) family: u8,
    /// `res_id`: the subsystem in a batch's ends, else 0.
    pub(crate) resource: u16,
}

/// A message as it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// What follows netlink's header.
    pub(crate) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The family, of an nfnetlink message.
    pub(crate) fn family(&self) -> Option<u8> {
        self.body.first().copied()
    }

    /// The attributes, of an nfnetlink message.
    pub(crate) fn attributes(&self) -> Attributes<'a> {
        attributes(self.body.get(NFGENMSG..).unwrap_or_default())
    }
}

/// Walks the messages of a datagram.
pub(crate) fn messages(bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(rest, 0)?).ok()?;
        if length < NLMSG_HEADER || length > rest.len() {
            return None;
        }
        let message = Message {
            kind: u16_at(rest, 4)?,
            flags: u16_at(rest, 6)?,
            sequence: u32_at(rest, 8)?,
            body: &rest[NLMSG_HEADER..length],
        };
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some(message)
    })
}

/// An attribute as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    /// Its type without the flags.
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(crate) fn nested(&self) -> Attributes<'a> {
        attributes(self.value)
    }

    /// A 32-bit number in network order.
    pub(crate) fn number(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.try_into().ok()?))
    }

    /// A 64-bit number in network order.
    pub(crate) fn long(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.value.try_into().ok()?))
    }

    /// A string, without the NUL that ends it. Bytes that are not UTF-8 become U+FFFD: such a name is none of ours.
    pub(crate) fn text(&self) -> String {
        let end = self.value.iter().position(|byte| *byte == 0);
        String::from_utf8_lossy(&self.value[..end.unwrap_or(self.value.len())]).into_owned()
    }
}

/// Walks attributes. Each step costs the same, however long the rest is.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a>(&'a [u8]);

/// The attributes that the bytes hold, up to the first that cannot be.
pub(crate) fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes(bytes)
}

impl Attributes<'_> {
    /// Whether bytes are left that are no attribute.
    pub(crate) fn has_rest(&self) -> bool {
        let mut walk = self.clone();
        while walk.next().is_some() {}
        !walk.0.is_empty()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let length = usize::from(u16_at(self.0, 0)?);
        if length < ATTRIBUTE_HEADER || length > self.0.len() {
            return None;
        }
        let attribute =
            Attribute { kind: u16_at(self.0, 2)? & NLA_TYPE_MASK, value: &self.0[ATTRIBUTE_HEADER..length] };
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(attribute)
    }
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut writer = Writer::default();
        for sequence in [7, 8] {
            let message = writer.message(Header { kind: 0x0a00, flags: 1, sequence, family: 1, resource: 10 });
            writer.string(1, "sidewall");
            let nest = writer.nest(4);
            writer.number(2, 0x0102_0304);
            writer.attribute(3, &[1, 2, 3]);
            writer.end_nest(nest);
            writer.end_message(message);
        }
        let bytes = writer.finish();
        let read: Vec<_> = messages(&bytes).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[1].kind, read[1].sequence), (0x0a00, 8));
        assert_eq!(read[1].family(), Some(1));
        let found: Vec<_> = read[1].attributes().collect();
        assert_eq!(found[0].text(), "sidewall");
        let inner: Vec<_> = found[1].nested().collect();
        assert_eq!(inner[0].number(), Some(0x0102_0304));
        assert_eq!(inner[1].value, [1, 2, 3]);
        assert!(!read[1].attributes().has_rest());
    }

    #[test]
    fn lengths_that_cannot_be_end_the_walk() {
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[9, 0, 1, 0, 0]).count(), 0);
        assert!(attributes(&[9, 0, 1, 0, 0]).has_rest());
        assert_eq!(attributes(&[5, 0, 1, 0, 9]).count(), 1);
        assert_eq!(messages(&[0; 16]).count(), 0);
        assert_eq!(messages(&[255; 16]).count(), 0);
        assert_eq!(messages(&[16, 0, 0]).count(), 0);
    }
}
