//! ttrpc: messages with a header of ten bytes (length, stream, type, flags), and in them a protobuf request or response.
//! Only calls of one request and one response are understood; NRI has no others.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;

use crate::end::Violation;
use crate::wire::ttrpc as wire;

/// Bytes before a message.
pub(crate) const HEADER: usize = 10;
/// The most bytes of a message, by the protocol. The runtime's side that we know does not keep to it (containerd 1.7 puts
/// all that there is into one message, and the annotations of twenty pods are enough to pass this), so a reader must not
/// insist on it: else whoever may annotate pods could shut the plugin out.
pub(crate) const MESSAGE_MAX: usize = 4 << 20;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// Codes of a status: those of gRPC.
pub(crate) mod code {
    pub(crate) const OK: i32 = 0;
    pub(crate) const INVALID_ARGUMENT: i32 = 3;
    pub(crate) const FAILED_PRECONDITION: i32 = 9;
    pub(crate) const UNIMPLEMENTED: i32 = 12;
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// Somebody asks.
    Request(u32, Bytes),
    /// Somebody answers.
    Response(u32, Bytes),
    /// Something else, such as data of a call that streams.
    Other(u8),
}

/// Puts the bytes of one connection together to messages.
#[derive(Debug)]
pub(crate) struct Assembler {
    pending: BytesMut,
    most: usize,
}

impl Assembler {
    /// Takes messages of so many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { pending: BytesMut::new(), most }
    }

    /// Takes further bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole message; `None` if more must come first.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, Violation> {
        let Some(header) = self.pending.first_chunk::<HEADER>() else { return Ok(None) };
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags] = *header;
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if length > self.most {
            return Err(Violation::Message { length, most: self.most });
        }
        if self.pending.len() < HEADER + length {
            return Ok(None);
        }
        self.pending.advance(HEADER);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let payload = self.pending.split_to(length).freeze();
        Ok(Some(match kind {
            REQUEST => Incoming::Request(stream, payload),
            RESPONSE => Incoming::Response(stream, payload),
            other => Incoming::Other(other),
        }))
    }
}

/// A request as bytes.
pub(crate) fn request(stream: u32, service: &str, method: &str, payload: Vec<u8>) -> Vec<u8> {
    let request =
        wire::Request { service: service.into(), method: method.into(), payload: payload.into(), timeout_nano: 0 };
    framed(REQUEST, stream, &request.encode_to_vec())
}

/// A response as bytes.
pub(crate) fn response(stream: u32, answer: Result<Vec<u8>, (i32, String)>) -> Vec<u8> {
    let response = match answer {
        Ok(payload) => wire::Response { status: None, payload: payload.into() },
        Err((code, message)) => wire::Response { status: Some(wire::Status { code, message }), payload: Bytes::new() },
    };
    framed(RESPONSE, stream, &response.encode_to_vec())
}

fn framed(kind: u8, stream: u32, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or_else(|_| unreachable!("our messages have a few kibibytes"));
    [&length.to_be_bytes()[..], &stream.to_be_bytes(), &[kind, 0], message].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_that_is_too_long_is_refused_by_its_header_alone() {
        let mut assembler = Assembler::new(MESSAGE_MAX);
        let length = MESSAGE_MAX + 1;
        assembler.push(&u32::try_from(length).unwrap().to_be_bytes());
        assembler.push(&[0, 0, 0, 1, REQUEST, 0]);
        assert_eq!(assembler.next(), Err(Violation::Message { length, most: MESSAGE_MAX }));
    }

    #[test]
    fn a_refusal_carries_its_reason() {
        let bytes = response(7, Err((code::FAILED_PRECONDITION, "no guard".into())));
        assert_eq!(bytes[4..10], [0, 0, 0, 7, RESPONSE, 0]);
        let status = wire::Response::decode(&bytes[HEADER..]).unwrap().status.unwrap();
        assert_eq!((status.code, status.message.as_str()), (9, "no guard"));
    }

    proptest! {
        #[test]
        fn messages_come_out_whole_and_in_order(
            sent in prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..300), 1_u8..4), 0..8),
            size in 1_usize..64,
        ) {
            let bytes: Vec<u8> = sent.iter().flat_map(|(stream, message, kind)| framed(*kind, *stream, message)).collect();
            let (mut assembler, mut found) = (Assembler::new(MESSAGE_MAX), Vec::new());
            for piece in bytes.chunks(size) {
                assembler.push(piece);
                while let Some(message) = assembler.next().unwrap() {
                    found.push(message);
                }
            }
            let expected = sent.into_iter().map(|(stream, message, kind)| match kind {
                REQUEST => Incoming::Request(stream, message.into()),
                RESPONSE => Incoming::Response(stream, message.into()),
                other => Incoming::Other(other),
            });
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }
}
