//! Who a request comes from.

mod basic;
mod cache;
mod verifier;

pub use basic::{BasicAuth, Challenge, Denied, UsersFile};
pub use cache::CredentialCache;
pub use verifier::{Busy, Verifier};

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::rand;

/// A name for a credential that tells nothing about it: a keyed hash whose key lives as long as the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CredentialId([u8; 32]);

impl fmt::Debug for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialId(redacted)")
    }
}

/// The process's own key for credential names. Never leaves the process.
pub struct CredentialKey(hmac::Key);

impl CredentialKey {
    /// A new random key.
    ///
    /// # Errors
    ///
    /// When the system gives no random bytes.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = zeroize::Zeroizing::new([0; 32]);
        rand::fill(&mut *bytes).map_err(|_| NoRandomness)?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &*bytes)))
    }

    /// The name of a credential under one version of a users file.
    pub fn credential(&self, generation: u64, authorization: &[u8]) -> CredentialId {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&generation.to_le_bytes());
        context.update(authorization);
        let mut id = [0; 32];
        id.copy_from_slice(context.sign().as_ref());
        CredentialId(id)
    }

    /// A number that depends on a user's name and that nobody outside can foresee.
    pub fn pick(&self, name: &str) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&hmac::sign(&self.0, name.as_bytes()).as_ref()[..8]);
        u64::from_le_bytes(first)
    }
}

impl fmt::Debug for CredentialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialKey(redacted)")
    }
}

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random numbers; is /dev/urandom there?")]
pub struct NoRandomness;

#[cfg(test)]
mod tests;
