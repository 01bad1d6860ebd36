//! Clients of HTTPS that go on asking, and count what fails.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Scope, sleep};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sidewall_netns::NetNs;

/// How long a client waits for anything.
const LIMIT: Duration = Duration::from_secs(5);
/// What a client waits between two requests.
const PAUSE: Duration = Duration::from_millis(30);

type Connection = StreamOwned<ClientConnection, TcpStream>;

/// Clients of one server that believe one authority.
pub struct Clients {
    at: SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    asked: AtomicUsize,
    failed: Mutex<Vec<String>>,
    seen: Mutex<BTreeSet<Vec<u8>>>,
    end: AtomicBool,
}

impl Clients {
    /// For the server at an address, which they call by a name. `authority` is PEM.
    pub fn new(at: SocketAddr, name: &str, authority: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Self {
            at,
            name: ServerName::try_from(name.to_owned()).unwrap(),
            config: Arc::new(config.with_root_certificates(roots).with_no_client_auth()),
            asked: AtomicUsize::new(0),
            failed: Mutex::default(),
            seen: Mutex::default(),
            end: AtomicBool::new(false),
        }
    }

    /// Starts one that asks over a new connection each time, and one that keeps its connection, in a namespace.
    pub fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, netns: &'scope NetNs) {
        for keeps in [false, true] {
            scope.spawn(move || netns.run(|| self.go_on(keeps)).unwrap());
        }
    }

    /// Has them end.
    pub fn end(&self) {
        self.end.store(true, Ordering::Relaxed);
    }

    /// How many requests were answered, and why others were not.
    pub fn counted(&self) -> (usize, Vec<String>) {
        (self.asked.load(Ordering::Relaxed), self.failed.lock().unwrap().clone())
    }

    /// How many different certificates were seen.
    pub fn certificates(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn go_on(&self, keeps: bool) {
        let mut kept: Option<Connection> = None;
        while !self.end.load(Ordering::Relaxed) {
            match self.ask(kept.take()) {
                Ok((connection, stays)) => {
                    self.asked.fetch_add(1, Ordering::Relaxed);
                    kept = Some(connection).filter(|_| keeps && stays);
                }
                Err(error) => self.failed.lock().unwrap().push(format!("keeps: {keeps}: {error}")),
            }
            sleep(PAUSE);
        }
    }

    fn connect(&self) -> Result<Connection, String> {
        let text = |error: std::io::Error| format!("connect: {error}");
        let socket = TcpStream::connect_timeout(&self.at, LIMIT).map_err(text)?;
        socket.set_read_timeout(Some(LIMIT)).map_err(text)?;
        let mut client =
            ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(|e| e.to_string())?;
        let mut connection = socket;
        while client.is_handshaking() {
            client.complete_io(&mut connection).map_err(|error| format!("handshake: {error}"))?;
        }
        let seen = client.peer_certificates().and_then(|chain| chain.first()).ok_or("no certificate")?;
        self.seen.lock().unwrap().insert(seen.to_vec());
        Ok(StreamOwned::new(client, connection))
    }

    /// Asks once; whether the connection may be asked again.
    fn ask(&self, kept: Option<Connection>) -> Result<(Connection, bool), String> {
        let mut connection = match kept {
            Some(kept) => kept,
            None => self.connect()?,
        };
        connection.write_all(b"GET /index.html HTTP/1.1\r\nhost: web\r\n\r\n").map_err(|e| format!("write: {e}"))?;
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        loop {
            if let Some(head) = answer.windows(4).position(|at| at == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
                let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
                let length: usize =
                    field("content-length:").and_then(|l| l.parse().ok()).ok_or_else(|| text.clone())?;
                if answer.len() == head + 4 + length {
                    let good = text.starts_with("http/1.1 200 ") && answer.ends_with(b"Hello World!\n");
                    let stays = field("connection:") != Some("close");
                    return if good { Ok((connection, stays)) } else { Err(text) };
                }
            }
            match connection.read(&mut part) {
                Ok(0) => return Err(format!("ended after {} octets", answer.len())),
                Ok(read) => answer.extend_from_slice(&part[..read]),
                Err(error) => return Err(format!("read after {} octets: {error}", answer.len())),
            }
        }
    }
}
