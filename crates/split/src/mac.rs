//! The operator's word under what it writes on pods.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// The operator's secret, by which it knows its own annotations again. All its replicas have the same.
pub struct Key(hmac::Key);

/// Why bytes are no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operator's secret is {length} bytes long; let it be 32 random ones")]
pub struct BadKey {
    /// How long they are.
    pub length: usize,
}

impl Key {
    /// Takes 32 random bytes.
    ///
    /// # Errors
    ///
    /// Another number of bytes.
    pub fn new(secret: &[u8]) -> Result<Self, BadKey> {
        let secret: &[u8; 32] = secret.try_into().map_err(|_| BadKey { length: secret.len() })?;
        Ok(Self::of(secret))
    }

    /// Takes 32 random bytes.
    pub fn of(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The word under a text, as base64 for URLs. Every field that it is about is a part of its own: no two lists of parts give
    /// the same bytes.
    pub(crate) fn sign(&self, domain: Domain, fields: &[&str]) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, &message(domain, fields)))
    }

    /// Whether a word is ours; compared in constant time.
    pub(crate) fn is_ours(&self, domain: Domain, fields: &[&str], word: &str) -> bool {
        let Ok(word) = BASE64_URL_SAFE_NO_PAD.decode(word) else { return false };
        hmac::verify(&self.0, &message(domain, fields), &word).is_ok()
    }
}

/// What a word stands under: a word of one is none of another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Domain {
    /// The annotation of a primary.
    Split,
    /// The annotation of a part.
    Part,
}

fn message(domain: Domain, fields: &[&str]) -> Vec<u8> {
    let domain = match domain {
        Domain::Split => "sidewall.dev/split/v1",
        Domain::Part => "sidewall.dev/part/v1",
    };
    let mut message = Vec::new();
    for field in [domain].iter().chain(fields) {
        message.extend((field.len() as u64).to_be_bytes());
        message.extend(field.as_bytes());
    }
    message
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_of_its_key_its_domain_and_its_fields() {
        let key = Key::new(&[7; 32]).unwrap();
        let word = key.sign(Domain::Split, &["shop", "default", "{}"]);
        assert!(key.is_ours(Domain::Split, &["shop", "default", "{}"], &word));
        assert!(!key.is_ours(Domain::Part, &["shop", "default", "{}"], &word));
        assert!(!key.is_ours(Domain::Split, &["sho", "pdefault", "{}"], &word));
        assert!(!key.is_ours(Domain::Split, &["shop", "default"], &word));
        assert!(!Key::new(&[8; 32]).unwrap().is_ours(Domain::Split, &["shop", "default", "{}"], &word));
        for bad in ["", "?", &word[1..], &format!("{word}A")] {
            assert!(!key.is_ours(Domain::Split, &["shop", "default", "{}"], bad), "{bad}");
        }
    }

    #[test]
    fn a_key_has_a_length_and_does_not_show_itself() {
        assert_eq!(Key::new(&[7; 31]).unwrap_err(), BadKey { length: 31 });
        assert_eq!(format!("{:?}", Key::new(&[7; 32]).unwrap()), "Key(redacted)");
    }
}
