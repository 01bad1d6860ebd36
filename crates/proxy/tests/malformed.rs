//! Requests that are none, byte by byte: none may reach the application, and the connection ends with them.

mod common;

use std::time::{Duration, Instant};

use common::client::Client;
use common::upstream::Upstream;
use common::{ADMIN, Proxy};

#[test]
fn requests_that_could_be_read_in_two_ways_are_refused() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    for head in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "Content-Length: 5, 5\r\n\r\nhello",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: 5x\r\n\r\nhello",
        "Content-Length : 5\r\n\r\nhello",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "X-Folded: a\r\n b\r\n\r\n",
        "X-Folded: a\r\n\tb\r\n\r\n",
        "X-Bare: a\n\r\n",
        "X-Bare: a\r\n\n",
        "X-Cr: a\rb\r\n\r\n",
        "X-Nul: a\0b\r\n\r\n",
        "no colon\r\n\r\n",
        "Host: other\r\n\r\n",
        "Connection: host\r\n\r\n",
        "Connection: Content-Length\r\nContent-Length: 0\r\n\r\n",
    ] {
        let mut client = Client::connect(proxy.address());
        // A request before it must be answered, one after it must not be read.
        client.send(format!(
            "GET /before HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n\r\nPOST /bad HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n{head}"
        ));
        assert_eq!(client.answer(true).status, 200, "{head:?}");
        assert_eq!(client.answer(true).status, 400, "{head:?}");
    }
    let paths: Vec<String> = upstream.heads().iter().map(|head| head.lines().next().unwrap_or("").to_owned()).collect();
    assert!(paths.iter().all(|line| line.starts_with("GET /before ")), "{paths:?}");
}

#[test]
fn nothing_after_a_refused_request_is_read_as_one() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let mut client = Client::connect(proxy.address());
    client.send(format!(
        "POST /bad HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n\r\n"
    ));
    assert_eq!(client.answer(true).status, 400);
    assert!(client.is_closed());
    assert!(upstream.heads().is_empty(), "{:?}", upstream.heads());
    let line = &proxy.lines(1)[0];
    assert_eq!(line["status"], 400);
    assert_eq!(line["error"], "the request has both Content-Length and Transfer-Encoding");
}

#[test]
fn request_lines_that_are_none_are_refused() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    for (line, status) in [
        ("GET / HTTP/1.1\n", 400),
        ("GET /\r\n", 400),
        ("GET  / HTTP/1.1\r\n", 400),
        ("G@T / HTTP/1.1\r\n", 400),
        ("GET / HTTP/3.0\r\n", 400),
        ("GET http://b/ HTTP/1.1\r\n", 400),
        ("CONNECT b:443 HTTP/1.1\r\n", 501),
        ("TRACE / HTTP/1.1\r\n", 501),
        ("PRI * HTTP/2.0\r\n", 400),
    ] {
        let mut client = Client::connect(proxy.address());
        client.send(format!("{line}Host: a\r\n{ADMIN}\r\n\r\n"));
        // An HTTP/2 preface may be answered by closing.
        let answer = client.try_answer(true);
        assert!(answer.is_none_or(|answer| answer.status == status), "{line:?}");
    }
    assert!(upstream.heads().is_empty(), "{:?}", upstream.heads());
}

#[test]
fn a_broken_chunk_ends_the_request() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "zz\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "-5\r\n",
        "ffffffffffffffffff\r\n",
    ] {
        let mut client = Client::connect(proxy.address());
        client.send(format!(
            "POST /count HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n{body}"
        ));
        let answer = client.try_answer(true);
        assert!(answer.is_none_or(|answer| answer.status == 400), "{body:?}");
    }
}

#[test]
fn heads_over_the_limits_are_refused() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let ask = |headers: &str| {
        let mut client = Client::connect(proxy.address());
        // It may be refused before it has been sent to its end.
        let _ = client.try_send(format!("GET / HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n{headers}\r\n"));
        client.try_answer(true).map(|answer| answer.status)
    };
    assert_eq!(ask(&format!("X: {}\r\n", "a".repeat(16 * 1024))), Some(200));
    assert_eq!(ask(&format!("X: {}\r\n", "a".repeat(33 * 1024))), Some(431));
    assert_eq!(ask(&"X: a\r\n".repeat(98)), Some(200));
    assert_eq!(ask(&"X: a\r\n".repeat(99)), Some(431));
    // So large that the proxy closes with much of it unread; the answer may be lost in the reset.
    assert!(matches!(ask(&format!("X: {}\r\n", "a".repeat(4 << 20))), None | Some(431)));
    let without_end = {
        let mut client = Client::connect(proxy.address());
        let _ = client.try_send(format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(40 * 1024)));
        client.try_answer(true).map(|answer| answer.status)
    };
    assert_eq!(without_end, Some(431));
}

#[test]
fn a_head_that_drips_is_cut_off_and_an_idle_connection_closed() {
    let upstream = Upstream::start();
    let proxy = Proxy::with(upstream.port, "anonymous: true", "timeouts: {headerSeconds: 1, idleSeconds: 3}", |_| {});
    let started = Instant::now();
    let mut slow = Client::connect(proxy.address());
    slow.send("GET / HTTP/1.1\r\n");
    // A byte now and then does not buy more time.
    while slow.try_send("X").is_ok() {
        assert!(started.elapsed() < common::PATIENCE, "it is never cut off");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(started.elapsed() >= Duration::from_secs(1));

    let mut silent = Client::connect(proxy.address());
    assert!(silent.is_closed(), "a connection without a request ends");

    let mut idle = Client::connect(proxy.address());
    assert_eq!(idle.get("/", &[]).status, 200);
    let since = Instant::now();
    assert!(idle.is_closed());
    assert!(since.elapsed() >= Duration::from_secs(2), "between two requests it may be silent for longer");
    let causes: Vec<_> = proxy.lines(2).iter().map(|line| line["error"].clone()).collect();
    assert!(causes.contains(&"the request's head did not come in time".into()), "{causes:?}");
}

#[test]
fn an_answer_that_takes_longer_than_the_idle_time_is_not_cut_off() {
    let upstream = Upstream::start();
    let proxy = Proxy::with(upstream.port, "anonymous: true", "timeouts: {headerSeconds: 1, idleSeconds: 1}", |_| {});
    let mut client = Client::connect(proxy.address());
    assert_eq!(client.get("/sleep/2500", &[]).text(), "slept");
}

#[test]
fn a_body_that_stops_is_answered_with_408() {
    let upstream = Upstream::start();
    let proxy = Proxy::with(upstream.port, "anonymous: true", "timeouts: {requestBodySeconds: 1}", |_| {});
    let mut client = Client::connect(proxy.address());
    client.send("POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(client.answer(true).status, 408);
    assert!(client.is_closed());
    assert_eq!(proxy.lines(1)[0]["error"], "the client paused for too long within the request's body");
}
