//! What is said over the socket, one JSON object a line: the client's request, the server's reply, then records.

use serde::{Deserialize, Serialize};
use sidewall_flow::Version;
use std::io::{self, BufRead, Read};

/// The longest line that is read. A record is far below it.
pub const LINE_MAX: usize = 1 << 16;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// The version of the records that it reads.
    pub version: Version,
    /// Whether it also wants what is still to come. The kept records come in either case.
    pub follow: bool,
}

/// What the server says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reply {
    /// The version of the records that follow.
    pub version: Version,
    /// How many of them were kept: those come first.
    pub kept: usize,
    /// Why none do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<String>,
}

/// A line without its end; `None` at the end of the stream, also within a line.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] for a line that is too long.
pub fn read_line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.by_ref().take(LINE_MAX as u64 + 1).read_until(b'\n', &mut line)?;
    if line.pop_if(|last| *last == b'\n').is_some() {
        let text = String::from_utf8(line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        return Ok(Some(text));
    }
    if line.len() > LINE_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(None) }
}
