//! Which headers pass, in both directions.
//!
//! The order matters and is the same on every path, authenticated or not: first what belongs to the connection alone
//! (RFC 9110 §7.6.1), with whatever `Connection:` names; then what only this proxy may say (who the user is, where the
//! request came from); then our own values are set. Were the order another, a client could name our header in
//! `Connection:` and have it removed after it was set.
//!
//! Names are compared as an application may see them: CGI, WSGI and their like turn every `-` into `_`, some turn any
//! other character into it, and all ignore case. So `X_Forwarded.User` is dropped as `X-Forwarded-User` is.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};

/// The user that the proxy has authenticated.
pub const FORWARDED_USER: HeaderName = HeaderName::from_static("x-forwarded-user");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Headers that belong to one connection, whether or not `Connection:` names them (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Beginnings of names that say who a client is or where it comes from, as written by some proxy or other. Applications
/// believe them, so they come from us or from nobody.
const IDENTITY_PREFIXES: [&str; 8] = [
    "x-forwarded-",
    "remote-",
    "x-remote-",
    "x-auth-request-",
    "x-authenticated-",
    "x-webauth-",
    "ssl-client-",
    "x-ssl-client-",
];

/// Whole names of the same kind. `Proxy` becomes HTTP_PROXY in a CGI's environment (CVE-2016-5385); `Client-Cert` is
/// RFC 9440's.
const IDENTITY_NAMES: [&str; 13] = [
    "forwarded",
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-client-cert",
    "true-client-ip",
    "client-cert",
    "client-cert-chain",
    "x-auth-user",
    "x-auth-username",
    "x-auth-email",
    "x-auth-groups",
    "proxy",
];

/// Fields that must not come after the body: they decide about framing, routing, credentials or caching, which is over
/// by then (RFC 9110 §6.5.1).
const NEVER_IN_TRAILERS: [HeaderName; 17] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::RANGE,
    header::SET_COOKIE,
    header::TRAILER,
    header::WWW_AUTHENTICATE,
];

/// What the proxy knows of a request's origin and tells the application.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The client's address, as the socket has it.
    pub peer: IpAddr,
    /// Whether the client spoke TLS.
    pub tls: bool,
    /// The user, if one was authenticated.
    pub user: Option<&'a HeaderValue>,
}

/// Why a request's head is refused with 400, 417 or 501.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// RFC 9112 §3.2.
    #[error("the request has no Host header")]
    NoHost,
    /// RFC 9112 §3.2.
    #[error("the request has more than one Host header")]
    ManyHosts,
    /// The target and the Host header name different hosts.
    #[error("the request's target and its Host header differ")]
    OtherHost,
    /// Two credentials: which one counts?
    #[error("the request has more than one Authorization header")]
    ManyAuthorizations,
    /// `Connection: host` and its like would change the request's meaning.
    #[error("the Connection header names a header that does not belong to the connection")]
    ConnectionNames,
    /// RFC 9110 §10.1.1.
    #[error("the request expects something other than 100-continue")]
    Expectation,
    /// A tunnel, a protocol change, or an echo of headers.
    #[error("CONNECT, TRACE and WebSocket are not supported")]
    Unsupported,
}

/// Checks what must hold before a request's headers mean anything.
///
/// # Errors
///
/// Says what is wrong; the request must be refused.
pub fn check_request(method: &Method, uri: &http::Uri, version: Version, headers: &HeaderMap) -> Result<(), HeadFault> {
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(HeadFault::Unsupported);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(HeadFault::ManyHosts),
        (None, None) if version == Version::HTTP_11 => return Err(HeadFault::NoHost),
        (Some(host), None) => {
            if let Some(authority) = uri.authority()
                && !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())
            {
                return Err(HeadFault::OtherHost);
            }
        }
        (None, None) => {}
    }
    if headers.get_all(header::AUTHORIZATION).iter().nth(1).is_some() {
        return Err(HeadFault::ManyAuthorizations);
    }
    for value in headers.get_all(header::EXPECT) {
        if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(HeadFault::Expectation);
        }
    }
    // Other upgrades may be ignored (RFC 9110 §7.8): clients offer h2c and go on without it. A WebSocket client cannot.
    for value in headers.get_all(header::UPGRADE) {
        if tokens(value).any(|token| token.len() >= 9 && token[..9].eq_ignore_ascii_case(b"websocket")) {
            return Err(HeadFault::Unsupported);
        }
    }
    Ok(())
}

/// Turns a client's headers into those that the application receives.
///
/// # Errors
///
/// When `Connection:` names a header that the request cannot do without.
pub fn to_upstream(headers: &mut HeaderMap, origin: Origin<'_>) -> Result<(), HeadFault> {
    remove_connection_headers(headers, true)?;
    remove_identity(headers);
    headers.remove(header::AUTHORIZATION);
    // The answer to it is ours: hyper sends 100 as soon as the application's connection takes the body.
    headers.remove(header::EXPECT);

    if let Ok(peer) = HeaderValue::from_str(&origin.peer.to_canonical().to_string()) {
        headers.insert(FORWARDED_FOR, peer);
    }
    let proto = HeaderValue::from_static(if origin.tls { "https" } else { "http" });
    headers.insert(FORWARDED_PROTO, proto);
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.insert(FORWARDED_HOST, host);
    }
    if let Some(user) = origin.user {
        headers.insert(FORWARDED_USER, user.clone());
    }
    Ok(())
}

/// Turns the application's headers into those that the client receives.
pub fn to_client(headers: &mut HeaderMap) {
    // What the application's `Connection:` names is removed, whatever it is: the application may harm only itself.
    let _ = remove_connection_headers(headers, false);
}

/// Drops from trailers what must not stand there, or only in our own hand.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    for name in HOP_BY_HOP.iter().chain(&NEVER_IN_TRAILERS) {
        trailers.remove(name);
    }
    remove_identity(trailers);
}

fn remove_connection_headers(headers: &mut HeaderMap, from_client: bool) -> Result<(), HeadFault> {
    if headers.contains_key(header::CONNECTION) {
        let mut named = Vec::new();
        for value in headers.get_all(header::CONNECTION) {
            for token in tokens(value) {
                // What is not a name cannot name a header that is here.
                if let Ok(name) = HeaderName::from_bytes(token) {
                    named.push(name);
                }
            }
        }
        for name in named {
            if from_client && (name == header::HOST || name == header::CONTENT_LENGTH) {
                return Err(HeadFault::ConnectionNames);
            }
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    Ok(())
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

fn remove_identity(headers: &mut HeaderMap) {
    // Most requests have none, so nothing is allocated for them.
    let mut found: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        if is_identity(name.as_str()) {
            found.push(name.clone());
        }
    }
    for name in found {
        headers.remove(name);
    }
}

/// Whether a name, in any of its spellings, is one that only this proxy may use.
pub fn is_identity(name: &str) -> bool {
    IDENTITY_PREFIXES.iter().any(|prefix| same(name, prefix, true))
        || IDENTITY_NAMES.iter().any(|whole| same(name, whole, false))
}

/// Whether `name` is spelled like `pattern` (or begins so), where letters match in either case and every character that
/// is neither letter nor digit matches `-`.
fn same(name: &str, pattern: &str, prefix: bool) -> bool {
    if name.len() < pattern.len() || (!prefix && name.len() != pattern.len()) {
        return false;
    }
    name.bytes()
        .zip(pattern.bytes())
        .all(|(have, want)| if want == b'-' { !have.is_ascii_alphanumeric() } else { have.eq_ignore_ascii_case(&want) })
}

#[cfg(test)]
mod tests;
