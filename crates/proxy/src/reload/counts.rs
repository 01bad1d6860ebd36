//! What has become of new versions of watched files.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metrics::Count;

/// The configuration's own name among what is watched.
pub const CONFIGURATION: &str = "configuration";

/// Of all watched files, by what they are: [`CONFIGURATION`], or the field that names them.
#[derive(Debug, Default)]
pub struct ReloadCounts(Mutex<BTreeMap<String, Arc<FileCounts>>>);

impl ReloadCounts {
    /// Of one of them. It goes on where it was if it is known.
    pub fn of(&self, what: &str) -> Arc<FileCounts> {
        Arc::clone(self.lock().entry(what.to_owned()).or_default())
    }

    /// Forgets what is not among these and not the configuration.
    pub fn keep(&self, these: &BTreeSet<String>) {
        self.lock().retain(|what, _| what == CONFIGURATION || these.contains(what));
    }

    /// What they are, and what has become of them.
    pub fn all(&self) -> Vec<(String, Arc<FileCounts>)> {
        self.lock().iter().map(|(what, counts)| (what.clone(), Arc::clone(counts))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<FileCounts>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// A new version is in force.
    pub fn was_applied(&self) {
        self.applied.add(1);
        self.is_now(false);
    }

    /// A new version was refused.
    pub fn was_refused(&self) {
        self.refused.add(1);
        self.is_now(true);
    }

    /// Whether the newest version is refused, without a new one.
    pub fn is_now(&self, stale: bool) {
        self.stale.store(stale, Ordering::Relaxed);
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
