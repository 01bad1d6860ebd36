//! How requests and answers pass through the running proxy.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::time::Duration;

use common::client::Client;
use common::upstream::Upstream;
use common::{ADMIN, Proxy, eventually, free_port};

#[test]
fn connections_are_kept_on_both_sides() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let mut client = Client::connect(proxy.address());
    for _ in 0..50 {
        assert_eq!(client.get("/", &[ADMIN]).text(), "hello");
    }
    assert_eq!(upstream.connections(), 1);
    assert_eq!(upstream.heads().len(), 50);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let mut client = Client::connect(proxy.address());
    let request = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\nContent-Length: 3\r\n\r\nabc");
    client.send(["/sleep/200", "/count", "/other"].map(request).concat());
    for expected in ["slept", "3", "hello"] {
        assert_eq!(client.answer(true).text(), expected);
    }
}

#[test]
fn a_kept_connection_that_the_application_closed_is_replaced() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let mut client = Client::connect(proxy.address());
    for _ in 0..20 {
        // Closed without notice after the answer: the next request meets a dead connection or a new one.
        let answer = client.get("/once", &[ADMIN]);
        assert_eq!((answer.status, answer.text()), (200, "once"));
    }
    // One that closes in place of an answer is retried once on a new connection, and then said to be broken.
    assert_eq!(client.get("/vanish", &[ADMIN]).status, 502);
    let post = client.exchange(&format!("POST /vanish HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\nContent-Length: 1\r\n\r\nx"));
    assert_eq!(post.status, 502);
}

#[test]
fn a_request_that_may_have_done_harm_is_not_sent_twice() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let mut client = Client::connect(proxy.address());
    assert_eq!(client.get("/", &[ADMIN]).status, 200);
    let post = client.exchange(&format!("POST /vanish HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(post.status, 502);
    let posts = upstream.heads().iter().filter(|head| head.starts_with("POST ")).count();
    assert_eq!(posts, 1);
}

#[test]
fn large_answers_stream_and_a_client_that_does_not_read_holds_the_application_back() {
    const SIZE: u64 = 64 << 20;
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    for path in ["big", "stream"] {
        let mut client = Client::connect(proxy.address());
        let before = upstream.sent();
        client.send(format!("GET /{path}/{SIZE} HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\nConnection: close\r\n\r\n"));
        let (status, _) = client.head().expect("a head");
        assert_eq!(status, 200);
        // The application comes to a stop when all buffers on the way are full.
        let mut sent = 0;
        eventually("the application is held back", || {
            std::thread::sleep(Duration::from_millis(300));
            let now = upstream.sent();
            std::mem::replace(&mut sent, now) == now
        });
        assert!(sent - before < SIZE / 2, "{} bytes were taken from the application", sent - before);
        let mut taken = 0;
        let mut block = vec![0; 1 << 16];
        loop {
            match client.reader.read(&mut block).expect("the body goes on") {
                0 => break,
                count => taken += count as u64,
            }
        }
        assert!(taken >= SIZE, "{taken} bytes");
    }
    assert!(proxy.peak_memory() < 64 * 1024, "{} KiB", proxy.peak_memory());
    let lines = proxy.lines(2);
    assert!(lines.iter().all(|line| line["bytes_out"] == SIZE), "{lines:?}");
}

#[test]
fn large_uploads_stream_with_a_length_and_in_chunks() {
    const SIZE: usize = 64 << 20;
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let block = [b'x'; 1 << 16];
    for chunked in [false, true] {
        let mut client = Client::connect(proxy.address());
        let framing = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {SIZE}") };
        client.send(format!("PUT /count HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n{framing}\r\n\r\n"));
        for _ in 0..SIZE / block.len() {
            if chunked {
                client.send(format!("{:x}\r\n", block.len()));
                client.send(block);
                client.send("\r\n");
            } else {
                client.send(block);
            }
        }
        if chunked {
            client.send("0\r\n\r\n");
        }
        assert_eq!(client.answer(true).text(), SIZE.to_string());
    }
    assert!(proxy.peak_memory() < 64 * 1024, "{} KiB", proxy.peak_memory());
}

#[test]
fn a_get_with_a_chunked_body_keeps_it() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let mut client = Client::connect(proxy.address());
    let request = format!(
        "GET /count HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
    );
    assert_eq!(client.exchange(&request).text(), "4");
    assert_eq!(client.get("/", &[ADMIN]).text(), "hello", "nothing of it is left on the connection");
}

