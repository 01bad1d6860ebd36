//! HTTP Basic authentication (RFC 7617) against an htpasswd file.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use zeroize::Zeroizing;

use super::{CredentialCache, CredentialKey, Verifier};
use crate::htpasswd::{MAX_NAME_BYTES, MAX_PASSWORD_BYTES, Users, UsersError};
use crate::secret::Password;

/// The longest base64 text of a user name, a colon and a password that could be right.
const MAX_TOKEN: usize = (MAX_NAME_BYTES + 1 + MAX_PASSWORD_BYTES).div_ceil(3) * 4;

/// One version of a users file.
#[derive(Debug)]
pub struct UsersFile {
    generation: u64,
    users: Arc<Users>,
}

impl UsersFile {
    /// Reads an htpasswd file as the newest version.
    ///
    /// # Errors
    ///
    /// As [`Users::parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, UsersError> {
        // Unique in the process, so that versions of two files are never taken for each other.
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        let users = Arc::new(Users::parse(bytes)?);
        Ok(Self { generation: GENERATION.fetch_add(1, Ordering::Relaxed), users })
    }

    /// The users.
    pub fn users(&self) -> &Users {
        &self.users
    }
}

/// The value of `WWW-Authenticate` that asks for a password.
#[derive(Clone, Debug)]
pub struct Challenge(HeaderValue);

impl Challenge {
    /// The challenge of a realm, which must not hold control characters; `None` if it does.
    pub fn new(realm: &str) -> Option<Self> {
        let escaped = realm.replace('\\', "\\\\").replace('"', "\\\"");
        let text = format!("Basic realm=\"{escaped}\", charset=\"UTF-8\"");
        HeaderValue::from_bytes(text.as_bytes()).ok().map(Self)
    }

    /// The header's value.
    #[must_use]
    pub fn value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl Default for Challenge {
    /// A challenge that names no realm in particular.
    fn default() -> Self {
        Self(HeaderValue::from_static("Basic realm=\"Protected\", charset=\"UTF-8\""))
    }
}

/// Basic authentication of one listener.
#[derive(Debug)]
pub struct BasicAuth {
    /// What an unauthenticated client is told.
    pub challenge: Challenge,
    /// The users, replaced as a whole when their file changes.
    pub users: Arc<ArcSwap<UsersFile>>,
}

/// Why a request was not authenticated. Says nothing about the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There was no Authorization header.
    #[error("no credentials")]
    Missing,
    /// The header is not of the Basic scheme, or not well-formed.
    #[error("the Authorization header is not well-formed Basic authentication")]
    Malformed,
    /// User or password are wrong.
    #[error("wrong user or password")]
    Wrong,
    /// Too many passwords wait to be verified. Not a denial: 503.
    #[error("too many passwords wait to be verified")]
    Busy,
}

impl BasicAuth {
    /// Finds out who a request comes from.
    ///
    /// # Errors
    ///
    /// Why the request was not authenticated; all but [`Denied::Busy`] are answered with the challenge.
    pub async fn authenticate(
        &self,
        authorization: Option<&HeaderValue>,
        key: &CredentialKey,
        cache: &RefCell<CredentialCache>,
        verifier: &Verifier,
        now: Instant,
    ) -> Result<HeaderValue, Denied> {
        let authorization = authorization.ok_or(Denied::Missing)?;
        let (id, generation, users) = {
            let file = self.users.load();
            let id = key.credential(file.generation, authorization.as_bytes());
            if let Some(user) = cache.borrow_mut().get(&id, now) {
                return Ok(user);
            }
            (id, file.generation, Arc::clone(&file.users))
        };
        let credentials = Credentials::parse(authorization.as_bytes()).ok_or(Denied::Malformed)?;
        let user = HeaderValue::from_bytes(credentials.name.as_bytes()).map_err(|_| Denied::Malformed)?;
        let pick = key.pick(&credentials.name);
        let matches = verifier
            .verify(id, users, &credentials.name, credentials.password, pick)
            .await
            .map_err(|_| Denied::Busy)?;
        // A user who was removed while the password was hashed is not let in by the old file.
        if self.users.load().generation != generation {
            return Box::pin(self.authenticate(Some(authorization), key, cache, verifier, now)).await;
        }
        if !matches {
            return Err(Denied::Wrong);
        }
        cache.borrow_mut().insert(id, user.clone(), Instant::now());
        Ok(user)
    }
}

struct Credentials {
    name: Zeroizing<String>,
    password: Password,
}

impl Credentials {
    fn parse(value: &[u8]) -> Option<Self> {
        let (scheme, token) = value.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let token = token.trim_ascii();
        if token.len() > MAX_TOKEN {
            return None;
        }
        let plain = Zeroizing::new(STANDARD.decode(token).ok()?);
        let colon = plain.iter().position(|byte| *byte == b':')?;
        let (name, password) = (&plain[..colon], &plain[colon + 1..]);
        // RFC 7617 §2: neither may hold control characters. A NUL would end bcrypt's password early.
        if name.is_empty() || plain.iter().any(u8::is_ascii_control) {
            return None;
        }
        Some(Self {
            name: Zeroizing::new(std::str::from_utf8(name).ok()?.to_owned()),
            password: Password::new(password.to_vec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str) -> Option<(String, Vec<u8>)> {
        Credentials::parse(header.as_bytes()).map(|found| (found.name.to_string(), found.password.expose().to_vec()))
    }

    fn basic(plain: &[u8]) -> String {
        format!("Basic {}", STANDARD.encode(plain))
    }

    #[test]
    fn well_formed_credentials_are_read() {
        assert_eq!(parse("Basic YWRtaW46YWRtaW4="), Some(("admin".into(), b"admin".to_vec())));
        assert_eq!(parse("bAsIc  YWRtaW46YWRtaW4="), Some(("admin".into(), b"admin".to_vec())));
        assert_eq!(parse(&basic("ädm:a:b c".as_bytes())), Some(("ädm".into(), b"a:b c".to_vec())));
        assert_eq!(parse(&basic(b"u:")), Some(("u".into(), Vec::new())));
        assert_eq!(parse(&basic(b"u:\xff")), Some(("u".into(), vec![0xff])));
    }

    #[test]
    fn everything_else_is_malformed() {
        for header in [
            "",
            "Basic",
            "Basic ",
            "Basic \u{e9}\u{e9}",
            "Bearer YWRtaW46YWRtaW4=",
            "BasicYWRtaW46YWRtaW4=",
            "Basic YWRtaW46YWRtaW4",
            "Basic YWRtaW46YWRtaW4= x",
            &basic(b"nocolon"),
            &basic(b":nobody"),
            &basic(b"a\0b:c"),
            &basic(b"a:c\0d"),
            &basic(b"a\r\nX: y:c"),
            &basic(b"\xff:c"),
            &basic(&[b'a'; 2000]),
        ] {
            assert_eq!(parse(header), None, "{header}");
        }
    }

    #[test]
    fn realms_are_escaped() {
        let challenge = Challenge::new(r#"The "\" Shop – é"#).expect("no control character");
        assert_eq!(challenge.value().as_bytes(), r#"Basic realm="The \"\\\" Shop – é", charset="UTF-8""#.as_bytes());
        assert!(Challenge::new("a\nb").is_none());
    }
}
