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
    since: Instant,
}

impl CredentialCache {
    /// A cache for so many credentials, each remembered so long.
    pub fn new(capacity: usize, lifetime: Duration) -> Self {
        Self { entries: Cache::new(capacity), lifetime }
    }

    /// Holds so many from now on, each for so long. What it knows it keeps, as far as that goes.
    pub fn resize(&mut self, capacity: usize, lifetime: Duration) {
        if self.entries.is_empty() {
            self.entries = Cache::new(capacity);
        } else if self.entries.capacity() != capacity as u64 {
            self.entries.set_capacity(capacity as u64);
        }
        self.lifetime = lifetime;
    }

    /// The user of a credential that was verified within the lifetime.
    pub fn get(&mut self, id: &CredentialId, now: Instant) -> Option<HeaderValue> {
        let entry = self.entries.get(id)?;
        // Asked of the lifetime of now, which may be shorter than that of then.
        if entry.since + self.lifetime > now {
            return Some(entry.user.clone());
        }
        self.entries.remove(id);
        None
    }

    /// Remembers a credential that was verified now.
    pub fn insert(&mut self, id: CredentialId, user: HeaderValue, now: Instant) {
        self.entries.insert(id, Entry { user, since: now });
    }
}
