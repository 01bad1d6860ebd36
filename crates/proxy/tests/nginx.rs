//! In front of a real nginx (Debian's nginx-light), run as a child with a directory of its own.

mod common;

use std::fs;
use std::process::{Child, Command, Stdio};

use common::client::Client;
use common::{ADMIN, Proxy, eventually, free_port};
use tempfile::TempDir;

struct Nginx {
    port: u16,
    directory: TempDir,
    child: Child,
}

impl Nginx {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let root = directory.path().display();
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {root}/{name};\n"))
            .collect();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {root}/pid;\nerror_log {root}/error.log;\nevents {{}}\n\
             http {{\n{paths}access_log off;\nkeepalive_requests 7;\n\
             server {{\nlisten 127.0.0.1:{port};\nroot {root}/files;\n\
             location = /seen {{ default_type text/plain; return 200 \
             \"$connection_requests user=$http_x_forwarded_user auth=$http_authorization host=$http_host\"; }}\n}}\n}}\n"
        );
        fs::write(directory.path().join("nginx.conf"), configuration).expect("written");
        fs::create_dir(directory.path().join("files")).expect("made");
        let child = Command::new("nginx")
            .arg("-p")
            .arg(directory.path())
            .arg("-e")
            .arg(directory.path().join("error.log"))
            .args(["-c", "nginx.conf"])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx of nginx-light is installed");
        let nginx = Self { port, directory, child };
        eventually("nginx listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn requests_reach_nginx_with_the_identity_and_over_kept_connections() {
    let nginx = Nginx::start();
    let proxy = Proxy::in_front_of(nginx.port);
    let mut client = Client::connect(proxy.address());
    let mut counts = Vec::new();
    for _ in 0..50 {
        let answer = client.get("/seen", &[ADMIN, "X-Forwarded-User: root"]);
        assert_eq!(answer.status, 200);
        let (count, rest) = answer.text().split_once(' ').expect("a count and the rest");
        assert_eq!(rest, "user=admin auth= host=shop.example");
        counts.push(count.parse::<u32>().expect("a number"));
    }
    // nginx closes each connection after seven requests; the proxy begins a new one and nobody notices.
    assert_eq!(&counts[..9], [1, 2, 3, 4, 5, 6, 7, 1, 2]);
}

#[test]
fn files_ranges_conditions_and_errors_of_nginx_pass_unchanged() {
    let nginx = Nginx::start();
    let content: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
    fs::write(nginx.directory.path().join("files/data.bin"), &content).expect("written");
    let proxy = Proxy::in_front_of(nginx.port);
    let mut client = Client::connect(proxy.address());
    let whole = client.get("/data.bin", &[ADMIN]);
    assert_eq!(whole.status, 200);
    assert!(whole.body == content, "the file arrives as it is");
    let etag = whole.header("etag").expect("an ETag").to_owned();

    let part = client.get("/data.bin", &[ADMIN, "Range: bytes=1000-1999"]);
    assert_eq!(part.status, 206);
    assert!(part.body == content[1000..2000]);
    assert_eq!(client.get("/data.bin", &[ADMIN, &format!("If-None-Match: {etag}")]).status, 304);
    client.send(format!("HEAD /data.bin HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n\r\n"));
    assert_eq!(client.answer(false).header("content-length"), Some("3000000"));
    assert_eq!(client.get("/none", &[ADMIN]).status, 404);
    let post = format!("POST /data.bin HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.exchange(&post).status, 405);
    assert_eq!(client.get("/seen", &[ADMIN]).status, 200);
}
