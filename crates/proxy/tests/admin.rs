//! The admin address, and draining as it is seen there and by clients.

mod common;

use std::fs;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::client::Client;
use common::side::Sided;
use common::upstream::Upstream;
use common::{ADMIN, Proxy, eventually, free_port};
use nix::sys::signal::Signal;

#[test]
fn pages_are_three_and_read_only() {
    let upstream = Upstream::start();
    let sided = Sided::start(upstream.port, "[]", "");
    for (path, text) in [("/healthz", "ok\n"), ("/readyz", "ok\n")] {
        let answer = sided.ask(path);
        assert_eq!((answer.status, answer.text()), (200, text));
    }
    assert_eq!(
        sided.ask("/metrics").header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    for path in ["/", "/config", "/metrics/", "/debug", "/healthz/x", "/probe/app/liveness"] {
        assert_eq!(sided.ask(path).status, 404, "{path}");
    }
    let mut client = Client::connect(sided.admin);
    client.send("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer(false).status, 200);
    assert!(client.is_closed());
    for method in ["POST", "DELETE", "OPTIONS"] {
        let answer = Client::connect(sided.admin).exchange(&format!("{method} /metrics HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    }
    let answer = Client::connect(sided.admin)
        .exchange(&format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000)));
    assert_eq!(answer.status, 431);
    let since = Instant::now();
    let mut slow = Client::connect(sided.admin);
    slow.send("GET /healthz HTTP/1.1\r\n");
    assert!(slow.try_answer(true).is_none_or(|answer| answer.status == 408));
    assert!(since.elapsed() < Duration::from_secs(20));
    assert_eq!(sided.proxy.log(), "", "none of this is the application's business");
}

#[test]
fn what_happened_is_counted_and_no_secret_is_told() {
    let upstream = Upstream::start();
    let sided = Sided::start(upstream.port, "[]", "");
    let get = |path: &str, headers: &[&str]| Client::connect(sided.proxy.address()).get(path, headers).status;
    // Ten connections, so that both workers have some.
    for _ in 0..10 {
        assert_eq!(get("/secret-path?token=t0p", &[ADMIN]), 200);
    }
    assert_eq!(get("/", &[]), 401);
    assert_eq!(get("/", &["Authorization: Basic YWRtaW46d3Jvbmc="]), 401);
    assert_eq!(get("/", &["Authorization: Bearer s3same"]), 401);
    assert_eq!(get("/vanish", &[ADMIN]), 502);
    let mut broken = Client::connect(sided.proxy.address());
    assert_eq!(broken.exchange("nonsense\r\n\r\n").status, 400);

    let port = sided.proxy.port;
    let of = |name: &str, labels: &str| format!("sidewall_proxy_{name}{{listener=\"{port}\"{labels}}}");
    let expected = [
        (of("requests_total", ",status=\"200\""), 10),
        (of("requests_total", ",status=\"400\""), 1),
        (of("requests_total", ",status=\"401\""), 3),
        (of("requests_total", ",status=\"502\""), 1),
        (of("request_duration_seconds_count", ""), 15),
        (of("authentications_total", ",method=\"basic\",outcome=\"accepted\""), 11),
        (of("authentications_total", ",method=\"basic\",outcome=\"missing\""), 1),
        (of("authentications_total", ",method=\"basic\",outcome=\"wrong\""), 1),
        (of("authentications_total", ",method=\"basic\",outcome=\"malformed\""), 1),
        (of("authentications_total", ",method=\"basic\",outcome=\"busy\""), 0),
        (of("upstream_failures_total", ",reason=\"broken\""), 1),
        (of("upstream_failures_total", ",reason=\"connect\""), 0),
        ("sidewall_proxy_ready".to_owned(), 1),
    ];
    for (name, value) in expected {
        let row = format!("{name} {value}");
        eventually(&row, || sided.metrics(&name).contains(&row));
    }
    let bucket = format!("sidewall_proxy_request_duration_seconds_bucket{{le=\"+Inf\",listener=\"{port}\"}} 15");
    let buckets = sided.metrics("sidewall_proxy_request_duration_seconds_bucket");
    let other = format!("sidewall_proxy_request_duration_seconds_bucket{{listener=\"{port}\",le=\"+Inf\"}} 15");
    assert!(buckets.contains(&bucket) || buckets.contains(&other), "{buckets:?}");
    let sent = sided.metrics(&of("response_body_bytes_total", ""));
    let sent: u64 = sent[0].rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    assert!(sent >= 10 * 5, "{sent}");
    drop(broken);
    let open = format!("{} 0", of("open_connections", ""));
    eventually("all have gone", || sided.metrics("sidewall_proxy_open_connections").contains(&open));

    // A bad file, and then a good one.
    let what = "what=\"listeners[0].authentication[0].basic.htpasswdFile\"";
    fs::write(sided.proxy.file("users"), "admin:s3same\n").expect("written");
    let stale = format!("sidewall_proxy_reload_stale{{{what}}} 1");
    eventually("the refusal is told", || sided.metrics("sidewall_proxy_reload_stale").contains(&stale));
    fs::write(sided.proxy.file("users"), common::USERS.replace("admin:", "ada:")).expect("written");
    let fresh = format!("sidewall_proxy_reload_stale{{{what}}} 0");
    eventually("the good one is told", || sided.metrics("sidewall_proxy_reload_stale").contains(&fresh));
    let reloads = sided.metrics("sidewall_proxy_reloads_total");
    for outcome in ["applied", "refused"] {
        assert!(reloads.contains(&format!("sidewall_proxy_reloads_total{{{what},outcome=\"{outcome}\"}} 1")));
    }

    let text = sided.ask("/metrics").text().to_owned();
    for secret in ["admin", "ada", "secret-path", "t0p", "s3same", "YWRtaW4", "$apr1$"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn the_end_of_the_certificate_is_told_and_follows_a_new_one() {
    let upstream = Upstream::start();
    let write = |directory: &std::path::Path, year: i32| {
        let mut params = rcgen::CertificateParams::new(vec!["shop.example".to_owned()]).expect("parameters");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        fs::write(directory.join("tls.crt"), params.self_signed(&key).expect("a certificate").pem()).expect("written");
        fs::write(directory.join("tls.key"), key.serialize_pem()).expect("written");
    };
    let admin = std::cell::Cell::new(0);
    let proxy = Proxy::start(
        |port| {
            admin.set(free_port());
            format!(
                "listeners:\n- port: {port}\n  address: 127.0.0.1\n  forward: {{port: {}}}\n  anonymous: true\n  \
                 tls: {{certFile: tls.crt, keyFile: tls.key}}\nadmin: {{port: {}}}\n",
                upstream.port,
                admin.get()
            )
        },
        |directory| write(directory, 2030),
    );
    let ends = |seconds: u64| {
        let row = format!(
            "sidewall_proxy_tls_certificate_not_after_timestamp_seconds{{listener=\"{}\"}} {seconds}\n",
            proxy.port
        );
        let text = Client::connect(([127, 0, 0, 1], admin.get()).into()).get("/metrics", &[]).text().to_owned();
        text.contains(&row)
    };
    assert!(ends(1_893_456_000));
    write(proxy.directory.path(), 2031);
    eventually("the new end is told", || ends(1_924_992_000));
}

#[test]
fn it_says_that_it_is_not_ready_before_it_stops_to_listen() {
    let upstream = Upstream::start();
    let mut sided = Sided::start(upstream.port, "[]", "timeouts: {unreadySeconds: 6, drainSeconds: 20}");
    let address = sided.proxy.address();
    let mut kept = Client::connect(address);
    let first = kept.get("/", &[ADMIN]);
    assert_eq!((first.status, first.header("connection")), (200, None));
    let mut idle = Client::connect(address);
    assert_eq!(idle.get("/", &[ADMIN]).status, 200);
    let mut busy = Client::connect(address);
    busy.send(format!("GET /sleep/10000 HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n\r\n"));
    eventually("the request arrives", || upstream.heads().len() == 3);

    let since = Instant::now();
    sided.proxy.signal(Signal::SIGTERM);
    eventually("it is not ready", || sided.ask("/readyz").status == 503);
    assert_eq!((sided.probe("/readyz").status, sided.probe("/healthz").status), (503, 200));
    assert_eq!(sided.ask("/healthz").status, 200);
    // Whoever has not heard yet is still served, for the last time on this connection.
    let answer = kept.get("/", &[ADMIN]);
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(kept.is_closed());
    let mut late = Client::connect(address);
    let answer = late.get("/", &[ADMIN]);
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(since.elapsed() < Duration::from_secs(6), "the machine is too slow for this test: {:?}", since.elapsed());

    eventually("nothing listens", || TcpStream::connect(address).is_err());
    assert!(since.elapsed() >= Duration::from_secs(6), "the grace was kept: {:?}", since.elapsed());
    assert!(idle.is_closed(), "an idle connection ends with the listener");
    assert!(sided.proxy.has_ended().is_none(), "a request is in flight");
    assert_eq!(sided.ask("/readyz").status, 503, "it tells until the end");
    let answer = busy.answer(true);
    assert_eq!((answer.status, answer.text(), answer.header("connection")), (200, "slept", Some("close")));
    assert_eq!(sided.proxy.wait().code(), Some(0));
    assert!(TcpStream::connect(sided.admin).is_err() && TcpStream::connect(sided.probes).is_err());
}
