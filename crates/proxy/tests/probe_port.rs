//! The probe port, with real applications behind it: what reaches them, and what comes out.

mod common;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::client::Client;
use common::side::{App, Sided};
use common::{eventually, free_port};
use http::{HeaderMap, Response, StatusCode};
use rustls::pki_types::PrivatePkcs8KeyDer;

const KEY: &str = "abcdefghijklmnopqrstuvwx";

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nX-Secret: s3cret\r\nServer: app\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn path_of(head: &str) -> &str {
    head.split(' ').nth(1).expect("a request line")
}

/// One target of the container `app`.
fn target(occasion: &str, rest: &str) -> String {
    format!("{{container: app, occasion: {occasion}, {rest}}}")
}

#[test]
fn the_application_hears_the_pods_probe_and_the_asker_nothing_but_a_status() {
    let app = App::start(|_| ok("the inside of the application"));
    let port = app.port;
    let targets = format!(
        "[{}, {}]",
        target("liveness", &format!("httpGet: {{port: {port}}}")),
        target(
            "readiness",
            &format!(
                "httpGet: {{port: {port}, path: 'ready?deep=a b', httpHeaders: [{{name: Host, value: shop.example}}, \
                 {{name: X-Token, value: t0p}}, {{name: Accept, value: ''}}, {{name: Content-Length, value: '9'}}]}}"
            )
        ),
    );
    let sided = Sided::start(port, &targets, "");
    for path in ["/probe/app/liveness", "/probe/app/readiness"] {
        let answer = sided.probe(path);
        assert_eq!((answer.status, answer.text()), (200, ""), "{path}");
        let names: Vec<String> = answer.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        assert_eq!(names, ["connection", "content-length"], "nothing of the application's");
    }
    let heads = app.heads();
    assert_eq!(
        heads[0],
        format!(
            "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: kube-probe/1.33\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n"
        )
    );
    let second = heads[1].to_ascii_lowercase();
    assert!(second.starts_with("get /ready?deep=a%20b http/1.1\r\n"), "{second}");
    assert!(second.contains("\r\nhost: shop.example\r\n") && second.contains("\r\nx-token: t0p\r\n"), "{second}");
    assert!(!second.contains("accept") && !second.contains("evil") && !second.contains("content-length"), "{second}");
    let told = sided.metrics("sidewall_proxy_probes_total");
    assert!(
        told.iter().any(|line| line.contains("container=\"app\",occasion=\"liveness\",outcome=\"well\"} 1")),
        "{told:?}"
    );
}

