//! The configuration and the certificate change again and again while requests run: none of them may fail.

mod common;

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::client::Client;
use common::mounted::Mounted;
use common::upstream::Upstream;
use common::{ADMIN, PATIENCE, USERS, eventually, free_port};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const RELOADS: usize = 50;
/// Clients of each kind.
const CLIENTS: usize = 3;

struct Pair {
    cert: String,
    key: String,
}

fn pair() -> Pair {
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).expect("a certificate");
    Pair { cert: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

fn der(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("PEM")
}

/// Both versions of the configuration, which differ in whatever may differ without anything being refused.
fn text(ports: [u16; 4], application: u16, second: bool) -> String {
    let [plain, tls, admin, extra] = ports;
    let (users, realm) = if second { ("more-users", "Second") } else { ("users", "First") };
    let listener = |port: u16, tls: &str| {
        format!(
            "- port: {port}\n  address: 127.0.0.1\n  forward: {{port: {application}}}\n{tls}  \
             authentication: [{{basic: {{htpasswdFile: secrets/{users}, realm: {realm}}}}}]\n"
        )
    };
    let version = if second { "1.3" } else { "1.2" };
    let tls = listener(
        tls,
        &format!("  tls: {{certFile: secrets/tls.crt, keyFile: secrets/tls.key, minVersion: \"{version}\"}}\n"),
    );
    let rest = if second {
        format!(
            "{}limits: {{headerBytes: 16384, connectionsPerWorker: 100, rememberedCredentials: 8, passwordChecks: 1, \
             idleUpstreamPerWorker: 1}}\ntimeouts: {{idleSeconds: 60, credentialSeconds: 60}}\n",
            listener(extra, "")
        )
    } else {
        String::new()
    };
    // The order of the listeners changes, too.
    let plain = listener(plain, "");
    let both = if second { [tls, plain] } else { [plain, tls] };
    format!("listeners:\n{}{rest}admin: {{port: {admin}}}\n", both.concat())
}

/// Stops the clients, also when the test fails: they are waited for.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Asks as long as it may on the same connection, and then on the next.
fn ask_on<S: Read + Write>(connect: impl Fn() -> Client<S>, keep: bool, stop: &AtomicBool, asked: &AtomicU64) {
    while !stop.load(Ordering::SeqCst) {
        let mut client = connect();
        loop {
            let close: &[&str] = if keep { &[ADMIN] } else { &[ADMIN, "Connection: close"] };
            let answer = client.get("/", close);
            assert_eq!((answer.status, answer.text()), (200, "hello"));
            asked.fetch_add(1, Ordering::SeqCst);
            if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) || !keep {
                break;
            }
            if stop.load(Ordering::SeqCst) {
                return;
            }
        }
    }
}

