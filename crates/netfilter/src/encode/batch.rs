//! A batch: messages that the kernel takes all of or none of.

use crate::abi;
use crate::compose::family_number;
use crate::place::{Part, Place};
use crate::wire::{Header, Open, Writer};
use sidewall_policy::ruleset::Family;

/// One nfnetlink batch: the kernel takes all of it or nothing, and no packet meets a state in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    /// The sequence number of the batch's first message.
    first: u32,
    /// What each message between the batch's ends is about.
    places: Vec<Place>,
    /// Whether the kernel takes it only as the next change of the tables after a known one.
    guarded: bool,
}

impl Batch {
    /// The messages, as they are sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many messages there are, the batch's two ends left out.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether the kernel refuses it (`ERESTART`) where anybody has changed the tables since.
    pub(crate) fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// What a message is about; `None` for the batch as a whole.
    pub(crate) fn place(&self, sequence: u32) -> Option<&Place> {
        let index = sequence.wrapping_sub(self.first).checked_sub(1)?;
        self.places.get(usize::try_from(index).ok()?)
    }

    /// The sequence number of the last message before the batch's end: it is acknowledged.
    pub(crate) fn last(&self) -> u32 {
        // A batch has far fewer messages than sequence numbers.
        self.first.wrapping_add(self.places.len() as u32)
    }

    /// Whether a sequence number is one of this batch's.
    pub(crate) fn has(&self, sequence: u32) -> bool {
        usize::try_from(sequence.wrapping_sub(self.first)).is_ok_and(|index| index <= self.places.len() + 1)
    }
}

/// Writes a batch, message by message.
pub(super) struct Encoder {
    pub(super) writer: Writer,
    first: u32,
    places: Vec<Place>,
    /// Where the header of the last message is, to ask there for an acknowledgement.
    last: usize,
    guarded: bool,
}

impl Encoder {
    pub(super) fn new(first: u32) -> Self {
        Self::guarded(first, None)
    }

    /// A batch that the kernel takes only while its tables bear the number `guard`, which each change of any of them moves
    /// on.
    pub(super) fn guarded(first: u32, guard: Option<u32>) -> Self {
        let guarded = guard.is_some();
        let mut encoder = Self { writer: Writer::default(), first, places: Vec::new(), last: 0, guarded };
        encoder.end_of_batch(abi::NFNL_MSG_BATCH_BEGIN, first, guard);
        encoder
    }

    pub(super) fn finish(mut self) -> Batch {
        if !self.places.is_empty() {
            self.writer.add_flags(self.last, abi::NLM_F_ACK);
        }
        // As in `Batch::last`.
        let end = self.first.wrapping_add(self.places.len() as u32 + 1);
        self.end_of_batch(abi::NFNL_MSG_BATCH_END, end, None);
        Batch { bytes: self.writer.finish(), first: self.first, places: self.places, guarded: self.guarded }
    }

    pub(super) fn end_of_batch(&mut self, kind: u16, sequence: u32, guard: Option<u32>) {
        let open = self.writer.message(Header {
            kind,
            flags: abi::NLM_F_REQUEST,
            sequence,
            family: abi::NFPROTO_UNSPEC,
            resource: abi::NFNL_SUBSYS_NFTABLES,
        });
        if let Some(guard) = guard {
            self.writer.number(abi::NFNL_BATCH_GENID, guard);
        }
        self.writer.end_message(open);
    }

    /// Starts a message about a place.
    pub(super) fn message(&mut self, kind: u16, flags: u16, family: Family, part: Part) -> Open {
        // For people: the slot is no business of theirs.
        self.places.push(Place::new(family, part.plain()));
        self.last = self.writer.length();
        self.writer.message(Header {
            kind: abi::NFNL_SUBSYS_NFTABLES << 8 | kind,
            flags: abi::NLM_F_REQUEST | flags,
            // As in `Batch::last`.
            sequence: self.first.wrapping_add(self.places.len() as u32),
            family: family_number(family),
            resource: 0,
        })
    }
}