#[test]
fn only_the_configured_paths_are_known() {
    let app = App::start(|_| ok(""));
    let http = format!("httpGet: {{port: {}}}", app.port);
    let targets = format!("[{}, {}]", target("liveness", &http), target("preStop", &format!("key: {KEY}, {http}")));
    let sided = Sided::start(app.port, &targets, "");
    let wrong = KEY.replace('x', "y");
    for path in [
        "/",
        "/metrics",
        "/probe/app",
        "/probe/app/readiness",
        "/probe/app/liveness/",
        "/probe/app/../app/liveness",
        "/probe/app/%6civeness",
        "/lifecycle/app/preStop",
        &format!("/lifecycle/app/preStop/{wrong}"),
        &format!("/probe/app/preStop/{KEY}"),
    ] {
        assert_eq!(sided.probe(path).status, 404, "{path}");
    }
    let mut client = Client::connect(sided.probes);
    let answer = client.exchange("POST /probe/app/liveness HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((answer.status, answer.text()), (405, ""));
    assert!(client.is_closed(), "one request a connection");
    assert!(app.heads().is_empty(), "{:?}", app.heads());
    assert_eq!(sided.probe("/probe/app/liveness?from=anywhere").status, 200);
    assert!(app.heads()[0].starts_with("GET / "), "the asker's query stays outside");
    for path in ["/healthz", "/readyz"] {
        let answer = sided.probe(path);
        assert_eq!((answer.status, answer.text()), (200, ""));
    }
}

#[test]
fn from_200_to_399_is_well_and_the_status_itself_stays_inside() {
    let app = App::start(|head| {
        let status = path_of(head).trim_start_matches('/').to_owned();
        match status.as_str() {
            "broken" => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_owned(),
            "nonsense" => "hello\r\n\r\n".to_owned(),
            "long" => format!("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{}", "x".repeat(20_000)),
            "silent" => String::new(),
            status => format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        }
    });
    let cases = [
        ("200", 200),
        ("204", 200),
        ("304", 200),
        ("399", 200),
        ("301", 200),
        ("400", 503),
        ("401", 503),
        ("500", 503),
        ("broken", 503),
        ("nonsense", 503),
        ("silent", 503),
        ("long", 200),
    ];
    let targets: Vec<String> = cases
        .iter()
        .map(|(path, _)| {
            format!("{{container: c-{path}, occasion: liveness, httpGet: {{port: {}, path: /{path}}}}}", app.port)
        })
        .collect();
    let sided = Sided::start(app.port, &format!("[{}]", targets.join(", ")), "");
    for (path, expected) in cases {
        assert_eq!(sided.probe(&format!("/probe/c-{path}/liveness")).status, expected, "{path}");
    }
}

#[test]
fn redirections_are_followed_to_the_same_host_and_port_ten_requests_in_all() {
    let other = App::start(|_| ok(""));
    let foreign = other.port;
    let app = App::start(move |head| {
        let to = |location: &str| format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let path = path_of(head).to_owned();
        let host = head.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap_or_default().to_owned();
        match path.as_str() {
            "/relative" => to("bad"),
            "/absolute" => to(&format!("http://{host}/bad")),
            "/bad" => "HTTP/1.1 500 Bad\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "/circle" => to("/circle"),
            "/neighbour" => to(&format!("http://127.0.0.1:{foreign}/")),
            "/world" => to("https://login.example/"),
            _ => ok(""),
        }
    });
    let paths = ["relative", "absolute", "circle", "neighbour", "world"];
    let targets: Vec<String> = paths
        .iter()
        .map(|path| {
            format!(
                "{{container: {path}, occasion: startup, timeoutSeconds: 20, httpGet: {{port: {}, path: /{path}}}}}",
                app.port
            )
        })
        .collect();
    let sided = Sided::start(app.port, &format!("[{}]", targets.join(", ")), "");
    let asked = |path: &str| sided.probe(&format!("/probe/{path}/startup")).status;
    assert_eq!((asked("relative"), asked("absolute")), (503, 503), "both led to what is not well");
    let before = app.heads().len();
    assert_eq!(asked("circle"), 503);
    assert_eq!(app.heads().len() - before, 10);
    assert_eq!((asked("neighbour"), asked("world")), (200, 200), "answers, as they are to the kubelet");
    assert!(other.heads().is_empty(), "nobody is sent to the neighbours");
}

#[test]
fn a_slow_application_has_the_probes_own_time_and_is_asked_once_at_a_time() {
    let app = App::start(|head| {
        sleep(if path_of(head) == "/slow" { Duration::from_secs(30) } else { Duration::from_millis(800) });
        ok("")
    });
    let port = app.port;
    let targets = format!(
        "[{}, {}]",
        target("liveness", &format!("httpGet: {{port: {port}, path: /slow}}, timeoutSeconds: 1")),
        target("readiness", &format!("httpGet: {{port: {port}, path: /fair}}, timeoutSeconds: 20"))
    );
    let sided = Arc::new(Sided::start(port, &targets, ""));
    let since = Instant::now();
    assert_eq!(sided.probe("/probe/app/liveness").status, 503);
    assert!(since.elapsed() >= Duration::from_secs(1) && since.elapsed() < Duration::from_secs(20), "{since:?}");
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let sided = Arc::clone(&sided);
            thread::spawn(move || sided.probe("/probe/app/readiness").status)
        })
        .collect();
    for asker in askers {
        assert_eq!(asker.join().expect("asked"), 200);
    }
    let asked = app.heads().iter().filter(|head| path_of(head) == "/fair").count();
    assert!(asked < 8, "{asked} requests for eight at once");
    assert_eq!(sided.probe("/probe/app/readiness").status, 200);
    let again = app.heads().iter().filter(|head| path_of(head) == "/fair").count();
    assert_eq!(again, asked + 1, "an answer is not kept");
}

