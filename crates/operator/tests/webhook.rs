//! The webhooks' server over real connections: what an API server asks, and what it must survive.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use sidewall_operator::admission::review::BODY_MAX;
use sidewall_operator::admission::webhook::{Answers, NoAnswer, config, serve, serve_for};
use sidewall_operator::certificates::Store;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_rustls::client::TlsStream;

const NAME: &str = "operator.system.svc";

/// Answers with what it was asked, at one path.
struct Echo;

impl Answers for Echo {
    async fn answer(&self, path: &str, body: &[u8]) -> Result<Vec<u8>, NoAnswer> {
        match path {
            "/mutate" if body == b"{" => Err(NoAnswer::Unintelligible("line 1, column 1".to_owned())),
            "/mutate" if body == b"later" => Err(NoAnswer::NotNow("starting".to_owned())),
            "/mutate" => Ok(body.to_vec()),
            _ => Err(NoAnswer::Nobody),
        }
    }
}

struct Served {
    at: SocketAddr,
    store: Store,
    tls: watch::Sender<Arc<rustls::ServerConfig>>,
    stop: Option<oneshot::Sender<()>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Served {
    async fn start() -> Self {
        Self::begin(None).await
    }

    /// With connections of that life, or of the usual one.
    async fn begin(life: Option<Duration>) -> Self {
        let store = Store::new(&[NAME.to_owned()], SystemTime::now()).unwrap();
        let (certificate, key) = store.serving();
        let (tls, current) = watch::channel(config(certificate, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (answers, stopped) = (Arc::new(Echo), async { drop(stopped.await) });
        let serving = match life {
            None => tokio::spawn(serve(listener, current, answers, stopped)),
            Some(life) => tokio::spawn(serve_for(life, listener, current, answers, stopped)),
        };
        Self { at, store, tls, stop: Some(stop), serving }
    }

    /// Connects as an API server does that speaks this protocol alone.
    async fn connect(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(self.store.authorities().as_bytes()) {
            roots.add(authority.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = vec![protocol.to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let stream = TcpStream::connect(self.at).await.unwrap();
        connector.connect(ServerName::try_from(NAME).unwrap(), stream).await.unwrap()
    }

    async fn http1(&self) -> hyper::client::conn::http1::SendRequest<Full<Bytes>> {
        let stream = TokioIo::new(self.connect(b"http/1.1").await);
        let (sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn http2(&self) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
        let stream = TokioIo::new(self.connect(b"h2").await);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

fn request(method: Method, path: &str, kind: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let uri = format!("https://{NAME}{path}");
    Request::builder().method(method).uri(uri).header("content-type", kind).body(Full::new(body.into())).unwrap()
}

fn review(body: &str) -> Request<Full<Bytes>> {
    request(Method::POST, "/mutate", "application/json; charset=utf-8", body.to_owned())
}

#[tokio::test]
async fn a_review_is_answered_over_both_protocols_and_all_else_is_refused() {
    let served = Served::start().await;
    let (mut one, mut two) = (served.http1().await, served.http2().await);
    let json = "application/json";
    let large = vec![b' '; BODY_MAX + 1];
    let cases: [(Request<Full<Bytes>>, StatusCode, &str); 8] = [
        (review("{}"), StatusCode::OK, "{}"),
        (review("{"), StatusCode::BAD_REQUEST, "line 1, column 1\n"),
        (review("later"), StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        (request(Method::GET, "/mutate", json, ""), StatusCode::METHOD_NOT_ALLOWED, "a review is posted\n"),
        (
            request(Method::POST, "/mutate", "text/plain", "{}"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a review is application/json\n",
        ),
        (
            request(Method::POST, "/mutate", "", "{}"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a review is application/json\n",
        ),
        (request(Method::POST, "/elsewhere", json, "{}"), StatusCode::NOT_FOUND, "nobody is asked here\n"),
        (request(Method::POST, "/mutate", json, large), StatusCode::PAYLOAD_TOO_LARGE, "the review is too large\n"),
    ];
    for (request, status, body) in cases {
        let second = two.send_request(request.clone()).await.unwrap();
        if one.ready().await.is_err() {
            one = served.http1().await;
        }
        let first = one.send_request(request).await.unwrap();
        for response in [first, second] {
            assert_eq!(response.status(), status);
            let content = response.headers()["content-type"].to_str().unwrap().to_owned();
            assert_eq!(content.starts_with(json), status == StatusCode::OK, "{content}");
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body.as_bytes());
        }
    }
}

/// A certificate is replaced many times while questions come: none fails, and new connections get the new one.
#[tokio::test]
async fn a_certificate_is_replaced_under_load_without_a_failed_request() {
    let served = Served::start().await;
    let mut long = served.http2().await;
    for round in 0..20 {
        let before = served.connect(b"h2").await;
        let mut names = vec![NAME.to_owned()];
        names.push(format!("round-{round}.{NAME}"));
        let next = served.store.next(&names, SystemTime::now()).unwrap().unwrap();
        let (certificate, key) = next.serving();
        served.tls.send(config(certificate, key).unwrap()).unwrap();
        let after = served.connect(b"h2").await;
        let shown = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        assert_ne!(shown(&before), shown(&after));
        let mut short = served.http1().await;
        for _ in 0..10 {
            assert_eq!(long.send_request(review("{}")).await.unwrap().status(), StatusCode::OK);
            short.ready().await.unwrap();
            let answer = short.send_request(review("{}")).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            answer.into_body().collect().await.unwrap();
        }
    }
}

/// A client that asks as an API server does, over one connection as long as it lasts, begins another now and then, and every
/// question is answered: those that run when it is told, and those that it has not been told of yet.
#[tokio::test]
async fn a_connection_lasts_so_long_and_no_question_is_lost() {
    let served = Served::begin(Some(Duration::from_millis(300))).await;
    let begun = Instant::now();
    let (mut connections, mut answered) = (0, 0);
    while begun.elapsed() < Duration::from_secs(3) {
        let mut sender = served.http2().await;
        connections += 1;
        let since = Instant::now();
        loop {
            if sender.ready().await.is_err() {
                break;
            }
            // Several at once, of which some run when the connection is to end.
            let asked: Vec<_> = (0..8).map(|_| sender.clone().try_send_request(review("{}"))).collect();
            for asked in asked {
                match asked.await {
                    Ok(answer) => {
                        assert_eq!(answer.status(), StatusCode::OK);
                        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "{}");
                        answered += 1;
                    }
                    // It was not sent: a client asks again, over another connection.
                    Err(mut error) => assert!(error.take_message().is_some(), "{:?}", error.into_error()),
                }
            }
        }
        let lasted = since.elapsed();
        assert!(lasted > Duration::from_millis(250) && lasted < Duration::from_secs(2), "{lasted:?}");
    }
    assert!(connections > 2 && answered > 100, "{connections} {answered}");
    // Over HTTP/1.1 the next question goes over another one, too.
    let mut sender = served.http1().await;
    let until = tokio::time::timeout(Duration::from_secs(5), async {
        while sender.ready().await.is_ok() {
            let answer = sender.send_request(review("{}")).await;
            answer.unwrap().into_body().collect().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    until.await.expect("a connection lasts for ever");
}

/// Who sends nothing, or no TLS, or half a request, is let go; others are answered meanwhile.
#[tokio::test]
async fn who_does_not_ask_does_not_keep_others() {
    let served = Served::start().await;
    let mut silent = TcpStream::connect(served.at).await.unwrap();
    let mut plain = TcpStream::connect(served.at).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut half = served.connect(b"http/1.1").await;
    half.write_all(b"POST /mutate HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let begin = Instant::now();
    let mut sender = served.http2().await;
    assert_eq!(sender.send_request(review("{}")).await.unwrap().status(), StatusCode::OK);
    let mut rest = Vec::new();
    let end = |result: std::io::Result<usize>| drop(result);
    end(plain.read_to_end(&mut rest).await);
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{rest:?}");
    end(silent.read_to_end(&mut rest).await);
    end(half.read_to_end(&mut rest).await);
    // Each had some seconds; a test that waits for ever does not come here.
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    assert_eq!(sender.send_request(review("{}")).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn stopping_lets_connections_end_and_takes_no_more() {
    let mut served = Served::start().await;
    let mut sender = served.http2().await;
    assert_eq!(sender.send_request(review("{}")).await.unwrap().status(), StatusCode::OK);
    served.stop.take().unwrap().send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), served.serving).await.expect("it stops at once").unwrap();
    assert!(TcpStream::connect(served.at).await.is_err());
}
