//! Who gets through the running proxy, and what the application learns of them.

mod common;

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::client::Client;
use common::upstream::Upstream;
use common::{ADMIN, Proxy, free_port};

fn basic(plain: &str) -> String {
    format!("Authorization: Basic {}", STANDARD.encode(plain))
}

#[test]
fn without_or_with_wrong_credentials_nothing_reaches_the_application() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let mut client = Client::connect(proxy.address());
    for headers in [
        vec![],
        vec![basic("admin:wrong")],
        vec![basic("nobody:admin")],
        vec![basic("admin:")],
        vec![basic("admin")],
        vec!["Authorization: Basic".to_owned()],
        vec!["Authorization: Bearer YWRtaW46YWRtaW4=".to_owned()],
        vec!["Authorization: Basic ***".to_owned()],
        vec!["X-Forwarded-User: admin".to_owned()],
        vec!["Proxy-Authorization: Basic YWRtaW46YWRtaW4=".to_owned()],
    ] {
        let lines: Vec<&str> = headers.iter().map(String::as_str).collect();
        let answer = client.get("/", &lines);
        assert_eq!(answer.status, 401, "{headers:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"Protected\", charset=\"UTF-8\""));
        assert_eq!(answer.text(), "401 Unauthorized\n");
        assert!(answer.header("date").is_some());
    }
    assert_eq!(upstream.heads(), Vec::<String>::new());
    assert_eq!(client.get("/", &[ADMIN]).status, 200, "the connection goes on");
    let twice = client.get("/", &[ADMIN, ADMIN]);
    assert_eq!(twice.status, 400, "which of the two would count?");
}

#[test]
fn every_kind_of_hash_lets_its_user_in() {
    let upstream = Upstream::start();
    // Each made by `htpasswd` or `openssl passwd`; the commands stand beside the unit tests' vectors.
    let users = "\
        bcrypt:$2y$05$gaghfYAf/DrQU93nYP6L1.2IAVtZ9MfXKgiz6AB4rsJ6Q3bv1K9MS\n\
        apr1:$apr1$837ZICup$/JkHlYsg3Db39Eyw.u7gK/\n\
        sha:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\n\
        sha256:$5$ImxzRtAKrZNqg3KG$pvqhXM/cPXZH4Zt9POg0yCHzxy9v/aR9fJSb/f0Xdf7\n\
        sha512:$6$saltsalt$ZxoUf1bJzACFdk9GZkBGmxXd3Rq8nUoGjgon4GVoI91SlW41Ew2djlh60PmWr4flwags.7ULrKVSSmnCEsIOj1\n";
    let proxy = Proxy::with(
        upstream.port,
        "authentication: [{basic: {htpasswdFile: users, realm: 'The \"Shop\"'}}]",
        "",
        |directory| fs::write(directory.join("users"), users).expect("written"),
    );
    let mut client = Client::connect(proxy.address());
    for user in ["bcrypt", "apr1", "sha", "sha256", "sha512"] {
        // The second time from the cache.
        for _ in 0..2 {
            let answer = client.get("/head", &[&basic(&format!("{user}:admin"))]);
            assert_eq!(answer.status, 200, "{user}");
            assert!(answer.text().contains(&format!("x-forwarded-user: {user}\r\n")), "{}", answer.text());
            assert_eq!(client.get("/head", &[&basic(&format!("{user}:Admin"))]).status, 401, "{user}");
        }
    }
    let challenge = client.get("/", &[]);
    assert_eq!(challenge.header("www-authenticate"), Some(r#"Basic realm="The \"Shop\"", charset="UTF-8""#));
}

const FORGED: [&str; 12] = [
    "X-Forwarded-User: forged",
    "x_forwarded_user: forged",
    "X_Forwarded-User: forged",
    "X-Forwarded-Groups: forged",
    "X-Forwarded-Email: forged",
    "X-Forwarded-Preferred-Username: forged",
    "X-Forwarded-For: forged",
    "X-Forwarded-Host: forged",
    "Forwarded: for=forged",
    "Remote-User: forged",
    "X-Remote-User: forged",
    "REMOTE_USER: forged",
];

#[test]
fn the_application_learns_identity_from_the_proxy_alone() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let mut client = Client::connect(proxy.address());
    let mut headers = vec![ADMIN, "Connection: keep-alive, X-Forwarded-User, X-Forwarded-For", "Accept: text/plain"];
    headers.extend(FORGED);
    let seen = client.get("/head", &headers);
    assert_eq!(seen.status, 200);
    let seen = seen.text();
    assert!(!seen.contains("forged"), "{seen}");
    for line in [
        "host: shop.example",
        "accept: text/plain",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: shop.example",
        "x-forwarded-user: admin",
    ] {
        assert_eq!(seen.lines().filter(|have| *have == line).count(), 1, "{line}\n{seen}");
    }
    for name in ["authorization", "connection", "keep-alive"] {
        assert!(!seen.lines().any(|line| line.to_ascii_lowercase().starts_with(name)), "{name}\n{seen}");
    }
}

#[test]
fn an_anonymous_listener_drops_forged_identities_too() {
    let upstream = Upstream::start();
    let proxy = Proxy::with(upstream.port, "anonymous: true", "", |_| {});
    let mut headers = vec![ADMIN, "Connection: X-Forwarded-User"];
    headers.extend(FORGED);
    let seen = Client::connect(proxy.address()).get("/head", &headers);
    let seen = seen.text();
    assert!(!seen.contains("forged") && !seen.contains("x-forwarded-user"), "{seen}");
    assert!(!seen.to_ascii_lowercase().contains("authorization"), "{seen}");
}

#[test]
fn forged_trailers_do_not_pass_and_honest_ones_do() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let request = format!(
        "POST /head HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Forwarded-User, X_Remote_User, Authorization, X-Sum\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Forwarded-User: forged\r\nX_Remote_User: forged\r\nAuthorization: forged\r\n\
         X-Sum: 42\r\n\r\n"
    );
    let answer = Client::connect(proxy.address()).exchange(&request);
    assert_eq!(answer.status, 200);
    let seen = answer.text();
    assert!(!seen.contains("forged"), "{seen}");
    assert!(seen.to_ascii_lowercase().contains("x-sum: 42\r\n"), "{seen}");
    assert_eq!(seen.matches("x-forwarded-user: admin").count(), 1, "{seen}");
}

