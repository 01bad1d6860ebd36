//! What a client sends, read along before the HTTP library reads it.
//!
//! hyper is lenient where the standard lets it be: it takes a bare LF for a line's end, and of a request with both
//! `Content-Length` and `Transfer-Encoding` it silently drops the length. Two parties that read the same bytes in two
//! ways is what request smuggling is made of, and whoever stands in front of us may read them in the other way. So the
//! same bytes pass this scanner first, which knows only as much of HTTP/1.1 as framing needs, and knows it strictly.
//!
//! [`Scanner::scan`] is pure: it takes the bytes in the order of their arrival, in pieces of any size, and says where
//! a message is not one. It never holds a body back and keeps nothing of it.

/// The longest line within a chunked body that is not data: a chunk's size with its extensions.
const MAX_CHUNK_LINE: usize = 256;

/// Why a message is not one. Each is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingFault {
    /// RFC 9112 §2.2 lets a recipient take it for a line's end; two recipients then read two messages.
    #[error("a line of the request ends in a bare LF")]
    BareLf,
    /// RFC 9112 §5.2.
    #[error("a header of the request is folded over lines")]
    Folded,
    /// RFC 9112 §5.1.
    #[error("a header line of the request has no name")]
    NoName,
    /// RFC 9112 §6.3: "ought to be handled as an error".
    #[error("the request has both Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// RFC 9112 §6.3.
    #[error("the request has several Content-Length headers")]
    ManyLengths,
    /// RFC 9112 §6.3.
    #[error("the request's Content-Length is not a number")]
    Length,
    /// Only `chunked`, once, is a framing that we pass on.
    #[error("the request's Transfer-Encoding is not exactly `chunked`")]
    Encoding,
    /// RFC 9112 §7.1.
    #[error("a chunk of the request's body is malformed")]
    Chunk,
    /// The head, or the trailers, are larger than the limit.
    #[error("the request's head or trailers are larger than the limit")]
    TooLarge,
}

/// What the client is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Between two requests: nothing of the next one has come.
    Idle,
    /// Within a request's head.
    Head,
    /// Within a request's body or its trailers.
    Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before or in the request line.
    RequestLine,
    /// In the header lines.
    Headers,
    /// In a body of known length: so many bytes to go.
    Sized(u64),
    /// In the line with a chunk's size.
    ChunkSize,
    /// In a chunk: so many bytes to go.
    ChunkData(u64),
    /// In the line end after a chunk.
    ChunkEnd,
    /// In the trailer lines.
    Trailers,
    /// After a fault: nothing more is read.
    Broken,
}

/// Follows one connection's requests.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// The part of the current line that came with earlier pieces.
    carry: Vec<u8>,
    /// Bytes of the current head or trailers so far.
    taken: usize,
    limit: usize,
    length: Option<u64>,
    chunked: bool,
    heads: u64,
}

