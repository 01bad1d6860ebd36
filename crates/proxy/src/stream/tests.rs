//! The scanner and the HTTP library read the same bytes: whatever the client sends, in pieces of whatever size, the
//! library must see exactly the requests before the first fault, each with its own body, and nothing after it.

use std::cell::RefCell;
use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A body that looks like what it must not be taken for.
const DECOY: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

struct Nothing;

impl Body for Nothing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

/// Serves the bytes, cut where it is said; gives the requests that came to their end: path and length of the body.
fn serve(bytes: &[u8], cuts: &[usize]) -> Vec<(String, usize)> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let record = Rc::clone(&seen);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let second = Duration::from_secs(1);
        let patience = Rc::new(Cell::new(Patience { header: second, idle: second, send: second }));
        let guarded = GuardedStream::new(server, 1 << 16, patience, Rc::default());
        let service = service_fn(move |request: Request<Incoming>| {
            let record = Rc::clone(&record);
            async move {
                let path = request.uri().path().to_owned();
                let mut body = request.into_body();
                let mut length = 0;
                while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    let Ok(frame) = frame else { return Err("broken") };
                    length += frame.data_ref().map_or(0, Bytes::len);
                }
                record.borrow_mut().push((path, length));
                Ok(Response::new(Nothing))
            }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(guarded), service);
        let write = async {
            let mut from = 0;
            for cut in cuts.iter().copied().chain([bytes.len()]) {
                let to = cut.clamp(from, bytes.len());
                if client.write_all(&bytes[from..to]).await.is_err() {
                    // Refused before all was sent.
                    break;
                }
                from = to;
                tokio::task::yield_now().await;
            }
            // Nothing more comes; the clock jumps to the end of the server's patience, which closes the connection. (A
            // client that closes its half earlier gives up the answers that it has not got yet.)
            let mut answers = Vec::new();
            client.read_to_end(&mut answers).await.expect("the answers");
        };
        // A refused request ends the connection with an error, as it should.
        let _ = tokio::join!(connection, write);
    });
    Rc::try_unwrap(seen).expect("the connection is gone").into_inner()
}

/// A sound request: its bytes, and the length of its body.
fn good(kind: usize, index: usize) -> (String, usize) {
    let decoy = DECOY.len();
    match kind % 5 {
        0 => (format!("GET /{index} HTTP/1.1\r\nHost: a\r\n\r\n"), 0),
        1 => (format!("POST /{index} HTTP/1.1\r\ncontent-LENGTH:{decoy}\r\nHost: a\r\n\r\n{DECOY}"), decoy),
        2 => (
            format!(
                "PUT /{index} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{decoy:x};x=\"y\"\r\n{DECOY}\r\n\
                 2\r\n\r\n\r\n0\r\nX-Trailer: GET /smuggled\r\n\r\n"
            ),
            decoy + 2,
        ),
        3 => (format!("\r\nPOST /{index} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), 0),
        _ => (format!("GET /{index} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 0),
    }
}

/// Heads and bodies that must never become a request.
const BAD: [&str; 14] = [
    "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n",
    "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "POST /bad HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /bad HTTP/1.1\r\nHost: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naX\r\n0\r\n\r\n",
    "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
    "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
    "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;\n\r\na\r\n0\r\n\r\n",
    "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n",
    "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n0123456789",
    "GET /bad HTTP/1.1\n\r\n",
];

proptest! {
    #[test]
    fn the_library_sees_the_requests_before_the_first_fault_and_nothing_else(
        kinds in proptest::collection::vec(0_usize..5, 0..6),
        bad in proptest::option::of(prop::sample::select(BAD.to_vec())),
        mut cuts in proptest::collection::vec(0_usize..900, 0..12),
    ) {
        let mut bytes = String::new();
        let mut expected = Vec::new();
        for (index, kind) in kinds.into_iter().enumerate() {
            let (request, length) = good(kind, index);
            bytes.push_str(&request);
            expected.push((format!("/{index}"), length));
        }
        if let Some(bad) = bad {
            bytes.push_str(bad);
            bytes.push_str(DECOY);
        }
        cuts.sort_unstable();
        prop_assert_eq!(serve(bytes.as_bytes(), &cuts), expected);
    }
}
