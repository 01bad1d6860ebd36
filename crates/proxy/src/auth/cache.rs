//! Credentials that were verified a short while ago, so that a password is hashed once and not with every request.

use std::time::{Duration, Instant};

use http::HeaderValue;
use quick_cache::unsync::Cache;

use super::CredentialId;

/// The verified credentials of one worker. Holds names of credentials, never the credentials; bounded in number and time.
/// A credential's name contains the version of the users file, so a new file forgets all of them at once.
pub struct CredentialCache {
    entries: Cache<CredentialId, Entry>,
    lifetime: Duration,
}

#[derive(Clone)]
struct Entry {
    user: HeaderValue,
    until: Instant,
}

impl CredentialCache {
    /// A cache for so many credentials, each remembered so long.
    pub fn new(capacity: usize, lifetime: Duration) -> Self {
        Self { entries: Cache::new(capacity), lifetime }
    }

    /// The user of a credential that was verified within the lifetime.
    pub fn get(&mut self, id: &CredentialId, now: Instant) -> Option<HeaderValue> {
        let entry = self.entries.get(id)?;
        if entry.until > now {
            return Some(entry.user.clone());
        }
        self.entries.remove(id);
        None
    }

    /// Remembers a credential that was verified now.
    pub fn insert(&mut self, id: CredentialId, user: HeaderValue, now: Instant) {
        self.entries.insert(id, Entry { user, until: now + self.lifetime });
    }
}
