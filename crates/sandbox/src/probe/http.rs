//! The request of an httpGet probe: HTTP/1.1 by hand, since only the status line matters.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Instant;

/// How much of an answer's head is read, in bytes.
const HEAD_LIMIT: usize = 16 * 1024;

/// How many redirects on the same host are followed, as the kubelet does.
const REDIRECTS: usize = 10;

/// Asks for `path`; 200 to 399 is success. Redirects to another host count as success and are not followed.
pub(super) fn get(
    path: &str,
    headers: &[(String, String)],
    port: u16,
    host: Option<&str>,
    pod: IpAddr,
    end: Instant,
    connect: impl Fn() -> Result<TcpStream, String>,
) -> Result<(), String> {
    let authority = match (host, pod) {
        (Some(host), _) => format!("{host}:{port}"),
        (None, IpAddr::V4(ip)) => format!("{ip}:{port}"),
        (None, IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
    };
    let mut path = path.to_owned();
    for _ in 0..=REDIRECTS {
        let request = request(&path, headers, &authority);
        let mut stream = connect()?;
        stream.set_write_timeout(left(end)).map_err(|e| e.to_string())?;
        stream.write_all(request.as_bytes()).map_err(|e| format!("{authority}: {e}"))?;
        let head = read_head(&mut stream, end).map_err(|e| format!("{authority}: {e}"))?;
        let answer = Answer::parse(&head).ok_or_else(|| format!("{authority}: the answer is not HTTP"))?;
        match answer.redirect(&authority) {
            Some(next) => path = next,
            None if (200..400).contains(&answer.status) => return Ok(()),
            None => return Err(format!("{authority}{path}: status {}", answer.status)),
        }
    }
    Err(format!("{authority}: more than {REDIRECTS} redirects"))
}

fn request(path: &str, headers: &[(String, String)], authority: &str) -> String {
    let given = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let mut text = format!("GET {path} HTTP/1.1\r\n");
    for (name, value) in [("Host", authority), ("User-Agent", "kube-probe/1.33"), ("Accept", "*/*")] {
        if !given(name) {
            text += &format!("{name}: {value}\r\n");
        }
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text + "Connection: close\r\n\r\n"
}

fn left(end: Instant) -> Option<std::time::Duration> {
    // A zero timeout would mean none at all.
    Some(end.saturating_duration_since(Instant::now()).max(std::time::Duration::from_millis(1)))
}

/// Reads up to the empty line. Each read may take only what is left of the probe's time.
fn read_head(stream: &mut TcpStream, end: Instant) -> Result<Vec<u8>, String> {
    let mut head = Vec::new();
    let mut buffer = [0; 2048];
    while head.len() < HEAD_LIMIT && !head.windows(4).any(|w| w == b"\r\n\r\n") {
        if Instant::now() >= end {
            return Err("timed out".into());
        }
        stream.set_read_timeout(left(end)).map_err(|e| e.to_string())?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => head.extend_from_slice(&buffer[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Err("timed out".into()),
            Err(e) => return Err(e.to_string()),
        }
    }
    Ok(head)
}

struct Answer {
    status: u16,
    location: Option<String>,
}

impl Answer {
    fn parse(head: &[u8]) -> Option<Answer> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let mut first = lines.next()?.splitn(3, ' ');
        let version = first.next()?;
        let status = first.next()?.parse().ok().filter(|_| version.starts_with("HTTP/1."))?;
        let location = lines
            .take_while(|l| !l.is_empty())
            .filter_map(|l| l.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("location"))
            .map(|(_, value)| value.trim().to_owned());
        Some(Answer { status, location })
    }

    /// The path to try next, for a redirect that stays on this host.
    fn redirect(&self, authority: &str) -> Option<String> {
        let location = self.location.as_ref().filter(|_| matches!(self.status, 301 | 302 | 303 | 307 | 308))?;
        if location.starts_with('/') && !location.starts_with("//") {
            return Some(location.clone());
        }
        let rest = location.strip_prefix("http://")?.strip_prefix(authority)?;
        match rest.chars().next() {
            None => Some("/".into()),
            Some('/') => Some(rest.to_owned()),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_status_and_location() {
        let head = b"HTTP/1.1 302 Found\r\nX: y\r\nlocation: http://1.2.3.4:80/next\r\n\r\nLocation: /body";
        let answer = Answer::parse(head).unwrap();
        assert_eq!(answer.status, 302);
        assert_eq!(answer.redirect("1.2.3.4:80").as_deref(), Some("/next"));
        assert_eq!(answer.redirect("1.2.3.4:8"), None, "another port");
        assert_eq!(answer.redirect("1.2.3.5:80"), None, "another host");
        assert!(Answer::parse(b"SSH-2.0-x\r\n").is_none());
        assert!(Answer::parse(b"HTTP/1.1\r\n").is_none());
        assert!(Answer::parse(b"").is_none());
    }

    #[test]
    fn given_headers_replace_the_usual_ones() {
        let text = request("/x", &[("host".into(), "web".into()), ("A".into(), "b".into())], "1.2.3.4:80");
        assert!(text.starts_with("GET /x HTTP/1.1\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        assert!(text.contains("host: web\r\n") && text.contains("A: b\r\n") && !text.contains("1.2.3.4"), "{text}");
    }
}
