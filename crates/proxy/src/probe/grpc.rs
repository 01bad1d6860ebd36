//! The standard health check of gRPC (`grpc.health.v1.Health/Check`), over HTTP/2 without TLS, as the kubelet asks.
//!
//! Question and answer are one field each, so they are written and read here: `HealthCheckRequest { string service = 1; }`,
//! `HealthCheckResponse { ServingStatus status = 1; }` with `SERVING = 1`.

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http::{Method, Request, StatusCode, Version};
use tokio::task::spawn_local;

use super::ProbeError;
use super::connect::Whereto;
use super::location::Place;

/// Octets of an answer. The health check's has two.
const ANSWER: usize = 4096;
/// Octets of an answer's headers.
const HEADERS: u32 = 16 * 1024;
const SERVING: u64 = 1;

/// Asks after a service, or with an empty name after the server. Gives whether it serves.
pub(super) async fn check(
    whereto: &Whereto,
    service: &str,
    local: IpAddr,
    agent: &HeaderValue,
) -> Result<bool, ProbeError> {
    let stream = whereto.connect(local).await?;
    let (sender, connection) = h2::client::Builder::new()
        .enable_push(false)
        .max_header_list_size(HEADERS)
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(ProbeError::Grpc)?;
    // It ends when neither sender nor stream is there any more.
    spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a gRPC probe's connection to the application ended");
        }
    });
    let place = Place {
        scheme: sidewall_proxy_config::Scheme::Http,
        host: whereto.host(local),
        port: whereto.port(),
        path: String::new(),
    };
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("http://{}/grpc.health.v1.Health/Check", place.authority()))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, agent)
        .body(())
        .map_err(|_| ProbeError::GrpcAnswer)?;
    let mut sender = sender.ready().await.map_err(ProbeError::Grpc)?;
    let (response, mut body) = sender.send_request(request, false).map_err(ProbeError::Grpc)?;
    body.send_data(question(service), true).map_err(ProbeError::Grpc)?;
    let response = response.await.map_err(ProbeError::Grpc)?;
    if response.status() != StatusCode::OK {
        return Err(ProbeError::GrpcAnswer);
    }
    // Without a message, the outcome stands in the headers themselves.
    let at_once = response.headers().get("grpc-status").cloned();
    let mut stream = response.into_body();
    let mut answer = BytesMut::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.map_err(ProbeError::Grpc)?;
        if answer.len() + piece.len() > ANSWER {
            return Err(ProbeError::GrpcAnswer);
        }
        stream.flow_control().release_capacity(piece.len()).map_err(ProbeError::Grpc)?;
        answer.extend_from_slice(&piece);
    }
    let trailers = stream.trailers().await.map_err(ProbeError::Grpc)?;
    let outcome = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status")).cloned().or(at_once);
    match outcome {
        // An outcome other than OK is an answer, too: that of a server that does not serve.
        Some(outcome) if outcome == "0" => Ok(status(&answer).ok_or(ProbeError::GrpcAnswer)? == SERVING),
        Some(_) => Ok(false),
        None => Err(ProbeError::GrpcAnswer),
    }
}

/// The question as one gRPC message.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        // Field 1, length-delimited.
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
            length >>= 7;
        }
        message.put_u8(u8::try_from(length).unwrap_or(0));
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    // Not compressed.
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(&message);
    framed.freeze()
}

/// The status of an answer: of one gRPC message that is not compressed, the last field 1 that is a number, 0 without one.
fn status(answer: &[u8]) -> Option<u64> {
    let (head, mut message) = answer.split_at_checked(5)?;
    let length = u32::from_be_bytes(head[1..5].try_into().ok()?);
    if head[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = number(&mut message)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = number(&mut message)?,
            (_, 0) => {
                number(&mut message)?;
            }
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(number(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f).checked_shl(shift)?;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_messages() {
        assert_eq!(question("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(question("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = question(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn answers_are_read_as_they_are() {
        let message = |bytes: &[u8]| {
            let mut all = vec![0, 0, 0, 0, u8::try_from(bytes.len()).expect("short")];
            all.extend_from_slice(bytes);
            status(&all)
        };
        assert_eq!(message(&[8, 1]), Some(SERVING));
        assert_eq!(message(&[8, 2]), Some(2));
        assert_eq!(message(&[]), Some(0), "unknown");
        assert_eq!(message(&[8, 1, 8, 3]), Some(3), "the last counts");
        assert_eq!(message(&[0x12, 1, 9, 0x18, 5, 8, 1]), Some(SERVING), "other fields are passed over");
        for broken in
            [&[8][..], &[8, 0x80], &[0x12, 9, 1], &[0x0b], &[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]]
        {
            assert_eq!(message(broken), None, "{broken:?}");
        }
        assert_eq!(status(&[]), None);
        assert_eq!(status(&[1, 0, 0, 0, 2, 8, 1]), None, "compressed");
        assert_eq!(status(&[0, 0, 0, 0, 3, 8, 1]), None, "cut");
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)) {
            let _ = status(&bytes);
        }
    }
}