#[test]
fn too_many_waiting_passwords_are_told_to_come_again() {
    let upstream = Upstream::start();
    // Cost 12 keeps the one thread busy for long enough: htpasswd -nbB -C 12 u x
    let users = "u:$2y$12$2q1AJJeI.Sc51lhurNtaJO9XddNv8OQX32C6wtmIbNj9R.igbFn6e\n";
    let proxy = Proxy::with(
        upstream.port,
        "authentication: [{basic: {htpasswdFile: users}}]",
        "limits: {passwordChecks: 1, waitingPasswordChecks: 2}",
        |directory| fs::write(directory.join("users"), users).expect("written"),
    );
    let mut clients: Vec<Client> = (0..12).map(|_| Client::connect(proxy.address())).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        let header = basic(&format!("u:wrong{index}"));
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n"));
    }
    let answers: Vec<_> = clients.iter_mut().map(|client| client.answer(true)).collect();
    let busy: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(!busy.is_empty(), "twelve at once, room for two");
    assert!(busy.iter().all(|answer| answer.header("retry-after") == Some("1")));
    assert!(answers.iter().all(|answer| matches!(answer.status, 401 | 503)));
    assert!(upstream.heads().is_empty());
}

#[test]
fn an_application_that_is_down_is_not_told_apart_without_credentials() {
    let proxy = Proxy::in_front_of(free_port());
    let mut client = Client::connect(proxy.address());
    assert_eq!(client.get("/", &[]).status, 401);
    let answer = client.get("/", &[ADMIN]);
    assert_eq!((answer.status, answer.text()), (502, "502 Bad Gateway\n"));
}