#[test]
fn a_hook_is_called_once_for_each_call_and_silence_is_passed_on_as_silence() {
    let app = App::start(|head| match path_of(head) {
        "/stop" => "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno".to_owned(),
        _ => ok(""),
    });
    let dead = free_port();
    let targets = format!(
        "[{}, {}, {{container: dead, occasion: preStop, key: {KEY}, httpGet: {{port: {dead}}}}}]",
        target("postStart", &format!("key: {KEY}, httpGet: {{port: {}, path: /start}}", app.port)),
        target("preStop", &format!("key: {KEY}, httpGet: {{port: {}, path: /stop}}", app.port)),
    );
    let sided = Sided::start(app.port, &targets, "");
    for _ in 0..2 {
        assert_eq!(sided.probe(&format!("/lifecycle/app/postStart/{KEY}")).status, 200);
    }
    assert_eq!(sided.probe(&format!("/lifecycle/app/preStop/{KEY}")).status, 503);
    assert_eq!(app.heads().len(), 3);
    assert!(sided.try_probe(&format!("/lifecycle/dead/preStop/{KEY}")).is_none(), "no answer, as from the application");
    let text = format!("{}{}{}", sided.ask("/metrics").text(), sided.proxy.errors(), sided.proxy.log());
    assert!(!text.contains(KEY), "the key is told to nobody");
}

#[test]
fn a_tcp_probe_connects() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let open = listener.local_addr().expect("its address").port();
    let targets = format!(
        "[{}, {}]",
        target("liveness", &format!("tcpSocket: {{port: {open}}}")),
        target("readiness", &format!("tcpSocket: {{port: {}}}", free_port()))
    );
    let sided = Sided::start(open, &targets, "");
    assert_eq!(sided.probe("/probe/app/liveness").status, 200);
    assert_eq!(sided.probe("/probe/app/readiness").status, 503);
}

#[test]
fn a_tls_probe_asks_for_no_certificate() {
    let made = rcgen::generate_simple_self_signed(vec!["nobody.example".to_owned()]).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("a pair");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let config = Arc::new(config);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut stream = std::io::BufReader::new(rustls::StreamOwned::new(connection, stream));
            if common::upstream::read_head(&mut stream).is_some() {
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                let _ = std::io::Write::write_all(stream.get_mut(), answer);
                stream.get_mut().conn.send_close_notify();
                let _ = std::io::Write::flush(stream.get_mut());
            }
        }
    });
    let plain = App::start(|_| ok(""));
    let https = |port: u16| format!("httpGet: {{port: {port}, scheme: HTTPS}}, timeoutSeconds: 20");
    let targets = format!("[{}, {}]", target("liveness", &https(port)), target("readiness", &https(plain.port)));
    let sided = Sided::start(port, &targets, "");
    assert_eq!(sided.probe("/probe/app/liveness").status, 200);
    assert_eq!(sided.probe("/probe/app/readiness").status, 503, "no TLS there");
}

/// A gRPC server that answers health checks: of the server it says that it serves, of `down` that it does not, of `odd`
/// nonsense, of `slow` nothing, and others it does not know.
fn grpc_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    listener.set_nonblocking(true).expect("not blocking");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(grpc_answer(request, respond));
                    }
                });
            }
        });
    });
    port
}

async fn grpc_answer(request: http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["user-agent"], "kube-probe/1.33");
    let mut body = request.into_body();
    let mut message = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        message.extend_from_slice(&piece);
    }
    let service = String::from_utf8(message.get(7..).unwrap_or_default().to_vec()).expect("a name");
    if service == "slow" {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let answer = match service.as_str() {
        "" => Some(&[0, 0, 0, 0, 2, 8, 1][..]),
        "down" => Some(&[0, 0, 0, 0, 2, 8, 2][..]),
        "odd" => Some(&[0, 0, 0, 0, 9, 8][..]),
        _ => None,
    };
    let head = Response::builder().status(StatusCode::OK).header("content-type", "application/grpc");
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", if answer.is_some() { "0" } else { "5" }.parse().expect("a value"));
    let Some(answer) = answer else {
        let head = head.header("grpc-status", "5").body(()).expect("a head");
        let _ = respond.send_response(head, true);
        return;
    };
    let mut stream = respond.send_response(head.body(()).expect("a head"), false).expect("sent");
    stream.send_data(Bytes::copy_from_slice(answer), false).expect("sent");
    stream.send_trailers(trailers).expect("sent");
}

