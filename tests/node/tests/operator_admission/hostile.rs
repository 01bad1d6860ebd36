//! What nobody should send to the webhooks' port, and anybody who reaches it may.

use serde_json::{Value, json};
use sidewall_node_tests::random::Random;

use super::https::Https;

/// How many reviews with a few bytes changed are sent.
const CHANGED: u32 = 200;
/// The largest body that is read.
const BODY_MAX: usize = 8 << 20;

/// Sends all of it. Each gets an answer, and none of the statuses says that the operator has failed.
pub async fn try_all(webhook: &mut Https<'_>, good: &[u8], mut random: Random) {
    for path in ["/inject", "/validate"] {
        for (what, body) in bodies(good) {
            let size = body.len();
            let answer = webhook.send("POST", path, "application/json", body).await;
            match answer {
                Ok((status, said)) => {
                    let said = String::from_utf8_lossy(&said);
                    assert!([200, 400, 413].contains(&status), "{what} at {path}: {status} {said}");
                    assert!(said.len() < 100_000, "{what} at {path}: {} bytes", said.len());
                }
                // Whoever sends too much may find the connection closed before he is done.
                Err(error) => assert!(size > BODY_MAX, "{what} at {path}: {error}"),
            }
        }
        for _ in 0..CHANGED {
            let mut body = good.to_vec();
            for _ in 0..=random.below(4) {
                change(&mut body, &mut random);
            }
            let (status, said) = webhook.send("POST", path, "application/json", body.clone()).await.unwrap();
            let (body, said) = (String::from_utf8_lossy(&body), String::from_utf8_lossy(&said));
            assert!([200, 400].contains(&status), "{status} {said} to {body}");
        }
    }
    for (method, path, kind) in [
        ("GET", "/inject", "application/json"),
        ("POST", "/inject", "text/yaml"),
        ("POST", "/../x", "application/json"),
    ] {
        let (status, _) = webhook.send(method, path, kind, good.to_vec()).await.unwrap();
        assert!([404, 405, 415].contains(&status), "{method} {path}: {status}");
    }
}

fn change(body: &mut Vec<u8>, random: &mut Random) {
    let words: [&[u8]; 10] =
        [b"null", b"{}", b"[]", b"-1", b"1e999", b"\"\"", b"\\ud800", b"\xff", b"\0", b"99999999999999999999"];
    let at = usize::try_from(random.below(body.len() as u64)).unwrap();
    match random.below(4) {
        0 => body[at] = u8::try_from(random.below(256)).unwrap(),
        1 => drop(body.splice(at..at, random.of(&words).unwrap().iter().copied())),
        2 => {
            // The value behind a colon.
            if let Some(colon) = body[at..].iter().position(|byte| *byte == b':') {
                let start = at + colon + 1;
                let end = body[start..].iter().position(|byte| b",}".contains(byte)).map_or(start, |end| start + end);
                body.splice(start..end, random.of(&words).unwrap().iter().copied());
            }
        }
        _ => {
            let end = (at + usize::try_from(random.below(40)).unwrap()).min(body.len());
            body.drain(at..end);
        }
    }
    if body.is_empty() {
        body.push(b'{');
    }
}

fn bodies(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let good: Value = serde_json::from_slice(good).unwrap();
    let with = |pointer: &str, value: Value| {
        let mut review = good.clone();
        *review.pointer_mut(pointer).unwrap() = value;
        review.to_string().into_bytes()
    };
    let object = "/request/object";
    let nested = |open: &str, close: &str, depth: usize| {
        let text = String::from_utf8(with(object, json!("HERE"))).unwrap();
        text.replace("\"HERE\"", &format!("{}{}", open.repeat(depth), close.repeat(depth))).into_bytes()
    };
    let many = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers":
        (0..20_000).map(|number| json!({"name": format!("c-{number}"), "livenessProbe": {"httpGet": {"port": 8080}}})).collect::<Vec<_>>()}});
    vec![
        ("nothing", Vec::new()),
        ("no JSON", b"\x16\x03\x01\xff\xfe".repeat(100)),
        ("zeros", vec![0; 100_000]),
        ("spaces", vec![b' '; BODY_MAX]),
        ("too much", vec![b'['; BODY_MAX + 1]),
        ("brackets", vec![b'['; 1_000_000]),
        ("braces", b"{\"a\":".repeat(200_000)),
        ("null", b"null".to_vec()),
        ("a list", b"[]".to_vec()),
        ("nested lists", nested("[", "]", 100)),
        ("lists nested too deep", nested("[", "]", 100_000)),
        ("objects nested too deep", nested("{\"a\":[", "]}", 50_000)),
        ("no request", with("/request", Value::Null)),
        ("another kind of review", with("/kind", json!("Pod"))),
        ("another version", with("/apiVersion", json!("admission.k8s.io/v9"))),
        ("no uid", with("/request/uid", json!(""))),
        ("a long uid", with("/request/uid", json!("u".repeat(1 << 20)))),
        ("another resource", with("/request/resource/resource", json!("nodes"))),
        ("another operation", with("/request/operation", json!("DELETE"))),
        ("another namespace", with("/request/namespace", json!("../../\u{0}\u{202e}"))),
        ("no object", with(object, Value::Null)),
        ("a number", with(object, json!(-1e308))),
        ("a Secret", with(object, json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "AA=="}}))),
        ("lists for objects", with(object, json!({"metadata": [], "spec": []}))),
        (
            "objects for lists",
            with(object, json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": {"a": {}}}})),
        ),
        ("no containers", with(object, json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}))),
        ("no spec", with(object, json!({"metadata": {"labels": {"app": "web"}}}))),
        (
            "names of one container",
            with(
                object,
                json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a"}, {"name": "a"}]}}),
            ),
        ),
        ("many containers", with(object, many)),
    ]
}