impl Scanner {
    /// A scanner for a connection whose heads (and trailers) may have `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { state: State::RequestLine, carry: Vec::new(), taken: 0, limit, length: None, chunked: false, heads: 0 }
    }

    /// What the client is in the middle of.
    pub fn stage(&self) -> Stage {
        match self.state {
            State::RequestLine if self.taken == 0 => Stage::Idle,
            State::RequestLine | State::Headers | State::Broken => Stage::Head,
            _ => Stage::Body,
        }
    }

    /// How many heads have come to their end.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Reads the next bytes of the connection.
    ///
    /// # Errors
    ///
    /// Where a message stops being one, how many of these bytes may still be passed on, and why. The end of the head
    /// or chunk that is at fault is never among them, so that whoever receives them cannot take it for complete.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<(), (usize, FramingFault)> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.state {
                State::Broken => return Err((at, FramingFault::Chunk)),
                State::Sized(left) => {
                    let (taken, left) = skip(rest, left);
                    at += taken;
                    if left == 0 {
                        self.next_request();
                    } else {
                        self.state = State::Sized(left);
                    }
                }
                State::ChunkData(left) => {
                    let (taken, left) = skip(rest, left);
                    at += taken;
                    self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                }
                State::RequestLine | State::Headers | State::ChunkSize | State::ChunkEnd | State::Trailers => {
                    match self.line(rest) {
                        Ok(taken) => at += taken,
                        Err(fault) => {
                            self.state = State::Broken;
                            return Err((at, fault));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads to the end of the current line, or keeps what there is of it. Gives the bytes taken.
    fn line(&mut self, bytes: &[u8]) -> Result<usize, FramingFault> {
        let end = memchr::memchr(b'\n', bytes);
        let taken = end.map_or(bytes.len(), |end| end + 1);
        let most = match self.state {
            State::ChunkSize | State::ChunkEnd => MAX_CHUNK_LINE,
            _ => self.limit,
        };
        self.taken = self.taken.saturating_add(taken);
        if self.taken > most {
            // hyper answers a head beyond its limit with 431; it reads as far as that by itself.
            let over = matches!(self.state, State::RequestLine | State::Headers);
            return Err(if over { FramingFault::TooLarge } else { FramingFault::Chunk });
        }
        if end.is_none() {
            self.carry.extend_from_slice(bytes);
            return Ok(taken);
        }
        if self.carry.is_empty() {
            self.whole_line(&bytes[..taken])?;
        } else {
            let mut line = std::mem::take(&mut self.carry);
            line.extend_from_slice(&bytes[..taken]);
            let outcome = self.whole_line(&line);
            line.clear();
            self.carry = line;
            outcome?;
        }
        Ok(taken)
    }

    /// Reads one line, its LF included.
    fn whole_line(&mut self, line: &[u8]) -> Result<(), FramingFault> {
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(FramingFault::BareLf);
        };
        match self.state {
            // Empty lines before a request are skipped (RFC 9112 §2.2).
            State::RequestLine if line.is_empty() => self.taken = 0,
            State::RequestLine => self.state = State::Headers,
            State::Headers if line.is_empty() => self.head_ends(),
            State::Headers => self.header(line)?,
            State::ChunkSize => {
                self.taken = 0;
                self.state = match chunk_size(line)? {
                    0 => State::Trailers,
                    size => State::ChunkData(size),
                };
            }
            State::ChunkEnd if line.is_empty() => {
                self.taken = 0;
                self.state = State::ChunkSize;
            }
            State::ChunkEnd => return Err(FramingFault::Chunk),
            State::Trailers if line.is_empty() => self.next_request(),
            State::Trailers => {
                name_and_value(line)?;
            }
            State::Sized(_) | State::ChunkData(_) | State::Broken => {}
        }
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Result<(), FramingFault> {
        let (name, value) = name_and_value(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.chunked {
                return Err(FramingFault::TwoFramings);
            }
            if self.length.is_some() {
                return Err(FramingFault::ManyLengths);
            }
            self.length = Some(number(value, 10).ok_or(FramingFault::Length)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.length.is_some() {
                return Err(FramingFault::TwoFramings);
            }
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(FramingFault::Encoding);
            }
            self.chunked = true;
        }
        Ok(())
    }

    fn head_ends(&mut self) {
        self.heads += 1;
        self.taken = 0;
        self.state = match (self.chunked, self.length) {
            (true, _) => State::ChunkSize,
            (false, Some(length)) if length > 0 => State::Sized(length),
            (false, _) => return self.next_request(),
        };
    }

    fn next_request(&mut self) {
        self.state = State::RequestLine;
        self.taken = 0;
        self.length = None;
        self.chunked = false;
    }
}

fn skip(bytes: &[u8], left: u64) -> (usize, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (taken, left - taken as u64)
}

fn name_and_value(line: &[u8]) -> Result<(&[u8], &[u8]), FramingFault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(FramingFault::Folded);
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or(FramingFault::NoName)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    // A blank before the colon hides a name from some readers (RFC 9112 §5.1).
    if name.is_empty() || name.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\r' | 0)) {
        return Err(FramingFault::NoName);
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    Ok((name, &value[start..end]))
}

fn chunk_size(line: &[u8]) -> Result<u64, FramingFault> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at(end);
    // An extension follows a semicolon, and says nothing about framing.
    let extension = rest.trim_ascii_start();
    if !(extension.is_empty() && rest.is_empty() || extension.starts_with(b";"))
        || rest.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')
    {
        return Err(FramingFault::Chunk);
    }
    number(digits, 16).ok_or(FramingFault::Chunk)
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    // `from_str_radix` takes a sign.
    if text.is_empty() || text.len() > 18 || text.starts_with('+') {
        return None;
    }
    // Sizes near u64's end are of no use but to overflow somebody.
    u64::from_str_radix(text, radix).ok().filter(|number| *number < 1 << 62)
}

#[cfg(test)]
mod tests;