#[test]
fn a_client_that_waits_for_100_gets_it_only_with_credentials() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let head = |extra: &str| {
        format!("POST /count HTTP/1.1\r\nHost: a\r\n{extra}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    };
    let mut stranger = Client::connect(proxy.address());
    stranger.send(head(""));
    assert_eq!(stranger.answer(true).status, 401, "no 100 before it");

    let mut client = Client::connect(proxy.address());
    client.send(head(&format!("{ADMIN}\r\n")));
    assert_eq!(client.answer(false).status, 100);
    client.send("hello");
    assert_eq!(client.answer(true).text(), "5");

    let other = client.get("/", &[ADMIN, "Expect: something"]);
    assert_eq!(other.status, 417);
}

#[test]
fn answers_without_a_body_have_none() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let mut client = Client::connect(proxy.address());
    client.send(format!("HEAD /big/100 HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n\r\n"));
    // The application of this test sends a body even then, as broken ones do; it must not become the next answer.
    let head = client.answer(false);
    assert_eq!((head.status, head.header("content-length")), (200, Some("100")));
    assert_eq!(client.get("/status/304", &[ADMIN]).status, 304);
    assert_eq!(client.get("/status/204", &[ADMIN]).status, 204);
    assert_eq!(client.get("/", &[ADMIN]).text(), "hello");
}

#[test]
fn headers_of_the_connection_stay_with_it() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let answer = Client::connect(proxy.address()).get("/connection", &[ADMIN]);
    assert_eq!(answer.header("x-end"), Some("1"));
    for name in ["x-hop", "keep-alive", "upgrade"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
}

#[test]
fn upgrades_are_refused_or_ignored_and_never_passed_on() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let mut client = Client::connect(proxy.address());
    let websocket = client.get("/head", &[ADMIN, "Connection: Upgrade", "Upgrade: websocket"]);
    assert_eq!(websocket.status, 501);
    let h2c =
        client.get("/head", &[ADMIN, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"]);
    assert_eq!(h2c.status, 200);
    let seen = h2c.text().to_ascii_lowercase();
    assert!(!seen.contains("upgrade") && !seen.contains("http2-settings"), "{seen}");
}

#[test]
fn old_clients_are_served_and_their_connections_closed() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let mut client = Client::connect(proxy.address());
    client.send(format!("GET /head HTTP/1.0\r\n{ADMIN}\r\n\r\n"));
    let answer = client.answer(true);
    assert_eq!(answer.status, 200);
    assert!(answer.text().starts_with("GET /head HTTP/1.1\r\n"), "{}", answer.text());
    assert!(answer.text().contains(&format!("host: 127.0.0.1:{}\r\n", upstream.port)), "{}", answer.text());
    assert!(client.is_closed());
}

#[test]
fn an_absolute_target_is_passed_on_as_a_path() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let request = format!("GET http://shop.example/head?q=1 HTTP/1.1\r\nHost: shop.example\r\n{ADMIN}\r\n\r\n");
    let answer = Client::connect(proxy.address()).exchange(&request);
    assert!(answer.text().starts_with("GET /head?q=1 HTTP/1.1\r\n"), "{}", answer.text());
}

#[test]
fn an_application_that_fails_is_told_apart_in_the_log_alone() {
    let down = free_port();
    let proxy = Proxy::in_front_of(down);
    let answer = Client::connect(proxy.address()).get("/", &[ADMIN]);
    assert_eq!((answer.status, answer.text()), (502, "502 Bad Gateway\n"));
    let line = &proxy.lines(1)[0];
    assert_eq!(line["status"], 502);
    let cause = line["error"].as_str().expect("a cause");
    assert!(cause.contains(&format!("127.0.0.1:{down}")) && cause.contains("refused"), "{cause}");
    assert!(line.get("upstream_status").is_none());
}

#[test]
fn an_application_that_is_too_slow_is_a_504_and_one_that_stops_cuts_the_answer() {
    let upstream = Upstream::start();
    let proxy =
        Proxy::with(upstream.port, "anonymous: true", "timeouts: {responseSeconds: 1, responseBodySeconds: 1}", |_| {});
    let mut client = Client::connect(proxy.address());
    let answer = client.get("/sleep/20000", &[]);
    assert_eq!((answer.status, answer.text()), (504, "504 Gateway Timeout\n"));
    assert_eq!(client.get("/", &[]).status, 200, "the client's connection goes on");

    client.send("GET /stall HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().expect("a head").0, 200);
    let mut taken = Vec::new();
    // Cut off: an end without the promised length, or a reset.
    let _ = client.reader.read_to_end(&mut taken);
    assert_eq!(taken, b"0123456789");
    let lines = proxy.lines(3);
    let causes: Vec<_> = lines.iter().filter_map(|line| line["error"].as_str()).collect();
    assert!(causes.contains(&"the application did not answer in time"), "{causes:?}");
    assert!(causes.contains(&"the application paused for too long within the response's body"), "{causes:?}");
}

#[test]
fn a_client_that_goes_away_is_logged_and_frees_the_application() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let mut client = Client::connect(proxy.address());
    client.send(format!("GET /sleep/300 HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n\r\n"));
    eventually("the request arrives", || upstream.heads().len() == 1);
    drop(client);
    let line = &proxy.lines(1)[0];
    assert_eq!((&line["status"], &line["error"]), (&499.into(), &"the client closed the connection".into()));
}

