use proptest::prelude::*;

use super::*;

const LIMIT: usize = 4096;

/// Scans in one piece and byte by byte; both must agree on where and why.
fn scan(text: &str) -> Result<Stage, FramingFault> {
    let mut whole = Scanner::new(LIMIT);
    let at_once = whole.scan(text.as_bytes()).map(|()| whole.stage()).map_err(|(_, fault)| fault);
    let mut scanner = Scanner::new(LIMIT);
    let mut piecewise = Ok(Stage::Idle);
    for byte in text.as_bytes() {
        piecewise = scanner.scan(&[*byte]).map(|()| scanner.stage()).map_err(|(_, fault)| fault);
        if piecewise.is_err() {
            break;
        }
    }
    assert_eq!(at_once, piecewise, "{text:?}");
    at_once
}

#[test]
fn sound_requests_pass_and_end_where_they_should() {
    for text in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding:  Chunked \r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\n\r\n\n\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(scan(text), Ok(Stage::Idle), "{text:?}");
    }
    assert_eq!(scan(""), Ok(Stage::Idle));
    assert_eq!(scan("G"), Ok(Stage::Head));
    assert_eq!(scan("GET / HTTP/1.1\r\nHost: a\r\n"), Ok(Stage::Head));
    assert_eq!(scan("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"), Ok(Stage::Body));
    assert_eq!(scan("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"), Ok(Stage::Body));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    use FramingFault::*;
    for (head, fault) in [
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", TwoFramings),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", TwoFramings),
        ("Content-Length: 3\r\nContent-Length: 4\r\n\r\n", ManyLengths),
        ("Content-Length: 3\r\nContent-Length: 3\r\n\r\n", ManyLengths),
        ("Content-Length: 3, 3\r\n\r\n", Length),
        ("Content-Length: +3\r\n\r\n", Length),
        ("Content-Length: -3\r\n\r\n", Length),
        ("Content-Length: 0x3\r\n\r\n", Length),
        ("Content-Length: \r\n\r\n", Length),
        ("Content-Length: 9999999999999999999999\r\n\r\n", Length),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n", Encoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Encoding),
        ("Transfer-Encoding: xchunked\r\n\r\n", Encoding),
        ("Transfer-Encoding: \u{b}chunked\r\n\r\n", Encoding),
        ("Host: a\n\r\n", BareLf),
        ("Host: a\r\n\n", BareLf),
        ("Host: a\r\n folded\r\n\r\n", Folded),
        ("Host: a\r\n\tfolded\r\n\r\n", Folded),
        ("Content-Length : 3\r\n\r\n", NoName),
        ("nothing\r\n\r\n", NoName),
        (": nothing\r\n\r\n", NoName),
    ] {
        assert_eq!(scan(&format!("POST / HTTP/1.1\r\n{head}")), Err(fault), "{head:?}");
    }
    assert_eq!(scan("GET / HTTP/1.1\n"), Err(BareLf));
    for body in [
        "\r\n",
        "x\r\n",
        "3\nabc",
        "3\r\nabcd\r\n",
        "3\r\nabc\n",
        "-1\r\n",
        "3 \r\n",
        "3 x\r\n",
        "ffffffffffffffff\r\n",
    ] {
        let text = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert!(matches!(scan(&text), Err(Chunk | BareLf)), "{body:?}: {:?}", scan(&text));
    }
    assert_eq!(scan(&format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(LIMIT))), Err(TooLarge));
    let endless = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;{}", "a".repeat(LIMIT));
    assert_eq!(scan(&endless), Err(Chunk));
    let trailers = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: {}", "a".repeat(LIMIT));
    assert_eq!(scan(&trailers), Err(Chunk));
}

#[test]
fn a_fault_never_passes_the_end_of_what_is_at_fault() {
    let good = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let bad = "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let both = format!("{good}{bad}");
    let (passed, fault) = Scanner::new(LIMIT).scan(both.as_bytes()).expect_err("the second is at fault");
    assert_eq!(fault, FramingFault::TwoFramings);
    assert!(both[..passed].starts_with(good), "the first request must pass");
    assert!(!both[good.len()..passed].contains("\r\n\r\n"), "the second must not end");
}

#[test]
fn after_a_fault_nothing_is_read() {
    let mut scanner = Scanner::new(LIMIT);
    assert!(scanner.scan(b"GET / HTTP/1.1\n").is_err());
    assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\n\r\n").expect_err("broken").0, 0);
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        parts in proptest::collection::vec(
            prop::sample::select(vec![
                "GET / HTTP/1.1\r\n", "Host: a\r\n", "\r\n", "\n", "Content-Length: 2\r\n",
                "Transfer-Encoding: chunked\r\n", "2\r\n", "ab", "0\r\n", " x\r\n", "\r", ":",
            ]),
            0..12,
        ),
    ) {
        let _ = scan(&parts.concat());
    }
}