#[test]
fn a_grpc_probe_asks_after_the_service() {
    let port = grpc_server();
    let plain = App::start(|_| ok(""));
    let target = |container: &str, port: u16, service: &str| {
        format!(
            "{{container: {container}, occasion: liveness, timeoutSeconds: 2, grpc: {{port: {port}, service: '{service}'}}}}"
        )
    };
    let targets = [
        target("whole", port, ""),
        target("down", port, "down"),
        target("odd", port, "odd"),
        target("unknown", port, "nobody"),
        target("slow", port, "slow"),
        target("plain", plain.port, ""),
        target("none", free_port(), ""),
    ];
    let sided = Sided::start(port, &format!("[{}]", targets.join(", ")), "");
    assert_eq!(sided.probe("/probe/whole/liveness").status, 200);
    for container in ["down", "odd", "unknown", "slow", "plain", "none"] {
        assert_eq!(sided.probe(&format!("/probe/{container}/liveness")).status, 503, "{container}");
    }
    let told = sided.metrics("sidewall_proxy_probes_total");
    for row in
        ["down\",occasion=\"liveness\",outcome=\"unwell\"} 1", "odd\",occasion=\"liveness\",outcome=\"silent\"} 1"]
    {
        assert!(told.iter().any(|line| line.contains(row)), "{row}: {told:?}");
    }
}

#[test]
fn an_application_on_the_pods_own_address_is_found_but_never_a_listener_in_its_stead() {
    // 127.0.0.2 stands for the pod's address: the kubelet connects there, and nothing listens on 127.0.0.1.
    let own = Ipv4Addr::new(127, 0, 0, 2);
    let app = App::on(SocketAddr::from((own, 0)), |_| ok(""));
    let (probes, listener) = (free_port(), free_port());
    let directory = tempfile::tempdir().expect("a directory");
    let text = format!(
        "listeners: [{{port: {listener}, address: 127.0.0.2, anonymous: true, forward: {{port: {listener}}}}}]\n\
         probes: {{address: 127.0.0.2, port: {probes}, targets: [{}, {}]}}\n",
        target("liveness", &format!("tcpSocket: {{port: {}}}", app.port)),
        target("readiness", &format!("tcpSocket: {{port: {listener}}}")),
    );
    std::fs::write(directory.path().join("proxy.yaml"), text).expect("written");
    let mut child = common::spawn(directory.path(), &["--workers", "1"]);
    let found = std::panic::catch_unwind(|| {
        let up = || std::net::TcpStream::connect((own, probes)).is_ok();
        eventually("it comes up", up);
        let ask = |path: &str| Client::connect((own, probes).into()).get(path, &[]).status;
        (ask("/probe/app/liveness"), ask("/probe/app/readiness"))
    });
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(found.expect("it was asked"), (200, 503), "the proxy's own listener is not the application");
}

#[test]
fn silence_and_crowds_at_the_probe_port_end_soon() {
    let app = App::start(|_| ok(""));
    let target = target("liveness", &format!("httpGet: {{port: {}}}", app.port));
    let sided = Sided::start(app.port, &format!("[{target}]"), "");
    let mut silent: Vec<Client> = (0..64).map(|_| Client::connect(sided.probes)).collect();
    // All places of this client are taken, so the next is turned away at once.
    eventually("one too many is turned away", || {
        let mut client = Client::connect(sided.probes);
        // It may be closed already.
        let _ = client.try_send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        let since = Instant::now();
        client.try_answer(true).is_none() && since.elapsed() < Duration::from_secs(1)
    });
    let since = Instant::now();
    for client in &mut silent {
        assert!(client.try_answer(true).is_none_or(|answer| answer.status == 408));
    }
    assert!(since.elapsed() < Duration::from_secs(20), "silence is not waited for");
    eventually("there are places again", || {
        sided.try_probe("/probe/app/liveness").is_some_and(|answer| answer.status == 200)
    });
}
