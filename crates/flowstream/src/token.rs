//! What somebody shows to say who he is.

use std::fmt;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

/// The call's metadata that carries a token (RFC 6750).
const AUTHORIZATION: &str = "authorization";
const BEARER: &str = "Bearer ";

/// A bearer token. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token; none where the text is no token: empty, or with something else than visible ASCII.
    pub fn new(token: impl Into<String>) -> Option<Self> {
        let token = token.into();
        let visible = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        visible.then_some(Self(token))
    }

    /// The token itself, for whoever asks an authority about it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The token of a call. One that can't be read, or several, are none.
    pub(crate) fn of(metadata: &MetadataMap) -> Option<Self> {
        let mut all = metadata.get_all(AUTHORIZATION).iter();
        let value = all.next()?.to_str().ok()?;
        let (scheme, token) = value.split_at_checked(BEARER.len())?;
        let one = scheme.eq_ignore_ascii_case(BEARER) && all.next().is_none();
        if one { Self::new(token) } else { None }
    }

    /// Shows the token in a call.
    pub(crate) fn show(&self, metadata: &mut MetadataMap) {
        // Visible ASCII is always a value.
        if let Ok(mut value) = format!("{BEARER}{}", self.0).parse::<MetadataValue<Ascii>>() {
            // So that it is neither printed nor kept in the connection's table of headers.
            value.set_sensitive(true);
            metadata.insert(AUTHORIZATION, value);
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<String> {
        let mut metadata = MetadataMap::new();
        for value in values {
            metadata.append(AUTHORIZATION, value.parse().unwrap());
        }
        Token::of(&metadata).map(|token| token.0)
    }

    #[test]
    fn a_token_is_read_or_there_is_none() {
        assert_eq!(of(&["Bearer abc.d-e_f"]).as_deref(), Some("abc.d-e_f"));
        assert_eq!(of(&["bearer abc"]).as_deref(), Some("abc"));
        for values in [&[][..], &[""], &["Bearer"], &["Bearer "], &["Basic abc"], &["Bearer a b"], &["Bearerabc"]] {
            assert_eq!(of(values), None, "{values:?}");
        }
        assert_eq!(of(&["Bearer one", "Bearer two"]), None, "nobody knows which is meant");
    }

    #[test]
    fn a_token_is_not_printed() {
        let token = Token::new("s3cret").unwrap();
        let mut metadata = MetadataMap::new();
        token.show(&mut metadata);
        assert_eq!(Token::of(&metadata).as_ref(), Some(&token));
        let printed = format!("{token:?} {metadata:?} {:?}", metadata.get(AUTHORIZATION));
        assert!(!printed.contains("s3cret"), "{printed}");
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in ["", "a b", "a\n", "ü", "a\0"] {
            assert!(Token::new(text).is_none(), "{text:?}");
        }
    }
}
