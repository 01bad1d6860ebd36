//! A proxy with an admin address and a probe port, and an application whose answers a test writes itself.

use std::cell::Cell;
use std::fs;
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::client::{Answer, Client};
use super::{Proxy, USERS, free_port};

/// A proxy on 127.0.0.1 with both, in front of an application, with `admin:admin`.
pub struct Sided {
    pub proxy: Proxy,
    pub admin: SocketAddr,
    pub probes: SocketAddr,
}

impl Sided {
    /// With these targets, as a YAML list, and these lines beside them.
    pub fn start(application: u16, targets: &str, rest: &str) -> Self {
        let (admin, probes) = (Cell::new(0), Cell::new(0));
        let text = |port| {
            admin.set(free_port());
            probes.set(free_port());
            format!(
                "listeners:\n- port: {port}\n  address: 127.0.0.1\n  forward: {{port: {application}}}\n  \
                 authentication: [{{basic: {{htpasswdFile: users}}}}]\n\
                 admin: {{port: {}}}\nprobes: {{address: 127.0.0.1, port: {}, targets: {targets}}}\n{rest}\n",
                admin.get(),
                probes.get()
            )
        };
        let proxy = Proxy::start(text, |directory| fs::write(directory.join("users"), USERS).expect("written"));
        let at = |port: &Cell<u16>| SocketAddr::from((Ipv4Addr::LOCALHOST, port.get()));
        Self { proxy, admin: at(&admin), probes: at(&probes) }
    }

    /// Asks the probe port as the kubelet does.
    pub fn probe(&self, path: &str) -> Answer {
        self.try_probe(path).expect("an answer")
    }

    /// The same, where there may be no answer.
    pub fn try_probe(&self, path: &str) -> Option<Answer> {
        let mut client = Client::connect(self.probes);
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: kube-probe/1.33\r\nX-Evil: 1\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n",
            self.probes
        ));
        client.try_answer(true)
    }

    /// Asks the admin address.
    pub fn ask(&self, path: &str) -> Answer {
        Client::connect(self.admin).get(path, &[])
    }

    /// The metrics' lines that begin so.
    pub fn metrics(&self, beginning: &str) -> Vec<String> {
        let answer = self.ask("/metrics");
        assert_eq!(answer.status, 200);
        let text = answer.text().to_owned();
        assert!(text.ends_with("# EOF\n"), "{text}");
        text.lines().filter(|line| line.starts_with(beginning)).map(str::to_owned).collect()
    }
}

/// An application: one request a connection, answered by the test. Its threads end with the test's process.
pub struct App {
    pub port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl App {
    /// Answers a request, by its head, with these bytes.
    pub fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), answer)
    }

    pub fn on(address: SocketAddr, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&heads), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { port, heads }
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("unpoisoned").clone()
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<String>>, answer: &dyn Fn(&str) -> String) {
    let Some(head) = super::upstream::read_head(&mut BufReader::new(&stream)) else { return };
    if head.is_empty() {
        return;
    }
    seen.lock().expect("unpoisoned").push(head.clone());
    // The proxy may have gone.
    let _ = stream.write_all(answer(&head).as_bytes());
}
