//! Several connections in one: frames of a connection's number, a length, and bytes of that connection.
//!
//! A frame has no meaning but which bytes follow each other: a message may be in many frames, and a frame may have the end
//! of one message and the beginning of the next.

use bytes::{Buf, Bytes, BytesMut};

use crate::end::Violation;

/// The connection on which the runtime asks the plugin.
pub(crate) const PLUGIN: u32 = 1;
/// The connection on which the plugin asks the runtime.
pub(crate) const RUNTIME: u32 = 2;

/// The most bytes that we put into a frame. The runtime's reader hands a frame over as a whole, to a buffer that may have no
/// more than these, and gives the connection up where it doesn't fit.
pub(crate) const OUTGOING_MAX: usize = 4096;
const HEADER: usize = 8;

/// Puts `bytes` into as many frames as they need. Nothing makes no frame.
pub(crate) fn encode(connection: u32, bytes: &[u8], into: &mut Vec<u8>) {
    for part in bytes.chunks(OUTGOING_MAX) {
        let length = u32::try_from(part.len()).unwrap_or_else(|_| unreachable!("chunks have at most 4096 bytes"));
        into.extend_from_slice(&connection.to_be_bytes());
        into.extend_from_slice(&length.to_be_bytes());
        into.extend_from_slice(part);
    }
}

/// Takes frames apart. Holds no more than it was given and has not given out.
#[derive(Debug)]
pub(crate) struct Demux {
    pending: BytesMut,
    /// The most bytes of a frame that are taken. A runtime may put a whole message into one.
    most: usize,
    /// The frame that has begun: its connection, and how many of its bytes are still to come.
    frame: Option<(u32, usize)>,
}

impl Demux {
    pub(crate) fn new(most: usize) -> Self {
        Self { pending: BytesMut::new(), most, frame: None }
    }

    /// Where to put what is read.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.pending
    }

    /// The next bytes of a connection; `None` if more must be read first.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Bytes)>, Violation> {
        loop {
            let (connection, rest) = match self.frame {
                Some(frame) => frame,
                None if self.pending.len() < HEADER => return Ok(None),
                None => {
                    let connection = self.pending.get_u32();
                    let length = self.pending.get_u32();
                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                    if length > self.most {
                        return Err(Violation::Frame { length, most: self.most });
                    }
                    (connection, length)
                }
            };
            let now = rest.min(self.pending.len());
            self.frame = Some((connection, rest - now)).filter(|(_, rest)| *rest > 0);
            if now > 0 {
                return Ok(Some((connection, self.pending.split_to(now).freeze())));
            }
            if self.frame.is_some() {
                return Ok(None);
            }
            // An empty frame: on to the next.
        }
    }
}

#[cfg(test)]
mod tests;
