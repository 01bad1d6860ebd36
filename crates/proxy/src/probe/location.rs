//! Where a redirection leads (RFC 9110 §10.2.2, RFC 3986 §5.2), and whether a probe follows.
//!
//! The kubelet follows a redirection to the host that it asked, ten times at most, and takes one to another host for an
//! answer, which is a success. The same is done here, but for one thing: a redirection to another *port* of the same host
//! is an answer too. The kubelet comes from the node and reaches what the node may; the proxy stands within the pod, and an
//! application could send it to its neighbours.

use sidewall_proxy_config::Scheme;

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) scheme: Scheme,
    /// As it stands in an address, an IPv6 address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// With its query; begins with `/`.
    pub(super) path: String,
}

/// Where a redirection leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirection {
    /// To the same host and port; whether it named them.
    Same(Place, Named),
    /// Elsewhere.
    Elsewhere,
}

/// Whether a redirection names its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// It does, and the `Host` header changes with it.
    Host,
    /// It is relative, and the header stays.
    Nothing,
}

impl Place {
    /// Where a `Location` leads from here.
    pub(super) fn redirected(&self, location: &str) -> Redirection {
        let location = location.split('#').next().unwrap_or_default();
        let lower = location.get(..8).unwrap_or(location).to_ascii_lowercase();
        let (scheme, rest) = if lower.starts_with("http://") {
            (Scheme::Http, &location[5..])
        } else if lower.starts_with("https://") {
            (Scheme::Https, &location[6..])
        } else {
            (self.scheme, location)
        };
        if let Some(rest) = rest.strip_prefix("//") {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            let place =
                authority_of(authority, scheme).map(|(host, port)| Self { scheme, host, port, path: rooted(path) });
            return match place {
                Some(place) if place.host == self.host && place.port == self.port => {
                    Redirection::Same(place, Named::Host)
                }
                _ => Redirection::Elsewhere,
            };
        }
        let before_path = rest.split(['/', '?']).next().unwrap_or_default();
        if before_path.contains(':') {
            // Another scheme.
            return Redirection::Elsewhere;
        }
        let (own_path, own_query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let path = if rest.is_empty() {
            if own_query.is_empty() { own_path.to_owned() } else { self.path.clone() }
        } else if rest.starts_with('?') {
            format!("{own_path}{rest}")
        } else {
            let (path, query) = match rest.split_once('?') {
                Some((path, query)) => (path, format!("?{query}")),
                None => (rest, String::new()),
            };
            let merged = if path.starts_with('/') {
                path.to_owned()
            } else {
                let directory = own_path.rfind('/').map_or("/", |slash| &own_path[..=slash]);
                format!("{directory}{path}")
            };
            format!("{}{query}", without_dots(&merged))
        };
        Redirection::Same(Self { path: rooted(&path), ..self.clone() }, Named::Nothing)
    }

    /// `HOST:PORT`, as it stands in a `Host` header.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn authority_of(authority: &str, scheme: Scheme) -> Option<(String, u16)> {
    // A user's name in an address is nobody's habit any more, and a trick otherwise.
    if authority.contains('@') {
        return None;
    }
    let default = match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => default,
        Some("") => default,
        Some(port) => port.parse().ok()?,
        None => return None,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => {
                kept.push(other);
                continue;
            }
        }
        if last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// A path as a request line has it: with a `/` at its beginning, and without what may not stand there. What does not fit
/// is percent-encoded, as the kubelet does.
pub(super) fn rooted(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut text = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        text.push('/');
    }
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Place {
        Place { scheme: Scheme::Http, host: "10.0.0.1".to_owned(), port: 8080, path: path.to_owned() }
    }

    #[test]
    fn a_redirection_is_followed_to_the_same_host_and_port_alone() {
        for (location, path, scheme, named) in [
            ("/b", "/b", Scheme::Http, Named::Nothing),
            ("b", "/dir/b", Scheme::Http, Named::Nothing),
            ("./b?x=1", "/dir/b?x=1", Scheme::Http, Named::Nothing),
            ("../b", "/b", Scheme::Http, Named::Nothing),
            ("../../../b/..", "/", Scheme::Http, Named::Nothing),
            ("?y", "/dir/a?y", Scheme::Http, Named::Nothing),
            ("", "/dir/a?q", Scheme::Http, Named::Nothing),
            ("#part", "/dir/a?q", Scheme::Http, Named::Nothing),
            ("/b c#d", "/b%20c", Scheme::Http, Named::Nothing),
            ("http://10.0.0.1:8080", "/", Scheme::Http, Named::Host),
            ("HTTPS://10.0.0.1:8080/b?c", "/b?c", Scheme::Https, Named::Host),
            ("//10.0.0.1:8080?c", "/?c", Scheme::Http, Named::Host),
        ] {
            let place = Place { scheme, path: path.to_owned(), ..at("") };
            assert_eq!(at("/dir/a?q").redirected(location), Redirection::Same(place, named), "{location}");
        }
        for location in [
            "http://10.0.0.1/b",
            "https://10.0.0.1/b",
            "http://10.0.0.1:9090/b",
            "http://10.0.0.2:8080/b",
            "http://example.com:8080/",
            "http://10.0.0.1:8080@example.com/",
            "http://user@10.0.0.1:8080/",
            "http://10.0.0.1:80x80/",
            "http:///b",
            "http://[::1/b",
            "//example.com/b",
            "javascript:alert(1)",
        ] {
            assert_eq!(at("/dir/a").redirected(location), Redirection::Elsewhere, "{location}");
        }
        let six = Place { host: "fd00::1".to_owned(), port: 80, ..at("/") };
        assert!(matches!(six.redirected("http://[fd00::1]/x"), Redirection::Same(place, _) if place.path == "/x"));
        assert_eq!(six.authority(), "[fd00::1]:80");
    }

    #[test]
    fn a_path_fits_into_a_request() {
        for (path, expected) in [
            ("", "/"),
            ("healthz", "/healthz"),
            ("/a?b=c d", "/a?b=c%20d"),
            ("/é#x", "/%C3%A9"),
            ("/a\u{7f}%20", "/a%7F%20"),
        ] {
            assert_eq!(rooted(path), expected);
            assert!(expected.parse::<http::uri::PathAndQuery>().is_ok());
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_an_application_says_leads_to_a_path_or_elsewhere(path in "/[a-z/.]{0,20}", location in ".{0,40}") {
            if let Redirection::Same(place, _) = at(&path).redirected(&location) {
                proptest::prop_assert_eq!((place.host.as_str(), place.port), ("10.0.0.1", 8080));
                proptest::prop_assert!(place.path.parse::<http::uri::PathAndQuery>().is_ok(), "{}", place.path);
            }
        }
    }
}