#[test]
fn fifty_reloads_and_new_certificates_fail_no_request() {
    let upstream = Upstream::start();
    let pairs = [pair(), pair(), pair()];
    let both = format!("{USERS}other:{{SHA}}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\n");
    let secrets = |pair: &Pair| {
        [("users", USERS), ("more-users", both.as_str())]
            .into_iter()
            .map(|(name, text)| (name, text.to_owned()))
            .chain([("tls.crt", pair.cert.clone()), ("tls.key", pair.key.clone())])
            .collect::<Vec<_>>()
    };
    let first = secrets(&pairs[0]);
    let first: Vec<(&str, &str)> = first.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let (tls, extra) = (Cell::new(0), Cell::new(0));
    let mounted = Mounted::start(
        |port, admin| {
            tls.set(free_port());
            extra.set(free_port());
            text([port, tls.get(), admin, extra.get()], upstream.port, false)
        },
        &first,
    );
    let (plain, tls) = (mounted.proxy.port, tls.get());
    let ports = [plain, tls, mounted.admin.port(), extra.get()];
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut roots = RootCertStore::empty();
    for pair in &pairs {
        roots.add(der(pair)).expect("a root");
    }
    let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Arc::new(client);
    let over_tls = || {
        let name = ServerName::try_from("shop.example").expect("a name");
        let mut connection = ClientConnection::new(Arc::clone(&client), name).expect("a client");
        let mut stream = TcpStream::connect(at(tls)).expect("the proxy takes connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).expect("a handshake");
        }
        Client::over(StreamOwned::new(connection, stream))
    };
    let served = || {
        let client = over_tls();
        let certificates = client.reader.get_ref().conn.peer_certificates().map(<[_]>::to_vec);
        certificates.and_then(|chain| chain.into_iter().next()).expect("a certificate")
    };

    let threads = mounted.proxy.threads();
    let stop = AtomicBool::new(false);
    let asked: [AtomicU64; 4] = Default::default();
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        for _ in 0..CLIENTS {
            scope.spawn(|| ask_on(|| Client::connect(at(plain)), true, &stop, &asked[0]));
            scope.spawn(|| ask_on(|| Client::connect(at(plain)), false, &stop, &asked[1]));
            scope.spawn(|| ask_on(over_tls, true, &stop, &asked[2]));
            scope.spawn(|| ask_on(over_tls, false, &stop, &asked[3]));
        }
        for reload in 0..RELOADS {
            mounted.reconfigure(&text(ports, upstream.port, reload % 2 == 0));
            // The certificate is renewed twice, once just before a new configuration and once just after one.
            if reload == RELOADS / 3 || reload == 2 * RELOADS / 3 {
                let next = if reload == RELOADS / 3 { &pairs[1] } else { &pairs[2] };
                let files = secrets(next);
                let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
                mounted.swap("secrets", &files);
                if next.cert == pairs[1].cert {
                    eventually("the new certificate is served", || served() == der(next));
                }
            }
        }
        eventually("the newest certificate is served", || served() == der(&pairs[2]));
        // Each kind of client has been there all the time, and has gone on after the last reload.
        let enough = |count: &AtomicU64| count.load(Ordering::SeqCst) > RELOADS as u64;
        eventually("all have asked often", || asked.iter().all(enough));
        let before: Vec<u64> = asked.iter().map(|count| count.load(Ordering::SeqCst)).collect();
        eventually("all go on", || asked.iter().zip(&before).all(|(now, then)| now.load(Ordering::SeqCst) > then + 5));
    });

    eventually("what belonged to old versions has gone", || mounted.proxy.threads() == threads);
    let asked: Vec<u64> = asked.iter().map(|count| count.load(Ordering::SeqCst)).collect();
    mounted.told(&format!("sidewall_proxy_reloads_total{{what=\"configuration\",outcome=\"applied\"}} {RELOADS}"));
    // Every request has been counted and logged at its listener, over all versions, and none otherwise.
    for (port, count) in [(plain, asked[0] + asked[1]), (tls, asked[2] + asked[3])] {
        let row = format!("sidewall_proxy_requests_total{{listener=\"{port}\",status=");
        let expected = [format!("{row}\"200\"}} {count}")];
        eventually(&expected[0], || mounted.metrics(&row) == expected);
        let label = format!("\"listener\":{port},");
        let mut lines = 0;
        let of = |line: &&str| line.contains(&label) && line.contains("\"path\":\"/\"");
        eventually(&format!("{count} lines of {port}"), || {
            lines = mounted.proxy.log().lines().filter(of).count() as u64;
            lines >= count
        });
        assert_eq!(lines, count, "lines of {port}");
    }
    let log = mounted.proxy.log();
    let failed: Vec<&str> =
        log.lines().filter(|line| line.contains("\"error\"") || !line.contains("\"status\":200")).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let errors = mounted.proxy.errors();
    assert!(!errors.contains("ERROR") && !errors.contains("WARN"), "{errors}");
    println!("{asked:?} requests, {} connections to the application", upstream.connections());
}
