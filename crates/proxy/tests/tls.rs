//! TLS towards the client, and certificates that change.

mod common;

use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use common::client::Client;
use common::upstream::Upstream;
use common::{ADMIN, PATIENCE, Proxy, USERS, eventually};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

struct Pair {
    cert: String,
    key: String,
}

fn pair() -> Pair {
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).expect("a certificate");
    Pair { cert: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

fn write(directory: &Path, pair: &Pair) {
    fs::write(directory.join("tls.crt"), &pair.cert).expect("written");
    fs::write(directory.join("tls.key"), &pair.key).expect("written");
}

#[test]
fn a_handshake_that_does_not_come_is_cut_off() {
    let upstream = Upstream::start();
    let made = pair();
    let listener = "tls: {certFile: tls.crt, keyFile: tls.key}\n  anonymous: true";
    let proxy =
        Proxy::with(upstream.port, listener, "timeouts: {headerSeconds: 1}", |directory| write(directory, &made));
    let mut silent = Client::connect(proxy.address());
    assert!(silent.is_closed());
    let lines = proxy.lines(2);
    // The probe of the test's own start closed its connection in the middle of nothing, which is a line too.
    assert!(lines.iter().any(|line| line["error"] == "the TLS handshake did not come to its end in time"), "{lines:?}");
}

fn proxy(upstream: u16, min_version: &str, files: impl Fn(&Path)) -> Proxy {
    let listener = format!(
        "tls: {{certFile: tls.crt, keyFile: tls.key, minVersion: \"{min_version}\"}}\n  \
         authentication: [{{basic: {{htpasswdFile: users}}}}]"
    );
    Proxy::with(upstream, &listener, "", |directory| {
        fs::write(directory.join("users"), USERS).expect("written");
        files(directory);
    })
}

/// Connects as a client that trusts this certificate alone.
fn connect(
    proxy: &Proxy,
    trusted: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> io::Result<Client<StreamOwned<ClientConnection, TcpStream>>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).expect("PEM")).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("shop.example").expect("a name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = TcpStream::connect(proxy.address())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    assert_eq!(connection.alpn_protocol(), Some(&b"http/1.1"[..]));
    Ok(Client::over(StreamOwned::new(connection, stream)))
}

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
const OLD: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];

#[test]
fn requests_come_through_tls_and_the_application_is_told() {
    let upstream = Upstream::start();
    let made = pair();
    let proxy = proxy(upstream.port, "1.2", |directory| write(directory, &made));
    for versions in [BOTH, OLD] {
        let mut client = connect(&proxy, &made.cert, versions).expect("a handshake");
        assert_eq!(client.get("/", &[]).status, 401);
        let seen = client.get("/head", &[ADMIN]);
        assert!(seen.text().contains("x-forwarded-proto: https\r\n"), "{}", seen.text());
    }
}

#[test]
fn older_versions_than_the_least_and_plain_text_are_refused() {
    let upstream = Upstream::start();
    let made = pair();
    let proxy = proxy(upstream.port, "1.3", |directory| write(directory, &made));
    assert!(connect(&proxy, &made.cert, OLD).is_err());
    assert!(connect(&proxy, &made.cert, BOTH).is_ok());
    let mut plain = Client::connect(proxy.address());
    plain.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n\r\n"));
    let mut answer = Vec::new();
    // A TLS alert, or a reset.
    let _ = io::Read::read_to_end(&mut plain.reader, &mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert!(upstream.heads().is_empty());
}

#[test]
fn a_new_certificate_is_taken_and_a_bad_one_is_not() {
    let upstream = Upstream::start();
    let (first, second) = (pair(), pair());
    // As a mounted Secret has it: the names are links through a directory link, which is swapped.
    let proxy = proxy(upstream.port, "1.2", |directory| {
        fs::create_dir(directory.join("v1")).expect("made");
        write(&directory.join("v1"), &first);
        symlink("v1", directory.join("..data")).expect("linked");
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), directory.join(name)).expect("linked");
        }
    });
    let swap_to = |version: &str, made: &Pair| {
        fs::create_dir(proxy.file(version)).expect("made");
        write(&proxy.file(version), made);
        symlink(version, proxy.file("..tmp")).expect("linked");
        fs::rename(proxy.file("..tmp"), proxy.file("..data")).expect("swapped");
    };
    let mut before = connect(&proxy, &first.cert, BOTH).expect("a handshake");

    swap_to("v2", &Pair { cert: second.cert.clone(), key: first.key.clone() });
    eventually("the bad pair is refused", || proxy.errors().contains("does not belong to the certificate"));
    assert!(connect(&proxy, &first.cert, BOTH).is_ok(), "the old one stays");

    swap_to("v3", &second);
    eventually("the new certificate is served", || connect(&proxy, &second.cert, BOTH).is_ok());
    assert!(connect(&proxy, &first.cert, BOTH).is_err());
    assert_eq!(before.get("/", &[ADMIN]).status, 200, "connections of before go on");
    assert!(!proxy.errors().contains("PRIVATE KEY"), "{}", proxy.errors());
}
