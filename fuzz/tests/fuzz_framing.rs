//! The proxy's reader of requests, for any bytes in any pieces: it never panics, holds no more than its limit, and says
//! the same whatever the pieces.

use bolero::TypeGenerator;
use sidewall_fuzz::{Input, Tally, cost, effort};
use sidewall_proxy::framing::{FramingFault, Scanner, Stage};
use std::time::Duration;

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: web\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: web\r\n\r\n",
    "PUT /c HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n\
     4;a=b\r\nwiki\r\n1F\r\n0123456789012345678901234567890\r\n0\r\nx: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
];

const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b": ",
    b":",
    b" ",
    b"\t",
    b"\0",
    b"0\r\n",
    b"+1",
    b"-1",
    b"0x1",
    b"ffffffffffffffff",
    b"18446744073709551615",
    b"Content-Length: 5\r\n",
    b"content-length:0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer_Encoding: chunked\r\n",
    b"5\r\nhello\r\n",
    b";",
    b"GET / HTTP/1.1\r\n",
];

/// The most bytes that a head may have here.
const LIMIT: usize = 160;

/// Bytes and where they are parted.
#[derive(Clone, Debug, TypeGenerator)]
struct Pieces {
    input: Input,
    cuts: Vec<u8>,
}

static READ: Tally = Tally::new();

/// What a scanner says when all has been read.
type Outcome = (Result<(), (usize, FramingFault)>, Stage, u64);

/// Reads pieces one by one, up to a fault.
fn scan<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut scanner = Scanner::new(LIMIT);
    let mut before = 0;
    for piece in pieces {
        if let Err((passed, fault)) = scanner.scan(piece) {
            assert!(passed <= piece.len());
            return (Err((before + passed, fault)), scanner.stage(), scanner.heads());
        }
        before += piece.len();
    }
    (Ok(()), scanner.stage(), scanner.heads())
}

fn check(pieces: &Pieces) {
    READ.input();
    let bytes = pieces.input.bytes(REQUESTS, WORDS);
    let (whole, cost) = cost::of(|| scan([bytes.as_slice()].into_iter()));
    cost.at_most(Duration::from_millis(200), 1 << 14);
    if whole.2 > 0 {
        READ.reached();
    }
    let (single, cost) = cost::of(|| scan(bytes.chunks(1)));
    cost.at_most(Duration::from_millis(200), 1 << 14);
    let mut rest = bytes.as_slice();
    let mut parts = Vec::new();
    for cut in &pieces.cuts {
        let (part, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    let parted = scan(parts.into_iter());
    for other in [single, parted] {
        // What is passed on before a fault may be less in larger pieces, never the end of what is at fault.
        assert_eq!(
            (whole.0.map_err(|(_, fault)| fault), whole.1, whole.2),
            (other.0.map_err(|(_, f)| f), other.1, other.2)
        );
    }
    if let Err((passed, _)) = whole.0 {
        // What may be passed on is no fault by itself.
        let (again, ..) = scan([&bytes[..passed]].into_iter());
        assert_eq!(again, Ok(()));
    }
}

#[test]
fn fuzz_framing() {
    bolero::check!().with_type::<Pieces>().with_test_time(effort::time()).for_each(check);
    READ.expect_per_mille(200);
}
