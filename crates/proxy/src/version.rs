//! One version of the configuration, with everything that it needs: what workers, side thread and metrics go by. It never
//! changes; the next version replaces it as a whole.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use aws_lc_rs::digest;
use sidewall_proxy_config::{Limits, ProxyConfig};

use crate::auth::Verifier;
use crate::prepare::{PreparedListener, StartError};

/// A version of the configuration file, in short: the first twelve hexadecimal digits of its SHA-256, as `sha256sum` has
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigHash(String);

impl ConfigHash {
    /// Of a file's contents.
    pub fn of(contents: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, contents);
        Self(digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for ConfigHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One version of the configuration, and what belongs to it.
pub struct Version {
    /// Its text, understood.
    pub config: ProxyConfig,
    /// For each listener of the configuration, what was read for it.
    pub(crate) listeners: Vec<PreparedListener>,
    /// Which version of the file it is.
    pub hash: ConfigHash,
    /// The threads that hash passwords.
    pub verifier: Arc<Verifier>,
}

/// Threads that hash passwords within these limits: those of before, if their limits are the same.
///
/// # Errors
///
/// When the system gives no thread.
pub fn verifier(limits: &Limits, before: Option<&Version>) -> Result<Arc<Verifier>, StartError> {
    let same = |version: &&Version| {
        let other = &version.config.limits;
        (other.password_checks, other.waiting_password_checks)
            == (limits.password_checks, limits.waiting_password_checks)
    };
    if let Some(version) = before.filter(same) {
        return Ok(Arc::clone(&version.verifier));
    }
    let threads = NonZeroUsize::new(limits.password_checks as usize).unwrap_or(NonZeroUsize::MIN);
    let verifier = Verifier::start(threads, limits.waiting_password_checks as usize).map_err(StartError::Thread)?;
    Ok(Arc::new(verifier))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_what_sha256sum_says() {
        // printf 'listeners: []\n' | sha256sum
        assert_eq!(ConfigHash::of(b"listeners: []\n").to_string(), "84ce1e5cb983");
    }
}
