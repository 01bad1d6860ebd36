//! What has become of new versions of watched files.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::metrics::Count;

/// Of all watched files.
#[derive(Debug, Default)]
pub struct ReloadCounts(Vec<(String, FileCounts)>);

impl ReloadCounts {
    /// Of what these fields name.
    pub fn new(what: impl Iterator<Item = String>) -> Self {
        Self(what.map(|what| (what, FileCounts::default())).collect())
    }

    /// The field that names the files, and what has become of them.
    pub fn all(&self) -> impl Iterator<Item = (&str, &FileCounts)> {
        self.0.iter().map(|(what, counts)| (what.as_str(), counts))
    }

    pub(super) fn at(&self, index: usize) -> Option<&FileCounts> {
        self.0.get(index).map(|(_, counts)| counts)
    }
}

/// Of files that are watched together.
#[derive(Debug, Default)]
pub struct FileCounts {
    applied: Count,
    refused: Count,
    stale: AtomicBool,
}

impl FileCounts {
    pub(super) fn was_applied(&self) {
        self.applied.add(1);
        self.stale.store(false, Ordering::Relaxed);
    }

    pub(super) fn was_refused(&self) {
        self.refused.add(1);
        self.stale.store(true, Ordering::Relaxed);
    }

    /// New versions that were put in force.
    pub fn applied(&self) -> u64 {
        self.applied.get()
    }

    /// New versions that were refused.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Whether the newest version is refused, and an older one in force.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }
}