#[test]
fn the_log_tells_what_happened_and_no_secret() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let mut client = Client::connect(proxy.address());
    let post = format!(
        "POST /count?token=sesame HTTP/1.1\r\nHost: a\r\nCookie: sesame\r\n{ADMIN}\r\nContent-Length: 3\r\n\r\nabc"
    );
    assert_eq!(client.exchange(&post).status, 200);
    // Somebody types the password where the name belongs: c2VzYW1lOng= is sesame:x.
    assert_eq!(client.get("/?token=sesame", &["Authorization: Basic c2VzYW1lOng="]).status, 401);
    client.send(format!("GET /?sesame HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\nSesame: sesame\n\r\n"));
    assert_eq!(client.answer(true).status, 400);

    let lines = proxy.lines(3);
    assert_eq!(lines[0]["method"], "POST");
    assert_eq!(lines[0]["path"], "/count");
    assert_eq!(lines[0]["status"], 200);
    assert_eq!(lines[0]["upstream_status"], 200);
    assert_eq!(lines[0]["user"], "admin");
    assert_eq!(lines[0]["bytes_in"], 3);
    assert_eq!(lines[0]["bytes_out"], 1);
    assert!(lines[0]["duration_us"].as_u64().is_some_and(|time| time > 0));
    assert!(lines[0]["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")));
    assert!(lines[0]["time"].as_str().is_some_and(|time| time.ends_with('Z') && time.len() == 27));
    assert_eq!((&lines[1]["status"], &lines[1]["error"]), (&401.into(), &"wrong user or password".into()));
    let all = format!("{}{}", proxy.log(), proxy.errors());
    for secret in ["sesame", "YWRtaW46YWRtaW4=", "c2VzYW1l", "apr1", "Authorization"] {
        assert!(!all.contains(secret), "{secret} in\n{all}");
    }
}

#[test]
fn connections_over_the_limit_wait_their_turn() {
    let upstream = Upstream::start();
    let proxy = Proxy::with(
        upstream.port,
        "anonymous: true",
        "limits: {connectionsPerWorker: 1}\ntimeouts: {idleSeconds: 1}",
        |directory| fs::write(directory.join("unused"), "").expect("written"),
    );
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(proxy.address())).collect();
    for client in &mut clients {
        client.reader.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    }
    for client in &mut clients {
        assert_eq!(client.answer(true).text(), "hello");
    }
}

#[test]
fn an_application_that_does_not_read_the_upload_is_a_504() {
    let upstream = Upstream::start();
    let proxy =
        Proxy::with(upstream.port, "anonymous: true", "timeouts: {responseSeconds: 1, requestBodySeconds: 50}", |_| {});
    let mut client = Client::connect(proxy.address());
    let mut sender = client.reader.get_mut().try_clone().expect("a second handle");
    let upload = std::thread::spawn(move || {
        // More than all buffers on the way hold; the proxy ends it.
        let head = format!("PUT /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 256 << 20);
        let mut sent = sender.write_all(head.as_bytes());
        while sent.is_ok() {
            sent = sender.write_all(&[b'x'; 1 << 16]);
        }
    });
    // The answer may be lost in the reset that the unread upload brings, so the log decides.
    let _ = client.reader.read(&mut [0; 1024]);
    let line = &proxy.lines(1)[0];
    assert_eq!((&line["status"], &line["error"]), (&504.into(), &"the application did not answer in time".into()));
    drop(client);
    drop(proxy);
    upload.join().expect("the upload ended");
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_cut_off() {
    let upstream = Upstream::start();
    let proxy = Proxy::with(upstream.port, "anonymous: true", "timeouts: {sendSeconds: 1}", |_| {});
    let mut client = Client::connect(proxy.address());
    client.send("GET /big/268435456 HTTP/1.1\r\nHost: a\r\n\r\n");
    let line = &proxy.lines(1)[0];
    assert_eq!(line["error"], "the client did not take the response in time");
    assert_eq!(line["status"], 200);
    assert!(line["bytes_out"].as_u64().is_some_and(|bytes| bytes < 1 << 28), "{line}");
}

#[test]
fn without_an_address_it_listens_on_ipv4_and_ipv6() {
    let upstream = Upstream::start();
    let text = |port| format!("listeners: [{{port: {port}, forward: {{port: {}}}, anonymous: true}}]", upstream.port);
    let proxy = Proxy::start(text, |_| {});
    for address in ["127.0.0.1", "::1"] {
        let address: std::net::IpAddr = address.parse().expect("an address");
        let seen = Client::connect((address, proxy.port).into()).get("/head", &["X-Forwarded-For: 192.0.2.1"]);
        assert!(seen.text().contains(&format!("x-forwarded-for: {address}\r\n")), "{}", seen.text());
    }
}
