//! The configuration changes while the proxy runs.

mod common;

use std::cell::Cell;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::client::Client;
use common::mounted::{Mounted, metrics};
use common::upstream::Upstream;
use common::{ADMIN, PATIENCE, Proxy, USERS, eventually, free_port};
use nix::sys::signal::Signal;

/// `admin:changed`, made by `htpasswd -nbs admin changed`.
const CHANGED: &str = "admin:{SHA}N8bFe+30MF70EknBeUdgtcuPrRc=\n";
const ADMIN_CHANGED: &str = "Authorization: Basic YWRtaW46Y2hhbmdlZA==";

/// A listener that asks for a password of this file.
fn basic(port: u16, application: u16, users: &str, realm: &str) -> String {
    format!(
        "- port: {port}\n  address: 127.0.0.1\n  forward: {{port: {application}}}\n  \
         authentication: [{{basic: {{htpasswdFile: secrets/{users}, realm: {realm}}}}}]\n"
    )
}

/// A listener that asks for nothing.
fn open(port: u16, application: u16) -> String {
    format!("- port: {port}\n  address: 127.0.0.1\n  forward: {{port: {application}}}\n  anonymous: true\n")
}

fn config(listeners: &[String], rest: &str) -> String {
    format!("listeners:\n{}{rest}\n", listeners.concat())
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[test]
fn the_next_request_of_an_old_connection_gets_the_new_one_and_that_in_flight_keeps_the_old() {
    let (old, new) = (Upstream::start(), Upstream::start());
    let text = |port, admin, application, users, realm| {
        config(&[basic(port, application, users, realm)], &format!("admin: {{port: {admin}}}"))
    };
    let first = |port, admin| text(port, admin, old.port, "old", "Old");
    let mounted = Mounted::start(first, &[("old", USERS), ("new", CHANGED)]);
    let (proxy, admin) = (&mounted.proxy, mounted.admin.port());
    mounted.is_in_force(&first(proxy.port, admin));
    let mut kept = Client::connect(proxy.address());
    assert_eq!(kept.get("/", &[ADMIN]).status, 200);
    let mut busy = Client::connect(proxy.address());
    busy.send(format!("GET /sleep/2000 HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n\r\n"));
    eventually("the request arrives", || old.heads().len() == 2);

    let next = text(proxy.port, admin, new.port, "new", "New");
    mounted.reconfigure(&next);
    let denied = kept.get("/", &[ADMIN]);
    assert_eq!(denied.status, 401, "however warm the cache");
    assert!(denied.header("www-authenticate").is_some_and(|value| value.contains("\"New\"")), "{denied:?}");
    assert_eq!(kept.get("/head", &[ADMIN_CHANGED]).status, 200);
    assert_eq!((old.heads().len(), new.heads().len()), (2, 1), "it went to the new application");
    let answer = busy.answer(true);
    assert_eq!((answer.status, answer.text()), (200, "slept"), "what began under the old one ends under it");
    assert_eq!(busy.get("/", &[ADMIN]).status, 401);

    let hash = common::mounted::short_hash(&next);
    let told = proxy.errors().lines().filter(|line| line.contains("is in force") && line.contains(&hash)).count();
    assert_eq!(told, 1, "{}", proxy.errors());
    mounted.told("sidewall_proxy_reloads_total{what=\"configuration\",outcome=\"applied\"} 1");
    assert_eq!(proxy.lines(5).len(), 5);
}

#[test]
fn a_password_that_was_rotated_locks_the_old_one_out_before_and_after_a_new_configuration() {
    let upstream = Upstream::start();
    let text = |port, admin, realm| {
        config(&[basic(port, upstream.port, "users", realm)], &format!("admin: {{port: {admin}}}"))
    };
    let mounted = Mounted::start(|port, admin| text(port, admin, "One"), &[("users", USERS)]);
    let mut kept = Client::connect(mounted.proxy.address());
    assert_eq!(kept.get("/", &[ADMIN]).status, 200);
    // The files that the configuration names are the same: they are watched on, and nothing is forgotten.
    mounted.reconfigure(&text(mounted.proxy.port, mounted.admin.port(), "Two"));
    assert_eq!(kept.get("/", &[ADMIN]).status, 200);
    mounted.swap("secrets", &[("users", CHANGED)]);
    eventually("the new password is taken", || kept.get("/", &[ADMIN_CHANGED]).status == 200);
    assert_eq!(kept.get("/", &[ADMIN]).status, 401);
    // Both at once, the ConfigMap and the Secret.
    mounted.swap("secrets", &[("users", USERS)]);
    mounted.reconfigure(&text(mounted.proxy.port, mounted.admin.port(), "Three"));
    eventually("the first password is taken again", || kept.get("/", &[ADMIN]).status == 200);
    assert_eq!(kept.get("/", &[ADMIN_CHANGED]).status, 401);
    let what = "what=\"listeners[0].authentication[0].basic.htpasswdFile\"";
    mounted.told(&format!("sidewall_proxy_reloads_total{{{what},outcome=\"applied\"}} 2"));
    mounted.told("sidewall_proxy_reloads_total{what=\"configuration\",outcome=\"applied\"} 2");
}

#[test]
fn a_bad_version_is_refused_with_file_line_and_field_and_the_old_one_stays_whole() {
    let upstream = Upstream::start();
    let rest = |admin| format!("admin: {{port: {admin}}}");
    let first = |port, admin| config(&[basic(port, upstream.port, "users", "Old")], &rest(admin));
    let mounted = Mounted::start(first, &[("users", USERS)]);
    let (port, admin) = (mounted.proxy.port, mounted.admin.port());
    let good = first(port, admin);
    let name = mounted.proxy.file("proxy.yaml").display().to_string();
    let other = free_port();
    for (index, (text, expected)) in [
        (good.replace("forward:", "forwards:"), format!("{name}:4:")),
        (good.replace("listeners:", "listeners: ["), format!("{name}:")),
        (
            config(
                &[basic(port, upstream.port, "users", "New"), format!("- port: {other}\n  forward: {{port: 9}}\n")],
                &rest(admin),
            ),
            format!("{name}:6: listeners[1].authentication: nothing authenticates"),
        ),
        (good.replace("forward: {port", "forward: {port: 0, p"), format!("{name}:4:")),
    ]
    .into_iter()
    .enumerate()
    {
        mounted.configure(&text);
        mounted.complains(&expected);
        mounted.told("sidewall_proxy_reload_stale{what=\"configuration\"} 1");
        let count = index + 1;
        mounted.told(&format!("sidewall_proxy_reloads_total{{what=\"configuration\",outcome=\"refused\"}} {count}"));
        mounted.is_in_force(&good);
        let denied = Client::connect(mounted.proxy.address()).get("/", &[]);
        assert!(denied.header("www-authenticate").is_some_and(|value| value.contains("\"Old\"")), "{denied:?}");
        assert!(TcpStream::connect(at(other)).is_err(), "nothing of it is in force");
    }
    // Back to what is in force anyway.
    mounted.configure(&good);
    mounted.told("sidewall_proxy_reload_stale{what=\"configuration\"} 0");
    mounted.told("sidewall_proxy_reloads_total{what=\"configuration\",outcome=\"applied\"} 0");
    // And gone, and back.
    fs::remove_file(mounted.proxy.file("config/..data")).expect("removed");
    mounted.told("sidewall_proxy_reload_stale{what=\"configuration\"} 1");
    mounted.configure(&good);
    mounted.told("sidewall_proxy_reload_stale{what=\"configuration\"} 0");
    let mut kept = Client::connect(mounted.proxy.address());
    assert_eq!(kept.get("/", &[ADMIN]).status, 200);
}

#[test]
fn a_secret_that_comes_later_and_a_port_that_is_freed_later_heal_by_themselves() {
    let upstream = Upstream::start();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let busy = taken.local_addr().expect("its address").port();
    let rest = |admin| format!("admin: {{port: {admin}}}");
    let mounted = Mounted::start(
        |port, admin| config(&[basic(port, upstream.port, "users", "Old")], &rest(admin)),
        &[("users", USERS)],
    );
    let (port, admin) = (mounted.proxy.port, mounted.admin.port());
    let next = config(&[basic(port, upstream.port, "later", "New"), open(busy, upstream.port)], &rest(admin));
    mounted.configure(&next);
    let name = mounted.proxy.file("proxy.yaml").display().to_string();
    mounted.complains(&format!("{name}:5: listeners[0].authentication[0].basic.htpasswdFile: "));
    mounted.complains("secrets/later: No such file");
    mounted.told("sidewall_proxy_reload_stale{what=\"configuration\"} 1");
    assert_eq!(Client::connect(mounted.proxy.address()).get("/", &[ADMIN]).status, 200);

    // Something that is no users file yet, and then the port is missing. Nobody tells the proxy.
    mounted.swap("secrets", &[("users", USERS), ("later", "admin:admin\n")]);
    mounted.complains("later: line 1: has a hash of an unsupported kind");
    mounted.swap("secrets", &[("users", USERS), ("later", CHANGED)]);
    mounted.complains(&format!("{name}:6: listeners[1].port: 127.0.0.1:{busy} is already in use"));
    assert_eq!(Client::connect(mounted.proxy.address()).get("/", &[ADMIN]).status, 200, "the old one, whole");
    mounted.told("sidewall_proxy_reloads_total{what=\"configuration\",outcome=\"refused\"} 3");
    drop(taken);
    mounted.is_in_force(&next);
    assert_eq!(Client::connect(at(busy)).get("/", &[]).status, 200);
    assert_eq!(Client::connect(mounted.proxy.address()).get("/", &[ADMIN]).status, 401);
    mounted.told("sidewall_proxy_reload_stale{what=\"configuration\"} 0");
}

#[test]
fn a_secret_that_goes_before_the_configuration_that_named_it_is_forgotten_with_it() {
    let upstream = Upstream::start();
    let second = Cell::new(0);
    let rest = |admin| format!("admin: {{port: {admin}}}");
    let mounted = Mounted::start(
        |port, admin| {
            second.set(free_port());
            let listeners = [basic(second.get(), upstream.port, "gone", "A"), basic(port, upstream.port, "users", "B")];
            config(&listeners, &rest(admin))
        },
        &[("users", USERS), ("gone", USERS)],
    );
    let gone = "sidewall_proxy_reload_stale{what=\"listeners[0].authentication[0].basic.htpasswdFile\"}";
    mounted.swap("secrets", &[("users", USERS)]);
    mounted.told(&format!("{gone} 1"));
    assert_eq!(Client::connect(at(second.get())).get("/", &[ADMIN]).status, 200, "the users in force stay");
    mounted
        .reconfigure(&config(&[basic(mounted.proxy.port, upstream.port, "users", "B")], &rest(mounted.admin.port())));
    mounted.told(&format!("{gone} 0"));
    assert!(mounted.metrics("sidewall_proxy_reload_stale{what=\"listeners[1]").is_empty());
    assert_eq!(Client::connect(mounted.proxy.address()).get("/", &[ADMIN]).status, 200);
}

#[test]
fn ports_come_and_go_and_what_is_in_flight_on_one_that_goes_is_answered() {
    let upstream = Upstream::start();
    let leaving = Cell::new(0);
    let rest = |admin| format!("admin: {{port: {admin}}}\ntimeouts: {{drainSeconds: 3}}");
    let mounted = Mounted::start(
        |port, admin| {
            leaving.set(free_port());
            config(&[open(port, upstream.port), open(leaving.get(), upstream.port)], &rest(admin))
        },
        &[],
    );
    let (port, admin) = (mounted.proxy.port, mounted.admin.port());
    let mut stays = Client::connect(mounted.proxy.address());
    assert_eq!(stays.get("/", &[]).status, 200);
    let mut idle = Client::connect(at(leaving.get()));
    assert_eq!(idle.get("/", &[]).status, 200);
    let mut busy = Client::connect(at(leaving.get()));
    busy.send("GET /sleep/1500 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut endless = Client::connect(at(leaving.get()));
    endless.send("GET /sleep/60000 HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("both requests arrive", || upstream.heads().len() == 4);

    // A listener goes, another comes, the probe port comes, the admin address moves and the whole is on every address.
    let (coming, probes, moved) = (free_port(), free_port(), free_port());
    let everywhere = open(port, upstream.port).replace("  address: 127.0.0.1\n", "");
    let next =
        config(&[everywhere, open(coming, upstream.port)], &format!("{}\nprobes: {{port: {probes}}}", rest(moved)));
    let since = Instant::now();
    mounted.configure(&next);
    let row = format!("sidewall_proxy_configuration_info{{hash=\"{}\"}} 1", common::mounted::short_hash(&next));
    eventually("the admin address has moved", || {
        TcpStream::connect(at(moved)).is_ok() && metrics(at(moved), "sidewall_proxy_conf").contains(&row)
    });
    assert!(TcpStream::connect(at(admin)).is_err(), "not there any more");
    assert_eq!(Client::connect(at(probes)).get("/readyz", &[]).status, 200);
    assert_eq!(Client::connect(at(coming)).get("/", &[]).status, 200);
    assert_eq!(Client::connect(SocketAddr::from(([127, 0, 0, 2], port))).get("/", &[]).status, 200);
    assert!(idle.is_closed(), "an idle connection ends at once");
    eventually("nothing listens", || TcpStream::connect(at(leaving.get())).is_err());
    let answer = busy.answer(true);
    assert_eq!((answer.status, answer.text()), (200, "slept"));
    assert!(busy.is_closed());
    assert!(endless.try_answer(true).is_none(), "the time to drain is over");
    assert!(since.elapsed() >= Duration::from_secs(3), "and was there");
    // Another address is another listener: the one before has gone.
    assert!(stays.is_closed());
    // Numbers go on, of the port that has gone, too.
    let answered = |port: u16| format!("sidewall_proxy_requests_total{{listener=\"{port}\",status=\"200\"}} 2");
    for port in [port, leaving.get()] {
        eventually(&answered(port), || metrics(at(moved), "sidewall_proxy_requests").contains(&answered(port)));
    }
    let errors = mounted.proxy.errors();
    assert!(
        errors.contains("no longer listening") && errors.contains("connections of the configuration before"),
        "{errors}"
    );

    // All of it may go again, and the port may become something else.
    mounted.configure(&config(&[open(probes, upstream.port)], &format!("admin: {{port: {port}}}")));
    eventually("the admin address is the listener's port", || {
        Client::connect(at(probes)).get("/any", &[]).status == 200
            && metrics(at(port), "sidewall_proxy_ready").len() == 1
    });
    assert!(TcpStream::connect(at(moved)).is_err() && TcpStream::connect(at(coming)).is_err());
}

#[test]
fn a_listener_that_begins_to_speak_tls_ends_plain_connections() {
    let upstream = Upstream::start();
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).expect("a certificate");
    let rest = |admin| format!("admin: {{port: {admin}}}");
    let plain = |port, admin| config(&[open(port, upstream.port)], &rest(admin));
    let secrets = [("tls.crt", made.cert.pem()), ("tls.key", made.signing_key.serialize_pem())];
    let secrets: Vec<(&str, &str)> = secrets.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let mounted = Mounted::start(plain, &secrets);
    let (port, admin) = (mounted.proxy.port, mounted.admin.port());
    let mut idle = Client::connect(at(port));
    assert_eq!(idle.get("/", &[]).status, 200);
    let mut busy = Client::connect(at(port));
    busy.send("GET /sleep/1000 HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request arrives", || upstream.heads().len() == 2);
    let tls = "  tls: {certFile: secrets/tls.crt, keyFile: secrets/tls.key}\n";
    mounted.reconfigure(&config(&[open(port, upstream.port), tls.to_owned()], &rest(admin)));
    assert!(idle.is_closed());
    assert_eq!(busy.answer(true).status, 200);
    assert!(busy.is_closed());
    let mut refused = Client::connect(at(port));
    refused.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut answer = Vec::new();
    // A TLS alert, or a reset.
    let _ = refused.reader.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(mounted.metrics("sidewall_proxy_tls_certificate_not_after").len(), 1);
    mounted.reconfigure(&plain(port, admin));
    assert_eq!(Client::connect(at(port)).get("/", &[]).status, 200);
    assert_eq!(mounted.metrics("sidewall_proxy_tls_certificate_not_after").len(), 0);
}

#[test]
fn limits_and_timeouts_take_effect() {
    let upstream = Upstream::start();
    let text = |port, admin, limits: &str, timeouts: &str| {
        let rest = format!("admin: {{port: {admin}}}\nlimits: {{{limits}}}\ntimeouts: {{{timeouts}}}");
        config(&[open(port, upstream.port)], &rest)
    };
    let mounted = Mounted::start(|port, admin| text(port, admin, "connectionsPerWorker: 1", ""), &[]);
    let (port, admin) = (mounted.proxy.port, mounted.admin.port());
    // Two workers with a seat each: of six, at least four wait.
    let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(at(port))).collect();
    for client in &mut clients {
        client.send("GET /sleep/1 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(upstream.heads().len() <= 2, "{}", upstream.heads().len());
    mounted.reconfigure(&text(port, admin, "connectionsPerWorker: 6", "responseSeconds: 1"));
    for client in &mut clients {
        assert_eq!(client.answer(true).status, 200, "there is room for all");
    }
    assert_eq!(clients[0].get("/sleep/3000", &[]).status, 504, "the new patience with the application");
    // How large a head may be is fixed for a connection; so it ends after its next answer, and the client makes a new one.
    mounted.reconfigure(&text(port, admin, "headerBytes: 1024", "idleSeconds: 1"));
    let answer = clients[1].get("/", &[]);
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(clients[1].is_closed());
    let mut fresh = Client::connect(at(port));
    assert_eq!(fresh.get("/", &[]).header("connection"), None);
    fresh.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(2000)));
    assert_eq!(fresh.answer(true).status, 431);
    let mut idle = Client::connect(at(port));
    assert_eq!(idle.get("/", &[]).status, 200);
    let since = Instant::now();
    assert!(idle.is_closed());
    assert!(since.elapsed() < PATIENCE / 2, "{:?}", since.elapsed());
}

#[test]
fn a_file_that_is_rewritten_in_place_or_renamed_over_is_taken_without_a_signal() {
    let upstream = Upstream::start();
    let proxy = Proxy::in_front_of(upstream.port);
    let file = proxy.file("proxy.yaml");
    let text = fs::read_to_string(&file).expect("readable");
    let realm = |realm: &str| {
        eventually(realm, || {
            let answer = Client::connect(proxy.address()).get("/", &[]);
            answer.header("www-authenticate").is_some_and(|value| value.contains(&format!("\"{realm}\"")))
        });
    };
    realm("Protected");
    let with = |realm: &str| text.replace("htpasswdFile: users", &format!("htpasswdFile: users, realm: {realm}"));
    fs::write(&file, with("Written")).expect("written");
    realm("Written");
    fs::write(proxy.file("new"), with("Renamed")).expect("written");
    fs::rename(proxy.file("new"), &file).expect("renamed");
    realm("Renamed");
    // Asked for by a signal.
    fs::write(&file, with("Asked")).expect("written");
    proxy.signal(Signal::SIGHUP);
    realm("Asked");
    assert_eq!(Client::connect(proxy.address()).get("/", &[ADMIN]).status, 200);
}

#[test]
fn two_listeners_of_one_port_are_counted_together_and_one_of_them_may_go() {
    let upstream = Upstream::start();
    let elsewhere = |port| open(port, upstream.port).replace("127.0.0.1", "127.0.0.2");
    let rest = |admin| format!("admin: {{port: {admin}}}");
    let mounted =
        Mounted::start(|port, admin| config(&[open(port, upstream.port), elsewhere(port)], &rest(admin)), &[]);
    let port = mounted.proxy.port;
    let other = SocketAddr::from(([127, 0, 0, 2], port));
    let mut stays = Client::connect(at(port));
    assert_eq!((stays.get("/", &[]).status, Client::connect(other).get("/", &[]).status), (200, 200));
    mounted.told(&format!("sidewall_proxy_requests_total{{listener=\"{port}\",status=\"200\"}} 2"));
    assert_eq!(mounted.metrics("sidewall_proxy_connections_total").len(), 1, "no label comes twice");
    mounted.reconfigure(&config(&[open(port, upstream.port)], &rest(mounted.admin.port())));
    assert!(TcpStream::connect(other).is_err());
    assert_eq!(stays.get("/", &[]).status, 200);
    mounted.told(&format!("sidewall_proxy_requests_total{{listener=\"{port}\",status=\"200\"}} 3"));
}
